//! What the gateways of a fleet tell each other of writes, so that none of them gives a kept answer that a write somewhere
//! else has ended. The store carries it; it keeps nothing of it.

use super::{Store, StoreError};
use crate::domain::client::ScopeId;
use crate::domain::ledger::TargetId;
use std::sync::Arc;
use std::time::Duration;

/// What one gateway tells the others of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteTold {
    /// One of this scope is about to be sent. Until its end is told, and at most for so long, no answer to that scope is
    /// kept or given again.
    Begins(ScopeId, Duration),
    /// It has ended, and these resources may be others now.
    Ended(ScopeId, Vec<TargetId>),
}

/// What a gateway hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteHeard {
    /// Another gateway tells of a write.
    Told(WriteTold),
    /// Nothing is heard from now on: whatever is kept may have been ended.
    Deaf,
    /// It is heard again. What was told in between is lost.
    Hearing,
}

/// Whoever keeps answers.
pub trait HearsWrites: Send + Sync {
    /// Called in the order in which it was told. Must not block.
    fn heard(&self, heard: WriteHeard);
}

/// Resources that one message names; a write names three at most.
const CHANGED_MOST: usize = 64;

// === impl Store ===

impl Store {
    /// Tells the other gateways of a write; of one that begins, until they have heard it. With a store of its own there are
    /// none.
    pub async fn tell_write(&self, told: WriteTold) -> Result<(), StoreError> {
        match self {
            Store::Embedded(_) => Ok(()),
            Store::Redis(store) => Box::pin(store.inner.tell_write(&told)).await,
        }
    }

    /// Whether there may be other gateways to tell.
    pub fn has_others(&self) -> bool {
        match self {
            Store::Embedded(_) => false,
            Store::Redis(_) => true,
        }
    }

    /// From now on `ears` hears of the others' writes.
    pub fn hear_writes(&self, ears: Arc<dyn HearsWrites>) {
        match self {
            Store::Embedded(_) => drop(ears),
            Store::Redis(store) => store.inner.hear_writes(ears),
        }
    }
}

// === impl WriteTold ===

impl WriteTold {
    /// As a message: `b | scope | milliseconds` or `e | scope | resource*`, numbers big-endian.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            WriteTold::Begins(scope, at_most) => {
                let millis = u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX);
                [b"b", &scope.0[..], &millis.to_be_bytes()].concat()
            }
            WriteTold::Ended(scope, changed) => {
                let mut message = [b"e", &scope.0[..]].concat();
                changed.iter().take(CHANGED_MOST).for_each(|resource| message.extend_from_slice(&resource.0));
                message
            }
        }
    }

    /// Reads a message; `None` where it is none of these, as another version's may be.
    pub fn decode(message: &[u8]) -> Option<WriteTold> {
        let (kind, rest) = message.split_first()?;
        let (scope, rest) = rest.split_first_chunk::<16>()?;
        let scope = ScopeId(*scope);
        match kind {
            b'b' => {
                let millis = u64::from_be_bytes(rest.try_into().ok()?);
                Some(WriteTold::Begins(scope, Duration::from_millis(millis)))
            }
            b'e' if rest.len() % 16 == 0 && rest.len() <= 16 * CHANGED_MOST => {
                let resource = |bytes: &[u8]| bytes.try_into().ok().map(TargetId);
                Some(WriteTold::Ended(scope, rest.chunks(16).filter_map(resource).collect()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let scope = ScopeId([7; 16]);
        for told in [
            WriteTold::Begins(scope, Duration::from_millis(40_000)),
            WriteTold::Ended(scope, vec![]),
            WriteTold::Ended(scope, vec![TargetId([1; 16]), TargetId([2; 16])]),
        ] {
            assert_eq!(WriteTold::decode(&told.encode()), Some(told));
        }
        for broken in [&b""[..], b"b", b"x0123456789abcdef", b"b0123456789abcdef1", b"e0123456789abcdef1"] {
            assert_eq!(WriteTold::decode(broken), None);
        }
    }
}
