//! A disk that is full, and one that breaks.

#![allow(clippy::disallowed_methods, reason = "a test waits with a deadline")]

use super::faulty::Faulty;
use super::machine::{options, setup};
use super::model::{OWNER, answer, claim, id};
use crate::domain::answer::Answer;
use crate::domain::ledger::Token;
use crate::store::embedded::{Embedded, Shared};
use crate::store::{ClaimRequest, Claimed, Completion, Held, Settle, Settled, StoreError};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const SEGMENT_BYTES: u64 = 64 << 10;

/// A store with its threads, on a disk of `segments` segments.
fn open(disk: &Faulty, segments: u64) -> Embedded {
    disk.world().capacity = Some(segments * SEGMENT_BYTES);
    let hand = Arc::new(AtomicU64::new(1_000_000));
    let shared = Shared::build(&options(1 << 20), setup(Some(disk.clone()), &hand, SEGMENT_BYTES));
    Embedded::start(shared.expect("an empty disk opens")).expect("threads start")
}

fn request(n: u16, token: u128) -> ClaimRequest {
    let mut request = claim(2, 0, true, Token(token));
    request.id.0[..2].copy_from_slice(&n.to_be_bytes());
    request.claim.owner = OWNER;
    request.claim.lease = Duration::from_secs(3600);
    request.quota = u32::MAX;
    request
}

fn completion(n: u16, token: u128, body: u16) -> Completion {
    let mut record = id(2);
    record.0[..2].copy_from_slice(&n.to_be_bytes());
    let keep = Duration::from_secs(3600);
    Completion {
        id: record,
        token: Token(token),
        answer: answer(body),
        keep,
        ends: None,
        names: None,
        alias: None,
        slots: Default::default(),
        frees: Vec::new(),
    }
}

#[tokio::test]
async fn a_full_disk_refuses_claims_and_nothing_else() {
    let disk = Faulty::default();
    let store = open(&disk, 4);
    let mut granted = Vec::new();
    let why = loop {
        let n = granted.len() as u16;
        match store.claim(request(n, u128::from(n) + 1)).await {
            Ok(Claimed::Granted) => granted.push(n),
            Err(StoreError::Full(why)) => break why,
            other => panic!("a grant or a full disk was due, not {other:?}"),
        }
        assert!(granted.len() < 10_000, "the disk is never full");
    };
    assert!(why.contains("free space"), "{why}");
    assert!(granted.len() > 20, "only {} claims fitted", granted.len());
    assert_eq!(store.figures().refusing.as_deref(), Some(why.as_str()));
    // Whatever was begun is brought to its end: as a tombstone where the body has no room.
    for n in &granted {
        let held = store.complete(completion(*n, u128::from(*n) + 1, 9_000)).await;
        assert_eq!(held, Ok(Held::Yes), "claim {n} of {}", granted.len());
    }
    let mut whole = 0;
    for n in &granted {
        let copy = store.claim(request(*n, 100_000)).await;
        let Ok(Claimed::Done(got)) = copy else { panic!("a replay was due, not {copy:?}") };
        assert!(got.is_tombstone() || got == answer(9_000));
        whole += u64::from(!got.is_tombstone());
    }
    let tombstones = granted.len() as u64 - whole;
    assert!(
        tombstones > 0 && whole * 9_000 <= 4 * SEGMENT_BYTES,
        "{whole} whole answers, {tombstones} tombstones"
    );
}

#[tokio::test]
async fn claims_are_granted_again_when_records_leave_a_full_disk() {
    granted_again_when_records_leave(30).await;
}

#[tokio::test]
async fn claims_are_granted_again_when_records_with_large_answers_leave_a_full_disk() {
    granted_again_when_records_leave(15_000).await;
}

/// Fills the disk with records whose answers have `body` bytes, takes away the younger ones, and claims as many again.
async fn granted_again_when_records_leave(body: u16) {
    let disk = Faulty::default();
    let store = open(&disk, 6);
    let mut granted = 0_u16;
    loop {
        match store.claim(request(granted, 1)).await {
            Ok(Claimed::Granted) => granted += 1,
            Err(StoreError::Full(_)) => break,
            other => panic!("a grant or a full disk was due, not {other:?}"),
        }
        assert_eq!(store.complete(completion(granted - 1, 1, body)).await, Ok(Held::Yes));
    }
    // Half of the oldest ones stay, so no segment can be dropped before much of the oldest was carried forward.
    let stays = |n: u16| n < granted / 3 && n.is_multiple_of(2);
    for n in (0..granted).filter(|n| !stays(*n)) {
        let mut record = id(2);
        record.0[..2].copy_from_slice(&n.to_be_bytes());
        assert_eq!(store.settle(record, Settle::Delete).await, Ok(Settled::Yes));
    }
    // Many more come than the room that is left has place for: it takes the segments that the others were in.
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut again = 0;
    while again < granted / 2 {
        match store.claim(request(granted + again, 1)).await {
            Ok(Claimed::Granted) => {
                let held = store.complete(completion(granted + again, 1, 30)).await;
                assert_eq!(held, Ok(Held::Yes));
                again += 1;
            }
            Err(StoreError::Full(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => panic!("a grant or a full disk was due, not {other:?}"),
        }
        assert!(tokio::time::Instant::now() < end, "full after {again}: {:?}", store.figures());
    }
    for n in (0..granted).filter(|n| stays(*n)) {
        assert!(matches!(store.claim(request(n, 2)).await, Ok(Claimed::Done(_))), "record {n} of {granted}");
    }
}

#[tokio::test]
async fn a_broken_disk_fails_the_store_and_lies_to_nobody() {
    let disk = Faulty::default();
    let store = open(&disk, 100);
    assert!(matches!(store.claim(request(1, 1)).await, Ok(Claimed::Granted)));
    assert!(matches!(store.claim(request(2, 2)).await, Ok(Claimed::Granted)));
    assert_eq!(store.complete(completion(2, 2, 10)).await, Ok(Held::Yes));
    let Ok(Claimed::InFlight(waiter)) = store.claim(request(1, 3)).await else { panic!("it is in flight") };
    disk.world().broken = true;
    let lost = store.complete(completion(1, 1, 10)).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert!(
        waiter.ended(Duration::from_secs(20)).await.is_none(),
        "an answer that is not durable is shown to nobody"
    );
    for n in [1, 2, 3] {
        let claimed = store.claim(request(n, 4)).await;
        assert!(matches!(claimed, Err(StoreError::Unavailable(_))), "{claimed:?}");
    }
    assert!(store.figures().refusing.is_some_and(|why| why.contains("restart")));
    // The next life finds what was durable: one answer, and one write that nobody knows the end of.
    disk.world().broken = false;
    store.close();
    let hand = Arc::new(AtomicU64::new(1_000_000));
    let again = Faulty::with(disk.files());
    let shared = Shared::build(&options(0), setup(Some(again), &hand, SEGMENT_BYTES)).expect("it opens");
    let store = Embedded::start(shared).expect("threads start");
    assert!(matches!(store.claim(request(1, 5)).await, Ok(Claimed::InDoubt { .. })));
    let Ok(Claimed::Done(got)) = store.claim(request(2, 5)).await else { panic!("a replay was due") };
    assert_eq!(got, answer(10));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_executed_again() {
    let disk = Faulty::default();
    disk.world().capacity = None;
    let hand = Arc::new(AtomicU64::new(1_000_000));
    let shared =
        Shared::build(&options(0), setup(Some(disk.clone()), &hand, SEGMENT_BYTES)).expect("it opens");
    let store = Embedded::start(shared).expect("threads start");
    assert!(matches!(store.claim(request(1, 1)).await, Ok(Claimed::Granted)));
    assert_eq!(store.complete(completion(1, 1, 500)).await, Ok(Held::Yes));
    let Ok(Claimed::Done(got)) = store.claim(request(1, 2)).await else { panic!("a replay was due") };
    assert_eq!(got, answer(500), "read back from disk");
    disk.world().unreadable = true;
    let copy = store.claim(request(1, 2)).await;
    assert!(matches!(&copy, Ok(Claimed::Done(told)) if is_status_alone(told)), "{copy:?}");
}

/// What copies get of an answer whose bytes are lost: the status, and that there is no more.
fn is_status_alone(told: &Answer) -> bool {
    told.is_tombstone() && told.status() == answer(500).status() && told.headers().is_empty()
}

#[tokio::test]
async fn an_answer_that_was_damaged_on_disk_is_shown_to_nobody() {
    let disk = Faulty::default();
    let hand = Arc::new(AtomicU64::new(1_000_000));
    let shared =
        Shared::build(&options(0), setup(Some(disk.clone()), &hand, SEGMENT_BYTES)).expect("it opens");
    let store = Embedded::start(shared).expect("threads start");
    assert!(matches!(store.claim(request(1, 1)).await, Ok(Claimed::Granted)));
    assert_eq!(store.complete(completion(1, 1, 500)).await, Ok(Held::Yes));
    let body = answer(500).body();
    disk.flip_in(&body[200..260]);
    let copy = store.claim(request(1, 2)).await;
    assert!(matches!(&copy, Ok(Claimed::Done(told)) if is_status_alone(told)), "{copy:?}");
}

#[tokio::test]
async fn a_closed_store_takes_no_commands() {
    let disk = Faulty::default();
    let store = open(&disk, 100);
    assert!(matches!(store.claim(request(1, 1)).await, Ok(Claimed::Granted)));
    store.close();
    assert!(matches!(store.claim(request(2, 1)).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.complete(completion(1, 1, 1)).await, Err(StoreError::Unavailable(_))));
}
