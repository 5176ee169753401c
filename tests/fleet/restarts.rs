//! What a store that was restarted must not grant, and what it must not bring back.

use super::{Fleet, booking, until_made, usual};
use crate::harness::redis::Server;
use crate::harness::{Call, Signal, eventually, signal};
use std::time::{Duration, Instant};

/// Each gateway writes the store's time once a second, and hears of the others then.
pub(super) fn after_a_round(redis: &Server) {
    let time = || {
        let clock = redis.cli(&["get", "{oncegate}clock"]);
        clock.split_once(' ').and_then(|(instant, _)| instant.parse::<u64>().ok()).expect("an instant")
    };
    let begun = time();
    eventually("every gateway had its round", || (time() > begun + 2500).then_some(()));
}

#[test]
fn a_redis_that_comes_back_with_an_older_snapshot_grants_nothing_before_all_have_said_what_they_know() {
    let redis = Server::start(&[]);
    let url = redis.url();
    let mut fleet = Fleet::start(2, redis, &url);
    assert_eq!(until_made(&fleet, 0, &booking(0)).status, 201);
    assert_eq!(fleet.redis.cli(&["save"]).trim(), "OK");
    after_a_round(&fleet.redis);
    assert!((1..=10).all(|n| fleet.send(1, &booking(n)).status == 201));
    // Who knows of them says nothing for a while.
    let pid = fleet.gates[1].pid().expect("it runs");
    signal(pid, Signal::STOP);
    fleet.redis.kill();
    fleet.redis.run();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        for n in 1..=10 {
            let copy = fleet.send(0, &booking(n));
            assert_eq!(copy.status, 503, "granted on a store that has lost it: {}", copy.text());
        }
    }
    signal(pid, Signal::CONT);
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

#[test]
fn who_is_still_saying_what_it_knows_is_waited_for_and_who_says_nothing_is_not() {
    let fleet = usual(2);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    after_a_round(&fleet.redis);
    let members = fleet.redis.cli(&["zrange", "{oncegate}m", "0", "-1"]);
    let members: Vec<&str> = members.split_whitespace().collect();
    assert_eq!(members.len(), 2);
    let pid = fleet.gates[1].pid().expect("it runs");
    signal(pid, Signal::STOP);
    fleet.redis.cli(&["flushall"]);
    let begun = Instant::now();
    // The one that stands still seems to go on saying what it knows: longer than anybody is waited for who does not.
    while begun.elapsed() < Duration::from_secs(13) {
        let now = fleet.redis.cli(&["time"]).lines().next().unwrap_or_default().to_owned() + "000";
        for member in &members {
            fleet.redis.cli(&["hset", "{oncegate}b", member, &format!("s{now}")]);
        }
        assert_eq!(fleet.send(0, &booking(2)).status, 503, "granted after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(until_made(&fleet, 0, &booking(2)).status, 201, "nobody says anything any more");
    signal(pid, Signal::CONT);
    assert!(until_made(&fleet, 0, &booking(1)).is_replay());
    assert_eq!(fleet.backend.effects().len(), 2);
}
