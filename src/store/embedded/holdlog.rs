//! What the log says of holds, and the room that is set aside for what may still have to be said: a place that was
//! promised can always be given back, also on a full disk.

use super::holds::{Holds, Placed};
use super::journal::Journal;
use super::log::entry;
use super::log::hold::HOLD_BYTES_MAX;
use crate::domain::slot::{HoldKey, SlotId};

/// What may still be said of a hold that is settled: given back, gone.
const SETTLED_RESERVE: u32 = 128;

/// What may still be said of one whose attempt is open: settled, and the one that it replaces gone.
const OPEN_RESERVE: u32 = HOLD_BYTES_MAX as u32 + SETTLED_RESERVE;

/// What a claim needs room for, for each slot.
pub(super) const HOLD_ROOM: u64 = (HOLD_BYTES_MAX as u64) + OPEN_RESERVE as u64;

// === impl Journal ===

impl Journal {
    /// A claim reserved this. `noted`: its attempt is sent, so the log has to know; one that is queued leaves no trace.
    pub(super) fn hold_began(&mut self, slot: SlotId, placed: &mut Placed, noted: bool) {
        self.set_aside_for(placed, OPEN_RESERVE + if noted { 0 } else { HOLD_BYTES_MAX as u32 });
        if noted {
            self.hold_whole(slot, placed);
        }
    }

    /// The hold is what it is from now on. `known`: the log knows of it, or has to from now on.
    pub(super) fn hold_changed(&mut self, slot: SlotId, placed: &mut Placed) {
        self.hold_whole(slot, placed);
        self.set_aside_for(placed, if placed.hold.is_open() { OPEN_RESERVE } else { SETTLED_RESERVE });
    }

    /// The hold was given back and is remembered.
    pub(super) fn hold_released(&mut self, slot: SlotId, placed: &mut Placed) {
        let (key, before) = (key_of(slot, placed), self.notes.len());
        entry::released(&mut self.notes, key, placed.hold.since);
        self.noted_holds.push((key, self.notes.len() - before));
    }

    /// The hold went away. `said`: that is to be written; what time alone does is not, it will do it again.
    pub(super) fn hold_removed(&mut self, slot: SlotId, placed: &Placed, said: bool) {
        self.reserved -= u64::from(placed.reserved);
        if placed.home == 0 {
            return;
        }
        self.live_bytes -= u64::from(placed.logged);
        self.leave_home(placed.home);
        if said {
            entry::freed(&mut self.notes, key_of(slot, placed));
        }
    }

    /// A hold was read back at the start.
    pub(super) fn hold_recovered(&mut self, placed: &mut Placed, segment: u32, bytes: u32) {
        placed.home = segment;
        placed.logged = bytes;
        self.live_bytes += u64::from(bytes);
        *self.homes.entry(segment).or_default() += 1;
        self.set_aside_for(placed, if placed.hold.is_open() { OPEN_RESERVE } else { SETTLED_RESERVE });
    }

    /// A hold is carried forward: it leaves its home and is written whole.
    pub(super) fn hold_carried(&mut self, slot: SlotId, placed: &mut Placed) {
        self.live_bytes -= u64::from(placed.logged);
        self.leave_home(placed.home);
        (placed.home, placed.logged) = (0, 0);
        self.hold_whole(slot, placed);
    }

    /// The notes of holds went to `segment`.
    pub(super) fn holds_noted(&mut self, holds: &mut Holds, segment: u32) {
        for (key, bytes) in std::mem::take(&mut self.noted_holds) {
            let Some(placed) = holds.get_mut(key) else { continue };
            placed.logged += bytes as u32;
            self.live_bytes += bytes as u64;
            if placed.home == 0 {
                placed.home = segment;
                *self.homes.entry(segment).or_default() += 1;
            }
        }
    }

    fn hold_whole(&mut self, slot: SlotId, placed: &mut Placed) {
        let before = self.notes.len();
        entry::hold(&mut self.notes, slot, &placed.hold);
        self.noted_holds.push((key_of(slot, placed), self.notes.len() - before));
    }

    fn set_aside_for(&mut self, placed: &mut Placed, bytes: u32) {
        self.reserved = self.reserved - u64::from(placed.reserved) + u64::from(bytes);
        placed.reserved = bytes;
    }
}

fn key_of(slot: SlotId, placed: &Placed) -> HoldKey {
    HoldKey { slot, token: placed.hold.token }
}
