//! Times in fixed buckets. Two relaxed additions an observation, no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the finite buckets, in microseconds: from an answer out of memory to a backend's worst minute.
const BOUNDS_MICROS: [u64; BOUNDS] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];
const BOUNDS: usize = 16;
/// One more for everything above the last bound.
const BUCKETS: usize = BOUNDS + 1;

/// Observed times.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

/// A histogram's figures at one moment, to be added up over the threads' copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    buckets: [u64; BUCKETS],
    sum_micros: u64,
}

// === impl Histogram ===

impl Histogram {
    /// Counts one observation.
    pub(super) fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // Counting the bounds below it has no branch to mispredict, and the compiler vectorises it.
        let bucket = BOUNDS_MICROS.iter().map(|&bound| usize::from(micros > bound)).sum::<usize>();
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Adds this copy's observations to `figures`.
    pub(super) fn add_to(&self, figures: &mut Figures) {
        for (total, bucket) in figures.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        figures.sum_micros = figures.sum_micros.wrapping_add(self.sum_micros.load(Ordering::Relaxed));
    }
}

// === impl Figures ===

impl Figures {
    /// Observations in all.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum, in seconds.
    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// Each bucket's upper bound in seconds and its own (not cumulated) count.
    pub(super) fn buckets(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|at| {
            let bound = BOUNDS_MICROS.get(at).map_or(f64::INFINITY, |&micros| micros as f64 / 1e6);
            (bound, self.buckets[at])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_on_a_bound_belongs_to_the_bucket_below_it() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 30_000_000, 30_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        histogram.observe(Duration::MAX);
        let mut figures = Figures::default();
        histogram.add_to(&mut figures);
        let buckets = figures.buckets();
        assert_eq!((buckets[0], buckets[1]), ((0.000_25, 2), (0.000_5, 1)));
        assert_eq!((buckets[BOUNDS - 1], buckets[BOUNDS].1), ((30.0, 1), 2));
        assert_eq!(buckets[BOUNDS].0, f64::INFINITY);
        assert_eq!(figures.count(), 6);
    }

    #[test]
    fn copies_of_several_threads_add_up() {
        let (one, two) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_millis(1500));
        two.observe(Duration::from_millis(500));
        let mut figures = Figures::default();
        one.add_to(&mut figures);
        two.add_to(&mut figures);
        assert_eq!((figures.count(), figures.sum_seconds()), (2, 2.0));
    }

    #[test]
    fn the_bounds_rise() {
        assert!(BOUNDS_MICROS.is_sorted_by(|low, high| low < high));
    }
}
