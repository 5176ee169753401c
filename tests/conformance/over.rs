//! What is over is not kept, and costs nobody anything: on every store what can be asked of one, on Redis what its keys say.

use super::bench::Bench;
use super::support::*;
use oncegate::domain::client::ScopeId;
use oncegate::domain::ledger::{TargetId, Token};
use oncegate::store::{Claimed, Completion, Held};
use std::time::Duration;

/// The resource that every record of [`claim`] is about, and one that answers name.
const TARGET: TargetId = TargetId([1; 16]);
const NAMED: TargetId = TargetId([9; 16]);

const SECOND: Duration = Duration::from_secs(1);

pub async fn a_change_ends_what_counts_among_what_is_over(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    for n in 1..=40 {
        granted(&store, claim(&store, n, n.into())).await;
        // Every eighth counts on, half of these by the resource that they name.
        let (counts_on, is_named) = (n % 8 == 0, n % 16 == 0);
        let done = Completion {
            keep: if counts_on { MINUTE } else { SHORT },
            names: is_named.then_some(NAMED),
            ..completion(n, n.into(), answer(201, ""))
        };
        assert_eq!(complete(&store, done).await, Held::Yes);
    }
    // The last one that is over soon.
    claim_until(&store, || claim(&store, 39, 139), |claimed| matches!(claimed, Claimed::Granted)).await;
    assert_eq!(store.abandon(id(39), Token(139), None).await, Ok(Held::Yes));
    let kept = async |n: u8| matches!(store.show(id(n)).await, Ok(Some(_)));
    assert!(store.end_intents(change_of(NAMED)).await.is_ok_and(|count| count >= 2));
    assert!(!kept(16).await && !kept(32).await && kept(8).await && kept(24).await && kept(40).await);
    assert!(store.end_intents(change_of(TARGET)).await.is_ok_and(|count| count >= 3));
    assert_eq!(store.end_intents(change_of(TARGET)).await, Ok(0));
    for n in 1..=40 {
        granted(&store, claim(&store, n, 200 + u128::from(n))).await;
    }
}

/// A keyless write that is answered, and kept for a second.
async fn written(bench: &Bench, n: u8, token: u128, names: Option<TargetId>) {
    granted(&bench.store, claim(&bench.store, n, token)).await;
    let done = Completion { keep: SECOND, names, ..completion(n, token, answer(303, "")) };
    assert_eq!(complete(&bench.store, done).await, Held::Yes);
}

fn entries(bench: &Bench, set: &str) -> u64 {
    let script = format!("return redis.call('zcard', '{{oncegate}}{set}')");
    let said = bench.server.cli(&["eval", &script, "0"]);
    said.trim().parse().unwrap_or_else(|_| panic!("{set} has {said}"))
}

/// The set of a resource; `byte`: what its id consists of.
fn of_resource(byte: u8) -> String {
    format!("t:' .. string.rep('\\{byte}', 16) .. '")
}

#[tokio::test]
async fn writes_that_are_over_do_not_fill_the_sets_of_what_they_are_about_and_what_they_name() {
    let mut bench = Bench::start();
    let mut most = 0;
    for round in 0..8 {
        // Sixteen ids, of which one clears for all.
        for n in 1..=16 {
            written(&bench, n, (round * 16 + u32::from(n)).into(), Some(NAMED)).await;
        }
        most = most.max(entries(&bench, &of_resource(1))).max(entries(&bench, &of_resource(9)));
        bench.pass(1_100);
    }
    bench.sets_are_whole();
    assert!(most <= 32, "{most} entries where sixteen count");
    // Asked for one by one, as what the usual script leaves alone is.
    for n in 1..=16 {
        granted(&bench.store, claim(&bench.store, n, 1_000 + u128::from(n))).await;
        let names = Some(TargetId([100 + n; 16]));
        let ends = Some(change_of(TargetId([50; 16])));
        let done =
            Completion { keep: SECOND, names, ends, ..completion(n, 1_000 + u128::from(n), answer(303, "")) };
        assert_eq!(complete(&bench.store, done).await, Held::Yes);
    }
    bench.sets_are_whole();
}

#[tokio::test]
async fn a_change_takes_what_is_over_and_what_is_gone_out_of_its_sets() {
    let mut bench = Bench::start();
    for n in 1..=15 {
        written(&bench, n, n.into(), Some(NAMED)).await;
    }
    bench.pass(1_100);
    // Entries of records that are gone, as gateways of an earlier version left them.
    let script = "for n = 1, 600 do redis.call('zadd', '{oncegate}t:' .. string.rep('\\1', 16), 9e14, n) end";
    bench.server.cli(&["eval", script, "0"]);
    granted(&bench.store, claim(&bench.store, 17, 17)).await;
    assert_eq!(bench.store.end_intents(change_of(TARGET)).await, Ok(1));
    assert_eq!(entries(&bench, &of_resource(1)), 1);
    assert_eq!(bench.store.end_intents(change_of(NAMED)).await, Ok(0));
    assert_eq!(entries(&bench, &of_resource(9)), 0);
}

#[tokio::test]
async fn renewed_sessions_that_are_over_count_no_longer() {
    let mut bench = Bench::start();
    granted(&bench.store, claim(&bench.store, 1, 1)).await;
    for n in 10..15 {
        assert_eq!(bench.store.alias(ScopeId([n; 16]), ScopeId([1; 16]), SECOND).await, Ok(()));
    }
    assert_eq!(entries(&bench, "l"), 5);
    bench.pass(10_000);
    assert_eq!(bench.store.alias(ScopeId([20; 16]), ScopeId([1; 16]), MINUTE).await, Ok(()));
    assert_eq!(entries(&bench, "l"), 1);
    assert_eq!(bench.store.scope_of(ScopeId([20; 16])), ScopeId([1; 16]));
}
