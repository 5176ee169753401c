//! One row for each way to be refused, and those that only look odd.

use super::{refusal, refusal_in, whole};
use crate::domain::refusal::Reason;
use crate::gateway::scan::{
    CHUNK_LINE_BYTES_MAX, Framing, Limits, Problem, TRAILERS_BYTES_MAX, TRAILERS_MAX,
};
use std::collections::BTreeSet;

/// A request of these header lines.
fn with(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

/// A request of this request line.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

/// A chunked request of this body.
fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

/// A request of 1.0 of these header lines.
fn old(lines: &str) -> String {
    format!("POST / HTTP/1.0\r\n{lines}\r\n\r\n")
}

fn refused() -> Vec<(Problem, Vec<String>)> {
    use Problem::*;
    let limits = Limits::DEFAULT;
    let lines = |lines: &[&str]| lines.iter().map(|text| with(text)).collect::<Vec<_>>();
    let request_lines = |lines: &[&str]| lines.iter().map(|text| line(text)).collect::<Vec<_>>();
    let bodies = |bodies: &[&str]| bodies.iter().map(|text| chunked(text)).collect::<Vec<_>>();
    let many = |count: usize| with(&vec!["A: b"; count].join("\r\n"));
    vec![
        (LeadingBytes, vec![format!("\r\n\r\n{}", with("A: b"))]),
        (RequestLine, request_lines(&["GET", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / x HTTP/1.1"])),
        (
            RequestLine,
            request_lines(&["GET /a\tb HTTP/1.1", "GET / HTTP/1.1 ", "GET / 1.1", "GET /", "GET  HTTP/1.1"]),
        ),
        (
            Method,
            request_lines(&[
                "get / HTTP/1.1",
                "Get / HTTP/1.1",
                "G@T / HTTP/1.1",
                " GET / HTTP/1.1",
                "- / HTTP/1.1",
            ]),
        ),
        (
            Method,
            request_lines(&[
                "G:T / HTTP/1.1",
                &format!("{} / HTTP/1.1", "A".repeat(33)),
                "1GET / HTTP/1.1",
                "GET\t/ HTTP/1.1",
                "\u{e9} / HTTP/1.1",
            ]),
        ),
        (
            Version,
            request_lines(&[
                "GET / HTTP/1.2",
                "GET / HTTP/2.0",
                "GET / HTTP/0.9",
                "GET / http/1.1",
                "GET / HTTP/1.10",
            ]),
        ),
        (Version, request_lines(&["GET / HTTP/11", "GET / HTTPS/1.1", "GET / HTTP/1,1"])),
        (Http2Preface, vec!["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()]),
        (Tunnel, vec!["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".into()]),
        (
            TargetForm,
            request_lines(&["GET a HTTP/1.1", "GET * HTTP/1.1", "GET ftp://a/ HTTP/1.1", "GET ?x HTTP/1.1"]),
        ),
        (TargetForm, request_lines(&["GET http:/a HTTP/1.1", "GET http:a HTTP/1.1", "GET a:1 HTTP/1.1"])),
        (
            TargetByte,
            request_lines(&[
                "GET /< HTTP/1.1",
                "GET /?\" HTTP/1.1",
                "GET /` HTTP/1.1",
                "GET /\u{a0} HTTP/1.1",
                "GET /?\u{85} HTTP/1.1",
                "GET /\u{3000}a HTTP/1.1",
            ]),
        ),
        (
            Fragment,
            request_lines(&[
                "GET /#a HTTP/1.1",
                "GET /a?b#c HTTP/1.1",
                "GET http://a/#b HTTP/1.1",
                "GET # HTTP/1.1",
            ]),
        ),
        (TargetTooLong, request_lines(&[&format!("GET /{} HTTP/1.1", "a".repeat(limits.target_bytes))])),
        (TargetTooLong, vec!["A".repeat(limits.target_bytes + 100)]),
        (
            Userinfo,
            request_lines(&[
                "GET http://b@a/ HTTP/1.1",
                "GET http://b:c@a/ HTTP/1.1",
                "GET http://@a/ HTTP/1.1",
            ]),
        ),
        (Userinfo, vec!["GET / HTTP/1.1\r\nHost: b@a\r\n\r\n".into()]),
        (
            Authority,
            request_lines(&[
                "GET http:/// HTTP/1.1",
                "GET http://a:b/ HTTP/1.1",
                "GET https://[::1/ HTTP/1.1",
            ]),
        ),
        (
            Authority,
            request_lines(&["GET http://a%00/ HTTP/1.1", "GET http://a,b/ HTTP/1.1", "CONNECT / HTTP/1.1"]),
        ),
        (
            AuthorityMismatch,
            request_lines(&["GET http://b/ HTTP/1.1", "GET http://a:80/ HTTP/1.1", "CONNECT b:1 HTTP/1.1"]),
        ),
        (
            NoHost,
            vec![
                "GET / HTTP/1.1\r\n\r\n".into(),
                "GET / HTTP/1.1\r\nA: b\r\n\r\n".into(),
                "GET http://a/ HTTP/1.1\r\n\r\n".into(),
            ],
        ),
        (SeveralHosts, lines(&["Host: a", "HOST: a", "host: b", "Host:"])),
        (
            Host,
            [
                "Host:",
                "Host: ",
                "Host: a b",
                "Host: a,b",
                "Host: a/b",
                "Host: :",
                "Host: a::",
                "Host: a:65536",
                "Host: [::1",
                "Host: \u{e9}",
                "Host: [g]",
                "Host: a:1:2",
                "Host: [::1]a",
            ]
            .map(old)
            .to_vec(),
        ),
        (Fold, lines(&["A: b\r\n c", "A: b\r\n\tc", "A: b\r\n ", "Content-Length: 3\r\n\t5", " A: b"])),
        (
            LeadingSpace,
            vec![
                "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(),
                "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n".into(),
                "GET / HTTP/1.0\r\n \r\n\r\n".into(),
            ],
        ),
        (
            SpaceBeforeColon,
            lines(&["A : b", "A\t: b", "Content-Length : 3", "Transfer-Encoding\t : chunked"]),
        ),
        (EmptyName, lines(&[": b", ":"])),
        (NoColon, lines(&["A", "Content-Length"])),
        (NameByte, lines(&["A(: b", "A b: c", "\u{e9}: a", "A\"B: c", "{a}: b", "A/B: c"])),
        (
            LookAlike,
            lines(&[
                "Content_Length: 3",
                "content_length: 0",
                "Transfer_Encoding: chunked",
                "Transfer.Encoding: x",
                "_Host: b",
                "Host_: b",
                "TE_: x",
                "keep_alive: 1",
                "Transfer--Encoding: chunked",
                "content---length: 3",
                "Transfer___Encoding: chunked",
                "Keep--Alive: 1",
                "Proxy--Connection: x",
            ]),
        ),
        (Nul, lines(&["A: b\0", "A\0: b", "\0", "Content-Length: 3\0"])),
        (Nul, request_lines(&["GET /\0 HTTP/1.1"])),
        (BareCr, lines(&["A: b\rC: d", "A: b\r", "A\r: b", "\rA: b", "Content-Length: 3\r\r\nX: y"])),
        (BareCr, request_lines(&["GET /\r HTTP/1.1"])),
        (BareLf, lines(&["A: b\nC: d", "A: b\n\nGET / HTTP/1.1", "\nA: b"])),
        (
            BareLf,
            vec![
                "GET / HTTP/1.1\nHost: a\n\n".into(),
                "\nGET / HTTP/1.1\r\n".into(),
                "GET / HTTP/1.1\r\nHost: a\r\n\n".into(),
            ],
        ),
        (
            Control,
            lines(&["A: \u{1}b", "A: b\u{b}", "A: b\u{7f}", "A\u{c}: b", "Transfer-Encoding: \u{b}chunked"]),
        ),
        (
            Length,
            lines(&[
                "Content-Length: ",
                "Content-Length: +3",
                "Content-Length: -1",
                "Content-Length: 0x3",
                "Content-Length: 3, 3",
                "Content-Length: 3 3",
                "Content-Length: 3;",
            ]),
        ),
        (
            Length,
            lines(&[
                "Content-Length: 03",
                "Content-Length: 1_0",
                "Content-Length: \"3\"",
                "Content-Length: 9223372036854775808",
                "Content-Length: 99999999999999999999",
                "Content-Length: 18446744073709551619",
                "Content-Length: 3.0",
                "Content-Length: \u{663}",
            ]),
        ),
        (
            SeveralLengths,
            lines(&[
                "Content-Length: 3\r\nContent-Length: 3",
                "Content-Length: 3\r\ncontent-length: 4",
                "Content-Length: 0\r\nA: b\r\nContent-Length: 0",
            ]),
        ),
        (
            Coding,
            lines(&[
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: chunked, chunked",
                "Transfer-Encoding: identity",
                "Transfer-Encoding: xchunked",
                "Transfer-Encoding: chunked;a=b",
                "Transfer-Encoding:",
                "Transfer-Encoding: \"chunked\"",
                "Transfer-Encoding: chunked,",
                "Transfer-Encoding: ,chunked",
                "Transfer-Encoding: chun ked",
            ]),
        ),
        (
            SeveralCodings,
            lines(&[
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nTE: x\r\ntransfer-encoding: identity",
            ]),
        ),
        (CodingOn10, vec![old("Transfer-Encoding: chunked")]),
        (
            LengthAndCoding,
            lines(&[
                "Content-Length: 3\r\nTransfer-Encoding: chunked",
                "transfer-encoding: CHUNKED\r\nCONTENT-LENGTH: 0",
            ]),
        ),
        (
            HeadTooLarge,
            vec![
                with(&format!("A: {}", "a".repeat(limits.head_bytes))),
                with(&vec![format!("A: {}", "a".repeat(999)); 70].join("\r\n")),
                format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "a".repeat(limits.head_bytes)),
            ],
        ),
        (TooManyHeaders, vec![many(limits.headers)]),
        (
            ChunkSize,
            bodies(&[
                "\r\n",
                "g\r\n",
                "-1\r\n",
                "+1\r\n",
                "0x1\r\n",
                " 1\r\n",
                "1 \r\n",
                "1\t\r\n",
                "1_0\r\n",
                "1,\r\n",
                "8000000000000000\r\n",
                "00000000000000001\r\n",
                ";a\r\n",
            ]),
        ),
        (
            ChunkExtension,
            bodies(&[
                "1;\r\n",
                "1;=\r\n",
                "1;a=\r\n",
                "1;a=\"\r\n",
                "1;a=\"b\\\"\r\n",
                "1;a=\"b\"c\r\n",
                "1;a b\r\n",
                "1;a,b\r\n",
                "1 a\r\n",
                "0;a=\"\r\n\"\r\n\r\n",
            ]),
        ),
        (
            ChunkExtension,
            bodies(&[
                &format!("1;{}\r\n", "a".repeat(CHUNK_LINE_BYTES_MAX)),
                &format!("1;{}", "a".repeat(CHUNK_LINE_BYTES_MAX)),
            ]),
        ),
        (
            ChunkEnd,
            bodies(&[
                "1\r\nab",
                "1\r\na\n0\r\n\r\n",
                "1\r\na\rb",
                "1\r\n\r\n0\r\n\r\n",
                "3\r\nab\r\n0\r\n\r\n",
            ]),
        ),
        (BareLf, bodies(&["1\na\r\n0\r\n\r\n", "1;a\n\r\n", "0\r\n\n", "0\r\nA: b\n\r\n", "0\n\n"])),
        (BareCr, bodies(&["1\r\r\n", "1;a=\"\rb\"\r\n", "0\r\nA: \rb\r\n\r\n", "1\ra\r\n"])),
        (Nul, bodies(&["1\0\r\n", "1;a=\"\0\"\r\n", "0\r\n\0\r\n"])),
        (
            TrailerName,
            bodies(&[
                "0\r\nContent-Length: 1\r\n\r\n",
                "0\r\ntransfer-encoding: chunked\r\n\r\n",
                "0\r\nHost: b\r\n\r\n",
                "0\r\nA: b\r\nTransfer_Encoding: x\r\n\r\n",
            ]),
        ),
        (SpaceBeforeColon, bodies(&["0\r\nA : b\r\n\r\n"])),
        (NoColon, bodies(&["0\r\nGET\r\n\r\n"])),
        (NameByte, bodies(&["0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"])),
        (Fold, bodies(&["0\r\nA: b\r\n c\r\n\r\n"])),
        (
            TrailersTooLarge,
            bodies(&[
                &format!("0\r\nA: {}\r\n\r\n", "a".repeat(TRAILERS_BYTES_MAX)),
                &format!("0\r\nA: {}", "a".repeat(TRAILERS_BYTES_MAX)),
                &format!("0\r\n{}\r\n", "A: b\r\n".repeat(TRAILERS_MAX + 1)),
            ]),
        ),
    ]
}

#[test]
fn everything_with_two_readings_is_refused_and_named_however_it_is_split() {
    let mut wrong = Vec::new();
    for (problem, text) in
        refused().iter().flat_map(|(problem, texts)| texts.iter().map(move |text| (problem, text)))
    {
        let bytes = text.as_bytes();
        let step = (bytes.len() / 64).max(1);
        let cuts = (1..bytes.len()).step_by(step).map(|cut| refusal_in(&[&bytes[..cut], &bytes[cut..]]));
        // Nothing of it passes and nothing is forgotten, wherever it is cut.
        if let Some(found) = cuts.chain([refusal(bytes)]).find(|found| *found != Some(*problem)) {
            wrong.push(format!(
                "{problem:?}, not {found:?}: {:?}",
                text.chars().take(200).collect::<String>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn of_requests() -> impl Iterator<Item = Problem> {
    Problem::ALL.iter().copied().filter(|problem| problem.reason() != Reason::UpstreamAmbiguous)
}

#[test]
fn every_problem_has_a_row() {
    let shown: BTreeSet<Problem> = refused().into_iter().map(|(problem, _)| problem).collect();
    let all: BTreeSet<Problem> = of_requests().collect();
    assert_eq!(all.difference(&shown).collect::<Vec<_>>(), Vec::<&Problem>::new());
}

#[test]
fn the_reason_of_each_problem_has_a_status_of_its_own() {
    for problem in of_requests() {
        assert!(matches!(problem.refusal().status, 400 | 414 | 431), "{problem:?}");
        assert!(problem.refusal().close && problem.text().ends_with('.'));
    }
}

#[test]
fn what_only_looks_odd_passes() {
    let length = |text: &str| (with(text) + "abc", Framing::Length(3));
    let none = |text: String| (text, Framing::None);
    let body = |text: &str| (chunked(text), Framing::Chunked);
    let cases = [
        none(with("A: b")),
        none(with("A:")),
        none(with("A:b\r\nB:\t c \t")),
        none(with("A: \u{e9}\tb")),
        none(with("A_B: c\r\nX.Y: z\r\nX_Host: a\r\nHosts: a")),
        none(with("Content-Length: 0")),
        none(with(
            "Connection: close, x\r\nTE: trailers\r\nUpgrade: websocket\r\nContent-Type: a\r\nContent-Type: b",
        )),
        none(with(&vec!["A: b"; Limits::DEFAULT.headers - 1].join("\r\n"))),
        none(format!("\r\n{}", with("A: b"))),
        none(line("PROPFIND /a//../%2f?b=c?d[]{}|^\\ HTTP/1.1")),
        none(line("VERSION-CONTROL /\"a?` HTTP/1.1")),
        none(line("GET /caf\u{e9}?\u{59d3}=\u{1f600} HTTP/1.1")),
        none(old("Host: a:")),
        none(old("Host: [::1]:")),
        none(line("M-SEARCH * HTTP/1.1").replace("M-SEARCH", "OPTIONS")),
        none(line("GET http://a HTTP/1.1")),
        none(line("GET HTTPS://A/b?c HTTP/1.1")),
        none(line(&format!("GET /{} HTTP/1.1", "a".repeat(Limits::DEFAULT.target_bytes - 1)))),
        none(old("A: b")),
        none("GET / HTTP/1.0\r\n\r\n".into()),
        none("GET http://b/ HTTP/1.0\r\n\r\n".into()),
        none(old("Host: [::1]:8080")),
        none(old("Host: a_b.c-d:1")),
        length("Content-Length: 3"),
        length("content-length:3"),
        length("CONTENT-LENGTH:\t 3 \t"),
        body("0\r\n\r\n"),
        body("3\r\nabc\r\n0\r\n\r\n"),
        body("00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n"),
        body("1;a;b=c;d=\"e;\\\"\\\\ \t\u{e9}\"\r\na\r\n0;x\r\nTrailer-A: b\r\nB:\r\n\r\n"),
        body("1 ; a = b\t;c\r\na\r\n0\r\n\r\n"),
        body("5\r\n\r\n0\r\n\r\n0\r\n\r\n"),
        (chunked("0\r\n\r\n").replace(": chunked", ":\tCHUNKED "), Framing::Chunked),
    ];
    for (text, framing) in cases {
        assert_eq!(whole(text.as_bytes()), Ok((1, framing)), "{text:?}");
    }
}
