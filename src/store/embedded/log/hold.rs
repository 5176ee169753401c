//! The notes of holds. Like those of records they carry results: a hold as it is from now on, given back, or gone.

use super::entry::{Reader, Unreadable};
use crate::domain::client::ScopeId;
use crate::domain::ledger::RecordId;
use crate::domain::slot::{Booking, BookingId, Hold, HoldKey, HoldState, Keep, Part, SlotId};
use crate::domain::time::Millis;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of each text that are written.
const TEXT_MAX: usize = 256;

/// The most values that a slot's key is made of.
pub(in super::super) const PARTS_MAX: usize = 16;

/// The largest note of a hold.
pub(in super::super) const HOLD_BYTES_MAX: usize = 1536;

const RECORD: u8 = 1;
const ASLEEP: u8 = 2;
const BOOKED: u8 = 4;
const INSTEAD: u8 = 8;
const KEEP_UNTIL: u8 = 16;
const LOOKS: u8 = 32;

/// Writes a hold, whole.
pub(super) fn put_hold(out: &mut Vec<u8>, slot: SlotId, hold: &Hold) {
    put_key(out, HoldKey { slot, token: hold.token });
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let (until, keep) = match hold.keep {
        Keep::For(duration) => (false, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        Keep::Until(until) => (true, until.0),
    };
    out.push(
        flag(hold.record.is_some(), RECORD)
            | flag(hold.asleep, ASLEEP)
            | flag(hold.looks, LOOKS)
            | flag(hold.booking.is_some(), BOOKED)
            | flag(hold.instead_of.is_some(), INSTEAD)
            | flag(until, KEEP_UNTIL),
    );
    out.push(match hold.state {
        HoldState::Reserved => 0,
        HoldState::Held => 1,
        HoldState::Unsettled => 2,
        HoldState::Released => 3,
    });
    for number in [hold.since.0, hold.until.0, keep] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&hold.witness.0);
    if let Some(record) = hold.record {
        out.extend_from_slice(&record.0);
    }
    if let Some(booking) = &hold.booking {
        out.extend_from_slice(&booking.key.0);
        put_text(out, &booking.id);
    }
    if let Some(old) = hold.instead_of {
        put_key(out, old);
    }
    [&hold.name, &hold.label, &hold.request_id].iter().for_each(|text| put_text(out, text));
    let parts = &hold.parts[..hold.parts.len().min(PARTS_MAX)];
    out.push(parts.len() as u8);
    parts.iter().for_each(|part| out.extend_from_slice(&part.0));
}

/// Writes which hold is meant.
pub(super) fn put_key(out: &mut Vec<u8>, key: HoldKey) {
    out.extend_from_slice(&key.slot.0);
    out.extend_from_slice(&key.token.0.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_MAX)];
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

// === impl Reader ===

impl Reader<'_> {
    pub(super) fn hold_key(&mut self) -> Result<HoldKey, Unreadable> {
        Ok(HoldKey { slot: SlotId(self.take()?), token: self.token()? })
    }

    pub(super) fn hold(&mut self) -> Result<(SlotId, Hold), Unreadable> {
        let HoldKey { slot, token } = self.hold_key()?;
        let flags = self.u8()?;
        let has = |flag: u8| flags & flag != 0;
        let state = match self.u8()? {
            0 => HoldState::Reserved,
            1 => HoldState::Held,
            2 => HoldState::Unsettled,
            3 => HoldState::Released,
            _ => return Err(Unreadable),
        };
        let (since, until, keep) = (Millis(self.u64()?), Millis(self.u64()?), self.u64()?);
        let witness = ScopeId(self.take()?);
        let record = if has(RECORD) { Some(RecordId(self.take()?)) } else { None };
        let booking = match has(BOOKED) {
            true => Some(Booking { key: BookingId(self.take()?), id: self.text()?.into() }),
            false => None,
        };
        let instead_of = if has(INSTEAD) { Some(self.hold_key()?) } else { None };
        let (name, label, request_id) = (self.text()?.into(), self.text()?.into(), self.text()?.into());
        let parts = (0..self.u8()?).map(|_| self.take().map(Part)).collect::<Result<Arc<[Part]>, _>>()?;
        let keep =
            if has(KEEP_UNTIL) { Keep::Until(Millis(keep)) } else { Keep::For(Duration::from_millis(keep)) };
        let (asleep, looks) = (has(ASLEEP), has(LOOKS));
        Ok((
            slot,
            Hold {
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
            },
        ))
    }
}
