//! Clients that are slow on purpose: heads, bodies and answers that trickle. All of them are closed within 15 s, and in
//! the meantime others are served.
//!
//! The normal run opens a few of each kind; `ONCEGATE_SLOW=2000` is the campaign.

use crate::harness::frames::{DATA, END_HEADERS, HEADERS, Wire, frame, request};
use crate::harness::{Call, Config, Handed, Reply, Stand, assert_problem, eventually, head};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long any of them may last.
const LONGEST: Duration = Duration::from_secs(15);
/// How often each sends or reads a byte.
const TRICKLE: Duration = Duration::from_secs(1);
/// An answer that fits no buffer on the way.
const LARGE_BYTES: usize = 100_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Head,
    Body,
    GuardedBody,
    Read,
}

const KINDS: [Kind; 4] = [Kind::Head, Kind::Body, Kind::GuardedBody, Kind::Read];

fn count() -> usize {
    std::env::var("ONCEGATE_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// A socket whose receive buffer is as small as it gets, so that a reader that is slow looks slow.
fn connect(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true).unwrap();
    stream
}

/// One of them.
struct Slow {
    stream: TcpStream,
    since: Instant,
    /// What came of an answer.
    came: Vec<u8>,
}

/// A backend of large answers that is quick enough for the campaign: whoever waits for a backend reads nothing slowly, and
/// what a gate says itself fits every buffer.
fn large() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Ends with its connection, which ends with the gate's.
            thread::Builder::new()
                .stack_size(128 << 10)
                .spawn(move || {
                    let piece = [b'x'; 16 << 10];
                    head(&mut stream);
                    let begun = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n");
                    let _ = begun.and_then(|()| {
                        (0..LARGE_BYTES / piece.len()).try_for_each(|_| stream.write_all(&piece))
                    });
                })
                .unwrap();
        }
    });
    address
}

// === impl Slow ===

impl Slow {
    fn begin(kind: Kind, address: SocketAddr) -> Slow {
        Slow { stream: begin(kind, address), since: Instant::now(), came: Vec::new() }
    }
}

/// How many are left, and what answers they got.
fn told(open: &[Slow]) -> String {
    let mut answers = std::collections::BTreeMap::<_, usize>::new();
    for slow in open {
        *answers.entry(String::from_utf8_lossy(&slow.came[..slow.came.len().min(20)])).or_default() += 1;
    }
    format!("{} are left, which got {answers:?}", open.len())
}

fn begin(kind: Kind, address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let text = match kind {
        Kind::Head => "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(),
        Kind::Body => "POST /_sink HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_owned(),
        Kind::GuardedBody => "POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_owned(),
        Kind::Read => "GET /large HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    };
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// One more byte; whether the connection still lives.
fn trickle(kind: Kind, Slow { stream, came, .. }: &mut Slow) -> bool {
    // What was sent before a reset can still be read, byte by byte, so that is asked for first.
    if stream.take_error().is_ok_and(|error| error.is_some()) {
        return false;
    }
    let mut byte = [0; 4096];
    let read = stream.read(&mut byte[..if kind == Kind::Read { 1 } else { 4096 }]);
    match read {
        Ok(0) => return false,
        // An answer to a body that is too slow; what follows it is the end.
        Ok(count) => {
            came.extend_from_slice(&byte[..count.min(64)]);
            return true;
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(_) => return false,
    }
    let piece: &[u8] = match kind {
        Kind::Head => b"X",
        Kind::Body | Kind::GuardedBody => b"x",
        Kind::Read => return true,
    };
    stream.write(piece).is_ok()
}

#[test]
fn slow_clients_are_closed_within_fifteen_seconds_and_others_are_served() {
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(20_000), maximum: Some(20_000) },
    );
    // So many answers at a time are asked for by those who do not read them.
    let routes = format!(
        "[[upstream]]\nname = \"large\"\nurl = \"http://{}\"\nmax_in_flight = 20000\n\
         [[route]]\nname = \"large\"\nmatch = \"GET /large\"\nupstream = \"large\"\n",
        large()
    );
    let config = Config {
        upstream: "max_in_flight = 20000",
        routes: Box::leak(routes.into_boxed_str()),
        ..Config::default()
    };
    let stand = Stand::with(config);
    let served = AtomicBool::new(true);
    let (address, done) = (stand.gate.address, AtomicBool::new(false));
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            let until = Instant::now() + LONGEST * 3;
            while !done.load(Ordering::Relaxed) && Instant::now() < until {
                let begun = Instant::now();
                let reply = Call::new("GET", "/_effects").within(Duration::from_secs(5)).send(address);
                if !reply.is_ok_and(|reply| reply.status == 200) {
                    served.store(false, Ordering::Relaxed);
                }
                slowest = slowest.max(begun.elapsed());
                thread::sleep(Duration::from_millis(100));
            }
            slowest
        });
        let slow: Vec<_> = KINDS
            .into_iter()
            .map(|kind| {
                scope.spawn(move || {
                    let mut open: Vec<_> = (0..count()).map(|_| Slow::begin(kind, address)).collect();
                    let mut longest = Duration::ZERO;
                    while !open.is_empty() {
                        open.retain_mut(|slow| {
                            let lives = trickle(kind, slow);
                            longest = longest.max(slow.since.elapsed());
                            lives
                        });
                        assert!(longest < LONGEST * 2, "{kind:?}: {}", told(&open));
                        // Others may be slower, but never by more than a beat.
                        thread::sleep(if longest > LONGEST / 2 { TRICKLE / 4 } else { TRICKLE });
                    }
                    (kind, longest)
                })
            })
            .collect();
        let slow: Vec<_> = slow.into_iter().map(|kind| kind.join()).collect();
        for (kind, longest) in slow.iter().flatten() {
            println!("{} x {kind:?}: the last one lasted {longest:?}", count());
        }
        for kind in slow {
            let (kind, longest) = kind.unwrap();
            assert!(longest < LONGEST, "{kind:?}: {longest:?}");
        }
        done.store(true, Ordering::Relaxed);
        let slowest = others.join().unwrap();
        println!("the slowest request of others took {slowest:?}");
        assert!(served.load(Ordering::Relaxed), "others are served all the time");
    });
    eventually("the gate has only the connection that asks", || {
        let page = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
        page.lines().any(|line| line == "oncegate_connections 0").then_some(())
    });
}

#[test]
fn a_body_that_trickles_is_answered_with_a_408_in_either_version_and_one_that_is_held_up_by_the_backend_is_not()
 {
    let server = Handed::start();
    let stand = Stand::with(Config { rest: "timeout = \"60s\"", ..server.config() });
    let slow = |path: &str| {
        let mut stream = TcpStream::connect(stand.gate.address).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").unwrap();
        stream
    };
    let mut held_up = TcpStream::connect(stand.gate.address).unwrap();
    let size = 16 << 20;
    write!(held_up, "POST /held-up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").unwrap();
    let (_, mut backend) = server.next();
    thread::scope(|scope| {
        // More than the buffers on the way take: the client waits for the backend, and not the other way round.
        held_up.set_write_timeout(Some(LONGEST * 2)).unwrap();
        let sending = scope.spawn(|| held_up.write_all(&vec![b'x'; size]));
        for path in ["/api/x", "/x"] {
            let mut stream = slow(path);
            scope.spawn(move || {
                let reply = Reply::read(&mut stream, false, Instant::now() + LONGEST).expect("an answer");
                assert_problem(&reply, 408, "body-timeout");
                assert_eq!(reply.header("connection"), Some("close"), "{path}");
            });
        }
        scope.spawn(|| two_streams_that_trickle(stand.gate.address));
        thread::sleep(Duration::from_millis(11_500));
        let mut buffer = vec![0; size];
        backend.read_exact(&mut buffer).expect("the rest of it arrives");
        sending.join().unwrap().unwrap();
        backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    assert_eq!(Reply::read(&mut held_up, false, Instant::now() + LONGEST).unwrap().text(), "ok");
}

/// A guarded and an unguarded body of one HTTP/2 connection: each is told by itself.
fn two_streams_that_trickle(address: SocketAddr) {
    let mut wire = Wire::connect(address);
    for (stream, path) in [(1, "/api/y"), (3, "/y")] {
        wire.send(&frame(HEADERS, END_HEADERS, stream, &request("POST", path, &[]))).unwrap();
    }
    let mut told = [0; 2].map(|_| {
        let said = wire.until(LONGEST, |frame| frame.kind == DATA).expect("an answer");
        let problem: serde_json::Value = serde_json::from_slice(&said.payload).unwrap();
        assert_eq!(problem["status"], 408, "{problem}");
        assert!(problem["type"].as_str().unwrap().ends_with("body-timeout"), "{problem}");
        said.stream
    });
    told.sort_unstable();
    assert_eq!(told, [1, 3]);
}
