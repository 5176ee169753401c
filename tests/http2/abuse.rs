//! Six kinds of abuse: what they cost the gate in memory, and everybody else in time. `ONCEGATE_ABUSE_SECONDS` says how long
//! each of them lasts.

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire,
    frame, request,
};
use crate::harness::{Call, Config, Stand, curl};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// What a gate may grow by.
const GROWTH_KIB_MAX: u64 = 10 << 10;
/// How long the next request may take.
const NEXT_WITHIN: Duration = Duration::from_secs(1);
/// Attackers at once.
const ATTACKERS: usize = 4;

/// The frames of one round, beginning with a stream of that number; the next free number.
type Round = fn(u32, &mut Vec<u8>) -> u32;

fn seconds() -> Duration {
    let set = std::env::var("ONCEGATE_ABUSE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(set.unwrap_or(2))
}

fn rapid_reset(mut stream: u32, bytes: &mut Vec<u8>) -> u32 {
    for _ in 0..50 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/_effects", &[])));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        stream += 2;
    }
    stream
}

fn made_you_reset(mut stream: u32, bytes: &mut Vec<u8>) -> u32 {
    for _ in 0..50 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/_effects", &[])));
        // An increment of nothing is an error of the stream, and the server has to reset it.
        bytes.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
        stream += 2;
    }
    stream
}

fn continuations(stream: u32, bytes: &mut Vec<u8>) -> u32 {
    if stream == 1 {
        bytes.extend(frame(HEADERS, END_STREAM, 1, &request("GET", "/x", &[])));
    }
    for _ in 0..200 {
        bytes.extend(frame(CONTINUATION, 0, 1, b"\0\x01x\x01y"));
    }
    3
}

fn empty_data(stream: u32, bytes: &mut Vec<u8>) -> u32 {
    if stream == 1 {
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &request("POST", "/api/notes", &[])));
    }
    (0..500).for_each(|_| bytes.extend(frame(DATA, 0, 1, b"")));
    3
}

fn settings(stream: u32, bytes: &mut Vec<u8>) -> u32 {
    (0..500).for_each(|_| bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])));
    stream
}

fn pings(stream: u32, bytes: &mut Vec<u8>) -> u32 {
    (0..500).for_each(|_| bytes.extend(frame(PING, 0, 0, &[7; 8])));
    stream
}

/// Sends rounds until the connection is ended, and begins again until it is over; how many connections that took.
fn attack(stand: &Stand, round: Round, over: &AtomicBool) -> u64 {
    let mut connections = 0;
    while !over.load(Relaxed) {
        connections += 1;
        let mut wire = Wire::connect(stand.gate.address);
        wire.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut stream = 1;
        while !over.load(Relaxed) {
            let mut bytes = Vec::new();
            stream = round(stream, &mut bytes);
            if wire.send(&bytes).is_err() {
                break;
            }
        }
    }
    connections
}

fn memory_kib(stand: &Stand) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stand.gate.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The gate's memory at its highest and the longest wait of somebody else, while `round` goes on.
fn endure(what: &str, round: Round) {
    let config = Config { server: "workers = 2\nconnections_per_address = 1000", ..Config::default() };
    let stand = Stand::with(config);
    let next = || {
        let begun = Instant::now();
        assert_eq!(stand.send(&Call::new("GET", "/_effects")).status, 200);
        begun.elapsed()
    };
    // What the first requests make the gate keep is no growth.
    for _ in 0..20 {
        next();
        assert_eq!(
            curl(&["--http2-prior-knowledge", &format!("http://{}/_effects", stand.gate.address)]).status,
            200
        );
    }
    let before = memory_kib(&stand);
    let (over, connections) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut highest, mut longest) = (before, Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| connections.fetch_add(attack(&stand, round, &over), Relaxed));
        }
        let until = Instant::now() + seconds();
        while Instant::now() < until {
            longest = longest.max(next());
            highest = highest.max(memory_kib(&stand));
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Relaxed);
    });
    longest = longest.max(next());
    let (growth, connections) = (highest.saturating_sub(before), connections.load(Relaxed));
    println!(
        "{what}: {before} KiB and {growth} KiB more, the longest wait {longest:?}, {connections} connections"
    );
    assert!(growth <= GROWTH_KIB_MAX, "{what}: the gate grew by {growth} KiB");
    assert!(longest <= NEXT_WITHIN, "{what}: somebody else waited {longest:?}");
}

#[test]
fn rapid_resets_are_endured() {
    endure("rapid reset", rapid_reset);
}

#[test]
fn continuations_without_end_are_endured() {
    endure("CONTINUATION", continuations);
}

#[test]
fn streams_that_the_server_has_to_reset_are_endured() {
    endure("MadeYouReset", made_you_reset);
}

#[test]
fn empty_data_frames_are_endured() {
    endure("empty DATA", empty_data);
}

#[test]
fn floods_of_settings_are_endured() {
    endure("SETTINGS", settings);
}

#[test]
fn floods_of_pings_are_endured() {
    endure("PING", pings);
}
