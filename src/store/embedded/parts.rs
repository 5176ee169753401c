//! A hash map in 256 parts. Growing one part moves a 256th of the entries, so no command ever waits for a table of a
//! million records to be copied; and a listing in the order of the keys sorts one part at a time.

use crate::domain::client::ScopeId;
use crate::domain::ledger::{RecordId, TargetId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Keys are digests: their first byte chooses the part.
pub(super) trait Digest: Eq + std::hash::Hash + Ord + Copy {
    /// The byte that chooses the part.
    fn first_byte(&self) -> u8;
}

/// See the module.
pub(super) struct Parts<K, V> {
    parts: Box<[HashMap<K, V, Seed>]>,
    len: usize,
}

/// Makes [`Fold`]s. The seed keeps callers who choose what is digested from aiming at one bucket.
#[derive(Clone, Copy)]
struct Seed(u64);

/// Folds eight bytes of a digest with a secret; everything else about the key is ignored.
struct Fold {
    seed: u64,
    hash: u64,
}

// === impl Digest ===

impl Digest for RecordId {
    fn first_byte(&self) -> u8 {
        self.0[0]
    }
}

impl Digest for ScopeId {
    fn first_byte(&self) -> u8 {
        self.0[0]
    }
}

impl Digest for TargetId {
    fn first_byte(&self) -> u8 {
        self.0[0]
    }
}

// === impl Parts ===

impl<K: Digest, V> Parts<K, V> {
    /// An empty map.
    pub(super) fn new() -> Parts<K, V> {
        let seed = Seed(RandomState::new().hash_one(0) | 1);
        Parts { parts: (0..256).map(|_| HashMap::with_hasher(seed)).collect(), len: 0 }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.part(key).get(key)
    }

    /// The value under `key`.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.parts[usize::from(key.first_byte())].get_mut(key)
    }

    /// The value under `key`; the default one where there was none.
    pub(super) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        match self.parts[usize::from(key.first_byte())].entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.len += 1;
                entry.insert(V::default())
            }
        }
    }

    /// Puts `value` under `key` and gives back what was there.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.parts[usize::from(key.first_byte())].insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes out what is under `key`.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.parts[usize::from(key.first_byte())].remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// The entries whose keys begin with `byte`, in no order.
    pub(super) fn of_part(&self, byte: u8) -> impl Iterator<Item = (&K, &V)> {
        self.parts[usize::from(byte)].iter()
    }

    fn part(&self, key: &K) -> &HashMap<K, V, Seed> {
        &self.parts[usize::from(key.first_byte())]
    }
}

// === impl Fold ===

impl BuildHasher for Seed {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { seed: self.0, hash: 0 }
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        // The first byte is the same all over a part, so the last eight are taken.
        let tail = bytes.last_chunk::<8>().map_or(0, |tail| u64::from_le_bytes(*tail));
        let other = self.seed.rotate_left(32) | 1;
        self.hash = folded(folded(self.hash ^ tail ^ self.seed, other) ^ other, self.seed);
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// Both halves of the product.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_counted_and_taken_out() {
        let mut map = Parts::new();
        for n in 0..1000_u32 {
            let mut id = [0; 32];
            id[28..].copy_from_slice(&n.to_be_bytes());
            id[0] = n as u8;
            assert!(map.insert(RecordId(id), n).is_none());
        }
        assert_eq!(map.len(), 1000);
        let mut id = [0; 32];
        id[28..].copy_from_slice(&7_u32.to_be_bytes());
        id[0] = 7;
        assert_eq!(map.get(&RecordId(id)), Some(&7));
        assert_eq!(map.of_part(7).count(), 4);
        assert_eq!((map.remove(&RecordId(id)), map.remove(&RecordId(id)), map.len()), (Some(7), None, 999));
    }

    #[test]
    fn keys_that_differ_only_at_their_end_spread_over_the_table() {
        let seed = Seed(RandomState::new().hash_one(0) | 1);
        let low: std::collections::HashSet<u64> =
            (0..4096_u64).map(|n| seed.hash_one(n.to_be_bytes().as_slice()) % 4096).collect();
        assert!(low.len() > 2000, "4096 keys fill only {} of 4096 buckets", low.len());
    }
}
