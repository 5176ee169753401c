//! Lanes through a real gateway: writes that share a key run one at a time and in order, whoever sends them; what happens
//! to those who wait when clients leave, backends hang and gateways die.

use crate::harness::{Call, Config, RawBackend, Stand, assert_problem, at_once, eventually};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// One lane for each clinic, without keys: every call is an intent of its own.
const LANE: &str = "not_executed = [\"4xx\"]\n[route.lane]\nby = [\"$.clinic\"]\nqueue = 100\nwait = \"10s\"";

fn stand(idempotency: &'static str) -> Stand {
    Stand::with(Config { idempotency, upstream: "timeout = \"2s\"\npause = \"2s\"", ..Config::default() })
}

fn user(n: usize) -> String {
    format!("Bearer user-{n}")
}

/// What user `n` wants in a clinic.
fn create(n: usize, clinic: &str) -> Call {
    let body = format!(r#"{{"patient":"{n}","clinic":"{clinic}"}}"#);
    Call::post("/api/assessments", body).header("Authorization", &user(n)).within(Duration::from_secs(30))
}

/// A booking that takes so long.
fn slow(n: usize, clinic: &str, millis: u64) -> Call {
    let body = format!(r#"{{"patient":"{n}","clinic":"{clinic}"}}"#);
    Call::post("/api/bookings", body)
        .header("Authorization", &user(n))
        .header("X-Demo-Fault", &format!("delay={millis}"))
        .within(Duration::from_secs(30))
}

/// A figure of the gateway's.
fn figure(stand: &Stand, series: &str) -> f64 {
    let text = Call::new("GET", "/metrics").send(stand.gate.admin).expect("the admin address answers").text();
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit_once(' ')).map_or(0.0, |(_, value)| value.parse().expect("a number"))
}

fn waiting(stand: &Stand) -> f64 {
    figure(stand, "oncegate_lane_waiting")
}

/// The patients of the rows that came to be, in order.
fn patients(stand: &Stand) -> Vec<String> {
    let patient = |effect: &serde_json::Value| -> Option<String> {
        let detail: serde_json::Value = serde_json::from_str(effect["detail"].as_str()?).ok()?;
        Some(detail["patient"].as_str()?.to_owned())
    };
    stand.backend.effects().iter().filter_map(patient).collect()
}

/// Sends a call from a thread of its own and waits until it is queued behind `before` others.
fn queue_up<'s>(
    scope: &'s thread::Scope<'s, '_>,
    stand: &'s Stand,
    call: Call,
    before: usize,
) -> thread::ScopedJoinHandle<'s, crate::harness::Reply> {
    let reply = scope.spawn(move || stand.send(&call));
    eventually("it waits in the lane", || (waiting(stand) >= before as f64).then_some(()));
    reply
}

#[test]
fn fifty_users_at_once_get_fifty_numbers_without_a_gap() {
    let stand = stand(LANE);
    let calls: Vec<Call> = (0..50).map(|n| create(n, "north")).collect();
    let replies = at_once(stand.gate.address, &calls);
    let mut numbers: Vec<String> =
        replies.iter().map(|reply| reply.json()["number"].as_str().unwrap_or("?").to_owned()).collect();
    numbers.sort();
    let wanted: Vec<String> = (1..=50).map(|n| format!("ASM-2025-{n:03}")).collect();
    assert_eq!(numbers, wanted);
    assert!(replies.iter().all(|reply| reply.status == 201));
    assert_eq!(stand.backend.effects().len(), 50);
    assert_eq!(figure(&stand, "oncegate_lane_wait_seconds_count{route=\"guarded\"}"), 50.0);
    eventually("the lane is gone", || (figure(&stand, "oncegate_lanes") == 0.0).then_some(()));
}

#[test]
fn writes_run_in_the_order_in_which_they_came() {
    let stand = stand(LANE);
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow(0, "north", 600)));
        stand.wait_for_requests(1);
        let later: Vec<_> = (1..=12).map(|n| queue_up(scope, &stand, slow(n, "north", 0), n)).collect();
        let lanes = Call::new("GET", "/api/lanes").send(stand.gate.admin).unwrap().json();
        assert_eq!((&lanes["lanes"][0]["waiting"], &lanes["lanes"][0]["key"]), (&12.into(), &"north".into()));
        assert!(lanes["lanes"][0]["turn_until"].is_number(), "{lanes}");
        assert_eq!(first.join().unwrap().status, 201);
        assert!(later.into_iter().all(|reply| reply.join().unwrap().status == 201));
    });
    assert_eq!(patients(&stand), (0..=12).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn another_clinic_does_not_wait() {
    let stand = stand(LANE);
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow(0, "north", 700)));
        stand.wait_for_requests(1);
        let started = Instant::now();
        assert_eq!(stand.send(&slow(1, "south", 0)).status, 201);
        assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
        assert_eq!(first.join().unwrap().status, 201);
    });
}

#[test]
fn beyond_queue_and_wait_there_is_a_503_that_says_when_to_come_back() {
    let stand = stand("[route.lane]\nby = [\"$.clinic\"]\nqueue = 2\nwait = \"400ms\"");
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow(0, "north", 1000)));
        stand.wait_for_requests(1);
        let second = queue_up(scope, &stand, slow(1, "north", 0), 1);
        let third = queue_up(scope, &stand, slow(2, "north", 0), 2);
        let full = stand.send(&slow(3, "north", 0));
        assert_problem(&full, 503, "lane-full");
        assert!(full.header("retry-after").is_some());
        for late in [second.join().unwrap(), third.join().unwrap()] {
            assert_problem(&late, 503, "lane-slow");
            assert!(late.header("retry-after").is_some());
        }
        assert_eq!(first.join().unwrap().status, 201);
    });
    assert_eq!(patients(&stand), ["0"], "nothing of the others was sent");
    // What was turned away is a new intent.
    assert_eq!(stand.send(&slow(1, "north", 0)).status, 201);
}

#[test]
fn a_copy_waits_for_its_originals_turn_and_gets_its_answer() {
    let stand = stand(LANE);
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow(0, "north", 500)));
        stand.wait_for_requests(1);
        let original = queue_up(scope, &stand, slow(1, "north", 0), 1);
        let copy = scope.spawn(|| stand.send(&slow(1, "north", 0)));
        assert_eq!(first.join().unwrap().status, 201);
        let (original, copy) = (original.join().unwrap(), copy.join().unwrap());
        assert_eq!((copy.status, &copy.body, copy.is_replay()), (201, &original.body, true));
    });
    assert_eq!(patients(&stand), ["0", "1"]);
}

#[test]
fn a_copy_whose_original_is_refused_its_turn_is_refused_and_gets_no_replay() {
    let stand = stand("[route.lane]\nby = [\"$.clinic\"]\nqueue = 2\nwait = \"1s\"");
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow(0, "north", 1600)));
        stand.wait_for_requests(1);
        let original = queue_up(scope, &stand, slow(1, "north", 0), 1);
        let copy = scope.spawn(|| stand.send(&slow(1, "north", 0)));
        for refused in [original.join().unwrap(), copy.join().unwrap()] {
            assert_problem(&refused, 503, "lane-slow");
            assert!(!refused.is_replay() && refused.header("retry-after").is_some());
        }
        assert_eq!(first.join().unwrap().status, 201);
    });
}

/// Sends a call and gives its connection back without reading.
fn send_only(stand: &Stand, call: &Call) -> TcpStream {
    let mut connection = TcpStream::connect(stand.gate.address).unwrap();
    connection.write_all(&call.bytes(stand.gate.address)).unwrap();
    connection
}

#[test]
fn a_client_that_leaves_before_its_turn_gives_up_its_place() {
    let stand = stand(LANE);
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow(0, "north", 900)));
        stand.wait_for_requests(1);
        let leaving = send_only(&stand, &slow(1, "north", 0));
        eventually("it waits", || (waiting(&stand) == 1.0).then_some(()));
        let third = queue_up(scope, &stand, slow(2, "north", 0), 2);
        drop(leaving);
        eventually("its place is given up", || (waiting(&stand) == 1.0).then_some(()));
        assert_eq!(first.join().unwrap().status, 201);
        assert_eq!(third.join().unwrap().status, 201);
    });
    assert_eq!(patients(&stand), ["0", "2"]);
    assert_eq!(stand.send(&slow(1, "north", 0)).status, 201, "it is a new intent");
}

#[test]
fn a_copy_inherits_claim_and_place_of_a_client_that_leaves() {
    let stand = stand(LANE);
    thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow(0, "north", 900)));
        stand.wait_for_requests(1);
        let leaving = send_only(&stand, &slow(1, "north", 0));
        eventually("it waits", || (waiting(&stand) == 1.0).then_some(()));
        let copy = scope.spawn(|| stand.send(&slow(1, "north", 0)));
        let third = queue_up(scope, &stand, slow(2, "north", 0), 2);
        thread::sleep(Duration::from_millis(100));
        leaving.shutdown(Shutdown::Both).unwrap();
        drop(leaving);
        assert_eq!(first.join().unwrap().status, 201);
        let copy = copy.join().unwrap();
        assert_eq!((copy.status, copy.is_replay()), (201, true));
        assert_eq!(third.join().unwrap().status, 201);
    });
    assert_eq!(patients(&stand), ["0", "1", "2"], "the place was kept");
}

#[test]
fn a_client_that_leaves_after_its_write_was_sent_changes_nothing() {
    let stand = stand(LANE);
    let leaving = send_only(&stand, &slow(0, "north", 500));
    stand.wait_for_requests(1);
    thread::scope(|scope| {
        let second = queue_up(scope, &stand, slow(1, "north", 0), 1);
        drop(leaving);
        assert_eq!(second.join().unwrap().status, 201);
    });
    assert_eq!(patients(&stand), ["0", "1"]);
    let late = stand.send(&slow(0, "north", 500));
    assert_eq!((late.status, late.is_replay()), (201, true));
}

#[test]
fn an_attempt_in_doubt_keeps_the_lane_until_the_backend_must_have_ended() {
    // The backend takes longer than the timeout, and ends within the pause.
    let stand = Stand::with(Config {
        idempotency: "[route.lane]\nby = [\"$.clinic\"]\nqueue = 10\nwait = \"10s\"",
        upstream: "timeout = \"500ms\"\npause = \"1s\"",
        ..Config::default()
    });
    thread::scope(|scope| {
        let sent = Instant::now();
        let first = scope.spawn(|| {
            let call = create(0, "north").header("X-Demo-Fault", "reset-after=0");
            stand.send(&call)
        });
        stand.wait_for_requests(1);
        let second = queue_up(scope, &stand, slow(1, "north", 0), 1);
        assert_problem(&first.join().unwrap(), 502, "outcome-unknown");
        assert_eq!(second.join().unwrap().status, 201);
        assert!(sent.elapsed() >= Duration::from_millis(1500), "{:?}", sent.elapsed());
    });
}

#[test]
fn a_late_answer_gives_the_turn_on_at_once() {
    let stand = Stand::with(Config {
        idempotency: "[route.lane]\nby = [\"$.clinic\"]\nqueue = 10\nwait = \"20s\"",
        upstream: "timeout = \"600ms\"\npause = \"15s\"",
        ..Config::default()
    });
    thread::scope(|scope| {
        let sent = Instant::now();
        let first = scope.spawn(|| stand.send(&slow(0, "north", 900)));
        stand.wait_for_requests(1);
        let second = queue_up(scope, &stand, slow(1, "north", 0), 1);
        assert_problem(&first.join().unwrap(), 504, "outcome-unknown");
        assert_eq!(second.join().unwrap().status, 201);
        assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
    });
    assert_eq!(patients(&stand), ["0", "1"]);
}

#[test]
fn a_gate_that_is_killed_in_mid_write_keeps_the_lane_closed_behind_it() {
    let mut stand = Stand::with(Config {
        idempotency: "[route.lane]\nby = [\"$.clinic\"]\nqueue = 10\nwait = \"10s\"",
        upstream: "timeout = \"1s\"\npause = \"2s\"",
        ..Config::default()
    });
    // The backend goes on with it whatever happens to the gate.
    let orphan = send_only(&stand, &slow(0, "north", 900));
    stand.wait_for_requests(1);
    let sent = Instant::now();
    stand.gate.kill();
    drop(orphan);
    stand.start();
    let other = Instant::now();
    assert_eq!(stand.send(&slow(1, "south", 0)).status, 201);
    assert!(other.elapsed() < Duration::from_millis(900), "another lane is open: {:?}", other.elapsed());
    assert_eq!(stand.send(&slow(2, "north", 0)).status, 201);
    assert!(sent.elapsed() >= Duration::from_millis(2500), "{:?}", sent.elapsed());
    let rows = patients(&stand);
    let at = |patient: &str| rows.iter().position(|row| row == patient).expect("a row");
    assert!(at("0") < at("2"), "{rows:?}");
}

/// The thousand's backend holds the first write until the test says so, and answers the others at once.
static HELD: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);

fn held(connection: &mut TcpStream) {
    while HELD.load(std::sync::atomic::Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(5));
    }
    crate::harness::ok(connection);
}

#[test]
fn a_thousand_waiters_are_served_in_their_order_in_little_memory_and_one_more_is_refused() {
    const WAITERS: usize = 1_000;
    let backend = RawBackend::start(held);
    let stand = Stand::with(Config {
        idempotency: "[route.lane]\nby = [\"$.clinic\"]\nqueue = 1000\nwait = \"2m\"",
        upstream: "timeout = \"60s\"\nmax_in_flight = 2",
        backend: Some(backend.address),
        ..Config::default()
    });
    let call = |n: usize| {
        let body = format!(r#"{{"patient":"p{n:04}","clinic":"north"}}"#);
        Call::post("/api/bookings", body).header("Authorization", &user(n)).within(Duration::from_secs(120))
    };
    let first = send_only(&stand, &call(0));
    assert!(backend.next().contains("p0000"));
    let before = figure(&stand, "process_resident_memory_bytes");
    let mut waiters = Vec::new();
    for n in 1..=WAITERS {
        waiters.push(send_only(&stand, &call(n)));
        // One after the other, so that their order is known.
        eventually("it waits", || {
            let lanes = Call::new("GET", "/api/lanes?limit=1").send(stand.gate.admin).unwrap().json();
            (lanes["waiting"] == n).then_some(())
        });
    }
    let full = stand.send(&call(WAITERS + 1));
    assert_problem(&full, 503, "lane-full");
    assert!(full.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1)));
    let grown = figure(&stand, "process_resident_memory_bytes") - before;
    println!("{WAITERS} waiters take {:.1} KiB each", grown / 1024.0 / WAITERS as f64);
    // Mostly the connection and the attempt's own task, which an unoptimised build makes large. It must not grow with the queue.
    assert!(grown < 96.0 * 1024.0 * WAITERS as f64, "{grown} bytes for {WAITERS} waiters");
    HELD.store(false, std::sync::atomic::Ordering::SeqCst);
    let started = Instant::now();
    for n in 1..=WAITERS {
        let request = backend.next();
        assert!(request.contains(&format!("p{n:04}")), "overtaken at {n}: {request}");
    }
    println!("served in {:.1?}", started.elapsed());
    drop((first, waiters));
    eventually("the lane is gone", || (figure(&stand, "oncegate_lanes") == 0.0).then_some(()));
}

#[test]
fn three_token_requests_at_once_from_three_callers_give_three_tokens() {
    let stand = stand(LANE);
    let token = |n: usize| {
        Call::post("/api/tokens", r#"{"clinic":"north","doctor":"王医生","date":"2025-11-24"}"#)
            .header("Authorization", &user(n))
    };
    let without = at_once(stand.backend.address, &[token(0), token(1), token(2)]);
    let tokens = |replies: &[crate::harness::Reply]| {
        let mut tokens: Vec<String> =
            replies.iter().map(|reply| reply.json()["tokenNumber"].as_str().unwrap_or("?").into()).collect();
        tokens.sort();
        tokens
    };
    assert_eq!(tokens(&without), ["A001", "A001", "A001"], "the bug is there");
    let with = at_once(stand.gate.address, &[token(0), token(1), token(2)]);
    assert_eq!(tokens(&with), ["A004", "A005", "A006"]);
}

#[test]
fn a_lane_that_is_only_observed_waits_for_nothing() {
    let stand = Stand::with(Config { top: "mode = \"observe\"", idempotency: LANE, ..Config::default() });
    let started = Instant::now();
    let calls: Vec<Call> = (0..5).map(|n| slow(n, "north", 400)).collect();
    let replies = at_once(stand.gate.address, &calls);
    assert!(replies.iter().all(|reply| reply.status == 201));
    assert!(started.elapsed() < Duration::from_millis(1600), "{:?}", started.elapsed());
}
