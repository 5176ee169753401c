//! Where kept answers are: one table for all workers, bounded by bytes. What is used least goes first.

use super::kept::Kept;
use crate::domain::read::ReadKey;
use crate::journal::Metrics;
use http::HeaderName;
use quick_cache::sync::{Cache as Table, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

/// What is known of a read.
#[derive(Clone)]
pub enum Slot {
    /// Its answer.
    Kept(Arc<Kept>),
    /// Until then nobody waits for anybody else's call: the answer was for its own request alone. Beside the answer's
    /// place, see [`ReadKey::aside`].
    Alone(Instant, &'static str),
    /// `key = "vary"`: what the backend named in `Vary`, and the number of the list of variants that begins here. Whatever ends
    /// one of them ends the list, and none is found again when another one is kept: what they are kept under has its number in it.
    Varies(Arc<[HeaderName]>, u64),
}

/// The kept answers.
pub struct Cache {
    table: Table<ReadKey, Slot, Weigh, Keyed>,
    lists: AtomicU64,
}

#[derive(Clone)]
struct Weigh;

/// Keys are digests: their first bytes are as good as any hash of them.
#[derive(Clone, Default)]
struct Keyed(u64);

/// What a slot without an answer costs.
const SLOT_BYTES: u64 = 160;
/// A usual answer, for sizing the table.
const ANSWER_BYTES: u64 = 2048;
/// Parts of the table that are locked singly; each has its part of the memory.
const PARTS: usize = 8;

// === impl Cache ===

impl Cache {
    /// Room for `memory` bytes.
    pub fn new(memory: u64) -> Cache {
        let items = usize::try_from(memory / ANSWER_BYTES).unwrap_or(usize::MAX).max(64);
        let options = OptionsBuilder::new()
            .shards(PARTS)
            .estimated_items_capacity(items)
            .weight_capacity(memory)
            .build()
            .expect("both capacities are set");
        let table = Table::with_options(options, Weigh, Keyed::default(), DefaultLifecycle::default());
        Cache { table, lists: AtomicU64::new(0) }
    }

    /// The list of variants by these names that is kept under `base`, or a new one.
    pub fn list(&self, base: &ReadKey, names: &[HeaderName], metrics: &Metrics) -> u64 {
        if let Some(Slot::Varies(known, list)) = self.get(base)
            && *known == *names
        {
            return list;
        }
        let list = self.lists.fetch_add(1, Relaxed);
        self.put(*base, Slot::Varies(names.into(), list), metrics);
        list
    }

    /// What is known of a read.
    pub fn get(&self, key: &ReadKey) -> Option<Slot> {
        self.table.get(key)
    }

    /// Notes something about a read, in place of what was known.
    pub fn put(&self, key: ReadKey, slot: Slot, metrics: &Metrics) {
        self.table.insert(key, slot);
        metrics.reads.kept(self.table.weight(), self.table.len());
    }

    /// Forgets a read.
    pub fn forget(&self, key: &ReadKey) {
        self.table.remove(key);
    }
}

impl Weighter<ReadKey, Slot> for Weigh {
    fn weight(&self, _: &ReadKey, slot: &Slot) -> u64 {
        match slot {
            Slot::Kept(kept) => kept.weight() + SLOT_BYTES,
            Slot::Alone(..) | Slot::Varies(..) => SLOT_BYTES,
        }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Keyed;

    fn build_hasher(&self) -> Keyed {
        Keyed(0)
    }
}

impl Hasher for Keyed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let first = bytes.first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
        self.0 ^= first;
    }

    /// The digest's length, which is always the same.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::TargetId;
    use crate::domain::read::{Keeping, Lifetime};
    use crate::domain::time::Millis;
    use crate::gateway::clock;
    use crate::gateway::reads::endings::Endings;
    use crate::gateway::reads::kept::Origin;
    use http::HeaderMap;
    use std::time::Duration;

    fn kept(bytes: usize) -> Slot {
        let keeping = Keeping {
            ttl: Duration::from_secs(1),
            overrides: false,
            stale_if_error: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
        };
        let lifetime = Lifetime::of(&HeaderMap::new(), &keeping, Millis(0), Duration::ZERO);
        let (came, resource) = (clock::now(), TargetId([0; 16]));
        let origin = Origin { came, born: Endings::new(came).moment(), resource };
        Slot::Kept(Arc::new(Kept::new(&HeaderMap::new(), &vec![0; bytes], lifetime, origin)))
    }

    #[test]
    fn what_is_kept_is_bounded_by_bytes() {
        let (memory, metrics) = (1 << 20, Metrics::for_tests());
        let cache = Cache::new(memory);
        for n in 0..2_000u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
            cache.put(ReadKey(key), kept(4096), &metrics);
            assert!(cache.table.weight() <= memory);
        }
        assert!(cache.table.len() > 100 && cache.table.len() < 260, "{}", cache.table.len());
    }

    #[test]
    fn an_answer_larger_than_a_part_is_not_kept_and_takes_nothing_along() {
        let cache = Cache::new(1 << 20);
        let metrics = Metrics::for_tests();
        cache.put(ReadKey([1; 32]), kept(100), &metrics);
        cache.put(ReadKey([2; 32]), kept(1 << 19), &metrics);
        assert!(cache.get(&ReadKey([1; 32])).is_some() && cache.get(&ReadKey([2; 32])).is_none());
    }
}
