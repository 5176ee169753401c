//! The holds that this gateway's claims took, so that it can say them again to a store that has forgotten them. A slot is
//! held for longer than its answer is kept, so they are not remembered with the records. Bounded; the oldest are forgotten
//! first. What other gateways give back is heard of (`hearing`).

use crate::domain::ledger::Token;
use crate::domain::says::Says;
use crate::domain::slot::{Booking, End, Hold, HoldKey, Known, SlotId};
use crate::domain::time::Millis;
use crate::store::{ClaimRequest, Follows, Settle, Settlement};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds that are remembered at most.
const HOLDS_MOST: usize = 200_000;

/// So many claims later it is looked for what is over behind a hold that lasts long.
const LOOK_EVERY: u32 = 16_384;

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
    /// Claims since it was looked for what is over.
    since_look: u32,
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
            Settle::Executed { answer, follows, .. } => {
                let end = End::of(Says::of(answer.status()));
                let bookings = follows.as_ref().map(|follows| self.lock().named_by(follows, token));
                self.settled(token, &Settlement { end, bookings: bookings.unwrap_or_default() }, now);
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

    /// What the operator's answer calls the bookings of what the attempt `token` reserved.
    fn named_by(&self, follows: &Follows, token: Token) -> Vec<(SlotId, Booking)> {
        let name = |key: &HoldKey| Some((key.slot, &*self.holds.get(key)?.name));
        follows.bookings_of(self.of(token).iter().filter_map(name))
    }

    /// The same, and nothing more will be heard of it.
    fn close(&mut self, token: Token) -> Vec<HoldKey> {
        let keys = self.of(token);
        self.open.remove(&token);
        keys
    }

    /// Forgets the oldest: those that are over, and as many as there are too many.
    fn shrink(&mut self, now: Millis) {
        self.since_look += 1;
        if self.since_look >= LOOK_EVERY {
            self.since_look = 0;
            self.drop_over(now);
        }
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

    /// Forgets all that are over, wherever they stand: one that lasts long must not be the first to go because of them.
    fn drop_over(&mut self, now: Millis) {
        self.holds.retain(|_, hold| !hold.is_over(now));
        let holds = &self.holds;
        let is_open =
            |token: &Token, slot: &SlotId| holds.contains_key(&HoldKey { slot: *slot, token: *token });
        self.open.retain(|token, slots| slots.iter().any(|slot| is_open(token, slot)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::client::ScopeId;
    use crate::domain::fingerprint::Fingerprint;
    use crate::domain::ledger::{Claim, Owner, PolicyVersion, RecordId, TargetId};
    use crate::domain::slot::{HoldState, Keep, Wanted};
    use crate::store::About;
    use std::time::Duration;

    const HELD: Settlement = Settlement { end: End::Held, bookings: Vec::new() };

    fn wanted(slot: u8) -> Wanted {
        Wanted {
            slot: SlotId([slot; 16]),
            capacity: 1,
            keep: Keep::For(Duration::from_millis(100)),
            witness: ScopeId([1; 16]),
            asleep: false,
            booking: None,
            instead_of: None,
            was_released: false,
            looks: false,
            name: "room".into(),
            label: "".into(),
            parts: [].into(),
        }
    }

    fn reserve(holdings: &Holdings, token: u128, slots: Vec<Wanted>) {
        let claim = Claim {
            fingerprint: Fingerprint([1; 32]),
            keyed: false,
            policy: PolicyVersion(1),
            scope: ScopeId([1; 16]),
            target: TargetId([1; 16]),
            token: Token(token),
            owner: Owner(1),
            lease: Duration::from_secs(1),
            sent: true,
            in_doubt_for: Duration::from_secs(10),
        };
        let about = About { route: "r".into(), request: String::new(), request_id: String::new() };
        let request = ClaimRequest { id: RecordId([1; 32]), claim, quota: 1, about, slots, above: None };
        holdings.reserved(&request, Millis(1));
    }

    fn said(holdings: &Holdings, now: u64) -> Vec<(u8, HoldState)> {
        let mut said: Vec<_> =
            holdings.all(Millis(now)).iter().map(|known| (known.slot.0[0], known.hold.state)).collect();
        said.sort_unstable();
        said
    }

    #[test]
    fn what_is_said_again_is_what_the_store_was_told() {
        let holdings = Holdings::default();
        reserve(&holdings, 1, vec![wanted(1), wanted(2)]);
        reserve(&holdings, 2, vec![wanted(3)]);
        reserve(&holdings, 3, vec![wanted(4)]);
        assert_eq!(said(&holdings, 1).len(), 4);
        holdings.settled(Token(1), &HELD, Millis(10));
        holdings.doubted(Token(2), Millis(10));
        holdings.gone(Token(3));
        use HoldState::{Held, Unsettled};
        assert_eq!(said(&holdings, 10), [(1, Held), (2, Held), (3, Unsettled)]);
        holdings.freed(HoldKey { slot: SlotId([1; 16]), token: Token(1) });
        holdings.settled(Token(2), &HELD, Millis(20));
        assert_eq!(said(&holdings, 20), [(2, Held), (3, Held)]);
        assert_eq!(said(&holdings, 110), [(3, Held)], "a hold that is over is not said");
    }

    #[test]
    fn a_move_leaves_its_new_hold_and_a_look_leaves_nothing() {
        let holdings = Holdings::default();
        reserve(&holdings, 1, vec![wanted(1)]);
        holdings.settled(Token(1), &HELD, Millis(10));
        let old = Some(HoldKey { slot: SlotId([1; 16]), token: Token(1) });
        reserve(&holdings, 2, vec![Wanted { instead_of: old, ..wanted(2) }]);
        reserve(&holdings, 3, vec![Wanted { instead_of: old, looks: true, ..wanted(1) }]);
        holdings.settled(Token(2), &HELD, Millis(20));
        holdings.settled(Token(3), &HELD, Millis(20));
        assert_eq!(said(&holdings, 20), [(2, HoldState::Held)]);
    }

    #[test]
    fn what_is_over_leaves_from_behind_a_hold_that_lasts() {
        let holdings = Holdings::default();
        let lasting = Wanted { keep: Keep::For(Duration::from_secs(1_000)), ..wanted(1) };
        reserve(&holdings, 1, vec![lasting]);
        holdings.settled(Token(1), &HELD, Millis(1));
        for n in 2..=100 {
            reserve(&holdings, u128::from(n), vec![wanted(n)]);
            holdings.doubted(Token(u128::from(n)), Millis(1));
        }
        let mut inner = holdings.lock();
        (0..LOOK_EVERY).for_each(|_| inner.shrink(Millis(500)));
        assert_eq!((inner.holds.len(), inner.open.len()), (1, 0));
        assert!(inner.holds.contains_key(&HoldKey { slot: SlotId([1; 16]), token: Token(1) }));
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let holdings = Holdings::default();
        for n in 0..(HOLDS_MOST as u128 + 10) {
            let mut slot = wanted(0);
            slot.slot.0.copy_from_slice(&n.to_be_bytes());
            slot.keep = Keep::For(Duration::from_secs(1_000));
            reserve(&holdings, n, vec![slot]);
        }
        let inner = holdings.lock();
        assert_eq!((inner.holds.len(), inner.open.len()), (HOLDS_MOST, HOLDS_MOST));
        let first = HoldKey { slot: SlotId([0; 16]), token: Token(0) };
        assert!(!inner.holds.contains_key(&first));
    }
}
