//! Keeping the log small: what is still alive in the oldest segment is written again at the end, and the segment goes.
//!
//! Always the oldest: a note only ever takes back what an older or the same segment says, so with nothing older left it
//! can be forgotten together with what it took back.

use super::block::{self, SEGMENT_HEADER};
use super::entry::{self, Note};
use super::recover;
use super::segments::Segments;
use crate::domain::ledger::RecordId;
use crate::domain::slot::HoldKey;
use crate::store::OpenError;

/// Segments that are never worth compacting.
const SEGMENTS_MIN: u64 = 4;

/// Whether `segments` written segments are too many for `live_bytes`: at most twice what is alive, and a few.
pub(in super::super) fn is_due(segments: u64, segment_bytes: u64, live_bytes: u64, full: bool) -> bool {
    let used = segments * segment_bytes;
    if full {
        return segments > 1 && used > live_bytes + 2 * segment_bytes;
    }
    used > 2 * live_bytes + SEGMENTS_MIN * segment_bytes
}

/// What begins in a segment.
#[derive(Default)]
pub(in super::super) struct Begun {
    /// Records.
    pub(in super::super) records: Vec<RecordId>,
    /// Holds.
    pub(in super::super) holds: Vec<HoldKey>,
}

/// The records and the holds that begin in the segment `number`, in the order in which they do; as far as it can be read.
pub(in super::super) fn begun_in(segments: &Segments, number: u32) -> Result<Begun, OpenError> {
    let mut bytes = Vec::new();
    let opened = recover::load(segments.disk.as_ref(), number, &mut bytes)?;
    let mut begun = Begun::default();
    let mut at = SEGMENT_HEADER;
    while let Some(found) = block::read(&bytes, opened.head.salt, at) {
        let notes = &bytes[found.notes_at..found.notes_at + found.notes_len];
        let mut next = 0;
        while let Ok(Some((note, after))) = entry::read(notes, next) {
            match note {
                Note::Whole { id, .. } => begun.records.push(id),
                Note::Hold { slot, hold } => begun.holds.push(HoldKey { slot, token: hold.token }),
                _ => {}
            }
            next = after;
        }
        at = found.next;
    }
    Ok(begun)
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn the_log_takes_at_most_twice_what_is_alive_and_a_few_segments() {
        assert!(!is_due(4, 100, 0, false));
        assert!(is_due(5, 100, 0, false));
        assert!(!is_due(24, 100, 1_000, false));
        assert!(is_due(25, 100, 1_000, false));
    }

    #[test]
    fn a_full_disk_makes_smaller_gains_worth_while() {
        assert!(is_due(3, 100, 50, true) && !is_due(3, 100, 50, false));
        assert!(!is_due(1, 100, 0, true), "the segment in use stays");
    }
}
