//! Where a recorded answer is, and how many bytes of answers are in memory.
//!
//! A store in memory holds every answer here and makes tombstones when it is full. A store on disk holds the recent
//! ones and reads the others back.

use crate::domain::answer::Answer;
use crate::domain::ledger::RecordId;
use http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;

/// The answer of a record that is done.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The recorded status, so that a listing reads no answer.
    pub(super) status: u16,
    /// Where it is on disk.
    pub(super) place: Option<Place>,
    /// Its bytes, where they are in memory.
    pub(super) cached: Option<Answer>,
    /// Its age in the order of [`Recent`].
    pub(super) stamp: u64,
}

/// Bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's number.
    pub(super) segment: u32,
    /// Where in it the answer begins.
    pub(super) at: u32,
    /// How many bytes it has.
    pub(super) len: u32,
    /// CRC-32C of those bytes.
    pub(super) crc: u32,
}

/// Counts the answers in memory, and knows which one is the oldest.
pub(super) struct Recent {
    bytes: u64,
    bytes_max: u64,
    cools: bool,
    order: BTreeMap<u64, RecordId>,
    next_stamp: u64,
}

// === impl Kept ===

impl Kept {
    /// An answer that is in memory and nowhere else yet.
    pub(super) fn new(answer: Answer) -> Kept {
        Kept { status: answer.status().as_u16(), place: None, cached: Some(answer), stamp: 0 }
    }
}

/// The smallest tombstone of `answer`: its headers go too where they are larger than `bytes_max`.
pub(super) fn tombstone(answer: &Answer, bytes_max: usize) -> Answer {
    let stone = answer.to_tombstone();
    if stone.as_bytes().len() <= bytes_max {
        return stone;
    }
    Answer::new(answer.status(), &HeaderMap::new(), None)
}

/// What is certain of an answer whose bytes cannot be read: that the request was executed, and with which status.
pub(super) fn status_alone(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    Answer::new(status, &HeaderMap::new(), None)
}

// === impl Recent ===

impl Recent {
    /// Room for `bytes_max` bytes of answers. `cools`: they leave memory by age when there are more.
    pub(super) fn new(bytes_max: u64, cools: bool) -> Recent {
        Recent { bytes: 0, bytes_max, cools, order: BTreeMap::new(), next_stamp: 1 }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether `len` more bytes fit.
    pub(super) fn fits(&self, len: usize) -> bool {
        self.bytes.saturating_add(len as u64) <= self.bytes_max
    }

    /// `kept` comes into memory as the youngest.
    pub(super) fn enter(&mut self, id: RecordId, kept: &mut Kept) {
        let Some(answer) = &kept.cached else { return };
        self.bytes += answer.as_bytes().len() as u64;
        if !self.cools {
            return;
        }
        kept.stamp = self.next_stamp;
        self.next_stamp += 1;
        self.order.insert(kept.stamp, id);
    }

    /// `kept` leaves memory.
    pub(super) fn leave(&mut self, kept: &mut Kept) {
        let Some(answer) = kept.cached.take() else { return };
        self.bytes -= answer.as_bytes().len() as u64;
        if self.cools {
            self.order.remove(&kept.stamp);
        }
    }

    /// Whose answer has to leave memory to get below the limit.
    pub(super) fn oldest_over_limit(&self) -> Option<RecordId> {
        if self.bytes <= self.bytes_max {
            return None;
        }
        self.order.first_key_value().map(|(_, id)| *id)
    }
}
