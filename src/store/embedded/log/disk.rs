//! The disk as the log sees it: segments that are made, written, synced, read and removed. A trait, so that tests can
//! lose power, fill up and break at any point.

use super::block::{SEGMENT_HEADER, SegmentHead};
use super::direct::{self, Aligned, Direct};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes written at once when a segment is filled with zeros.
const FILL: usize = 1 << 20;

/// A place for segments.
pub(in super::super) trait Disk: Send + Sync {
    /// The numbers of all segments, in no order.
    fn list(&self) -> io::Result<Vec<u32>>;
    /// Opens the segment `number`.
    fn open(&self, number: u32) -> io::Result<Arc<dyn Segment>>;
    /// Makes a segment with all its bytes allocated. When this returns it is there after a power loss too.
    fn create(&self, head: SegmentHead) -> io::Result<Arc<dyn Segment>>;
    /// Removes the segment `number`, if it is there. When this returns it is gone after a power loss too. Who has it open
    /// may read on.
    fn remove(&self, number: u32) -> io::Result<()>;
    /// How an operator finds the segment `number`.
    fn name(&self, number: u32) -> String;
}

/// One file of the log. Its length never changes.
pub(in super::super) trait Segment: Send + Sync {
    /// Fills `bytes` from `at` on.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `at`, behind which there are only zeros; durable after the next [`Segment::sync`].
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Everything written is durable when this returns.
    fn sync(&self) -> io::Result<()>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// A directory.
pub(in super::super) struct Directory {
    path: PathBuf,
    pen: Arc<Mutex<Pen>>,
}

/// How the log is written: past the page cache, unless the disk refuses that. Only one segment is written at a time.
#[derive(Default)]
struct Pen {
    refused: bool,
    /// The segment that was written last.
    at: Option<(u32, Direct)>,
}

/// A file of a directory.
struct Stored {
    number: u32,
    path: PathBuf,
    /// For reading, and for writing where the disk refuses to be written past the page cache.
    file: File,
    /// Something may be in the page cache alone: what an earlier life wrote, at first.
    unsynced: AtomicBool,
    pen: Arc<Mutex<Pen>>,
}

// === impl Directory ===

impl Directory {
    /// Keeps segments in `path`, which exists.
    pub(in super::super) fn new(path: PathBuf) -> Directory {
        Directory { path, pen: Arc::default() }
    }

    fn path_of(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:010}.log"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for file in std::fs::read_dir(&self.path)? {
            let name = file?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(".log.new") {
                // A segment that was never finished.
                std::fs::remove_file(self.path.join(name))?;
            } else if let Some(number) = name.strip_suffix(".log").and_then(|number| number.parse().ok()) {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    fn open(&self, number: u32) -> io::Result<Arc<dyn Segment>> {
        let path = self.path_of(number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let (unsynced, pen) = (AtomicBool::new(true), Arc::clone(&self.pen));
        Ok(Arc::new(Stored { number, path, file, unsynced, pen }))
    }

    /// Zeros are written rather than only allocated: a commit then overwrites bytes that exist, and its sync has no
    /// metadata to write (docs/store.md has the figures).
    fn create(&self, head: SegmentHead) -> io::Result<Arc<dyn Segment>> {
        let path = self.path_of(head.number);
        let unfinished = path.with_extension("log.new");
        let refused = pen(&self.pen).refused;
        let made = (|| {
            match fill(&unfinished, head, !refused) {
                Err(error) if !refused && direct::is_refused(&error) => fill(&unfinished, head, false)?,
                filled => filled?,
            }
            std::fs::rename(&unfinished, &path)?;
            self.sync()?;
            self.open(head.number)
        })();
        if made.is_err() {
            // Whatever it took is given back; if even that fails the next start does it.
            drop(std::fs::remove_file(&unfinished));
        }
        made
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        match std::fs::remove_file(self.path_of(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    fn name(&self, number: u32) -> String {
        self.path_of(number).display().to_string()
    }
}

/// Writes a new segment's bytes, and makes them durable. Only its owner may read it, whoever may read the directory.
/// `directly`: past the page cache.
fn fill(path: &Path, head: SegmentHead, directly: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = if directly { direct::options(&mut options) } else { &mut options }.open(path)?;
    let mut zeros = Aligned::zeros(FILL);
    zeros.bytes()[..SEGMENT_HEADER].copy_from_slice(&head.to_bytes());
    let mut at = 0;
    while at < head.len {
        let piece = (head.len - at).min(FILL as u64);
        let bytes = &zeros.bytes()[..piece as usize];
        // In small steps: a commit that comes in between waits for one of them, not for the whole segment.
        if directly {
            direct::write(&file, bytes, at)?;
        } else {
            file.write_all_at(bytes, at)?;
            file.sync_data()?;
        }
        zeros.bytes()[..SEGMENT_HEADER].fill(0);
        at += piece;
    }
    file.sync_all()
}

fn pen(pen: &Mutex<Pen>) -> MutexGuard<'_, Pen> {
    pen.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Pen ===

impl Pen {
    /// Writes past the page cache. False where the disk refuses that; then it is not asked again.
    fn write(&mut self, segment: &Stored, bytes: &[u8], at: u64) -> io::Result<bool> {
        if self.refused {
            return Ok(false);
        }
        match self.place(segment, at).and_then(|direct| direct.write(bytes)) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.at = None;
                self.refused = direct::is_refused(&error);
                if self.refused { Ok(false) } else { Err(error) }
            }
        }
    }

    /// Goes to where the block is to be written, which is where the last one ended, but for the first of a segment.
    fn place(&mut self, segment: &Stored, at: u64) -> io::Result<&mut Direct> {
        let is_there = |(number, direct): &(u32, Direct)| *number == segment.number && direct.end() == at;
        let direct = match self.at.take().filter(is_there) {
            Some((_, direct)) => direct,
            None => Direct::open(&segment.path, &segment.file, at)?,
        };
        Ok(&mut self.at.insert((segment.number, direct)).1)
    }
}

// === impl Stored ===

impl Segment for Stored {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if pen(&self.pen).write(self, bytes, at)? {
            return Ok(());
        }
        self.unsynced.store(true, Ordering::Relaxed);
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        if self.unsynced.load(Ordering::Relaxed) {
            self.file.sync_data()?;
            self.unsynced.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const LEN: u64 = 3 << 20;

    /// A directory, and another life of it that goes past the page cache where the disk lets it, or does not.
    fn directory(directly: bool) -> (tempfile::TempDir, impl Fn() -> Directory) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        let life = move || {
            let directory = Directory::new(path.clone());
            pen(&directory.pen).refused = !directly;
            directory
        };
        (dir, life)
    }

    fn head(number: u32, len: u64) -> SegmentHead {
        SegmentHead { number, salt: 7, len }
    }

    fn on_disk(directory: &Directory, number: u32) -> Vec<u8> {
        std::fs::read(directory.path_of(number)).expect("it is there")
    }

    /// Lengths around pages, and others.
    fn lengths() -> impl Iterator<Item = usize> {
        let around =
            [8, 504, 3_072, 4_096, 4_088, 8, 16, 8_192, 12_280, 600, 4_104, 100_000, 8, 1_300_000, 64];
        around.into_iter().chain((1..60_usize).map(|n| (n * n * 97) % 9_001 + 1))
    }

    #[test]
    fn a_block_changes_nothing_but_its_own_bytes() {
        for directly in [true, false] {
            let (_dir, life) = directory(directly);
            let mut now = life();
            let mut segment = now.create(head(1, LEN)).expect("room");
            let mut wanted = on_disk(&now, 1);
            assert!(wanted[..SEGMENT_HEADER] == head(1, LEN).to_bytes());
            assert!(wanted[SEGMENT_HEADER..].iter().all(|byte| *byte == 0) && wanted.len() as u64 == LEN);
            let mut at = SEGMENT_HEADER;
            for (n, len) in lengths().enumerate() {
                if n % 5 == 4 {
                    now = life();
                    segment = now.open(1).expect("it is there");
                }
                // What was read before the block was written is not what is read behind it.
                let mut read = vec![0; len];
                segment.read_at(&mut read, at as u64).expect("zeros");
                let block = vec![n as u8 + 1; len];
                segment.write_at(&block, at as u64).and_then(|()| segment.sync()).expect("written");
                wanted[at..at + len].copy_from_slice(&block);
                segment.read_at(&mut read, at as u64).expect("the block");
                assert!(read == block && on_disk(&now, 1) == wanted, "{directly}: block {n} at {at}");
                // Now and then something is left out.
                at += len + if n % 7 == 6 { 3_000 } else { 0 };
            }
        }
    }

    #[test]
    fn two_segments_in_turn_keep_what_is_theirs() {
        let (_dir, life) = directory(true);
        let directory = life();
        let segments = [1, 2].map(|number| directory.create(head(number, LEN)).expect("room"));
        for at in (600..20_000).step_by(700) {
            for (segment, byte) in segments.iter().zip([1, 2]) {
                segment.write_at(&[byte; 700], at).expect("written");
            }
        }
        for (number, byte) in [(1, 1), (2, 2)] {
            let bytes = on_disk(&directory, number);
            assert!(bytes[600..20_000].iter().all(|found| *found == byte), "segment {number}");
        }
    }

    #[test]
    fn only_its_owner_reads_a_segment() {
        for directly in [true, false] {
            let (_dir, life) = directory(directly);
            let directory = life();
            directory.create(head(1, LEN)).expect("room");
            let mode = std::fs::metadata(directory.path_of(1)).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_segment_that_is_gone_can_be_removed_again() {
        let (_dir, life) = directory(true);
        let directory = life();
        directory.create(head(1, LEN)).expect("room");
        directory.remove(1).and_then(|()| directory.remove(1)).expect("it is gone");
        assert!(directory.list().expect("a list").is_empty());
    }

    #[test]
    fn the_length_of_a_segment_never_changes() {
        for directly in [true, false] {
            let (_dir, life) = directory(directly);
            let directory = life();
            let segment = directory.create(head(1, 10_000)).expect("room");
            segment.write_at(&[1; 1_000], 9_000).and_then(|()| segment.sync()).expect("written");
            assert_eq!((on_disk(&directory, 1).len(), segment.len().expect("a length")), (10_000, 10_000));
        }
    }

    #[test]
    fn only_what_went_past_the_page_cache_needs_no_sync() {
        for directly in [true, false] {
            let (_dir, life) = directory(directly);
            let directory = life();
            directory.create(head(1, LEN)).expect("room");
            let file =
                OpenOptions::new().read(true).write(true).open(directory.path_of(1)).expect("it is there");
            let (path, pen) = (directory.path_of(1), Arc::clone(&directory.pen));
            let segment = Stored { number: 1, path, file, unsynced: AtomicBool::new(true), pen };
            let unsynced = || segment.unsynced.load(Ordering::Relaxed);
            segment.write_at(&[1; 100], 600).expect("written");
            assert!(unsynced(), "an earlier life may have left something");
            segment.sync().expect("synced");
            assert!(!unsynced());
            segment.write_at(&[2; 100], 700).expect("written");
            let refused = super::pen(&directory.pen).refused;
            assert_eq!(unsynced(), refused, "refused: {refused}");
        }
    }
}
