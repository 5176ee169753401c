//! Where buckets go that the table has no room for: a count-min sketch of arrival times. Buckets that meet in a cell count
//! together, so it can only ever count too much, and nobody's state is forgotten to make room for another's.

use super::limit::Nanos;

/// Rows; a bucket is as full as the emptiest of its cells says.
const ROWS: usize = 4;

/// A sketch of theoretical arrival times.
#[derive(Debug)]
pub struct Sketch {
    /// Row by row; empty until something overflows.
    cells: Vec<u64>,
    /// Cells of a row: a power of two.
    width: usize,
    /// No cell is later than this.
    latest: Nanos,
}

// === impl Sketch ===

impl Sketch {
    /// An empty sketch; `width` is rounded up to a power of two. It takes its memory when something first overflows.
    pub fn new(width: usize) -> Sketch {
        Sketch { cells: Vec::new(), width: width.max(1).next_power_of_two(), latest: Nanos(0) }
    }

    /// Bytes that it takes once it is used.
    pub fn bytes(&self) -> usize {
        ROWS * self.width * size_of::<u64>()
    }

    /// Whether anything that overflowed still counts.
    pub fn is_live(&self, now: Nanos) -> bool {
        self.latest > now
    }

    /// At most this late is the arrival time of a bucket; it is never said too early.
    #[cold]
    pub fn tat(&self, bucket: u64) -> Nanos {
        let least = (0..ROWS).filter_map(|row| self.cells.get(self.cell(row, bucket))).min();
        Nanos(least.copied().unwrap_or(0))
    }

    /// Notes an arrival time.
    pub fn raise(&mut self, bucket: u64, tat: Nanos) {
        if self.cells.is_empty() {
            self.cells = vec![0; ROWS * self.width];
        }
        for row in 0..ROWS {
            let cell = self.cell(row, bucket);
            if let Some(cell) = self.cells.get_mut(cell) {
                *cell = (*cell).max(tat.0);
            }
        }
        self.latest = self.latest.max(tat);
    }

    /// The rows are told apart by different parts of the digest, which is keyed and mixed already.
    fn cell(&self, row: usize, bucket: u64) -> usize {
        let mixed =
            (bucket ^ (row as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_mul(0xa076_1d64_78bd_642f);
        row * self.width + ((mixed >> 32) as usize & (self.width - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_never_says_too_early() {
        let mut sketch = Sketch::new(64);
        let bucket = |n: u64| super::super::key::Key(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bucket(0);
        for n in 0..1_000 {
            sketch.raise(bucket(n), Nanos(n + 1));
        }
        assert!((0..1_000).all(|n| sketch.tat(bucket(n)) >= Nanos(n + 1)));
        assert!(sketch.is_live(Nanos(999)) && !sketch.is_live(Nanos(1_000)));
    }

    #[test]
    fn few_buckets_in_a_wide_sketch_do_not_meet() {
        let mut sketch = Sketch::new(4096);
        let bucket = |n: u64| super::super::key::Key(n).bucket(0);
        (0..100).for_each(|n| sketch.raise(bucket(n), Nanos(1_000)));
        let strangers = (100..1_100).filter(|&n| sketch.tat(bucket(n)) > Nanos(0)).count();
        assert_eq!(strangers, 0);
    }
}
