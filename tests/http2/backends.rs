//! HTTP/2 towards the backend: what it says of a stream that it did not work on is known not to have executed, and
//! everything else after a byte is in doubt.

use crate::harness::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Wire, block, frame,
};
use crate::harness::{Call, Config, Stand, assert_problem};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A backend that speaks frames.
struct FrameBackend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// What becomes of a request, by how many came before it; whether its connection goes on.
type Script = fn(&mut Wire, u32, usize) -> bool;

// === impl FrameBackend ===

impl FrameBackend {
    fn start(script: Script) -> FrameBackend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let backend = FrameBackend { address, connections: connections.clone(), requests: requests.clone() };
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                connections.fetch_add(1, SeqCst);
                let requests = requests.clone();
                thread::spawn(move || {
                    let Ok(mut wire) = Wire::accepted(socket) else { return };
                    // A request ends with the stream.
                    while let Some(frame) = wire.until(PATIENCE, |frame| {
                        matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0
                    }) {
                        if !script(&mut wire, frame.stream, requests.fetch_add(1, SeqCst)) {
                            break;
                        }
                    }
                });
            }
        });
        backend
    }

    fn stand(&self) -> Stand {
        Stand::with(Config { backend: Some(self.address), upstream: "http2 = true", ..Config::default() })
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

fn answer(wire: &mut Wire, stream: u32) -> bool {
    let head = block(&[(":status", b"200"), ("x-kept", b"1")]);
    wire.send(&[frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, b"ok")].concat())
        .is_ok()
}

fn refuse(wire: &mut Wire, stream: u32, code: u32) -> bool {
    wire.send(&frame(RST_STREAM, 0, stream, &code.to_be_bytes())).is_ok()
}

/// GOAWAY with `last` as the last stream that was worked on; then the connection ends.
fn go_away(wire: &mut Wire, last: u32, code: u32) -> bool {
    let _ = wire.send(&frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()));
    thread::sleep(Duration::from_millis(20));
    false
}

const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;

#[test]
fn many_exchanges_share_a_connection() {
    let backend = FrameBackend::start(|wire, stream, _| answer(wire, stream));
    let stand = Stand::with(Config {
        backend: Some(backend.address),
        upstream: "http2 = true",
        server: "workers = 1",
        ..Config::default()
    });
    let calls: Vec<Call> = (0..30).map(|number| Call::new("GET", &format!("/x?{number}"))).collect();
    for reply in crate::harness::at_once(stand.gate.address, &calls) {
        assert_eq!((reply.status, reply.text(), reply.header("X-Kept")), (200, "ok".into(), Some("1")));
    }
    assert_eq!(backend.connections.load(SeqCst), 1);
}

#[test]
fn a_write_that_the_backend_refuses_is_known_not_to_have_executed() {
    let scripts: [Script; 3] = [
        |wire, stream, count| {
            if count < 3 { refuse(wire, stream, REFUSED_STREAM) } else { answer(wire, stream) }
        },
        |wire, stream, count| if count < 3 { go_away(wire, 0, 0) } else { answer(wire, stream) },
        |wire, stream, count| if count < 3 { go_away(wire, 0, INTERNAL_ERROR) } else { answer(wire, stream) },
    ];
    for script in scripts {
        let backend = FrameBackend::start(script);
        let stand = backend.stand();
        let post = Call::post("/api/x", "{\"n\":1}");
        assert_problem(&stand.send(&post), 502, "upstream-unreachable");
        assert_eq!(backend.requests(), 3, "what was refused is offered again, and not for ever");
        assert!(stand.in_doubt().is_empty());
        let reply = stand.send(&post);
        assert!(reply.status == 200 && !reply.is_replay(), "{}", reply.text());
        assert!(stand.send(&post).is_replay());
        assert_eq!(backend.requests(), 4);
    }
}

#[test]
fn a_request_that_was_refused_once_is_answered_at_the_second_offer() {
    let backend = FrameBackend::start(
        |wire, stream, count| {
            if count == 0 { go_away(wire, 0, 0) } else { answer(wire, stream) }
        },
    );
    let stand = backend.stand();
    assert_eq!(stand.send(&Call::post("/api/x", "{\"n\":1}")).status, 200);
    assert_eq!((backend.requests(), backend.connections.load(SeqCst)), (2, 2));
}

#[test]
fn a_write_that_the_backend_may_have_worked_on_is_in_doubt_and_never_sent_again() {
    let scripts: [Script; 5] = [
        |wire, stream, _| refuse(wire, stream, INTERNAL_ERROR),
        // CANCEL
        |wire, stream, _| refuse(wire, stream, 8),
        |wire, stream, _| go_away(wire, stream, 0),
        |wire, stream, _| go_away(wire, stream + 100, INTERNAL_ERROR),
        |_, _, _| false,
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        let backend = FrameBackend::start(script);
        let stand = backend.stand();
        let post = Call::post("/api/x", "{\"n\":1}");
        assert_problem(&stand.send(&post), 502, "outcome-unknown");
        assert_problem(&stand.send(&post), 409, "outcome-unknown");
        assert_eq!((backend.requests(), stand.in_doubt().len()), (1, 1), "script {number}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_in_doubt() {
    let backend = FrameBackend::start(|wire, stream, _| {
        let head = block(&[(":status", b"200"), ("content-length", b"10")]);
        let _ =
            wire.send(&[frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, 0, stream, b"abc")].concat());
        refuse(wire, stream, REFUSED_STREAM)
    });
    let stand = backend.stand();
    let post = Call::post("/api/x", "{\"n\":1}");
    assert_problem(&stand.send(&post), 502, "outcome-unknown");
    assert_problem(&stand.send(&post), 409, "outcome-unknown");
    assert_eq!(backend.requests(), 1);
}

#[test]
fn a_backend_of_http_1_behind_http_2_is_told_apart() {
    let raw = crate::harness::RawBackend::start(crate::harness::ok);
    let stand =
        Stand::with(Config { backend: Some(raw.address), upstream: "http2 = true", ..Config::default() });
    let reply = stand.send(&Call::post("/api/x", "{\"n\":1}"));
    assert_eq!(reply.status, 502, "{}", reply.text());
}
