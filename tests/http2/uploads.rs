//! Uploads towards a backend of HTTP/2 that has answered them and takes no more of them: they keep nothing for ever.

use super::backends::{INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, answer};
use crate::harness::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, WINDOW_UPDATE, Wire, block, frame,
};
use crate::harness::{Call, Config, Reply, Stand, eventually};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A backend that looks at heads only.
struct EarlyBackend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Bodies that came to their end.
    ends: Arc<AtomicUsize>,
    resets: Arc<AtomicUsize>,
}

/// What becomes of a stream whose head has come; whether that was its end.
type Script = fn(&mut Wire, u32, bool);

// === impl EarlyBackend ===

impl EarlyBackend {
    /// Its streams have windows of the usual size, of which none gets more; its connections have enough for all of them.
    fn start(settings: &'static [(u16, u32)], script: Script) -> EarlyBackend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = || Arc::new(AtomicUsize::new(0));
        let backend = EarlyBackend { address, connections: count(), ends: count(), resets: count() };
        let (connections, ends) = (backend.connections.clone(), backend.ends.clone());
        let resets = backend.resets.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                connections.fetch_add(1, SeqCst);
                let (ends, resets) = (ends.clone(), resets.clone());
                thread::spawn(move || {
                    let Ok(mut wire) = Wire::accepted(socket, settings) else { return };
                    let _ = wire.send(&frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes()));
                    while let Some(frame) = wire.next(PATIENCE) {
                        let is_end = frame.flags & END_STREAM != 0;
                        match frame.kind {
                            HEADERS => script(&mut wire, frame.stream, is_end),
                            DATA if is_end => _ = ends.fetch_add(1, SeqCst),
                            RST_STREAM => _ = resets.fetch_add(1, SeqCst),
                            _ => {}
                        }
                    }
                });
            }
        });
        backend
    }

    fn stand(&self, upstream: &'static str) -> Stand {
        let server = "workers = 1";
        Stand::with(Config { backend: Some(self.address), upstream, server, ..Config::default() })
    }

    fn wait_for_resets(&self, count: usize) {
        eventually("the streams are reset", || (self.resets.load(SeqCst) == count).then_some(()));
    }
}

/// A client whose upload has been answered.
fn upload(stand: &Stand, head: &str, body: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(stand.gate.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(client, "{head}\r\nHost: a\r\n\r\n").unwrap();
    client.write_all(body).unwrap();
    let reply = Reply::read(&mut client, false, Instant::now() + PATIENCE).expect("an answer");
    assert_eq!((reply.status, reply.text()), (200, "ok".into()));
    client
}

fn announced(path: &str, size: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nContent-Length: {size}")
}

#[test]
fn an_upload_that_was_answered_and_gets_no_window_gives_its_place_back() {
    let backend = EarlyBackend::start(&[(MAX_CONCURRENT_STREAMS, 1)], |wire, stream, _| {
        let _ = answer(wire, stream);
    });
    let stand = backend.stand("http2 = true\nstall = \"200ms\"\nidle = \"1m\"");
    let mut count = 0;
    // A little and a lot more than the window.
    for size in [70_000, 300_000] {
        let body = vec![b'x'; size];
        let chunked = [format!("{size:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        for (head, body) in [
            (announced("/x", size), &body),
            ("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked".into(), &chunked),
            // Of this one the whole body is there before it leaves.
            (announced("/api/x", size), &body),
        ] {
            let _client = upload(&stand, &head, body);
            count += 1;
            backend.wait_for_resets(count);
            assert_eq!(stand.send(&Call::new("GET", "/y")).status, 200, "behind {head}");
        }
        // Its client has left before.
        drop(upload(&stand, &announced("/x", 2 * size), &body));
        count += 1;
        backend.wait_for_resets(count);
    }
    assert_eq!(stand.send(&Call::new("GET", "/y")).status, 200);
    assert_eq!(backend.connections.load(SeqCst), 1, "the only place of the connection was free each time");
}

#[test]
fn what_is_beside_an_upload_that_is_given_up_goes_on() {
    // A read is answered once an upload was given up.
    let backend = EarlyBackend::start(&[], |wire, stream, is_end| {
        let _ = !is_end || wire.until(PATIENCE, |frame| frame.kind == RST_STREAM).is_some();
        let _ = answer(wire, stream);
    });
    let stand = backend.stand("http2 = true\nstall = \"300ms\"\ntimeout = \"20s\"\nidle = \"1m\"");
    let _client = upload(&stand, &announced("/x", 100_000), &[b'x'; 100_000]);
    assert_eq!(stand.send(&Call::new("GET", "/y")).status, 200);
    let _client = upload(&stand, &announced("/x", 100_000), &[b'x'; 100_000]);
    assert_eq!(backend.connections.load(SeqCst), 1);
}

#[test]
fn many_uploads_that_get_no_window_do_not_leave_ever_more_connections() {
    let backend = EarlyBackend::start(&[], |wire, stream, _| {
        let _ = answer(wire, stream);
    });
    let stand = backend.stand("http2 = true\nstall = \"500ms\"\nidle = \"1m\"");
    for round in 1..=3 {
        let body = [b'x'; 70_000];
        let _clients: Vec<_> =
            (0..150).map(|_| upload(&stand, &announced("/x", body.len()), &body)).collect();
        backend.wait_for_resets(round * 150);
    }
    let connections = backend.connections.load(SeqCst);
    assert!(connections <= 2, "{connections}");
}

#[test]
fn uploads_that_stand_still_behind_their_answers_give_way_to_others() {
    let backend = EarlyBackend::start(&[(MAX_CONCURRENT_STREAMS, 2)], |wire, stream, _| {
        let _ = answer(wire, stream);
    });
    let stand = backend.stand("http2 = true\nstall = \"1h\"\nidle = \"1m\"");
    let body = [b'x'; 100_000];
    let upload = || upload(&stand, &announced("/x", body.len()), &body);
    let _two = [upload(), upload()];
    // As long as they may stand still.
    thread::sleep(Duration::from_millis(1200));
    let _more = [upload(), upload()];
    backend.wait_for_resets(2);
    assert_eq!(backend.connections.load(SeqCst), 1);
}

#[test]
fn an_answer_that_is_given_up_takes_its_upload_with_it() {
    let backend = EarlyBackend::start(&[(MAX_CONCURRENT_STREAMS, 1)], |wire, stream, is_end| {
        let head = block(&[(":status", b"200")]);
        let _ = match is_end {
            true => answer(wire, stream),
            false => wire
                .send(&[frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, 0, stream, b"ok")].concat())
                .is_ok(),
        };
    });
    let stand = backend.stand("http2 = true\nstall = \"300ms\"\nidle = \"1m\"");
    let mut client = TcpStream::connect(stand.gate.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(client, "{}\r\nHost: a\r\n\r\n", announced("/x", 300_000)).unwrap();
    client.write_all(&[b'x'; 290_000]).unwrap();
    assert!(crate::harness::head(&mut client).starts_with("HTTP/1.1 200 "));
    drop(client);
    backend.wait_for_resets(1);
    assert_eq!(stand.send(&Call::new("GET", "/y")).status, 200);
    assert_eq!(backend.connections.load(SeqCst), 1);
}

#[test]
fn an_upload_behind_its_answer_goes_on_as_long_as_it_moves() {
    // It takes twice as long as a silence may last.
    let backend = EarlyBackend::start(&[(INITIAL_WINDOW_SIZE, 20_000)], |wire, stream, _| {
        let head = block(&[(":status", b"200")]);
        let _ = wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(100));
            let _ = wire.send(&frame(WINDOW_UPDATE, 0, stream, &8000u32.to_be_bytes()));
        }
    });
    let stand = backend.stand("http2 = true\nstall = \"2s\"\ntimeout = \"20s\"\nidle = \"1m\"");
    let mut client = TcpStream::connect(stand.gate.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(client, "{}\r\nHost: a\r\n\r\n", announced("/x", 335_000)).unwrap();
    client.write_all(&[b'x'; 335_000]).unwrap();
    assert!(crate::harness::head(&mut client).starts_with("HTTP/1.1 200 "));
    eventually("the upload ends", || (backend.ends.load(SeqCst) == 1).then_some(()));
    assert_eq!(backend.resets.load(SeqCst), 0);
}
