//! A seeded simulation of the ledger: gateways, clients, a backend and an operator share one store, and everything that
//! can go wrong between them does, in every order. An oracle that knows the promise but not the step function looks
//! after every step.
//!
//! One seed is one history, and repeats exactly. `ONCEGATE_SEEDS=1000000` runs a campaign, `ONCEGATE_SEED=42` tells one
//! history step by step; docs/simulation.md has the figures. The planted bugs in [`mutants`] show that the oracle sees.

mod backend;
mod lanes;
mod mutants;
mod oracle;
mod rng;
pub mod slots;
mod task;
mod world;

use mutants::Machine;
use oracle::Violation;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::{Tally, World};

/// Histories in the normal test command: a second or two without optimisation.
const SEEDS: u64 = 20_000;
/// Steps of one history: enough for several intents to begin, go wrong, and be settled.
const STEPS: usize = 160;
/// A planted bug has to be seen within so many histories.
const SEEDS_FOR_A_MUTANT: u64 = 20_000;

/// Runs the history of `seed`; the violation that ended it, if one did.
fn run(machine: &Machine, seed: u64, tell: bool) -> (Option<Violation>, Tally) {
    let mut world = World::new(machine, seed, tell);
    for _ in 0..STEPS {
        if let Err(violation) = world.step() {
            world.tell(|| format!("VIOLATION {violation:?}"));
            return (Some(violation), world.tally);
        }
    }
    (None, world.tally)
}

/// Runs the histories `0..seeds` on all cores; the smallest seed that ended in a violation that `counts`, and what was
/// met on the way.
fn campaign(
    machine: &Machine,
    seeds: u64,
    counts: impl Fn(Violation) -> bool + Sync,
) -> (Option<u64>, Tally) {
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut seen = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.min(failed.load(Ordering::Relaxed)) {
                return seen;
            }
            let (violation, tally) = run(machine, seed, false);
            seen.add(&tally);
            if violation.is_some_and(&counts) {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let tally = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Tally::default();
        threads.into_iter().for_each(|thread| all.add(&thread.join().expect("a history does not panic")));
        all
    });
    let failed = failed.into_inner();
    ((failed != u64::MAX).then_some(failed), tally)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

#[test]
fn no_history_breaks_the_promise() {
    if let Some(seed) = number("ONCEGATE_SEED") {
        assert_eq!(run(&Machine::REAL, seed, true).0, None, "seed {seed}");
        return;
    }
    let seeds = number("ONCEGATE_SEEDS").unwrap_or(SEEDS);
    let started = Instant::now();
    let (failed, tally) = campaign(&Machine::REAL, seeds, |_| true);
    println!("{seeds} seeds in {:.1?}: {tally:?}", started.elapsed());
    if let Some(seed) = failed {
        let (violation, _) = run(&Machine::REAL, seed, true);
        panic!("ONCEGATE_SEED={seed} breaks the promise: {violation:?}");
    }
    tally.assert_every_danger_was_met(seeds);
}

#[test]
fn a_history_repeats_exactly() {
    for seed in [1, 77, 4_711] {
        assert_eq!(run(&Machine::REAL, seed, false).1, run(&Machine::REAL, seed, false).1);
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for &(name, machine, expected) in mutants::ALL {
        match campaign(&machine, SEEDS_FOR_A_MUTANT, |violation| violation == expected).0 {
            Some(seed) => {
                assert_eq!(
                    run(&Machine::REAL, seed, false).0,
                    None,
                    "seed {seed} proves nothing about: {name}"
                );
                println!("| {name} | {expected:?} | {seed} |");
            }
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS_FOR_A_MUTANT} seeds: {missed:?}");
}
