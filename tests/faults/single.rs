//! One server, durable to the last write.

use super::{Stand, stand, under};
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{Signal, signal};
use std::time::Duration;

fn single() -> Stand<Server> {
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    stand(redis, &url)
}

#[test]
fn a_gateway_is_killed() {
    under("kill -9 of a gateway", single(), |stand, cycle| {
        let gate = &mut stand.gates[cycle as usize % 3];
        gate.kill();
        gate.start().expect("it starts again");
    });
}

#[test]
fn the_store_is_killed() {
    under("kill -9 of Redis, AOF always", single(), |stand, _| {
        stand.redis.kill();
        stand.redis.run();
    });
}

#[test]
fn a_gateway_stands_still_beyond_its_lease() {
    under("SIGSTOP of a gateway beyond its lease", single(), |stand, cycle| {
        let gate = &stand.gates[cycle as usize % 3];
        let pid = gate.pid().expect("it runs");
        signal(pid, Signal::STOP);
        std::thread::sleep(Duration::from_millis(3_500));
        signal(pid, Signal::CONT);
    });
}

#[test]
fn the_store_cannot_be_heard_for_a_while() {
    under("5 s in which Redis is silent", single(), |stand, _| {
        let pid = stand.redis.pid();
        signal(pid, Signal::STOP);
        std::thread::sleep(Duration::from_secs(5));
        signal(pid, Signal::CONT);
    });
}
