//! A fleet under faults: senders retry every operation over all gateways until it is answered or stated to be unknown, while
//! gateways and the store are killed, stand still or cannot be heard. The oracle is the backend: never two effects of one
//! operation, and what somebody was told was made stays made.
//!
//! The normal run does two rounds of each fault; `ONCEGATE_CYCLES=50 cargo test --test it faults -- --nocapture` more.

mod cluster;
mod partition;
mod sentinel;
mod single;

use crate::harness::{Backend, Call, Config, eventually, gates, within};
use oncegate::cli::demo::gate::Gate;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long an operation may stay without an answer or a stated doubt once nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(40);
const SENDERS: usize = 6;

/// How an operation ended for those who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Made,
    Unknown,
}

/// Three gateways before one backend and one store, `R`.
struct Stand<R> {
    gates: Vec<Gate>,
    backend: Backend,
    redis: R,
    _directories: Vec<tempfile::TempDir>,
}

const STORE: &str = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nlease = \"3s\"\ntimeout = \"500ms\"";

fn cycles() -> u32 {
    std::env::var("ONCEGATE_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn stand<R>(redis: R, url: &str) -> Stand<R> {
    let backend = Backend::start();
    let text = Config { store: STORE, ..Config::default() }.text(backend.address).replace("{store}", url);
    let (gates, _directories) = gates(3, &text);
    Stand { gates, backend, redis, _directories }
}

fn operation(n: u32) -> Call {
    Call::new("POST", "/api/bookings")
        .header("Host", "bookings.example")
        .header("Idempotency-Key", &format!("operation-{n:08}-0123456789"))
        .header("Content-Type", "application/json")
        .header("X-Demo-Operation", &format!("operation-{n}"))
        .header("X-Demo-Fault", if n.is_multiple_of(3) { "delay-after=400" } else { "delay=5" })
        .body(format!("{{\"slot\":{n}}}"))
}

/// Sends one operation to gateway after gateway until it is known how it ended.
fn carry_out(n: u32, gates: &[SocketAddr]) -> Option<Told> {
    let until = Instant::now() + PATIENCE;
    let mut doubts = 0;
    for turn in n as usize.. {
        if Instant::now() > until {
            return None;
        }
        match operation(n).send(gates[turn % gates.len()]) {
            Ok(reply) if reply.status == 201 => return Some(Told::Made),
            Ok(reply) if reply.text().contains("outcome-unknown") => {
                // A late answer may still settle it; then it stays as it is.
                doubts += 1;
                if doubts > 20 {
                    return Some(Told::Unknown);
                }
            }
            Ok(reply) => {
                assert!(matches!(reply.status, 409 | 502 | 503 | 504), "{} {}", reply.status, reply.text())
            }
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    None
}

/// Ends the senders, also where a fault could not be brought about.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Waits for what servers do among themselves, which on a busy machine takes its time.
fn at_last<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(90), what, ask)
}

/// Lets senders work while `fault` happens again and again, and asks the backend what became of it.
fn under<R>(name: &str, mut stand: Stand<R>, mut fault: impl FnMut(&mut Stand<R>, u32))
where
    Stand<R>: Send,
{
    let gates: Vec<SocketAddr> = stand.gates.iter().map(|gate| gate.address).collect();
    let (next, over, told) = (AtomicU32::new(0), AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    let n = next.fetch_add(1, SeqCst);
                    told.lock().unwrap().insert(n, carry_out(n, &gates));
                }
            });
        }
        let _ending = Ending(&over);
        for cycle in 0..cycles() {
            let before = next.load(SeqCst);
            fault(&mut stand, cycle);
            // The next one comes when work has gone on after this one.
            eventually("the senders go on", || {
                (next.load(SeqCst) > before + 2 * SENDERS as u32).then_some(())
            });
        }
    });
    let told = told.into_inner().unwrap();
    let mut effects: BTreeMap<String, u32> = BTreeMap::new();
    for row in stand.backend.effects() {
        *effects.entry(row["operation"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let unknown = told.values().filter(|told| **told == Some(Told::Unknown)).count();
    println!("{name}: {} cycles, {} operations, {unknown} stated to be unknown", cycles(), told.len());
    for (n, told) in told {
        let count = effects.get(&format!("operation-{n}")).copied().unwrap_or_default();
        assert!(count <= 1, "{name}: operation {n} was executed {count} times");
        assert!(told.is_some(), "{name}: operation {n} ended without an answer or a stated refusal");
        assert!(
            told != Some(Told::Made) || count == 1,
            "{name}: operation {n} was told to be made, and is not"
        );
    }
}
