//! What the backend had given away before a gateway was there, or past it, under the store's lock.

use super::journal::{Journal, RoomFor};
use super::state::{After, State};
use super::{Embedded, StoreError};
use crate::domain::slot::{BookingId, Hold, HoldKey, HoldState, Keep, SlotId, refusal};
use crate::domain::time::Millis;
use crate::store::slots::{Adopted, Adoption};
use std::collections::HashMap;

// === impl State ===

impl State {
    fn adopt(
        &mut self,
        adopted: &[Adopted],
        now: Millis,
        after: &mut After,
    ) -> Result<Vec<Adoption>, StoreError> {
        let (mut done, mut seen) = (Vec::with_capacity(adopted.len()), HashMap::new());
        for one in adopted {
            let Some(adoption) = self.adopt_one(one, &mut seen, now, after) else {
                self.commit(false);
                let why = format!("there is no room for more than {} of them", done.len());
                return Err(StoreError::Full(why));
            };
            done.push(adoption);
            if self.journal.as_ref().is_some_and(Journal::is_too_large) {
                self.commit(true);
            }
        }
        after.commit = self.commit(false);
        Ok(done)
    }

    /// `None`: there is no room. `seen`: the bookings of which a line was adopted, and whether a change of them is under way.
    fn adopt_one(
        &mut self,
        one: &Adopted,
        seen: &mut HashMap<BookingId, bool>,
        now: Millis,
        after: &mut After,
    ) -> Option<Adoption> {
        let (slot, hold) = (one.wanted.slot, one.hold(now));
        let booking = one.wanted.booking.as_ref().map(|booking| booking.key);
        let was_seen = booking.and_then(|booking| seen.get(&booking).copied());
        // What it has elsewhere was looked at with its first line, which knows all of its slots as this one does.
        let had = match booking.filter(|_| was_seen.is_some()) {
            Some(booking) => self.had_in(slot, booking, now),
            None => self.had_by(one, now),
        };
        let is_moving = was_seen.unwrap_or_else(|| had.iter().any(|(_, hold)| hold.is_moving()));
        let is_known = had.iter().any(|(key, hold)| key.slot == slot && hold.is_a_place());
        if !is_known && hold.is_over(now) {
            return Some(Adoption::Ended);
        }
        if !is_known && self.has_no_room_for_a_hold() {
            return None;
        }
        if let Some(booking) = booking {
            seen.insert(booking, is_moving);
        }
        let keep = one.wanted.keep;
        let ends_otherwise = |known: Keep| matches!(keep, Keep::Until(until) if until > now) && known != keep;
        // Where it is being changed nobody knows which came last, so what may be taken stays taken.
        if !is_moving {
            for (key, hold) in had {
                let here = key.slot == slot;
                let elsewhere = || one.all.as_ref().is_some_and(|all| all.binary_search(&key.slot).is_err());
                if hold.ends_by_adoption(here) && (here || elsewhere()) {
                    self.remove_hold(key, true);
                    self.end_record(hold.record, now, after);
                } else if here && hold.state == HoldState::Held && ends_otherwise(hold.keep) {
                    // What the backend says of the end of a place that is known is what counts.
                    self.change_hold(slot, Hold { keep, until: keep.end(now), ..hold });
                }
            }
        }
        if is_known {
            return Some(Adoption::Known);
        }
        let is_over = refusal(self.index.holds.of_slot(slot), &one.wanted, one.token, now).is_some();
        self.change_hold(slot, hold);
        Some(if is_over { Adoption::Over } else { Adoption::Added })
    }

    /// What the booking has, or had; of one without an id, what was adopted before.
    fn had_by(&self, one: &Adopted, now: Millis) -> Vec<(HoldKey, Hold)> {
        let keys = match &one.wanted.booking {
            Some(booking) => self.index.holds.of_booking(&booking.key),
            None => vec![HoldKey { slot: one.wanted.slot, token: one.token }],
        };
        let placed = keys.into_iter().filter_map(|key| Some((key, self.index.holds.get(key)?.hold.clone())));
        placed.filter(|(_, hold)| !hold.is_over(now)).collect()
    }

    /// The same, in this slot alone.
    fn had_in(&self, slot: SlotId, booking: BookingId, now: Millis) -> Vec<(HoldKey, Hold)> {
        let holds =
            self.index.holds.of_slot(slot).filter(|hold| {
                hold.booking.as_ref().is_some_and(|own| own.key == booking) && !hold.is_over(now)
            });
        holds.map(|hold| (HoldKey { slot, token: hold.token }, hold.clone())).collect()
    }

    fn has_no_room_for_a_hold(&self) -> bool {
        let no_room = |journal: &Journal| journal.room_for_claim_with(1) == RoomFor::NotNow;
        self.index.holds.len() >= self.records_max || self.journal.as_ref().is_some_and(no_room)
    }
}

// === impl Embedded ===

impl Embedded {
    /// See [`Store::adopt`](crate::store::Store::adopt).
    pub(in crate::store) async fn adopt(&self, adopted: Vec<Adopted>) -> Result<Vec<Adoption>, StoreError> {
        self.hold_back().await?;
        let (done, after) = self.run(|state, now, after| state.adopt(&adopted, now, after))?;
        self.durable(after.commit).await?;
        done
    }
}
