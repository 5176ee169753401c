//! Holds as scripts take and give them.

use super::packed::Packed;
use super::reply::Reply;
use super::script::{Call, FOREVER};
use crate::domain::client::ScopeId;
use crate::domain::ledger::{RecordId, Token};
use crate::domain::slot::{
    Booking, BookingId, End, Hold, HoldKey, HoldState, Keep, Known, Part, SlotId, Taken, Wanted,
};
use crate::domain::time::Millis;
use crate::store::{EndIntents, Follows, Free, Settlement, StoreError};
use std::time::Duration;

/// The values that a slot's key may be made of.
const PARTS_MAX: usize = 16;

/// How scripts name a state.
pub(super) fn letter(state: HoldState) -> &'static str {
    match state {
        HoldState::Reserved => "r",
        HoldState::Held => "h",
        HoldState::Unsettled => "u",
        HoldState::Released => "z",
    }
}

/// A state that this version does not know is taken for the one that only an operator ends.
pub(super) fn state(letter: &[u8]) -> HoldState {
    match letter {
        b"r" => HoldState::Reserved,
        b"h" => HoldState::Held,
        b"z" => HoldState::Released,
        _ => HoldState::Unsettled,
    }
}

/// How an operator's answer ends the slots of its record, and the bookings that it names, as `scripts/settle.lua` reads it.
pub(super) fn ending(end: End, follows: Option<&Follows>) -> Vec<u8> {
    let bookings = follows.into_iter().flat_map(|follows| &follows.bookings);
    let packed =
        bookings.fold(Packed::new().fixed(letter(end.state()).as_bytes()), |packed, (name, booking)| {
            packed.short(name.as_bytes()).fixed(&booking.key.0).short(booking.id.as_bytes())
        });
    packed.bytes().to_vec()
}

/// Slot and token, one behind the other.
pub(super) fn name_of(key: HoldKey) -> [u8; 32] {
    let mut name = [0; 32];
    name[..16].copy_from_slice(&key.slot.0);
    name[16..].copy_from_slice(&key.token.0.to_be_bytes());
    name
}

/// The hold of that name.
pub(super) fn named(name: &[u8]) -> Option<HoldKey> {
    let (slot, token) = name.split_first_chunk::<16>()?;
    let token = <[u8; 16]>::try_from(token).ok()?;
    Some(HoldKey { slot: SlotId(*slot), token: Token(u128::from_be_bytes(token)) })
}

// === impl Call ===

impl Call {
    /// With the intents that an unsafe success ends; always the last arguments.
    pub(super) fn ends(self, ends: &EndIntents) -> Call {
        let call = self.arg(ends.by.as_ref().map_or(&[][..], |by| &by.0)).arg(&ends.scope.0);
        let call = call.millis(ends.subtree_for);
        ends.targets().fold(call, |call, target| call.arg(&target.0))
    }

    /// With the bookings that a completion names, and those that give back what they hold.
    pub(super) fn settled(self, slots: &Settlement, frees: &[Free]) -> Call {
        let bookings = slots.bookings.iter();
        let call = bookings.fold(self, |call, (slot, booking)| call.arg(&slot.0).booking(Some(booking)));
        frees.iter().fold(call, Call::free)
    }

    /// With what follows from a write that an operator settles; `here`: what ends is in one part.
    pub(super) fn follows(self, follows: &Follows, here: bool) -> Call {
        let call = self.arg(&follows.target.0).arg(follows.frees.len());
        let call = follows.frees.iter().fold(call, Call::free);
        let Some((parents, subtree_for)) = follows.ends.as_ref().filter(|_| here) else { return call };
        let call = call.millis(*subtree_for).arg(&follows.target.0);
        parents.iter().fold(call, |call, parent| call.arg(&parent.0))
    }

    /// With a booking that gives back what it holds.
    pub(super) fn free(self, free: &Free) -> Call {
        self.arg(&free.booking.0).arg(u8::from(free.remember))
    }

    /// With a place that is asked for; see `scripts/bookings.lua`.
    pub(super) fn wanted(self, wanted: &Wanted) -> Call {
        self.arg(&wanted.slot.0)
            .arg(wanted.capacity)
            .arg(keep(wanted.keep))
            .arg(&wanted.witness.0)
            .arg(u8::from(wanted.asleep))
            .booking(wanted.booking.as_ref())
            .arg(wanted.instead_of.map(name_of).as_ref().map_or(&[][..], |name| name))
            .arg(u8::from(wanted.was_released))
            .arg(u8::from(wanted.looks))
            .arg(&*wanted.name)
            .arg(&*wanted.label)
            .arg(parts(&wanted.parts))
    }

    /// With a hold as it is; see `scripts/slot_restore.lua`.
    pub(super) fn hold(self, known: &Known) -> Call {
        let Known { slot, hold } = known;
        self.arg(&slot.0)
            .arg(&hold.token.0.to_be_bytes())
            .arg(letter(hold.state))
            .arg(hold.since.0)
            .arg(hold.until.0.min(NEVER))
            .arg(keep(hold.keep))
            .arg(hold.record.as_ref().map_or(&[][..], |record| &record.0))
            .arg(&hold.witness.0)
            .arg(u8::from(hold.asleep))
            .arg(u8::from(hold.looks))
            .booking(hold.booking.as_ref())
            .arg(hold.instead_of.map(name_of).as_ref().map_or(&[][..], |name| name))
            .arg(&*hold.name)
            .arg(&*hold.label)
            .arg(&*hold.request_id)
            .arg(parts(&hold.parts))
    }

    /// With a booking's key and id, both empty where there is none.
    fn booking(self, booking: Option<&Booking>) -> Call {
        match booking {
            Some(booking) => self.arg(&booking.key.0).arg(&*booking.id),
            None => self.arg("").arg(""),
        }
    }
}

// === impl Packed ===

impl Packed {
    /// What a completion makes of slots, and how many bookings are said behind it ([`Call::settled`]).
    pub(super) fn settlement(self, slots: &Settlement, frees: &[Free]) -> Packed {
        let end = letter(slots.end.state());
        let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
        self.fixed(end.as_bytes()).fixed(&count(slots.bookings.len())).fixed(&count(frees.len()))
    }
}

/// How scripts write an end that has not begun: the largest integer that they can count to.
const NEVER: u64 = (1 << 53) - 1;

/// `f` and how long, or `u` and until when, in milliseconds.
fn keep(keep: Keep) -> String {
    match keep {
        Keep::For(duration) => {
            format!("f{}", u64::try_from(duration.as_millis()).unwrap_or(FOREVER).min(FOREVER))
        }
        Keep::Until(until) => format!("u{}", until.0.min(FOREVER)),
    }
}

fn parts(parts: &[Part]) -> Vec<u8> {
    parts.iter().take(PARTS_MAX).flat_map(|part| part.0).collect()
}

/// What a claim or a question was told about `wanted`: that it is taken.
pub(super) fn read_taken(told: &mut Reply, wanted: &Wanted) -> Result<Taken, StoreError> {
    let since = Millis(told.number()?);
    let until = std::str::from_utf8(&told.bytes()?).ok().and_then(|until| until.parse().ok()).map(Millis);
    let state = state(&told.bytes()?);
    let id = Some(told.text()?).filter(|id| !id.is_empty());
    Ok(Taken {
        name: wanted.name.clone(),
        slot: wanted.slot,
        label: wanted.label.clone(),
        capacity: wanted.capacity,
        since,
        until,
        state,
        id: id.map(Into::into),
    })
}

/// One hold, as `shown` in `scripts/bookings.lua` gives it.
pub(super) fn read_hold(mut fields: Reply) -> Result<Known, StoreError> {
    let slot = SlotId(fields.exactly()?);
    let token = Token(u128::from_be_bytes(fields.exactly()?));
    let state = state(&fields.bytes()?);
    let (since, until) = (Millis(fields.number()?), fields.number()?);
    let keep = read_keep(&fields.bytes()?)?;
    let record = <[u8; 32]>::try_from(&fields.bytes()?[..]).ok().map(RecordId);
    let witness = ScopeId(fields.exactly()?);
    let (asleep, looks) = (fields.number()? == 1, fields.number()? == 1);
    let (key, id) = (fields.bytes()?, fields.text()?);
    let booking =
        <[u8; 16]>::try_from(&key[..]).ok().map(|key| Booking { key: BookingId(key), id: id.into() });
    let instead_of = named(&fields.bytes()?);
    let (name, label, request_id) = (fields.text()?.into(), fields.text()?.into(), fields.text()?.into());
    let parts = fields.bytes()?.as_chunks::<16>().0.iter().map(|part| Part(*part)).collect();
    let until = Millis(if state == HoldState::Reserved { u64::MAX } else { until });
    let hold = Hold {
        token,
        record,
        state,
        since,
        until,
        keep,
        witness,
        asleep,
        looks,
        booking,
        instead_of,
        name,
        label,
        request_id,
        parts,
    };
    Ok(Known { slot, hold })
}

fn read_keep(text: &[u8]) -> Result<Keep, StoreError> {
    let wrong =
        || StoreError::Unavailable("it says of a hold's end what no script of this version does".into());
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let read = |millis: &str| millis.parse::<u64>().map_err(|_| wrong());
    match text.split_at_checked(1).ok_or_else(wrong)? {
        ("f", millis) => Ok(Keep::For(Duration::from_millis(read(millis)?))),
        (_, millis) => Ok(Keep::Until(Millis(read(millis)?))),
    }
}
