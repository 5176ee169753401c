//! Slots under the store's lock: reserved with a claim, settled with its record, given back, looked at.
//!
//! What a step means for a slot is decided in `domain::slot`; this file carries it out and notes it, in the same step of
//! the log as what it follows from.

use super::holds::Placed;
use super::journal::RoomFor;
use super::log::hold::PARTS_MAX;
use super::settle::fated;
use super::state::{After, ClaimStep, State, token_of};
use super::{ClaimRequest, Embedded, EndIntents, Held, StoreError};
use crate::domain::ledger::{Command, Owner, Phase, RecordId, Token, apply};
use crate::domain::slot::{
    BookingId, Fate, Hold, HoldKey, HoldState, Known, Saw, SlotId, Taken, Wanted, refusal,
};
use crate::domain::time::Millis;
use crate::store::slots::{Free, HoldListing, HoldView, Released, Settlement, Which};
use std::collections::HashSet;
use std::sync::Arc;

/// The most holds that one listing gives.
const LISTING_MAX: usize = 1_000;

// === impl State: claims ===

impl State {
    /// Why a claim's slots cannot be reserved, if they cannot. Changes nothing but what time has done.
    pub(super) fn slots_refused(
        &mut self,
        request: &ClaimRequest,
        now: Millis,
        after: &mut After,
    ) -> Result<Option<ClaimStep>, StoreError> {
        let relied_on = request.slots.iter().filter_map(|wanted| wanted.instead_of);
        let seen: HashSet<SlotId> = relied_on.map(|old| old.slot).collect();
        let mut looked = HashSet::new();
        for wanted in &request.slots {
            self.let_time_pass(wanted.slot, now, after);
            let first = wanted.booking.as_ref().is_some_and(|booking| looked.insert(booking.key));
            if !self.is_as_seen(wanted, now)
                || (first && self.is_changed(wanted, &seen, request.claim.token, now))
            {
                return Ok(Some(ClaimStep::SlotChanged));
            }
            let holds = self.index.holds.of_slot(wanted.slot);
            if let Some(taken) = refusal(holds, wanted, request.claim.token, now) {
                return Ok(Some(ClaimStep::SlotTaken(taken)));
            }
        }
        // What takes no place may be a cancellation, by which there will be room.
        let taking = request.slots.iter().filter(|wanted| !wanted.looks).count();
        if taking > 0 && self.index.holds.len() + taking > self.records_max {
            return Err(StoreError::Full(format!("it holds {} places, its limit", self.records_max)));
        }
        let room = self.journal.as_ref().map(|journal| journal.room_for_claim_with(request.slots.len()));
        Ok((room == Some(RoomFor::NotNow)).then_some(ClaimStep::NoRoom))
    }

    /// Reserves a granted claim's slots.
    pub(super) fn take_slots(&mut self, request: &ClaimRequest, request_id: &str, now: Millis) {
        if request.slots.is_empty() {
            return;
        }
        let request_id: Arc<str> = request_id.into();
        for wanted in &request.slots {
            let parts = &wanted.parts[..wanted.parts.len().min(PARTS_MAX)];
            let wanted = Wanted { parts: parts.into(), ..wanted.clone() };
            let hold = Hold::reserved(&wanted, request.claim.token, request.id, request_id.clone(), now);
            self.index.holds.put(wanted.slot, hold);
            let key = HoldKey { slot: wanted.slot, token: request.claim.token };
            if let (Some(journal), Some(placed)) = (&mut self.journal, self.index.holds.get_mut(key)) {
                journal.hold_began(wanted.slot, placed, request.claim.sent);
            }
        }
    }

    /// The attempt `token` is sent from now on: the log has to know what it reserved.
    pub(super) fn note_slots(&mut self, token: Token) {
        let Some(journal) = &mut self.journal else { return };
        for key in self.index.holds.open_of(token) {
            if let Some(placed) = self.index.holds.get_mut(key).filter(|placed| placed.home == 0) {
                journal.hold_changed(key.slot, placed);
            }
        }
    }

    /// Time passes for whoever reserved the slot: a lease that ended leaves no place taken.
    fn let_time_pass(&mut self, slot: SlotId, now: Millis, after: &mut After) {
        let reserved = |hold: &&Hold| hold.state == HoldState::Reserved;
        let records: Vec<RecordId> =
            self.index.holds.of_slot(slot).filter(reserved).filter_map(|hold| hold.record).collect();
        for id in records {
            self.settle_record(id, now, after);
        }
    }

    /// Whether what `wanted` takes the place of, or relies on, is as the caller saw it.
    fn is_as_seen(&self, wanted: &Wanted, now: Millis) -> bool {
        wanted.instead_of.is_none_or(|old| {
            self.index.holds.get(old).is_some_and(|placed| placed.hold.is_as_seen(wanted, now))
        })
    }

    /// Whether the booking has changed: each of its places is in a slot of which the request relies on one (`seen`), and none is
    /// being changed.
    fn is_changed(&self, wanted: &Wanted, seen: &HashSet<SlotId>, by: Token, now: Millis) -> bool {
        let Some(booking) = &wanted.booking else { return false };
        let mut others = self.index.holds.of_booking(&booking.key).into_iter().filter(|key| key.token != by);
        others.any(|key| {
            let hold = self.index.holds.get(key).map(|placed| &placed.hold);
            hold.is_some_and(|hold| !hold.is_over(now) && (hold.is_moving() || !seen.contains(&key.slot)))
        })
    }
}

// === impl State: outcomes ===

impl State {
    /// What `step` on the record `id` makes of the places that its attempt reserved. An answer is settled by
    /// [`State::settle_slots`], which knows what it says.
    pub(super) fn fated(&mut self, fate: Option<(Token, Fate)>) {
        let Some((token, fate)) = fate else { return };
        match fate {
            Fate::Stay | Fate::Answered => {}
            Fate::Free => {
                for key in self.index.holds.open_of(token) {
                    self.remove_hold(key, true);
                }
            }
            Fate::Doubt(since) => {
                for key in self.index.holds.open_of(token) {
                    let Some(placed) = self.index.holds.get(key) else { continue };
                    let hold = placed.hold.unsettled(since);
                    self.change_hold(key.slot, hold);
                }
            }
        }
    }

    /// The attempt `token` has an answer.
    pub(super) fn settle_slots(&mut self, token: Token, settlement: &Settlement, now: Millis) {
        for key in self.index.holds.open_of(token) {
            let Some(placed) = self.index.holds.get(key) else { continue };
            if placed.hold.looks {
                // Whatever the answer says: the booking has at most what it had.
                self.remove_hold(key, true);
                continue;
            }
            let named = settlement.bookings.iter().find(|(slot, _)| *slot == key.slot);
            let replaces = placed.hold.instead_of;
            let was_nameless = placed.hold.booking.is_none();
            let hold = placed.hold.settled(settlement.end, named.map(|(_, booking)| booking.clone()), now);
            if hold.instead_of.is_none()
                && let Some(old) = replaces
            {
                self.remove_hold(old, true);
            }
            if was_nameless && hold.state == HoldState::Held {
                self.forget_adopted(key, &hold);
            }
            match hold.is_over(now) {
                true => self.remove_hold(key, true),
                false => self.change_hold(key.slot, hold),
            }
        }
    }

    /// An import that came before the answer had put the booking of `hold` into its slot, too: that is the same place.
    fn forget_adopted(&mut self, key: HoldKey, hold: &Hold) {
        let Some(booking) = &hold.booking else { return };
        for other in self.index.holds.of_booking(&booking.key) {
            let adopted = self.index.holds.get(other).is_some_and(|placed| placed.hold.is_adopted());
            if other.slot == key.slot && other.token != key.token && adopted {
                self.remove_hold(other, true);
            }
        }
    }

    /// Bookings give back what they hold; the keyless records of the attempts that took it end, so that booking again is
    /// a new intent; that of the attempt `by` whose success it is stays. Says how many holds were given back.
    pub(super) fn free_slots(
        &mut self,
        frees: &[Free],
        by: Option<Token>,
        now: Millis,
        after: &mut After,
    ) -> usize {
        let mut freed = 0;
        for free in frees {
            let keys = self.index.holds.of_booking(&free.booking);
            if free.remember && keys.iter().any(|key| self.is_moving(*key)) {
                // Which of two changes came last nobody knows, so what may be taken stays taken.
                continue;
            }
            for key in keys {
                let Some(hold) = self.index.holds.get(key).map(|placed| &placed.hold) else { continue };
                let record = hold.record;
                match (hold.state, free.remember) {
                    (HoldState::Held, true) => {
                        let hold = hold.released(now);
                        self.index.holds.put(key.slot, hold);
                        if let (Some(journal), Some(placed)) =
                            (&mut self.journal, self.index.holds.get_mut(key))
                        {
                            journal.hold_released(key.slot, placed);
                        }
                    }
                    // Where a move is unsettled nobody knows what would have to be remembered.
                    (HoldState::Unsettled | HoldState::Released, true) | (HoldState::Reserved, _) => continue,
                    (_, false) => self.remove_hold(key, true),
                }
                freed += 1;
                if by != Some(key.token) {
                    self.end_record(record, now, after);
                }
            }
        }
        freed
    }

    /// Whether a change of the booking is under way or unsettled.
    pub(super) fn is_moving(&self, key: HoldKey) -> bool {
        self.index.holds.get(key).is_some_and(|placed| placed.hold.is_moving())
    }

    /// A release ends the keyless record of the attempt that took the place.
    pub(super) fn end_record(&mut self, record: Option<RecordId>, now: Millis, after: &mut After) {
        let Some(id) = record else { return };
        let Some(entry) = self.index.get(&id) else { return };
        if matches!(entry.record.phase, Phase::Done { .. }) {
            self.command(id, Command::End { by: None }, None, now, after);
        }
    }

    pub(super) fn change_hold(&mut self, slot: SlotId, hold: Hold) {
        let key = HoldKey { slot, token: hold.token };
        self.index.holds.put(slot, hold);
        if let (Some(journal), Some(placed)) = (&mut self.journal, self.index.holds.get_mut(key)) {
            journal.hold_changed(slot, placed);
        }
    }

    pub(super) fn remove_hold(&mut self, key: HoldKey, said: bool) {
        if let Some(placed) = self.index.holds.remove(key)
            && let Some(journal) = &mut self.journal
        {
            journal.hold_removed(key.slot, &placed, said);
        }
    }

    /// Forgets at most `limit` holds that ended by `now`. Not said in the log: after a restart time does it again.
    pub(super) fn expire_holds(&mut self, now: Millis, limit: usize) -> usize {
        let mut gone = 0;
        while gone < limit
            && let Some(key) = self.index.holds.due(now)
        {
            self.remove_hold(key, false);
            gone += 1;
        }
        gone
    }
}

// === impl State: operators ===

impl State {
    /// See [`Store::look`](crate::store::Store::look).
    fn look(&mut self, wanted: &Wanted, now: Millis, after: &mut After) -> Option<Taken> {
        self.let_time_pass(wanted.slot, now, after);
        self.commit(true);
        // No attempt has this token.
        refusal(self.index.holds.of_slot(wanted.slot), wanted, Token(0), now)
    }

    /// See [`Store::release_hold`](crate::store::Store::release_hold).
    fn release_hold(&mut self, which: Which, now: Millis, after: &mut After) -> Released {
        let keys = match which {
            Which::Hold(key) => vec![key],
            Which::Booking(booking) => self.index.holds.of_booking(&booking),
        };
        let mut holds = Vec::new();
        for key in keys {
            if let Some(record) = self.index.holds.get(key).and_then(|placed| placed.hold.record) {
                self.settle_record(record, now, after);
            }
            let Some(placed) = self.index.holds.get(key) else { continue };
            if placed.hold.state == HoldState::Reserved {
                self.commit(true);
                return Released::AtWork;
            }
            holds.push((key, placed.hold.record));
        }
        for (key, record) in &holds {
            self.remove_hold(*key, true);
            self.end_record(*record, now, after);
        }
        after.commit = self.commit(false);
        if holds.is_empty() { Released::NotFound } else { Released::Yes(holds.len()) }
    }

    /// See [`Store::vacate`](crate::store::Store::vacate).
    fn vacate(&mut self, seen: &Known, now: Millis, after: &mut After) -> Held {
        let is_there =
            self.index.holds.get(seen.key()).is_some_and(|placed| placed.hold.is_still(&seen.hold, now));
        let booking = seen.hold.booking.as_ref();
        let mut others = booking.into_iter().flat_map(|booking| self.index.holds.of_booking(&booking.key));
        if !is_there || others.any(|key| self.is_moving(key)) {
            return Held::No;
        }
        self.remove_hold(seen.key(), true);
        self.end_record(seen.hold.record, now, after);
        after.commit = self.commit(false);
        Held::Yes
    }

    fn list_holds(&self, byte: u8, listing: &HoldListing, room: usize) -> Vec<HoldView> {
        let key = |slot: SlotId, hold: &Hold| HoldKey { slot, token: hold.token };
        let mut found: Vec<(SlotId, &Hold)> = self
            .index
            .holds
            .of_part(byte)
            .filter(|(slot, hold)| {
                listing.after.is_none_or(|after| key(*slot, hold) > after)
                    && listing.slot.is_none_or(|wanted| wanted == *slot)
                    && listing.state.is_none_or(|state| state == hold.state)
                    && listing.name.as_ref().is_none_or(|name| **name == *hold.name)
            })
            .collect();
        found.sort_unstable_by_key(|(slot, hold)| key(*slot, hold));
        found.iter().take(room).map(|(slot, hold)| HoldView::new(*slot, hold)).collect()
    }
}

// === impl State: start ===

impl State {
    /// A note of the log says what a hold is from now on.
    pub(super) fn replay_hold(&mut self, slot: SlotId, hold: Hold, segment: u32, bytes: u32) {
        let key = HoldKey { slot, token: hold.token };
        let (home, logged) = match self.index.holds.get(key) {
            Some(placed) => (placed.home, placed.logged + bytes),
            None => (segment, bytes),
        };
        self.forget_hold(key);
        self.index.holds.put(slot, hold);
        if let (Some(journal), Some(placed)) = (&mut self.journal, self.index.holds.get_mut(key)) {
            journal.hold_recovered(placed, home, logged);
        }
    }

    /// A note of the log says that a hold was given back.
    pub(super) fn replay_released(&mut self, key: HoldKey, since: Millis, bytes: u32) {
        let Some(hold) = self.index.holds.get(key).map(|placed| placed.hold.released(since)) else { return };
        self.replay_hold(key.slot, hold, 0, bytes);
    }

    /// A note of the log says that a hold is gone.
    pub(super) fn forget_hold(&mut self, key: HoldKey) {
        self.remove_hold(key, false);
    }

    /// Everything was read, and what dead processes left is in doubt: a place that is still reserved belongs to nobody who
    /// could settle it.
    pub(super) fn reopened_holds(&mut self, alive: Owner, now: Millis) {
        for key in self.index.holds.all_open() {
            let Some(Placed { hold, .. }) = self.index.holds.get(key) else { continue };
            let record = hold.record.and_then(|id| self.index.get(&id)).map(|entry| &entry.record);
            let at_work = record.is_some_and(|record| {
                let own = matches!(record.phase, Phase::Queued { owner, .. } | Phase::Sent { owner, .. } if owner == alive);
                own && token_of(record) == Some(hold.token)
            });
            if hold.state == HoldState::Reserved && !at_work {
                let hold = hold.unsettled(now);
                self.change_hold(key.slot, hold);
            }
        }
        self.commit(false);
    }

    /// Writes those of `keys` again whose home is `segment`. False where there is no room.
    pub(super) fn carry_holds(&mut self, segment: u32, keys: &[HoldKey], now: Millis) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        journal.begin(now);
        for key in keys {
            let Some(placed) = self.index.holds.get_mut(*key).filter(|placed| placed.home == segment) else {
                continue;
            };
            if !journal.room_to_carry(None) {
                self.commit(false);
                return false;
            }
            journal.hold_carried(key.slot, placed);
            if journal.is_worth_a_step() {
                journal.commit(&mut self.index, true);
            }
        }
        self.commit(false);
        true
    }

    /// Lets time pass for one record.
    fn settle_record(&mut self, id: RecordId, now: Millis, after: &mut After) {
        let Some(entry) = self.index.get(&id) else { return };
        if now < entry.record.next_deadline() {
            return;
        }
        // A command that finds no work shows what time did.
        let step = apply(Some(&entry.record), Command::MarkSent { token: Token(0) }, now);
        let fated = fated(&entry.record, Saw::Time, &step);
        self.fated(fated);
        self.carry_out(id, step.change, None, after);
    }
}

// === impl Embedded ===

impl Embedded {
    pub(in crate::store) async fn release(
        &self,
        frees: Vec<Free>,
        ends: Option<EndIntents>,
    ) -> Result<usize, StoreError> {
        self.hold_back().await?;
        let (freed, after) = self.run(|state, now, after| {
            let freed = state.free_slots(&frees, None, now, after);
            if let Some(ends) = &ends {
                state.end_all(ends, now, after);
            }
            after.commit = state.commit(false);
            freed
        })?;
        self.durable(after.commit).await?;
        Ok(freed)
    }

    pub(in crate::store) fn holds_of(&self, booking: BookingId) -> Vec<Known> {
        let state = self.shared.lock();
        let keys = state.index.holds.of_booking(&booking).into_iter();
        let known = keys.filter_map(|key| Some((key, state.index.holds.get(key)?)));
        known.map(|(key, placed)| Known { slot: key.slot, hold: placed.hold.clone() }).collect()
    }

    pub(in crate::store) fn holders(&self, slot: SlotId, most: usize) -> Vec<Known> {
        let state = self.shared.lock();
        let holds = state.index.holds.of_slot(slot).take(most);
        holds.map(|hold| Known { slot, hold: hold.clone() }).collect()
    }

    pub(in crate::store) async fn vacate(&self, seen: &Known) -> Result<Held, StoreError> {
        let (held, after) = self.run(|state, now, after| state.vacate(seen, now, after))?;
        self.durable(after.commit).await?;
        Ok(held)
    }

    pub(in crate::store) fn look(&self, wanted: &Wanted) -> Option<Taken> {
        self.run(|state, now, after| state.look(wanted, now, after)).ok()?.0
    }

    pub(in crate::store) fn holds(&self, listing: &HoldListing) -> Vec<HoldView> {
        let limit = listing.limit.clamp(1, LISTING_MAX);
        let mut views = Vec::new();
        for byte in listing.after.map_or(0, |after| after.slot.0[0])..=255 {
            // One part at a time: claims get the lock in between.
            views.extend(self.shared.lock().list_holds(byte, listing, limit - views.len()));
            if views.len() == limit {
                break;
            }
        }
        views
    }

    pub(in crate::store) async fn release_hold(&self, which: Which) -> Result<Released, StoreError> {
        let (released, after) = self.run(|state, now, after| state.release_hold(which, now, after))?;
        self.durable(after.commit).await?;
        Ok(released)
    }
}
