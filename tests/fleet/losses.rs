//! What a store that has lost its records is told: answers that come just then, what is in flight, what has ended since.

use super::restarts::after_a_round;
use super::{Fleet, SECRET, booking, until_made, usual};
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{
    Call, Config, Handed, RawBackend, Reply, Signal, claims, eventually, gates, ok, signal,
};
use oncegate::cli::demo::gate::Gate;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// As in the whole fleet, with leases that end soon.
pub(super) const SHORT_LEASES: &str =
    "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nlease = \"2s\"";

/// So many gateways with such leases.
fn short_leases(count: usize) -> Fleet<Server> {
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    Fleet::with(count, redis, &url, SHORT_LEASES)
}

/// The record of a booking that the backend executed without an answer, of the gateway `at`.
fn in_doubt(fleet: &Fleet<Server>, at: usize) -> String {
    let broken = fleet.send(at, &booking(1).header("X-Demo-Fault", "reset-after"));
    assert_eq!(broken.status, 502, "{}", broken.text());
    records(&fleet.gates[0]).swap_remove(0)
}

/// The ids of all records.
fn records(gate: &Gate) -> Vec<String> {
    let listed = String::from_utf8(claims(gate, &["list", "--json"]).stdout).expect("text");
    let words = listed.split(|letter: char| !letter.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_owned).collect()
}

/// Sends until the gateways have agreed that the store knows again what they know.
pub(super) fn until_agreed(gate: &Gate, call: &Call) -> Reply {
    eventually("the gateways say what they know", || {
        let reply = call.send(gate.address).expect("an answer");
        (reply.status != 503).then_some(reply)
    })
}

#[test]
fn an_answer_that_meets_a_store_that_lost_everything_is_its_clients_and_every_later_copys() {
    let fleet = usual(1);
    let call = booking(1).header("X-Demo-Fault", "delay-after=300");
    let booked = thread::scope(|scope| {
        let booked = scope.spawn(|| fleet.send(0, &call));
        eventually("the backend has executed it", || (fleet.backend.effects().len() == 1).then_some(()));
        // Until the answer is there, so that it is offered to a store that knows nothing.
        while !booked.is_finished() {
            fleet.redis.cli(&["flushall"]);
        }
        booked.join().expect("a client")
    });
    assert_eq!(booked.status, 201, "{}", booked.text());
    let copy = until_made(&fleet, 0, &booking(1));
    assert!(copy.is_replay() && copy.body == booked.body, "{}", copy.text());
    assert_eq!(fleet.backend.effects().len(), 1);
}

#[test]
fn an_operators_word_that_meets_a_store_that_lost_everything_is_refused_and_nothing_is_forgotten() {
    let fleet = short_leases(1);
    let id = &in_doubt(&fleet, 0);
    let settled = thread::scope(|scope| {
        fleet.redis.cli(&["flushall"]);
        let settling = scope.spawn(|| claims(&fleet.gates[0], &["resolve", id, "--not-executed"]));
        while !settling.is_finished() {
            fleet.redis.cli(&["flushall"]);
        }
        settling.join().expect("an operator")
    });
    assert!(!settled.status.success());
    let copy = until_agreed(&fleet.gates[0], &booking(1));
    assert!(copy.status == 409 && copy.text().contains("outcome-unknown"), "{}", copy.text());
    assert_eq!(fleet.backend.effects().len(), 1);
}

#[test]
fn what_was_done_below_a_resource_that_ended_does_not_come_back_after_everything_was_lost() {
    let raw = RawBackend::start(ok);
    let redis = Server::start(&DURABLE);
    let config = Config { store: SECRET, idempotency: "remember_fingerprint = \"60s\"", ..Config::default() };
    let (gates, _directories) = gates(2, &config.text(raw.address).replace("{store}", &redis.url()));
    let send = |gate: usize, method: &str, path: &str| {
        let call = Call::new(method, path).header("Host", "cal.example").body("same");
        until_agreed(&gates[gate], &call).is_replay()
    };
    for path in ["/api/cal/a", "/api/calendar"] {
        assert!(!send(0, "PUT", path) && send(1, "PUT", path));
    }
    assert!(!send(1, "DELETE", "/api/cal"));
    assert!(!send(0, "PUT", "/api/cal/b"), "it came after that");
    after_a_round(&redis);
    redis.cli(&["flushall"]);
    assert!(send(0, "PUT", "/api/cal/b") && send(0, "PUT", "/api/calendar"));
    assert!(!send(0, "PUT", "/api/cal/a"), "an ended one's answer came back");
}

#[test]
fn what_a_cancellation_ended_does_not_come_back_with_an_older_snapshot() {
    let redis = Server::start(&[]);
    let url = redis.url();
    let mut fleet = Fleet::start(2, redis, &url);
    let by_clerk =
        |call: Call| call.header("Host", "bookings.example").header("Authorization", "Bearer clerk");
    let book = by_clerk(Call::post("/api/bookings", r#"{"patient":"p1","slot":5}"#));
    let booked = fleet.send(0, &book);
    assert_eq!(fleet.redis.cli(&["save"]).trim(), "OK");
    let place = format!("/api/bookings/{}", booked.json()["id"]);
    assert_eq!(fleet.send(1, &by_clerk(Call::new("DELETE", &place))).status, 200);
    // By then the gateways have heard of it.
    after_a_round(&fleet.redis);
    fleet.redis.kill();
    fleet.redis.run();
    assert!(!until_made(&fleet, 0, &book).is_replay(), "the cancelled booking's answer came back");
    assert!(until_made(&fleet, 1, &book).is_replay());
    assert_eq!(fleet.backend.effects().len(), 3, "booked, cancelled, booked");
}

/// Answers what a test's backend holds.
pub(super) fn answered((_, mut connection): (String, TcpStream)) {
    ok(&mut connection);
}

/// What a write was answered, and how often the backend executed it meanwhile.
fn until_answered(held: &Handed, write: thread::JoinHandle<Reply>) -> (Reply, usize) {
    let mut executed = 0;
    eventually("it is answered", || {
        for connection in held.connections.try_iter() {
            executed += 1;
            answered(connection);
        }
        write.is_finished().then_some(())
    });
    (write.join().unwrap(), executed)
}

/// A write of a resource, known without a key.
fn unkeyed(method: &str, path: &str) -> Call {
    Call::new(method, path).header("Host", "bookings.example").body("same")
}

#[test]
fn an_attempt_whose_intent_ended_while_it_was_in_flight_leaves_no_answer_after_everything_was_lost() {
    let (held, redis) = (Handed::start(), Server::start(&DURABLE));
    let config = Config { store: SECRET, idempotency: "remember_fingerprint = \"60s\"", ..Config::default() };
    let (gates, _directories) = gates(2, &config.text(held.address).replace("{store}", &redis.url()));
    let send = |gate: usize, method: &'static str, path: &'static str| {
        let address = gates[gate].address;
        thread::spawn(move || unkeyed(method, path).send(address).expect("an answer"))
    };
    let written = [send(0, "PUT", "/api/a"), send(0, "PUT", "/api/b")];
    let holding = [held.next(), held.next()];
    let deleted = send(1, "DELETE", "/api/a");
    answered(held.next());
    assert_eq!(deleted.join().unwrap().status, 200);
    after_a_round(&redis);
    redis.cli(&["flushall"]);
    // Agreed anew by then.
    let probe = thread::spawn({
        let address = gates[0].address;
        move || {
            eventually("claims are granted", || {
                let reply = unkeyed("PUT", "/api/c").send(address).expect("an answer");
                (reply.status == 200).then_some(())
            })
        }
    });
    answered(held.next());
    probe.join().unwrap();
    holding.into_iter().for_each(answered);
    for written in written {
        assert_eq!(written.join().unwrap().status, 200);
    }
    assert!(send(1, "PUT", "/api/b").join().unwrap().is_replay());
    let (anew, executed) = until_answered(&held, send(1, "PUT", "/api/a"));
    assert!(executed == 1 && !anew.is_replay(), "what was deleted meanwhile came back as a replay");
}

/// A gateway whose writes are in one lane, before a backend that the test holds, over a store that keeps snapshots.
fn in_a_lane(held: &Handed, redis: &Server, idempotency: &'static str) -> (Vec<Gate>, Vec<TempDir>) {
    let store = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nlease = \"8s\"";
    let upstream = "timeout = \"20s\"\npause = \"1s\"";
    let config = Config { store, idempotency, upstream, ..Config::default() };
    gates(1, &config.text(held.address).replace("{store}", &redis.url()))
}

/// Sends it, and does not wait for its answer.
fn sent(gate: &Gate, call: Call) -> thread::JoinHandle<Reply> {
    let address = gate.address;
    thread::spawn(move || call.within(Duration::from_secs(30)).send(address).expect("an answer"))
}

fn until_one_waits(gate: &Gate) {
    eventually("it waits for its turn", || {
        let lanes = Call::new("GET", "/api/lanes").send(gate.admin).ok()?.json();
        (lanes["waiting"] == 1).then_some(())
    });
}

/// The server comes back with its last snapshot, and the gateway has said what it knows.
fn comes_back(redis: &mut Server) {
    redis.kill();
    redis.run();
    eventually("the gateway has said what it knows", || {
        redis.cli(&["get", "{oncegate}clock"]).contains('@').then_some(())
    });
    after_a_round(redis);
}

#[test]
fn a_write_whose_turn_came_after_the_snapshot_that_the_store_comes_back_with_is_executed_once() {
    let (held, mut redis) = (Handed::start(), Server::start(&[]));
    let lane = "[route.lane]\nby = [\"header:Host\"]\nqueue = 9\nwait = \"20s\"";
    let (gates, _directories) = in_a_lane(&held, &redis, lane);
    let first = sent(&gates[0], booking(1));
    let holding = held.next();
    let second = sent(&gates[0], booking(2));
    until_one_waits(&gates[0]);
    assert_eq!(redis.cli(&["save"]).trim(), "OK");
    answered(holding);
    assert_eq!(first.join().unwrap().status, 200);
    let holding = held.next();
    comes_back(&mut redis);
    answered(holding);
    second.join().unwrap();
    let (copy, executed) = until_answered(&held, sent(&gates[0], booking(2)));
    assert!(executed == 0 && copy.is_replay(), "it was executed twice: {}", copy.text());
}

#[test]
fn an_attempt_that_was_given_up_after_the_snapshot_hides_no_later_one_when_the_store_comes_back_with_it() {
    let (held, mut redis) = (Handed::start(), Server::start(&[]));
    let lane =
        "remember_fingerprint = \"60s\"\n[route.lane]\nby = [\"header:Host\"]\nqueue = 9\nwait = \"2s\"";
    let (gates, _directories) = in_a_lane(&held, &redis, lane);
    let first = sent(&gates[0], unkeyed("PUT", "/api/first"));
    let holding = held.next();
    let second = sent(&gates[0], unkeyed("PUT", "/api/second"));
    until_one_waits(&gates[0]);
    assert_eq!(redis.cli(&["save"]).trim(), "OK");
    assert_eq!(second.join().unwrap().status, 503, "its turn does not come");
    answered(holding);
    assert_eq!(first.join().unwrap().status, 200);
    let (made, executed) = until_answered(&held, sent(&gates[0], unkeyed("PUT", "/api/second")));
    assert!(executed == 1 && made.status == 200, "{} {}", made.status, made.text());
    comes_back(&mut redis);
    let mut executed = 0;
    // While the lane of that state has somebody before it, it says so.
    let copy = eventually("it is answered", || {
        let (copy, times) = until_answered(&held, sent(&gates[0], unkeyed("PUT", "/api/second")));
        executed += times;
        (copy.status != 503).then_some(copy)
    });
    assert!(executed == 0 && copy.is_replay(), "it was executed twice: {}", copy.text());
}

/// A way to a server, on which the reply to one command with this in it is lost once that is asked for.
fn lossy_way(server: SocketAddr, about: &'static [u8]) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, armed) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let arm = armed.clone();
    // What is read from one side goes to the other, until either closes or `cuts` says so.
    fn carry(mut from: TcpStream, mut to: TcpStream, mut cuts: impl FnMut(&[u8]) -> bool) {
        let mut piece = [0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            if cuts(&piece[..length]) || to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(server) else { continue };
            let (arm, lost) = (arm.clone(), Arc::new(AtomicBool::new(false)));
            let (from, to, losing) = (client.try_clone().unwrap(), server.try_clone().unwrap(), lost.clone());
            thread::spawn(move || {
                carry(from, to, |piece| {
                    if piece.windows(about.len()).any(|some| some == about)
                        && arm.swap(false, Ordering::Relaxed)
                    {
                        losing.store(true, Ordering::Relaxed);
                    }
                    false
                })
            });
            thread::spawn(move || carry(server, client, |_| lost.load(Ordering::Relaxed)));
        }
    });
    (address, armed)
}

#[test]
fn an_answer_whose_recording_was_not_heard_of_is_known_all_the_same_when_everything_is_lost() {
    let redis = Server::start(&DURABLE);
    // A header of the answer, which only what records it has in it.
    let (way, lose) = lossy_way(redis.address, b"application/json");
    let url = format!("redis://{way}");
    let fleet = Fleet::with(1, redis, &url, SHORT_LEASES);
    lose.store(true, Ordering::Relaxed);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    assert!(!lose.load(Ordering::Relaxed), "the answer was recorded in passing");
    // It is offered again within that time.
    after_a_round(&fleet.redis);
    fleet.redis.cli(&["flushall"]);
    assert!(until_agreed(&fleet.gates[0], &booking(1)).is_replay());
    assert_eq!(fleet.backend.effects().len(), 1);
}

#[test]
fn what_an_operator_settled_as_executed_is_not_executed_after_everything_was_lost() {
    let fleet = short_leases(2);
    let id = &in_doubt(&fleet, 0);
    let settled = claims(&fleet.gates[0], &["resolve", id, "--executed", "--status", "201"]);
    assert!(settled.status.success());
    assert!(fleet.send(1, &booking(1)).is_replay());
    after_a_round(&fleet.redis);
    fleet.redis.cli(&["flushall"]);
    let copy = until_agreed(&fleet.gates[1], &booking(1));
    assert!(copy.status == 409 && copy.text().contains("outcome-unknown"), "{}", copy.text());
    assert_eq!(fleet.backend.effects().len(), 1);
}

#[test]
fn an_attempt_that_was_settled_and_deleted_elsewhere_does_not_come_back_before_the_one_after_it() {
    let fleet = short_leases(2);
    let id = &in_doubt(&fleet, 1);
    for arguments in [&["resolve", id, "--executed", "--status", "201"][..], &["delete", id]] {
        assert!(claims(&fleet.gates[0], arguments).status.success(), "{arguments:?}");
    }
    let anew = fleet.send(0, &booking(1));
    assert!(anew.status == 201 && !anew.is_replay(), "{}", anew.text());
    after_a_round(&fleet.redis);
    // Who made the first attempt says first what it knows.
    let pid = fleet.gates[0].pid().expect("it runs");
    signal(pid, Signal::STOP);
    fleet.redis.cli(&["flushall"]);
    eventually("it has said that", || {
        fleet.redis.cli(&["hvals", "{oncegate}b"]).lines().any(|told| told == "1").then_some(())
    });
    signal(pid, Signal::CONT);
    let copy = until_agreed(&fleet.gates[1], &booking(1));
    assert!(copy.is_replay() && copy.body == anew.body, "{}", copy.text());
    assert_eq!(fleet.backend.effects().len(), 2);
}
