//! Several gateways that keep answers: a write through one ends what another has.

use super::backend::{Said, Scripted};
use crate::harness::redis::Server;
use crate::harness::{Call, eventually, program};
use oncegate::cli::demo::gate::Gate;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tempfile::TempDir;

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

struct Fleet {
    gates: Vec<Gate>,
    redis: Server,
    backend: Scripted,
    _directories: Vec<TempDir>,
}

impl Fleet {
    fn start(count: usize) -> Fleet {
        let state = Arc::new(AtomicU64::new(1));
        let backend = Scripted::start(move |asked| {
            if asked.method == "GET" {
                return Said::ok("", format!("state {}", state.load(Ordering::SeqCst)));
            }
            state.fetch_add(1, Ordering::SeqCst);
            Said::ok("", "written")
        });
        let redis = Server::start(&DURABLE);
        let text = format!(
            "[server]\nlisten = \"{{listen}}\"\nlame_duck = \"0s\"\ndrain = \"1s\"\n[admin]\nlisten = \"{{admin}}\"\n\
             [store]\nurl = \"{}\"\nsecret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\n\
             [[upstream]]\nname = \"backend\"\nurl = \"http://{}\"\ntimeout = \"2s\"\n\
             [[route]]\nname = \"guarded\"\nmatch = \"POST /guarded/**\"\nupstream = \"backend\"\n[route.idempotency]\n\
             [[route]]\nname = \"page\"\nmatch = \"* /**\"\nupstream = \"backend\"\ncoalesce = true\ncache = {{ ttl = \"60s\" }}\n",
            redis.url(),
            backend.address
        );
        let (mut gates, mut directories) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let directory = tempfile::tempdir().unwrap();
            let mut gate = Gate::new(program(), directory.path(), &text).unwrap();
            gate.start().expect("the gate starts");
            gates.push(gate);
            directories.push(directory);
        }
        Fleet { gates, redis, backend, _directories: directories }
    }

    fn call(caller: &str, method: &str, target: &str) -> Call {
        Call::new(method, target).header("Host", "h").header("Authorization", &format!("Bearer {caller}"))
    }

    fn read(&self, gate: usize, caller: &str, target: &str) -> String {
        Fleet::call(caller, "GET", target).send(self.gates[gate].address).unwrap().text()
    }

    fn write(&self, gate: usize, caller: &str, target: &str) {
        let call = Fleet::call(caller, "POST", target).body("x");
        let call = call.header("Idempotency-Key", &format!("key-of-a-write-{}", self.backend.count()));
        assert_eq!(call.send(self.gates[gate].address).unwrap().status, 200);
    }

    /// Waits until a gateway keeps what it is asked for: before, it does not hear the others.
    fn wait_until_kept(&self, gate: usize) {
        eventually("the gateway keeps answers", || {
            self.read(gate, "anybody", "/probe");
            let before = self.backend.count();
            self.read(gate, "anybody", "/probe");
            (self.backend.count() == before).then_some(())
        });
    }
}

#[test]
fn a_write_through_one_gateway_ends_what_the_other_keeps_for_its_caller() {
    let fleet = Fleet::start(2);
    (0..2).for_each(|gate| fleet.wait_until_kept(gate));
    for round in 1..=50u64 {
        let expected = format!("state {round}");
        assert_eq!(fleet.read(1, "ann", "/a"), expected);
        let before = fleet.backend.count();
        assert_eq!(fleet.read(1, "ann", "/a"), expected);
        assert_eq!(fleet.backend.count(), before, "it is kept");
        // What the other gateway keeps while the write is under way would be older than it.
        fleet.write(0, "ann", if round % 2 == 0 { "/x" } else { "/guarded/x" });
        assert_eq!(fleet.read(1, "ann", "/a"), format!("state {}", round + 1), "round {round}");
        // Its end is heard a moment later; from then on answers are kept again.
        eventually("answers are kept again", || {
            let before = fleet.backend.count();
            fleet.read(1, "ann", "/a");
            (fleet.backend.count() == before).then_some(())
        });
    }
}

#[test]
fn nothing_is_kept_while_another_gateways_write_is_under_way() {
    let fleet = Fleet::start(2);
    (0..2).for_each(|gate| fleet.wait_until_kept(gate));
    fleet.read(1, "ann", "/a");
    fleet.backend.hold();
    let before = fleet.backend.count();
    let address = fleet.gates[0].address;
    let write = thread::spawn(move || Fleet::call("ann", "POST", "/x").body("x").send(address).unwrap());
    eventually("the write is under way", || (fleet.backend.count() == before + 1).then_some(()));
    let address = fleet.gates[1].address;
    let read = thread::spawn(move || Fleet::call("ann", "GET", "/a").send(address).unwrap().text());
    eventually("the copy is not given", || (fleet.backend.count() == before + 2).then_some(()));
    assert_eq!(fleet.read(1, "anybody", "/probe"), "state 1", "another caller's is");
    fleet.backend.release();
    write.join().unwrap();
    read.join().unwrap();
    assert_eq!(fleet.read(1, "ann", "/a"), "state 2");
}

#[test]
fn a_gateway_that_does_not_hear_the_others_gives_no_copy() {
    let mut fleet = Fleet::start(1);
    fleet.wait_until_kept(0);
    fleet.redis.kill();
    eventually("copies are not given any more", || {
        let before = fleet.backend.count();
        fleet.read(0, "ann", "/a");
        fleet.read(0, "ann", "/a");
        (fleet.backend.count() == before + 2).then_some(())
    });
    fleet.redis.run();
    fleet.wait_until_kept(0);
}
