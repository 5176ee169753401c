//! Answers: one row for each way to be refused, those that only look odd, and what other readers make of what passes.

use super::feed;
use crate::domain::refusal::Reason;
use crate::gateway::scan::{AnswerScanner, Asked, Limits, Problem, Scan, Stop};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GET: Asked = Asked { head: false, upgrade: false, expects: false };
const HEAD: Asked = Asked { head: true, ..GET };

fn asked(asked: Asked) -> AnswerScanner {
    let mut scanner = AnswerScanner::new(Limits::DEFAULT);
    scanner.asks(asked);
    scanner
}

/// An answer of these header lines, with a body of three bytes.
fn with(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nabc")
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn refused() -> Vec<(Problem, Vec<String>)> {
    use Problem::*;
    let lines = |lines: &[&str]| lines.iter().map(|text| with(text)).collect::<Vec<_>>();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let bodies = |bodies: &[&str]| bodies.iter().map(|text| chunked(text)).collect::<Vec<_>>();
    vec![
        (
            StatusLine,
            texts(&[
                "<html>an answer of HTTP/0.9</html>",
                "\r\nHTTP/1.1 200 OK\r\n\r\n",
                "HTTP/1.2 200 OK\r\n\r\n",
                "HTTP/2 200 OK\r\n\r\n",
                "http/1.1 200 OK\r\n\r\n",
                "HTTP/1.1  200 OK\r\n\r\n",
                "HTTP/1.1 20 OK\r\n\r\n",
                "HTTP/1.1 2000 OK\r\n\r\n",
                "HTTP/1.1 099 OK\r\n\r\n",
                "HTTP/1.1 2x0 OK\r\n\r\n",
                "HTTP/1.1\t200 OK\r\n\r\n",
                "HTTP/1.1 200\tOK\r\n\r\n",
                "ICY 200 OK\r\n\r\n",
            ]),
        ),
        (LengthAndCoding, lines(&["Content-Length: 3\r\nTransfer-Encoding: chunked"])),
        (CodingOn10, texts(&["HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])),
        (
            SeveralLengths,
            lines(&["Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3\r\ncontent-length: 5"]),
        ),
        (
            Length,
            lines(&[
                "Content-Length: +3",
                "Content-Length: 03",
                "Content-Length: 3, 3",
                "Content-Length: ",
                "Content-Length: 0x3",
                "Content-Length: 18446744073709551619",
            ]),
        ),
        (
            Coding,
            lines(&[
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: identity",
                "Transfer-Encoding: chunked, chunked",
                "Transfer-Encoding: \"chunked\"",
                "Transfer-Encoding:",
            ]),
        ),
        (SeveralCodings, lines(&["Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"])),
        (LookAlike, lines(&["Content_Length: 3", "Transfer.Encoding: chunked"])),
        (Fold, lines(&["A: b\r\n c"])),
        (LeadingSpace, lines(&[" A: b"])),
        (SpaceBeforeColon, lines(&["A : b", "Content-Length : 3"])),
        (EmptyName, lines(&[": b"])),
        (NoColon, lines(&["A"])),
        (NameByte, lines(&["A b: c", "\u{e9}: b"])),
        (Nul, lines(&["A: \0", "A\0: b"])),
        (BareCr, lines(&["A: b\rC: d", "A: b\r\r\nC: d"])),
        (BareLf, lines(&["A: b\nC: d", "A: b\n\r\nX: y"])),
        (BareLf, texts(&["HTTP/1.1 200 OK\nContent-Length: 3\n\nabc"])),
        (Control, lines(&["A: \u{1}", "A: b\u{7f}"])),
        (HeadTooLarge, lines(&[&format!("A: {}", "a".repeat(Limits::DEFAULT.head_bytes))])),
        (TooManyHeaders, lines(&[&vec!["A: b"; Limits::DEFAULT.headers + 1].join("\r\n")])),
        (ChunkSize, bodies(&["g\r\n", "\r\n", "0x1\r\n", "1 \r\n", "8000000000000000\r\n"])),
        (ChunkExtension, bodies(&["1;\r\n", "1;a=\"\r\n"])),
        (ChunkEnd, bodies(&["1\r\nab", "3\r\nab\r\n0\r\n\r\n"])),
        (BareLf, bodies(&["1\na\n0\n\n"])),
        (TrailerName, bodies(&["0\r\nContent-Length: 1\r\n\r\n"])),
        (TrailersTooLarge, bodies(&[&format!("0\r\n{}\r\n", "A: b\r\n".repeat(70))])),
        (Switched, texts(&["HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"])),
        (InterimBody, texts(&["HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc"])),
        (InterimBody, texts(&["HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n"])),
        (Interims, texts(&[&"HTTP/1.1 100 Continue\r\n\r\n".repeat(33)])),
    ]
}

#[test]
fn every_answer_with_two_readings_is_refused_and_named_however_it_is_split() {
    for (problem, text) in
        refused().iter().flat_map(|(problem, texts)| texts.iter().map(move |text| (problem, text)))
    {
        let bytes = text.as_bytes();
        let step = (bytes.len() / 64).max(1);
        for cut in (0..bytes.len()).step_by(step) {
            let mut scanner = asked(GET);
            let (passed, stop) = feed(&mut scanner, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(stop.map(Stop::problem), Some(*problem), "{text:?} cut at {cut}");
            assert!(scanner.is_spent());
            let interims = passed.starts_with(b"HTTP/1.1 100 ");
            let head_only = matches!(stop, Some(Stop::Body(_)));
            assert!(passed.is_empty() || interims || head_only, "{text:?}: {passed:?}");
        }
        let (passed, _) = feed(&mut asked(GET), &[bytes]);
        assert!(passed.is_empty() || *problem == Problem::Interims, "in one read nothing passes: {text:?}");
    }
}

#[test]
fn every_problem_of_answers_has_a_row() {
    let shown: BTreeSet<Problem> = refused().into_iter().map(|(problem, _)| problem).collect();
    let of_answers = Problem::ALL.iter().filter(|problem| problem.reason() == Reason::UpstreamAmbiguous);
    for problem in of_answers.filter(|problem| **problem != Problem::Unsolicited) {
        assert!(shown.contains(problem), "{problem:?}");
        assert_eq!(problem.refusal_of_answer().status, 502);
    }
}

#[test]
fn bytes_that_belong_to_no_answer_stop_the_connection() {
    let mut scanner = AnswerScanner::new(Limits::DEFAULT);
    assert_eq!(feed(&mut scanner, &[b"HTTP/1.1 200 OK\r\n"]).1, Some(Stop::Message(Problem::Unsolicited)));
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for behind in [&b"H"[..], b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"] {
        let mut scanner = asked(GET);
        let (passed, stop) = feed(&mut scanner, &[&[&ok[..], behind].concat()]);
        assert_eq!((&passed[..], stop), (&ok[..], Some(Stop::Message(Problem::Unsolicited))));
        assert!(scanner.is_spent());
    }
    // What came before the question is no answer to it.
    let mut scanner = asked(GET);
    assert_eq!(feed(&mut scanner, &[ok]).1, None);
    assert!(scanner.is_at_rest() && !scanner.is_spent());
    assert!(scanner.scan(ok).stop.is_some());
}

#[test]
fn what_only_looks_odd_passes() {
    let texts = [
        with("Content-Length: 3"),
        with("content-length:3\r\nA_B: c\r\nX.Y: z\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-High: \u{e9}"),
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 299 Any thing \u{e9} at all\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 999 Whatever\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc".into(),
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            .into(),
        "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".into(),
        chunked("3;a=\"b\"\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"),
    ];
    for text in texts {
        for cut in 0..text.len() {
            let mut scanner = asked(GET);
            let (passed, stop) = feed(&mut scanner, &[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]);
            assert_eq!((passed.len(), stop), (text.len(), None), "{text:?}");
            assert!(scanner.is_at_rest() && !scanner.is_spent(), "{text:?}");
        }
    }
}

#[test]
fn a_connection_that_may_bring_more_than_its_answer_is_spent() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    let cases = [
        (HEAD, length.to_owned(), true),
        (HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), true),
        (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), false),
        (HEAD, "HTTP/1.1 200 OK\r\n\r\n".into(), false),
        (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n".into(), true),
        (GET, "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n".into(), true),
        (GET, "HTTP/1.1 200 OK\r\n\r\nuntil it closes".into(), true),
        (GET, format!("{length}abc"), false),
    ];
    for (question, text, spent) in cases {
        let mut scanner = asked(question);
        assert_eq!(feed(&mut scanner, &[text.as_bytes()]), (text.clone().into_bytes(), None), "{text:?}");
        assert_eq!(scanner.is_spent(), spent, "{question:?} {text:?}");
    }
}

#[test]
fn behind_a_switch_that_was_asked_for_everything_passes() {
    let mut scanner = asked(Asked { upgrade: true, ..GET });
    let text = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\0\xff\n\r";
    assert_eq!(feed(&mut scanner, &[text]), (text.to_vec(), None));
    assert!(scanner.is_spent() && scanner.news().is_some_and(|news| news.answered));
    // A server may decline.
    let mut scanner = asked(Asked { upgrade: true, ..GET });
    assert_eq!(feed(&mut scanner, &[with("Content-Length: 3").as_bytes()]).1, None);
    assert!(scanner.is_at_rest());
}

#[test]
fn interim_answers_are_news() {
    let mut scanner = asked(Asked { expects: true, ..GET });
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    feed(&mut scanner, &[format!("HTTP/1.1 100 Continue\r\n\r\n{hints}").as_bytes()]);
    let news = scanner.news().expect("news");
    assert!(news.goes_on && !news.answered);
    assert_eq!(news.interims, hints.as_bytes());
    assert!(scanner.news().is_none());
    feed(&mut scanner, &[with("Content-Length: 3").as_bytes()]);
    assert!(scanner.news().is_some_and(|news| news.answered));
}

const STATUS: [&str; 7] = [
    "HTTP/1.1 200 OK",
    "HTTP/1.1 404",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    "HTTP/1.1 2000 OK",
];
const LINES: [&str; 14] = [
    "Server: x",
    "Set-Cookie: a=b",
    "X-Empty:",
    "Content-Length: 5",
    "content-length: 5 ",
    "Content-Length: 0",
    "Content-Length: 05",
    "Content-Length: 5, 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer_Encoding: chunked",
    "A: b\r\n c",
    "A: b\nC: d",
    "A : b",
];
const BODIES: [&str; 6] = [
    "12345",
    "",
    "5\r\n12345\r\n0\r\n\r\n",
    "5;a\r\n12345\r\n0\r\nT: u\r\n\r\n",
    "6\r\n12345\r\n0\r\n\r\n",
    "5\n12345\n0\n\n",
];

prop_compose! {
    /// An answer that is often right, with a byte changed now and then.
    fn answers()(
        status in prop::sample::select(STATUS.to_vec()),
        lines in prop::collection::vec(prop::sample::select(LINES.to_vec()), 0..4),
        body in prop::sample::select(BODIES.to_vec()),
        change in prop::option::weighted(0.3, (any::<prop::sample::Index>(), prop::sample::select(b"\0\n\r :;059aX".to_vec()))),
    ) -> Vec<u8> {
        let mut bytes = format!("{status}\r\n{}\r\n{body}", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>())
            .into_bytes();
        if let Some((at, byte)) = change {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    }
}

/// What hyper's client makes of `answer`: status, header values, body; `None` where it finds something wrong.
fn by_hyper(answer: &[u8], asked: Asked) -> Option<(u16, usize, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut server, client) = tokio::io::duplex(64 << 10);
    runtime.block_on(async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(client)).await.ok()?;
        let exchange = async {
            let method = if asked.head { "HEAD" } else { "GET" };
            let request =
                http::Request::builder().method(method).body(Empty::<Bytes>::new()).expect("a request");
            let answer = sender.send_request(request).await.ok()?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().len());
            let body = answer.into_body().collect().await.ok()?.to_bytes().to_vec();
            Some((status, headers, body))
        };
        let serve = async {
            let mut request = [0; 1024];
            let _ = server.read(&mut request).await;
            let _ = server.write_all(answer).await;
            let _ = server.shutdown().await;
        };
        let (_, found, ()) = tokio::join!(connection, exchange, serve);
        found
    })
}

/// An answer read strictly, over its whole text: where it ends, and its body.
fn strictly(answer: &[u8], asked: Asked) -> Option<(usize, Vec<u8>)> {
    let text = String::from_utf8_lossy(answer).into_owned();
    let mut start = 0;
    let (status, head, body_at) = loop {
        let (head, _) = text[start..].split_once("\r\n\r\n")?;
        let status: u16 = head.get(9..12)?.parse().ok()?;
        let next = start + head.len() + 4;
        if (100..200).contains(&status) {
            start = next;
            continue;
        }
        break (status, head.to_owned(), next);
    };
    let value = |wanted: &str| {
        let found = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim().to_owned())
    };
    if asked.head || matches!(status, 204 | 304) {
        return Some((body_at, Vec::new()));
    }
    if value("transfer-encoding").is_some() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let (mut at, mut body) = (body_at, Vec::new());
        loop {
            let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(&answer[at..]).ok()?
            else {
                return None;
            };
            at += line;
            if size == 0 {
                break;
            }
            body.extend_from_slice(answer.get(at..at + size as usize)?);
            at += size as usize + 2;
        }
        let httparse::Status::Complete((length, _)) =
            httparse::parse_headers(&answer[at..], &mut headers).ok()?
        else {
            return None;
        };
        return Some((at + length, body));
    }
    let rest = &answer[body_at..];
    match value("content-length") {
        None => Some((answer.len(), rest.to_vec())),
        Some(length) => {
            let length: usize = length.parse().ok()?;
            Some((body_at + length, rest.get(..length)?.to_vec()))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_is_one_answer_to_every_reader(answer in answers(), head in any::<bool>(), size in 1..40usize) {
        let question = Asked { head, ..GET };
        let mut scanner = asked(question);
        let (passed, stop) = feed(&mut scanner, &[&answer]);
        let mut pieces = asked(question);
        let cut: Vec<&[u8]> = answer.chunks(size).collect();
        let (passed_in_pieces, stop_in_pieces) = feed(&mut pieces, &cut);
        prop_assert_eq!(stop.is_some(), stop_in_pieces.is_some());
        prop_assert!(passed_in_pieces.starts_with(&passed));
        prop_assert!(stop.is_some() || passed == passed_in_pieces);
        let whole = matches!(stop, None | Some(Stop::Message(Problem::Unsolicited))) && !passed.is_empty();
        if let Some((length, body)) = strictly(&passed, question).filter(|_| whole) {
            prop_assert_eq!(length, passed.len(), "{:?}", String::from_utf8_lossy(&passed));
            let (_, _, seen) = by_hyper(&passed, question).expect("hyper finds nothing wrong");
            prop_assert_eq!(seen, body);
        }
    }
}
