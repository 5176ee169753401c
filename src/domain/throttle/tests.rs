//! Laws of the arithmetic, against the governor crate and against the plain words of the promise.

use super::*;
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::prelude::*;
use std::num::NonZeroU32;
use std::time::Duration;

fn limit() -> impl Strategy<Value = Limit> {
    (1..20u64, prop_oneof![Just(1u64), Just(7), Just(100), Just(1_000), Just(60_000)], 1..12u64).prop_map(
        |(count, millis, burst)| Limit::new(count, Duration::from_millis(millis), burst).expect("in range"),
    )
}

/// Pauses between requests, around the limits' own intervals and far beyond them.
fn pauses() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let pause = prop_oneof![
        3 => Just(0u64),
        4 => 0..2_000_000u64,
        4 => 0..2_000_000_000u64,
        1 => 0..600_000_000_000u64,
    ];
    prop::collection::vec((pause, 1..4u64), 1..200)
}

fn governor_of(limit: &Limit) -> Quota {
    Quota::with_period(Duration::from_nanos(limit.interval()))
        .expect("not zero")
        .allow_burst(NonZeroU32::new(limit.burst() as u32).expect("not zero"))
}

proptest! {
    #[test]
    fn one_limit_decides_as_governor_does(limit in limit(), pauses in pauses()) {
        let clock = FakeRelativeClock::default();
        let governor = RateLimiter::direct_with_clock(governor_of(&limit), clock.clone());
        let (mut tat, mut now) = ([Nanos(0)], Nanos(0));
        for (pause, cost) in pauses {
            clock.advance(Duration::from_nanos(pause));
            now = now.after(Duration::from_nanos(pause));
            let cells = NonZeroU32::new(cost as u32).expect("not zero");
            let Ok(theirs) = governor.check_n(cells) else { continue };
            let ours = decide(&[limit], &mut tat, now, cost);
            match (ours, theirs) {
                (Ok(()), Ok(())) => {}
                (Err(ours), Err(theirs)) => {
                    prop_assert_eq!(ours.wait, theirs.wait_time_from(governor::clock::Clock::now(&clock)));
                }
                (ours, theirs) => prop_assert!(false, "ours {:?}, governor {:?}", ours, theirs.is_ok()),
            }
        }
    }

    #[test]
    fn a_stack_allows_what_each_of_its_limits_would_allow_and_takes_from_all_or_none(
        limits in prop::collection::vec(limit(), 1..=LIMITS_MAX), pauses in pauses(),
    ) {
        let mut tats = vec![Nanos(0); limits.len()];
        let mut now = Nanos(0);
        for (pause, cost) in pauses {
            now = now.after(Duration::from_nanos(pause));
            let before = tats.clone();
            let alone: Vec<_> = limits.iter().zip(&before)
                .map(|(limit, tat)| decide(&[*limit], &mut [*tat], now, cost)).collect();
            let together = decide(&limits, &mut tats, now, cost);
            prop_assert_eq!(together.is_ok(), alone.iter().all(Result::is_ok));
            match together {
                Ok(()) => prop_assert!(tats.iter().zip(&before).all(|(after, before)| after > before)),
                Err(denied) => {
                    prop_assert_eq!(&tats, &before, "a denied request takes nothing");
                    let longest = alone.iter().filter_map(|one| one.err()).map(|one| one.wait).max();
                    prop_assert_eq!(Some(denied.wait), longest);
                    prop_assert_eq!(alone[denied.by].err().map(|one| one.wait), longest);
                }
            }
        }
    }

    #[test]
    fn a_client_that_waits_as_told_is_never_refused_again(
        limits in prop::collection::vec(limit(), 1..=LIMITS_MAX), pauses in pauses(), chance in any::<u64>(),
    ) {
        let mut tats = vec![Nanos(0); limits.len()];
        let mut now = Nanos(0);
        for (pause, _) in pauses {
            now = now.after(Duration::from_nanos(pause));
            if let Err(denied) = decide(&limits, &mut tats, now, 1) {
                let exactly = now.after(denied.wait);
                prop_assert!(decide(&limits, &mut tats.clone(), exactly, 1).is_ok(), "the wait itself is enough");
                let early = Nanos(exactly.0 - 1);
                prop_assert!(decide(&limits, &mut tats.clone(), early, 1).is_err(), "and not a nanosecond too long");
                now = now.after(Duration::from_secs(retry::seconds(denied.wait, chance)));
                prop_assert!(decide(&limits, &mut tats, now, 1).is_ok(), "nor is what the answer says");
            }
        }
    }

    /// The promise for `over = "reject"`, of a client that asks all the time: in any window at most the burst and what
    /// comes back in the window, and at least that less one.
    #[test]
    fn what_passes_in_any_window_is_within_one_of_burst_and_rate(
        limit in limit(), steps in prop::collection::vec(1..50u64, 50..400),
    ) {
        // Asking far more often than the limit allows, at uneven times.
        let step = (limit.interval() / 50).max(1);
        let (mut tat, mut now) = ([Nanos(0)], Nanos(0));
        let mut passed = Vec::new();
        for pause in &steps {
            now = Nanos(now.0 + pause * step / 25 + 1);
            if decide(&[limit], &mut tat, now, 1).is_ok() {
                passed.push(now.0);
            }
        }
        for (first, &from) in passed.iter().enumerate() {
            for (count, &to) in passed[first..].iter().enumerate() {
                let allowed = limit.burst() + (to - from) / limit.interval();
                prop_assert!((count as u64) < allowed, "{} in {} ns", count + 1, to - from);
            }
        }
        // From its first request on, a client that asks all the time gets what the limit gives, but for the last step.
        let span = now.0 - passed[0];
        let least = (limit.burst() + span.saturating_sub(2 * step + 1) / limit.interval()).saturating_sub(1);
        prop_assert!(passed.len() as u64 >= least.min(steps.len() as u64 - 1), "{} of {least}", passed.len());
    }

    #[test]
    fn what_is_said_to_remain_is_what_passes(limit in limit(), pauses in pauses()) {
        let (mut tat, mut now) = ([Nanos(0)], Nanos(0));
        for (pause, _) in pauses {
            now = now.after(Duration::from_nanos(pause));
            let standing = Standing::of(&limit, tat[0], now);
            let mut trial = tat;
            for _ in 0..standing.remaining {
                prop_assert!(decide(&[limit], &mut trial, now, 1).is_ok());
            }
            prop_assert!(decide(&[limit], &mut trial, now, 1).is_err());
            if standing.more_in > Duration::ZERO {
                let then = Standing::of(&limit, tat[0], now.after(standing.more_in));
                prop_assert!(then.remaining > standing.remaining);
                let before = Standing::of(&limit, tat[0], Nanos(now.after(standing.more_in).0 - 1));
                prop_assert_eq!(before.remaining, standing.remaining);
            } else {
                prop_assert_eq!(standing.remaining, limit.burst());
            }
            let _ = decide(&[limit], &mut tat, now, 1);
        }
    }
}

/// Through the table, overflowing and not, nobody passes more often than a limiter with all the memory in the world lets
/// them.
#[test]
fn a_table_that_overflows_never_lets_anybody_pass_too_often() {
    let limit = [Limit::parse("3/min").expect("a limit")];
    let mut shard = Shard::new(16 << 10);
    let clients = shard.capacity() as u64 * 4;
    let mut exact = vec![[Nanos(0)]; clients as usize];
    let mut now = Nanos(1);
    let (mut passed, mut possible, mut state) = (0, 0, 1u64);
    for _ in 0..clients * 12 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        now = now.after(Duration::from_micros(state >> 52));
        let client = (state >> 33) % clients;
        let bucket = Key(client.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bucket(0);
        let mut tat = [shard.tat(bucket, now)];
        assert!(
            tat[0] >= exact[client as usize][0] || exact[client as usize][0] <= now,
            "state was forgotten"
        );
        let may = decide(&limit, &mut exact[client as usize].clone(), now, 1).is_ok();
        if decide(&limit, &mut tat, now, 1).is_ok() {
            assert!(may, "a client passes that should not");
            shard.set(bucket, tat[0], now);
            let _ = decide(&limit, &mut exact[client as usize], now, 1);
            passed += 1;
        }
        possible += u64::from(may);
    }
    assert!(shard.overflowed() > 0, "this test is about overflow");
    assert!(passed > 0 && passed <= possible);
}

#[test]
fn a_million_keys_take_at_most_96_mib() {
    let mut shards: Vec<Shard> = (0..64).map(|_| Shard::new((80 << 20) / 64)).collect();
    assert!(shards.iter().map(Shard::bytes).sum::<usize>() <= 96 << 20);
    for n in 0..1_000_000u64 {
        let key = Key((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Two limits each, and both again for the address.
        for number in 0..4 {
            let shard = &mut shards[key.shard(64)];
            shard.set(key.bucket(number), Nanos(1_000_000), Nanos(0));
        }
    }
    let overflowed = shards.iter().map(Shard::overflowed).sum::<u64>();
    assert!(overflowed < 400, "{overflowed} of four million");
    for n in 0..1_000_000u64 {
        let key = Key((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert!(shards[key.shard(64)].tat(key.bucket(1), Nanos(0)) > Nanos(0));
    }
}
