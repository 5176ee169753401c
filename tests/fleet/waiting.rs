//! Attempts at work, and copies that wait for them, while the store loses everything and is told it again.

use super::losses::{SHORT_LEASES, answered, until_agreed};
use super::restarts::after_a_round;
use super::{SECRET, booking};
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{Call, Config, Handed, Reply, Signal, eventually, gates, signal};
use oncegate::cli::demo::gate::Gate;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Gateways over one server, before a backend that answers when the test says so.
struct Held {
    handed: Handed,
    redis: Server,
    gates: Vec<Gate>,
    _directories: Vec<TempDir>,
}

// === impl Held ===

impl Held {
    fn start(count: usize, store: &'static str) -> Held {
        Held::of(count, Config { store, upstream: "timeout = \"30s\"", ..Config::default() })
    }

    fn of(count: usize, config: Config) -> Held {
        let (handed, redis) = (Handed::start(), Server::start(&DURABLE));
        let (gates, _directories) =
            gates(count, &config.text(handed.address).replace("{store}", &redis.url()));
        Held { handed, redis, gates, _directories }
    }

    /// Sends the one write, or a copy of it.
    fn send(&self, gate: usize) -> thread::JoinHandle<Reply> {
        let address = self.gates[gate].address;
        thread::spawn(move || booking(1).within(Duration::from_secs(30)).send(address).expect("an answer"))
    }

    /// Scripts that the server was asked for until now.
    fn scripts(&self) -> u32 {
        let told = self.redis.cli(&["info", "commandstats"]);
        let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.and_then(|line| line.split(',').next()?.parse().ok()).expect("a count")
    }

    /// Nobody tells a copy anything for so long.
    fn stays_unanswered(copy: &thread::JoinHandle<Reply>, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            assert!(!copy.is_finished(), "a copy was not left waiting");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn until_agreed(&self) {
        eventually("the gateways have agreed", || {
            self.redis.cli(&["get", "{oncegate}clock"]).contains('@').then_some(())
        });
    }
}

#[test]
fn copies_that_wait_go_on_waiting_over_a_loss_of_everything_and_ask_the_store_no_more_than_before() {
    let fleet = Held::start(2, SECRET);
    let first = fleet.send(0);
    let holding = fleet.handed.next();
    let before = fleet.scripts();
    let copy = fleet.send(1);
    eventually("the copy has asked, and been looked at", || (fleet.scripts() > before + 8).then_some(()));
    // Who could say that its attempt is at work says nothing, for longer than two looks take.
    let pid = fleet.gates[0].pid().expect("it runs");
    signal(pid, Signal::STOP);
    fleet.redis.cli(&["flushall"]);
    Held::stays_unanswered(&copy, Duration::from_millis(2200));
    signal(pid, Signal::CONT);
    fleet.until_agreed();
    let gate = fleet.gates[1].address;
    let late = thread::spawn(move || {
        eventually("the gateway is in the agreement", || {
            let copy = booking(1).within(Duration::from_secs(30)).send(gate).expect("an answer");
            (copy.status != 503).then_some(copy)
        })
    });
    let before = fleet.scripts();
    after_a_round(&fleet.redis);
    let asked = fleet.scripts() - before;
    assert!(asked < 200, "{asked} scripts");
    answered(holding);
    assert_eq!(first.join().unwrap().status, 200);
    for copy in [copy, late] {
        let copy = copy.join().unwrap();
        assert!(copy.status == 200 && copy.is_replay(), "{} {}", copy.status, copy.text());
    }
}

#[test]
fn an_attempt_whose_lease_could_not_be_renewed_once_is_no_doubt_while_it_lives() {
    let fleet = Held::start(1, SHORT_LEASES);
    let first = fleet.send(0);
    let holding = fleet.handed.next();
    // The first renewal, after a third of the lease, finds no record.
    let until = Instant::now() + Duration::from_millis(1200);
    while Instant::now() < until {
        fleet.redis.cli(&["flushall"]);
    }
    fleet.until_agreed();
    // Longer than a lease.
    after_a_round(&fleet.redis);
    let copy = fleet.send(0);
    Held::stays_unanswered(&copy, Duration::from_millis(500));
    answered(holding);
    assert_eq!(first.join().unwrap().status, 200);
    assert!(copy.join().unwrap().is_replay());
}

#[test]
fn the_turn_of_a_write_at_work_is_nobody_elses_after_everything_was_lost() {
    let fleet = Held::of(
        2,
        Config {
            store: SECRET,
            idempotency: "[route.lane]\nby = [\"header:Host\"]\nqueue = 9\nwait = \"20s\"",
            upstream: "timeout = \"20s\"\npause = \"1s\"",
            ..Config::default()
        },
    );
    let first = fleet.send(0);
    let holding = fleet.handed.next();
    fleet.redis.cli(&["flushall"]);
    let gate = &fleet.gates[1];
    thread::scope(|scope| {
        let second = scope.spawn(|| until_agreed(gate, &booking(2).within(Duration::from_secs(30))));
        eventually("it waits for its turn", || {
            assert!(fleet.handed.connections.try_recv().is_err(), "two were sent at once");
            let lanes = Call::new("GET", "/api/lanes").send(gate.admin).ok()?.json();
            (lanes["waiting"] == 1).then_some(())
        });
        answered(holding);
        assert_eq!(first.join().unwrap().status, 200);
        answered(fleet.handed.next());
        assert_eq!(second.join().unwrap().status, 200);
    });
}
