//! Reading the log back at the start.
//!
//! Blocks are read in the order of their numbers until one is missing. A power loss may leave the last block torn: it
//! was never durable, nobody was told of it, and it is cut off and reported. But the writer begins a block only when the
//! one before it is synced, so *any* later block behind a missing one proves that something durable was lost, and then
//! the store refuses to open.

use super::block::{self, SEGMENT_HEADER, SegmentHead};
use super::disk::Disk;
use super::entry::{self, Note};
use super::segments::{Opened, Segments};
use crate::domain::time::Millis;
use crate::store::OpenError;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Recovered {
    /// The number of the next block.
    pub(in super::super) next_block: u64,
    /// The number of the next segment.
    pub(in super::super) next_segment: u32,
    /// The latest instant that was written down.
    pub(in super::super) time: Millis,
    /// Bytes of the torn end.
    pub(in super::super) torn_bytes: u64,
    /// Blocks that were read.
    pub(in super::super) blocks: u64,
}

/// Where a note was found.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Found {
    /// The segment.
    pub(in super::super) segment: u32,
    /// Where in it the block's notes begin.
    pub(in super::super) notes_at: usize,
    /// Bytes of the note.
    pub(in super::super) bytes: usize,
}

/// Reads all segments of the disk and gives every note to `sink`, in order. Segments that hold nothing are removed.
pub(in super::super) fn recover(
    segments: &Segments,
    mut sink: impl FnMut(Found, Note),
) -> Result<Recovered, OpenError> {
    let disk = segments.disk.as_ref();
    let mut numbers = disk.list().map_err(OpenError::io("listing its segments"))?;
    numbers.sort_unstable();
    let mut recovered = Recovered { next_block: 1, next_segment: 1, ..Recovered::default() };
    let mut expected = None;
    // The place behind the last block that was read.
    let mut end: Option<(u32, usize)> = None;
    let mut empty = Vec::new();
    let mut bytes = Vec::new();
    for number in numbers {
        recovered.next_segment = number + 1;
        let opened = load(disk, number, &mut bytes)?;
        let mut at = SEGMENT_HEADER;
        let mut last_note = at;
        while let Some(block) = block::read(&bytes, opened.head.salt, at)
            && expected.is_none_or(|expected| expected == block.number)
        {
            let found = Found { segment: number, notes_at: block.notes_at, bytes: 0 };
            read_notes(disk, &bytes, &block, found, &mut sink)?;
            recovered.time = recovered.time.max(block.time);
            recovered.blocks += 1;
            expected = Some(block.number + 1);
            at = block.next;
            last_note = block.next;
        }
        if let Some(later) = block::find(&bytes, opened.head.salt, at) {
            let (segment, at) = end.filter(|_| at == SEGMENT_HEADER).unwrap_or((number, at));
            return Err(OpenError::Damaged {
                place: format!("{}, byte {at}", disk.name(segment)),
                what: format!(
                    "block {} cannot be read, but block {} behind it can",
                    expected.unwrap_or(0),
                    later.number
                ),
            });
        }
        let torn = bytes.get(last_note..).map_or(0, used);
        if at > SEGMENT_HEADER {
            end = Some((number, at));
            recovered.torn_bytes = torn;
            segments.add(opened);
        } else {
            // Nothing durable in it: a spare, perhaps with the torn end in it.
            recovered.torn_bytes += torn;
            empty.push(number);
        }
    }
    recovered.next_block = expected.unwrap_or(1);
    for number in empty {
        disk.remove(number).map_err(OpenError::io(format!("removing {}", disk.name(number))))?;
    }
    Ok(recovered)
}

/// Reads the whole segment `number` into `bytes`.
pub(in super::super) fn load(disk: &dyn Disk, number: u32, bytes: &mut Vec<u8>) -> Result<Opened, OpenError> {
    let name = disk.name(number);
    let file = disk.open(number).map_err(OpenError::io(format!("opening {name}")))?;
    let len = file.len().map_err(OpenError::io(format!("reading {name}")))?;
    bytes.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
    file.read_at(bytes, 0).map_err(OpenError::io(format!("reading {name}")))?;
    let damaged = |what| OpenError::Damaged { place: name.clone(), what };
    let head = SegmentHead::from_bytes(bytes).map_err(damaged)?;
    if head.number != number || head.len != len {
        return Err(damaged(format!(
            "it says that it is segment {} of {} bytes, but it is {number} of {len}",
            head.number, head.len
        )));
    }
    Ok(Opened { file, head })
}

fn read_notes(
    disk: &dyn Disk,
    bytes: &[u8],
    block: &block::Block,
    found: Found,
    sink: &mut impl FnMut(Found, Note),
) -> Result<(), OpenError> {
    let notes = &bytes[block.notes_at..block.notes_at + block.notes_len];
    let mut at = 0;
    loop {
        match entry::read(notes, at) {
            Ok(Some((note, next))) => {
                sink(Found { bytes: next - at, ..found }, note);
                at = next;
            }
            Ok(None) => return Ok(()),
            Err(entry::Unreadable) => {
                return Err(OpenError::Damaged {
                    place: format!("{}, byte {}", disk.name(found.segment), block.notes_at + at),
                    what: format!(
                        "a note of block {} is of a kind that this version does not know",
                        block.number
                    ),
                });
            }
        }
    }
}

/// Bytes up to the last one that is not zero.
fn used(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}
