//! What one decision costs: the ledger's step for each command that a guarded write or a copy meets.
//!
//! `cargo bench --bench decide`. Routing joins the ledger here as a second group.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, StatusCode};
use oncegate::domain::answer::Answer;
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{
    Change, Claim, Command, Owner, PolicyVersion, Record, Step, TargetId, Token, apply, settle,
};
use oncegate::domain::time::Millis;
use std::hint::black_box;
use std::time::Duration;

const NOW: Millis = Millis(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(30);
const KEEP: Duration = Duration::from_secs(86_400);

fn claim(token: u128) -> Claim {
    Claim {
        fingerprint: Fingerprint([7; 32]),
        keyed: true,
        policy: PolicyVersion(1),
        scope: ScopeId([1; 16]),
        target: TargetId([2; 16]),
        token: Token(token),
        owner: Owner(1),
        lease: LEASE,
        sent: true,
        in_doubt_for: KEEP,
    }
}

/// A name, what the store holds, and what arrives.
type Case<'r> = (&'static str, Option<&'r Record<Answer>>, Command<Answer>);

/// A small booking's answer, as it is really kept.
fn answer() -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("location", HeaderValue::from_static("/api/bookings/822"));
    Answer::new(StatusCode::CREATED, &headers, Some(&Bytes::from(vec![b'x'; 300])))
}

fn put(step: Step<Answer>) -> Record<Answer> {
    match step.change {
        Change::Put(record) => record,
        change => panic!("the command makes a record, not {change:?}"),
    }
}

fn ledger(criterion: &mut Criterion) {
    let sent = put(apply(None, Command::Claim(claim(1)), NOW));
    let complete = Command::Complete { token: Token(1), answer: answer(), keep: KEEP };
    let done = put(apply(Some(&sent), complete.clone(), NOW));
    let cases: [Case<'_>; 6] = [
        ("claim, absent", None, Command::Claim(claim(1))),
        ("claim, in flight", Some(&sent), Command::Claim(claim(2))),
        ("claim, done", Some(&done), Command::Claim(claim(2))),
        ("renew", Some(&sent), Command::Renew { token: Token(1), lease: LEASE }),
        ("complete", Some(&sent), complete),
        ("refused", Some(&done), Command::MarkSent { token: Token(9) }),
    ];
    let mut group = criterion.benchmark_group("ledger");
    for (name, record, command) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || command.clone(),
                |command| apply(black_box(record), command, black_box(NOW)),
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("settle, not due", |bencher| {
        bencher.iter(|| settle(black_box(&done), black_box(NOW)))
    });
    let lease_end = NOW.after(LEASE);
    group.bench_function("settle, lease ended", |bencher| {
        bencher.iter(|| settle(black_box(&sent), black_box(lease_end)));
    });
    group.finish();
}

criterion_group!(decide, ledger);
criterion_main!(decide);
