//! Writing past the page cache: half of what a commit costs otherwise is copying it there and looking for what to write.
//!
//! The disk takes whole pages at aligned addresses, a block begins anywhere. So the page in which the last block ended is
//! kept, and written again with what follows it: the same bytes once more, then the new block, then the zeros that are
//! there already. That is what the page cache does too. A power loss in the middle leaves each sector as it was or as it
//! becomes, so it tears the new block and nothing before it.
//!
//! Answers are read through the page cache. It and the disk cannot differ: nothing in it is ever dirty, the kernel drops
//! the pages that are written past it, and a page that is read while it is written differs in the new block alone, which
//! nobody reads before it is synced.

use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, pwritev2};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What the disk takes at once, and where: larger than the sectors of all usual disks.
pub(super) const PAGE: usize = 4096;

/// A larger buffer is given back after it was used.
const KEPT_MAX: usize = 1 << 20;

/// Bytes that begin at an aligned address.
pub(super) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

/// A segment that is written, block behind block, past the page cache. What was written is durable.
pub(super) struct Direct {
    file: File,
    /// Begins with the page in which the last block ended.
    pages: Aligned,
    /// Behind the last block.
    end: u64,
}

/// Whether the disk said that it cannot be written past the page cache, rather than that something broke.
pub(super) fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Adds to `options` that writes go past the page cache.
pub(super) fn options(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(OFlags::DIRECT.bits().cast_signed())
}

/// Writes whole `pages` at `at`; they are durable when this returns. Said with each call rather than when the file is
/// opened, where the libraries have `O_SYNC` alone, which waits for the time of the last change too.
pub(super) fn write(file: &File, mut pages: &[u8], mut at: u64) -> io::Result<()> {
    while !pages.is_empty() {
        let written = pwritev2(file, &[IoSlice::new(pages)], at, ReadWriteFlags::DSYNC)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        pages = &pages[written..];
        at += written as u64;
    }
    Ok(())
}

// === impl Aligned ===

impl Aligned {
    /// So many zeros.
    pub(super) fn zeros(len: usize) -> Aligned {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Aligned { bytes, start, len }
    }

    /// The bytes.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    /// Makes it at least `len` bytes long; the first page stays as it is.
    fn grow(&mut self, len: usize) {
        if self.len < len {
            self.become_new(len.next_power_of_two());
        }
    }

    /// Gives back what an unusually large block took.
    fn shrink(&mut self) {
        if self.len > KEPT_MAX {
            self.become_new(KEPT_MAX);
        }
    }

    fn become_new(&mut self, len: usize) {
        let mut new = Aligned::zeros(len);
        new.bytes()[..PAGE].copy_from_slice(&self.bytes()[..PAGE]);
        *self = new;
    }
}

// === impl Direct ===

impl Direct {
    /// Opens the segment at `path` to write on at `end`. `read`: the same file, by way of the page cache.
    pub(super) fn open(path: &Path, read: &File, end: u64) -> io::Result<Direct> {
        if !read.metadata()?.len().is_multiple_of(PAGE as u64) {
            // Its last page would make it longer, and the length of a segment never changes.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let file = options(OpenOptions::new().write(true)).open(path)?;
        let mut pages = Aligned::zeros(16 * PAGE);
        let (page, before) = page_of(end);
        read.read_exact_at(&mut pages.bytes()[..before], page)?;
        Ok(Direct { file, pages, end })
    }

    /// Behind the last block.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Writes `block` at [`Direct::end`]. Behind it there must be nothing but zeros.
    pub(super) fn write(&mut self, block: &[u8]) -> io::Result<()> {
        let (page, before) = page_of(self.end);
        let end = before + block.len();
        let whole = end.next_multiple_of(PAGE);
        self.pages.grow(whole);
        let pages = self.pages.bytes();
        pages[before..end].copy_from_slice(block);
        pages[end..whole].fill(0);
        write(&self.file, &pages[..whole], page)?;
        let last = end - end % PAGE;
        pages.copy_within(last..end, 0);
        self.pages.shrink();
        self.end += block.len() as u64;
        Ok(())
    }
}

/// Where the page of `at` begins, and how many bytes of it lie before `at`.
fn page_of(at: u64) -> (u64, usize) {
    let before = at % PAGE as u64;
    (at - before, before as usize)
}
