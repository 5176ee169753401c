//! A store that opens: how much it writes before anybody is served, that claims wait for the rest, and what it does on a
//! disk that is full.

use super::faulty::Faulty;
use super::machine::{options, setup};
use super::model::{answer, claim};
use crate::domain::answer::Answer;
use crate::domain::ledger::Token;
use crate::store::embedded::space::Log;
use crate::store::embedded::state::{After, ClaimStep};
use crate::store::embedded::{Shared, log::writer};
use crate::store::{ClaimRequest, Completion, Held, Settle, Settled, StoreError};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const SEGMENT_BYTES: u64 = 16 << 20;

/// The same where the disk is small.
const SMALL: u64 = 64 << 10;

fn open(disk: &Faulty) -> Arc<Shared> {
    open_with(disk, SEGMENT_BYTES)
}

fn open_with(disk: &Faulty, segment_bytes: u64) -> Arc<Shared> {
    let hand = Arc::new(AtomicU64::new(1_000_000));
    Shared::build(&options(1 << 20), setup(Some(disk.clone()), &hand, segment_bytes)).expect("it opens")
}

/// The disk as it is, with no room for any more.
fn full(disk: &Faulty) -> Faulty {
    let disk = Faulty::with(disk.files());
    disk.world().capacity = Some(0);
    disk
}

fn log(shared: &Shared) -> &Log {
    shared.log.as_ref().expect("a log")
}

fn request(n: u32) -> ClaimRequest {
    let mut request = claim(1, 0, true, Token(u128::from(n) + 1));
    request.id.0[..4].copy_from_slice(&n.to_be_bytes());
    request.quota = u32::MAX;
    request
}

fn claimed(shared: &Shared, n: u32) -> ClaimStep {
    let claim = |state: &mut crate::store::embedded::state::State, now, after: &mut After| {
        state.claim(&mut request(n), now, after)
    };
    shared.run(claim).expect("the store works").0.expect("the store is not full")
}

fn complete(shared: &Shared, n: u32, answer: Answer) -> Held {
    let completion = Completion {
        id: request(n).id,
        token: Token(u128::from(n) + 1),
        answer,
        keep: Duration::from_secs(3600),
        ends: None,
        names: None,
        alias: None,
        slots: Default::default(),
        frees: Vec::new(),
    };
    let held = shared.run(|state, now, after| state.complete(completion.into(), now, after));
    held.expect("the store works").0.expect("and does so here")
}

fn write(shared: &Shared) {
    let log = log(shared);
    log.queue.flush();
    while let Some(batch) = log.queue.take_due() {
        assert!(writer::write(&log.queue, &log.segments, batch), "{:?}", log.queue.failed());
    }
}

#[test]
fn a_new_store_opens_with_little_more_than_a_mebibyte_and_claims_wait_for_more() {
    let shared = open(&Faulty::default());
    assert_eq!(log(&shared).segments.bytes(), (1 << 20) + (64 << 10));
    assert!(matches!(claimed(&shared, 1), ClaimStep::NoRoom));
    assert!(shared.ensure_spare(log(&shared)));
    assert!(matches!(claimed(&shared, 1), ClaimStep::Granted));
}

#[test]
fn what_is_too_large_for_the_small_segment_of_a_start_goes_behind_it() {
    let large = |len: usize| {
        let body = vec![b'x'; len];
        Answer::new(http::StatusCode::CREATED, &http::HeaderMap::new(), Some(&body))
    };
    let execute = |shared: &Shared, n: u32, len: usize| {
        assert!(matches!(claimed(shared, n), ClaimStep::Granted));
        let held = complete(shared, n, large(len));
        write(shared);
        held
    };
    let disk = Faulty::default();
    let first = open(&disk);
    assert!(first.ensure_spare(log(&first)));
    assert_eq!(execute(&first, 1, 1_000_000), Held::Yes);
    drop(first);
    // Nothing is left of the room that was made, but the end of the segment that was written.
    let mut files = disk.files();
    files.retain(|number, _| *number == 1);
    let disk = Faulty::with(files);
    let second = open(&disk);
    assert!(disk.files()[&2].len() < 1_500_000, "this start made a small one");
    assert!(second.ensure_spare(log(&second)));
    for (n, len) in [(2, 1_500_000), (3, 30), (4, 1_500_000)] {
        assert_eq!(execute(&second, n, len), Held::Yes, "{:?}", log(&second).queue.failed());
    }
    let third = open(&disk);
    for (n, len) in [(1, 1_000_000), (2, 1_500_000), (3, 30), (4, 1_500_000)] {
        let ClaimStep::Done(kept) = claimed(&third, n) else { panic!("a replay was due") };
        assert!(third.read(kept.place.expect("it is on disk")) == Ok(large(len)), "answer {n}");
    }
}

#[test]
fn there_is_room_at_once_for_all_that_is_found_in_flight() {
    let disk = Faulty::default();
    let first = open(&disk);
    assert!(first.ensure_spare(log(&first)));
    for n in 0..3_000 {
        assert!(matches!(claimed(&first, n), ClaimStep::Granted));
    }
    write(&first);
    drop(first);
    // Only what was written to is left, without the end: the next life finds no room that was made before.
    let mut files = disk.files();
    let used = |bytes: &Vec<u8>| bytes[512..].iter().any(|byte| *byte != 0);
    files.retain(|_, bytes| used(bytes));
    if let Some(last) = files.values_mut().last() {
        let end = last.iter().rposition(|byte| *byte != 0).expect("it is used");
        last[end + 9..end + 12].fill(0xee);
    }
    let before: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    let second = open(&Faulty::with(files));
    let made = log(&second).segments.bytes() - before;
    assert!((3_000 * 1280..SEGMENT_BYTES).contains(&made), "{made}");
    assert_eq!(second.lock().index.counts().in_doubt, 3_000);
    write(&second);
    // A late answer of an attempt that was found in flight has its room, too.
    assert_eq!(complete(&second, 7, answer(300)), Held::Yes);
    write(&second);
}

/// Lets the log of a full disk be compacted as far as that goes.
fn compact(shared: &Shared) {
    let mut leaving = None;
    for _ in 0..100 {
        write(shared);
        shared.drop_dead(log(shared), &mut leaving);
        shared.compact_oldest(log(shared));
    }
    write(shared);
}

#[test]
fn what_compaction_leaves_on_a_full_disk_is_enough_to_open_again() {
    let disk = Faulty::default();
    disk.world().capacity = Some(12 * SMALL);
    let shared = open_with(&disk, SMALL);
    let mut executed = 0;
    while shared.ensure_spare(log(&shared)) || matches!(claimed(&shared, executed), ClaimStep::Granted) {
        claimed(&shared, executed);
        assert_eq!(complete(&shared, executed, answer(300)), Held::Yes);
        write(&shared);
        executed += 1;
    }
    // Only the older half stays, and whatever room that gives is taken by somebody else.
    disk.world().capacity = Some(0);
    let stays = executed / 2;
    for n in stays..executed {
        let settled = shared.run(|state, now, after| state.settle(request(n).id, Settle::Delete, now, after));
        assert!(matches!(settled, Ok((Settled::Yes, _))));
    }
    compact(&shared);
    let wanted = shared.lock().journal.as_ref().expect("a log").wanted_at_start();
    let left = log(&shared).queue.available();
    assert!(
        (wanted..wanted + SMALL / 16).contains(&left),
        "{left} of {wanted}: all room but this was of use"
    );

    let disk = full(&disk);
    let again = open_with(&disk, SMALL);
    assert!(!again.ensure_spare(log(&again)) && log(&again).queue.full().is_some());
    for n in 0..stays {
        assert!(matches!(claimed(&again, n), ClaimStep::Done(_)), "copy {n}");
    }
    assert!(matches!(claimed(&again, executed), ClaimStep::NoRoom));
    disk.world().capacity = None;
    assert!(again.ensure_spare(log(&again)));
    assert!(matches!(claimed(&again, executed), ClaimStep::Granted));
    write(&again);
}

#[test]
fn a_full_disk_that_holds_no_room_at_all_opens_and_notes_nothing_until_there_is_some() {
    let disk = Faulty::default();
    let first = open_with(&disk, SMALL);
    assert!(first.ensure_spare(log(&first)));
    for n in 0..50 {
        assert!(matches!(claimed(&first, n), ClaimStep::Granted));
    }
    write(&first);
    // Only what was written to is left, and the end of that is torn.
    let mut files = disk.files();
    files.retain(|_, bytes| bytes[512..].iter().any(|byte| *byte != 0));
    let last = files.values_mut().last().expect("a segment");
    let end = last.iter().rposition(|byte| *byte != 0).expect("it is used");
    last[end + 9..end + 12].fill(0xee);
    let disk = full(&Faulty::with(files));
    let second = open_with(&disk, SMALL);
    assert_eq!(second.lock().index.counts().in_doubt, 50);
    assert!(!second.ensure_spare(log(&second)));
    let refused = second.run(|state, now, after| state.claim(&mut request(1), now, after)).map(drop);
    assert!(matches!(&refused, Err(StoreError::Full(why)) if why.contains("free space")), "{refused:?}");
    write(&second);
    assert_eq!(log(&second).queue.failed(), None);

    disk.world().capacity = None;
    assert!(second.ensure_spare(log(&second)));
    assert!(matches!(claimed(&second, 1), ClaimStep::InDoubt { .. }));
    assert!(matches!(claimed(&second, 60), ClaimStep::Granted));
    assert_eq!(complete(&second, 7, answer(300)), Held::Yes, "a late answer");
    write(&second);
    let third = open_with(&disk, SMALL);
    let counts = third.lock().index.counts();
    assert_eq!((counts.in_doubt, counts.done), (50, 1));
}

#[test]
fn a_full_disk_with_less_room_than_is_set_aside_notes_nothing_in_it_until_there_is_enough() {
    let disk = Faulty::default();
    let first = open_with(&disk, SMALL);
    for n in 0..60 {
        assert!(first.ensure_spare(log(&first)));
        assert!(matches!(claimed(&first, n), ClaimStep::Granted));
    }
    write(&first);
    // What was written to stays, with the room behind it, and what was made ready is somebody else's now.
    let mut files = disk.files();
    files.retain(|_, bytes| bytes[512..].iter().any(|byte| *byte != 0));
    let disk = full(&Faulty::with(files.clone()));
    let second = open_with(&disk, SMALL);
    let reserved = second.lock().journal.as_ref().expect("a log").reserved();
    let available = log(&second).queue.available();
    assert!(0 < available && available < reserved, "{available} of {reserved}");
    assert_eq!(second.lock().index.counts().in_doubt, 60, "for who asks now");
    assert!(!second.ensure_spare(log(&second)));
    for n in [1, 70] {
        let refused = second.run(|state, now, after| state.claim(&mut request(n), now, after)).map(drop);
        assert!(matches!(&refused, Err(StoreError::Full(why)) if why.contains("free space")), "{refused:?}");
    }
    write(&second);
    assert_eq!((log(&second).queue.failed(), log(&second).queue.available()), (None, available));
    let changed = disk.files().iter().filter(|(name, bytes)| files.get(*name) != Some(bytes)).count();
    assert_eq!(changed, 0, "something was noted");

    disk.world().capacity = None;
    assert!(second.ensure_spare(log(&second)));
    assert_eq!(complete(&second, 7, answer(300)), Held::Yes, "a late answer");
    assert!(matches!(claimed(&second, 70), ClaimStep::Granted));
    write(&second);
    let third = open_with(&disk, SMALL);
    let counts = third.lock().index.counts();
    assert_eq!((counts.in_doubt, counts.done), (60, 1));
}
