//! TLS on both sides: certificates by name and while they change, clients that prove themselves, backends that have to.

use crate::harness::frames::PREFACE;
use crate::harness::{Authority, Call, Config, RawBackend, Stand, assert_problem, curl, eventually, ok};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TLS: &str = "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"";

/// A gate with TLS and everything that its clients need.
struct Secure {
    stand: Stand,
    authority: Authority,
}

impl Secure {
    /// `more` writes what the configuration names beside `cert.pem` and `key.pem`.
    fn start(config: Config, more: impl FnOnce(&Secure)) -> Secure {
        let mut secure =
            Secure { stand: Stand::stopped(config), authority: Authority::new("the test's own") };
        secure.authority.write(&secure.file("ca.pem"));
        secure.issue("", &["localhost", "127.0.0.1"], "gate");
        more(&secure);
        secure.stand.start();
        secure
    }

    fn file(&self, name: &str) -> PathBuf {
        self.stand.gate.config.with_file_name(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    /// Writes `{prefix}cert.pem` and `{prefix}key.pem`.
    fn issue(&self, prefix: &str, names: &[&str], subject: &str) {
        let (cert, key) = (self.file(&format!("{prefix}cert.pem")), self.file(&format!("{prefix}key.pem")));
        self.authority.issue(names, subject, &cert, &key);
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.stand.gate.address)
    }

    /// curl, with the authority.
    fn get(&self, more: &[&str]) -> crate::harness::Curled {
        let (ca, url) = (self.path("ca.pem"), self.url("/x"));
        curl(&[&["--cacert", &ca], more, &[&url]].concat())
    }

    /// What `openssl s_client` says.
    fn openssl(&self, more: &[&str]) -> String {
        let address = self.stand.gate.address.to_string();
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address]).args(more).stdin(Stdio::null());
        let output = command.output().expect("openssl is installed (scripts/test does that)");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn metric(&self, name: &str) -> u64 {
        let text = Call::new("GET", "/metrics").send(self.stand.gate.admin).unwrap().text();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
    }
}

fn before(raw: &RawBackend, server: &'static str, clients: &'static str) -> Config {
    Config { backend: Some(raw.address), server, clients, ..Config::default() }
}

#[test]
fn clients_choose_their_version_of_http_and_the_backend_learns_that_it_was_https() {
    let raw = RawBackend::start(ok);
    let secure = Secure::start(before(&raw, TLS, ""), |_| {});
    for (version, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let answer = secure.get(&[version]);
        assert_eq!((answer.status, &*answer.version), (200, spoken), "{answer:?}");
        let seen = raw.next();
        assert!(seen.contains("\r\nX-Forwarded-Proto: https\r\n"), "{seen}");
    }
    let off = Config {
        server: "http2 = false\n[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"",
        ..before(&raw, "", "")
    };
    let secure = Secure::start(off, |_| {});
    assert_eq!(secure.get(&["--http2"]).version, "1.1");
}

#[test]
fn old_versions_of_tls_are_refused() {
    let raw = RawBackend::start(ok);
    let secure = Secure::start(before(&raw, TLS, ""), |_| {});
    for (version, spoken) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        assert!(secure.openssl(&[version]).contains(spoken), "{version}");
    }
    let old = secure.openssl(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(old.contains("alert") && !old.contains("Cipher is ECDHE"), "{old}");
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let raw = RawBackend::start(ok);
    let config = before(
        &raw,
        "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
         [[server.tls.certificate]]\ncert = \"shop-cert.pem\"\nkey = \"shop-key.pem\"\n\
         [[server.tls.certificate]]\ncert = \"wild-cert.pem\"\nkey = \"wild-key.pem\"",
        "",
    );
    let secure = Secure::start(config, |secure| {
        secure.issue("shop-", &["shop.example"], "shop");
        secure.issue("wild-", &["*.shop.example"], "wild");
    });
    let cases = [
        ("shop.example", "CN = shop"),
        ("SHOP.example", "CN = shop"),
        ("a.shop.example", "CN = wild"),
        ("a.b.shop.example", "CN = gate"),
        ("other.example", "CN = gate"),
    ];
    for (name, subject) in cases {
        let shown = secure.openssl(&["-servername", name]);
        assert!(shown.contains(&format!("subject={subject}")), "{name}: {shown}");
    }
    let shown = secure.openssl(&["-noservername"]);
    assert!(shown.contains("subject=CN = gate"), "{shown}");
}

#[test]
fn changed_files_are_taken_into_use_and_a_half_written_pair_is_not() {
    let raw = RawBackend::start(ok);
    let secure = Secure::start(before(&raw, TLS, ""), |_| {});
    let subject = |name: &str| secure.openssl(&[]).contains(&format!("subject=CN = {name}"));
    assert!(subject("gate"));
    // A client that is there stays there.
    let mut staying = Command::new("openssl");
    staying.args(["s_client", "-quiet", "-connect", &secure.stand.gate.address.to_string()]);
    let mut staying =
        staying.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();

    secure.issue("new-", &["localhost", "127.0.0.1"], "renewed");
    std::fs::rename(secure.file("new-cert.pem"), secure.file("cert.pem")).unwrap();
    eventually("the mismatch is told", || {
        (secure.metric("oncegate_tls_certificates_stale") == 1).then_some(())
    });
    assert!(subject("gate"), "the pair that was read before serves on");
    std::fs::rename(secure.file("new-key.pem"), secure.file("key.pem")).unwrap();
    eventually("the new pair is in use", || subject("renewed").then_some(()));
    assert_eq!(secure.metric("oncegate_tls_certificates_stale"), 0);

    std::fs::write(secure.file("cert.pem"), "").unwrap();
    eventually("an empty file is told", || {
        (secure.metric("oncegate_tls_certificates_stale") == 1).then_some(())
    });
    assert!(subject("renewed"));
    let log = std::fs::read_to_string(&secure.stand.gate.log).unwrap();
    assert!(log.contains("is not that of the certificate") && log.contains("holds no certificate"), "{log}");

    let mut input = staying.stdin.take().unwrap();
    input.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    staying.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(input);
    staying.wait().unwrap();
}

const MUTUAL: &str = "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"clients.pem\"";

#[test]
fn where_certificates_are_required_nobody_else_gets_a_byte_through() {
    let raw = RawBackend::start(ok);
    let stranger = Authority::new("somebody else");
    let secure = Secure::start(before(&raw, MUTUAL, ""), |secure| {
        secure.authority.write(&secure.file("clients.pem"));
        secure.issue("ann-", &["ann"], "ann");
        stranger.issue(&["ann"], "ann", &secure.file("false-cert.pem"), &secure.file("false-key.pem"));
    });
    let with = |who: &str| {
        let (cert, key) = (secure.path(&format!("{who}-cert.pem")), secure.path(&format!("{who}-key.pem")));
        secure.get(&["--cert", &cert, "--key", &key])
    };
    assert_eq!(secure.get(&[]).status, 0);
    assert_eq!(with("false").status, 0, "the right name from the wrong authority");
    assert_eq!(raw.waiting(), 0);
    assert_eq!(with("ann").status, 200);
    assert!(secure.metric("oncegate_tls_handshakes_failed_total") >= 2);
}

#[test]
fn a_certificate_is_a_scope_and_a_renewed_one_is_the_same_scope() {
    let config = Config {
        server: "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"clients.pem\"\nclient_auth = \"optional\"",
        clients: "scope_by = [\"cert\"]\nidentify_by = [\"cert\", \"ip\"]",
        ..Config::default()
    };
    let secure = Secure::start(config, |secure| {
        secure.authority.write(&secure.file("clients.pem"));
        secure.issue("ann-", &["ann"], "ann");
        secure.issue("bob-", &["bob"], "bob");
    });
    let (ca, url) = (secure.path("ca.pem"), secure.url("/api/notes"));
    let post = |who: Option<&str>| {
        let files = who
            .map(|who| [format!("{who}-cert.pem"), format!("{who}-key.pem")].map(|name| secure.path(&name)));
        let mut arguments = vec![
            "--cacert",
            &ca,
            "--json",
            "{\"n\":1}",
            "--header",
            "Idempotency-Key: \"same-key-for-everyone-here\"",
        ];
        if let Some([cert, key]) = &files {
            arguments.extend(["--cert", cert, "--key", key]);
        }
        arguments.push(&url);
        let answer = curl(&arguments);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text.to_ascii_lowercase().contains("idempotent-replayed: true")
    };
    assert!(!post(Some("ann")));
    assert!(post(Some("ann")), "the same caller");
    assert!(!post(Some("bob")), "the same key, another caller");
    assert!(!post(None), "nobody in particular");
    secure.issue("ann-", &["ann"], "ann");
    assert!(post(Some("ann")), "a renewed certificate of the same subject");
    assert_eq!(secure.stand.backend.effects().len(), 3);
    let log = std::fs::read_to_string(&secure.stand.gate.log).unwrap();
    assert!(log.contains("\"client\":\"cert:"), "{log}");
}

#[test]
fn a_handshake_that_does_not_end_is_ended_and_one_in_clear_text_is_none() {
    let raw = RawBackend::start(ok);
    let server = "header_timeout = \"1s\"\n[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"";
    let secure = Secure::start(before(&raw, server, ""), |_| {});
    let ends = |bytes: &[u8]| {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(secure.stand.gate.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        let _reset = stream.read_to_end(&mut Vec::new());
        begun.elapsed() < Duration::from_secs(10)
    };
    assert!(ends(b"") && ends(b"\x16\x03\x01\x02\x00\x01"));
    assert!(ends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") && ends(PREFACE));
    assert_eq!(raw.waiting(), 0);
    assert_eq!(secure.get(&[]).status, 200);
}

#[test]
fn slow_handshakes_keep_nobody_else_waiting() {
    let raw = RawBackend::start(ok);
    let secure = Secure::start(before(&raw, TLS, ""), |_| {});
    let held: Vec<_> = (0..500).map(|_| TcpStream::connect(secure.stand.gate.address).unwrap()).collect();
    let begun = Instant::now();
    assert_eq!(secure.get(&[]).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(held);
}

// === towards the backend ===

/// A gate before a gate with TLS: what the first one needs is `[upstream.tls]`.
fn before_a_secure_backend(
    upstream: &'static str,
    backend_server: &'static str,
) -> (RawBackend, Secure, Stand) {
    let raw = RawBackend::start(ok);
    let backend = Secure::start(before(&raw, backend_server, ""), |backend| {
        backend.authority.write(&backend.file("clients.pem"));
    });
    let address = backend.stand.gate.address;
    let mut front =
        Stand::stopped(Config { backend: Some(address), secure: true, upstream, ..Config::default() });
    let file = |name: &str| front.gate.config.with_file_name(name);
    backend.authority.write(&file("ca.pem"));
    Authority::new("somebody else").write(&file("other.pem"));
    backend.authority.issue(&["front"], "front", &file("front-cert.pem"), &file("front-key.pem"));
    front.start();
    (raw, backend, front)
}

#[test]
fn a_backend_is_reached_over_tls_in_both_versions_of_http() {
    for upstream in ["tls = { ca = \"ca.pem\" }", "http2 = true\ntls = { ca = \"ca.pem\" }"] {
        let (raw, _backend, front) = before_a_secure_backend(upstream, TLS);
        let reply = front.send(&Call::new("GET", "/x").header("X-Kept", "1"));
        assert_eq!((reply.status, reply.text()), (200, "ok".into()));
        let seen = raw.next();
        assert!(
            seen.contains("\r\nX-Kept: 1\r\n") && seen.contains("\r\nX-Forwarded-Proto: https\r\n"),
            "{seen}"
        );
        let reply = front.send(&Call::post("/api/x", "{\"n\":1}"));
        assert_eq!(reply.status, 200);
        assert!(raw.next().ends_with("{\"n\":1}"));
        assert!(front.send(&Call::post("/api/x", "{\"n\":1}")).is_replay());
        assert_eq!(raw.waiting(), 0);
    }
}

#[test]
fn a_backend_that_cannot_prove_itself_gets_nothing_and_nothing_is_in_doubt() {
    for upstream in [
        "tls = { ca = \"other.pem\" }",
        "tls = { ca = \"ca.pem\", server_name = \"else.example\" }",
        "http2 = true\ntls = { ca = \"other.pem\" }",
    ] {
        let (raw, _backend, front) = before_a_secure_backend(upstream, TLS);
        let problem = front.send(&Call::post("/api/x", "{\"n\":1}"));
        assert_problem(&problem, 502, "upstream-unreachable");
        assert!(problem.text().contains("TLS handshake"), "{}", problem.text());
        assert_problem(&front.send(&Call::new("GET", "/x")), 502, "upstream-unreachable");
        assert_eq!(raw.waiting(), 0);
        assert!(front.in_doubt().is_empty());
    }
}

#[test]
fn a_backend_without_http_2_is_told_apart_before_anything_is_sent() {
    let off = "http2 = false\n[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"";
    let (raw, _backend, front) = before_a_secure_backend("http2 = true\ntls = { ca = \"ca.pem\" }", off);
    let problem = front.send(&Call::post("/api/x", "{}"));
    assert_problem(&problem, 502, "upstream-unreachable");
    assert_eq!(raw.waiting(), 0);
}

#[test]
fn the_gateway_proves_itself_where_a_backend_asks() {
    let own = "tls = { ca = \"ca.pem\", cert = \"front-cert.pem\", key = \"front-key.pem\" }";
    let (raw, _backend, front) = before_a_secure_backend(own, MUTUAL);
    assert_eq!(front.send(&Call::new("GET", "/x")).status, 200);
    assert!(raw.next().starts_with("GET /x "));
    let (raw, _backend, front) = before_a_secure_backend("tls = { ca = \"ca.pem\" }", MUTUAL);
    assert_eq!(front.send(&Call::new("GET", "/x")).status, 502);
    assert_eq!(raw.waiting(), 0);
}

// === what check says ===

#[test]
fn check_reads_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let authority = Authority::new("the test's own");
    authority.write(&file("ca.pem"));
    authority.issue(&["a"], "a", &file("a.pem"), &file("a-key.pem"));
    authority.issue(&["b"], "b", &file("b.pem"), &file("b-key.pem"));
    std::fs::write(file("text.pem"), "no certificate").unwrap();
    let check = |tls: &str, upstream: &str| {
        let text = format!(
            "[server.tls]\n{tls}\n[[upstream]]\nname = \"u\"\nurl = \"https://127.0.0.1:1\"\n[upstream.tls]\n{upstream}\n\
             [[route]]\nname = \"r\"\nmatch = \"* /**\"\nupstream = \"u\"\n"
        );
        std::fs::write(file("config.toml"), text).unwrap();
        let mut command = Command::new(crate::harness::program());
        let output = command.args(["check", "--config"]).arg(file("config.toml")).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let good = "cert = \"a.pem\"\nkey = \"a-key.pem\"";
    assert!(check(good, "ca = \"ca.pem\"").0);
    let wrong = [
        ("cert = \"a.pem\"\nkey = \"b-key.pem\"", "ca = \"ca.pem\"", "is not that of the certificate"),
        ("cert = \"none.pem\"\nkey = \"a-key.pem\"", "ca = \"ca.pem\"", "cannot be read"),
        ("cert = \"text.pem\"\nkey = \"a-key.pem\"", "ca = \"ca.pem\"", "holds no certificate"),
        ("cert = \"a.pem\"\nkey = \"text.pem\"", "ca = \"ca.pem\"", "holds no private key"),
        ("cert = \"a.pem\"", "ca = \"ca.pem\"", "has `cert` and no `key`"),
        ("cert = \"a.pem\"\nkey = \"a-key.pem\"\nclient_auth = \"optional\"", "", "without `client_ca`"),
        (good, "ca = \"text.pem\"", "holds no certificate"),
        (good, "cert = \"b.pem\"\nkey = \"a-key.pem\"", "is not that of the certificate"),
        (good, "server_name = \"a b\"", "is not a server's name"),
        (good, "insecure = true", "has no key `insecure`"),
    ];
    for (tls, upstream, told) in wrong {
        let (usable, text) = check(tls, upstream);
        assert!(!usable && text.contains(told), "{tls} {upstream}: {text}");
    }
}

#[test]
fn a_client_that_has_taken_everything_is_not_stuck_while_more_is_waited_for() {
    const PIECE: usize = 8_000_000;
    let raw = RawBackend::start(|connection| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PIECE + 4);
        let first = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&[b'x'; PIECE]));
        std::thread::sleep(Duration::from_secs(6));
        let _ = first.and_then(|()| connection.write_all(b"last"));
    });
    let server = "write_timeout = \"1s\"\n[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"";
    let secure = Secure::start(Config { backend: Some(raw.address), server, ..Config::default() }, |_| ());
    let got = secure.get(&["--http1.1", "--limit-rate", "4M"]);
    let (_, body) = got.text.split_once("\r\n\r\n").expect("a head and a body");
    assert_eq!((got.status, body.len(), body.ends_with("last")), (200, PIECE + 4, true));
}
