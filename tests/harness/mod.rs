//! What the tests share: a backend process, a gate before it, clients, and waits that end on a condition or with a
//! failure that says what did not happen.

mod backend;
mod config;
mod curl;
pub mod frames;
mod handed;
pub mod net;
mod numbering;
mod pki;
mod postgres;
mod raw;
pub mod redis;
mod stand;

pub use backend::Backend;
pub use config::Config;
pub use curl::{Curled, curl};
pub use handed::{Handed, head};
pub use numbering::Numbering;
pub use oncegate::cli::demo::gate::{Gate, free_address};
pub use oncegate::cli::demo::http::{Call, Reply};
pub use pki::Authority;
pub use raw::{LARGE, RawBackend, large, ok, reset};
pub use rustix::process::Signal;
pub use stand::{Stand, claims};

use rustix::process::{Pid, kill_process};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a condition may take to come true. Generous: it is only ever used up by a failure.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// The program under test: the one that was built with the tests, or what `ONCEGATE_PROGRAM` names.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        std::env::var_os("ONCEGATE_PROGRAM")
            .map_or_else(|| env!("CARGO_BIN_EXE_oncegate").into(), PathBuf::from)
    })
}

/// Sends a process of ours a signal.
#[track_caller]
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process's number");
    kill_process(pid, signal).expect("a process of ours");
}

/// Asks until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(EVENTUALLY, what, ask)
}

/// The same with another patience.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "in {patience:?} it did not happen that {what}");
        thread::sleep(Duration::from_millis(3));
    }
}

/// Starts so many gateways with one configuration, each in a directory of its own, which has to live as long.
pub fn gates(count: usize, config: &str) -> (Vec<Gate>, Vec<TempDir>) {
    let start = |_| {
        let directory = tempfile::tempdir().unwrap();
        let mut gate = Gate::new(program(), directory.path(), config).unwrap();
        gate.start().expect("the gate starts");
        (gate, directory)
    };
    (0..count).map(start).unzip()
}

/// Sends `calls` at one moment, each from a client of its own; answers in the order of the calls.
#[track_caller]
pub fn at_once(address: SocketAddr, calls: &[Call]) -> Vec<Reply> {
    at_once_over(&[address], calls)
}

/// The same over several gateways in turn.
#[track_caller]
pub fn at_once_over(addresses: &[SocketAddr], calls: &[Call]) -> Vec<Reply> {
    let start = Barrier::new(calls.len());
    thread::scope(|scope| {
        let send = |call: &Call, address: SocketAddr| {
            start.wait();
            call.send(address)
        };
        let clients: Vec<_> = calls
            .iter()
            .zip(addresses.iter().cycle())
            .map(|(call, address)| scope.spawn(move || send(call, *address)))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap().expect("an answer")).collect()
    })
}

/// Asserts that `reply` is a problem of the gateway's own for this reason.
#[track_caller]
pub fn assert_problem(reply: &Reply, status: u16, reason: &str) {
    let problem = reply.json();
    assert_eq!(reply.status, status, "{problem}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{problem}");
    assert!(
        problem["type"].as_str().is_some_and(|kind| kind.ends_with(reason)),
        "expected {reason}: {problem}"
    );
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
}

/// Asserts that all of `replies` are one answer: byte for byte, and all but one marked as replays.
#[track_caller]
pub fn assert_one_answer(replies: &[Reply]) {
    for reply in replies {
        assert_eq!((reply.status, &reply.body), (replies[0].status, &replies[0].body), "{}", reply.text());
    }
    let replays = replies.iter().filter(|reply| reply.is_replay()).count();
    assert_eq!(replays, replies.len() - 1, "all but the original are marked as replays");
}
