//! What a gateway left in doubt without a word of its own is told all the same: once, by one of the fleet.

use super::{Fleet, booking, usual};
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{Call, eventually};
use serde_json::Value;
use std::thread;
use std::time::Duration;

/// Kills the first gateway when the backend has so many of its writes.
fn killed_in_the_middle(fleet: &mut Fleet<Server>, count: u32) {
    let address = fleet.gates[0].address;
    let slow = |n: u32| {
        let call = booking(n).header("X-Request-Id", &format!("left-{n}"));
        call.header("X-Demo-Fault", "delay=20000").within(Duration::from_secs(30))
    };
    let senders: Vec<_> =
        (0..count).map(slow).map(|call| thread::spawn(move || call.send(address))).collect();
    eventually("the backend has them", || (fleet.backend.requests() >= count.into()).then_some(()));
    fleet.gates[0].kill();
    senders.into_iter().for_each(|sender| drop(sender.join()));
}

/// What all gateways told of doubts.
fn told(fleet: &Fleet<Server>) -> Vec<Value> {
    let logs = fleet.gates.iter().map(|gate| std::fs::read_to_string(&gate.log).unwrap());
    let lines: Vec<Value> = logs
        .flat_map(|log| log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<_>>())
        .collect();
    lines.into_iter().filter(|line| line["event"] == "in-doubt").collect()
}

/// Waits until all are told, and for two rounds more.
fn are_told_once(fleet: &Fleet<Server>, count: usize, why: &str) {
    eventually("all of them are told", || (told(fleet).len() >= count).then_some(()));
    super::restarts::after_a_round(&fleet.redis);
    let told = told(fleet);
    let mut ids: Vec<&str> = told.iter().filter_map(|line| line["request_id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..count).map(|n| format!("left-{n}")).collect::<Vec<_>>());
    assert!(told.iter().all(|line| line["why"] == why && line["route"] == "guarded"), "{told:?}");
    let counted = fleet.gates.iter().map(|gate| {
        let metrics =
            Call::new("GET", "/metrics").send(gate.admin).map(|reply| reply.text()).unwrap_or_default();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(r#"oncegate_events_total{event="in-doubt"} "#));
        line.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0)
    });
    assert_eq!(counted.sum::<usize>(), count);
}

#[test]
fn writes_that_a_killed_gateway_left_in_flight_are_told_one_by_one_when_it_is_back() {
    let mut fleet = usual(2);
    killed_in_the_middle(&mut fleet, 3);
    fleet.gates[0].start().expect("it starts again");
    are_told_once(&fleet, 3, "owner-died");
}

#[test]
fn writes_of_a_gateway_that_does_not_come_back_are_told_by_another_when_their_leases_are_over() {
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    let mut fleet = Fleet::with(3, redis, &url, super::losses::SHORT_LEASES);
    killed_in_the_middle(&mut fleet, 3);
    are_told_once(&fleet, 3, "lease-ended");
}
