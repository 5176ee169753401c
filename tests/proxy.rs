//! What passes through: bodies of any size as a stream, headers as they were, and what the backend learns of the client.

use crate::harness::{Call, Config, RawBackend, Stand, eventually, ok};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A large body; the gate must not grow by it.
const LARGE_BYTES: usize = 256 << 20;
/// What a gate may take in memory at its peak, far below [`LARGE_BYTES`].
const MEMORY_KIB_MAX: u64 = 96 << 10;

/// The value of a header in a raw head.
fn value_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn peak_memory_kib(stand: &Stand) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stand.gate.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_large_answer_streams_through_in_flat_memory() {
    let stand = Stand::new();
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET /_large?bytes={LARGE_BYTES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => read += count,
        }
    }
    assert!(read > LARGE_BYTES, "{read} B");
    let peak = peak_memory_kib(&stand);
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}

#[test]
fn a_large_request_streams_through_in_flat_memory() {
    let stand = Stand::new();
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    write!(stream, "POST /_sink HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE_BYTES}\r\n\r\n").unwrap();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..LARGE_BYTES / chunk.len() {
        stream.write_all(&chunk).unwrap();
    }
    let reply =
        crate::harness::Reply::read(&mut stream, false, Instant::now() + Duration::from_secs(30)).unwrap();
    assert_eq!(reply.json()["bytes"], LARGE_BYTES);
    let peak = peak_memory_kib(&stand);
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}

#[test]
fn the_first_bytes_of_an_answer_arrive_before_its_last_are_sent() {
    // The script never sends the rest: a gate that collects the body never shows the first part.
    let raw = RawBackend::start(|connection| {
        connection.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        let _ = connection.read(&mut [0; 1]);
    });
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains("first") {
        let count = stream.read(&mut buffer).expect("the first part arrives");
        assert!(count > 0, "the connection ended");
        seen.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn hop_by_hop_headers_stop_at_the_gate_both_ways() {
    let raw = RawBackend::start(|connection| {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Secret-Hop\r\nX-Secret-Hop: 1\r\n\
                      Keep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\nok";
        connection.write_all(answer.as_bytes()).unwrap();
    });
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let call = Call::new("GET", "/x").header("Connection", "keep-alive, X-Mine").header("X-Mine", "1");
    let call = call
        .header("Keep-Alive", "timeout=9")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "gzip, trailers");
    let call = call.header("X-Kept", "1");
    let reply = stand.send(&call);
    let seen = raw.next();
    for name in ["X-Mine", "Keep-Alive", "Proxy-Connection"] {
        assert_eq!(value_of(&seen, name), None, "{seen}");
    }
    assert_eq!(value_of(&seen, "X-Kept"), Some("1"));
    // Of TE goes on what concerns more than one hop, and the hop's own Connection says so.
    assert_eq!(
        (value_of(&seen, "TE"), value_of(&seen, "Connection")),
        (Some("trailers"), Some("te")),
        "{seen}"
    );
    for name in ["X-Secret-Hop", "Keep-Alive"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    assert_eq!((reply.status, reply.header("X-Kept")), (200, Some("1")));
}

#[test]
fn header_names_keep_their_case_both_ways_guarded_or_not() {
    let raw = RawBackend::start(|connection| {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nX-LEGACY-Answer: 1\r\nWWW-aUTH: x\r\n\r\nok";
        connection.write_all(answer.as_bytes()).unwrap();
    });
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    for call in [Call::new("GET", "/x"), Call::post("/api/x", "{}")] {
        let reply = stand.send(&call.header("X-CuStOm-Header", "1").header("SOAPAction", "book"));
        let seen = raw.next();
        assert!(
            seen.contains("\r\nX-CuStOm-Header: 1\r\n") && seen.contains("\r\nSOAPAction: book\r\n"),
            "{seen}"
        );
        let names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"X-LEGACY-Answer") && names.contains(&"WWW-aUTH"), "{names:?}");
    }
}

#[test]
fn the_request_id_is_one_in_the_answer_the_backend_and_a_problem() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let reply = stand.send(&Call::new("GET", "/x"));
    let id = reply.header("x-request-id").expect("a request id").to_owned();
    assert!(id.len() >= 8, "{id}");
    assert_eq!(value_of(&raw.next(), "x-request-id"), Some(id.as_str()));
    let other = stand.send(&Call::new("GET", "/x"));
    assert_ne!(other.header("x-request-id"), Some(id.as_str()));

    let problem = stand.send(&Call::post("/api/x", "{}").header("Idempotency-Key", "a b"));
    let id = problem.header("x-request-id").expect("a request id");
    assert!(problem.text().contains(id), "{}", problem.text());
}

#[test]
fn the_backend_learns_the_address_that_really_connected() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    stand.send(&Call::new("GET", "/x").header("X-Forwarded-For", "203.0.113.9"));
    let seen = raw.next();
    assert_eq!(value_of(&seen, "x-forwarded-for"), Some("127.0.0.1"), "{seen}");
    assert_eq!(value_of(&seen, "x-forwarded-proto"), Some("http"), "{seen}");
}

#[test]
fn the_chain_of_a_trusted_proxy_is_continued() {
    let raw = RawBackend::start(ok);
    let clients = "trusted_proxies = [\"127.0.0.0/8\"]";
    let stand = Stand::with(Config { backend: Some(raw.address), clients, ..Config::default() });
    stand.send(&Call::new("GET", "/x").header("X-Forwarded-For", "203.0.113.9"));
    let seen = raw.next();
    assert_eq!(value_of(&seen, "x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"), "{seen}");
}

#[test]
fn one_connection_carries_many_requests_and_pipelined_ones_stay_in_order() {
    let stand = Stand::new();
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    let calls: Vec<Call> =
        (0..5).map(|number| Call::post("/api/notes", format!(r#"{{"n":{number}}}"#))).collect();
    let bytes: Vec<u8> = calls.iter().flat_map(|call| call.bytes(stand.gate.address)).collect();
    stream.write_all(&bytes).unwrap();
    let reader = &mut stream;
    // Answers are read one by one, so nothing of the next may be lost: each is asked for its own exact bytes.
    let mut text = String::new();
    let mut buffer = [0; 4096];
    reader.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    while text.matches("{\"id\":").count() < calls.len() {
        let count = reader.read(&mut buffer).expect("all answers arrive");
        assert!(count > 0, "the connection ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let places: Vec<usize> =
        (1..=5).map(|id| text.find(&format!("{{\"id\":{id}}}")).expect("every id")).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(stand.backend.effects().len(), 5);
}

#[test]
fn metrics_and_health_are_told_on_the_admin_port_only() {
    let stand = Stand::new();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(Call::new("GET", path).send(stand.gate.admin).unwrap().status, 200);
    }
    stand.send(&Call::post("/api/notes", "{}"));
    stand.send(&Call::post("/api/notes", "{}"));
    let page = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    assert!(page.contains("replayed") && page.contains("executed"), "{page}");
    assert_eq!(stand.send(&Call::new("GET", "/readyz")).status, 404, "the backend's own page");
}

#[test]
fn writes_without_a_guard_are_counted_on_every_route_and_reads_and_guarded_writes_on_none() {
    let routes = r#"
[[route]]
name = "legacy"
match = ["POST /legacy/book.php", "* /leg/{x}"]
upstream = "scheduler"
"#;
    let stand = Stand::with(Config { routes, ..Config::default() });
    for (method, path) in [
        ("POST", "/legacy/book.php"),
        ("PUT", "/leg/1"),
        ("GET", "/leg/1"),
        ("OPTIONS", "/leg/1"),
        ("POST", "/api/bookings"),
    ] {
        stand.send(&Call::new(method, path).header("Content-Type", "application/json").body("{}"));
    }
    let metrics = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    let counted = metrics.lines().filter(|line| line.starts_with("oncegate_unguarded_mutations_total{"));
    let counted: Vec<&str> = counted.filter(|line| !line.ends_with(" 0")).collect();
    let line = |method: &str| {
        format!("oncegate_unguarded_mutations_total{{route=\"legacy\",method=\"{method}\"}} 1")
    };
    assert_eq!(counted, [line("POST"), line("PUT")]);
}

#[test]
fn the_log_says_the_path_as_it_was_matched() {
    let stand = Stand::new();
    stand.send(&Call::post("/api/./%62ookings?ssn=1", "{}"));
    let line = eventually("the access line is there", || {
        let log = std::fs::read_to_string(&stand.gate.log).unwrap();
        log.lines().find(|line| line.contains("ookings")).map(str::to_owned)
    });
    assert!(line.contains(r#""path":"/api/bookings""#), "{line}");
}
