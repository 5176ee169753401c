//! The log stays small, and carrying records forward changes none of them.

use super::faulty::{Faulty, Happened, files_after};
use super::machine::{Machine, SEGMENT_BYTES};
use super::model::{Do, Model, id};
use crate::domain::client::ScopeId;
use crate::domain::ledger::TargetId;
use crate::store::embedded::kept::status_alone;
use crate::store::embedded::state::ClaimStep;
use crate::store::{Completion, EndIntents, Held};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

fn open() -> (Faulty, Arc<AtomicU64>, Machine, Model) {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(1_000_000)));
    let machine = Machine::open(Some(disk.clone()), &hand).expect("an empty disk opens");
    (disk, hand, machine, Model::default())
}

fn complete(n: u8, body: u16, keep: u16, alias: Option<u8>) -> Do {
    Do::Complete { n, right: true, body, keep, ends: None, names: None, alias }
}

/// Records come and go until the log went round.
fn round_and_round(machine: &mut Machine, model: &mut Model) {
    for round in 0..300_u32 {
        let n = (round % 20) as u8 * 2;
        machine.both(model, &Do::Claim { n, meaning: 0, sent: true });
        machine.both(model, &complete(n, 300, 20, None));
        machine.both(model, &Do::Pass { millis: 30 });
    }
}

#[test]
fn disk_use_is_bounded_while_records_come_and_go() {
    let (disk, hand, mut machine, mut model) = open();
    let mut most = 0;
    for round in 0..600_u32 {
        let n = (round % 20) as u8 * 2;
        machine.both(&mut model, &Do::Claim { n, meaning: 0, sent: true });
        machine.both(&mut model, &complete(n, 300, 50, None));
        machine.both(&mut model, &Do::Pass { millis: 100 });
        most = most.max(disk.files().len());
    }
    assert!(most <= 9, "{most} segments of {SEGMENT_BYTES} bytes for one live record");
    let written = disk.world().history.len();
    assert!(written > 1_200, "{written} operations: the log went round several times");
    drop(machine);
    assert!(Machine::open(Some(disk), &hand).is_ok());
}

#[test]
fn records_that_stay_are_carried_forward_unchanged() {
    let (disk, hand, mut machine, mut model) = open();
    machine.both(&mut model, &Do::Claim { n: 101, meaning: 0, sent: true });
    machine.both(&mut model, &complete(101, 700, u16::MAX, Some(77)));
    machine.both(&mut model, &Do::Claim { n: 102, meaning: 0, sent: true });
    machine.both(&mut model, &Do::Doubt { n: 102, right: true });
    let first = *disk.files().keys().next().expect("a segment");
    round_and_round(&mut machine, &mut model);
    assert!(!disk.files().contains_key(&first), "the segment that they began in is gone");
    assert_eq!(machine.seen(), model.seen(machine.now()));
    let alias = |machine: &Machine| {
        let state = machine.shared.lock();
        state.aliases.resolve(crate::domain::client::ScopeId([77; 16]), machine.now())
    };
    let scope = crate::domain::client::ScopeId([101 % 3; 16]);
    assert_eq!(alias(&machine), scope);
    let again = Machine::open(Some(disk.clone()), &hand).expect("it opens");
    assert_eq!(again.seen(), model.restarted(again.now()).seen(again.now()));
    // Nor was there a moment, after any segment went, at which a power loss would have taken them along.
    let history = disk.world().history.clone();
    let removals = (0..history.len()).filter(|at| matches!(history[*at], Happened::Removed(_)));
    for at in removals {
        let left = Machine::open(Some(Faulty::with(files_after(&history[..=at]))), &hand).expect("it opens");
        assert!(left.seen().contains_key(&id(101)) && left.seen().contains_key(&id(102)), "operation {at}");
    }
    assert_eq!(alias(&again), scope, "so are aliases");
}

#[test]
fn a_success_that_ends_more_records_than_a_step_holds_is_written_in_several() {
    let (disk, hand, mut machine, mut model) = open();
    // All of them on one target; the notes that they are gone fill more than a quarter of a segment.
    let request = |n: u8| {
        let mut request = super::model::claim(2, 0, true, crate::domain::ledger::Token(u128::from(n) + 1));
        request.id.0[1] = n;
        request.claim.fingerprint.0[1] = n;
        request
    };
    for n in 0..100 {
        let request = request(n);
        let (record, token) = (request.id, request.claim.token);
        assert!(machine.run(|state, now, after| state.claim(&mut request.clone(), now, after)).is_ok());
        let keep = std::time::Duration::from_secs(60);
        let answer = super::model::answer(1);
        let done = Completion {
            id: record,
            token,
            answer,
            keep,
            ends: None,
            names: None,
            alias: None,
            slots: Default::default(),
            frees: Vec::new(),
        };
        assert_eq!(machine.run(|state, now, after| state.complete(done.into(), now, after)), Ok(Held::Yes));
        machine.make_room();
    }
    machine.both(&mut model, &Do::Claim { n: 101, meaning: 0, sent: true });
    let ends = EndIntents {
        target: request(0).claim.target,
        parents: Vec::new(),
        scope: request(0).claim.scope,
        by: None,
        subtree_for: Duration::ZERO,
    };
    assert_eq!(machine.run(|state, now, after| state.end_intents(&ends, now, after)), 100);
    machine.make_room();
    assert_eq!(machine.seen(), model.seen(machine.now()));
    let again = Machine::open(Some(disk), &hand).expect("it opens");
    assert_eq!(again.seen(), model.restarted(again.now()).seen(again.now()));
}

#[test]
fn what_ended_with_all_below_it_is_carried_forward_and_read_again() {
    let (disk, hand, mut machine, mut model) = open();
    let ends = EndIntents {
        target: TargetId([200; 16]),
        parents: Vec::new(),
        scope: ScopeId([7; 16]),
        by: None,
        subtree_for: Duration::from_secs(3_600),
    };
    assert_eq!(machine.run(|state, now, after| state.end_intents(&ends, now, after)), 0);
    let first = *disk.files().keys().next().expect("a segment");
    round_and_round(&mut machine, &mut model);
    assert!(!disk.files().contains_key(&first), "the segment that it stood in is gone");
    let count = |machine: &Machine| machine.shared.lock().subtrees.len();
    assert_eq!(count(&machine), 2, "for all, and for its scope");
    let again = Machine::open(Some(disk), &hand).expect("it opens");
    assert_eq!(count(&again), 2);
}

#[test]
fn a_segment_that_cannot_be_removed_keeps_those_behind_it() {
    let (disk, hand, mut machine, mut model) = open();
    let first = *disk.files().keys().next().expect("a segment");
    disk.world().stuck = Some(first);
    round_and_round(&mut machine, &mut model);
    let files = disk.files();
    assert!(files.keys().copied().eq(first..first + files.len() as u32), "{:?}", files.keys());
    let again = Machine::open(Some(Faulty::with(files)), &hand).expect("its log is whole");
    assert_eq!(again.seen(), model.restarted(again.now()).seen(again.now()));
    disk.world().stuck = None;
    round_and_round(&mut machine, &mut model);
    assert!(!disk.files().contains_key(&first) && disk.files().len() <= 9, "{:?}", disk.files().keys());
}

/// Three records that stay begin in the first segment, with `break_it` after the second one; then the log goes round.
fn with_a_broken_answer(break_it: impl FnOnce(&Faulty)) {
    let (disk, hand, mut machine, mut model) = open();
    machine.both(&mut model, &Do::Claim { n: 101, meaning: 0, sent: true });
    machine.both(&mut model, &complete(101, 700, u16::MAX, None));
    machine.both(&mut model, &Do::Claim { n: 102, meaning: 0, sent: true });
    machine.both(&mut model, &Do::Doubt { n: 102, right: true });
    let first = *disk.files().keys().next().expect("a segment");
    break_it(&disk);
    round_and_round(&mut machine, &mut model);
    assert!(!disk.files().contains_key(&first), "the segment that they began in is gone");
    let again = Machine::open(Some(disk), &hand).expect("it opens, without what was broken");
    for machine in [machine, again] {
        let mut copy = super::model::claim(101, 0, true, crate::domain::ledger::Token(u128::MAX));
        let found = machine.run(|state, now, after| state.claim(&mut copy, now, after));
        let Ok(ClaimStep::Done(kept)) = found else { panic!("it was executed") };
        let told = machine.shared.read(kept.place.expect("it is on disk"));
        assert_eq!(told, Ok(status_alone(201)), "its copies get what is certain");
        let seen = machine.seen();
        assert!(matches!(seen[&id(102)], super::model::Seen::InDoubt { .. }), "{seen:?}");
    }
}

#[test]
fn an_answer_that_rotted_stops_no_compaction_and_its_status_stays() {
    // Its block cannot be read any more, and nothing that the segment says behind it.
    with_a_broken_answer(|disk| disk.flip_in(&super::model::answer(700).body()));
}

#[test]
fn a_segment_that_cannot_be_read_stops_no_compaction() {
    with_a_broken_answer(|disk| disk.world().bad = Some(1));
}
