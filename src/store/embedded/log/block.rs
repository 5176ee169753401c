//! The log's bytes: segments of blocks. A block is what one sync makes durable, so it is the unit of the checksum too:
//! after a crash it is there as a whole or not at all, and nobody was told of a block that is not.
//!
//! ```text
//! segment  header (512 B) | block | block | … | zeros
//! header   "oncegate" | version u32 | number u32 | salt u64 | length u64 | crc u32
//! block    magic u32 | length u32 | crc u32 | zero u32 | number u64 | time u64 | notes | zeros up to a multiple of 8
//! ```
//!
//! Block numbers count on from segment to segment without a gap. Checksums begin with the segment's random salt: bytes
//! that a client put into a body are never taken for a block.

use crate::domain::time::Millis;

/// Bytes before a segment's first block: one sector, which is never written again.
pub(in super::super) const SEGMENT_HEADER: usize = 512;

/// Bytes before a block's notes.
pub(in super::super) const BLOCK_HEADER: usize = 32;

/// The format that this version writes, and the only one that it reads.
pub(in super::super) const VERSION: u32 = 1;

const SEGMENT_MAGIC: &[u8; 8] = b"oncegate";
const BLOCK_MAGIC: [u8; 4] = [0x9e, b'O', b'G', 0xb1];

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct SegmentHead {
    /// Its number; segments are read in the order of their numbers.
    pub(in super::super) number: u32,
    /// Where its checksums begin.
    pub(in super::super) salt: u64,
    /// Its length in bytes, header included.
    pub(in super::super) len: u64,
}

/// A block that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Block {
    /// Its number.
    pub(in super::super) number: u64,
    /// The store's time when it was closed.
    pub(in super::super) time: Millis,
    /// Where its notes begin in the segment.
    pub(in super::super) notes_at: usize,
    /// Bytes of notes.
    pub(in super::super) notes_len: usize,
    /// Where the next block begins.
    pub(in super::super) next: usize,
}

// === impl SegmentHead ===

impl SegmentHead {
    /// The header's bytes.
    pub(in super::super) fn to_bytes(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.len.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header back; the error says what is wrong with it.
    pub(in super::super) fn from_bytes(bytes: &[u8]) -> Result<SegmentHead, String> {
        let bytes = bytes.get(..SEGMENT_HEADER).ok_or("it is shorter than a segment's header")?;
        if &bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 32) != crc32c::crc32c(&bytes[..32]) {
            return Err("its header is not a segment's".into());
        }
        if u32_at(bytes, 8) != VERSION {
            return Err(format!("its format is {}, this version reads {VERSION}", u32_at(bytes, 8)));
        }
        Ok(SegmentHead { number: u32_at(bytes, 12), salt: u64_at(bytes, 16), len: u64_at(bytes, 24) })
    }
}

// === blocks ===

/// Room for a block's header, to be filled by [`close`].
pub(in super::super) fn begin(block: &mut Vec<u8>) {
    block.clear();
    block.resize(BLOCK_HEADER, 0);
}

/// Fills in the header of a block whose notes are complete, and pads it.
pub(in super::super) fn close(block: &mut Vec<u8>, salt: u64, number: u64, time: Millis) {
    let len = (block.len() - BLOCK_HEADER) as u32;
    block[..4].copy_from_slice(&BLOCK_MAGIC);
    block[4..8].copy_from_slice(&len.to_le_bytes());
    block[8..16].fill(0);
    block[16..24].copy_from_slice(&number.to_le_bytes());
    block[24..32].copy_from_slice(&time.0.to_le_bytes());
    let crc = checksum(salt, block);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    block.resize(padded(block.len()), 0);
}

/// The length of a block of `len` bytes with its padding.
pub(in super::super) fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// The block at `at`, if a whole and right one is there.
pub(in super::super) fn read(segment: &[u8], salt: u64, at: usize) -> Option<Block> {
    let head = segment.get(at..at.checked_add(BLOCK_HEADER)?)?;
    if head[..4] != BLOCK_MAGIC {
        return None;
    }
    let notes_len = u32_at(head, 4) as usize;
    let end = at + BLOCK_HEADER + notes_len;
    let block = segment.get(at..end)?;
    if u32_at(head, 8) != checksum(salt, block) {
        return None;
    }
    Some(Block {
        number: u64_at(head, 16),
        time: Millis(u64_at(head, 24)),
        notes_at: at + BLOCK_HEADER,
        notes_len,
        next: padded(end),
    })
}

/// The first whole and right block at or after `from`, wherever it begins.
pub(in super::super) fn find(segment: &[u8], salt: u64, from: usize) -> Option<Block> {
    let rest = segment.get(from..)?;
    memchr::memmem::find_iter(rest, &BLOCK_MAGIC).find_map(|at| read(segment, salt, from + at))
}

fn checksum(salt: u64, block: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &block[4..8]);
    crc32c::crc32c_append(crc, &block[12..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}
