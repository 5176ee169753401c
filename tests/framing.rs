//! What has two readings goes nowhere: one answer, no byte to the backend, the end of the connection. And what has one
//! reading passes as before.

mod corpus;
mod mutations;

use crate::harness::{Call, Config, RawBackend, Reply, Stand, eventually, ok};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

fn connect(stand: &Stand) -> TcpStream {
    let stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn before(backend: std::net::SocketAddr) -> Stand {
    Stand::with(Config { backend: Some(backend), ..Config::default() })
}

/// Everything until the gate closes. A reset would be an error: it may take the answer away.
#[track_caller]
fn rest(stream: &mut TcpStream, sent: &[u8]) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let shown = String::from_utf8_lossy(sent).chars().take(200).collect::<String>();
    assert!(read.is_ok(), "{read:?} after {shown:?}: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Asserts that `answer` is one refusal of the gate's own and nothing else.
#[track_caller]
fn assert_one_refusal(answer: &str, sent: &[u8]) {
    let shown = String::from_utf8_lossy(sent).chars().take(200).collect::<String>();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    assert!(matches!(status, "400" | "414" | "431"), "{shown:?}: {answer}");
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("\r\ncontent-type: application/problem+json"), "{shown:?}: {answer}");
    assert!(lower.contains("\r\nconnection: close"), "{shown:?}: {answer}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    assert_eq!(
        problem["status"].to_string(),
        status,
        "{shown:?}: one answer, and nothing behind it: {answer}"
    );
}

/// Asserts that the backend has seen nothing but what a good request brings it now.
#[track_caller]
fn assert_only_the_next_arrives(stand: &Stand, raw: &RawBackend) {
    assert_eq!(stand.send(&Call::new("GET", "/last")).status, 200);
    let seen = raw.next();
    assert!(seen.starts_with("GET /last "), "the backend has seen {seen}");
    assert_eq!(raw.waiting(), 0, "the backend has seen something more");
}

#[test]
fn no_byte_of_a_request_with_two_readings_reaches_the_backend() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    let corpus = corpus::all();
    assert!(corpus.len() >= 150, "{}", corpus.len());
    for request in &corpus {
        let mut stream = connect(&stand);
        stream.write_all(request).unwrap();
        let answer = rest(&mut stream, request);
        assert_one_refusal(&answer, request);
        assert!(answer.contains("Nothing of this request was sent to the backend."), "{answer}");
    }
    assert_only_the_next_arrives(&stand, &raw);
    let page = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    let counted = page.lines().filter(|line| line.starts_with("oncegate_requests_total"));
    let refused = counted.filter(|line| ["bad-", "too-"].iter().any(|word| line.contains(word)));
    let refused: f64 = refused.filter_map(|line| line.split(' ').nth(1)?.parse::<f64>().ok()).sum();
    assert_eq!(refused as usize, corpus.len(), "{page}");
}

#[test]
fn the_same_holds_when_the_bytes_come_in_pieces() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    for (number, request) in corpus::all().iter().enumerate() {
        let head = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(request.len());
        let cut = 1 + number % head.clamp(1, 200);
        let mut stream = connect(&stand);
        stream.write_all(&request[..cut]).unwrap();
        // The gate may have refused the first piece already.
        let _ = stream.write_all(&request[cut..]);
        assert_one_refusal(&rest(&mut stream, request), request);
    }
    assert_only_the_next_arrives(&stand, &raw);
}

#[test]
fn requests_before_a_refused_one_are_answered_first() {
    let raw = RawBackend::start(|connection| {
        std::thread::sleep(Duration::from_millis(5));
        ok(connection);
    });
    let stand = before(raw.address);
    for request in corpus::all().iter().step_by(7) {
        let mut stream = connect(&stand);
        let first = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nPOST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        stream.write_all(&[first, &request[..]].concat()).unwrap();
        let answers = rest(&mut stream, request);
        let third = answers.match_indices("HTTP/1.1 ").nth(2).map(|(at, _)| at);
        let Some(third) = third else { panic!("{answers}") };
        assert_eq!(answers[..third].matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert_one_refusal(&answers[third..], request);
        assert!(raw.next().starts_with("GET /first ") && raw.next().starts_with("POST /second "));
    }
    assert_only_the_next_arrives(&stand, &raw);
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    let mut stream = connect(&stand);
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let _ = sender.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +500000\r\n\r\n");
        let _ = sender.write_all(&vec![b'x'; 500_000]);
    });
    assert_one_refusal(&rest(&mut stream, b""), b"");
    sending.join().unwrap();
    assert_only_the_next_arrives(&stand, &raw);
}

#[test]
fn a_client_that_goes_on_sending_is_not_reset() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    let mut stream = connect(&stand);
    stream.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +9\r\n\r\n").unwrap();
    assert_one_refusal(&rest(&mut stream, b""), b"");
    // The answer's end is here. A socket that were closed would answer the first of these with a reset.
    for _ in 0..64 {
        stream.write_all(&[b'x'; 1024]).unwrap();
    }
}

/// A chunked request whose second chunk is bad, sent in two pieces: the first is waited for by `seen`.
fn break_off(stand: &Stand, path: &str, seen: impl FnOnce()) -> String {
    let mut stream = connect(stand);
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    seen();
    stream.write_all(b"5 \r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    rest(&mut stream, head.as_bytes())
}

#[test]
fn a_chunk_that_turns_out_bad_breaks_the_body_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stand = before(listener.local_addr().unwrap());
    let mut arrived = Vec::new();
    let mut upstream = None;
    let answer = break_off(&stand, "/x", || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        while !arrived.ends_with(b"hello\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            arrived.extend(byte);
        }
        upstream = Some(connection);
    });
    assert_one_refusal(&answer, b"");
    let mut behind = Vec::new();
    let _ = upstream.unwrap().read_to_end(&mut behind);
    assert_eq!(String::from_utf8_lossy(&behind), "", "no end of the body, and no other request");
}

#[test]
fn a_guarded_body_that_turns_out_bad_reaches_nobody() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    // The head is through when the request counts as in flight.
    let answer = break_off(&stand, "/api/x", || {
        eventually("the exchange runs", || {
            let page = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
            page.lines().any(|line| line == "oncegate_in_flight 1").then_some(())
        });
    });
    assert_one_refusal(&answer, b"");
    assert_only_the_next_arrives(&stand, &raw);
}

#[test]
fn a_chunked_upload_and_what_follows_it_pass_on_one_connection() {
    let stand = Stand::new();
    let mut stream = connect(&stand);
    let mut body = b"POST /_sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut left = 1 << 20;
    for size in (1..).step_by(997) {
        let size = std::cmp::min(size, left);
        body.extend(format!("{size:x};a=\"b;\\\"\"\r\n").bytes().chain(vec![b'\n'; size]).chain(*b"\r\n"));
        left -= size;
        if left == 0 {
            break;
        }
    }
    body.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
    for piece in body.chunks(1_777) {
        stream.write_all(piece).unwrap();
    }
    let reply = Reply::read(&mut stream, false, Instant::now() + PATIENCE).unwrap();
    assert_eq!(reply.json()["bytes"], 1 << 20);
    for _ in 0..3 {
        stream.write_all(b"\r\nPOST /_sink HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n").unwrap();
        stream.write_all(&vec![b'\r'; 1 << 20]).unwrap();
        let reply = Reply::read(&mut stream, false, Instant::now() + PATIENCE).unwrap();
        assert_eq!(reply.json()["bytes"], 1 << 20);
    }
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let stand = Stand::new();
    let mut stream = connect(&stand);
    write!(stream, "POST /_sink HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    let reply = Reply::read(&mut stream, false, Instant::now() + PATIENCE).unwrap();
    assert_eq!((reply.status, &reply.json()["bytes"]), (200, &5.into()));
}

#[test]
fn a_head_that_comes_byte_by_byte_passes_as_it_is() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    let mut stream = connect(&stand);
    let request = "GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\nX-Odd:\t e  f \r\nA_B: c\r\n\r\n";
    for byte in request.bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(Reply::read(&mut stream, false, Instant::now() + PATIENCE).unwrap().status, 200);
    let seen = raw.next();
    assert!(
        seen.starts_with("GET /a%20b?c=d HTTP/1.1\r\n") && seen.contains("\r\nX-Odd: e  f\r\n"),
        "{seen}"
    );
}

#[test]
fn clients_of_http_1_0_pass_with_and_without_a_host() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    for host in ["", "Host: a\r\n"] {
        let mut stream = connect(&stand);
        write!(stream, "GET /x HTTP/1.0\r\n{host}\r\n").unwrap();
        assert!(rest(&mut stream, b"").contains(" 200 OK\r\n"));
        assert!(raw.next().starts_with("GET /x HTTP/1.1\r\n"));
    }
}

/// Whether a backend can read `request` in one way only: one framing, spelled plainly, and exactly so many bytes.
fn has_one_reading(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let (head, body) = (&request[..end], &request[end + 4..]);
    let head = String::from_utf8_lossy(head);
    let plain = |line: &str| !line.bytes().any(|byte| byte < b' ' && byte != b'\t');
    // As CGI reads names: every sign is one.
    let as_cgi = |name: &str| {
        let signs =
            |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
        let name = name.trim_matches(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        name.chars().map(signs).collect::<String>()
    };
    let (mut length, mut chunked) = (None, false);
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(": ").filter(|_| plain(line)) else { return false };
        match (&*as_cgi(name), &*name.to_ascii_lowercase()) {
            ("content-length", "content-length") if length.is_none() && !chunked => {
                match value.parse::<usize>() {
                    Ok(number) if number.to_string() == value => length = Some(number),
                    _ => return false,
                }
            }
            ("transfer-encoding", "transfer-encoding")
                if length.is_none() && !chunked && value == "chunked" =>
            {
                chunked = true
            }
            ("content-length" | "transfer-encoding", _) => return false,
            _ => {}
        }
    }
    if chunked { body.ends_with(b"0\r\n\r\n") } else { body.len() == length.unwrap_or(0) }
}

#[test]
fn no_mutation_of_what_frames_a_request_sets_another_one_free() {
    let raw = RawBackend::start(ok);
    let stand = before(raw.address);
    let mutations = mutations::all();
    assert!(mutations.len() >= 1_800, "{}", mutations.len());
    let (mut refused, mut harmless) = (0, 0);
    let mut kinds = std::collections::BTreeSet::new();
    for (kind, bytes) in &mutations {
        kinds.insert(kind);
        let shown = || format!("{kind}: {:?}", String::from_utf8_lossy(bytes));
        let mut stream = connect(&stand);
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let arrived = raw.take();
        for request in &arrived {
            assert!(request.starts_with(b"POST /carrier HTTP/1.1\r\n"), "{}\n{answer}", shown());
            let text = String::from_utf8_lossy(request);
            assert!(has_one_reading(request), "{} arrived as {text:?}", shown());
        }
        match (arrived.len(), answer.contains("application/problem+json")) {
            (0, _) => refused += 1,
            (1, false) => harmless += 1,
            (count, _) => panic!(
                "{}\n{answer}\n{count} arrived: {:?}",
                shown(),
                String::from_utf8_lossy(&arrived.concat())
            ),
        }
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{}\n{answer}", shown());
    }
    println!(
        "{} mutations of {} kinds: {refused} refused, {harmless} passed as one request, 0 set another one free",
        mutations.len(),
        kinds.len()
    );
    assert!(refused > harmless * 3, "{refused} and {harmless}");
}
