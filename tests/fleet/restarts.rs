//! What a store that was restarted must not grant, and what it must not bring back.

use super::{Fleet, booking, until_made, usual};
use crate::harness::redis::Server;
use crate::harness::{Call, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

#[test]
fn a_redis_that_comes_back_with_an_older_snapshot_grants_nothing_before_all_have_said_what_they_know() {
    let redis = Server::start(&[]);
    let url = redis.url();
    let mut fleet = Fleet::start(2, redis, &url);
    assert_eq!(until_made(&fleet, 0, &booking(0)).status, 201);
    assert_eq!(fleet.redis.cli(&["save"]).trim(), "OK");
    // Each gateway writes the store's time once a second, and knows of later ones than the snapshot then.
    let time = || {
        let clock = fleet.redis.cli(&["get", "{oncegate}clock"]);
        clock.split_once(' ').and_then(|(instant, _)| instant.parse::<u64>().ok()).expect("an instant")
    };
    let saved = time();
    eventually("both wrote the time", || (time() > saved + 2500).then_some(()));
    assert!((1..=10).all(|n| fleet.send(1, &booking(n)).status == 201));
    // Who knows of them says nothing for a while.
    let pid = fleet.gates[1].pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
    kill_process(pid, Signal::STOP).expect("a process of ours");
    fleet.redis.kill();
    fleet.redis.run();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        for n in 1..=10 {
            let copy = fleet.send(0, &booking(n));
            assert_eq!(copy.status, 503, "granted on a store that has lost it: {}", copy.text());
        }
    }
    kill_process(pid, Signal::CONT).expect("a process of ours");
    assert!((1..=10).all(|n| until_made(&fleet, 0, &booking(n)).is_replay()));
    assert_eq!(fleet.backend.effects().len(), 11);
}

#[test]
fn what_a_cancellation_ended_does_not_come_back_with_a_restarted_store() {
    let mut fleet = usual(2);
    let by_clerk =
        |call: Call| call.header("Host", "bookings.example").header("Authorization", "Bearer clerk");
    let book = by_clerk(Call::post("/api/bookings", r#"{"patient":"p1","slot":5}"#));
    let booked = fleet.send(0, &book);
    let place = format!("/api/bookings/{}", booked.json()["id"]);
    assert!(fleet.send(1, &book).is_replay());
    assert_eq!(fleet.send(1, &by_clerk(Call::new("DELETE", &place))).status, 200);
    fleet.redis.kill();
    fleet.redis.run();
    let again = until_made(&fleet, 0, &book);
    assert!(!again.is_replay(), "the cancelled booking's answer came back");
    assert!(fleet.send(1, &book).is_replay());
    assert_eq!(fleet.backend.effects().len(), 3, "booked, cancelled, booked");
}
