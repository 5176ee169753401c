//! Real clients, with the retries that they really make: everything as without the gate, and one effect an intent.
//!
//! `scripts/test` installs them into `target/clients`; where one is not there the test says NOT RUN.

use crate::harness::{Config, Stand, eventually, free_address};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn installed(what: &str) -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients").join(what);
    if !place.exists() {
        println!("NOT RUN: {} is not installed; scripts/test does it", place.display());
    }
    place.exists().then_some(place)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a client's script; how many intents it had, each of which the backend has executed once.
#[track_caller]
fn assert_one_effect_an_intent(stand: &Stand, command: &mut Command) {
    let before = stand.backend.effects().len();
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stdout);
    assert!(status.success(), "{said}{}", String::from_utf8_lossy(&stderr));
    let intents: usize = said.trim().parse().expect("a number");
    eventually("every intent had its effect", || {
        let effects = stand.backend.effects().len() - before;
        assert!(effects <= intents, "{effects} effects of {intents} intents");
        (effects == intents).then_some(())
    });
}

fn stand() -> (Stand, String, String) {
    let stand = Stand::with(Config { idempotency: "remember_fingerprint = \"30s\"", ..Config::default() });
    let (gate, backend) =
        (format!("http://{}", stand.gate.address), format!("http://{}", stand.backend.address));
    (stand, gate, backend)
}

#[test]
fn pythons_clients() {
    let Some(python) = installed("venv/bin/python") else { return };
    let (stand, gate, backend) = stand();
    for library in ["requests", "httpx", "aiohttp"] {
        let mut command = Command::new(&python);
        command.arg(script("clients.py")).args([&gate, &backend, library]);
        assert_one_effect_an_intent(&stand, &mut command);
    }
}

#[test]
fn nodes_clients() {
    let Some(node) = installed("node") else { return };
    let (stand, gate, backend) = stand();
    for library in ["undici", "axios"] {
        let mut command = Command::new("node");
        command.arg(script("clients.mjs")).args([&gate, &backend, library]).env("ONCEGATE_NODE", &node);
        assert_one_effect_an_intent(&stand, &mut command);
    }
}

#[test]
fn a_browser_in_which_somebody_clicks_twice() {
    let (Some(node), Some(chromium)) = (installed("node"), installed("chromium")) else { return };
    let (stand, gate, backend) = stand();
    let mut command = Command::new("node");
    command
        .arg(script("browser.mjs"))
        .args([&gate, &backend])
        .env("ONCEGATE_NODE", &node)
        .env("ONCEGATE_CHROMIUM", &chromium);
    assert_one_effect_an_intent(&stand, &mut command);
}

#[test]
fn curl_with_its_retries() {
    let (stand, gate, backend) = stand();
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl").args(["-sS", "-m", "20"]).args(arguments).output().expect("curl");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for arguments in [
        &["/_large?bytes=100000"][..],
        &["-I", "/_large?bytes=100000"],
        &["-0", "/_large?bytes=1000"],
        &["/nothing"],
    ] {
        let (path, options) = arguments.split_last().unwrap();
        let ask = |base: &str| {
            curl(
                &[
                    options,
                    &["-w", "%{http_code} %{size_download}", "-o", "/dev/null", &format!("{base}{path}")],
                ]
                .concat(),
            )
        };
        assert_eq!(ask(&gate), ask(&backend), "{arguments:?}");
    }
    // Above a mebibyte curl asks first whether its body is wanted.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 2 << 20]).unwrap();
    let body = format!("@{}", file.path().display());
    let sent = |base: &str| curl(&["--data-binary", &body, &format!("{base}/_sink")]);
    assert_eq!(sent(&gate), sent(&backend));
    // Its retries: after a 503 that the route does not list, and of a timeout in the middle of the write.
    let before = stand.backend.effects().len();
    let (_, answer) = curl(&[
        "--retry",
        "3",
        "--retry-delay",
        "1",
        "--retry-all-errors",
        "-m",
        "1",
        "-H",
        "Idempotency-Key: \"curl-retries-this-one\"",
        "-H",
        "X-Demo-Fault: delay-after=1500,once",
        "-H",
        "X-Demo-Operation: curl",
        "-d",
        "{}",
        &format!("{gate}/api/notes"),
    ]);
    assert!(answer.contains("\"id\""), "{answer}");
    assert_eq!(stand.backend.effects().len() - before, 1);
}

/// A child that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_thousand_websockets_echo_and_a_drain_ends_them_politely() {
    let Some(python) = installed("venv/bin/python") else { return };
    let start = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(script("echo.py")).args(arguments).stdout(Stdio::piped());
        let mut child = Running(command.spawn().unwrap());
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let address = free_address().unwrap();
    let (_server, mut said) = start(&["server", &address.port().to_string()]);
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let stand = Stand::with(Config {
        backend: Some(address),
        upstream: "max_in_flight = 2000\ntimeout = \"30s\"",
        ..Config::default()
    });
    let (_clients, mut said) = start(&["clients", &format!("ws://{}/echo", stand.gate.address), "1000"]);
    assert_eq!(said.next().expect("all of them echo").unwrap(), "ready");
    stand.terminate();
    assert_eq!(said.next().unwrap().unwrap(), "{1001: 1000}", "each is told that the gate goes away");
}
