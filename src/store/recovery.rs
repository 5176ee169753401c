//! The store's commands on what the backend was asked about, and on what its answers have in common.

use super::{Completion, Held, RecordView, Store, StoreError};
use crate::domain::ledger::{RecordId, Token};
use std::sync::Arc;
use std::time::Duration;

/// What must not come twice in the backend's answers, as a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerKey(pub [u8; 16]);

/// An answer that has something which only one may have.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What it has.
    pub key: AnswerKey,
    /// The request id of its write.
    pub request_id: String,
    /// For how long it is remembered.
    pub window: Duration,
}

/// What a gateway that is gone left in flight and is in doubt now.
#[derive(Clone, Debug, Default)]
pub struct LeftInDoubt {
    /// The first of these records; [`LeftInDoubt::MOST`] at most.
    pub records: Vec<RecordView>,
    /// How many there are.
    pub count: usize,
}

/// Whoever tells of what others left in doubt.
pub trait HearsOfDoubt: Send + Sync {
    /// Called once for each. Must not block.
    fn left(&self, left: LeftInDoubt);
}

// === impl LeftInDoubt ===

impl LeftInDoubt {
    /// Records that are told of one by one.
    pub const MOST: usize = 1_000;
}

// === impl Store: recovery ===

impl Store {
    /// `listener` hears of what is in doubt without its gateway's word: what opening a store of one's own put in doubt, at once;
    /// on a shared one, whatever gateways left behind, as it is found, each of them at one gateway of the fleet.
    pub fn hear_of_doubts(&self, listener: Arc<dyn HearsOfDoubt>) {
        match self {
            Store::Embedded(store) => listener.left(store.left_in_doubt()),
            Store::Redis(store) => store.inner.hear_of_doubts(listener),
        }
    }

    /// The backend was asked about the attempt `completion.token`, whose outcome is in doubt, and has its effect: copies
    /// get this answer. As [`Store::complete`], but not the attempt's own word: a late answer of it is refused afterwards.
    pub async fn recovered(&self, completion: Completion) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.recovered(completion).await,
            Store::Redis(store) => store.inner.recovered(completion).await,
        }
    }

    /// The same, and it has no such effect: the record is absent again. Durable before it returns.
    pub async fn proven_absent(&self, id: RecordId, token: Token) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.proven_absent(id, token).await,
            Store::Redis(store) => store.inner.proven_absent(id, token).await,
        }
    }

    /// Remembers what an answer has; the request id of the first one within its window that had the same. Kept in memory
    /// up to a bound, beyond which the oldest are forgotten: it tells, it never decides.
    pub async fn sighted(&self, sighting: Sighting) -> Result<Option<String>, StoreError> {
        match self {
            Store::Embedded(store) => store.sighted(sighting),
            Store::Redis(store) => store.inner.sighted(sighting).await,
        }
    }
}
