//! Slots in the store: what a claim, a completion and an operator say about them.
//!
//! A claim and its slots are one atomic command: all of them are reserved with it, or nothing happens. What an attempt's
//! outcome makes of them happens in the same step as the record's own change (`domain::slot::fate` says what).

use super::{ClaimRequest, EndIntents, Held, Store, StoreError};
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::ledger::{RecordId, TargetId, Token};
use crate::domain::slot::{
    Booking, BookingId, End, Hold, HoldKey, HoldState, Keep, Known, SlotId, Taken, Wanted,
};
use crate::domain::time::Millis;
use std::sync::Arc;
use std::time::Duration;

/// How the slots that an attempt reserved go on when it completes.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Whether they are taken, or may be.
    pub end: End,
    /// The bookings that the answer names, each with the slot that it holds.
    pub bookings: Vec<(SlotId, Booking)>,
}

/// A booking gives back what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Whose slots.
    pub booking: BookingId,
    /// It may come back: what it held is remembered, and occupies nothing.
    pub remember: bool,
}

/// What follows from a write that an operator settles as executed, as far as its record says what it was.
#[derive(Clone, Debug)]
pub struct Follows {
    /// The resource that it addressed. Of a record of another one nothing follows.
    pub target: TargetId,
    /// It changed that: each resource above it, and for how long it is kept that all below it ended, too.
    pub ends: Option<(Vec<TargetId>, Duration)>,
    /// The bookings that give back what they hold.
    pub frees: Vec<Free>,
    /// The bookings that the operator's answer names, each with the name of the slots that it holds. They are the record's
    /// own slots, whatever resource it is about.
    pub bookings: Vec<(Arc<str>, Booking)>,
}

/// A place that the backend gave away before the gateway was there.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The place. `instead_of` and `asleep` mean nothing here.
    pub wanted: Wanted,
    /// Its own token.
    pub token: Token,
    /// All slots that the same booking has, in their order: what it holds in any other it holds no more. `None` where not all
    /// of them are known; then it keeps what it holds elsewhere.
    pub all: Option<Arc<[SlotId]>>,
}

/// What adopting a place did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adoption {
    /// It is held from now on.
    Added,
    /// The same booking holds it already.
    Known,
    /// It is held from now on, by more than its capacity: the backend has given it away too often.
    Over,
    /// Its end has passed.
    Ended,
}

/// One hold as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HoldView {
    /// The slot's name.
    pub slot: String,
    /// The slot's id: 32 hex digits.
    pub slot_id: String,
    /// The hold's own id within the slot: 32 hex digits.
    pub hold: String,
    /// The values of the slot's key, where the configuration keeps them.
    pub key: String,
    /// How firmly it is held.
    pub state: HoldState,
    /// The booking's id, once it is known.
    pub booking: Option<String>,
    /// Since when it is in this state, in milliseconds since the epoch.
    pub since: Millis,
    /// When it ends by itself; `None` while reserved.
    pub until: Option<Millis>,
    /// The request id of the attempt that took it.
    pub request_id: String,
    /// The record of that attempt; `None` where it was adopted.
    pub record: Option<String>,
}

/// Which holds an operator asks for.
#[derive(Clone, Debug, Default)]
pub struct HoldListing {
    /// Only of this name.
    pub name: Option<String>,
    /// Only this slot.
    pub slot: Option<SlotId>,
    /// Only in this state.
    pub state: Option<HoldState>,
    /// Holds that sort after this one.
    pub after: Option<HoldKey>,
    /// At most so many; bounded by the store at 1,000.
    pub limit: usize,
}

/// What an operator's release did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// So many holds are gone, durably.
    Yes(usize),
    /// There is no such hold.
    NotFound,
    /// An attempt at work has it: what becomes of that decides.
    AtWork,
}

/// What an operator releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// One hold.
    Hold(HoldKey),
    /// Everything that a booking holds under one name.
    Booking(BookingId),
}

/// How many holds one name has, by state in the order of [`HoldState::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SlotFigures {
    /// The slots' name.
    pub name: String,
    /// Holds by state.
    pub holds: [u64; 4],
}

// === impl Settlement ===

impl Default for Settlement {
    /// Unsettled: the safe side.
    fn default() -> Settlement {
        Settlement { end: End::Unsettled, bookings: Vec::new() }
    }
}

// === impl Follows ===

impl Follows {
    /// The bookings of these slots, which the settled attempt reserved under these names.
    pub fn bookings_of<'h>(
        &self,
        holds: impl IntoIterator<Item = (SlotId, &'h str)>,
    ) -> Vec<(SlotId, Booking)> {
        let booking = |name: &str| self.bookings.iter().find(|(of, _)| **of == *name);
        let named = holds.into_iter().filter_map(|(slot, name)| Some((slot, booking(name)?.1.clone())));
        named.collect()
    }
}

// === impl Adopted ===

impl Adopted {
    /// Since `now`, the hold that it becomes.
    pub fn hold(&self, now: Millis) -> Hold {
        let wanted = Wanted { asleep: false, instead_of: None, ..self.wanted.clone() };
        // Nobody's scope: whose booking it is, the gateway does not know.
        let wanted = Wanted { witness: ScopeId([0; 16]), ..wanted };
        let hold = Hold::reserved(&wanted, self.token, RecordId([0; 32]), "adopted".into(), now);
        Hold { record: None, ..hold.settled(End::Held, None, now) }
    }
}

// === impl HoldView ===

impl HoldView {
    /// The view of one hold.
    pub fn new(slot: SlotId, hold: &Hold) -> HoldView {
        HoldView {
            slot: hold.name.to_string(),
            slot_id: slot.to_string(),
            hold: format!("{:032x}", hold.token.0),
            key: hold.label.to_string(),
            state: hold.state,
            booking: hold.booking.as_ref().map(|booking| booking.id.to_string()),
            since: hold.since,
            until: (hold.state != HoldState::Reserved).then_some(hold.until),
            request_id: hold.request_id.to_string(),
            record: hold.record.map(|record| record.to_string()),
        }
    }

    /// Which hold it is.
    pub fn key_of(&self) -> Option<HoldKey> {
        let token = u128::from_str_radix(&self.hold, 16).ok()?;
        Some(HoldKey { slot: self.slot_id.parse().ok()?, token: Token(token) })
    }
}

// === impl Store ===

impl Store {
    /// An unsafe request succeeded, unguarded: gives back what `frees` say and ends the intents of `ends` in one durable
    /// step. Says how many holds were given back.
    pub async fn release(&self, frees: Vec<Free>, ends: Option<EndIntents>) -> Result<usize, StoreError> {
        match self {
            Store::Embedded(store) => store.release(frees, ends).await,
            Store::Redis(store) => store.inner.release(frees, ends).await,
        }
    }

    /// What a copy of a write gets where that is known without asking the store, so that what its claim would reserve need not
    /// be asked for either.
    pub fn remembered(&self, copy: &ClaimRequest) -> Option<Answer> {
        match self {
            Store::Embedded(_) => None,
            Store::Redis(store) => store.inner.remembered(copy),
        }
    }

    /// What a booking holds or would hold again, for a change of it.
    pub async fn holds_of(&self, booking: BookingId) -> Result<Vec<Known>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.holds_of(booking)),
            Store::Redis(store) => store.inner.holds_of(booking).await,
        }
    }

    /// At most `most` holds of one slot, in no order.
    pub async fn holders(&self, slot: SlotId, most: usize) -> Result<Vec<Known>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.holders(slot, most)),
            Store::Redis(store) => store.inner.holders(slot, most).await,
        }
    }

    /// The backend has no such booking any more: gives back `seen`, where it is still as it was seen and no change of its
    /// booking is under way, and ends the keyless record of the attempt that took it. Durable before it returns.
    pub async fn vacate(&self, seen: &Known) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.vacate(seen).await,
            Store::Redis(store) => store.inner.vacate(seen).await,
        }
    }

    /// Whether a slot can be had at this moment: `None` if so. A question; nothing is reserved.
    pub async fn look(&self, wanted: &Wanted) -> Result<Option<Taken>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.look(wanted)),
            Store::Redis(store) => store.inner.look_at_slot(wanted).await,
        }
    }

    /// Takes over what the backend has given away already. What a booking had given back it has again, and what it held in
    /// none of its slots ends, unless a change of it is under way. Durable before it returns; a second time changes nothing.
    pub async fn adopt(&self, adopted: Vec<Adopted>) -> Result<Vec<Adoption>, StoreError> {
        match self {
            Store::Embedded(store) => store.adopt(adopted).await,
            Store::Redis(store) => store.inner.adopt(adopted).await,
        }
    }

    /// Holds in the order of their slots; see [`HoldListing`].
    pub async fn holds(&self, listing: HoldListing) -> Result<Vec<HoldView>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.holds(&listing)),
            Store::Redis(store) => store.inner.holds(&listing).await,
        }
    }

    /// An operator gives a place back that the gateway takes for taken. Durable before it returns.
    pub async fn release_hold(&self, which: Which) -> Result<Released, StoreError> {
        match self {
            Store::Embedded(store) => store.release_hold(which).await,
            Store::Redis(store) => store.inner.release_hold(which).await,
        }
    }
}

/// How long an adopted place is held.
pub fn adopted_keep(keep: Keep, until: Option<Millis>) -> Keep {
    until.map_or(keep, Keep::Until)
}
