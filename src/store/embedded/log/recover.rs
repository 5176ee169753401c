//! Reading the log back at the start.
//!
//! Blocks are read in the order of their numbers until one is missing. A power loss may leave the last block torn: it
//! was never durable, nobody was told of it, and it is cut off and reported. But the writer begins a block only when the
//! one before it is synced, so *any* later block behind a missing one proves that something durable was lost, and then
//! the store refuses to open.

use super::block::{self, SEGMENT_HEADER, SegmentHead};
use super::disk::Disk;
use super::entry::{self, Note};
use super::room::Room;
use super::segments::{Opened, Segments};
use crate::domain::time::Millis;
use crate::store::OpenError;

/// What was found.
#[derive(Debug, Default)]
pub(in super::super) struct Recovered {
    /// The number of the next block.
    pub(in super::super) next_block: u64,
    /// The number of the next segment.
    pub(in super::super) next_segment: u32,
    /// Segments to write on in: behind the last block, where nothing torn lies there, and unused ones.
    pub(in super::super) room: Vec<Room>,
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

/// Reads all segments of the disk and gives every note to `sink`, in order.
pub(in super::super) fn recover(
    segments: &Segments,
    mut sink: impl FnMut(Found, Note),
) -> Result<Recovered, OpenError> {
    let disk = segments.disk.as_ref();
    let mut numbers = disk.list().map_err(OpenError::io("listing its segments"))?;
    numbers.sort_unstable();
    let mut recovered = Recovered { next_block: 1, next_segment: 1, ..Recovered::default() };
    let mut expected = None;
    // The segment with the last block that was read, and the place behind it.
    let mut end: Option<(Opened, usize)> = None;
    let mut bytes = Vec::new();
    for number in numbers {
        recovered.next_segment = number + 1;
        let opened = load(disk, number, &mut bytes)?;
        let mut at = SEGMENT_HEADER;
        while let Some(block) = block::read(&bytes, opened.head.salt, at)
            && expected.is_none_or(|expected| expected == block.number)
        {
            let found = Found { segment: number, notes_at: block.notes_at, bytes: 0 };
            read_notes(disk, &bytes, &block, found, &mut sink)?;
            recovered.time = recovered.time.max(block.time);
            recovered.blocks += 1;
            expected = Some(block.number + 1);
            at = block.next;
        }
        let torn_bytes = used(&bytes[at.min(bytes.len())..]);
        let rest = &bytes[..at.min(bytes.len()) + torn_bytes];
        if let Some(later) = block::find(rest, opened.head.salt, at) {
            let here = (number, at);
            let (segment, at) = match &end {
                Some((last, at)) if here.1 == SEGMENT_HEADER => (last.head.number, *at),
                _ => here,
            };
            return Err(OpenError::Damaged {
                place: format!("{}, byte {at}", disk.name(segment)),
                what: format!(
                    "block {} cannot be read, but block {} behind it can",
                    expected.unwrap_or(0),
                    later.number
                ),
            });
        }
        if at > SEGMENT_HEADER {
            // Older segments are not written any more, whatever lies behind their last block.
            recovered.room.clear();
            recovered.torn_bytes = 0;
        }
        recovered.torn_bytes += torn_bytes as u64;
        if torn_bytes == 0 {
            recovered.room.push(Room { segment: number, at: at as u64, end: opened.head.len });
        } else if at == SEGMENT_HEADER {
            // The torn end is all that is in it.
            disk.remove(number).map_err(OpenError::io(format!("removing {}", disk.name(number))))?;
            continue;
        }
        segments.add(opened.clone());
        if at > SEGMENT_HEADER {
            end = Some((opened, at));
        }
    }
    if let Some((last, _)) = end {
        // A killed process may have written its last block without syncing it. From here on it counts as durable.
        let name = disk.name(last.head.number);
        last.file.sync().map_err(OpenError::io(format!("syncing {name}")))?;
    }
    recovered.next_block = expected.unwrap_or(1);
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

/// Bytes up to the last one that is not zero. Whole pages are compared first: nearly all of them are zeros.
fn used(bytes: &[u8]) -> usize {
    const PAGE: usize = 4096;
    let mut end = bytes.len();
    while end >= PAGE && bytes[end - PAGE..end] == [0; PAGE] {
        end -= PAGE;
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
