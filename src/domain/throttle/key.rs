//! What is counted together: keyed digests that name a bucket. They are made with a secret of the process, so nobody can
//! choose an identity that collides with another's; if two ever do, they count together, which is the safe side.

/// Whom or what a route's limits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// `client`: everything that a client asks of the route.
    Client,
    /// `client+resource`: each concrete path by itself, in its normal form. The query does not count: otherwise a cache
    /// buster or an invented parameter would be a fresh bucket.
    ClientResource,
    /// `route`: everybody together.
    Route,
}

/// A bucket's name: a keyed digest over the route, and over client and resource as [`Per`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u64);

/// The number of the hard limit's bucket; those of the other limits are their places in the list.
pub const HARD: u64 = 63;

// === impl Key ===

impl Key {
    /// A key of several parts, in their order. At least one of them is a keyed digest, so nobody outside can compute, and
    /// so choose, a key. Much cheaper than digesting all parts anew.
    pub fn of(parts: &[u64]) -> Key {
        Key(parts.iter().fold(0, |key, part| mix(key ^ part)))
    }

    /// A number that stands for a text in [`Key::of`]. Not keyed, and so nothing for what a client says.
    pub fn text(text: &str) -> u64 {
        let word = |part: &[u8]| part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        text.as_bytes().chunks(8).fold(mix(text.len() as u64), |key, part| mix(key ^ word(part)))
    }

    /// The digest under which the bucket of one limit of this key is kept. Never zero, which stands for an empty place.
    pub fn bucket(self, number: u64) -> u64 {
        // Bijective, so different buckets of one key never meet.
        mix(self.0.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).max(1)
    }

    /// Which of `shards` (a power of two) keeps all its buckets.
    pub fn shard(self, shards: usize) -> usize {
        (self.0 >> 40) as usize & (shards - 1)
    }
}

/// splitmix64: each bit of the result depends on all of them.
fn mix(from: u64) -> u64 {
    let mut mixed = from.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_number_of_parts_count() {
        let keys = [&[1, 2][..], &[2, 1], &[1], &[1, 2, 0], &[0, 1, 2], &[1, 0]].map(Key::of);
        let different: std::collections::BTreeSet<Key> = keys.into_iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn texts_are_told_apart() {
        let texts =
            ["", "a", "b", "ab", "ba", "a\0", "x-api-key", "x-api-kez", "x-api-keyx-api-key", "y-api-key"];
        let different: std::collections::BTreeSet<u64> = texts.iter().map(|text| Key::text(text)).collect();
        assert_eq!(different.len(), texts.len());
    }

    #[test]
    fn buckets_of_one_key_differ_and_stay_in_its_shard() {
        let key = Key(7 << 40 | 1);
        let names: std::collections::BTreeSet<u64> = (0..64).map(|number| key.bucket(number)).collect();
        assert_eq!((names.len(), key.shard(64)), (64, 7));
    }
}
