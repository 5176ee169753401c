//! A store that opens: how much it writes before anybody is served, and that claims wait for the rest.

use super::faulty::Faulty;
use super::machine::{options, setup};
use super::model::{answer, claim};
use crate::domain::ledger::Token;
use crate::store::embedded::space::Log;
use crate::store::embedded::state::{After, ClaimStep};
use crate::store::embedded::{Shared, log::writer};
use crate::store::{ClaimRequest, Completion, Held};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const SEGMENT_BYTES: u64 = 16 << 20;

fn open(disk: &Faulty) -> Arc<Shared> {
    let hand = Arc::new(AtomicU64::new(1_000_000));
    Shared::build(&options(1 << 20), setup(Some(disk.clone()), &hand, SEGMENT_BYTES)).expect("it opens")
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
    let mut late = request(7);
    let completion = Completion {
        id: std::mem::replace(&mut late.id, crate::domain::ledger::RecordId([0; 32])),
        token: Token(8),
        answer: answer(300),
        keep: Duration::from_secs(3600),
        ends: None,
        names: None,
        alias: None,
        slots: Default::default(),
        frees: Vec::new(),
    };
    let held = second.run(|state, now, after| state.complete(completion.into(), now, after));
    assert!(matches!(held, Ok((Ok(Held::Yes), _))));
    write(&second);
}
