//! Random commands on the store and on the ledger alone: the same outcomes, and the same records in the end.

use super::faulty::Faulty;
use super::machine::Machine;
use super::model::{Do, Model};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub(super) fn step() -> impl Strategy<Value = Do> {
    let n = 0..8_u8;
    prop_oneof![
        8 => (n.clone(), 0..2_u8, prop::bool::weighted(0.7))
            .prop_map(|(n, meaning, sent)| Do::Claim { n, meaning, sent }),
        2 => (n.clone(), prop::bool::weighted(0.8)).prop_map(|(n, right)| Do::MarkSent { n, right }),
        1 => (n.clone(), prop::bool::weighted(0.8)).prop_map(|(n, right)| Do::Renew { n, right }),
        6 => (
            (n.clone(), prop::bool::weighted(0.9), 0..900_u16, 0..9_000_u16),
            (prop::option::of(0..4_u8), prop::option::of(0..4_u8), prop::option::weighted(0.2, 0..9_u8)),
        )
            .prop_map(|((n, right, body, keep), (ends, names, alias))| {
                Do::Complete { n, right, body, keep, ends, names, alias }
            }),
        2 => (n.clone(), prop::bool::weighted(0.8)).prop_map(|(n, right)| Do::Abandon { n, right }),
        2 => (n.clone(), prop::bool::weighted(0.8)).prop_map(|(n, right)| Do::Doubt { n, right }),
        2 => (0..4_u8, prop::option::of(n.clone())).prop_map(|(target, by)| Do::End { target, by }),
        1 => (n.clone(), 0..300_u16).prop_map(|(n, body)| Do::Executed { n, body }),
        1 => n.clone().prop_map(|n| Do::NotExecuted { n }),
        1 => n.prop_map(|n| Do::Delete { n }),
        4 => (0..4_000_u16).prop_map(|millis| Do::Pass { millis }),
        1 => Just(Do::Restart),
        1 => Just(Do::Compact),
    ]
}

fn run(disk: Option<Faulty>, steps: &[Do]) {
    let hand = Arc::new(AtomicU64::new(1_000_000));
    let mut machine = Machine::open(disk, &hand).expect("an empty disk opens");
    let mut model = Model::default();
    for step in steps {
        machine.both(&mut model, step);
        assert_eq!(machine.seen(), model.seen(machine.now()), "after {step:?}");
        model.tick(machine.now());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn memory_says_what_the_ledger_says(steps in prop::collection::vec(step(), 1..120)) {
        run(None, &steps);
    }

    #[test]
    fn the_log_says_what_the_ledger_says_over_restarts_and_compaction(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        run(Some(Faulty::default()), &steps);
    }
}
