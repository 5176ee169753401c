//! A real process on a real disk, killed at random moments: what it said it had is there when it starts again.

use super::support::{Limits, MINUTE, answer};
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{Claim, PolicyVersion, RecordId, TargetId, Token};
use oncegate::store::{About, ClaimRequest, Claimed, Completion, Held, Place, Store};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CYCLES: u64 = 20;

/// Commands at once in the process that is killed.
const CALLERS: u64 = 16;

/// Tell the process where its store is, and with which number it begins.
const DIR: &str = "ONCEGATE_TEST_KILLED_DIR";
const FIRST: &str = "ONCEGATE_TEST_KILLED_FIRST";

/// The last thing that the process said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Granted,
    Done,
    Abandoned,
}

/// What becomes of record `n` once it is granted: most are completed, some abandoned, some never heard of again.
fn is_abandoned(n: u64) -> bool {
    n % 7 == 3
}

fn is_left(n: u64) -> bool {
    n % 11 == 5
}

fn id(n: u64) -> RecordId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[24..].copy_from_slice(&n.to_be_bytes());
    RecordId(id)
}

fn request(store: &Store, n: u64) -> ClaimRequest {
    ClaimRequest {
        id: id(n),
        claim: Claim {
            fingerprint: Fingerprint(id(n).0),
            keyed: n.is_multiple_of(2),
            policy: PolicyVersion(1),
            scope: ScopeId([n as u8; 16]),
            target: TargetId([n as u8 % 8; 16]),
            token: Token(u128::from(n) + 1),
            owner: store.owner(),
            lease: MINUTE,
            sent: !n.is_multiple_of(5),
            in_doubt_for: 1_000 * MINUTE,
        },
        quota: u32::MAX,
        about: About { route: "book".into(), request: "POST /".into(), request_id: n.to_string() },
        slots: Vec::new(),
        above: None,
    }
}

fn body(n: u64) -> String {
    format!("record {n} {}", "x".repeat((n % 700) as usize))
}

fn options(dir: &Path) -> oncegate::store::Options {
    Limits { memory_max: 64 << 10, records_max: 10_000_000 }.options(Place::Directory(dir.to_owned()))
}

/// What the process that is killed does until then.
async fn serve_until_killed(dir: &Path, first: &str) {
    let store = Store::open(options(dir)).expect("the store opens");
    let next = AtomicU64::new(first.parse().expect("a number"));
    // One write a line, so that a line is said as a whole or not at all.
    let say = |what: char, n: u64| std::io::stdout().lock().write_all(format!("\n{what} {n} .\n").as_bytes());
    let caller = async || loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let claimed = store.claim(request(&store, n)).await.expect("the store works");
        assert!(matches!(claimed, Claimed::Granted), "{claimed:?}");
        let token = Token(u128::from(n) + 1);
        if n.is_multiple_of(5) {
            assert_eq!(store.mark_sent(id(n), token).await, Ok(Held::Yes));
        }
        say('G', n).expect("the parent listens");
        if is_left(n) {
            continue;
        }
        if is_abandoned(n) {
            assert_eq!(store.abandon(id(n), token, None).await, Ok(Held::Yes));
            say('A', n).expect("the parent listens");
            continue;
        }
        let (answer, keep) = (answer(201, &body(n)), 1_000 * MINUTE);
        let done = Completion {
            id: id(n),
            token,
            answer,
            keep,
            ends: None,
            names: None,
            alias: None,
            slots: Default::default(),
            frees: Vec::new(),
        };
        assert_eq!(store.complete(done).await, Ok(Held::Yes));
        say('D', n).expect("the parent listens");
    };
    futures_util::future::join_all((0..CALLERS).map(|_| caller())).await;
}

/// Runs the process until it has said `lines` lines, kills it and gives back all that it said.
fn run_and_kill(dir: &Path, first: u64, lines: u64) -> Vec<(char, u64)> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "--exact",
            "conformance::killed::what_a_killed_process_had_said_is_there_when_it_starts_again",
        ])
        .arg("--nocapture")
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the process starts");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut said = Vec::new();
    for line in output.lines() {
        let line = line.expect("text");
        let mut words = line.split(' ');
        if let (Some(what @ ("G" | "A" | "D")), Some(n), Some(".")) =
            (words.next(), words.next(), words.next())
        {
            said.push((what.chars().next().expect("one letter"), n.parse().expect("a number")));
        }
        if said.len() as u64 == lines {
            child.kill().expect("it is killed");
        }
    }
    let status = child.wait().expect("it ended");
    assert!(said.len() as u64 >= lines, "it ended by itself ({status}) after {} lines", said.len());
    said
}

#[tokio::test]
async fn what_a_killed_process_had_said_is_there_when_it_starts_again() {
    // The process that is killed is this test once more, told where to work.
    if let (Some(dir), Ok(first)) = (std::env::var_os(DIR), std::env::var(FIRST)) {
        return serve_until_killed(Path::new(&dir), &first).await;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut known: BTreeMap<u64, Said> = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    for cycle in 0..CYCLES {
        let first = cycle * 1_000_000 + 1;
        // Early and late moments: in the first commits, and when segments are changed.
        let lines = 1 + (cycle * 7_919 + 13) % [3, 200, 3_000][cycle as usize % 3];
        for (what, n) in run_and_kill(dir.path(), first, lines) {
            let said = match what {
                'G' => Said::Granted,
                'D' => Said::Done,
                _ => Said::Abandoned,
            };
            known.insert(n, said);
        }
        let began = Instant::now();
        let store = Store::open(options(dir.path())).expect("a killed store opens");
        slowest = slowest.max(began.elapsed());
        for (n, said) in &known {
            let phase = store.show(id(*n)).await.expect("the store works").map(|view| view.phase);
            let phase = phase.as_deref().unwrap_or("absent");
            let fits = match said {
                // What came after the grant may have been written, though nobody was told.
                Said::Granted if is_left(*n) => phase == "in-doubt",
                Said::Granted if is_abandoned(*n) => phase == "in-doubt" || phase == "absent",
                Said::Granted => phase == "in-doubt" || phase == "done",
                Said::Done => phase == "done",
                Said::Abandoned => phase == "absent",
            };
            assert!(fits, "cycle {cycle}: record {n} was {said:?}, and is {phase}");
            if phase == "done" {
                let stored = store.answer(id(*n)).await.expect("the answer is there");
                assert_eq!(stored.as_bytes(), answer(201, &body(*n)).as_bytes(), "cycle {cycle}: record {n}");
            }
        }
        store.close();
    }
    assert!(known.len() > 3_000, "only {} records were made", known.len());
    assert!(slowest < Duration::from_secs(5), "opening took {slowest:?}");
}
