//! Limits of a connection, and that every answer of the gateway's own is a problem with the request's id.

use crate::harness::{Call, Config, RawBackend, Reply, Stand, assert_problem, eventually, ok};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

fn raw(stand: &Stand, text: &str) -> Reply {
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    Reply::read(&mut stream, text.starts_with("HEAD"), Instant::now() + PATIENCE).expect("an answer")
}

/// Asserts that the answer is a problem that carries the id of its own header.
#[track_caller]
fn assert_ours(reply: &Reply, status: u16, reason: &str) {
    assert_problem(reply, status, reason);
    let id = reply.header("x-request-id").expect("a request id");
    assert_eq!(reply.json()["request_id"], id, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert!(reply.json()["status"] == status);
}

#[test]
fn heads_have_the_limits_that_the_configuration_says() {
    let server = RawBackend::start(ok);
    let limits = "target_limit = \"100B\"\nhead_limit = \"2KiB\"\nheaders_max = 10";
    let stand = Stand::with(Config { backend: Some(server.address), server: limits, ..Config::default() });
    let get =
        |target: &str, lines: &str| raw(&stand, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    assert_eq!(get(&format!("/{}", "a".repeat(99)), "").status, 200);
    assert_ours(&get(&format!("/{}", "a".repeat(100)), ""), 414, "target-too-long");
    assert_eq!(get("/", &"X: y\r\n".repeat(9)).status, 200);
    assert_ours(&get("/", &"X: y\r\n".repeat(10)), 431, "head-too-large");
    assert_eq!(get("/", &format!("X: {}\r\n", "y".repeat(1_900))).status, 200);
    assert_ours(&get("/", &format!("X: {}\r\n", "y".repeat(2_100))), 431, "head-too-large");
    // More than hyper takes by itself.
    let wide = "headers_max = 500\nhead_limit = \"256KiB\"\ntarget_limit = \"64KiB\"";
    let stand = Stand::with(Config { backend: Some(server.address), server: wide, ..Config::default() });
    let get =
        |target: &str, lines: &str| raw(&stand, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    assert_eq!(get("/", &"X: y\r\n".repeat(499)).status, 200);
    assert_ours(&get("/", &"X: y\r\n".repeat(500)), 431, "head-too-large");
    assert_eq!(
        get(&format!("/{}", "a".repeat(60_000)), &format!("X: {}\r\n", "y".repeat(190_000))).status,
        200
    );
}

#[test]
fn an_address_has_so_many_connections_and_a_trusted_proxy_any_number() {
    let stand = Stand::with(Config { server: "connections_per_address = 3", ..Config::default() });
    let connect = |from: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)).into()).unwrap();
        socket.connect(&stand.gate.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let serves = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"GET /_effects HTTP/1.1\r\nHost: a\r\n\r\n");
        Reply::read(stream, false, Instant::now() + PATIENCE).is_ok_and(|reply| reply.status == 200)
    };
    let mut open: Vec<_> = (0..3).map(|_| connect(2)).collect();
    assert!(open.iter_mut().all(serves));
    assert!(!serves(&mut connect(2)), "the fourth is closed at once");
    assert!(serves(&mut connect(3)), "another address has its own");
    let page = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    assert!(page.contains("oncegate_connections_refused_total 1"), "{page}");
    open.pop();
    eventually("a place is free again", || serves(&mut connect(2)).then_some(()));

    let trusting = Stand::with(Config {
        server: "connections_per_address = 1",
        clients: "trusted_proxies = [\"127.0.0.0/8\"]",
        ..Config::default()
    });
    let held: Vec<_> = (0..5).map(|_| TcpStream::connect(trusting.gate.address).unwrap()).collect();
    assert_eq!(trusting.send(&Call::new("GET", "/_effects")).status, 200);
    drop(held);
}

#[test]
fn every_answer_of_the_gateways_own_is_a_problem_with_the_requests_id() {
    let stand = Stand::with(Config {
        server: "body_limit = \"1KiB\"",
        idempotency: "key = \"header\"\nremember = \"1h\"",
        upstream: "max_in_flight = 1",
        ..Config::default()
    });
    let key = |call: Call, key: &str| call.header("Idempotency-Key", key);
    assert_ours(&raw(&stand, "GET / HTTP/1.1\r\n\r\n"), 400, "bad-request");
    assert_ours(&raw(&stand, "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n"), 400, "bad-request");
    assert_ours(&stand.send(&Call::new("GET", "/a%2fb")), 400, "bad-target");
    assert_ours(&raw(&stand, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"), 400, "bad-request");
    assert_ours(&stand.send(&Call::post("/api/x", "{}")), 400, "key-missing");
    assert_ours(&stand.send(&key(Call::post("/api/x", "{}"), "a b")), 400, "key-malformed");
    let upgrade = Call::new("POST", "/api/x").header("Connection", "upgrade").header("Upgrade", "websocket");
    assert_ours(&stand.send(&upgrade), 400, "upgrade-refused");
    assert_ours(&stand.send(&key(Call::post("/api/x", "x".repeat(2_000)), "k1")), 413, "body-too-large");
    let long = key(Call::post("/api/notes", "{}"), "k2").header("X-Demo-Fault", "delay=1500");
    let busy = std::thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&long));
        stand.wait_for_requests(1);
        let busy = stand.send(&Call::new("GET", "/_effects"));
        assert_eq!(first.join().unwrap().status, 201);
        busy
    });
    assert_ours(&busy, 503, "overloaded");
    assert_eq!(busy.header("retry-after"), Some("1"));
    assert_ours(&stand.send(&key(Call::post("/api/notes", "{\"other\":1}"), "k2")), 422, "key-reused");
    // The client's own id is kept in all of them.
    let reply = stand.send(&Call::post("/api/x", "{}").header("X-Request-Id", "mine-1"));
    assert_eq!(reply.json()["request_id"], "mine-1");

    let away = Stand::with(Config { backend: Some(([127, 0, 0, 1], 1).into()), ..Config::default() });
    assert_ours(&away.send(&Call::new("GET", "/x")), 502, "upstream-unreachable");
    let broken = RawBackend::start(|_| {});
    let stand = Stand::with(Config { backend: Some(broken.address), ..Config::default() });
    assert_ours(&stand.send(&Call::new("GET", "/x")), 502, "upstream-failed");
    let silent = RawBackend::start(|connection| drop(connection.read(&mut [0])));
    let stand = Stand::with(Config {
        backend: Some(silent.address),
        upstream: "timeout = \"300ms\"",
        ..Config::default()
    });
    assert_ours(&stand.send(&Call::new("GET", "/x")), 504, "upstream-timeout");
}

#[test]
fn the_flood_guard_stands_before_everything_and_counts_addresses() {
    let server = "\n[server.flood]\nrequests_per_second = 2\nburst = 5";
    let stand =
        Stand::with(Config { server, clients: "trusted_proxies = [\"127.0.0.0/8\"]", ..Config::default() });
    let from = |address: &str| stand.send(&Call::new("GET", "/_effects").header("X-Forwarded-For", address));
    assert!((0..5).all(|_| from("192.0.2.1").status == 200));
    let before = stand.backend.requests();
    let refused = from("198.51.100.7, 192.0.2.1");
    assert_ours(&refused, 429, "flooded");
    let wait: u64 = refused.header("retry-after").expect("a wait").parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    // Also where no route would be found, and a guarded write.
    assert_ours(
        &stand.send(&Call::post("/api/x", "{}").header("X-Forwarded-For", "192.0.2.1")),
        429,
        "flooded",
    );
    assert_eq!(stand.backend.requests(), before);
    assert_eq!(from("192.0.2.2").status, 200, "another address has its own");
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(from("192.0.2.1").status, 200, "who comes back when it was told to is let in");
}
