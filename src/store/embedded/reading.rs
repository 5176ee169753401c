//! Recorded answers that are not in memory, read back from the log.

use super::kept::{Kept, Place, status_alone};
use super::{Embedded, StoreError};
use crate::domain::answer::Answer;
use crate::domain::ledger::{Phase, RecordId};
use std::sync::Arc;

/// An answer of more bytes is read from disk on a thread of its own, so that no worker waits for it.
const READ_INLINE_MAX: u32 = 64 << 10;

/// How often an answer is looked for while compaction moves it.
const READ_ATTEMPTS: usize = 8;

// === impl Embedded ===

impl Embedded {
    /// The answer, or what is certain of it. That its bytes cannot be read is no reason to call it unknown, still less to
    /// execute it again.
    pub(super) async fn read_or_tombstone(&self, id: RecordId, kept: Kept) -> Answer {
        let status = kept.status;
        self.read(id, kept).await.unwrap_or_else(|error| {
            tracing::error!(%id, %error, "a recorded answer cannot be read; its copies get the status alone");
            status_alone(status)
        })
    }

    /// The answer that `kept` stands for; from disk where it is not in memory.
    pub(super) async fn read(&self, id: RecordId, mut kept: Kept) -> Result<Answer, StoreError> {
        let mut why = String::from("it is nowhere");
        for _ in 0..READ_ATTEMPTS {
            if let Some(answer) = kept.cached {
                return Ok(answer);
            }
            let Some(place) = kept.place else { break };
            let read = if place.len <= READ_INLINE_MAX {
                self.shared.read(place)
            } else {
                let shared = Arc::clone(&self.shared);
                let read = tokio::task::spawn_blocking(move || shared.read(place)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            };
            match read {
                Ok(answer) => {
                    let mut state = self.shared.lock();
                    state.index.warm(id, place, &answer);
                    state.index.cool();
                    return Ok(answer);
                }
                Err(error) => why = error,
            }
            // It may have been carried forward between the look and the reading: the same bytes elsewhere. Other bytes are
            // the answer of another intent.
            let same = |other: Place| other != place && (other.len, other.crc) == (place.len, place.crc);
            match self.shared.lock().index.get(&id).map(|entry| &entry.record.phase) {
                Some(Phase::Done { answer, .. }) if answer.place.is_some_and(same) => kept = answer.clone(),
                _ => break,
            }
        }
        tracing::error!(%id, %why, "a recorded answer cannot be read");
        Err(StoreError::Unavailable(format!("the recorded answer cannot be read: {why}")))
    }
}
