//! Very many holds that one gateway knows, and a store that has lost them all.

use super::{Fleet, assert_taken, book};
use crate::harness::redis::Server;
use crate::harness::{Call, program, within};
use oncegate::cli::demo::gate::Gate;
use std::fmt::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many, where `ONCEGATE_HOLDS` does not say so. 200,000 are what a gateway remembers.
const USUAL: usize = 5_000;

/// How long they may take to be said again: the others wait no longer for that.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longer than a read or a write that is not guarded takes on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A figure on a gateway's page of metrics.
fn figure(gate: &Gate, series: &str) -> Option<f64> {
    let page = Call::new("GET", "/metrics").send(gate.admin).ok()?.text();
    page.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .and_then(|value| value.parse().ok())
}

fn held(gate: &Gate) -> Option<f64> {
    figure(gate, "oncegate_slots{slot=\"doctor-slot\",state=\"held\"}")
}

/// Tells the gateway of so many bookings that were made before.
fn import(gate: &Gate, count: usize) {
    let mut rows = String::new();
    for n in 0..count {
        let row =
            format!(r#"{{"id":{n},"clinicId":"c1","doctor":"Dr. Rao","date":"2026-11-25","slotIndex":{n}}}"#);
        writeln!(rows, "{row}").unwrap();
    }
    let file = gate.config.with_file_name("bookings.ndjson");
    std::fs::write(&file, rows).unwrap();
    let mut command = Command::new(program());
    command.args(["slots", "import", "--slot", "doctor-slot", "--config"]).arg(&gate.config).arg(&file);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.starts_with(&format!("{count} adopted, ")),
        "{told} {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn very_many_holds_are_said_again_while_reads_and_other_writes_go_on_and_memory_stays() {
    let count = std::env::var("ONCEGATE_HOLDS").ok().and_then(|text| text.parse().ok()).unwrap_or(USUAL);
    let redis = Server::start(&[]);
    let url = redis.url();
    let fleet = Fleet::over(redis, &url);
    import(&fleet.gates[0], count);
    let memory = |gate: &Gate| figure(gate, "process_resident_memory_bytes").unwrap_or(0.0);
    let before = memory(&fleet.gates[0]);
    let (begun, done) = (Instant::now(), AtomicBool::new(false));
    fleet.redis.cli(&["flushall"]);
    let (longest, most) = thread::scope(|scope| {
        let passing = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            let calls = [Call::new("GET", "/api/enrolments?patient=1"), Call::post("/elsewhere", "{}")];
            for call in calls.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                for gate in &fleet.gates {
                    let asked = Instant::now();
                    let reply = call.send(gate.address).expect("an answer");
                    assert!(reply.status < 500, "{} {}", reply.status, reply.text());
                    longest = longest.max(asked.elapsed());
                }
            }
            longest
        });
        // Also where this fails: the other thread goes on until then.
        let over = Over(&done);
        let mut most = before;
        within(PATIENCE, "all holds are there again, and guarded writes go on", || {
            most = most.max(memory(&fleet.gates[0]));
            let reply = book(1, count / 2).send(fleet.gates[1].address).expect("an answer");
            assert!(matches!(reply.status, 409 | 503), "booked twice: {} {}", reply.status, reply.text());
            (reply.status == 409).then_some(())
        });
        drop(over);
        (passing.join().expect("reads and other writes pass"), most)
    });
    let took = begun.elapsed();
    println!("{count} holds: {took:?}, a read took {longest:?} at most, {before} B, then {most} B");
    for slot in [0, count / 3, count - 1] {
        assert_taken(&fleet.send(2, &book(2, slot)));
    }
    within(PATIENCE, "all are counted", || (held(&fleet.gates[1])? as usize == count).then_some(()));
    assert_eq!(fleet.send(2, &book(2, count)).status, 201, "what nobody holds is free");
    assert!(longest < AT_ONCE, "{longest:?}");
    // A copy of each, and what is on its way.
    let room = 1_000.0 * count as f64 + 50e6;
    assert!(most < before + room, "{before} B, then {most} B");
}
