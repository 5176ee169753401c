//! The head scanner: what it passes does not depend on how the bytes came, and httparse reads every head of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::gateway::scan::{Framing, Limits, Progress, Scanner};

/// Feeds `bytes` in pieces of `size`: what passed, where heads ended in it and with which framing, and whether it stopped.
fn feed(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<(usize, Framing)>, bool) {
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let (mut passed, mut held, mut heads) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        held.extend_from_slice(piece);
        let before = scanner.heads();
        let Progress { passed: count, stop } = scanner.scan(&held);
        passed.extend(held.drain(..count));
        if size == 1 && stop.is_none() && scanner.heads() > before {
            heads.push((passed.len(), scanner.framing()));
        }
        if stop.is_some() {
            return (passed, heads, true);
        }
    }
    (passed, heads, false)
}

fuzz_target!(|data: &[u8]| {
    let (passed, heads, stopped) = feed(data, 1);
    assert!(data.starts_with(&passed));
    let (whole, _, whole_stopped) = feed(data, data.len().max(1));
    assert_eq!(stopped, whole_stopped);
    // In one read a bad body takes its head with it.
    assert!(passed.starts_with(&whole) && (stopped || passed == whole));
    let (mut rest, mut at) = (&passed[..], 0);
    for (end, framing) in heads {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = request.parse(rest) else { panic!("httparse refuses it") };
        assert_eq!(at + length, end);
        let named = |name: &str| request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count();
        assert!(named("host") <= 1 && named("content-length") + named("transfer-encoding") <= 1);
        let body = match framing {
            Framing::None => 0,
            Framing::Length(length) => usize::try_from(length).expect("63 bits").min(passed.len() - end),
            Framing::Chunked => chunks(&passed[end..]),
        };
        at = end + body;
        rest = &passed[at..];
    }
});

/// How long a chunked body is, or as much of it as passed.
fn chunks(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&text[at..]) else {
            return text.len();
        };
        at += line;
        if size == 0 {
            break;
        }
        at = at.saturating_add(usize::try_from(size).expect("63 bits")).saturating_add(2);
        if at >= text.len() {
            return text.len();
        }
    }
    if text[at..].starts_with(b"\r\n") {
        return at + 2;
    }
    text[at..].windows(4).position(|end| end == b"\r\n\r\n").map_or(text.len(), |end| at + end + 4)
}
