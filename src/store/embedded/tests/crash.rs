//! Power loss at every byte. Whatever part of the last write reached the disk: what was acknowledged is there, what was
//! not acknowledged is there as a whole or not at all.

#![allow(clippy::disallowed_methods, reason = "a test waits with a deadline")]

use super::faulty::{Faulty, Happened, files_after, happen};
use super::machine::Machine;
use super::model::{Do, Model, Seen};
use crate::domain::ledger::RecordId;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const START: u64 = 1_000_000;

/// A run that was recorded: what happened to the disk, and what the ledger said after how many of these operations.
struct Recorded {
    history: Vec<Happened>,
    /// In order: operations on the disk when a step was acknowledged, and the records then.
    acknowledged: Vec<(usize, Model)>,
    end: u64,
}

fn record(steps: &[Do]) -> Recorded {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(START)));
    let mut machine = Machine::open(Some(disk.clone()), &hand).expect("an empty disk opens");
    let mut model = Model::default();
    let mut acknowledged = vec![(disk.world().history.len(), model.clone())];
    for step in steps {
        machine.both(&mut model, step);
        let written =
            disk.world().history.iter().rposition(|happened| matches!(happened, Happened::Wrote { .. }));
        let synced = disk.world().history.iter().rposition(|happened| matches!(happened, Happened::Synced));
        assert!(synced >= written, "{step:?} was acknowledged before it was synced");
        acknowledged.push((disk.world().history.len(), model.clone()));
        machine.seen();
        model.tick(machine.now());
        acknowledged.push((disk.world().history.len(), model.clone()));
    }
    let history = disk.world().history.clone();
    Recorded { history, acknowledged, end: hand.load(Ordering::SeqCst) }
}

impl Recorded {
    /// Opens `files`, which the first `operations` left together with a part of the next one, and compares.
    fn check(&self, files: BTreeMap<u32, Vec<u8>>, operations: usize, what: &str) {
        let hand = Arc::new(AtomicU64::new(self.end));
        let machine = Machine::open(Some(Faulty::with(files)), &hand);
        let machine = machine.unwrap_or_else(|error| panic!("{what}: {error}"));
        let got = machine.seen();
        let next = self.acknowledged.partition_point(|(at, _)| *at <= operations);
        // The step that was cut may have been carried out already: nobody was told.
        let allowed: Vec<BTreeMap<RecordId, Seen>> = self.acknowledged
            [next - 1..(next + 1).min(self.acknowledged.len())]
            .iter()
            .map(|(_, model)| model.restarted(machine.now()).seen(machine.now()))
            .collect();
        assert!(allowed.contains(&got), "{what}:\n got {got:?}\n allowed {allowed:?}");
    }
}

/// Random steps, the same ones in every run.
fn steps(count: usize) -> Vec<Do> {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let strategy = prop::collection::vec(super::differential::step(), count);
    let steps: Vec<Do> = strategy.new_tree(&mut runner).expect("steps").current();
    steps.into_iter().filter(|step| !matches!(step, Do::Restart)).collect()
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_log_is_cut() {
    let recorded = record(&steps(150));
    let mut files = BTreeMap::new();
    let mut cuts = 0;
    for (operations, happened) in recorded.history.iter().enumerate() {
        if let Happened::Wrote { number, at, bytes } = happened {
            // Every byte of the header and then every seventh: a note is longer than that.
            for cut in (0..bytes.len()).filter(|cut| *cut < 40 || cut % 7 == 0 || *cut + 9 > bytes.len()) {
                let mut torn = files.clone();
                let (number, at) = (*number, *at);
                happen(&mut torn, &Happened::Wrote { number, at, bytes: bytes[..cut].to_vec() });
                recorded.check(torn, operations, &format!("operation {operations} cut at byte {cut}"));
                cuts += 1;
            }
        }
        happen(&mut files, happened);
    }
    assert!(cuts > 1_000, "only {cuts} cuts: the run wrote too little to mean anything");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_last_write_reaches_the_disk_in_pieces() {
    let recorded = record(&steps(120));
    for (operations, happened) in recorded.history.iter().enumerate() {
        let Happened::Wrote { number, at, bytes } = happened else { continue };
        // The head without its tail, the tail without its head, every other piece.
        for piece in [8, 64, 512] {
            for keep in [
                |piece: usize| piece > 0,
                |piece: usize| piece.is_multiple_of(2),
                |piece: usize| piece % 2 == 1,
            ] {
                let mut torn = files_after(&recorded.history[..operations]);
                for (index, chunk) in bytes.chunks(piece).enumerate().filter(|(index, _)| keep(*index)) {
                    let at = at + (index * piece) as u64;
                    happen(&mut torn, &Happened::Wrote { number: *number, at, bytes: chunk.to_vec() });
                }
                recorded.check(torn, operations, &format!("operation {operations} in pieces of {piece}"));
            }
        }
    }
}

#[test]
fn a_torn_end_survives_the_next_life_and_is_cut_again() {
    let recorded = record(&steps(40));
    let last = recorded.history.iter().rposition(|happened| matches!(happened, Happened::Wrote { .. }));
    let last = last.expect("something was written");
    let Happened::Wrote { number, at, bytes } = &recorded.history[last] else {
        unreachable!("found as a write")
    };
    let mut files = files_after(&recorded.history[..last]);
    let half = bytes[..bytes.len() / 2].to_vec();
    happen(&mut files, &Happened::Wrote { number: *number, at: *at, bytes: half });
    let hand = Arc::new(AtomicU64::new(recorded.end));
    let disk = Faulty::with(files);
    // Three lives on the same disk: the first one begins in a new segment behind the torn one.
    let mut model =
        recorded.acknowledged.iter().rev().find(|(at, _)| *at <= last).expect("the start").1.clone();
    for life in 0..3_u8 {
        let mut machine = Machine::open(Some(disk.clone()), &hand).expect("a torn end is no damage");
        model = model.restarted(machine.now());
        assert_eq!(machine.seen(), model.seen(machine.now()), "life {life}");
        machine.both(&mut model, &Do::Claim { n: 100 + life, meaning: 0, sent: true });
        assert_eq!(machine.seen(), model.seen(machine.now()), "life {life}");
    }
}

#[test]
fn opening_makes_durable_what_a_killed_process_had_only_written() {
    let recorded = record(&steps(20));
    let disk = Faulty::with(files_after(&recorded.history));
    let hand = Arc::new(AtomicU64::new(recorded.end));
    // No thread runs yet, so this sync is the reading's own, before anything is answered from what was read.
    let shared = crate::store::embedded::Shared::build(
        &super::machine::options(0),
        super::machine::setup(Some(disk.clone()), &hand, super::machine::SEGMENT_BYTES),
    );
    assert!(shared.is_ok());
    assert!(matches!(disk.world().history.first(), Some(Happened::Synced)));
}

#[test]
fn time_does_not_go_back_when_the_machine_starts_with_an_earlier_one() {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(START)));
    let mut machine = Machine::open(Some(disk.clone()), &hand).expect("an empty disk opens");
    let mut model = Model::default();
    machine.both(&mut model, &Do::Pass { millis: 9_000 });
    machine.both(&mut model, &Do::Claim { n: 2, meaning: 0, sent: true });
    let before = machine.now();
    let earlier = Arc::new(AtomicU64::new(START / 2));
    let again = Machine::open(Some(disk), &earlier).expect("it opens");
    assert!(again.now() >= before, "{:?} is before {before:?}", again.now());
}
