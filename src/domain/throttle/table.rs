//! The buckets' memory: a table of fixed size, in shards. A place is free again when its bucket is whole again, because a
//! whole bucket and one that was never used are the same. A live one is never given up to make room: what finds no place
//! goes into the shard's [`Sketch`].
//!
//! A bucket may lie in one of two groups of places. Where both are full, one of their tenants moves to its own other group
//! if that has room, so the table overflows only when it is nearly full everywhere.

use super::limit::Nanos;
use super::sketch::Sketch;

/// Places of a group: two lines of a processor's cache.
const GROUP: usize = 8;
/// Bytes of a place: the bucket's digest and its arrival time.
const PLACE_BYTES: usize = 16;
/// Cells of a row of a shard's sketch, for each place of the shard: a sixteenth.
const SKETCH_SHARE: usize = 16;

/// One shard of the table.
#[derive(Debug)]
pub struct Shard {
    /// Digest and arrival time of each place; zero for an empty one. Zeroed memory costs nothing before it is used.
    places: Vec<[u64; 2]>,
    groups: usize,
    sketch: Sketch,
    used: usize,
    overflowed: u64,
}

/// Where a bucket was seen, if anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    bucket: u64,
    at: usize,
}

// === impl Shard ===

impl Shard {
    /// A shard of as many places as fit into so many bytes, its sketch included.
    pub fn new(bytes: usize) -> Shard {
        let group = GROUP * PLACE_BYTES + GROUP * 4 * size_of::<u64>() / SKETCH_SHARE;
        // Rounded down: a row of the sketch is a power of two.
        let groups = (bytes / group).max(1);
        let cells = (groups * GROUP / SKETCH_SHARE).max(1);
        let sketch = Sketch::new(if cells.is_power_of_two() { cells } else { cells.next_power_of_two() / 2 });
        Shard { places: vec![[0; 2]; groups * GROUP], groups, sketch, used: 0, overflowed: 0 }
    }

    /// The bucket's arrival time; zero where it is whole.
    pub fn tat(&self, bucket: u64, now: Nanos) -> Nanos {
        self.look(bucket, now).0
    }

    /// The same, and where it was seen, for [`Shard::set_at`].
    #[inline]
    pub fn look(&self, bucket: u64, now: Nanos) -> (Nanos, Seen) {
        let found = self.find(bucket);
        let kept = found.map_or(Nanos(0), |at| Nanos(self.places[at][1]));
        let tat = match self.sketch.is_live(now) {
            false => kept,
            true => kept.max(self.sketch.tat(bucket)),
        };
        (tat, Seen { bucket, at: found.unwrap_or(usize::MAX) })
    }

    /// Keeps the arrival time of a bucket that was seen before. It may have moved, or gone, since then.
    #[inline]
    pub fn set_at(&mut self, seen: Seen, tat: Nanos, now: Nanos) {
        match self.places.get_mut(seen.at) {
            Some(place) if place[0] == seen.bucket => place[1] = tat.0,
            _ => self.set(seen.bucket, tat, now),
        }
    }

    /// Keeps the bucket's arrival time.
    pub fn set(&mut self, bucket: u64, tat: Nanos, now: Nanos) {
        if let Some(at) = self.find(bucket) {
            self.places[at][1] = tat.0;
            return;
        }
        match self.room(bucket, now) {
            Some(at) => {
                self.used += usize::from(self.places[at][0] == 0);
                self.places[at] = [bucket, tat.0];
            }
            None => {
                self.overflowed += 1;
                self.sketch.raise(bucket, tat);
            }
        }
    }

    /// Places that have ever been taken.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Places in all.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Bytes that it takes at most.
    pub fn bytes(&self) -> usize {
        self.places.len() * PLACE_BYTES + self.sketch.bytes()
    }

    /// How often a bucket found no place.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn find(&self, bucket: u64) -> Option<usize> {
        let in_group = |group: usize| {
            let first = group * GROUP;
            let places: &[[u64; 2]; GROUP] = self.places.get(first..)?.first_chunk()?;
            places.iter().position(|place| place[0] == bucket).map(|at| first + at)
        };
        let (one, other) = self.groups_of(bucket);
        in_group(one).or_else(|| in_group(other))
    }

    /// A free place for a bucket that has none.
    fn room(&mut self, bucket: u64, now: Nanos) -> Option<usize> {
        let (one, other) = self.groups_of(bucket);
        if let Some(at) = self.free_in(one, now).or_else(|| self.free_in(other, now)) {
            return Some(at);
        }
        for at in [one, other].into_iter().flat_map(|group| group * GROUP..(group + 1) * GROUP) {
            let tenant = self.places[at];
            let (first, second) = self.groups_of(tenant[0]);
            let elsewhere = if at / GROUP == first { second } else { first };
            if let Some(to) = self.free_in(elsewhere, now) {
                self.used += usize::from(self.places[to][0] == 0);
                self.places[to] = tenant;
                return Some(at);
            }
        }
        None
    }

    fn free_in(&self, group: usize, now: Nanos) -> Option<usize> {
        let first = group * GROUP;
        self.places[first..first + GROUP].iter().position(|place| place[1] <= now.0).map(|at| first + at)
    }

    fn groups_of(&self, bucket: u64) -> (usize, usize) {
        let within = |half: u64| ((half * self.groups as u64) >> 32) as usize;
        (within(bucket & 0xffff_ffff), within(bucket >> 32))
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Key;
    use super::*;

    fn bucket(n: u64) -> u64 {
        Key(n.wrapping_mul(0xff51_afd7_ed55_8ccd)).bucket(0)
    }

    #[test]
    fn a_shard_remembers_what_it_is_given_and_stays_within_its_bytes() {
        let mut shard = Shard::new(1 << 20);
        assert!(shard.bytes() <= 1 << 20, "{}", shard.bytes());
        let count = shard.capacity() as u64 * 8 / 10;
        for n in 0..count {
            shard.set(bucket(n), Nanos(1_000 + n), Nanos(0));
        }
        assert_eq!(shard.overflowed(), 0, "eight places of ten are taken before anything overflows");
        assert!((0..count).all(|n| shard.tat(bucket(n), Nanos(0)) == Nanos(1_000 + n)));
        assert_eq!(shard.used() as u64, count);
    }

    #[test]
    fn a_full_shard_gives_up_nobody_and_only_counts_too_much() {
        let mut shard = Shard::new(64 << 10);
        let count = shard.capacity() as u64 * 3;
        for n in 0..count {
            shard.set(bucket(n), Nanos(1_000), Nanos(0));
        }
        assert!(shard.overflowed() > count / 2, "{}", shard.overflowed());
        assert!((0..count).all(|n| shard.tat(bucket(n), Nanos(0)) >= Nanos(1_000)), "nobody is forgotten");
    }

    #[test]
    fn what_moved_since_it_was_seen_is_found_where_it_is() {
        let mut shard = Shard::new(16 << 10);
        shard.set(bucket(0), Nanos(1_000), Nanos(0));
        let (_, seen) = shard.look(bucket(0), Nanos(0));
        let (_, nowhere) = shard.look(bucket(1), Nanos(0));
        shard.set_at(seen, Nanos(2_000), Nanos(0));
        shard.set_at(nowhere, Nanos(3_000), Nanos(0));
        assert_eq!([0, 1].map(|n| shard.tat(bucket(n), Nanos(0)).0), [2_000, 3_000]);
        // Its place was given to another one meanwhile, and so was each place that it may have.
        let at = shard.find(bucket(0)).expect("a place");
        shard.places[at] = [bucket(2), 4_000];
        shard.set_at(seen, Nanos(5_000), Nanos(0));
        assert_eq!(shard.places[at], [bucket(2), 4_000]);
        assert_eq!(shard.tat(bucket(0), Nanos(0)), Nanos(5_000));
    }

    #[test]
    fn a_bucket_that_is_whole_again_makes_room_and_one_that_overflowed_keeps_its_state() {
        let mut shard = Shard::new(16 << 10);
        let count = shard.capacity() as u64 * 2;
        for n in 0..count {
            shard.set(bucket(n), Nanos(1_000), Nanos(0));
        }
        let late = bucket(count);
        shard.set(late, Nanos(9_000), Nanos(0));
        assert!(shard.tat(late, Nanos(2_000)) >= Nanos(9_000), "it was in the sketch");
        shard.set(late, Nanos(10_000), Nanos(2_000));
        assert_eq!(shard.tat(late, Nanos(2_000)), Nanos(10_000), "it has a place now");
        let before = shard.overflowed();
        (0..64).for_each(|n| shard.set(bucket(count + 1 + n), Nanos(3_000), Nanos(2_000)));
        assert_eq!(shard.overflowed(), before, "places of whole buckets are free");
    }
}
