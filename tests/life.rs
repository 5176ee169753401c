//! Clients that leave, drains, restarts: what becomes of a write when somebody goes away.

use crate::harness::{Call, Signal, Stand, assert_one_answer, eventually, signal};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const KEY: &str = "e2a7c9d1-3b4f-4f6a-8c0d-1f2e3d4c5b6a";

fn book() -> Call {
    Call::post("/api/bookings", r#"{"slot":3}"#).header("Authorization", "Bearer receptionist-1")
}

/// What the gate has logged in all its lives.
fn log(stand: &Stand) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(&stand.gate.log).unwrap();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_client_that_leaves_within_its_body_claims_nothing() {
    let stand = Stand::new();
    let whole = book().header("Idempotency-Key", KEY).bytes(stand.gate.address);
    for missing in [1, 5, 10] {
        let mut stream = TcpStream::connect(stand.gate.address).unwrap();
        stream.write_all(&whole[..whole.len() - missing]).unwrap();
        drop(stream);
    }
    let booked = stand.send(&book().header("Idempotency-Key", KEY));
    assert_eq!((booked.status, booked.is_replay()), (201, false));
    assert_eq!((stand.backend.requests(), stand.in_doubt().len()), (1, 0));
}

#[test]
fn a_write_whose_client_leaves_runs_to_its_end_and_the_copy_gets_the_answer() {
    let stand = Stand::new();
    for kind in ["delay=500", "delay-after=500"] {
        let call = Call::post("/api/bookings", format!(r#"{{"kind":"{kind}"}}"#));
        let before = stand.backend.requests();
        let mut stream = TcpStream::connect(stand.gate.address).unwrap();
        stream.write_all(&call.clone().header("X-Demo-Fault", kind).bytes(stand.gate.address)).unwrap();
        stand.wait_for_requests(before + 1);
        drop(stream);
        let copy = stand.send(&call);
        assert_eq!((copy.status, copy.is_replay()), (201, true), "{}", copy.text());
        assert_eq!(stand.backend.requests(), before + 1);
    }
    assert_eq!(stand.backend.effects().len(), 2);
}

#[test]
fn a_drain_ends_what_is_in_flight_and_takes_nothing_new() {
    let mut stand = Stand::new();
    let address = stand.gate.address;
    let first = thread::spawn(move || book().header("X-Demo-Fault", "delay=1000").send(address).unwrap());
    stand.wait_for_requests(1);
    stand.terminate();
    eventually("new connections are refused", || TcpStream::connect(address).is_err().then_some(()));
    assert_eq!(stand.backend.effects().len(), 0, "the first is still in flight");
    assert_eq!(first.join().unwrap().status, 201);
    let status = eventually("the gate ends", || stand.gate.exit_status().unwrap());
    assert!(status.success(), "{status}");
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn the_end_of_its_terminal_is_a_drain_too() {
    let mut stand = Stand::new();
    let address = stand.gate.address;
    let first = thread::spawn(move || book().header("X-Demo-Fault", "delay=1000").send(address));
    stand.wait_for_requests(1);
    signal(stand.gate.pid().expect("the gate runs"), Signal::HUP);
    assert_eq!(first.join().unwrap().expect("an answer").status, 201);
    assert!(eventually("the gate ends", || stand.gate.exit_status().unwrap()).success());
}

#[test]
fn in_the_lame_duck_time_it_is_unready_and_still_serves() {
    let config = crate::harness::Config { server: "lame_duck = \"2s\"", ..Default::default() };
    let mut stand = Stand::with(config);
    stand.terminate();
    let ready = Call::new("GET", "/readyz");
    eventually("the gate is unready", || {
        ready.send(stand.gate.admin).is_ok_and(|reply| reply.status == 503).then_some(())
    });
    assert_eq!(stand.send(&book()).status, 201);
    assert!(eventually("the gate ends", || stand.gate.exit_status().unwrap()).success());
}

#[test]
fn a_write_past_the_drain_is_in_doubt_and_not_lost() {
    let config = crate::harness::Config { server: "drain = \"300ms\"", ..Default::default() };
    let mut stand = Stand::with(config);
    let address = stand.gate.address;
    let slow = book().header("X-Demo-Fault", "delay=2000").header("X-Request-Id", "cut-off");
    let first = thread::spawn(move || slow.within(Duration::from_secs(5)).send(address));
    stand.wait_for_requests(1);
    stand.terminate();
    eventually("the gate ends", || stand.gate.exit_status().unwrap());
    let _ = first.join().unwrap();
    let lines = log(&stand).into_iter().filter(|line| line["target"] == "access");
    let told: Vec<_> = lines.filter(|line| line["request_id"] == "cut-off").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["decision"], &told[0]["status"]), (&"client-left".into(), &499.into()));
    stand.start();
    crate::harness::assert_problem(&stand.send(&book()), 409, "outcome-unknown");
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn recorded_answers_survive_a_restart_and_a_kill() {
    let mut stand = Stand::new();
    let first = stand.send(&book().header("Idempotency-Key", KEY));
    assert_eq!(first.status, 201);
    stand.terminate();
    eventually("the gate ends", || stand.gate.exit_status().unwrap());
    stand.start();
    assert_one_answer(&[first.clone(), stand.send(&book().header("Idempotency-Key", KEY))]);
    for _ in 0..3 {
        stand.gate.kill();
        stand.start();
        assert_one_answer(&[first.clone(), stand.send(&book().header("Idempotency-Key", KEY))]);
    }
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn the_window_of_a_fingerprint_ends() {
    let config =
        crate::harness::Config { idempotency: "remember_fingerprint = \"300ms\"", ..Default::default() };
    let stand = Stand::with(config);
    let first = stand.send(&book());
    eventually("the same request is a new intent", || (stand.send(&book()).body != first.body).then_some(()));
    assert_eq!(stand.backend.effects().len(), 2);
}

#[test]
fn a_second_gate_on_the_same_store_is_refused() {
    let stand = Stand::new();
    let mut second = std::process::Command::new(crate::harness::program());
    let output = second.args(["run", "--config"]).arg(&stand.gate.config).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(stand.send(&book()).status, 201);
}

#[test]
fn writes_that_a_killed_gate_left_in_doubt_are_told_by_the_next_one_once_and_counted_by_all() {
    let mut stand = Stand::new();
    let (address, id) = (stand.gate.address, |n: u32| format!("left-{n}"));
    let slow = |n: u32| {
        let call = Call::post("/api/bookings", format!(r#"{{"slot":{n}}}"#)).header("X-Request-Id", &id(n));
        call.header("Authorization", "Bearer ann").header("X-Demo-Fault", "delay=20000")
    };
    let senders: Vec<_> = (0..3).map(slow).map(|call| thread::spawn(move || call.send(address))).collect();
    stand.wait_for_requests(3);
    stand.gate.kill();
    senders.into_iter().for_each(|sender| drop(sender.join()));
    stand.start();
    let told = |stand: &Stand| {
        let lines = log(stand).into_iter().filter(|line| line["event"] == "in-doubt");
        lines.collect::<Vec<_>>()
    };
    eventually("all three are told", || (told(&stand).len() == 3).then_some(()));
    for line in told(&stand) {
        assert_eq!((&line["why"], &line["route"]), (&"owner-died".into(), &"guarded".into()));
        assert!((0..3).any(|n| line["request_id"] == id(n)), "{line}");
        assert!(stand.in_doubt().iter().any(|record| line["id"] == **record), "{line}");
    }
    let metrics = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    assert!(metrics.contains(r#"oncegate_events_total{event="in-doubt"} 3"#), "{metrics}");
    stand.terminate();
    eventually("the gate ends", || stand.gate.exit_status().unwrap());
    stand.start();
    let opened = eventually("the next one says what there is", || {
        let lines = log(&stand).into_iter().filter(|line| line["message"] == "the store is open");
        let counts: Vec<_> = lines.map(|line| line["in_doubt"].clone()).collect();
        (counts.len() == 3).then_some(counts)
    });
    assert_eq!((opened, told(&stand).len()), ([0, 3, 3].map(Into::into).to_vec(), 3));
}
