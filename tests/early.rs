//! Bodies and answers out of step: answers that come before a body was read, bodies that wait to be asked for, trailers,
//! long waits, and who slows whom down.

use crate::harness::{
    Call, Config, Handed, LARGE, RawBackend, Reply, Stand, assert_problem, eventually, head, large,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

fn connect(stand: &Stand) -> TcpStream {
    let stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn reply(stream: &mut TcpStream) -> Reply {
    Reply::read(stream, false, Instant::now() + PATIENCE).expect("an answer")
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut came = vec![0; bytes.len()];
    stream.read_exact(&mut came).expect("it comes through");
    assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(bytes));
}

#[track_caller]
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let waited = stream.read(&mut [0]).expect_err("nothing comes");
    assert!(matches!(waited.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waited}");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// A body of this size, made of requests.
fn smuggling(size: usize) -> Vec<u8> {
    b"GET /_effects HTTP/1.1\r\nHost: a\r\n\r\n".iter().copied().cycle().take(size).collect()
}

#[test]
fn behind_an_early_answer_a_body_is_read_away_and_never_as_requests() {
    let stand = Stand::with(Config { idempotency: "key = \"header\"", ..Config::default() });
    for framing in ["Content-Length: 60000", "Transfer-Encoding: chunked"] {
        let mut stream = connect(&stand);
        let mut body = smuggling(60_000);
        if framing.starts_with("Transfer") {
            body = [b"ea60\r\n".to_vec(), body, b"\r\n0\r\n\r\n".to_vec()].concat();
        }
        // In pieces, so that the answer is made long before the body's end.
        write!(stream, "POST /api/x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").unwrap();
        assert_problem(&reply(&mut stream), 400, "key-missing");
        for piece in body.chunks(10_000) {
            stream.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        write!(stream, "GET /_sink HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{framing}: one more answer: {rest}");
    }
}

#[test]
fn a_body_that_is_too_large_to_be_read_away_ends_the_connection_and_the_answer_arrives() {
    let stand = Stand::with(Config { server: "body_limit = \"1KiB\"", ..Config::default() });
    let before = stand.backend.requests();
    for framing in ["Content-Length: 4000000", "Transfer-Encoding: chunked"] {
        let mut stream = connect(&stand);
        let mut sender = stream.try_clone().unwrap();
        let sending = thread::spawn(move || {
            let mut body = smuggling(4_000_000);
            if framing.starts_with("Transfer") {
                body = [b"3d0900\r\n".to_vec(), body].concat();
            }
            let _ = write!(sender, "POST /api/x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            let _ = sender.write_all(&body);
        });
        let answer = reply(&mut stream);
        assert_problem(&answer, 413, "body-too-large");
        assert_eq!(answer.header("connection"), Some("close"));
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(String::from_utf8_lossy(&rest), "", "nothing of the body was read as a request");
        sending.join().unwrap();
    }
    assert_eq!(stand.backend.requests(), before);
}

#[test]
fn a_client_that_asks_first_is_not_told_to_go_on_where_its_body_is_not_wanted() {
    let stand = Stand::with(Config {
        idempotency: "key = \"header\"",
        server: "body_limit = \"1KiB\"",
        ..Config::default()
    });
    for (key, length, status) in [("", 5, 400), ("Idempotency-Key: \"k\"\r\n", 5_000, 413)] {
        let mut stream = connect(&stand);
        write!(
            stream,
            "POST /api/x HTTP/1.1\r\nHost: a\r\n{key}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
        .unwrap();
        let answer = head(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    // And where it is wanted, it is.
    let mut stream = connect(&stand);
    write!(
        stream,
        "POST /api/notes HTTP/1.1\r\nHost: a\r\nIdempotency-Key: \"k\"\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    .unwrap();
    expect(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    assert_eq!(reply(&mut stream).status, 201);
}

#[test]
fn whether_an_unguarded_body_is_wanted_is_the_backends_to_say() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let ask = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    // It wants it.
    let mut client = connect(&stand);
    client.write_all(ask.as_bytes()).unwrap();
    let (head_seen, mut backend) = server.next();
    assert!(head_seen.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{head_seen}");
    assert_silent(&mut client);
    backend.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    expect(&mut client, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    expect(&mut backend, b"hello");
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
    assert_eq!(reply(&mut client).text(), "ok");
    // It does not.
    let mut client = connect(&stand);
    client.write_all(ask.as_bytes()).unwrap();
    let (_, mut backend) = server.next();
    backend.write_all(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\nno").unwrap();
    let refused = reply(&mut client);
    assert_eq!((refused.status, &*refused.text()), (413, "no"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(backend.read(&mut [0]).unwrap_or(0), 0, "no body, and no other request behind it");
    // It says nothing: after a while the body is sent all the same.
    let mut client = connect(&stand);
    client.write_all(ask.as_bytes()).unwrap();
    let (_, mut backend) = server.next();
    let begun = Instant::now();
    expect(&mut client, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    client.write_all(b"hello").unwrap();
    expect(&mut backend, b"hello");
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!(reply(&mut client).text(), "ok");
}

#[test]
fn trailers_pass_both_ways() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let mut client = connect(&stand);
    client
        .write_all(
            b"POST /x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
              5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
        .unwrap();
    let (seen, mut backend) = server.next();
    assert!(seen.contains("\r\nTrailer: X-Sum\r\n") && seen.contains("\r\nTE: trailers\r\n"), "{seen}");
    let mut body = Vec::new();
    let mut buffer = [0; 1024];
    while !body.ends_with(b"\r\n\r\n") {
        let count = backend.read(&mut buffer).unwrap();
        body.extend_from_slice(&buffer[..count]);
    }
    let body = String::from_utf8_lossy(&body).to_ascii_lowercase();
    assert!(body.starts_with("5\r\nhello\r\n0\r\n") && body.contains("x-sum: 1\r\n"), "{body}");
    backend
        .write_all(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n",
        )
        .unwrap();
    let answer = head(&mut client);
    assert!(answer.contains("Trailer: X-Sum"), "{answer}");
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let count = client.read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    assert!(text.starts_with("2\r\nok\r\n0\r\n") && text.contains("x-sum: 2\r\n"), "{text}");
}

#[test]
fn extension_methods_pass_with_their_bodies() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let methods = [
        "PROPFIND",
        "PROPPATCH",
        "REPORT",
        "MKCALENDAR",
        "MKCOL",
        "LOCK",
        "UNLOCK",
        "COPY",
        "MOVE",
        "SEARCH",
        "ACL",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "PURGE",
        "M-SEARCH",
        "VERSION-CONTROL",
        "BASELINE-CONTROL",
        "QUERY",
    ];
    for method in methods {
        let mut client = connect(&stand);
        write!(client, "{method} /dav/x HTTP/1.1\r\nHost: a\r\nDepth: 1\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        let (seen, mut backend) = server.next();
        assert!(
            seen.starts_with(&format!("{method} /dav/x HTTP/1.1\r\n")) && seen.contains("\r\nDepth: 1\r\n"),
            "{seen}"
        );
        expect(&mut backend, b"hello");
        backend
            .write_all(b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            .unwrap();
        assert_eq!(reply(&mut client).status, 207, "{method}");
    }
}

#[test]
fn a_client_of_http_1_0_gets_a_streamed_answer_without_chunks() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let mut client = connect(&stand);
    client.write_all(b"GET /x HTTP/1.0\r\n\r\n").unwrap();
    let (_, mut backend) = server.next();
    backend
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(
        !text.to_ascii_lowercase().contains("transfer-encoding") && text.ends_with("\r\n\r\nabcdef"),
        "{text}"
    );
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "the gate's own version: {text}");
}

#[test]
fn a_body_that_looks_like_an_answer_of_http_1_0_stays_as_it_is() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let mut client = connect(&stand);
    for body in ["HTTP/1.0 200 OK", "HTTP/1.0 404 No"] {
        client.write_all(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let (_, mut backend) = server.next();
        backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n").unwrap();
        let head = head(&mut client);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        backend.write_all(body.as_bytes()).unwrap();
        expect(&mut client, body.as_bytes());
    }
}

#[test]
fn what_came_of_an_answer_that_the_backend_breaks_off_reaches_the_client() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    for (framing, part) in
        [("Content-Length: 100", "the begin"), ("Transfer-Encoding: chunked", "9\r\nthe begin\r\n")]
    {
        let mut client = connect(&stand);
        client.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (_, mut backend) = server.next();
        // All at once, so that the gate knows of the end before it has passed anything on.
        backend.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{part}").as_bytes()).unwrap();
        drop(backend);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("the begin"), "{framing}: {text:?}");
        assert!(!text.ends_with("0\r\n\r\n"), "it does not look whole: {text:?}");
    }
}

#[test]
fn a_route_may_wait_longer_than_its_upstream() {
    let server = Handed::start();
    let stand =
        Stand::with(Config { upstream: "timeout = \"300ms\"", rest: "timeout = \"20s\"", ..server.config() });
    let mut client = connect(&stand);
    client.write_all(b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (_, mut backend) = server.next();
    thread::sleep(Duration::from_millis(1_500));
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!(reply(&mut client).text(), "ok");
}

#[test]
fn events_arrive_one_by_one_as_they_are_sent() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    let mut client = connect(&stand);
    client.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    let (_, mut backend) = server.next();
    backend
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
    assert!(head(&mut client).contains("text/event-stream"));
    for number in 0..20 {
        // The next is sent only when this one has come.
        let event = format!("data: {number}\n\n");
        write!(backend, "{:x}\r\n{event}\r\n", event.len()).unwrap();
        expect(&mut client, format!("{:X}\r\n{event}\r\n", event.len()).as_bytes());
    }
}

/// Writes until nothing more is taken; how much was.
fn fill(stream: &mut TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (chunk, mut written) = (vec![b'x'; 64 << 10], 0);
    while let Ok(count) = stream.write(&chunk) {
        written += count;
        assert!(written < 64 << 20, "nobody slows the sender down");
    }
    written
}

#[test]
fn who_reads_slowly_slows_down_who_sends() {
    let server = Handed::start();
    let stand = Stand::with(server.config());
    // The client does not read its answer.
    let mut client = connect(&stand);
    client.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (_, mut backend) = server.next();
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let sent = fill(&mut backend);
    head(&mut client);
    let mut buffer = vec![0; 64 << 10];
    client.read_exact(&mut buffer).unwrap();
    // The backend does not read its request.
    let mut client = connect(&stand);
    client.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let (_, mut backend) = server.next();
    let also_sent = fill(&mut client);
    backend.read_exact(&mut buffer).unwrap();
    assert!(sent < 32 << 20 && also_sent < 32 << 20, "{sent} B and {also_sent} B");
}

#[test]
fn a_drain_does_not_wait_for_the_rest_of_a_body_that_was_answered() {
    let server = Handed::start();
    let mut stand = Stand::with(Config { server: "drain = \"20s\"", ..server.config() });
    let mut client = TcpStream::connect(stand.gate.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n").unwrap();
    client.write_all(&[b'x'; 30_000]).unwrap();
    let (_, mut connection) = server.next();
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 200 "));
    let begun = Instant::now();
    stand.terminate();
    assert!(eventually("the gate ends", || stand.gate.exit_status().unwrap()).success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn an_answer_before_a_reset_arrives() {
    let raw = RawBackend::reading(1000, |connection| {
        let _ = connection
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    });
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let mut wrong = Vec::new();
    for path in ["/api/bookings", "/upload"] {
        for n in 0..20 {
            let size = [20_000, 200_000, 900_000][n % 3];
            let call = Call::new("POST", path).header("Idempotency-Key", &format!("{path}-{n}-0123456789"));
            let reply = stand.send(&call.body(vec![b'y'; size]));
            if (reply.status, &*reply.text()) != (413, "big") {
                wrong.push((path, size, reply.status, reply.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of 40: {wrong:?}", wrong.len());
    assert!(stand.in_doubt().is_empty());
}

#[test]
fn a_drain_lets_a_slow_client_have_the_end_of_its_answer() {
    let raw = RawBackend::start(large);
    let server = "drain = \"20s\"";
    let stand = Stand::with(Config { backend: Some(raw.address), server, ..Config::default() });
    let mut client = connect(&stand);
    socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 200 "));
    stand.terminate();
    let (mut got, mut piece) = (0, [0; 4096]);
    // 100 kB a second.
    while let Ok(count @ 1..) = client.read(&mut piece) {
        got += count;
        thread::sleep(Duration::from_micros(10 * count as u64));
    }
    assert_eq!(got, LARGE);
}

/// How many connections to `backend` are open on the side that made them.
fn open_connections(backend: SocketAddr) -> usize {
    let remote = format!(":{:04X} 01", backend.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .filter(|line| {
            line.split_whitespace().skip(2).take(2).collect::<Vec<_>>().join(" ").ends_with(&remote)
        })
        .count()
}

#[test]
fn what_a_backend_does_not_take_of_a_body_is_given_up_some_time_behind_its_exchange() {
    // Both read no more than the head; one answers.
    let answers = RawBackend::reading(100, |connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        thread::sleep(4 * PATIENCE);
    });
    let hangs = RawBackend::reading(100, |_| thread::sleep(4 * PATIENCE));
    for (backend, status, upstream) in
        [(answers, 200, "stall = \"300ms\""), (hangs, 504, "stall = \"300ms\"\ntimeout = \"500ms\"")]
    {
        let stand = Stand::with(Config { backend: Some(backend.address), upstream, ..Config::default() });
        for leaves in [false, true] {
            let mut client = connect(&stand);
            write!(client, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n").unwrap();
            let mut sender = client.try_clone().unwrap();
            let sending = thread::spawn(move || sender.write_all(&vec![b'x'; 30_000_000]).is_ok());
            assert_eq!(reply(&mut client).status, status);
            if leaves {
                client.shutdown(std::net::Shutdown::Both).unwrap();
            }
            let gone = || (open_connections(backend.address) == 0).then_some(());
            eventually("the connection to the backend ends", gone);
            drop(client);
            sending.join().unwrap();
        }
    }
}
