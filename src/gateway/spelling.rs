//! How header names are spelled. HTTP does not care, but legacy backends and clients do, so every name passes as it came.
//!
//! hyper can keep spellings itself, at the price of a second header map a message. It also writes names in Title-Case,
//! which is how most come; so only heads with other spellings (`ETag`, `SOAPAction`, `x-request-id`) are looked at here,
//! below hyper, where the scanner finds one, and handed to hyper where that head goes out again. In the form that hyper
//! wants: an extension that only its own parser makes. It is made once for each set of spellings, by having that parser
//! read a head with them, and kept.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Extensions, Request};
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::io::AsyncWriteExt;
use wide::u8x16;

/// The spellings of one head, as hyper wants them: to be cloned into the message's own extensions.
pub type Spelling = Rc<Extensions>;

/// Sets of spellings that one thread keeps; when there are more, all are learnt anew.
const KEPT_MOST: usize = 256;
/// A head of more bytes goes out in Title-Case.
const HEAD_BYTES_MOST: usize = 64 << 10;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

#[derive(Default)]
struct Kept {
    known: HashMap<Box<[u8]>, Option<Spelling>>,
    /// The names that are looked for, kept so that a look allocates nothing.
    names: Vec<u8>,
}

/// How names are spelled in `head`, a whole one with names that are not in Title-Case.
pub fn of(head: &[u8]) -> Option<Spelling> {
    // An empty line may come before a request.
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    if head.len() > HEAD_BYTES_MOST { None } else { KEPT.with_borrow_mut(|kept| kept.find(head)) }
}

/// The first bytes of `rest`, filled up with colons, which end a name and no line.
fn block(rest: &[u8]) -> [u8; 16] {
    if let Some(block) = rest.first_chunk() {
        return *block;
    }
    let mut last = [b':'; 16];
    last[..rest.len()].copy_from_slice(rest);
    last
}

/// Whether the name at the start of `text` is spelled as hyper would spell it. It ends at a colon, or with `text`.
pub fn is_title_case(text: &[u8]) -> bool {
    let mut first = 1;
    let mut rest = text;
    loop {
        let block = u8x16::new(block(rest));
        let within = |start: u8, most: u8| {
            let from_start = block - u8x16::splat(start);
            from_start.min(u8x16::splat(most - start)).simd_eq(from_start).to_bitmask()
        };
        let is = |byte: u8| block.simd_eq(u8x16::splat(byte)).to_bitmask();
        // One bit a byte: a letter is the first of its word where the name begins, or behind a dash.
        let (dashes, colons) = (is(b'-'), is(b':'));
        let firsts = dashes << 1 | first;
        let odd = within(b'a', b'z') & firsts | within(b'A', b'Z') & !firsts;
        let name = colons.wrapping_sub(1) & !colons & 0xffff;
        if odd & name != 0 {
            return false;
        }
        if colons != 0 {
            return true;
        }
        first = dashes >> 15 & 1;
        rest = &rest[16..];
    }
}

/// The names of a head.
fn names(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| Some(&line[..memchr::memchr(b':', line)?]))
}

// === impl Kept ===

impl Kept {
    /// The spellings of a head that is not in Title-Case throughout.
    fn find(&mut self, head: &[u8]) -> Option<Spelling> {
        self.names.clear();
        names(head).filter(|name| !is_title_case(name)).for_each(|name| self.list(name));
        // The spellings of a name that comes several times are told apart by their order, so all of them are needed.
        if names(head).any(|name| is_title_case(name) && self.lists(name)) {
            self.names.clear();
            names(head).for_each(|name| self.list(name));
        }
        if let Some(known) = self.known.get(&self.names[..]) {
            return known.clone();
        }
        if self.known.len() >= KEPT_MOST {
            self.known.clear();
        }
        let learnt = learn(&self.names).map(Rc::new);
        self.known.insert(self.names[..].into(), learnt.clone());
        learnt
    }

    fn list(&mut self, name: &[u8]) {
        self.names.extend_from_slice(name);
        self.names.push(b'\n');
    }

    fn lists(&self, name: &[u8]) -> bool {
        self.names.split(|byte| *byte == b'\n').any(|listed| listed.eq_ignore_ascii_case(name))
    }
}

/// Has hyper's parser read an answer with these names, one a line. Everything it reads is in memory, so one poll is
/// enough; `None` where hyper does not want such a head.
fn learn(names: &[u8]) -> Option<Extensions> {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for name in names.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()) {
        head.extend_from_slice(name);
        // A value that is sound under every name.
        let chunked = name.eq_ignore_ascii_case(b"transfer-encoding");
        head.extend_from_slice(if chunked { b": chunked\r\n" } else { b": 0\r\n" });
    }
    head.extend_from_slice(b"\r\n");
    let exchange = async {
        let (ours, mut theirs) = tokio::io::duplex(head.len() + 1024);
        let (mut sender, mut connection) =
            Builder::new().preserve_header_case(true).handshake(TokioIo::new(ours)).await.ok()?;
        let mut answer = pin!(sender.send_request(Request::new(Empty::<Bytes>::new())));
        // An answer that came before its request would be refused.
        poll_fn(|cx| Poll::Ready(pin!(&mut connection).poll(cx).is_ready())).await;
        theirs.write_all(&head).await.ok()?;
        poll_fn(|cx| Poll::Ready(pin!(&mut connection).poll(cx).is_ready())).await;
        answer.as_mut().await.ok().map(|answer| answer.into_parts().0.extensions)
    };
    // Unconstrained: it must not be put off because the task has done much already.
    tokio::task::coop::unconstrained(exchange).now_or_never()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::intake::Intake;
    use crate::gateway::scan::{AnswerScanner, Asked, Limits};
    use http_body_util::BodyExt;
    use std::convert::Infallible;
    use tokio::io::ReadBuf;

    /// The head that hyper writes where these names came in, as a server would get it.
    fn written(spelling: &Extensions, names: &[&str]) -> String {
        let mut request = Request::new(Empty::<Bytes>::new().map_err(|never: Infallible| match never {}));
        for name in names {
            request.headers_mut().append(
                http::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                http::HeaderValue::from_static("v"),
            );
        }
        request.extensions_mut().extend(spelling.clone());
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let exchange = async move {
            let (mut sender, connection) = Builder::new()
                .title_case_headers(true)
                .handshake(TokioIo::new(ours))
                .await
                .expect("in memory");
            let _answer = sender.send_request(request);
            let mut connection = Box::pin(connection);
            poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready())).await;
            let mut head = vec![0; 4096];
            let length = tokio::io::AsyncReadExt::read(&mut theirs, &mut head).await.expect("in memory");
            String::from_utf8(head[..length].to_vec()).expect("ASCII")
        };
        exchange.now_or_never().expect("in memory")
    }

    /// What the scanners find in `head`, which comes in pieces.
    fn scanned(head: &[u8], pieces: &[usize]) -> Option<Spelling> {
        let mut requests = Intake::of_requests(Limits::DEFAULT, false);
        let mut answers = Intake::of_answers(AnswerScanner::new(Limits::DEFAULT));
        answers.scanner().asks(Asked::default());
        let (mut rest, mut found) = (head, None);
        for &size in pieces {
            let piece;
            (piece, rest) = rest.split_at(size);
            let mut bytes = vec![0; head.len()];
            let mut buf = ReadBuf::new(&mut bytes);
            buf.put_slice(piece);
            let (stop, spelling) = if head.starts_with(b"HTTP/") {
                (answers.came(&mut buf, 0), answers.spelling())
            } else {
                (requests.came(&mut buf, 0), requests.spelling())
            };
            assert_eq!(stop, None);
            found = found.or(spelling);
        }
        found
    }

    fn spelling(head: &str) -> Option<Spelling> {
        scanned(head.as_bytes(), &[head.len()])
    }

    #[test]
    fn names_in_title_case_need_no_note() {
        assert!(spelling("GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\nX-2: aB:c\r\n\r\n").is_none());
        assert!(spelling("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nbody: x").is_none());
    }

    #[test]
    fn title_case_is_what_hyper_makes_of_a_name() {
        let hypers = |name: &str| {
            let mut first = true;
            let letter = |byte: u8| {
                let spelled = if first { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                first = byte == b'-';
                spelled
            };
            name.bytes().map(letter).collect::<Vec<u8>>()
        };
        let long = "Abcdefghijklmno-Pqrstuvwxyz-0-A_b.c-D";
        for name in ["A", "a", "ETag", "Etag", "X-A", "X-a", "x-A", "-", "A-", "--A", "0a", "0A", "TE", long]
        {
            for text in [name.to_owned(), format!("{name}: vV-v"), format!("{name}:{}", "x".repeat(40))] {
                assert_eq!(is_title_case(text.as_bytes()), hypers(name) == name.as_bytes(), "{text}");
            }
        }
        for at in 0..long.len() {
            let mut other = long.as_bytes().to_vec();
            other[at] ^= 0x20;
            let is_letter = long.as_bytes()[at].is_ascii_alphabetic();
            assert!(!is_letter || !is_title_case(&other), "{at}");
        }
    }

    #[test]
    fn every_other_spelling_is_what_hyper_writes() {
        let head = "POST / HTTP/1.1\r\nhost: x\r\nSOAPAction: b\r\ncontent-length: 3\r\nETag: e\r\nVia: v\r\n\r\nabc";
        let spelling = spelling(head).expect("noted");
        let written = written(&spelling, &["soapaction", "etag", "via", "x-added"]);
        for line in ["\r\nSOAPAction: v\r\n", "\r\nETag: v\r\n", "\r\nVia: v\r\n", "\r\nX-Added: v\r\n"] {
            assert!(written.contains(line), "{written}");
        }
    }

    #[test]
    fn lines_of_one_name_keep_a_spelling_each() {
        let spelling =
            spelling("GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-B: 1\r\nx-a: 2\r\n\r\n").expect("noted");
        let written = written(&spelling, &["x-a", "x-a", "x-b"]);
        assert!(written.contains("\r\nX-A: v\r\nx-a: v\r\nX-B: v\r\n"), "{written}");
    }

    #[test]
    fn framing_and_connection_headers_may_be_spelled_oddly_too() {
        let head = "GET / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nCONTENT-LENGTH: 1\r\nUPGRADE: x\r\nEXPECT: x\r\n\
                    cOnnection: x\r\n\r\n";
        assert!(of(head.as_bytes()).is_some());
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let answer =
            &b"HTTP/1.1 103 Early Hints\r\nx: 1\r\n\r\nHTTP/1.1 204 No Content\r\nServer: s\r\nETag: e\r\n\r\n"[..];
        let request = b"\r\nGET http://x/ HTTP/1.1\r\nHost: x\r\nETag: e\r\n\r\n";
        for head in [answer, request] {
            let whole = scanned(head, &[head.len()]).expect("noted");
            assert!(written(&whole, &["etag", "x"]).contains("\r\nETag: v\r\nX: v\r\n"));
            for cut in 1..head.len() {
                let found = scanned(head, &[cut, head.len() - cut]).expect("noted");
                assert!(Rc::ptr_eq(&found, &whole), "{cut}");
            }
            assert!(scanned(head, &vec![1; head.len()]).is_some());
        }
    }

    #[test]
    fn only_the_head_that_the_bytes_begin_with_is_noted_of_several_requests() {
        let (plain, odd) = ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(spelling(&format!("{odd}{plain}")).is_some());
        assert!(spelling(&format!("{plain}{odd}")).is_none());
    }

    #[test]
    fn a_head_that_is_too_large_is_not_looked_at() {
        let head = |length| format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(length));
        assert!(of(head(HEAD_BYTES_MOST - 100).as_bytes()).is_some());
        assert!(of(head(HEAD_BYTES_MOST).as_bytes()).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for n in 0..2 * KEPT_MOST {
            assert!(of(format!("GET / HTTP/1.1\r\nx-{n}: 1\r\n\r\n").as_bytes()).is_some());
            assert!(KEPT.with_borrow(|kept| kept.known.len()) <= KEPT_MOST);
        }
    }
}
