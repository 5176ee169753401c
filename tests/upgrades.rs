//! Upgrades: what switches, what does not, that no byte flows before the backend agrees, and how it ends.

use crate::harness::{Call, Config, Handed, Reply, Stand, assert_problem, eventually, head};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The next connection, agreed to.
fn agree(server: &Handed) -> TcpStream {
    let (head, mut connection) = server.next();
    let lower = head.to_ascii_lowercase();
    assert!(
        lower.contains("\r\nupgrade: websocket\r\n") && lower.contains("\r\nconnection: upgrade\r\n"),
        "{head}"
    );
    assert!(lower.contains("\r\nsec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n"), "{head}");
    connection.write_all(AGREED.as_bytes()).unwrap();
    connection
}

fn open(stand: &Stand, ask: &str) -> TcpStream {
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(ask.as_bytes()).unwrap();
    stream
}

/// A client and a server, joined through the gate.
fn joined(stand: &Stand, server: &Handed) -> (TcpStream, TcpStream) {
    let mut client = open(stand, ASK);
    let connection = agree(server);
    let answer = head(&mut client);
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(
        lower.contains("\r\nupgrade: websocket\r\n") && lower.contains("\r\nconnection: upgrade\r\n"),
        "{answer}"
    );
    assert!(lower.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    (client, connection)
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut came = vec![0; bytes.len()];
    stream.read_exact(&mut came).expect("it comes through");
    assert_eq!(came, bytes);
}

fn gauge(stand: &Stand) -> String {
    let page = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    page.lines().find(|line| line.starts_with("oncegate_upgrades ")).unwrap_or_default().to_owned()
}

#[test]
fn bytes_flow_both_ways_behind_a_101_and_are_no_http() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let (mut client, mut connection) = joined(&stand, &server);
    client.write_all(b"\x81\x85mask\0\n\r GET / HTTP/1.1").unwrap();
    expect(&mut connection, b"\x81\x85mask\0\n\r GET / HTTP/1.1");
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| connection.write_all(&large).unwrap());
        expect(&mut client, &large);
    });
    thread::scope(|scope| {
        scope.spawn(|| client.write_all(&large).unwrap());
        expect(&mut connection, &large);
    });
    assert_eq!(gauge(&stand), "oncegate_upgrades 1");
    drop(client);
    assert_eq!(connection.read(&mut [0]).unwrap_or(0), 0, "the server learns that the client has left");
    drop(connection);
    eventually("the tunnel is gone", || (gauge(&stand) == "oncegate_upgrades 0").then_some(()));
}

#[test]
fn no_byte_flows_before_the_backend_agrees() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let mut client = open(&stand, ASK);
    let (_, mut connection) = server.next();
    // What is sent now can only be one more request, which waits for the answer before it.
    client.write_all(b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let waited = connection.read(&mut [0]).expect_err("nothing comes");
    assert!(matches!(waited.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waited}");
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(AGREED.as_bytes()).unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    expect(&mut connection, b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.write_all(b"hello").unwrap();
    expect(&mut client, b"hello");
}

#[test]
fn a_backend_may_decline_and_the_connection_goes_on() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let mut client = open(&stand, ASK);
    let (_, mut connection) = server.next();
    connection.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
    let reply = Reply::read(&mut client, false, Instant::now() + PATIENCE).unwrap();
    assert_eq!((reply.status, &*reply.text()), (403, "no"));
    eventually("its place is free", || (gauge(&stand) == "oncegate_upgrades 0").then_some(()));
    client.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(head(&mut connection).starts_with("GET /next "), "on the same connection to the backend");
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!(Reply::read(&mut client, false, Instant::now() + PATIENCE).unwrap().text(), "ok");
}

#[test]
fn what_no_route_lists_passes_as_a_plain_request() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let asks = [
        ASK.replace("websocket", "h2c"),
        ASK.replace("websocket", "chat/1"),
        ASK.replace("websocket", "websocket, h2c"),
        ASK.replace("Connection: Upgrade\r\n", "Connection: close\r\n").replace("websocket", "TLS/1.0"),
        ASK.replace("GET /chat HTTP/1.1\r\n", "POST /chat HTTP/1.1\r\nContent-Length: 0\r\n"),
        ASK.replace("HTTP/1.1\r\n", "HTTP/1.0\r\n"),
    ];
    for ask in asks {
        let mut client = open(&stand, &ask);
        let (head, mut connection) = server.next();
        let lower = head.to_ascii_lowercase();
        assert!(!lower.contains("\r\nupgrade:") && !lower.contains("\r\nconnection:"), "{head}");
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        assert_eq!(Reply::read(&mut client, false, Instant::now() + PATIENCE).unwrap().text(), "ok", "{ask}");
    }
    let none = Stand::with(Config { rest: "upgrade = []", ..server.config() });
    let mut client = open(&none, ASK);
    let (head, mut connection) = server.next();
    assert!(!head.to_ascii_lowercase().contains("\r\nupgrade:"), "{head}");
    connection.write_all(AGREED.as_bytes()).unwrap();
    let reply = Reply::read(&mut client, false, Instant::now() + PATIENCE).unwrap();
    assert_problem(&reply, 502, "upstream-ambiguous");
}

#[test]
fn a_protocol_that_its_route_lists_switches_and_no_other() {
    let server = Handed::start();
    let stand = Stand::with(Config { rest: "upgrade = [\"x-chat\"]", ..server.config() });
    let mut client = open(&stand, &ASK.replace("websocket", "X-Chat"));
    let (_, mut connection) = server.next();
    connection.write_all(AGREED.replace("websocket", "x-chat").as_bytes()).unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    connection.write_all(b"hello").unwrap();
    expect(&mut client, b"hello");
    // One that switches to something else has not understood.
    let mut client = open(&stand, &ASK.replace("websocket", "x-chat"));
    server.next().1.write_all(AGREED.as_bytes()).unwrap();
    let reply = Reply::read(&mut client, false, Instant::now() + PATIENCE).unwrap();
    assert_problem(&reply, 502, "upstream-ambiguous");
}

#[test]
fn a_guarded_route_switches_to_nothing() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    for (method, path) in
        [("POST", "/api/x"), ("POST", "/api/x/"), ("GET", "/assessments/new"), ("HEAD", "/assessments/new/")]
    {
        let reply = stand
            .send(&Call::new(method, path).header("Connection", "Upgrade").header("Upgrade", "websocket"));
        assert_eq!(reply.status, 400, "{method} {path}");
        if method != "HEAD" {
            assert_problem(&reply, 400, "upgrade-refused");
        }
    }
    assert!(server.connections.try_recv().is_err(), "the backend has seen nothing");
}

#[test]
fn there_is_room_for_so_many_and_a_rest_that_is_too_long_ends() {
    let server = Handed::start();
    let limits = "upgrades_max = 1\nupgrade_idle = \"1s\"";
    let stand = Stand::with(Config { server: limits, ..server.config() });
    let (mut client, mut connection) = joined(&stand, &server);
    let mut second = open(&stand, ASK);
    let refused = Reply::read(&mut second, false, Instant::now() + PATIENCE).unwrap();
    assert_problem(&refused, 503, "overloaded");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_600) {
        connection.write_all(b"tick").unwrap();
        expect(&mut client, b"tick");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "it ends when nothing moves");
    assert!(begun.elapsed() > Duration::from_millis(2_500) && begun.elapsed() < Duration::from_secs(5));
    assert_eq!(connection.read(&mut [0]).unwrap_or(0), 0);
    eventually("its place is free", || (gauge(&stand) == "oncegate_upgrades 0").then_some(()));
    joined(&stand, &server);
}

#[test]
fn a_drain_says_goodbye_between_two_frames() {
    let server = Handed::start();
    let mut stand = Stand::with(server.config());
    let (mut client, mut connection) = joined(&stand, &server);
    // In the middle of a frame, both ways: nothing may be put there.
    connection.write_all(b"\x82\x05he").unwrap();
    expect(&mut client, b"\x82\x05he");
    client.write_all(b"\x82\x85\x01\x02\x03\x04ab").unwrap();
    expect(&mut connection, b"\x82\x85\x01\x02\x03\x04ab");
    stand.terminate();
    thread::sleep(Duration::from_millis(600));
    connection.write_all(b"llo").unwrap();
    client.write_all(b"cde").unwrap();
    expect(&mut client, b"llo\x88\x02\x03\xe9");
    expect(&mut connection, b"cde\x88\x82\x01\x02\x03\x04\x02\xeb");
    // The replies end both connections.
    client.write_all(b"\x88\x82\0\0\0\0\x03\xe9").unwrap();
    connection.write_all(b"\x88\x02\x03\xe9").unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end of the bytes and no reset");
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
    let begun = Instant::now();
    eventually("the gate has ended", || stand.gate.exit_status().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(3), "the gate ends with its last connection");
}

#[test]
fn a_drain_that_begins_before_the_backend_agrees_says_goodbye_behind_the_101() {
    // Before the gate's workers have looked at their connections again, and after that.
    for wait in [Duration::ZERO, Duration::from_millis(600)] {
        let server = Handed::start();
        let stand = Stand::with(server.config());
        let mut client = open(&stand, ASK);
        let (_, mut connection) = server.next();
        stand.terminate();
        eventually("it drains", || TcpStream::connect(stand.gate.address).is_err().then_some(()));
        thread::sleep(wait);
        connection.write_all(AGREED.as_bytes()).unwrap();
        let answer = head(&mut client).to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 101 ") && answer.contains("\r\nconnection: upgrade\r\n"),
            "{answer}"
        );
        assert!(!answer.contains("close"), "{answer}");
        expect(&mut client, b"\x88\x02\x03\xe9");
    }
}

#[test]
fn a_drain_does_not_wait_for_those_who_say_nothing() {
    let server = Handed::start();
    let mut stand = Stand::with(Config { rest: "upgrade = [\"x-chat\", \"websocket\"]", ..server.config() });
    let (mut client, _connection) = joined(&stand, &server);
    let mut other = open(&stand, &ASK.replace("websocket", "x-chat"));
    let (_, mut raw) = server.next();
    raw.write_all(AGREED.replace("websocket", "x-chat").as_bytes()).unwrap();
    assert!(head(&mut other).starts_with("HTTP/1.1 101 "));
    let begun = Instant::now();
    stand.terminate();
    expect(&mut client, b"\x88\x02\x03\xe9");
    assert_eq!(other.read(&mut [0]).unwrap(), 0, "another protocol just ends");
    assert_eq!(raw.read(&mut [0]).unwrap(), 0);
    eventually("the gate has ended", || stand.gate.exit_status().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_connection_that_carried_a_streamed_body_is_not_the_one_that_switches() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let mut client = open(&stand, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    client.write_all(&[b'x'; 200_000]).unwrap();
    let (_, mut first) = server.next();
    first.read_exact(&mut vec![0; 200_000]).unwrap();
    first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 200 "));
    // The backend keeps that one open, and agrees on whichever comes.
    thread::spawn(move || {
        let _ = head(&mut first);
        let _ = first.write_all(AGREED.as_bytes());
    });
    client.write_all(ASK.as_bytes()).unwrap();
    let _second = agree(&server);
    let answer = head(&mut client);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

#[test]
fn an_upgrade_that_connection_does_not_name_is_none() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    for connection in ["", "Connection: keep-alive\r\n"] {
        let mut client =
            open(&stand, &format!("GET /chat HTTP/1.1\r\nHost: a\r\n{connection}Upgrade: websocket\r\n\r\n"));
        let (asked, mut backend) = server.next();
        assert!(!asked.to_ascii_lowercase().contains("upgrade"), "{asked}");
        backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        assert!(head(&mut client).starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

/// One that waits for the backend's only place, which the exchange that is given back has.
fn waiting_for_its_place(stand: &Stand, server: &Handed) -> (TcpStream, TcpStream, TcpStream) {
    let first = open(stand, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    let (_, connection) = server.next();
    let client = open(stand, ASK);
    eventually("it waits for its place", || {
        let page = Call::new("GET", "/metrics").send(stand.gate.admin).ok()?.text();
        page.contains("oncegate_upstream_waiting{upstream=\"scheduler\"} 1").then_some(())
    });
    assert!(server.connections.try_recv().is_err(), "it was sent before its turn");
    (first, connection, client)
}

#[test]
fn what_waits_for_its_place_at_the_backend_switches_when_its_turn_comes_and_keeps_no_place() {
    let server = Handed::start();
    let upstream = "max_in_flight = 1\nqueue = 1\nqueue_wait = \"8s\"";
    let stand = Stand::with(Config { upstream, ..server.config() });
    let (mut first, mut connection, mut client) = waiting_for_its_place(&stand, &server);
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!(Reply::read(&mut first, false, Instant::now() + PATIENCE).unwrap().text(), "ok");
    let mut switched = agree(&server);
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    client.write_all(b"\x81\x80mask").unwrap();
    expect(&mut switched, b"\x81\x80mask");
    first.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(head(&mut connection).starts_with("GET /next "), "an open tunnel takes no place");
}

#[test]
fn what_waits_too_long_for_its_place_at_the_backend_is_refused_and_its_connection_goes_on() {
    let server = Handed::start();
    let upstream = "max_in_flight = 1\nqueue = 1\nqueue_wait = \"500ms\"";
    let stand = Stand::with(Config { upstream, ..server.config() });
    let (_first, mut connection, mut client) = waiting_for_its_place(&stand, &server);
    let refused = Reply::read(&mut client, false, Instant::now() + PATIENCE).unwrap();
    assert_problem(&refused, 503, "overloaded");
    eventually("its place among the upgrades is free", || {
        (gauge(&stand) == "oncegate_upgrades 0").then_some(())
    });
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    client.write_all(ASK.as_bytes()).unwrap();
    let mut next = head(&mut connection);
    if next.is_empty() {
        // It asks on a connection of its own.
        next = server.next().0;
    }
    assert!(next.starts_with("GET /chat "), "{next}");
}
