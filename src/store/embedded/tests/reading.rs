//! Answers that are read back from the disk while the record that they are of goes on.

use super::faulty::Faulty;
use super::machine::{options, setup};
use super::model::{answer, claim, id};
use crate::domain::answer::Answer;
use crate::domain::ledger::{Phase, Token};
use crate::store::embedded::kept::Kept;
use crate::store::embedded::{Embedded, Shared};
use crate::store::{Claimed, Completion, Held};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Answers in memory: one of them, whatever its size.
const MEMORY: u64 = 700;

const KEEP: Duration = Duration::from_secs(3);

fn open(disk: &Faulty, hand: &Arc<AtomicU64>) -> Embedded {
    let shared = Shared::build(&options(MEMORY), setup(Some(disk.clone()), hand, 64 << 10));
    Embedded::start(shared.expect("an empty disk opens")).expect("threads start")
}

/// Executes `n` once; it is answered with `body` bytes.
async fn execute(store: &Embedded, n: u8, token: u128, body: u16) {
    let claimed = store.claim(claim(n, 0, true, Token(token))).await;
    assert!(matches!(claimed, Ok(Claimed::Granted)), "{claimed:?}");
    let completion = Completion {
        id: id(n),
        token: Token(token),
        answer: answer(body),
        keep: KEEP,
        ends: None,
        names: None,
        alias: None,
        slots: Default::default(),
        frees: Vec::new(),
    };
    assert_eq!(store.complete(completion).await, Ok(Held::Yes));
}

/// What a copy of `n` finds, before it reads anything from the disk.
fn found(store: &Embedded, n: u8) -> Kept {
    match &store.shared.lock().index.get(&id(n)).expect("it is there").record.phase {
        Phase::Done { answer, .. } => Kept { cached: None, ..answer.clone() },
        _ => panic!("it is done"),
    }
}

async fn copy(store: &Embedded, n: u8) -> Answer {
    match store.claim(claim(n, 0, true, Token(999))).await {
        Ok(Claimed::Done(answer)) => answer,
        other => panic!("a replay was due, not {other:?}"),
    }
}

/// A copy of the first intent finds its answer on the disk; then the window ends and the next intent is executed, and its
/// answer leaves memory.
async fn outlived(store: &Embedded, hand: &Arc<AtomicU64>) -> Kept {
    execute(store, 1, 1, 500).await;
    let old = found(store, 1);
    hand.fetch_add(4_000, Ordering::SeqCst);
    execute(store, 1, 2, 400).await;
    execute(store, 2, 3, 600).await;
    old
}

#[tokio::test]
async fn an_answer_that_was_read_for_an_earlier_intent_is_not_that_of_the_next() {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(1_000_000)));
    let store = open(&disk, &hand);
    let old = outlived(&store, &hand).await;
    assert_eq!(store.read(id(1), old).await, Ok(answer(500)), "its copy came within its window");
    assert_eq!(copy(&store, 1).await, answer(400));
}

#[tokio::test]
async fn a_copy_of_an_earlier_intent_never_gets_the_answer_of_the_next() {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(1_000_000)));
    let store = open(&disk, &hand);
    let old = outlived(&store, &hand).await;
    disk.flip_in(&answer(500).body());
    assert!(store.read(id(1), old).await.is_err());
    assert_eq!(copy(&store, 1).await, answer(400));
}

#[tokio::test]
async fn an_answer_that_is_read_back_stays_in_memory_for_the_next_copy() {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(1_000_000)));
    let store = open(&disk, &hand);
    execute(&store, 1, 1, 500).await;
    execute(&store, 2, 2, 400).await;
    assert_eq!(copy(&store, 1).await, answer(500));
    disk.world().unreadable = true;
    assert_eq!(copy(&store, 1).await, answer(500));
}
