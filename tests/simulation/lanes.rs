//! The same for lanes: gateways that crash, hang and wake share one lane in a store whose replies get lost and whose commands
//! arrive twice or late, before a backend that works on whatever it was sent until it is done, within the timeout. An oracle
//! that has never heard of turns looks at who writes when, and in which order.

mod mutants;
mod oracle;
mod world;

use mutants::Machine;
use oracle::Violation;
use world::{Tally, World};

/// Histories in the normal test command.
const SEEDS: u64 = 10_000;
/// Steps of one history.
const STEPS: usize = 200;

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

/// The first of the histories `0..seeds` that ends in a violation that counts, and what was met.
fn campaign(machine: &Machine, seeds: u64, counts: impl Fn(Violation) -> bool) -> (Option<u64>, Tally) {
    let mut all = Tally::default();
    for seed in 0..seeds {
        let (violation, tally) = run(machine, seed, false);
        all.add(&tally);
        if violation.is_some_and(&counts) {
            return (Some(seed), all);
        }
    }
    (None, all)
}

#[test]
fn no_history_overlaps_overtakes_or_loses_a_turn() {
    if let Some(seed) = super::number("ONCEGATE_SEED") {
        assert_eq!(run(&Machine::REAL, seed, true).0, None, "seed {seed}");
        return;
    }
    let seeds = super::number("ONCEGATE_SEEDS").unwrap_or(SEEDS);
    let started = std::time::Instant::now();
    let (failed, tally) = campaign(&Machine::REAL, seeds, |_| true);
    println!("{seeds} seeds in {:.1?}: {tally:?}", started.elapsed());
    if let Some(seed) = failed {
        let (violation, _) = run(&Machine::REAL, seed, true);
        panic!("ONCEGATE_SEED={seed}: {violation:?}");
    }
    tally.assert_every_danger_was_met(seeds);
}

#[test]
fn every_planted_bug_of_a_lane_is_caught() {
    let mut missed = Vec::new();
    for &(name, machine, expected) in mutants::ALL {
        match campaign(&machine, SEEDS, |violation| violation == expected).0 {
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
    assert!(missed.is_empty(), "not caught within {SEEDS} seeds: {missed:?}");
}
