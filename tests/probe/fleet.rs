//! The same over three gateways and one store: whoever is faster, one booking.

use super::{QUIET, ROUTES, UPSTREAM, assert_taken, book, cancel_behind, probed, vacated};
use crate::harness::redis::{Cluster, DURABLE, Server};
use crate::harness::{Backend, Call, Config, at_once_over, eventually, gates};
use std::thread;
use std::time::Duration;

const STORE: &str =
    "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\ntimeout = \"5s\"";

fn fifty_over_three_get_one(url: &str) {
    let backend = Backend::start();
    let config = Config { routes: ROUTES, upstream: UPSTREAM, store: STORE, ..Config::default() };
    let (gates, _kept) = gates(3, &config.text(backend.address).replace("{store}", url));
    let send = |gate: usize, call: &Call| {
        eventually("the store answers in time", || {
            call.send(gates[gate].address).ok().filter(|reply| reply.status != 503)
        })
    };
    let made = send(0, &book("ann", 7));
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].to_string();
    thread::sleep(QUIET);
    // It is there: whichever gateway asks.
    (0..3).for_each(|gate| assert_taken(&send(gate, &book("eve", 7))));
    assert_eq!(gates.iter().map(|gate| probed(gate, "doctor-slot", "there")).collect::<Vec<_>>(), [1, 1, 1]);
    cancel_behind(&backend, &id);
    thread::sleep(Duration::from_secs(5));
    let effects = backend.effects().len();
    let calls: Vec<Call> = (0..50).map(|n| book(&format!("p{n}"), 7)).collect();
    let addresses: Vec<_> = gates.iter().map(|gate| gate.address).collect();
    let replies = at_once_over(&addresses, &calls);
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    replies.iter().filter(|reply| reply.status != 201).for_each(assert_taken);
    assert_eq!(backend.effects().len() - effects, 1);
    assert_eq!(gates.iter().map(vacated).sum::<u64>(), 1, "given back once");
    (0..3).for_each(|gate| assert_taken(&send(gate, &book("bob", 7))));
}

#[test]
fn of_fifty_over_three_gateways_one_gets_what_is_gone() {
    let redis = Server::start(&DURABLE);
    fifty_over_three_get_one(&redis.url());
}

#[test]
fn the_same_on_a_cluster() {
    let redis = Cluster::start();
    fifty_over_three_get_one(&redis.url());
}
