//! The segments that are open, by number.

use super::block::SegmentHead;
use super::disk::{Disk, Segment};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// See the module.
pub(in super::super) struct Segments {
    /// Where they are.
    pub(in super::super) disk: Arc<dyn Disk>,
    open: Mutex<BTreeMap<u32, Opened>>,
    /// Bytes of a new segment.
    pub(in super::super) segment_bytes: u64,
}

/// A segment with what it takes to read and write it.
#[derive(Clone)]
pub(in super::super) struct Opened {
    /// The file.
    pub(in super::super) file: Arc<dyn Segment>,
    /// What it says of itself.
    pub(in super::super) head: SegmentHead,
}

// === impl Segments ===

impl Segments {
    /// No segments yet.
    pub(in super::super) fn new(disk: Arc<dyn Disk>, segment_bytes: u64) -> Segments {
        Segments { disk, open: Mutex::new(BTreeMap::new()), segment_bytes }
    }

    /// Makes the segment `number` of `len` bytes, all zeros, and opens it.
    pub(in super::super) fn create(&self, number: u32, salt: u64, len: u64) -> io::Result<Opened> {
        let head = SegmentHead { number, salt, len };
        let opened = Opened { file: self.disk.create(head)?, head };
        self.add(opened.clone());
        Ok(opened)
    }

    /// One that was opened elsewhere.
    pub(in super::super) fn add(&self, opened: Opened) {
        self.lock().insert(opened.head.number, opened);
    }

    /// The segment `number`, if it is there.
    pub(in super::super) fn get(&self, number: u32) -> Option<Opened> {
        self.lock().get(&number).cloned()
    }

    /// The oldest one, the newest one, and how many there are.
    pub(in super::super) fn span(&self) -> Option<(u32, u32, usize)> {
        let open = self.lock();
        Some((*open.first_key_value()?.0, *open.last_key_value()?.0, open.len()))
    }

    /// Bytes on disk.
    pub(in super::super) fn bytes(&self) -> u64 {
        self.lock().values().map(|opened| opened.head.len).sum()
    }

    /// Removes the segment `number`; who is reading it may finish. After an error it still counts as there.
    pub(in super::super) fn remove(&self, number: u32) -> io::Result<()> {
        self.disk.remove(number)?;
        self.lock().remove(&number);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Opened>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
