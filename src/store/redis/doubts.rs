//! What is in doubt without its gateway's word: its lease ended, or that gateway was killed. Nobody else need ever ask for such a
//! record, so every gateway looks for some each second and tells of them; the store hands each one out once.

use super::Inner;
use super::reply::Reply;
use super::script::Script;
use crate::domain::ledger::RecordId;
use crate::store::{HearsOfDoubt, LeftInDoubt, StoreError};
use std::sync::{Arc, Mutex, PoisonError};

/// Records of a part that one gateway tells of in a second, at most.
const AT_ONCE: usize = 100;

/// Who tells of them.
#[derive(Default)]
pub(super) struct Doubts(Mutex<Option<Arc<dyn HearsOfDoubt>>>);

// === impl Inner: doubts ===

impl Inner {
    /// See [`Store::hear_of_doubts`](crate::store::Store::hear_of_doubts).
    pub(in crate::store) fn hear_of_doubts(&self, listener: Arc<dyn HearsOfDoubt>) {
        *self.doubts.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    /// Tells of some that nobody has told of.
    pub(super) async fn tell_doubts(&self) -> Result<(), StoreError> {
        let listener = self.doubts.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(listener) = listener else { return Ok(()) };
        for part in self.wire.parts.all() {
            // Those of a reply that is lost are told by nobody.
            let call = self.about(Script::Untold, part).arg(AT_ONCE).once();
            let mut told = Reply::array(self.run(call).await?)?;
            let mut ids = Vec::new();
            while let Some(id) = told.maybe_bytes()? {
                ids.extend(<[u8; 32]>::try_from(&id[..]).map(RecordId));
            }
            if ids.is_empty() {
                continue;
            }
            let mut records = self.views(&ids).await?;
            // A late answer may have settled it.
            records.retain(|record| record.why.is_some());
            listener.left(LeftInDoubt { count: records.len(), records });
        }
        Ok(())
    }
}
