//! Writes as the gateways of a fleet tell each other of them, on the subscription of `hearing`. A message is
//! `r | owner of its sender | its number | WriteTold`, where a number that is not 0 is confirmed by
//! `k | the sender | the number | owner of who heard it`. While the subscription is down its listener is deaf, and knows it.
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
        let mut awaited = match told {
            WriteTold::Begins(..) => self.confirmations.expect(),
            // Until it is heard nothing is kept, so nobody has to wait for it.
            WriteTold::Ended(..) => None,
        };
        let number = awaited.as_ref().map_or(0, |awaited| awaited.number);
        self.publish(&[b"r", &self.owner.to_be_bytes()[..], &number.to_be_bytes(), &told.encode()]).await?;
        if let Some(awaited) = &mut awaited {
            awaited.all().await;
        }
        Ok(())
    }

    async fn publish(&self, message: &[&[u8]]) -> Result<(), StoreError> {
        let call = Call::of(&self.wire.parts, Script::Tell, HOME, self.wire.place.timeout);
        self.run(call.arg(message.concat())).await.map(drop)
    }

    /// See [`Store::hear_writes`](crate::store::Store::hear_writes).
    pub(in crate::store) fn hear_writes(&self, listener: Arc<dyn HearsWrites>) {
        self.ears.listen(listener);
    }

    /// A message came. One's own says nothing new; another version's is passed over.
    pub(super) fn heard_write(self: &Arc<Inner>, message: &[u8]) {
        let Some((owner, rest)) = message.split_first_chunk::<8>() else { return };
        let Some((number, told)) = rest.split_first_chunk::<8>() else { return };
        if u64::from_be_bytes(*owner) == self.owner {
            return;
        }
        if let Some(told) = WriteTold::decode(told) {
            self.ears.lock().tell(WriteHeard::Told(told));
        }
        if u64::from_be_bytes(*number) != 0 {
            let (inner, owner, number) = (self.clone(), *owner, *number);
            // Where that fails, the sender goes on without.
            tokio::spawn(async move {
                let _ = inner.publish(&[b"k", &owner, &number, &inner.owner.to_be_bytes()]).await;
            });
        }
    }

    /// Somebody has heard of a write, perhaps one of this gateway.
    pub(super) fn heard_confirmation(&self, message: &[u8]) {
        let mut numbers =
            message.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (Some(owner), Some(number), Some(by)) = (numbers.next(), numbers.next(), numbers.next()) else {
            return;
        };
        if owner == self.owner {
            self.confirmations.confirmed(number, by);
        }
    }
}
