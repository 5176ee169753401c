//! How long to wait before an attempt that met another one is made again.

use std::time::Duration;

/// The waits before each further attempt, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff(pub Vec<Duration>);

/// Where between its bounds the next wait lies: a walk that comes as evenly as any over all places (steps of the golden
/// ratio). Those who collided at one moment are so spread apart, while random numbers would throw some of them together
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread(pub u64);

/// 2^64 divided by the golden ratio: the step of the walk.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

// === impl Spread ===

impl Spread {
    /// The `n`th place of a walk from `start`, which should be another one in each process.
    pub fn nth(start: u64, n: u64) -> Spread {
        Spread(start.wrapping_add(n.wrapping_mul(STEP)))
    }
}

// === impl Backoff ===

impl Backoff {
    /// How many further attempts there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The wait before the further attempt `index`, from half to one and a half of what the list says. `None`: there is
    /// no further one.
    pub fn wait(&self, index: usize, spread: Spread) -> Option<Duration> {
        let base = *self.0.get(index)?;
        // 53 bits are exact in a float.
        let place = (spread.0 >> 11) as f64 / (1_u64 << 53) as f64;
        Some(base.mul_f64(0.5 + place))
    }

    /// The longest that all waits together take.
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|base| base.mul_f64(1.5)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff([100, 200, 400].map(Duration::from_millis).into())
    }

    #[test]
    fn waits_lie_around_what_the_list_says() {
        for n in 0..1000 {
            let spread = Spread::nth(7, n);
            for (index, base) in [100, 200, 400].into_iter().enumerate() {
                let wait = backoff().wait(index, spread).expect("a further attempt").as_millis();
                assert!((base / 2..=base * 3 / 2).contains(&wait), "{wait}");
            }
            assert_eq!(backoff().wait(3, spread), None);
        }
        assert_eq!(backoff().longest(), Duration::from_millis(1050));
    }

    #[test]
    fn those_who_collided_are_spread_apart() {
        for start in [0, 1 << 60, u64::MAX / 3] {
            let mut waits: Vec<_> =
                (0..7).map(|n| backoff().wait(0, Spread::nth(start, n)).expect("one")).collect();
            waits.sort_unstable();
            let nearest = waits.windows(2).map(|pair| pair[1] - pair[0]).min().expect("several");
            assert!(nearest >= Duration::from_millis(7), "{waits:?}");
        }
    }
}
