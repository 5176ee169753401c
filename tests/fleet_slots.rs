//! Slots of a fleet: three gateways over one Redis, one slot, one holder. Whichever gateway a booking, its cancellation or its
//! move reaches, all of them know.

mod many;

use crate::harness::redis::{Cluster, DURABLE, Server};
use crate::harness::{
    Backend, Call, Config, Reply, Signal, assert_problem, claims, eventually, gates, signal,
};
use oncegate::cli::demo::gate::Gate;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use tempfile::TempDir;

const ROUTES: &str = r#"
[[route]]
name = "advance"
match = "POST /api/bookings"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "walk-in"
match = "POST /api/walk-ins"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "cancel"
match = "DELETE /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }

[[route]]
name = "change"
match = "PATCH /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id", when = { "$.status" = ["CANCELLED"] } }

[[route]]
name = "group-sessions"
match = "POST /api/group-sessions"
upstream = "scheduler"
[[route.slot]]
name = "group"
by = ["$.date", "$.start"]
capacity = 10
hold = "until $.end"
id = "$.id"

[[route]]
name = "is-it-free"
match = "GET /api/slots/free"
upstream = "scheduler"
ask = { slot = "doctor-slot", by = ["query:clinic", "query:doctor", "query:date", "query:slot"] }
"#;

const STORE: &str = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"";

/// Three gateways before one backend and one store, `R`.
struct Fleet<R> {
    gates: Vec<Gate>,
    backend: Backend,
    redis: R,
    _directories: Vec<TempDir>,
}

// === impl Fleet ===

impl<R> Fleet<R> {
    fn over(redis: R, url: &str) -> Fleet<R> {
        let backend = Backend::start();
        let config = Config { store: STORE, routes: ROUTES, ..Config::default() };
        let text = config.text(backend.address).replace("{store}", url);
        let (gates, _directories) = gates(3, &text);
        Fleet { gates, backend, redis, _directories }
    }

    /// Sends through one of the gateways; again while that says that its store does not answer in time.
    #[track_caller]
    fn send(&self, gate: usize, call: &Call) -> Reply {
        until_answered(call, self.gates[gate].address)
    }

    /// Sends all at one moment, over the gateways in turn.
    fn at_once(&self, calls: &[Call]) -> Vec<Reply> {
        let start = Barrier::new(calls.len());
        thread::scope(|scope| {
            let send = |(at, call): (usize, &'_ Call)| {
                let (start, address, call) = (&start, self.gates[at % 3].address, call.clone());
                scope.spawn(move || {
                    start.wait();
                    until_answered(&call, address)
                })
            };
            let clients: Vec<_> = calls.iter().enumerate().map(send).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        })
    }
}

/// What a client does with a 503 and its `Retry-After`, a little sooner.
#[track_caller]
fn until_answered(call: &Call, address: SocketAddr) -> Reply {
    eventually("the store answers in time", || call.send(address).ok().filter(|reply| reply.status != 503))
}

fn usual() -> Fleet<Server> {
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    Fleet::over(redis, &url)
}

/// Patient `n` books slot `slot`; every other one walks in. Patients spell the same thing differently.
fn book(n: usize, slot: usize) -> Call {
    let path = if n.is_multiple_of(2) { "/api/bookings" } else { "/api/walk-ins" };
    let slot = if n.is_multiple_of(3) { format!("\"{slot}\"") } else { slot.to_string() };
    let body = format!(
        r#"{{"patient":"p{n}","clinicId":"c1","doctor":"Dr. Rao","date":"2026-11-25","slotIndex":{slot}}}"#
    );
    named(Call::post(path, body)).header("Authorization", &format!("Bearer patient-{n}"))
}

/// One name for the whole fleet, as clients behind a load balancer see it.
fn named(call: Call) -> Call {
    call.header("Host", "bookings.example")
}

fn change(id: &serde_json::Value, body: &str) -> Call {
    let call = named(Call::new("PATCH", &format!("/api/bookings/{id}")));
    call.header("Content-Type", "application/json").header("Authorization", "Bearer receptionist").body(body)
}

fn cancel(id: &serde_json::Value) -> Call {
    named(Call::new("DELETE", &format!("/api/bookings/{id}"))).header("Authorization", "Bearer receptionist")
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

#[track_caller]
fn assert_taken(reply: &Reply) {
    assert_problem(reply, 409, "slot-taken");
}

fn fifty_over_three_get_one<R>(fleet: &Fleet<R>) {
    let calls: Vec<Call> = (0..50).map(|n| book(n, 5)).collect();
    let replies = fleet.at_once(&calls);
    assert_eq!((count(&replies, 201), count(&replies, 409)), (1, 49));
    replies.iter().filter(|reply| reply.status == 409).for_each(assert_taken);
    assert_eq!(
        (fleet.backend.effects().len(), fleet.backend.requests()),
        (1, 1),
        "nobody else was even sent"
    );
}

#[test]
fn of_fifty_clients_on_two_routes_and_three_gateways_one_gets_the_slot() {
    fifty_over_three_get_one(&usual());
}

#[test]
fn the_same_on_a_cluster_with_a_cancellation_and_a_move_between_gateways() {
    let redis = Cluster::start();
    let url = redis.url();
    let fleet = Fleet::over(redis, &url);
    fifty_over_three_get_one(&fleet);
    let id = fleet.send(0, &book(60, 6)).json()["id"].clone();
    assert_eq!(fleet.send(1, &change(&id, r#"{"slotIndex":7}"#)).status, 200);
    assert_taken(&fleet.send(2, &book(61, 7)));
    assert_eq!(fleet.send(2, &book(62, 6)).status, 201);
    assert_eq!(fleet.send(2, &cancel(&id)).status, 200);
    assert_eq!(fleet.send(0, &book(61, 7)).status, 201);
    assert!(fleet.redis.nodes.len() == 6);
}

#[test]
fn a_group_of_ten_admits_exactly_ten_over_three_gateways() {
    let fleet = usual();
    let join = |student: usize| {
        let body = format!(
            r#"{{"date":"2099-01-01","start":"09:00","end":"2099-01-01T09:50:00Z","student":"S{student}"}}"#
        );
        named(Call::post("/api/group-sessions", body))
            .header("Authorization", &format!("Bearer {student}"))
            .header("X-Demo-Fault", "status-after=201")
    };
    let calls: Vec<Call> = (0..50).map(join).collect();
    let replies = fleet.at_once(&calls);
    assert_eq!((count(&replies, 201), count(&replies, 409)), (10, 40));
    assert_eq!(fleet.backend.requests(), 10, "nobody else was even sent");
}

#[test]
fn a_cancellation_through_another_gateway_frees_its_slot_and_no_other() {
    let fleet = usual();
    let first = fleet.send(0, &book(1, 5)).json()["id"].clone();
    let other = fleet.send(1, &book(1, 6)).json()["id"].clone();
    assert_eq!(fleet.send(2, &cancel(&other)).status, 200);
    assert_taken(&fleet.send(1, &book(2, 5)));
    assert_eq!(fleet.send(0, &book(2, 6)).status, 201, "that one is free");
    assert_eq!(fleet.send(1, &cancel(&serde_json::json!(999))).status, 404);
    assert_taken(&fleet.send(2, &book(2, 5)));
    assert_eq!(fleet.send(1, &cancel(&first)).status, 200);
    // The very same request as the first one, from the same patient: a new intent, on whichever gateway.
    let again = fleet.send(2, &book(1, 5));
    assert_eq!((again.status, again.is_replay()), (201, false));
}

#[test]
fn a_booking_that_moves_through_another_gateway_frees_the_old_slot_and_takes_the_new_one_or_changes_nothing()
{
    let fleet = usual();
    let id = fleet.send(0, &book(1, 5)).json()["id"].clone();
    assert_eq!(fleet.send(1, &book(2, 6)).status, 201);
    assert_taken(&fleet.send(2, &change(&id, r#"{"slotIndex":6}"#)));
    assert_taken(&fleet.send(0, &book(3, 5)));
    // The backend says no: nothing has changed either.
    let no = change(&id, r#"{"slotIndex":7}"#).header("X-Demo-Fault", "status=422");
    assert_eq!(fleet.send(1, &no).status, 422);
    assert_taken(&fleet.send(2, &book(3, 5)));
    assert_eq!(fleet.send(0, &book(4, 7)).status, 201, "what it asked for is free again");
    // Nobody knows: both stay taken.
    let lost = change(&id, r#"{"slotIndex":9}"#).header("X-Demo-Fault", "reset-before");
    assert_eq!(fleet.send(1, &lost).status, 502);
    assert_taken(&fleet.send(0, &book(3, 5)));
    assert_taken(&fleet.send(2, &book(3, 9)));
}

#[test]
fn of_two_moves_of_one_booking_over_two_gateways_the_second_is_told_to_wait_and_no_slot_is_lost() {
    let fleet = usual();
    let id = fleet.send(0, &book(1, 1)).json()["id"].clone();
    let to = |slot: usize| change(&id, &format!(r#"{{"slotIndex":{slot}}}"#));
    let (address, slow) = (fleet.gates[0].address, to(2).header("X-Demo-Fault", "delay=2000"));
    let first = thread::spawn(move || until_answered(&slow, address));
    eventually("the backend has the first", || (fleet.backend.requests() == 2).then_some(()));
    assert_problem(&fleet.send(1, &to(3)), 409, "in-flight");
    assert_eq!(first.join().unwrap().status, 200);
    assert_taken(&fleet.send(2, &book(5, 2)));
    assert_eq!(fleet.send(2, &book(6, 3)).status, 201, "what the other one asked for is free");
    assert_eq!(fleet.send(0, &book(7, 1)).status, 201);
}

#[test]
fn a_claim_whose_answer_was_lost_takes_no_slot() {
    let fleet = usual();
    // Every worker has connections of its own: those that are open already take a claim from a server that stands still.
    let warm = (100..124).map(|n| fleet.send(0, &book(n, n)).status).filter(|status| *status == 201);
    assert_eq!(warm.count(), 24);
    let pid = fleet.redis.pid();
    signal(pid, Signal::STOP);
    let lost: Vec<Call> = (200..208).map(|n| book(n, n)).collect();
    for refused in crate::harness::at_once(fleet.gates[0].address, &lost) {
        assert_problem(&refused, 503, "store-unavailable");
    }
    // Now the server reads what lies in its buffers, and grants it to nobody.
    signal(pid, Signal::CONT);
    for slot in 200..208 {
        eventually("what was claimed for nobody is free", || {
            let reply = book(slot + 100, slot).send(fleet.gates[1].address).ok()?;
            (reply.status == 201).then_some(())
        });
    }
    assert_eq!(fleet.backend.effects().len(), 32);
}

#[test]
fn a_paused_booking_comes_back_through_another_gateway_only_while_its_slot_is_free() {
    let fleet = usual();
    let id = fleet.send(0, &book(1, 5)).json()["id"].clone();
    assert_eq!(fleet.send(1, &change(&id, r#"{"status":"CANCELLED"}"#)).status, 200);
    let ask = named(Call::new("GET", "/api/slots/free?clinic=c1&doctor=Dr.+Rao&date=2026-11-25&slot=5"));
    assert_eq!(fleet.send(2, &ask).json()["free"], true);
    let other = fleet.send(2, &book(2, 5)).json()["id"].clone();
    assert_eq!(fleet.send(0, &ask).json()["free"], false);
    assert_taken(&fleet.send(0, &change(&id, r#"{"status":"BOOKED"}"#)));
    assert_eq!(fleet.send(1, &cancel(&other)).status, 200);
    assert_eq!(fleet.send(2, &change(&id, r#"{"status":"BOOKED"}"#)).status, 200);
    assert_taken(&fleet.send(0, &book(3, 5)));
}

#[test]
fn a_redis_that_loses_everything_is_told_its_holds_again_and_none_that_were_given_back() {
    let mut fleet = usual();
    for (gate, slot) in [(0, 1), (1, 2), (2, 3), (0, 4), (1, 5)] {
        assert_eq!(fleet.send(gate, &book(slot, slot)).status, 201);
    }
    let id = |slot: usize| fleet.send(0, &book(slot, slot)).json()["id"].clone();
    let (cancelled, moved) = (id(4), id(5));
    // Through gateways that did not make the bookings.
    assert_eq!(fleet.send(1, &cancel(&cancelled)).status, 200);
    assert_eq!(fleet.send(2, &change(&moved, r#"{"slotIndex":6}"#)).status, 200);
    // The server tells the news before it answers a later question, so each of them has got it.
    for gate in 0..3 {
        assert_taken(&fleet.send(gate, &book(40 + gate, 1)));
    }
    let sent = fleet.backend.requests();
    fleet.redis.kill();
    fleet.redis.forget();
    fleet.redis.run();
    for slot in [1, 2, 3, 6] {
        for gate in 0..3 {
            assert_taken(&fleet.send(gate, &book(20 + gate, slot)));
        }
    }
    assert_eq!(fleet.backend.requests(), sent, "nothing was sent for a slot that somebody has");
    assert_eq!(fleet.send(0, &book(30, 4)).status, 201, "what was cancelled stays free");
    assert_eq!(fleet.send(1, &book(31, 5)).status, 201, "and what was moved away from");
    // A hold that was told again is still that booking's.
    assert_eq!(fleet.send(0, &cancel(&moved)).status, 200);
    assert_eq!(fleet.send(1, &book(32, 6)).status, 201);
}

#[test]
fn what_another_gateway_settled_as_not_executed_leaves_its_slot_free_after_everything_was_lost() {
    let fleet = usual();
    assert_eq!(fleet.send(0, &book(1, 5).header("X-Demo-Fault", "reset-before")).status, 502);
    let listed = String::from_utf8(claims(&fleet.gates[1], &["list", "--json"]).stdout).expect("text");
    let id = listed.split(|letter: char| !letter.is_ascii_hexdigit()).find(|word| word.len() == 64);
    let settled = claims(&fleet.gates[1], &["resolve", id.expect("one record"), "--not-executed"]);
    assert!(settled.status.success());
    // The server tells the news before it answers a later question.
    assert_eq!(fleet.send(0, &book(2, 6)).status, 201);
    fleet.redis.cli(&["flushall"]);
    assert_taken(&fleet.send(0, &book(3, 6)));
    assert_eq!(fleet.send(2, &book(3, 5)).status, 201, "that one is free");
}

#[test]
fn what_a_killed_gateway_had_sent_keeps_its_slot_for_all() {
    let mut fleet = usual();
    let (address, call) = (fleet.gates[0].address, book(2, 5).header("X-Demo-Fault", "delay=1500"));
    let writer = thread::spawn(move || {
        loop {
            match call.send(address) {
                Ok(reply) if reply.status == 503 => {}
                ended => return ended,
            }
        }
    });
    eventually("the backend has the request", || (fleet.backend.requests() == 1).then_some(()));
    assert_taken(&fleet.send(1, &book(3, 5)));
    fleet.gates[0].kill();
    assert!(writer.join().unwrap().is_err(), "its client saw the connection break");
    fleet.gates[0].start().expect("it starts again");
    let unsettled = eventually("its outcome is in doubt for all", || {
        let reply = fleet.send(1, &book(3, 5));
        assert_taken(&reply);
        (reply.json()["state"] == "unsettled").then_some(reply)
    });
    assert!(unsettled.json()["until"].is_string());
}

#[test]
fn a_copy_of_a_move_under_a_key_is_answered_although_the_store_has_just_gone() {
    let mut fleet = usual();
    let id = fleet.send(0, &book(1, 5)).json()["id"].clone();
    let keyed = |slot: usize, key: &str| {
        change(&id, &format!(r#"{{"slotIndex":{slot}}}"#))
            .header("Idempotency-Key", &format!("{key}-0123456789abcdef0123"))
    };
    assert_eq!(fleet.send(0, &keyed(6, "first")).status, 200);
    let sent = fleet.backend.requests();
    fleet.redis.kill();
    let copy = keyed(6, "first").send(fleet.gates[0].address).unwrap();
    assert_eq!((copy.status, copy.is_replay()), (200, true), "{}", copy.text());
    for (gate, call) in [(0, keyed(7, "other")), (1, keyed(6, "first"))] {
        assert_problem(&call.send(fleet.gates[gate].address).unwrap(), 503, "store-unavailable");
    }
    assert_eq!(fleet.backend.requests(), sent);
}

#[test]
fn every_key_of_slots_has_an_end() {
    let fleet = usual();
    let id = fleet.send(0, &book(1, 5)).json()["id"].clone();
    fleet.send(1, &book(2, 6).header("X-Demo-Fault", "status=500"));
    assert_eq!(fleet.send(1, &change(&id, r#"{"slotIndex":7}"#)).status, 200);
    let keys = fleet.redis.cli(&["--scan"]);
    assert!(keys.lines().filter(|key| key.starts_with("{oncegate}h")).count() >= 5, "{keys}");
    let script = "local without = {} for _, key in ipairs(redis.call('keys', '*')) do \
                  if redis.call('pttl', key) < 0 then table.insert(without, key) end end return without";
    assert_eq!(fleet.redis.cli(&["eval", script, "0"]).trim(), "", "keys without an end");
}
