//! A flood of distinct addresses: memory stays bounded, whoever is limited stays limited, others are served.
//!
//! `ONCEGATE_FLOOD=1000000` sends so many, over the usual memory for limits; the normal run fills a small one.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Addresses of the normal run: with four limits each, more than the smallest memory has room for.
const USUAL: u32 = 20_000;
/// Connections that flood.
const CONNECTIONS: u32 = 8;
/// Clients that are limited before the flood.
const LIMITED: u32 = 20;
/// What limits remember of a million clients may take so much.
const MEMORY_MOST: u64 = 96 << 20;

fn call(address: &str) -> Call {
    Call::new("GET", "/professionals").header("X-Forwarded-For", address).within(Duration::from_secs(30))
}

/// A line of the process's status, in bytes.
fn status(stand: &Stand, line: &str) -> u64 {
    let pid = stand.gate.pid().expect("the gate runs");
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|known| known.strip_prefix(line)).expect("such a line");
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// How long somebody else waits for the same backend, over a route without limits.
fn others(stand: &Stand, flooding: &AtomicBool) -> Vec<Duration> {
    let mut poller = Poller::new(stand.gate.address, Call::new("GET", "/other"));
    let mut took = Vec::new();
    while flooding.load(Relaxed) {
        let asked = Instant::now();
        assert_ne!(poller.poll().status / 100, 5);
        took.push(asked.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    took.sort_unstable();
    took
}

#[test]
fn a_flood_of_addresses_takes_bounded_memory_and_gives_nobody_a_fresh_bucket() {
    let count = std::env::var("ONCEGATE_FLOOD").ok().and_then(|text| text.parse().ok()).unwrap_or(USUAL);
    let limits = "limits = [\"2/h\", \"3/2h\", \"4/3h\", \"5/4h\"]\nover = \"reject\"";
    let clients = match count > USUAL {
        true => "identify_by = [\"ip\"]\ntrusted_proxies = [\"127.0.0.1\"]\npoll_storm = \"off\"",
        false => {
            "identify_by = [\"ip\"]\ntrusted_proxies = [\"127.0.0.1\"]\npoll_storm = \"off\"\nlimit_memory = \"1MiB\""
        }
    };
    let stand = Stand::with(Config { clients, ..routed("ip", &format!("[route.throttle]\n{limits}")) });
    let limited: Vec<String> = (0..LIMITED).map(|n| format!("203.0.113.{n}")).collect();
    let refused = |address: &String| Poller::new(stand.gate.address, call(address)).poll().status == 429;
    for address in &limited {
        assert!(!refused(address) && !refused(address) && refused(address));
    }
    let before = status(&stand, "VmRSS:");
    let (flooding, refusals, began) = (AtomicBool::new(true), AtomicU64::new(0), Instant::now());
    let took = thread::scope(|scope| {
        let others = scope.spawn(|| others(&stand, &flooding));
        let flood = |connection: u32| {
            let mut poller = Poller::new(stand.gate.address, call(""));
            for n in (connection..count).step_by(CONNECTIONS as usize) {
                poller.call = call(&format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255));
                refusals.fetch_add(u64::from(poller.poll().status == 429), Relaxed);
            }
        };
        let floods: Vec<_> = (0..CONNECTIONS).map(|n| scope.spawn(move || flood(n))).collect();
        floods.into_iter().for_each(|flood| flood.join().unwrap());
        flooding.store(false, Relaxed);
        others.join().unwrap()
    });
    assert!(limited.iter().all(refused), "somebody who was limited has a fresh bucket");
    let (peak, overflowed) = (status(&stand, "VmHWM:"), metric(&stand, "oncegate_limit_overflows_total"));
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    println!(
        "{count} addresses in {:?}: {} MiB before, {} MiB at the highest, {overflowed} overflowed, {} addresses were refused for others; others waited {:?} in the middle, {:?} at 99 %, of {}",
        began.elapsed(),
        before >> 20,
        peak >> 20,
        refusals.load(Relaxed),
        at(50),
        at(99),
        took.len()
    );
    assert!(peak.saturating_sub(before) <= MEMORY_MOST, "{} MiB", (peak.saturating_sub(before)) >> 20);
    assert!(at(50) < Duration::from_millis(500), "{:?}", at(50));
    // Where there is room, every address is counted by itself; where there is none, too much and never too little.
    assert!(overflowed > 0 || refusals.load(Relaxed) == 0, "{refusals:?}");
    assert!(count > USUAL || overflowed > 1_000, "this run is about a full memory: {overflowed}");
}
