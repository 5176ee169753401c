//! A disk in memory that remembers every operation in order, so that a test can ask what any moment would have left.

use crate::store::embedded::log::block::SegmentHead;
use crate::store::embedded::log::disk::{Disk, Segment};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// One thing that happened to the disk.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    Created(SegmentHead),
    Wrote { number: u32, at: u64, bytes: Vec<u8> },
    Synced,
    Removed(u32),
}

/// What is to go wrong, and what there is.
#[derive(Default)]
pub(super) struct World {
    files: BTreeMap<u32, Vec<u8>>,
    pub(super) history: Vec<Happened>,
    /// Bytes of all segments together.
    pub(super) capacity: Option<u64>,
    /// Syncs and writes fail from now on.
    pub(super) broken: bool,
    /// Reads fail from now on.
    pub(super) unreadable: bool,
    /// Reads of this segment fail.
    pub(super) bad: Option<u32>,
    /// This segment cannot be removed.
    pub(super) stuck: Option<u32>,
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Faulty(Arc<Mutex<World>>);

struct File {
    disk: Faulty,
    number: u32,
    /// Who has it open reads on after it was removed.
    last: Mutex<Vec<u8>>,
}

// === impl Faulty ===

impl Faulty {
    /// A disk with these files.
    pub(super) fn with(files: BTreeMap<u32, Vec<u8>>) -> Faulty {
        Faulty(Arc::new(Mutex::new(World { files, ..World::default() })))
    }

    /// For changing what goes wrong, and for looking.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    /// Flips a bit of the place where these bytes are.
    pub(super) fn flip_in(&self, bytes: &[u8]) {
        for file in self.world().files.values_mut() {
            if let Some(at) = memchr::memmem::find(file, bytes) {
                file[at] ^= 1;
            }
        }
    }

    /// The files as they are.
    pub(super) fn files(&self) -> BTreeMap<u32, Vec<u8>> {
        self.world().files.clone()
    }
}

/// The files that the first operations of `history` leave.
pub(super) fn files_after(history: &[Happened]) -> BTreeMap<u32, Vec<u8>> {
    let mut files = BTreeMap::new();
    history.iter().for_each(|happened| happen(&mut files, happened));
    files
}

/// Carries one operation out.
pub(super) fn happen(files: &mut BTreeMap<u32, Vec<u8>>, happened: &Happened) {
    match happened {
        Happened::Created(head) => {
            let mut bytes = vec![0; head.len as usize];
            bytes[..512].copy_from_slice(&head.to_bytes());
            files.insert(head.number, bytes);
        }
        Happened::Wrote { number, at, bytes } => {
            let file = files.get_mut(number).expect("only files that are there are written");
            file[*at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        Happened::Synced => {}
        Happened::Removed(number) => drop(files.remove(number)),
    }
}

impl World {
    fn happens(&mut self, happened: Happened) {
        happen(&mut self.files, &happened);
        self.history.push(happened);
    }
}

impl Disk for Faulty {
    fn list(&self) -> io::Result<Vec<u32>> {
        Ok(self.world().files.keys().copied().collect())
    }

    fn open(&self, number: u32) -> io::Result<Arc<dyn Segment>> {
        let last = Mutex::new(self.world().files.get(&number).ok_or(io::ErrorKind::NotFound)?.clone());
        Ok(Arc::new(File { disk: self.clone(), number, last }))
    }

    fn create(&self, head: SegmentHead) -> io::Result<Arc<dyn Segment>> {
        {
            let mut world = self.world();
            let used: usize = world.files.values().map(Vec::len).sum();
            if world.capacity.is_some_and(|capacity| used as u64 + head.len > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            world.happens(Happened::Created(head));
        }
        self.open(head.number)
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        let mut world = self.world();
        if world.stuck == Some(number) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        world.happens(Happened::Removed(number));
        Ok(())
    }

    fn name(&self, number: u32) -> String {
        format!("segment {number}")
    }
}

impl Segment for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let world = self.disk.world();
        if world.unreadable || world.bad == Some(self.number) {
            return Err(io::Error::other("unreadable sector"));
        }
        let mut last = self.last.lock().expect("no test panics while it reads");
        if let Some(file) = world.files.get(&self.number) {
            last.clone_from(file);
        }
        bytes.copy_from_slice(
            last.get(at as usize..at as usize + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?,
        );
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        if world.broken {
            return Err(io::Error::other("broken disk"));
        }
        world.happens(Happened::Wrote { number: self.number, at, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        if world.broken {
            return Err(io::Error::other("broken disk"));
        }
        world.happens(Happened::Synced);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let world = self.disk.world();
        Ok(world.files.get(&self.number).map_or(0, |file| file.len() as u64))
    }
}
