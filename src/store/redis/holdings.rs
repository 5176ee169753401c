//! The holds that this gateway's claims took, so that it can say them again to a store that has forgotten them. A slot is
//! held for longer than its answer is kept, so they are not remembered with the records. Bounded; the oldest are forgotten
//! first. What other gateways give back is heard of (`hearing`).

use crate::domain::ledger::Token;
use crate::domain::slot::{End, Hold, HoldKey, Known, SlotId};
use crate::domain::time::Millis;
use crate::store::{ClaimRequest, Settle, Settlement};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds that are remembered at most.
const HOLDS_MOST: usize = 200_000;

/// See the module.
#[derive(Default)]
pub(super) struct Holdings {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    holds: HashMap<HoldKey, Hold>,
    /// What attempts that have no answer yet reserved.
    open: HashMap<Token, Vec<SlotId>>,
    /// In the order in which they came; what was forgotten meanwhile is passed over.
    order: VecDeque<HoldKey>,
}

// === impl Holdings ===

impl Holdings {
    /// A claim was granted.
    pub(super) fn reserved(&self, request: &ClaimRequest, now: Millis) {
        if request.slots.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let token = request.claim.token;
        for wanted in &request.slots {
            let hold = Hold::reserved(wanted, token, request.id, (*request.about.request_id).into(), now);
            inner.put(wanted.slot, hold);
        }
        inner.open.insert(token, request.slots.iter().map(|wanted| wanted.slot).collect());
        inner.shrink(now);
    }

    /// A hold without an attempt: it was adopted.
    pub(super) fn put(&self, known: Known) {
        self.lock().put(known.slot, known.hold);
    }

    /// The attempt `token` has an answer.
    pub(super) fn settled(&self, token: Token, settlement: &Settlement, now: Millis) {
        let mut inner = self.lock();
        for key in inner.close(token) {
            let Some(hold) = inner.holds.remove(&key).filter(|hold| !hold.looks) else { continue };
            let named = settlement.bookings.iter().find(|(slot, _)| *slot == key.slot);
            let after = hold.settled(settlement.end, named.map(|(_, booking)| booking.clone()), now);
            if settlement.end == End::Held
                && let Some(old) = hold.instead_of
            {
                inner.holds.remove(&old);
            }
            inner.holds.insert(key, after);
        }
    }

    /// Nobody knows since `now` whether the attempt `token` was executed.
    pub(super) fn doubted(&self, token: Token, now: Millis) {
        let mut inner = self.lock();
        for key in inner.of(token) {
            if let Some(hold) = inner.holds.get_mut(&key) {
                *hold = hold.unsettled(now);
            }
        }
    }

    /// The attempt `token` is known not to have been executed.
    pub(super) fn gone(&self, token: Token) {
        let mut inner = self.lock();
        for key in inner.close(token) {
            inner.holds.remove(&key);
        }
    }

    /// An operator has settled the record of the attempt `token`.
    pub(super) fn resolved(&self, token: Token, how: &Settle, now: Millis) {
        match how {
            Settle::Executed { answer, .. } => {
                let done = answer.status().is_success() || answer.status().is_redirection();
                let end = if done { End::Held } else { End::Unsettled };
                self.settled(token, &Settlement { end, ..Settlement::default() }, now);
            }
            Settle::NotExecuted => self.gone(token),
            // A record that is forgotten leaves its slots as they are.
            Settle::Delete => {}
        }
    }

    /// A hold was given back, whoever did it.
    pub(super) fn freed(&self, key: HoldKey) {
        self.lock().holds.remove(&key);
    }

    /// All that is still worth saying at `now`.
    pub(super) fn all(&self, now: Millis) -> Vec<Known> {
        let inner = self.lock();
        let live = inner.holds.iter().filter(|(_, hold)| !hold.is_over(now));
        live.map(|(key, hold)| Known { slot: key.slot, hold: hold.clone() }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn put(&mut self, slot: SlotId, hold: Hold) {
        let key = HoldKey { slot, token: hold.token };
        if self.holds.insert(key, hold).is_none() {
            self.order.push_back(key);
        }
    }

    /// What the attempt `token` reserved.
    fn of(&self, token: Token) -> Vec<HoldKey> {
        let slots = self.open.get(&token).into_iter().flatten();
        slots.map(|slot| HoldKey { slot: *slot, token }).collect()
    }

    /// The same, and nothing more will be heard of it.
    fn close(&mut self, token: Token) -> Vec<HoldKey> {
        let keys = self.of(token);
        self.open.remove(&token);
        keys
    }

    /// Forgets the oldest: those that are over, and as many as there are too many.
    fn shrink(&mut self, now: Millis) {
        // The front may stay for long while those behind it are given back.
        if self.order.len() > 2 * HOLDS_MOST {
            let holds = &self.holds;
            self.order.retain(|key| holds.contains_key(key));
        }
        while let Some(key) = self.order.front().copied() {
            let is_over = self.holds.get(&key).is_none_or(|hold| hold.is_over(now));
            if !is_over && self.holds.len() <= HOLDS_MOST {
                return;
            }
            self.order.pop_front();
            self.holds.remove(&key);
            self.open.remove(&key.token);
        }
    }
}
