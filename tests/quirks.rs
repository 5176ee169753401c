//! Quirks of clients and backends that have one meaning: they pass as they are, or as their one normal form.

use crate::harness::{Call, Config, Handed, RawBackend, Reply, Stand, assert_problem, head, ok};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

fn connect(stand: &Stand) -> TcpStream {
    let stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One write to the gate is one segment on loopback, and so is what one read gets.
fn sent(stand: &Stand, text: &str) -> TcpStream {
    let mut stream = connect(stand);
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn reply(stream: &mut TcpStream) -> Reply {
    Reply::read(stream, false, Instant::now() + PATIENCE).expect("an answer")
}

/// A backend that answers every connection's request with `answer`.
fn answering(server: &Handed, answer: &str) {
    let (_, mut connection) = server.next();
    connection.write_all(answer.as_bytes()).unwrap();
}

#[test]
fn heads_that_end_their_lines_with_a_bare_lf_pass_where_their_upstream_may_and_only_there() {
    let server = Handed::start();
    let strict = Stand::with(server.config());
    let lenient = Stand::with(Config { upstream: "bare_lf = true", ..server.config() });
    let plain = "HTTP/1.1 200 OK\nX-One: 1\nContent-Length: 4\n\ngood";
    let mixed =
        "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\r\nX-One: 1\nContent-Length: 4\r\n\ngood";
    for answer in [plain, mixed] {
        let mut client = sent(&strict, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        answering(&server, answer);
        assert_problem(&reply(&mut client), 502, "upstream-ambiguous");
        let mut client = sent(&lenient, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        answering(&server, answer);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.contains("\r\nX-One: 1\r\n") && text.ends_with("\r\n\r\ngood"), "{text:?}");
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "clients get CRLF: {text:?}");
        assert_eq!(
            text.contains("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
            answer == mixed,
            "{text:?}"
        );
    }
    // What has two readings has them with any line ends, and chunks end as ever.
    for answer in [
        "HTTP/1.1 200 OK\nContent-Length: 4\nContent-Length: 8\n\ngood",
        "HTTP/1.1 200 OK\nContent-Length: 4\n Transfer-Encoding: chunked\n\ngood",
        "HTTP/1.1 200 OK\nA: b\rContent-Length: 4\n\ngood",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\ngood\n0\n\n",
    ] {
        let mut client = sent(&lenient, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        answering(&server, answer);
        assert_problem(&reply(&mut client), 502, "upstream-ambiguous");
    }
}

#[test]
fn a_client_is_told_that_its_connection_goes_on_where_the_backend_speaks_of_its_own() {
    let said = |ask: &str, answer: &str| {
        let server = Handed::start();
        let stand = Stand::with(server.config());
        let mut client = sent(&stand, ask);
        answering(&server, answer);
        let head = head(&mut client).to_ascii_lowercase();
        head.lines().find_map(|line| line.strip_prefix("connection: ").map(str::to_owned))
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let lines = |lines: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\nok");
    assert_eq!(said(get, &lines("Connection: keep-alive\r\n")).as_deref(), Some("keep-alive"));
    assert_eq!(said(get, &lines("Connection: close\r\n")).as_deref(), Some("keep-alive"), "this one goes on");
    assert_eq!(said(get, &lines("")), None);
    let last = get.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(
        said(&last, &lines("Connection: keep-alive\r\n")).as_deref(),
        Some("close"),
        "nor is that said in vain"
    );
}

#[test]
fn a_small_body_that_came_with_its_head_leaves_with_it() {
    let raw = RawBackend::start(ok);
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let cases = [
        ("Content-Length: 5\r\n\r\n01234", "01234"),
        // What came in two parts may leave in one.
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n4\r\nmany\r\n0\r\n\r\n",
            "9\r\n01234many\r\n0\r\n\r\n",
        ),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\nTrailer: T\r\n\r\n2\r\nab\r\n0\r\nT: v\r\n\r\n",
            "2\r\nab\r\n0\r\nt: v\r\n\r\n",
        ),
        // The rest comes when it comes.
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", "5\r\n01234\r\n"),
        ("Content-Length: 9\r\n\r\n01234", "01234"),
    ];
    for (body, expected) in cases {
        for method in ["POST", "PUT", "GET"] {
            let mut client = sent(&stand, &format!("{method} /x HTTP/1.1\r\nHost: a\r\n{body}"));
            let (head, mut connection) = server.next();
            assert_eq!(head.contains("chunked"), body.contains("chunked"), "{head}");
            // The head was read byte by byte; what came with it is there at once.
            connection.set_nonblocking(true).unwrap();
            let mut text = vec![0; 1000];
            let count =
                connection.read(&mut text).unwrap_or_else(|error| panic!("{method} {body:?}: {error}"));
            let text = String::from_utf8_lossy(&text[..count]).to_ascii_lowercase();
            assert_eq!(text, expected, "{method} {body:?}");
            connection.set_nonblocking(false).unwrap();
            connection
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .unwrap();
            assert_eq!(reply(&mut client).text(), "ok");
        }
    }
    // A client that goes away in the middle takes nothing with it that would look whole.
    let broken = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    drop(sent(&broken, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n01234"));
    drop(sent(&broken, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"));
    let good = broken.send(&Call::post("/x", "good"));
    assert_eq!(good.status, 200);
}

#[test]
fn who_expects_to_be_told_to_go_on_with_nothing_is_told_what_the_backend_says() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let ask = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n";
    let answer =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let mut client = sent(&stand, ask);
    let (seen, mut connection) = server.next();
    assert!(seen.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{seen}");
    connection.write_all(answer.as_bytes()).unwrap();
    assert_eq!(head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(reply(&mut client).text(), "ok");
    // Who does not wait for it does not get it, and HTTP/1.0 knows none.
    for other in [ask.replace("Expect: 100-Continue\r\n", ""), ask.replace("HTTP/1.1", "HTTP/1.0")] {
        let mut client = sent(&stand, &other);
        answering(&server, answer);
        assert!(head(&mut client).starts_with("HTTP/1.1 200 OK\r\n"), "{other}");
    }
    // What else is expected is for the backend to understand.
    let body = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\nContent-Length: 2\r\n\r\nab";
    let mut client = sent(&stand, body);
    let (seen, mut connection) = server.next();
    assert!(seen.to_ascii_lowercase().contains("\r\nexpect: wonders\r\n"), "{seen}");
    connection
        .write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        .unwrap();
    assert_eq!(reply(&mut client).status, 417);
}

#[test]
fn targets_and_hosts_that_are_spelled_unusually_have_their_one_form() {
    let raw = RawBackend::start(ok);
    let stand = |upstream| Stand::with(Config { backend: Some(raw.address), upstream, ..Config::default() });
    let (normal, original) = (stand(""), stand("target = \"original\""));
    let seen = |stand: &Stand, target: &str, host: &str| {
        let mut client = sent(stand, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let reply = reply(&mut client);
        if reply.status != 200 {
            assert_eq!(raw.waiting(), 0, "{target}");
            return (reply.status, String::new(), String::new());
        }
        let text = raw.next();
        let host = text.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default().to_owned();
        (200, text.split(' ').nth(1).unwrap_or_default().to_owned(), host)
    };
    let passed = |target: &str, host: &str| (200, target.to_owned(), host.to_owned());
    let name = "/caf\u{e9}/\u{59d3}?q=\u{442}";
    assert_eq!(seen(&normal, name, "a"), passed("/caf%C3%A9/%E5%A7%93?q=%D1%82", "a"));
    assert_eq!(seen(&original, name, "a"), passed(name, "a"));
    // What some reader ends a word or a line at, or what is no text.
    for target in ["/a\u{a0}b", "/a?b\u{85}c", "/a\u{2028}", "/a?100%\u{e9}"] {
        assert_eq!(seen(&normal, target, "a").0, 400, "{target:?}");
        assert_eq!(seen(&original, target, "a").0, 400, "{target:?}");
    }
    assert_eq!(seen(&normal, "/a", "h.example:"), passed("/a", "h.example:"));
    assert_eq!(seen(&normal, "http://h.example?x=1", "h.example"), passed("/?x=1", "h.example"));
    assert_eq!(seen(&original, "http://h.example?x=1", "h.example"), passed("/?x=1", "h.example"));
    assert_eq!(seen(&normal, "http://h.example/", "h.example:").0, 400, "the two do not say the same");
    let mut client = connect(&normal);
    client.write_all(b"GET /caf\xe9 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_problem(&reply(&mut client), 400, "bad-target");
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const DECLINED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";

/// Asks for an upgrade and sends `early` behind it, together with it or `apart`; both connections, once it is seen that
/// nothing has passed before the backend agrees.
fn ask_and_go_on(stand: &Stand, server: &Handed, early: &[u8], apart: bool) -> (TcpStream, TcpStream) {
    let mut client = connect(stand);
    let together = if apart { &b""[..] } else { early };
    client.write_all(&[UPGRADE.as_bytes(), together].concat()).unwrap();
    let (_, mut connection) = server.next();
    if apart {
        client.write_all(early).unwrap();
    }
    connection.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let waited = connection.read(&mut [0]).expect_err("no byte flows before the backend agrees");
    assert!(matches!(waited.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waited}");
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, connection)
}

#[test]
fn what_comes_behind_a_request_for_another_protocol_is_read_as_its_answer_says() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    for apart in [false, true] {
        // No HTTP at all, and half a head: both are the other protocol's where the backend agrees.
        for early in [&b"\x81\x85mask\0\n\r"[..], b"GET /x HTTP/1.1\r\nHo"] {
            let (mut client, mut connection) = ask_and_go_on(&stand, &server, early, apart);
            connection.write_all(AGREED.as_bytes()).unwrap();
            assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
            let mut came = vec![0; early.len()];
            connection.read_exact(&mut came).unwrap();
            assert_eq!(came, early);
            client.write_all(b"more").unwrap();
            connection.read_exact(&mut came[..4]).unwrap();
            assert_eq!(&came[..4], b"more");
        }
        // And requests where it does not, whole or not, and with the care that every request gets.
        let (mut client, mut connection) =
            ask_and_go_on(&stand, &server, b"GET /next HTTP/1.1\r\nHost: a\r\nx-odd: 1\r\n", apart);
        connection.write_all(DECLINED.as_bytes()).unwrap();
        assert_eq!(reply(&mut client).status, 403);
        client.write_all(b"\r\n").unwrap();
        let (next, mut connection) = server.next();
        assert!(next.starts_with("GET /next ") && next.contains("\r\nx-odd: 1\r\n"), "{next}");
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        assert_eq!(reply(&mut client).text(), "ok");
        let smuggling = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let (mut client, mut connection) = ask_and_go_on(&stand, &server, smuggling, apart);
        connection.write_all(DECLINED.as_bytes()).unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        assert!(answers.starts_with("HTTP/1.1 403 "), "{answers}");
        assert!(answers.contains("HTTP/1.1 400 ") && answers.contains("bad-request"), "{answers}");
        assert!(server.connections.try_recv().is_err(), "it reaches nobody");
    }
}

#[test]
fn requests_before_one_for_another_protocol_do_not_decide_about_what_comes_behind_it() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = sent(&stand, &[first, UPGRADE, "\0\0early"].concat());
    let (_, mut connection) = server.next();
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
    assert_eq!(reply(&mut client).text(), "ok");
    let (_, mut connection) = server.next();
    connection.write_all(AGREED.as_bytes()).unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    let mut came = [0; 7];
    connection.read_exact(&mut came).unwrap();
    assert_eq!(&came, b"\0\0early");
}
