//! The PROXY protocol: who may say whose connection it is, and what becomes of a header that is wrong or comes from others.

use crate::harness::{Authority, Call, Config, RawBackend, Stand, assert_problem, eventually, ok};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]";
const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A gate that trusts this machine, before a backend that tells what it got.
fn stand(clients: &'static str, server: &'static str) -> (RawBackend, Stand) {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), clients, server, ..Config::default() });
    (raw, stand)
}

/// Everything that comes back for these bytes.
fn exchange(stand: &Stand, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, addresses].concat()
}

fn forwarded_for(seen: &str) -> Option<&str> {
    seen.lines().find_map(|line| line.strip_prefix("X-Forwarded-For: "))
}

#[test]
fn a_trusted_proxy_says_whose_connection_it_passes_on() {
    let (raw, stand) = stand(TRUSTED, "");
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0, 80, 1, 187]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 203, 0, 113, 9], &[0; 16], &[0, 80, 1, 187]].concat();
    let cases: [(Vec<u8>, &str); 6] = [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 5000 443\r\n".to_vec(), "203.0.113.9"),
        (version_2(0x21, 0x11, &[203, 0, 113, 9, 192, 0, 2, 1, 0, 80, 1, 187]), "203.0.113.9"),
        (version_2(0x21, 0x21, &v6), "2001:db8::7"),
        (version_2(0x21, 0x21, &mapped), "203.0.113.9"),
    ];
    for (header, client) in cases {
        let answer = exchange(&stand, &[&header[..], REQUEST].concat());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(forwarded_for(&raw.next()), Some(client));
        let told = format!("\"client\":\"{}\"", client.replace("::7", "::"));
        eventually("the log names the client", || {
            std::fs::read_to_string(&stand.gate.log).unwrap().contains(&told).then_some(())
        });
    }
}

#[test]
fn a_client_behind_a_trusted_proxy_is_not_trusted_for_that() {
    let (raw, stand) = stand(TRUSTED, "");
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n";
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.9.9\r\nConnection: close\r\n\r\n";
    exchange(&stand, &[&header[..], request].concat());
    assert_eq!(forwarded_for(&raw.next()), Some("203.0.113.9"));
}

#[test]
fn health_checks_and_unknown_clients_keep_the_proxys_own_address() {
    let (raw, stand) = stand(TRUSTED, "");
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), version_2(0x20, 0, &[]), Vec::new()] {
        let answer = exchange(&stand, &[&header[..], REQUEST].concat());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(forwarded_for(&raw.next()), Some("127.0.0.1"));
    }
}

#[test]
fn a_malformed_header_closes_the_connection_and_no_byte_reaches_the_backend() {
    let (raw, stand) = stand(TRUSTED, "");
    let huge = [V2_SIGNATURE, &[0x21, 0x11, 0xff, 0xff], &[0; 2000][..]].concat();
    let cases: [Vec<u8>; 7] = [
        b"PROXY TCP4 nobody 192.0.2.1 5000 443\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\n".to_vec(),
        [&b"PROXY TCP4 "[..], &[b'1'; 300]].concat(),
        version_2(0x31, 0x11, &[203, 0, 113, 9, 192, 0, 2, 1, 0, 80, 1, 187]),
        version_2(0x21, 0x11, &[203, 0, 113]),
        huge,
    ];
    let count = cases.len();
    for header in cases {
        assert_eq!(exchange(&stand, &[&header[..], REQUEST].concat()), "", "{header:?}");
    }
    assert_eq!(raw.waiting(), 0);
    eventually("all of them are counted", || {
        let metrics = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
        metrics.contains(&format!("oncegate_proxy_headers_refused_total {count}\n")).then_some(())
    });
}

#[test]
fn a_header_that_does_not_end_is_given_as_long_as_a_requests_head() {
    let (raw, stand) = stand(TRUSTED, "header_timeout = \"1s\"");
    for begun in [&b"PROXY TCP4 203."[..], b"PROX", V2_SIGNATURE] {
        assert_eq!(exchange(&stand, begun), "");
    }
    assert_eq!(raw.waiting(), 0);
}

#[test]
fn from_anybody_else_a_header_is_a_malformed_request() {
    let binary = version_2(0x21, 0x11, &[203, 0, 113, 9, 192, 0, 2, 1, 0, 80, 1, 187]);
    for (clients, server) in
        [("", ""), ("trusted_proxies = [\"10.0.0.0/8\"]", ""), (TRUSTED, "proxy_protocol = false")]
    {
        let (raw, stand) = stand(clients, server);
        for header in [&b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n"[..], &binary] {
            let answer = exchange(&stand, &[header, REQUEST].concat());
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        assert_eq!(raw.waiting(), 0);
        assert_eq!(stand.send(&Call::new("GET", "/x")).status, 200);
    }
}

#[test]
fn the_header_stands_before_tls_and_before_http_2() {
    let raw = RawBackend::start(ok);
    let config = Config {
        backend: Some(raw.address),
        clients: TRUSTED,
        server: "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"",
        ..Config::default()
    };
    let mut stand = Stand::stopped(config);
    let file = |name: &str| stand.gate.config.with_file_name(name);
    let authority = Authority::new("the test's own");
    authority.write(&file("ca.pem"));
    authority.issue(&["localhost", "127.0.0.1"], "gate", &file("cert.pem"), &file("key.pem"));
    stand.start();
    let ca = stand.gate.config.with_file_name("ca.pem");
    let url = format!("https://{}/x", stand.gate.address);
    for version in ["--http1.1", "--http2"] {
        let answer =
            crate::harness::curl(&["--haproxy-protocol", version, "--cacert", ca.to_str().unwrap(), &url]);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(forwarded_for(&raw.next()), Some("127.0.0.1"));
    }
    // A header that comes encrypted is a request's beginning, and none at all.
    let refused = crate::harness::curl(&["--cacert", ca.to_str().unwrap(), &url]);
    assert_eq!(refused.status, 200, "without a header it is the proxy's own: {refused:?}");
}

#[test]
fn limits_and_copies_go_by_the_client_that_was_named() {
    let stand = Stand::with(Config { clients: TRUSTED, ..Config::default() });
    let post = b"POST /api/notes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 7\r\nConnection: close\r\n\r\n{\"n\":1}";
    let from = |address: &str| {
        exchange(&stand, &[format!("PROXY TCP4 {address} 192.0.2.1 5000 80\r\n").as_bytes(), post].concat())
    };
    assert!(from("203.0.113.9").starts_with("HTTP/1.1 201"));
    assert!(from("203.0.113.9").contains("Idempotent-Replayed: true"), "one anonymous client's double click");
    assert!(from("203.0.113.10").starts_with("HTTP/1.1 201"), "somebody else");
    assert_eq!(stand.backend.effects().len(), 2);
    let problem = stand.send(&Call::post("/api/notes", "{}").header("Idempotency-Key", "a b"));
    assert_problem(&problem, 400, "key-malformed");
}
