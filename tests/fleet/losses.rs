//! What a store that has lost its records is told: answers that come just then, what is in flight, what has ended since.

use super::{Fleet, booking, until_made, usual};
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{claims, eventually};
use oncegate::cli::demo::gate::Gate;
use std::thread;

/// As in the whole fleet, with leases that end soon.
const SHORT_LEASES: &str =
    "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nlease = \"2s\"";

/// The ids of all records.
fn records(gate: &Gate) -> Vec<String> {
    let listed = String::from_utf8(claims(gate, &["list", "--json"]).stdout).expect("text");
    let words = listed.split(|letter: char| !letter.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_owned).collect()
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
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    let fleet = Fleet::with(1, redis, &url, SHORT_LEASES);
    let broken = fleet.send(0, &booking(1).header("X-Demo-Fault", "reset-after"));
    assert_eq!(broken.status, 502, "{}", broken.text());
    let id = &records(&fleet.gates[0])[0];
    let settled = thread::scope(|scope| {
        fleet.redis.cli(&["flushall"]);
        let settling = scope.spawn(|| claims(&fleet.gates[0], &["resolve", id, "--not-executed"]));
        while !settling.is_finished() {
            fleet.redis.cli(&["flushall"]);
        }
        settling.join().expect("an operator")
    });
    assert!(!settled.status.success());
    let copy = eventually("the gateway says what it knows", || {
        let copy = fleet.send(0, &booking(1));
        (copy.status != 503).then_some(copy)
    });
    assert!(copy.status == 409 && copy.text().contains("outcome-unknown"), "{}", copy.text());
    assert_eq!(fleet.backend.effects().len(), 1);
}
