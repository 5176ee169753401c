//! One server, durable to the last write.

use super::{Stand, stand, under};
use crate::harness::redis::{DURABLE, Server};
use rustix::process::{Pid, Signal, kill_process};
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
        let pid = gate.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
        kill_process(pid, Signal::STOP).expect("a process of ours");
        std::thread::sleep(Duration::from_millis(3_500));
        kill_process(pid, Signal::CONT).expect("a process of ours");
    });
}

#[test]
fn the_store_cannot_be_heard_for_a_while() {
    under("5 s in which Redis is silent", single(), |stand, _| {
        let pid = Pid::from_raw(stand.redis.pid().cast_signed()).expect("it runs");
        kill_process(pid, Signal::STOP).expect("a process of ours");
        std::thread::sleep(Duration::from_secs(5));
        kill_process(pid, Signal::CONT).expect("a process of ours");
    });
}
