//! HTTP/2 towards the backend: what it says of a stream that it did not work on is known not to have executed, and
//! everything else after a byte is in doubt.

use crate::harness::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire,
    block, frame, request,
};
use crate::harness::{Call, Config, Stand, assert_problem, eventually};
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
        FrameBackend::with_settings(&[], script)
    }

    fn with_settings(settings: &'static [(u16, u32)], script: Script) -> FrameBackend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let backend = FrameBackend { address, connections: connections.clone(), requests: requests.clone() };
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                connections.fetch_add(1, SeqCst);
                let requests = requests.clone();
                thread::spawn(move || {
                    let Ok(mut wire) = Wire::accepted(socket, settings) else { return };
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

    fn config(&self) -> Config {
        Config { backend: Some(self.address), upstream: "http2 = true", ..Config::default() }
    }

    fn stand(&self) -> Stand {
        Stand::with(self.config())
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

pub(super) fn answer(wire: &mut Wire, stream: u32) -> bool {
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

/// Settings.
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

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
fn an_answer_that_a_reset_without_an_error_cuts_off_is_in_doubt_and_a_whole_one_is_not() {
    let backend = FrameBackend::start(|wire, stream, count| {
        // One has its end before it is reset, as an answer has that comes before its request's body.
        let flags = if count == 0 { 0 } else { END_STREAM };
        let head = frame(HEADERS, END_HEADERS, stream, &block(&[(":status", b"200")]));
        wire.send(&[head, frame(DATA, flags, stream, b"abc")].concat()).is_ok() && refuse(wire, stream, 0)
    });
    for store_url in [None, Some("memory:")] {
        backend.requests.store(0, SeqCst);
        let stand = Stand::with(Config { store_url, ..backend.config() });
        let post = Call::post("/api/x", "{\"n\":1}");
        assert_problem(&stand.send(&post), 502, "outcome-unknown");
        assert_problem(&stand.send(&post), 409, "outcome-unknown");
        let whole = stand.send(&Call::post("/api/x", "{\"n\":2}"));
        assert_eq!((whole.status, whole.text()), (200, "abc".into()));
        assert_eq!(backend.requests(), 2);
    }
}

#[test]
fn a_backend_of_http_1_behind_http_2_is_told_apart() {
    let raw = crate::harness::RawBackend::start(crate::harness::ok);
    let stand =
        Stand::with(Config { backend: Some(raw.address), upstream: "http2 = true", ..Config::default() });
    let reply = stand.send(&Call::post("/api/x", "{\"n\":1}"));
    assert_eq!(reply.status, 502, "{}", reply.text());
}

#[test]
fn a_backend_that_allows_few_streams_never_gets_more_of_them() {
    // What comes first is never answered, and keeps the only stream of its connection.
    let script: Script = |wire, stream, count| count == 0 || answer(wire, stream);
    let backend = FrameBackend::with_settings(&[(MAX_CONCURRENT_STREAMS, 1)], script);
    let stand = Stand::with(Config {
        backend: Some(backend.address),
        upstream: "http2 = true",
        server: "workers = 1",
        ..Config::default()
    });
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&Call::new("GET", "/slow")));
        eventually("the backend has it", || (backend.requests() == 1).then_some(()));
        for number in 0..3 {
            let reply = stand.send(&Call::post("/api/x", format!("{{\"n\":{number}}}")));
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert_problem(&first.join().unwrap(), 504, "upstream-timeout");
    });
    assert_eq!((backend.requests(), backend.connections.load(SeqCst)), (4, 2));
}

#[test]
fn a_client_that_takes_a_read_back_at_once_ends_nobody_elses_write() {
    // Both writes are answered once a read has come.
    let backend = FrameBackend::start(|wire, stream, count| match count {
        0 | 1 => true,
        2 => [1, 3, stream].into_iter().all(|stream| answer(wire, stream)),
        _ => answer(wire, stream),
    });
    let stand = Stand::with(Config {
        backend: Some(backend.address),
        upstream: "http2 = true",
        server: "workers = 1",
        ..Config::default()
    });
    let write = &|number: usize| stand.send(&Call::post("/api/x", format!("{{\"n\":{number}}}")));
    thread::scope(|scope| {
        let writes = [1, 2].map(|number| scope.spawn(move || write(number)));
        eventually("the backend has both", || (backend.requests() == 2).then_some(()));
        let mut wire = Wire::connect(stand.gate.address);
        let get = |stream: u32| frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/x", &[]));
        let taken_back = frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes());
        wire.send(&[get(1), get(3), taken_back].concat()).unwrap();
        let head = wire.until(PATIENCE, |frame| frame.kind == HEADERS && frame.stream == 1);
        assert_eq!(head.and_then(|head| head.status()), Some(200));
        for write in writes {
            let reply = write.join().unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    });
    assert_eq!(backend.connections.load(SeqCst), 1);
}

#[test]
fn a_connection_has_a_window_for_all_its_streams() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config {
        backend: Some(listener.local_addr().unwrap()),
        upstream: "http2 = true",
        ..Config::default()
    };
    let stand = Stand::with(config);
    thread::scope(|scope| {
        scope.spawn(|| stand.send(&Call::new("GET", "/x")));
        let mut wire = Wire::accepted(listener.accept().unwrap().0, &[]).unwrap();
        let (mut stream, mut connection) = (65_535, 65_535);
        let asked = loop {
            let frame = wire.next(PATIENCE).expect("a request");
            let number = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            let is_window = |at: &usize| frame.payload[*at..*at + 2] == INITIAL_WINDOW_SIZE.to_be_bytes();
            match (frame.kind, frame.stream) {
                (HEADERS, asked) => break asked,
                (SETTINGS, _) => {
                    let said = (0..frame.payload.len()).step_by(6).find(is_window);
                    stream = said.map_or(stream, |at| number(at + 2));
                }
                (WINDOW_UPDATE, 0) => connection += number(0),
                _ => {}
            }
        };
        assert!(answer(&mut wire, asked));
        assert!(connection >= 100 * stream, "{stream} of {connection}");
    });
}

#[test]
fn a_connection_on_which_nothing_comes_any_more_gets_no_further_requests() {
    // The first connection is dead behind its first answer.
    let script: Script = |wire, stream, count| match count {
        0 => answer(wire, stream),
        _ => stream != 1 || answer(wire, stream),
    };
    let backend = FrameBackend::start(script);
    let stand = Stand::with(Config {
        backend: Some(backend.address),
        upstream: "http2 = true\ntimeout = \"1500ms\"",
        server: "workers = 1",
        ..Config::default()
    });
    let get = Call::new("GET", "/x");
    assert_eq!(stand.send(&get).status, 200);
    assert_problem(&stand.send(&get), 504, "upstream-timeout");
    assert_eq!(stand.send(&get).status, 200);
    assert_eq!((backend.requests(), backend.connections.load(SeqCst)), (3, 2));
}

#[test]
fn a_backend_that_says_nothing_for_long_is_asked_whether_it_is_there() {
    let backend = FrameBackend::start(|wire, stream, _| {
        wire.until(PATIENCE, |frame| frame.kind == PING && frame.flags & ACK == 0).is_some()
            && answer(wire, stream)
    });
    let stand = Stand::with(Config {
        backend: Some(backend.address),
        upstream: "http2 = true\ntimeout = \"20s\"",
        ..Config::default()
    });
    assert_eq!(stand.send(&Call::new("GET", "/x")).status, 200);
}

#[test]
fn the_limit_adapts_to_a_backend_of_http_2_too() {
    let backend = FrameBackend::start(|wire, stream, count| {
        thread::sleep(Duration::from_millis(if count < 60 { 0 } else { 60 }));
        answer(wire, stream)
    });
    let stand = Stand::with(Config {
        backend: Some(backend.address),
        upstream: "http2 = true\nadaptive = true",
        server: "workers = 1",
        ..Config::default()
    });
    let calls: Vec<Call> = (0..30).map(|number| Call::new("GET", &format!("/x?{number}"))).collect();
    for _ in 0..4 {
        crate::harness::at_once(stand.gate.address, &calls);
    }
    eventually("the limit is lower", || {
        let page = Call::new("GET", "/metrics").send(stand.gate.admin).ok()?.text();
        let limit = page
            .lines()
            .find_map(|line| line.strip_prefix("oncegate_upstream_limit{upstream=\"scheduler\"} "))?;
        (limit.parse::<f64>().ok()? < 256.0).then_some(())
    });
}

#[test]
fn a_server_of_http_2_that_takes_requests_and_ends_without_a_word_leaves_the_rotation() {
    let mute = FrameBackend::start(|_, _, _| false);
    let fine = FrameBackend::start(|wire, stream, _| answer(wire, stream));
    let routes = format!(
        "[[upstream]]\nname = \"pair\"\nurl = [\"http://{}\", \"http://{}\"]\nhttp2 = true\ntimeout = \"5s\"\n\
         [[route]]\nname = \"pair\"\nmatch = \"POST /pair\"\nupstream = \"pair\"\n[route.idempotency]\n",
        mute.address, fine.address
    );
    let config = Config { routes: routes.leak(), server: "workers = 1", ..Config::default() };
    let stand = Stand::with(config);
    let write = |number: u32| stand.send(&Call::post("/pair", format!("{{\"n\":{number}}}"))).status;
    let lost = (1..=20).filter(|number| write(*number) == 502).count();
    assert_eq!((lost, mute.requests(), fine.requests()), (1, 1, 19));
}
