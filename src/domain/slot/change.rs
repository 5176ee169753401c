//! A request that changes a booking: which slot the booking has after it.
//!
//! A PATCH names only what changes. What it leaves out is taken from what is known of the booking, part by part; where
//! nothing is known, a part that is missing is missing. The end of a hold (`until`) is that of its slot, so a request that moves
//! the booking has to name the new one; one that names another end for the slot that the booking has takes that slot anew.
//! Only the body and the query say that a value changes: who asks (`header:`, `jwt:`) and a fallback's text say nothing about
//! the booking.

use super::hold::{Hold, HoldKey, HoldState, Keep, Wanted};
use super::key::SlotId;
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
    /// It has this one afterwards, or has it already ([`Wanted::looks`]).
    Takes(Box<Wanted>),
    /// Another change of the booking is under way or unsettled, so nobody knows what it has.
    Busy,
}

// === impl Known ===

impl Known {
    /// The hold's name.
    pub fn key(&self) -> HoldKey {
        HoldKey { slot: self.slot, token: self.hold.token }
    }
}

impl Change {
    /// What a request does to the slot of `policy` that its booking has. `known`: what the store knows of the booking at
    /// `now`; `asks`: what the route's `release` reads in the request.
    pub fn plan(
        policy: &SlotPolicy,
        digest: &FingerprintKey,
        source: &Source<'_>,
        known: &[Known],
        (asks, witness, now): (Asks, ScopeId, Millis),
    ) -> Result<Change, Problem> {
        let live: Vec<&Known> = known.iter().filter(|known| !known.hold.is_over(now)).collect();
        let base = match live.as_slice() {
            [] => None,
            [one] if !one.hold.is_moving() => Some(*one),
            _ => return Ok(Change::Busy),
        };
        let released = base.is_some_and(|base| base.hold.state == HoldState::Released);
        // What is asleep and does not wake takes nobody's place, wherever it goes.
        let asleep = asks == Asks::Release || (released && asks != Asks::Resume);
        let changed = Change::changed(policy, digest, source, base)?;
        let keep = policy.keep(source);
        // It names an end that its booking's hold does not have; what is given back has none to change.
        let ends_otherwise = asks != Asks::Release
            && matches!((&keep, base), (Ok(keep @ Keep::Until(_)), Some(base)) if *keep != base.hold.keep);
        let (parts, label) = match (changed, base) {
            (Some(changed), _) => changed,
            (None, Some(base))
                if asks == Asks::Resume || (asks == Asks::Release && !released) || ends_otherwise =>
            {
                (base.hold.parts.to_vec(), base.hold.label.to_string())
            }
            (None, _) => return Ok(Change::Nothing),
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
            if base.slot == wanted.slot && !wakes && !ends_otherwise {
                // Right as long as the booking has this slot, so nobody may move, pause or resume it meanwhile.
                wanted.looks = true;
            }
            // It stays the booking of who made it, whoever moves it.
            wanted.witness = base.hold.witness;
            wanted.instead_of = Some(base.key());
            wanted.was_released = released;
        }
        wanted.asleep = asleep && !wanted.looks;
        wanted.booking = policy.booking(digest, source);
        Ok(Change::Takes(Box::new(wanted)))
    }

    /// The key after the request, where it names a part of it; `None` where it names none.
    fn changed(
        policy: &SlotPolicy,
        digest: &FingerprintKey,
        source: &Source<'_>,
        base: Option<&Known>,
    ) -> Result<Option<(Vec<super::Part>, String)>, Problem> {
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
