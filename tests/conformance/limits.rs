//! Limits on a store with real Redis behind it, and the same decisions by the governor crate and by the pure arithmetic:
//! the same at the same instants, to the microsecond. The instants are the server's own; the others' clocks are set to
//! what it said.

use super::support::*;
use governor::clock::{Clock, FakeRelativeClock};
use governor::{Quota, RateLimiter};
use oncegate::domain::throttle::{Denied, LIMITS_MAX, Limit, Nanos, decide};
use oncegate::store::{LimitsTaken, Said, SharedBucket, Store, TakeLimits};
use proptest::prelude::*;
use std::num::NonZeroU32;
use std::time::Duration;

/// Short limits: the time in between is real.
fn limit() -> impl Strategy<Value = Limit> {
    (1..20u64, prop_oneof![Just(1u64), Just(7), Just(40)], 1..8u64).prop_map(|(count, millis, burst)| {
        Limit::new(count, Duration::from_millis(millis), burst).expect("in range").in_micros()
    })
}

/// Pauses, in microseconds, and costs.
fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let pause = prop_oneof![6 => Just(0u64), 3 => 0..2_000u64, 1 => 0..12_000u64];
    prop::collection::vec((pause, 1..3u64), 1..60)
}

/// Plays `steps` on the store; each request with its answer.
fn play(store: &Store, space: u64, limits: &[Limit], steps: &[(u64, u64)]) -> Vec<(u64, LimitsTaken)> {
    let bucket = |(at, limit): (usize, &Limit)| SharedBucket { name: space + at as u64, limit: *limit };
    let stack: Vec<SharedBucket> = limits.iter().enumerate().map(bucket).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut played = Vec::new();
        for (pause, cost) in steps {
            if *pause > 0 {
                tokio::time::sleep(Duration::from_micros(*pause)).await;
            }
            // A cost above a burst never passes; the configuration refuses it.
            let cost = (*cost).min(limits.iter().map(Limit::burst).min().unwrap_or(1));
            let take = TakeLimits { space, hard: None, stack: stack.clone(), cost };
            played.push((cost, decided(store, &take).await));
        }
        played
    })
}

/// The store's decision; on a busy machine an answer may come too late, and then nobody decided.
async fn decided(store: &Store, take: &TakeLimits) -> LimitsTaken {
    store.prepare_limits().await;
    store.take_limits(take).await.expect("the store decides")
}

/// A server whose patience is long: this is about what it decides.
fn open() -> Opened {
    patient(Duration::from_secs(2))
}

/// Instants as the pure arithmetic counts them, from the first decision of a case on.
fn since(first: u64, at: u64) -> Nanos {
    Nanos(1 + (at - first) * 1_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn limits_are_decided_as_governor_and_the_pure_arithmetic_do(
        alone in prop::collection::vec((limit(), steps()), 30),
        stacked in prop::collection::vec((prop::collection::vec(limit(), 1..=LIMITS_MAX), steps()), 30),
    ) {
        let store = open();
        let mut space = 0;
        for (limit, steps) in alone {
            space += 100;
            as_governor(limit, &play(&store, space, &[limit], &steps))?;
        }
        for (limits, steps) in stacked {
            space += 100;
            as_the_arithmetic(&limits, &play(&store, space, &limits, &steps))?;
        }
    }
}

fn as_governor(limit: Limit, played: &[(u64, LimitsTaken)]) -> Result<(), TestCaseError> {
    let quota = Quota::with_period(Duration::from_nanos(limit.interval())).expect("not zero");
    let quota = quota.allow_burst(NonZeroU32::new(limit.burst() as u32).expect("not zero"));
    let clock = FakeRelativeClock::default();
    let governor = RateLimiter::direct_with_clock(quota, clock.clone());
    let mut now = played[0].1.at;
    for (cost, told) in played {
        clock.advance(Duration::from_micros(told.at - now));
        now = told.at;
        let cells = NonZeroU32::new(*cost as u32).expect("not zero");
        match governor.check_n(cells).expect("within the burst") {
            Ok(()) => prop_assert_eq!(told.said, Said::Allowed),
            Err(until) => {
                prop_assert_eq!(told.said, Said::Early);
                let denied = decide(&[limit], &mut [told.left[0]], Nanos(0), *cost);
                let wait = until.wait_time_from(clock.now());
                prop_assert_eq!(denied, Err(Denied { wait, by: 0 }));
            }
        }
    }
    Ok(())
}

fn as_the_arithmetic(limits: &[Limit], played: &[(u64, LimitsTaken)]) -> Result<(), TestCaseError> {
    let first = played[0].1.at;
    let mut tats = vec![Nanos(0); limits.len()];
    for (cost, told) in played {
        let now = since(first, told.at);
        let said = if decide(limits, &mut tats, now, *cost).is_ok() { Said::Allowed } else { Said::Early };
        prop_assert_eq!(told.said, said);
        let left: Vec<Nanos> = tats.iter().map(|tat| Nanos(tat.0.saturating_sub(now.0))).collect();
        prop_assert_eq!(&told.left, &left);
    }
    Ok(())
}

fn limits(text: &str) -> SharedBucket {
    SharedBucket { name: 7, limit: Limit::parse(text).expect("a limit").in_micros() }
}

#[tokio::test]
async fn the_hard_limit_counts_what_the_stack_refuses_and_the_stack_nothing_above_it() {
    let store = open();
    let hard = SharedBucket { name: 8, ..limits("3/h") };
    let take = TakeLimits { space: 1, hard: Some(hard), stack: vec![limits("1/h")], cost: 1 };
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(decided(&store, &take).await.said);
    }
    assert_eq!(said, [Said::Allowed, Said::Early, Said::Early, Said::Hard, Said::Hard]);
    // Whoever has waited for its turn has been counted by the hard limit already.
    let again = TakeLimits { hard: None, stack: vec![SharedBucket { name: 9, ..limits("1/h") }], ..take };
    assert_eq!(decided(&store, &again).await.said, Said::Allowed);
    assert_eq!(decided(&store, &again).await.said, Said::Early);
}

#[tokio::test]
async fn every_bucket_ends_when_it_is_whole_again_and_is_kept_under_the_prefix() {
    let server = crate::harness::redis::Server::start(&[]);
    let store = on(&server, Duration::from_secs(2));
    let stack = vec![limits("2/min"), SharedBucket { name: 9, ..limits("1/20s") }];
    let take = TakeLimits { space: 1, hard: Some(SharedBucket { name: 8, ..limits("9/h") }), stack, cost: 1 };
    decided(&store, &take).await;
    let names = server.cli(&["--no-raw", "keys", "{oncegate}q:*"]);
    assert_eq!(names.lines().count(), 3, "{names}");
    let ends = server.cli(&[
        "eval",
        "local t = {} for _, k in ipairs(redis.call('keys', '{oncegate}q:*')) do table.insert(t, redis.call('pttl', k)) end return t",
        "0",
    ]);
    let mut ends: Vec<i64> = ends.lines().map(|line| line.trim().parse().unwrap_or(-9)).collect();
    ends.sort_unstable();
    // When the burst is whole again, less what the test took to look.
    assert!((5_000..=20_000).contains(&ends[0]), "{ends:?}");
    assert!((15_000..=30_000).contains(&ends[1]) && (380_000..=400_000).contains(&ends[2]), "{ends:?}");
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_nobody_wait_longer_than_a_burst_takes() {
    let server = crate::harness::redis::Server::start(&[]);
    let store = on(&server, Duration::from_secs(2));
    let take = TakeLimits { space: 1, hard: None, stack: vec![limits("2/min")], cost: 1 };
    decided(&store, &take).await;
    let key = server.cli(&["--raw", "eval", "return redis.call('keys', '{oncegate}q:*')[1]", "0"]);
    assert!(key.starts_with("{oncegate}q:"), "{key}");
    // As written by a clock a century ahead.
    server.cli(&[
        "eval",
        "return redis.call('set', redis.call('keys', '{oncegate}q:*')[1], '4900000000000000')",
        "0",
    ]);
    let told = decided(&store, &take).await;
    assert_eq!((told.said, told.left), (Said::Early, vec![Nanos(60_000_000_000)]));
}

#[tokio::test]
async fn a_cluster_keeps_the_limits_of_a_request_together() {
    let spread = Spread::start();
    let store = spread.open(Limits::default());
    for space in 0..40u64 {
        let stack: Vec<SharedBucket> =
            (0..8).map(|n| SharedBucket { name: space * 100 + n, ..limits("1/h") }).collect();
        let take = TakeLimits { space, hard: None, stack, cost: 1 };
        store.prepare_limits().await;
        let first = store.take_limits(&take).await.expect("the cluster decides");
        let second = store.take_limits(&take).await.expect("the cluster decides");
        assert_eq!((first.said, second.said), (Said::Allowed, Said::Early));
    }
}

#[tokio::test]
async fn nobody_waits_for_a_store_that_stands_still_and_it_is_used_again_when_it_goes_on() {
    let server = crate::harness::redis::Server::start(&[]);
    let store = on(&server, Duration::from_millis(50));
    let take = TakeLimits { space: 1, hard: None, stack: vec![limits("1000/s")], cost: 1 };
    store.prepare_limits().await;
    store.take_limits(&take).await.expect("the store decides");
    let pid = rustix::process::Pid::from_raw(server.pid().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("ours");
    let asked = tokio::time::Instant::now();
    assert!(store.take_limits(&take).await.is_err());
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(store.limits_are_away());
    let asked = tokio::time::Instant::now();
    for _ in 0..1_000 {
        assert!(store.take_limits(&take).await.is_err());
    }
    assert!(asked.elapsed() < Duration::from_millis(500), "nobody waits: {:?}", asked.elapsed());
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("ours");
    let until = tokio::time::Instant::now() + PATIENCE;
    while store.limits_are_away() {
        assert!(tokio::time::Instant::now() < until, "the store answers, and is not used");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.take_limits(&take).await.expect("the store decides again");
}
