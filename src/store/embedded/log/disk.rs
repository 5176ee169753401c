//! The disk as the log sees it: segments that are made, written, synced, read and removed. A trait, so that tests can
//! lose power, fill up and break at any point.

use super::block::SegmentHead;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Removes the segment `number`. Who has it open may read on.
    fn remove(&self, number: u32) -> io::Result<()>;
    /// How an operator finds the segment `number`.
    fn name(&self, number: u32) -> String;
}

/// One file of the log. Its length never changes.
pub(in super::super) trait Segment: Send + Sync {
    /// Fills `bytes` from `at` on.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `at`; durable after the next [`Segment::sync`].
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Everything written is durable when this returns.
    fn sync(&self) -> io::Result<()>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// A directory.
pub(in super::super) struct Directory {
    path: PathBuf,
}

// === impl Directory ===

impl Directory {
    /// Keeps segments in `path`, which exists.
    pub(in super::super) fn new(path: PathBuf) -> Directory {
        Directory { path }
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
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path_of(number))?))
    }

    /// Zeros are written rather than only allocated: a commit then overwrites bytes that exist, and its sync has no
    /// metadata to write (docs/store.md has the figures).
    fn create(&self, head: SegmentHead) -> io::Result<Arc<dyn Segment>> {
        let path = self.path_of(head.number);
        let unfinished = path.with_extension("log.new");
        let made = (|| {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(true).open(&unfinished)?;
            file.write_all(&head.to_bytes())?;
            let zeros = vec![0; FILL];
            let mut left = head.len.saturating_sub(super::block::SEGMENT_HEADER as u64);
            while left > 0 {
                let piece = left.min(FILL as u64);
                file.write_all(&zeros[..piece as usize])?;
                // In small steps: a commit that comes in between waits for one of them, not for the whole segment.
                file.sync_data()?;
                left -= piece;
            }
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            self.sync()?;
            Ok(file)
        })();
        if made.is_err() {
            // Whatever it took is given back; if even that fails the next start does it.
            drop(std::fs::remove_file(&unfinished));
        }
        made.map(|file: File| Arc::new(file) as Arc<dyn Segment>)
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        std::fs::remove_file(self.path_of(number))
    }

    fn name(&self, number: u32) -> String {
        self.path_of(number).display().to_string()
    }
}

// === impl Segment ===

impl Segment for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
