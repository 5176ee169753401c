//! Who of the fleet has confirmed that it heard of a write. What is published is on its way to every gateway, but one that
//! has not read it yet may still give a copy that the write ends; so a write waits for the others before it goes out.
//!
//! A gateway that did not confirm in time is not waited for again until it confirms something: it may be gone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// See the module. As many entries as writes are being told.
#[derive(Default)]
pub(super) struct Confirmations(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number of the latest message; 0 is none that is confirmed.
    latest: u64,
    /// The other gateways that were there a moment ago.
    others: BTreeSet<u64>,
    /// Those of them that are not waited for.
    silent: BTreeSet<u64>,
    waiting: HashMap<u64, Waiting>,
}

struct Waiting {
    missing: BTreeSet<u64>,
    tell: oneshot::Sender<()>,
}

/// One message whose confirmations are waited for. Dropped before they are there, it leaves those silent that are missing.
pub(super) struct Awaited<'a> {
    confirmations: &'a Confirmations,
    /// The message's number.
    pub(super) number: u64,
    all: oneshot::Receiver<()>,
}

// === impl Confirmations ===

impl Confirmations {
    /// Who else is there, as the store has it.
    pub(super) fn set_others(&self, others: BTreeSet<u64>) {
        let mut state = self.lock();
        state.silent.retain(|gateway| others.contains(gateway));
        state.others = others;
    }

    /// A message is about to be sent. `None`: there is nobody whose confirmation counts.
    pub(super) fn expect(&self) -> Option<Awaited<'_>> {
        let mut state = self.lock();
        let missing: BTreeSet<u64> = state.others.difference(&state.silent).copied().collect();
        if state.others.is_empty() {
            return None;
        }
        state.latest += 1;
        let (tell, all) = oneshot::channel();
        let number = state.latest;
        if !missing.is_empty() {
            state.waiting.insert(number, Waiting { missing, tell });
        }
        Some(Awaited { confirmations: self, number, all })
    }

    /// `gateway` has done what the message asks for.
    pub(super) fn confirmed(&self, number: u64, gateway: u64) {
        let mut state = self.lock();
        state.silent.remove(&gateway);
        let Some(waiting) = state.waiting.get_mut(&number) else { return };
        waiting.missing.remove(&gateway);
        if waiting.missing.is_empty()
            && let Some(waiting) = state.waiting.remove(&number)
        {
            // Whoever waited may have left.
            let _ = waiting.tell.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Awaited ===

impl Awaited<'_> {
    /// Waits for all who are waited for.
    pub(super) async fn all(&mut self) {
        // An error: there was nobody to wait for.
        let _ = (&mut self.all).await;
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut state = self.confirmations.lock();
        if let Some(waiting) = state.waiting.remove(&self.number) {
            state.silent.extend(waiting.missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn with(others: &[u64]) -> Confirmations {
        let confirmations = Confirmations::default();
        confirmations.set_others(others.iter().copied().collect());
        confirmations
    }

    #[test]
    fn a_message_is_heard_when_everybody_has_confirmed_it() {
        let confirmations = with(&[1, 2]);
        let mut awaited = confirmations.expect().unwrap();
        confirmations.confirmed(awaited.number, 1);
        confirmations.confirmed(awaited.number + 1, 2);
        assert!(awaited.all().now_or_never().is_none());
        confirmations.confirmed(awaited.number, 2);
        assert!(awaited.all().now_or_never().is_some());
        assert!(with(&[]).expect().is_none());
    }

    #[test]
    fn who_was_silent_is_not_waited_for_until_it_confirms_something() {
        let confirmations = with(&[1, 2]);
        let first = confirmations.expect().unwrap();
        confirmations.confirmed(first.number, 1);
        let number = first.number;
        drop(first);
        let mut second = confirmations.expect().unwrap();
        confirmations.confirmed(second.number, 1);
        assert!(second.all().now_or_never().is_some(), "the second one is not waited for");
        confirmations.confirmed(number, 2);
        let mut third = confirmations.expect().unwrap();
        confirmations.confirmed(third.number, 1);
        assert!(third.all().now_or_never().is_none(), "it is there again");
        drop(third);
        let mut fourth = confirmations.expect().unwrap();
        confirmations.confirmed(fourth.number, 1);
        assert!(fourth.all().now_or_never().is_some());
        assert!(confirmations.lock().waiting.is_empty());
    }
}
