//! What the scanner passes, everybody frames alike: httparse, hyper itself, and the strict reader beside this file.

use super::strict::{self, Message};
use super::{Framing, feed};
use crate::gateway::scan::{Limits, Scanner, Stop};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const REQUEST_LINES: [&str; 13] = [
    "GET / HTTP/1.1",
    "POST /a?b=c HTTP/1.1",
    "PUT /a%2fb HTTP/1.0",
    "OPTIONS * HTTP/1.1",
    "GET http://a/x HTTP/1.1",
    "POST http://b/ HTTP/1.1",
    "GET /a#b HTTP/1.1",
    "get / HTTP/1.1",
    "GET  / HTTP/1.1",
    "GET / HTTP/1.2",
    "CONNECT a:1 HTTP/1.1",
    "DELETE /\"{}|` HTTP/1.1",
    "GET /\u{e9}?\u{59d3} HTTP/1.1",
];
const LINES: [&str; 28] = [
    "Host: a",
    "host:a",
    "Host: b",
    "Accept: */*",
    "Cookie: a=b; c=\"d\"",
    "X-Empty:",
    "X-High: \u{e9}",
    "Content-Length: 5",
    "Content-Length: 0",
    "content-length:\t5 ",
    "Content-Length: +5",
    "Content-Length: 5, 5",
    "Content-Length : 5",
    "Transfer-Encoding: chunked",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Transfer_Encoding: chunked",
    "Connection: keep-alive",
    "Expect: x",
    "A: b\r\n c",
    "A: b\nC: d",
    "A: \0",
    ": x",
    "A",
    " A: b",
    "Host: a:",
    "Upgrade: x",
];
const BODIES: [&str; 14] = [
    "",
    "",
    "12345",
    "0\r\n\r\n",
    "5\r\n12345\r\n0\r\n\r\n",
    "5;a=\"b\"\r\n12345\r\n0\r\nT: u\r\n\r\n",
    "5 \r\n12345\r\n0\r\n\r\n",
    "5\n12345\n0\n\n",
    "4\r\n12345\r\n0\r\n\r\n",
    "6\r\n12345\r\n0\r\n\r\n",
    "0005\r\n12345\r\n00\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "ffffffffffffffff1\r\n",
    "0\r\nHost: b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
];

fn mostly<const N: usize>(words: [&'static str; N], good: usize) -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => 0..good, 1 => 0..N].prop_map(move |index| words[index])
}

prop_compose! {
    /// A request of one framing that is often right, in lines that are.
    fn requests()(
        line in mostly(REQUEST_LINES, 3),
        lines in prop::collection::vec(mostly(LINES, 7), 0..4),
        framed in prop_oneof![
            3 => Just(("Content-Length: 5", "12345")),
            3 => Just(("Transfer-Encoding: chunked", "5\r\n12345\r\n0\r\n\r\n")),
            3 => Just(("A: b", "")),
            2 => (mostly(LINES, 28), mostly(BODIES, 14)),
        ],
        end in prop_oneof![9 => Just("\r\n"), 1 => Just("\n")],
        host in prop_oneof![9 => Just("Host: a"), 1 => Just("A: b")],
    ) -> Vec<u8> {
        let mut text = format!("{line}{end}{host}{end}");
        lines.iter().chain([&framed.0]).for_each(|line| text += &format!("{line}{end}"));
        (text + end + framed.1).into_bytes()
    }
}

prop_compose! {
    /// Several of them, with a few bytes changed.
    fn connections()(
        requests in prop::collection::vec(requests(), 1..4),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"\0\t\n\r \"#:;,_.0159aAfFgX\xe9".to_vec()), 0..3u8),
            0..2,
        ),
    ) -> Vec<u8> {
        let mut bytes = requests.concat();
        for (at, byte, change) in changes {
            let at = at.index(bytes.len());
            match change {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    }
}

/// The part of `bytes` that passes, cut to whole messages.
fn passed(bytes: &[u8]) -> Vec<u8> {
    let mut scanner = Scanner::new(Limits::DEFAULT);
    match feed(&mut scanner, &[bytes]) {
        (passed, Some(Stop::Message(_))) => passed,
        (passed, None) if scanner.is_between_messages() => passed,
        _ => Vec::new(),
    }
}

/// A message as hyper gives it to a service: method, target, header values, body.
type Seen = (String, String, Vec<Vec<u8>>, Vec<u8>);

fn by_hyper(bytes: &[u8]) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let service = {
        let seen = seen.clone();
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let seen = seen.clone();
            async move {
                let (parts, body) = request.into_parts();
                let values = parts.headers.values().map(|value| value.as_bytes().to_vec()).collect();
                let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
                seen.borrow_mut().push((parts.method.to_string(), parts.uri.to_string(), values, body));
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        })
    };
    runtime.block_on(async {
        client.write_all(bytes).await.expect("room");
        client.shutdown().await.expect("open");
        let http = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        let mut answers = Vec::new();
        let (served, _) = tokio::join!(http, client.read_to_end(&mut answers));
        served.expect("hyper finds nothing wrong");
    });
    seen.take()
}

fn assert_httparse_agrees(bytes: &[u8], message: &Message) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("httparse: {other:?}"),
    };
    let found: Vec<_> =
        request.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect();
    assert_eq!(found, message.headers);
    assert_eq!((request.method, request.path), (Some(&*message.method), Some(&*message.target)));
    match message.framing {
        Framing::None => assert_eq!(length, message.length),
        Framing::Length(body) => assert_eq!(length + body as usize, message.length),
        Framing::Chunked => {
            let mut at = length;
            loop {
                let size = httparse::parse_chunk_size(&bytes[at..message.length]);
                let Ok(httparse::Status::Complete((line, size))) = size else { panic!("httparse: {size:?}") };
                at += line;
                if size == 0 {
                    break;
                }
                at += size as usize + 2;
            }
            assert!(at + 2 <= message.length);
        }
    }
}

/// What passes of `bytes` is the same to all readers; how many messages that is.
fn agree(bytes: &[u8]) -> usize {
    let passed = passed(bytes);
    let messages = strict::read_all(&passed).unwrap_or_else(|| {
        panic!("the strict reader refuses {:?}", String::from_utf8_lossy(&passed));
    });
    let mut rest = &passed[..];
    for message in &messages {
        assert_httparse_agrees(rest, message);
        rest = &rest[message.length..];
    }
    let seen = by_hyper(&passed);
    // After a request of HTTP/1.0 hyper may close, which drops what follows; what it saw is what counts.
    for (message, (method, target, values, body)) in messages.iter().zip(&seen) {
        let expected: Vec<_> = message.headers.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!((method, values.len(), body), (&message.method, expected.len(), &message.body));
        assert!(
            message.target.ends_with(target.trim_end_matches('/')) || target.ends_with(&message.target),
            "{target}"
        );
        assert!(values.iter().all(|value| expected.contains(value)));
    }
    let closes = |message: &Message| {
        String::from_utf8_lossy(&passed).contains("HTTP/1.0") && !message.method.is_empty()
    };
    assert!(
        seen.len() == messages.len() || messages.iter().any(closes),
        "{} of {}",
        seen.len(),
        messages.len()
    );
    messages.len()
}

proptest! {
    // A failing case is printed; no file is kept of it.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_has_one_reading(bytes in connections()) {
        agree(&bytes);
    }

    #[test]
    fn where_the_bytes_are_cut_changes_nothing_that_passes(bytes in connections(), size in 1..40usize) {
        let mut whole = Scanner::new(Limits::DEFAULT);
        let mut pieces = Scanner::new(Limits::DEFAULT);
        let (passed, stop) = feed(&mut whole, &[&bytes]);
        let cut: Vec<&[u8]> = bytes.chunks(size).collect();
        let (passed_in_pieces, stop_in_pieces) = feed(&mut pieces, &cut);
        prop_assert_eq!(stop.is_some(), stop_in_pieces.is_some());
        // A head whose body turns out bad later has passed by then; besides it, everything is the same.
        prop_assert!(passed_in_pieces.starts_with(&passed));
        if stop.is_none() {
            prop_assert_eq!(passed, passed_in_pieces);
        }
    }
}

#[test]
fn what_is_as_large_as_the_limits_allow_is_not_too_large_for_hyper() {
    let limits = Limits::DEFAULT;
    let target = "a".repeat(limits.target_bytes - 1);
    let many = "A: b\r\n".repeat(limits.headers - 1);
    let text = format!("GET /{target} HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(agree(text.as_bytes()), 1);
    let front = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
    let text = format!("{front}{}\r\n\r\n", "a".repeat(limits.head_bytes - front.len() - 4));
    assert_eq!((text.len(), agree(text.as_bytes())), (limits.head_bytes, 1));
    let trailers = "A: b\r\n".repeat(crate::gateway::scan::TRAILERS_MAX);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(agree(format!("{chunked}0\r\n{trailers}\r\n").as_bytes()), 1);
}

#[test]
fn the_generator_makes_enough_that_passes() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let samples = (0..500).map(|_| connections().new_tree(&mut runner).expect("a sample").current());
    let messages: usize = samples.map(|bytes| agree(&bytes)).sum();
    assert!(messages > 150, "{messages}");
}
