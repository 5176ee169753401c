//! HTTP/2 in front: the same port, the same guard, the same refusals; and clients that abuse it.

mod abuse;
mod backends;
mod uploads;

use crate::harness::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, WINDOW_UPDATE,
    Wire, block, frame, request,
};
use crate::harness::{Call, Config, LARGE, RawBackend, Stand, curl, eventually, large, ok};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// How long a frame may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn before(raw: &RawBackend) -> Stand {
    Stand::with(Config { backend: Some(raw.address), ..Config::default() })
}

/// The frame with which a stream is answered or ended.
fn outcome(wire: &mut Wire, stream: u32) -> Option<Frame> {
    wire.until(PATIENCE, |frame| {
        frame.kind == GOAWAY || (frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM))
    })
}

#[test]
fn curl_speaks_it_on_the_same_port_and_copies_are_copies_in_either_version() {
    let stand = Stand::new();
    let url = format!("http://{}/api/notes", stand.gate.address);
    let post = |version: &str| {
        let answer = curl(&[version, "--json", "{\"n\":1}", "--header", "Authorization: Bearer a", &url]);
        assert_eq!(answer.status, 201, "{answer:?}");
        (answer.version.clone(), answer.text.to_ascii_lowercase().contains("idempotent-replayed: true"))
    };
    assert_eq!(post("--http2-prior-knowledge"), ("2".into(), false));
    assert_eq!(post("--http2-prior-knowledge"), ("2".into(), true));
    assert_eq!(post("--http1.1"), ("1.1".into(), true));
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn the_backend_gets_a_head_of_http_1() {
    let raw = RawBackend::start(ok);
    let stand = before(&raw);
    let mut wire = Wire::connect(stand.gate.address);
    let more: &[(&str, &[u8])] = &[
        ("accept", b"*/*"),
        ("cookie", b"a=1"),
        ("x-odd-name", b"1"),
        ("cookie", b"b=2"),
        ("te", b"trailers"),
        ("x-list", b"1"),
        ("x-list", b"2"),
    ];
    let head = request("GET", "/a/./b//c%7e?x=%2f", more);
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).unwrap();
    assert_eq!(outcome(&mut wire, 1).unwrap().status(), Some(200));
    let seen = raw.next();
    assert!(
        seen.starts_with("GET /a/b/c~?x=%2F HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nCookie: a=1; b=2\r\n"),
        "{seen}"
    );
    assert!(seen.contains("\r\nX-Odd-Name: 1\r\nX-List: 1\r\nX-List: 2\r\n"), "{seen}");
    assert!(seen.contains("\r\nVia: 2.0 oncegate\r\n"), "{seen}");

    // A body of unknown length.
    wire.send(&frame(HEADERS, END_HEADERS, 3, &request("PUT", "/x", &[]))).unwrap();
    wire.send(&[frame(DATA, 0, 3, b"abc"), frame(DATA, END_STREAM, 3, b"de")].concat()).unwrap();
    assert_eq!(outcome(&mut wire, 3).unwrap().status(), Some(200));
    let seen = raw.next();
    assert!(seen.contains("\r\nTransfer-Encoding: chunked\r\n") && seen.ends_with("0\r\n\r\n"), "{seen}");
}

#[test]
fn heads_that_http_1_would_refuse_are_refused_and_nothing_reaches_the_backend() {
    type Field = (&'static str, &'static [u8]);
    let raw = RawBackend::start(ok);
    let stand = before(&raw);
    let line = |method: &'static [u8], path: &'static [u8]| -> Vec<Field> {
        vec![(":method", method), (":scheme", b"http"), (":authority", b"a"), (":path", path)]
    };
    let with = |more: &[Field]| [&line(b"POST", b"/x")[..], more].concat();
    let cases: Vec<(&str, Vec<Field>)> = vec![
        ("another host", with(&[("host", b"b")])),
        ("two hosts", with(&[("host", b"a"), ("host", b"a")])),
        (
            "userinfo",
            vec![(":method", b"GET"), (":scheme", b"http"), (":authority", b"u@a"), (":path", b"/")],
        ),
        ("no host", vec![(":method", b"GET"), (":scheme", b"http"), (":path", b"/")]),
        ("no path", vec![(":method", b"GET"), (":scheme", b"http"), (":authority", b"a")]),
        ("an empty path", line(b"GET", b"")),
        ("a path without a slash", line(b"GET", b"x")),
        ("a URL as path", line(b"GET", b"http://a/")),
        ("a star of GET", line(b"GET", b"*")),
        ("a space in the path", line(b"GET", b"/a b")),
        ("a second request in the path", line(b"GET", b"/ HTTP/1.1\r\nHost: b\r\n\r\nGET /smuggled")),
        ("NUL in the path", line(b"GET", b"/\0")),
        ("an escaped NUL in the path", line(b"GET", b"/%00")),
        ("an escaped slash", line(b"GET", b"/a%2fb")),
        ("out of the root", line(b"GET", b"/../x")),
        ("a method in lower case", line(b"post", b"/x")),
        ("a method with a line in it", line(b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET", b"/x")),
        ("a tunnel", vec![(":method", b"CONNECT"), (":authority", b"a:80")]),
        ("capital letters", with(&[("X-Up", b"1")])),
        ("a colon in a name", with(&[("x:y", b"1")])),
        ("a space in a name", with(&[("content-length ", b"1")])),
        ("a line in a name", with(&[("x\r\ntransfer-encoding: chunked\r\ny", b"1")])),
        ("a line in a value", with(&[("x", b"1\r\nTransfer-Encoding: chunked")])),
        ("a bare line feed in a value", with(&[("x", b"1\nhost: b")])),
        ("NUL in a value", with(&[("x", b"\0")])),
        ("transfer-encoding", with(&[("transfer-encoding", b"chunked")])),
        ("connection", with(&[("connection", b"close")])),
        ("keep-alive", with(&[("keep-alive", b"1")])),
        ("proxy-connection", with(&[("proxy-connection", b"close")])),
        ("upgrade", with(&[("upgrade", b"websocket")])),
        ("te", with(&[("te", b"chunked")])),
        ("a framing name with an underscore", with(&[("transfer_encoding", b"chunked")])),
        ("a framing name with a dot", with(&[("content.length", b"5")])),
        ("two lengths", with(&[("content-length", b"0"), ("content-length", b"0")])),
        ("two different lengths", with(&[("content-length", b"0"), ("content-length", b"5")])),
        ("a list of lengths", with(&[("content-length", b"0, 0")])),
        ("a length with a sign", with(&[("content-length", b"+0")])),
        ("a length without a body", with(&[("content-length", b"5")])),
        (
            "a pseudo-header behind others",
            vec![
                (":method", b"GET"),
                (":scheme", b"http"),
                (":path", b"/"),
                ("x", b"1"),
                (":authority", b"a"),
            ],
        ),
        ("two paths", [&line(b"GET", b"/a")[..], &[(":path", b"/b")]].concat()),
        ("an unknown pseudo-header", [&line(b"GET", b"/a")[..], &[(":x", b"/b")]].concat()),
        (
            "another scheme",
            vec![(":method", b"GET"), (":scheme", b"file"), (":authority", b"a"), (":path", b"/")],
        ),
    ];
    for (what, fields) in &cases {
        let mut wire = Wire::connect(stand.gate.address);
        wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))).unwrap();
        let answer = outcome(&mut wire, 1).unwrap_or_else(|| panic!("{what}: the stream is ended"));
        assert!(answer.kind != HEADERS || answer.status() == Some(400), "{what}: {answer:?}");
    }
    let many: Vec<_> = (0..101).map(|_| ("x", &b"1"[..])).collect();
    let mut wire = Wire::connect(stand.gate.address);
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/", &many))).unwrap();
    let answer = outcome(&mut wire, 1).expect("the stream is ended");
    assert_ne!(answer.status(), Some(200));
    assert_eq!(raw.waiting(), 0, "no byte reached the backend");
    assert_eq!(stand.send(&Call::new("GET", "/x")).status, 200);
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_claims_nothing() {
    let stand = Stand::new();
    for (length, body) in [("5", &b"{}"[..]), ("1", b"{}")] {
        let mut wire = Wire::connect(stand.gate.address);
        let more: &[(&str, &[u8])] =
            &[("content-type", b"application/json"), ("content-length", length.as_bytes())];
        wire.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/api/notes", more))).unwrap();
        wire.send(&frame(DATA, END_STREAM, 1, body)).unwrap();
        let answer = outcome(&mut wire, 1).expect("the stream is ended");
        assert!(answer.kind != HEADERS || answer.status() == Some(400), "{answer:?}");
    }
    assert!(stand.backend.effects().is_empty() && stand.in_doubt().is_empty());
}

#[test]
fn the_preface_counts_at_the_very_beginning_only() {
    let raw = RawBackend::start(ok);
    let stand = before(&raw);
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.write_all(PREFACE).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 400"), "{answers}");

    // Byte by byte it counts all the same.
    let mut wire = Wire::connect(stand.gate.address);
    let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/x", &[]));
    head.chunks(1).for_each(|byte| wire.send(byte).unwrap());
    assert_eq!(outcome(&mut wire, 1).unwrap().status(), Some(200));

    let off = Config { backend: Some(raw.address), server: "http2 = false", ..Config::default() };
    let stand = Stand::with(off);
    let answer = curl(&["--http2-prior-knowledge", &format!("http://{}/x", stand.gate.address)]);
    assert_ne!(answer.status, 200, "{answer:?}");
    assert_eq!(
        curl(&["--http2", &format!("http://{}/x", stand.gate.address)]).status,
        200,
        "offered, not taken"
    );
}

#[test]
fn many_copies_at_once_on_one_connection_are_one_effect() {
    let stand = Stand::new();
    let mut wire = Wire::connect(stand.gate.address);
    let more: &[(&str, &[u8])] = &[
        ("content-type", b"application/json"),
        ("authorization", b"Bearer a"),
        ("x-demo-fault", b"delay=100"),
    ];
    let streams: Vec<u32> = (0..50).map(|number| number * 2 + 1).collect();
    for stream in &streams {
        let head = request("POST", "/api/notes", more);
        wire.send(
            &[frame(HEADERS, END_HEADERS, *stream, &head), frame(DATA, END_STREAM, *stream, b"{\"n\":1}")]
                .concat(),
        )
        .unwrap();
    }
    let mut bodies = Vec::new();
    while bodies.len() < streams.len() {
        let frame =
            wire.until(PATIENCE, |frame| frame.kind == DATA && !frame.payload.is_empty()).expect("an answer");
        bodies.push(frame.payload);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "one answer for all");
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn what_was_on_its_way_of_refused_uploads_ends_nothing_of_anybody_else() {
    let stand = Stand::new();
    let mut wire = Wire::connect(stand.gate.address);
    wire.send(&frame(WINDOW_UPDATE, 0, 0, &(1u32 << 24).to_be_bytes())).unwrap();
    // Somebody else's write, which is under way all the while.
    wire.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/api/notes", &[]))).unwrap();
    let head = request("POST", "/api/notes", &[("content-length", b"99999999999")]);
    let streams: Vec<u32> = (1..=300).map(|count| 2 * count + 1).collect();
    for stream in &streams {
        wire.send(&frame(HEADERS, END_HEADERS, *stream, &head)).unwrap();
        let is_reset = |frame: &Frame| frame.stream == *stream && frame.kind == RST_STREAM;
        assert_eq!(wire.until(PATIENCE, is_reset).expect("a reset").code(), 0, "it is refused early");
    }
    for stream in &streams {
        (0..3).for_each(|_| wire.send(&frame(DATA, 0, *stream, &[b'x'; 1000])).unwrap());
    }
    wire.send(&frame(DATA, END_STREAM, 1, b"{\"n\":1}")).unwrap();
    let answer = outcome(&mut wire, 1).expect("an answer");
    assert_eq!((answer.kind, answer.stream), (HEADERS, 1), "{answer:?}");
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn a_stream_that_its_client_gives_up_changes_nothing_of_a_write_that_was_sent() {
    let stand = Stand::new();
    let mut wire = Wire::connect(stand.gate.address);
    let more: &[(&str, &[u8])] = &[("content-type", b"application/json"), ("x-demo-fault", b"delay=300")];
    wire.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/api/notes", more))).unwrap();
    wire.send(&frame(DATA, END_STREAM, 1, b"{\"n\":1}")).unwrap();
    stand.wait_for_requests(1);
    wire.send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())).unwrap();
    eventually("the write ends", || (stand.backend.effects().len() == 1).then_some(()));
    wire.send(&frame(HEADERS, END_HEADERS, 3, &request("POST", "/api/notes", more))).unwrap();
    wire.send(&frame(DATA, END_STREAM, 3, b"{\"n\":1}")).unwrap();
    assert!(
        wire.until(PATIENCE, |frame| frame.kind == DATA && frame.stream == 3).is_some(),
        "the copy is answered"
    );
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn a_drain_says_goaway_and_lets_what_runs_run_to_its_end() {
    let stand = Stand::new();
    let mut idle = Wire::connect(stand.gate.address);
    let mut busy = Wire::connect(stand.gate.address);
    let slow: &[(&str, &[u8])] = &[("content-type", b"application/json"), ("x-demo-fault", b"delay=500")];
    busy.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/api/notes", slow))).unwrap();
    busy.send(&frame(DATA, END_STREAM, 1, b"{\"n\":1}")).unwrap();
    stand.wait_for_requests(1);
    stand.terminate();
    assert!(idle.until(PATIENCE, |frame| frame.kind == GOAWAY).is_some_and(|frame| frame.code() == 0));
    assert!(idle.ends(PATIENCE), "also where its client says nothing to it");
    let answer = busy.until(PATIENCE, |frame| frame.kind == DATA && !frame.payload.is_empty());
    assert!(answer.is_some_and(|answer| answer.payload.starts_with(b"{\"id\"")));
    assert_eq!(stand.backend.effects().len(), 1);
}

/// A download that a client does not take holds nothing for ever, and the streams beside it go on.
#[test]
fn an_answer_that_is_not_taken_is_cut_off_alone() {
    let raw = RawBackend::start(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while connection.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let config = Config {
        backend: Some(raw.address),
        server: "write_timeout = \"1s\"",
        upstream: "max_in_flight = 1",
        ..Config::default()
    };
    let stand = Stand::with(config);
    // No window for any stream, but for the connection.
    let mut wire = Wire::with_settings(stand.gate.address, &[(4, 0)]);
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/x", &[]))).unwrap();
    assert_eq!(outcome(&mut wire, 1).unwrap().status(), Some(200));
    assert_eq!(stand.send(&Call::new("GET", "/y")).status, 503, "the backend's only place is taken");
    eventually("the answer is cut off", || {
        let metrics = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
        metrics.contains("oncegate_http2_stalled_total 1\n").then_some(())
    });
    assert!(wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET", "/z", &[]))).is_ok());
    assert_eq!(
        outcome(&mut wire, 3).unwrap().status(),
        Some(200),
        "its place is free, and the connection lives"
    );
    // Who comes back after that finds out.
    wire.send(&frame(WINDOW_UPDATE, 0, 1, &65536u32.to_be_bytes())).unwrap();
    assert!(wire.until(PATIENCE, |frame| frame.kind == RST_STREAM && frame.stream == 1).is_some());
}

#[test]
fn a_head_that_does_not_end_and_a_connection_that_rests_are_closed() {
    let raw = RawBackend::start(ok);
    let server = "header_timeout = \"1s\"\nidle = \"3s\"";
    let stand = Stand::with(Config { backend: Some(raw.address), server, ..Config::default() });
    let mut preface = TcpStream::connect(stand.gate.address).unwrap();
    preface.set_read_timeout(Some(PATIENCE)).unwrap();
    preface.write_all(&PREFACE[..20]).unwrap();
    let mut head = Wire::connect(stand.gate.address);
    head.send(&frame(HEADERS, END_STREAM, 1, &request("GET", "/x", &[])[..5])).unwrap();
    let mut part = Wire::connect(stand.gate.address);
    part.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", "/x", &[]))[..12]).unwrap();
    let mut rest = Wire::connect(stand.gate.address);
    let _reset = preface.read_to_end(&mut Vec::new());
    assert!(head.ends(PATIENCE) && part.ends(PATIENCE));
    assert!(rest.until(PATIENCE, |frame| frame.kind == GOAWAY).is_some(), "a rest ends politely");
    assert!(rest.ends(PATIENCE));
    assert_eq!(raw.waiting(), 0);
}

#[test]
fn a_large_download_and_a_large_upload_pass() {
    let stand = Stand::new();
    let size = 64 << 20;
    let total = |arguments: &[&str], figure: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--http2-prior-knowledge", "--max-time", "60", "--output", "/dev/null"]);
        let output = command.args(["--write-out", figure]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let url = |path: &str| format!("http://{}{path}", stand.gate.address);
    assert_eq!(
        total(&[&url(&format!("/_large?bytes={size}"))], "%{http_code} %{size_download}"),
        format!("200 {size}")
    );
    let file = stand.gate.config.with_file_name("upload");
    std::fs::write(&file, vec![b'x'; size]).unwrap();
    let data = format!("@{}", file.display());
    assert_eq!(
        total(&["--data-binary", &data, &url("/_sink")], "%{http_code} %{size_upload}"),
        format!("200 {size}")
    );
}

#[test]
fn a_drain_lets_a_slow_client_have_the_end_of_its_answer() {
    let raw = RawBackend::start(large);
    let server = "drain = \"20s\"";
    let stand = Stand::with(Config { backend: Some(raw.address), server, ..Config::default() });
    // Its windows let everything through, its socket does not.
    let mut wire = Wire::with_settings(stand.gate.address, &[(4, 1 << 24)]);
    socket2::SockRef::from(&wire.socket).set_recv_buffer_size(4096).unwrap();
    wire.send(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes())).unwrap();
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/large", &[]))).unwrap();
    assert_eq!(outcome(&mut wire, 1).unwrap().status(), Some(200));
    stand.terminate();
    let (mut got, mut ended) = (0, false);
    while let Some(came) = wire.next(PATIENCE) {
        match came.kind {
            DATA => {
                (got, ended) = (got + came.payload.len(), came.flags & END_STREAM != 0);
                // 100 kB a second.
                std::thread::sleep(Duration::from_micros(10 * came.payload.len() as u64));
            }
            PING if came.flags & ACK == 0 => wire.send(&frame(PING, ACK, 0, &came.payload)).unwrap(),
            _ => {}
        }
    }
    assert_eq!((got, ended), (LARGE, true));
}
