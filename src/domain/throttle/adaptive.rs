//! A limit that follows the backend's latency. While the backend answers as fast as it usually does, the limit grows by a
//! little more than what waits; when answers take longer than usual, requests queue inside the backend, and the limit
//! shrinks by the ratio of the two (a gradient).

use std::time::Duration;

/// How many requests may be in flight, as the latency has it.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The limit before rounding.
    limit: f64,
    least: f64,
    most: f64,
    /// What answers usually take: an average that forgets slowly, in seconds.
    usual: f64,
    /// What they take now: one that forgets fast.
    now: f64,
    samples: u64,
}

/// Of each answer in the slow average.
const SLOW: f64 = 1.0 / 600.0;
/// Of each answer in the fast one.
const FAST: f64 = 1.0 / 20.0;
/// Longer than usual by this factor is no queue yet.
const TOLERANCE: f64 = 1.5;
/// Of each new limit in the next: a single slow answer moves little.
const SMOOTH: f64 = 0.2;
/// The limit never shrinks by more than this at a step.
const STEEPEST: f64 = 0.5;

// === impl Gradient ===

impl Gradient {
    /// Begins at the most; never leaves `least..=most`.
    pub fn new(least: usize, most: usize) -> Gradient {
        let (least, most) = (least.max(1) as f64, most.max(1) as f64);
        Gradient { limit: most, least: least.min(most), most, usual: 0.0, now: 0.0, samples: 0 }
    }

    /// Notes an answer that took so long while so many were in flight; the limit from here on.
    pub fn note(&mut self, took: Duration, in_flight: usize) -> usize {
        let took = took.as_secs_f64();
        if self.samples == 0 {
            (self.usual, self.now) = (took, took);
        }
        self.samples += 1;
        // While it learns, the slow average is a plain one, so that the first answer does not count for ever.
        self.usual += (took - self.usual) * SLOW.max(1.0 / self.samples.min(600) as f64);
        self.now += (took - self.now) * FAST;
        // A backend that has become faster is the usual one from here on.
        if self.now < self.usual {
            self.usual += (self.now - self.usual) * FAST;
        }
        let gradient = (TOLERANCE * self.usual / self.now.max(1e-9)).clamp(STEEPEST, 1.0);
        // A limit that is not used says nothing about what the backend could take.
        if gradient < 1.0 || in_flight as f64 * 2.0 >= self.limit {
            let target = self.limit * gradient + self.limit.sqrt();
            let next = if gradient < 1.0 { target.min(self.limit * (gradient + 1.0) / 2.0) } else { target };
            self.limit = (self.limit + (next - self.limit) * SMOOTH).clamp(self.least, self.most);
        }
        self.limit()
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit.round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backend with so many places: what is beyond them waits inside it.
    fn backend(places: usize, in_flight: usize) -> Duration {
        let rounds = in_flight.max(1).div_ceil(places);
        Duration::from_millis(20 * rounds as u64)
    }

    #[test]
    fn a_backend_that_queues_is_asked_less_until_it_does_not() {
        let mut gradient = Gradient::new(4, 256);
        (0..200).for_each(|_| {
            let _ = gradient.note(backend(16, 8), 8);
        });
        assert_eq!(gradient.limit(), 256, "fast answers do not shrink it");
        for _ in 0..400 {
            let in_flight = gradient.limit();
            gradient.note(backend(16, in_flight), in_flight);
        }
        assert!((4..=80).contains(&gradient.limit()), "{}", gradient.limit());
    }

    #[test]
    fn a_backend_that_recovers_is_asked_more_again() {
        let mut gradient = Gradient::new(4, 100);
        (0..100).for_each(|_| {
            let _ = gradient.note(Duration::from_millis(20), 50);
        });
        (0..60).for_each(|_| {
            let _ = gradient.note(Duration::from_millis(400), gradient.limit());
        });
        let low = gradient.limit();
        assert!(low < 50, "{low}");
        (0..600).for_each(|_| {
            let _ = gradient.note(Duration::from_millis(20), gradient.limit());
        });
        assert_eq!(gradient.limit(), 100);
    }

    #[test]
    fn it_never_leaves_its_bounds() {
        let mut gradient = Gradient::new(5, 50);
        for step in 0..5_000u64 {
            let took = Duration::from_micros(step.wrapping_mul(7_919) % 3_000_000);
            let limit = gradient.note(took, (step % 60) as usize);
            assert!((5..=50).contains(&limit), "{limit}");
        }
    }
}
