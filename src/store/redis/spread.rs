//! Tables by what is spread evenly already: ids of records are keyed digests, tokens are random, and threads are counted.
//! Nobody outside can choose them, so they need no second digest, which would cost as much as the rest of a look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by records, attempts or threads.
pub(super) type SpreadMap<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// Takes eight bytes of each piece as they are.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // In a cluster the first byte of an id says where it is kept.
        if let Some(last) = bytes.last_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*last);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table takes its groups from the lowest bits and tells entries apart by the highest.
        self.0 ^= number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    fn write_usize(&mut self, _length: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::{RecordId, Token};
    use std::hash::BuildHasher;

    #[test]
    fn other_records_and_other_attempts_are_told_apart() {
        let hasher = BuildHasherDefault::<Spread>::default();
        let id = |n: u8| RecordId([n; 32]);
        assert_ne!(hasher.hash_one(id(1)), hasher.hash_one(id(2)));
        assert_ne!(hasher.hash_one((id(1), Token(1))), hasher.hash_one((id(1), Token(2))));
        assert_ne!(hasher.hash_one(1_u64), hasher.hash_one(2_u64));
    }
}
