//! The scanner of answers: what it passes does not depend on how the bytes came, httparse reads every head of it, and a
//! connection that may be used again has passed exactly one answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::gateway::scan::{AnswerScanner, Asked, Limits, Progress, Scan};

/// Feeds `bytes` in pieces of `size`: what passed, whether it stopped, and whether the connection may be used again.
fn feed(bytes: &[u8], size: usize, asked: Asked, bare_lf: bool) -> (Vec<u8>, bool, bool) {
    let made = if bare_lf { AnswerScanner::of_bare_lf } else { AnswerScanner::new };
    let mut scanner = made(Limits::DEFAULT);
    scanner.asks(asked);
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        held.extend_from_slice(piece);
        let Progress { passed: count, stop } = scanner.scan(&held);
        passed.extend(held.drain(..count));
        if stop.is_some() {
            return (passed, true, false);
        }
    }
    (passed, false, scanner.is_at_rest() && !scanner.is_spent())
}

fuzz_target!(|data: &[u8]| {
    let Some((&flags, data)) = data.split_first() else { return };
    let asked = Asked { head: flags & 1 != 0, upgrade: flags & 2 != 0, expects: flags & 4 != 0 };
    let bare_lf = flags & 8 != 0;
    let (passed, stopped, again) = feed(data, 1, asked, bare_lf);
    assert!(data.starts_with(&passed));
    let (whole, whole_stopped, whole_again) = feed(data, data.len().max(1), asked, bare_lf);
    assert_eq!((stopped, again), (whole_stopped, whole_again));
    // In one read a bad body takes its head with it.
    assert!(passed.starts_with(&whole) && (stopped || passed == whole));
    let mut rest = &passed[..];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut answer = httparse::Response::new(&mut headers);
        if rest.is_empty() {
            return;
        }
        let Ok(httparse::Status::Complete(length)) = answer.parse(rest) else { panic!("httparse refuses it") };
        let named = |name: &str| answer.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count();
        assert!(named("content-length") + named("transfer-encoding") <= 1);
        let status = answer.code.expect("complete");
        rest = &rest[length..];
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let bodiless = asked.head || matches!(status, 204 | 304);
        assert!(!bodiless || rest.is_empty(), "nothing passes behind an answer without a body");
        let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        if let (Some(length), false) = (length, bodiless || status == 101) {
            let length: usize = std::str::from_utf8(length.value).expect("digits").trim().parse().expect("a length");
            assert!(rest.len() <= length && (!again || rest.len() == length));
        }
        return;
    }
});
