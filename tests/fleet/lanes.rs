//! Lanes over a fleet: one order for the writes of all gateways, also where one of them dies.

use super::Fleet;
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{Call, Config, Reply, at_once_over, eventually};
use std::thread;
use std::time::{Duration, Instant};

const STORE: &str = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nlease = \"2s\"\ntimeout = \"500ms\"";

fn fleet() -> Fleet<Server> {
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    let config = Config {
        store: STORE,
        idempotency: "[route.lane]\nby = [\"$.clinic\"]\nqueue = 100\nwait = \"20s\"",
        upstream: "timeout = \"1s\"\npause = \"2s\"",
        ..Config::default()
    };
    Fleet::of(3, redis, &url, config)
}

fn post(path: &str, n: usize, body: String) -> Call {
    Call::post(path, body)
        .header("Host", "bookings.example")
        .header("Authorization", &format!("Bearer user-{n}"))
        .within(Duration::from_secs(30))
}

fn booking(n: usize, millis: u64) -> Call {
    post("/api/bookings", n, format!(r#"{{"patient":"{n}","clinic":"north"}}"#))
        .header("X-Demo-Fault", &format!("delay={millis}"))
}

/// The patients of the rows that came to be, in order.
fn patients(fleet: &Fleet<Server>) -> Vec<String> {
    let patient = |effect: &serde_json::Value| {
        let detail: serde_json::Value = serde_json::from_str(effect["detail"].as_str().unwrap()).unwrap();
        detail["patient"].as_str().unwrap().to_owned()
    };
    fleet.backend.effects().iter().map(patient).collect()
}

/// Sends through a gateway and waits until so many wait in the lane, as the last gateway sees it.
fn queue_up<'s>(
    scope: &'s thread::Scope<'s, '_>,
    fleet: &'s Fleet<Server>,
    gate: usize,
    n: usize,
    before: usize,
) -> thread::ScopedJoinHandle<'s, Reply> {
    let reply = scope.spawn(move || fleet.send(gate, &booking(n, 0)));
    eventually("it waits in the lane", || {
        let lanes = Call::new("GET", "/api/lanes").send(fleet.gates[2].admin).ok()?.json();
        (lanes["waiting"] == before).then_some(())
    });
    reply
}

/// Sends a write that takes its time, and waits until the backend has it.
fn hold(fleet: &Fleet<Server>, gate: usize, millis: u64) -> thread::JoinHandle<std::io::Result<Reply>> {
    let (address, before) = (fleet.gates[gate].address, fleet.backend.requests());
    let first = thread::spawn(move || booking(0, millis).send(address));
    eventually("the backend has it", || (fleet.backend.requests() > before).then_some(()));
    first
}

#[test]
fn fifty_users_over_three_gateways_get_fifty_numbers_and_three_callers_three_tokens() {
    let fleet = fleet();
    let addresses: Vec<_> = fleet.gates.iter().map(|gate| gate.address).collect();
    let create = |n| post("/api/assessments", n, format!(r#"{{"patient":"{n}","clinic":"north"}}"#));
    let calls: Vec<Call> = (0..50).map(create).collect();
    let mut numbers: Vec<String> = at_once_over(&addresses, &calls)
        .iter()
        .map(|reply| reply.json()["number"].as_str().unwrap_or("?").to_owned())
        .collect();
    numbers.sort();
    assert_eq!(numbers, (1..=50).map(|n| format!("ASM-2025-{n:03}")).collect::<Vec<_>>());
    assert_eq!(fleet.backend.effects().len(), 50);
    let token =
        |n| post("/api/tokens", n, r#"{"clinic":"north","doctor":"王医生","date":"2025-11-24"}"#.to_owned());
    let mut tokens: Vec<String> = at_once_over(&addresses, &[token(0), token(1), token(2)])
        .iter()
        .map(|reply| reply.json()["tokenNumber"].as_str().unwrap_or("?").to_owned())
        .collect();
    tokens.sort();
    assert_eq!(tokens, ["A001", "A002", "A003"]);
}

#[test]
fn the_lane_moves_on_in_order_and_without_overlap_when_its_holder_is_killed_in_mid_write() {
    let mut fleet = fleet();
    let (sent, first) = (Instant::now(), hold(&fleet, 0, 900));
    fleet.gates[0].kill();
    assert!(first.join().unwrap().is_err(), "its client saw the connection break");
    let killed = &fleet;
    thread::scope(|scope| {
        let later: Vec<_> = (1..=8).map(|n| queue_up(scope, killed, 1 + n % 2, n, n)).collect();
        assert!(later.into_iter().all(|reply| reply.join().unwrap().status == 201));
    });
    assert!(sent.elapsed() >= Duration::from_millis(2900), "{:?}", sent.elapsed());
    assert_eq!(patients(&fleet), (0..=8).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn the_places_of_a_killed_gateway_end_with_its_lease() {
    let mut fleet = fleet();
    let first = hold(&fleet, 2, 900);
    let address = fleet.gates[0].address;
    let lost = thread::spawn(move || booking(1, 0).send(address));
    eventually("it waits", || {
        let lanes = Call::new("GET", "/api/lanes").send(fleet.gates[2].admin).ok()?.json();
        (lanes["waiting"] == 1).then_some(())
    });
    fleet.gates[0].kill();
    assert!(lost.join().unwrap().is_err(), "its client saw the connection break");
    let started = Instant::now();
    let next = fleet.send(1, &booking(2, 0));
    assert_eq!((next.status, first.join().unwrap().unwrap().status), (201, 201));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(patients(&fleet), ["0", "2"], "nothing of the killed one was sent");
}
