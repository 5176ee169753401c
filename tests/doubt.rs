//! Outcomes that nobody can know: never sent again, told as such, and settled by an operator.

use crate::harness::{Call, Config, RawBackend, Reply, Stand, assert_one_answer, assert_problem, reset};
use std::io::Write;
use std::net::TcpStream;
use std::thread;

const FIRST: &str = "a6d3f1b0-2e57-4c7b-9a55-6b1f3c0d8e92";

fn book(operation: &str) -> Call {
    Call::post("/api/bookings", format!(r#"{{"operation":"{operation}"}}"#))
        .header("Authorization", "Bearer receptionist-1")
}

/// The first client's refusal says so with a gateway error, a copy's with a conflict.
#[track_caller]
fn assert_unknown(first: &Reply, status: u16, copies: &[Reply]) {
    assert_problem(first, status, "outcome-unknown");
    for copy in copies {
        assert_problem(copy, 409, "outcome-unknown");
    }
}

#[test]
fn a_reset_before_the_answer_is_never_sent_again() {
    let stand = Stand::new();
    for (fault, effects) in
        [("reset-before", 0), ("reset-after", 1), ("truncate=0", 1), ("reset-after=20", 1)]
    {
        for key in [None, Some(FIRST)] {
            let before = (stand.backend.requests(), stand.backend.effects().len());
            let call = book(&format!("{fault}, keyed: {}", key.is_some()));
            let key = key.map(|key| format!("\"{key}-{fault}\""));
            let call = key.iter().fold(call, |call, key| call.header("Idempotency-Key", key));
            let first = stand.send(&call.clone().header("X-Demo-Fault", fault));
            assert_unknown(&first, 502, &[stand.send(&call), stand.send(&call)]);
            assert_eq!(stand.backend.requests(), before.0 + 1, "{fault}");
            assert_eq!(stand.backend.effects().len(), before.1 + effects, "{fault}");
        }
    }
}

#[test]
fn a_timeout_is_a_504_and_never_sent_again() {
    let stand = Stand::with(Config { upstream: "timeout = \"700ms\"", ..Config::default() });
    let call = book("slow");
    let first = stand.send(&call.clone().header("X-Demo-Fault", "delay-after=60000"));
    assert_unknown(&first, 504, &[stand.send(&call)]);
    assert_eq!((stand.backend.requests(), stand.backend.effects().len()), (1, 1));
}

#[test]
fn an_answer_cut_after_any_of_its_bytes_is_never_sent_again() {
    let stand = Stand::new();
    let mut bytes = 1;
    loop {
        let call = book(&format!("cut after {bytes}"));
        let first = stand.send(&call.clone().header("X-Demo-Fault", &format!("truncate={bytes}")));
        if first.status == 201 {
            break;
        }
        assert_unknown(&first, 502, &[stand.send(&call)]);
        assert_eq!(stand.backend.requests(), bytes);
        bytes += 1;
    }
    assert!(bytes > 100, "the whole answer has more than {bytes} bytes");
    assert_eq!(stand.backend.effects().len() as u64, bytes);
}

#[test]
fn an_answer_that_breaks_off_in_its_body_is_never_sent_again_with_a_store_in_memory_either() {
    let stand = Stand::with(Config { store_url: Some("memory:"), ..Config::default() });
    let whole = stand.send(&book("whole"));
    assert_eq!(whole.status, 201);
    for (at, fault) in ["truncate=MOST", "reset-after=MOST"].into_iter().enumerate() {
        let call = book(fault);
        // Its head and most of its body, padded so that there is much of it.
        let fault = format!("pad=100000,{}", fault.replace("MOST", "50000"));
        let first = stand.send(&call.clone().header("X-Demo-Fault", &fault));
        assert_unknown(&first, 502, &[stand.send(&call), stand.send(&call)]);
        assert_eq!(stand.backend.requests(), at as u64 + 2, "{fault}");
    }
    assert!(stand.send(&book("whole")).is_replay());
}

#[test]
fn a_reset_after_any_byte_of_the_request_is_never_sent_again() {
    for limit in [1, 20, 90, 200] {
        let raw = RawBackend::reading(limit, reset);
        let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
        let call = book("x");
        let first = stand.send(&call);
        assert_unknown(&first, 502, &[stand.send(&call)]);
        raw.next();
        assert_eq!(raw.waiting(), 0, "after {limit} bytes");
    }
}

#[test]
fn an_answer_that_is_none_is_in_doubt() {
    let scripts: [fn(&mut TcpStream); 3] = [
        |connection| drop(connection.write_all(b"HTTP/1.1 2")),
        |connection| drop(connection.write_all(b"nonsense\r\n\r\n")),
        |connection| {
            drop(connection.write_all(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"))
        },
    ];
    for script in scripts {
        let raw = RawBackend::start(script);
        let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
        assert_unknown(&stand.send(&book("x")), 502, &[stand.send(&book("x"))]);
        raw.next();
        assert_eq!(raw.waiting(), 0);
    }
}

#[test]
fn copies_that_wait_on_an_attempt_which_is_lost_are_told_so() {
    let stand = Stand::new();
    let address = stand.gate.address;
    let first = thread::spawn(move || {
        book("x").header("X-Demo-Fault", "delay=1000,reset-after").send(address).unwrap()
    });
    stand.wait_for_requests(1);
    let copies: Vec<_> = (0..3).map(|_| thread::spawn(move || book("x").send(address).unwrap())).collect();
    let copies: Vec<Reply> = copies.into_iter().map(|copy| copy.join().unwrap()).collect();
    assert_unknown(&first.join().unwrap(), 502, &copies);
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn a_backend_that_is_lost_never_gets_its_write_twice_from_a_reused_connection() {
    let stand = Stand::new();
    // The connection that carried this one is kept; the next write may go out on it and be cut off.
    assert_eq!(stand.send(&book("warm")).status, 201);
    for number in 0..20 {
        let call = book(&format!("reused {number}"));
        let first = stand.send(&call.clone().header("X-Demo-Fault", "reset-before"));
        assert_unknown(&first, 502, &[stand.send(&call)]);
        assert_eq!(stand.send(&book(&format!("between {number}"))).status, 201);
    }
    assert_eq!((stand.backend.requests(), stand.backend.effects().len()), (41, 21));
}

#[test]
fn resolved_as_not_executed_the_next_copy_executes() {
    let stand = Stand::new();
    stand.send(&book("x").header("X-Demo-Fault", "reset-before"));
    let ids = stand.in_doubt();
    assert_eq!(ids.len(), 1);
    let resolved = stand.claims(&["resolve", &ids[0], "--not-executed"]);
    assert!(resolved.status.success(), "{}", String::from_utf8_lossy(&resolved.stderr));
    let next = stand.send(&book("x"));
    assert_eq!((next.status, next.is_replay()), (201, false));
    assert_eq!((stand.in_doubt().len(), stand.backend.effects().len()), (0, 1));
}

#[test]
fn what_is_known_of_one_attempt_does_not_settle_a_later_one() {
    let stand = Stand::new();
    let lost = book("x").header("X-Demo-Fault", "reset-before");
    stand.send(&lost);
    let id = &stand.in_doubt()[0];
    let shown = String::from_utf8(stand.claims(&["show", id, "--json"]).stdout).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let request_id = shown["request_id"].as_str().expect("a request id");
    let settle = || stand.claims(&["resolve", id, "--not-executed", "--request-id", request_id]);
    assert!(settle().status.success());
    stand.send(&lost);
    let late = settle();
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(!late.status.success() && said.contains("a later attempt"), "{said}");
    assert_eq!(stand.in_doubt().len(), 1);
}

#[test]
fn resolved_as_executed_copies_get_an_answer_and_nothing_is_sent() {
    let stand = Stand::new();
    stand.send(&book("x").header("X-Demo-Fault", "reset-after"));
    let ids = stand.in_doubt();
    let resolved = stand.claims(&["resolve", &ids[0], "--executed", "--status", "201"]);
    assert!(resolved.status.success(), "{}", String::from_utf8_lossy(&resolved.stderr));
    let copies = [stand.send(&book("x")), stand.send(&book("x"))];
    assert!(copies.iter().all(|copy| copy.status == 201 && copy.is_replay()));
    assert_eq!((stand.backend.requests(), stand.backend.effects().len()), (1, 1));
}

#[test]
fn a_write_in_flight_at_a_kill_is_in_doubt_and_told_within_two_seconds_of_the_restart() {
    let mut stand = Stand::new();
    let address = stand.gate.address;
    for key in [None, Some(FIRST)] {
        let call = key.iter().fold(book(&format!("keyed: {}", key.is_some())), |call, key| {
            call.header("Idempotency-Key", key)
        });
        let before = stand.backend.requests();
        let slow = call.clone().header("X-Demo-Fault", "delay=400");
        let first = thread::spawn(move || slow.send(address));
        stand.wait_for_requests(before + 1);
        stand.gate.kill();
        assert!(first.join().unwrap().is_err(), "the client's connection went with the gate");
        let started = std::time::Instant::now();
        stand.start();
        let copies = [stand.send(&call), stand.send(&call)];
        assert!(started.elapsed().as_secs_f64() < 2.0, "told after {:?}", started.elapsed());
        copies.iter().for_each(|copy| assert_problem(copy, 409, "outcome-unknown"));
        assert_eq!(stand.backend.requests(), before + 1);
    }
    crate::harness::eventually("the backend finishes what it got", || {
        (stand.backend.effects().len() == 2).then_some(())
    });
    assert_eq!(stand.in_doubt().len(), 2);
}

#[test]
fn what_is_in_doubt_stays_so_over_restarts() {
    let mut stand = Stand::new();
    stand.send(&book("x").header("X-Demo-Fault", "reset-after"));
    for _ in 0..3 {
        stand.gate.kill();
        stand.start();
        assert_problem(&stand.send(&book("x")), 409, "outcome-unknown");
    }
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn a_recorded_answer_settles_nothing_else() {
    let stand = Stand::new();
    stand.send(&book("lost").header("X-Demo-Fault", "reset-after"));
    assert_one_answer(&[stand.send(&book("fine")), stand.send(&book("fine"))]);
    assert_problem(&stand.send(&book("lost")), 409, "outcome-unknown");
}
