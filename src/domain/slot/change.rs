//! A request that changes a booking: which slot the booking has after it.
//!
//! A PATCH names only what changes. What it leaves out is taken from what is known of the booking, part by part; where
//! nothing is known, a part that is missing is missing. The end of a hold (`until`) is that of its slot, so a request that moves
//! the booking has to name the new one; one that names another end for the slot that the booking has takes that slot anew.
//! Only the body and the query say that a value changes: who asks (`header:`, `jwt:`) and a fallback's text say nothing about
//! the booking.

use super::hold::{Booking, Hold, HoldKey, HoldState, Keep, Wanted};
use super::key::{Part, SlotId};
use super::policy::{Problem, SlotPolicy};
use super::release::Asks;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::selector::{Found, Source};
use crate::domain::time::Millis;

/// One hold of the booking, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of which slot.
    pub slot: SlotId,
    /// The hold.
    pub hold: Hold,
}

/// What a request does to its booking's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that concerns it.
    Nothing,
    /// It has these afterwards, or has them already ([`Wanted::looks`]): one for each place that it has now.
    Takes(Vec<Wanted>),
    /// Another change of the booking is under way or unsettled, so nobody knows what it has.
    Busy,
    /// It moves the booking, which has several places, and does not say which of them.
    Unclear,
}

/// What is asked for, by whom, and when.
type Asker = (Asks, ScopeId, Millis);

/// The values of a slot's key, and how an operator reads them.
type Key = (Vec<Part>, String);

// === impl Known ===

impl Known {
    /// The hold's name.
    pub fn key(&self) -> HoldKey {
        HoldKey { slot: self.slot, token: self.hold.token }
    }

    fn key_parts(&self) -> Key {
        (self.hold.parts.to_vec(), self.hold.label.to_string())
    }

    /// Its own place, as somebody asks for it who relies on it.
    fn relied_on(&self, policy: &SlotPolicy, digest: &FingerprintKey, booking: Option<Booking>) -> Wanted {
        let (parts, label) = self.key_parts();
        Wanted {
            looks: true,
            instead_of: Some(self.key()),
            was_released: self.hold.state == HoldState::Released,
            booking,
            ..policy.place(digest, parts, label, self.hold.keep, self.hold.witness)
        }
    }
}

impl Change {
    /// What a request does to the slot of `policy` that its booking has. `known`: what the store knows of the booking at
    /// this moment; what is asked for is what the route's `release` reads in the request.
    pub fn plan(
        policy: &SlotPolicy,
        digest: &FingerprintKey,
        source: &Source<'_>,
        known: &[Known],
        asker: Asker,
    ) -> Result<Change, Problem> {
        let mut live: Vec<&Known> = known.iter().filter(|known| !known.hold.is_over(asker.2)).collect();
        if live.iter().any(|known| known.hold.is_moving()) {
            return Ok(Change::Busy);
        }
        let one = |base| {
            let changed = Change::changed(policy, digest, source, base)?;
            Change::of_one(policy, digest, source, (base, changed), asker)
        };
        // Of two in one slot (an import and the booking's own request may both have put it there) the firm one counts.
        live.sort_by_key(|known| known.hold.state);
        match live.as_slice() {
            [] => Ok(one(None)?.map_or(Change::Nothing, |wanted| Change::Takes(vec![wanted]))),
            [base] => Ok(one(Some(base))?.map_or(Change::Nothing, |wanted| Change::Takes(vec![wanted]))),
            several => Change::of_several(policy, digest, source, several, asker),
        }
    }

    /// What a request relies on that ends the booking for good; `None` where it has to wait for a change that is at work, whose
    /// success would leave a place to nobody. It goes on where nobody knows what became of a change: nothing is left of that.
    pub fn ending(
        policy: &SlotPolicy,
        digest: &FingerprintKey,
        booking: &Booking,
        known: &[Known],
        now: Millis,
    ) -> Option<Vec<Wanted>> {
        let live = || known.iter().filter(|known| !known.hold.is_over(now));
        if live().any(|known| known.hold.state == HoldState::Reserved) {
            return None;
        }
        if live().any(|known| known.hold.is_moving()) {
            return Some(Vec::new());
        }
        Some(live().map(|known| known.relied_on(policy, digest, Some(booking.clone()))).collect())
    }

    /// What it does to the place `base`, or without one; `changed` is the key that it names.
    fn of_one(
        policy: &SlotPolicy,
        digest: &FingerprintKey,
        source: &Source<'_>,
        (base, changed): (Option<&Known>, Option<Key>),
        (asks, witness, _): Asker,
    ) -> Result<Option<Wanted>, Problem> {
        let released = base.is_some_and(|base| base.hold.state == HoldState::Released);
        // What is asleep and does not wake takes nobody's place, wherever it goes.
        let asleep = asks == Asks::Release || (released && asks != Asks::Resume);
        let keep = policy.keep(source);
        // It names an end that its booking's hold does not have; what is given back has none to change.
        let ends_otherwise = asks != Asks::Release
            && matches!((&keep, base), (Ok(keep @ Keep::Until(_)), Some(base)) if *keep != base.hold.keep);
        let (parts, label) = match (changed, base) {
            (Some(changed), _) => changed,
            (None, Some(base))
                if asks == Asks::Resume || (asks == Asks::Release && !released) || ends_otherwise =>
            {
                base.key_parts()
            }
            (None, _) => return Ok(None),
        };
        // The end that is known is the end of the slot that is known, and of no other.
        let same = base.filter(|base| base.slot == digest.slot_id(&policy.name, &parts));
        let keep = match (keep, same) {
            (Ok(keep), _) => keep,
            (Err(Problem { unreadable: None, .. }), Some(same)) => same.hold.keep,
            (Err(problem), _) => return Err(problem),
        };
        let mut wanted = policy.place(digest, parts, label, keep, witness);
        if let Some(base) = base {
            let wakes = released && asks == Asks::Resume;
            // Right as long as the booking has this slot, so nobody may move, pause or resume it meanwhile.
            wanted.looks = base.slot == wanted.slot && !wakes && !ends_otherwise;
            // It stays the booking of who made it, whoever moves it.
            wanted.witness = base.hold.witness;
            wanted.instead_of = Some(base.key());
            wanted.was_released = released;
        }
        wanted.asleep = asleep && !wanted.looks;
        wanted.booking = policy.booking(digest, source);
        Ok(Some(wanted))
    }

    /// What it does to a booking that has several places: the same to each. It may name one of them, as a whole booking that is
    /// put again does; a key that is none of theirs, or one end where they have different ones, may be meant for any.
    fn of_several(
        policy: &SlotPolicy,
        digest: &FingerprintKey,
        source: &Source<'_>,
        live: &[&Known],
        asker: Asker,
    ) -> Result<Change, Problem> {
        let mut named = false;
        for base in live {
            let Some((parts, _)) = Change::changed(policy, digest, source, Some(base))? else { continue };
            let to = digest.slot_id(&policy.name, &parts);
            if live.iter().all(|other| other.slot != to) {
                return Ok(Change::Unclear);
            }
            named = true;
        }
        let mut places: Vec<Wanted> = Vec::with_capacity(live.len());
        let mut changes = named;
        for base in live {
            let wanted = match Change::of_one(policy, digest, source, (Some(base), None), asker)? {
                Some(wanted) => {
                    changes = true;
                    wanted
                }
                None => base.relied_on(policy, digest, policy.booking(digest, source)),
            };
            if places.iter().all(|other| other.slot != wanted.slot) {
                places.push(wanted);
            }
        }
        let has_end =
            |place: &Wanted| live.iter().any(|base| base.slot == place.slot && base.hold.keep == place.keep);
        let names_end =
            |place: &Wanted| matches!(place.keep, Keep::Until(_)) && !place.looks && !has_end(place);
        let one_end = live.iter().all(|base| base.hold.keep == live[0].hold.keep);
        if !one_end && places.iter().any(names_end) {
            return Ok(Change::Unclear);
        }
        Ok(if changes { Change::Takes(places) } else { Change::Nothing })
    }

    /// The key after the request, where it names a part of it; `None` where it names none.
    fn changed(
        policy: &SlotPolicy,
        digest: &FingerprintKey,
        source: &Source<'_>,
        base: Option<&Known>,
    ) -> Result<Option<Key>, Problem> {
        let mut named = Vec::with_capacity(policy.by.len());
        for selector in &policy.by {
            match selector.find_said(source) {
                Found::Value(value) => named.push(Some(value)),
                Found::Missing => named.push(None),
                Found::Unreadable(why) => return Err(policy.problem(selector, Some(why))),
            }
        }
        if named.iter().all(Option::is_none) {
            return Ok(None);
        }
        let Some(base) = base.filter(|base| base.hold.parts.len() == named.len()) else {
            // Nothing is known that could be put in the place of what is missing.
            return policy.parts(digest, source);
        };
        let mut label = String::new();
        let parts =
            named.iter().zip(base.hold.parts.iter()).enumerate().map(|(at, (value, known))| match value {
                Some(value) => {
                    policy.add_to(&mut label, &value.shown());
                    digest.slot_part(&policy.name, at, value)
                }
                None => {
                    policy.add_to(&mut label, base.hold.label.split(" | ").nth(at).unwrap_or("…"));
                    *known
                }
            });
        let parts = parts.collect();
        Ok(Some((parts, label)))
    }
}
