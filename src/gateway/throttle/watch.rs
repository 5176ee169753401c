//! Who polls how often: the domain's watch behind its locks.

use crate::domain::poll::{Alarm, Read, Storm, Watch};
use crate::domain::throttle::Nanos;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shards of the watch.
const SHARDS: usize = 16;
/// Paths of clients that a shard watches: all together about 700 kB.
const ENTRIES: usize = 512;

/// Shared by all workers, so that a client's connections are seen together wherever they landed.
pub struct Watches {
    shards: Box<[Mutex<Watch>]>,
}

// === impl Watches ===

impl Default for Watches {
    fn default() -> Watches {
        Watches { shards: (0..SHARDS).map(|_| Mutex::new(Watch::new(ENTRIES))).collect() }
    }
}

impl Watches {
    /// See [`Watch::note`].
    pub fn note(&self, read: &Read, alarm: &Alarm, now: Nanos) -> Option<Storm> {
        self.lock(read.key).note(read, alarm, now)
    }

    /// See [`Watch::absorbed`].
    pub fn absorbed(&self, key: u64) {
        self.lock(key).absorbed(key);
    }

    fn lock(&self, key: u64) -> MutexGuard<'_, Watch> {
        self.shards[key as usize & (SHARDS - 1)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
