//! The holds in memory, and every other way to find them: by booking, by attempt, by their end. Keeps those in step;
//! decides nothing.

use super::parts::{Digest, Parts};
use crate::domain::ledger::Token;
use crate::domain::slot::{BookingId, Hold, HoldKey, SlotId};
use crate::domain::time::Millis;
use crate::store::slots::SlotFigures;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// One hold with what the log knows of it.
pub(super) struct Placed {
    /// What the domain decides on.
    pub(super) hold: Hold,
    /// The segment that holds its oldest note; 0 where nothing was logged.
    pub(super) home: u32,
    /// Bytes of log that are set aside for what may still have to be said of it.
    pub(super) reserved: u32,
    /// Bytes of log that its present state takes.
    pub(super) logged: u32,
}

/// See the module.
#[allow(
    clippy::vec_box,
    reason = "a list of one would have room for four, and a hold has some hundred bytes"
)]
pub(super) struct Holds {
    slots: Parts<SlotId, Vec<Box<Placed>>>,
    bookings: Parts<BookingId, Vec<HoldKey>>,
    /// What attempts that are not settled have reserved.
    open: HashMap<Token, Vec<SlotId>>,
    ends: BTreeSet<(Millis, HoldKey)>,
    counts: BTreeMap<Arc<str>, [u64; 4]>,
    len: usize,
}

impl Digest for SlotId {
    fn first_byte(&self) -> u8 {
        self.0[0]
    }
}

impl Digest for BookingId {
    fn first_byte(&self) -> u8 {
        self.0[0]
    }
}

// === impl Holds ===

impl Holds {
    /// No holds.
    pub(super) fn new() -> Holds {
        Holds {
            slots: Parts::new(),
            bookings: Parts::new(),
            open: HashMap::new(),
            ends: BTreeSet::new(),
            counts: BTreeMap::new(),
            len: 0,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The holds of one slot.
    pub(super) fn of_slot(&self, slot: SlotId) -> impl Iterator<Item = &Hold> {
        self.slots.get(&slot).into_iter().flatten().map(|placed| &placed.hold)
    }

    /// One hold.
    pub(super) fn get(&self, key: HoldKey) -> Option<&Placed> {
        let holds = self.slots.get(&key.slot)?;
        holds.iter().find(|placed| placed.hold.token == key.token).map(|placed| &**placed)
    }

    /// One hold, to change what no index is made of.
    pub(super) fn get_mut(&mut self, key: HoldKey) -> Option<&mut Placed> {
        let holds = self.slots.get_mut(&key.slot)?;
        holds.iter_mut().find(|placed| placed.hold.token == key.token).map(|placed| &mut **placed)
    }

    /// The holds of a booking.
    pub(super) fn of_booking(&self, booking: &BookingId) -> Vec<HoldKey> {
        self.bookings.get(booking).cloned().unwrap_or_default()
    }

    /// What the attempt `token` reserved and nobody has settled.
    pub(super) fn open_of(&self, token: Token) -> Vec<HoldKey> {
        let slots = self.open.get(&token).into_iter().flatten();
        slots.map(|slot| HoldKey { slot: *slot, token }).collect()
    }

    /// A hold appears, or the one of its name becomes `hold`; what the log knows of it stays.
    pub(super) fn put(&mut self, slot: SlotId, hold: Hold) {
        let key = HoldKey { slot, token: hold.token };
        let old = self.take_out(key);
        self.counts.entry(hold.name.clone()).or_default()[hold.state as usize] += 1;
        if let Some(booking) = &hold.booking {
            self.bookings.entry(booking.key).push(key);
        }
        if hold.is_open() {
            self.open.entry(hold.token).or_default().push(slot);
        }
        self.ends.insert((hold.until, key));
        self.len += 1;
        let placed = match old {
            Some(old) => Box::new(Placed { hold, ..*old }),
            None => Box::new(Placed { hold, home: 0, reserved: 0, logged: 0 }),
        };
        self.slots.entry(slot).push(placed);
    }

    /// A hold disappears.
    pub(super) fn remove(&mut self, key: HoldKey) -> Option<Box<Placed>> {
        self.take_out(key)
    }

    /// A hold whose end has come by `now`.
    pub(super) fn due(&self, now: Millis) -> Option<HoldKey> {
        self.ends.first().filter(|(until, _)| *until <= now).map(|(_, key)| *key)
    }

    /// Reserved holds, for a start after a crash.
    pub(super) fn all_open(&self) -> Vec<HoldKey> {
        let keys = self.open.iter().flat_map(|(token, slots)| slots.iter().map(|slot| (*slot, *token)));
        keys.map(|(slot, token)| HoldKey { slot, token }).collect()
    }

    /// The holds of slots whose ids begin with `byte`, in no order.
    pub(super) fn of_part(&self, byte: u8) -> impl Iterator<Item = (SlotId, &Hold)> {
        let slots = self.slots.of_part(byte);
        slots.flat_map(|(slot, holds)| holds.iter().map(|placed| (*slot, &placed.hold)))
    }

    /// Those of them whose oldest note is in `segment`.
    pub(super) fn at_home(&self, byte: u8, segment: u32) -> impl Iterator<Item = HoldKey> {
        let placed =
            self.slots.of_part(byte).flat_map(|(slot, holds)| holds.iter().map(|placed| (*slot, placed)));
        let placed = placed.filter(move |(_, placed)| placed.home == segment);
        placed.map(|(slot, placed)| HoldKey { slot, token: placed.hold.token })
    }

    /// How many holds each name has.
    pub(super) fn figures(&self) -> Vec<SlotFigures> {
        let figures = self.counts.iter();
        figures.map(|(name, holds)| SlotFigures { name: name.to_string(), holds: *holds }).collect()
    }

    fn take_out(&mut self, key: HoldKey) -> Option<Box<Placed>> {
        let holds = self.slots.get_mut(&key.slot)?;
        let at = holds.iter().position(|placed| placed.hold.token == key.token)?;
        let placed = holds.swap_remove(at);
        if holds.is_empty() {
            self.slots.remove(&key.slot);
        }
        let hold = &placed.hold;
        if let Some(counts) = self.counts.get_mut(&hold.name) {
            counts[hold.state as usize] -= 1;
        }
        if let Some(booking) = &hold.booking
            && let Some(keys) = self.bookings.get_mut(&booking.key)
        {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.bookings.remove(&booking.key);
            }
        }
        if hold.is_open()
            && let Some(slots) = self.open.get_mut(&hold.token)
        {
            slots.retain(|other| *other != key.slot);
            if slots.is_empty() {
                self.open.remove(&hold.token);
            }
        }
        self.ends.remove(&(hold.until, key));
        self.len -= 1;
        Some(placed)
    }
}
