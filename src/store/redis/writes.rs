//! Writes as the gateways of a fleet tell each other of them, on the subscription of `hearing`. A message is
//! `r | owner of its sender | WriteTold`. While the subscription is down its listener is deaf, and knows it.
//!
//! The listener is called with the lock held, so that it learns of every turn in its order; it holds no lock of its own
//! while it calls here.

use super::script::{Call, Script};
use super::{HOME, Inner};
use crate::store::{HearsWrites, StoreError, WriteHeard, WriteTold};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who hears of writes, and whether they can be heard.
#[derive(Default)]
pub(super) struct Ears(Mutex<State>);

#[derive(Default)]
struct State {
    listener: Option<Arc<dyn HearsWrites>>,
    hearing: bool,
}

// === impl Ears ===

impl Ears {
    fn listen(&self, listener: Arc<dyn HearsWrites>) {
        let mut state = self.lock();
        listener.heard(if state.hearing { WriteHeard::Hearing } else { WriteHeard::Deaf });
        state.listener = Some(listener);
    }

    /// The subscription began, or ended.
    pub(super) fn hearing(&self, hearing: bool) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.hearing, hearing) != hearing {
            state.tell(if hearing { WriteHeard::Hearing } else { WriteHeard::Deaf });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&self, heard: WriteHeard) {
        if let Some(listener) = &self.listener {
            listener.heard(heard);
        }
    }
}

// === impl Inner ===

impl Inner {
    /// See [`Store::tell_write`](crate::store::Store::tell_write).
    pub(in crate::store) async fn tell_write(&self, told: &WriteTold) -> Result<(), StoreError> {
        let message = [&self.owner.to_be_bytes()[..], &told.encode()].concat();
        let call = Call::of(&self.wire.parts, Script::Tell, HOME, self.wire.place.timeout).arg(message);
        self.run(call).await.map(drop)
    }

    /// See [`Store::hear_writes`](crate::store::Store::hear_writes).
    pub(in crate::store) fn hear_writes(&self, listener: Arc<dyn HearsWrites>) {
        self.ears.listen(listener);
    }

    /// A message came. One's own says nothing new; another version's is passed over.
    pub(super) fn heard_write(&self, message: &[u8]) {
        let Some((owner, told)) = message.split_first_chunk::<8>() else { return };
        if u64::from_be_bytes(*owner) == self.owner {
            return;
        }
        if let Some(told) = WriteTold::decode(told) {
            self.ears.lock().tell(WriteHeard::Told(told));
        }
    }
}
