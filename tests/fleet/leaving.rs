//! Clients that leave while the store is asked.

use super::Fleet;
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{Call, Config, claims, eventually};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A way to a server, on which nothing goes on behind the first command that says so, until that is let go.
struct Way {
    address: SocketAddr,
    held: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

// === impl Way ===

impl Way {
    fn to(server: SocketAddr, says: &'static [u8]) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (held, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let way = Way { address, held: held.clone(), open: open.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (held, open) = (held.clone(), open.clone());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let mut behind = false;
                thread::spawn(move || {
                    carry(from, to, |piece| {
                        if behind && !open.load(Ordering::SeqCst) {
                            held.fetch_add(1, Ordering::SeqCst);
                            eventually("it is let go", || open.load(Ordering::SeqCst).then_some(()));
                        }
                        behind |= piece.windows(says.len()).any(|some| some == says);
                    })
                });
                thread::spawn(move || carry(server, client, |_| {}));
            }
        });
        way
    }
}

/// What is read from one side goes to the other.
fn carry(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut piece = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        before(&piece[..length]);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn book(path: &str, cookie: &str) -> Call {
    Call::post(path, r#"{"slot":1}"#).header("Host", "bookings.example").header("Cookie", cookie)
}

#[test]
fn a_client_that_leaves_while_its_renewed_session_is_prolonged_leaves_nothing_in_doubt() {
    let redis = Server::start(&DURABLE);
    let way = Way::to(redis.address, b"/api/bookings/left");
    let url = format!("redis://{}", way.address);
    let config = Config {
        store: "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\ntimeout = \"5s\"",
        server: "workers = 1",
        upstream: "timeout = \"1s\"\npause = \"1s\"",
        idempotency: "remember = \"4s\"\nremember_fingerprint = \"4s\"\nin_doubt_for = \"4s\"",
        ..Config::default()
    };
    let fleet = Fleet::of(1, redis, &url, config);
    let (first, second) = ("session=0000000000000000000001", "session=0000000000000000000002");
    let renewed =
        fleet.send(0, &book("/api/bookings", first).header("X-Demo-Fault", &format!("cookie={second}")));
    assert_eq!(renewed.status, 201);
    // An alias lasts by an eighth longer than it is asked to; then it is prolonged by the next write.
    thread::sleep(Duration::from_millis(1_200));
    let leaving = book("/api/bookings/left", second);
    let mut client = TcpStream::connect(fleet.gates[0].address).unwrap();
    client.write_all(&leaving.bytes(fleet.gates[0].address)).unwrap();
    eventually("it is granted, and its session is being prolonged", || {
        (way.held.load(Ordering::SeqCst) > 0).then_some(())
    });
    drop(client);
    eventually("the gateway knows that it left", || {
        let page = Call::new("GET", "/metrics").send(fleet.gates[0].admin).ok()?.text();
        page.contains(r#"oncegate_requests_total{route="guarded",decision="client-left"} 1"#).then_some(())
    });
    way.open.store(true, Ordering::SeqCst);
    eventually("its claim is given up", || {
        let listed = claims(&fleet.gates[0], &["list", "--json"]);
        let listed = String::from_utf8(listed.stdout).expect("text");
        (listed.contains("claims") && !listed.contains("/api/bookings/left")).then_some(())
    });
    assert_eq!(fleet.backend.requests(), 1);
    let made = fleet.send(0, &leaving);
    assert!(made.status != 409 && !made.is_replay(), "{} {}", made.status, made.text());
    assert_eq!(fleet.backend.requests(), 2);
}
