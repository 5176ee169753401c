//! The store's clock: the one file of the store that reads time. It starts at the wall clock, or at the latest instant
//! that an earlier life wrote down where that is later, and goes on with the monotonic clock: it never goes back, and
//! nobody who sets the machine's time ends a window early.

#![allow(clippy::disallowed_methods, reason = "this is the store's clock")]

use crate::domain::time::Millis;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// See the module.
pub(super) struct Clock {
    base: Millis,
    source: Source,
}

enum Source {
    Monotonic(Instant),
    /// A test moves it by hand.
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

/// For what is measured within this process: how long a sync took, how long to wait for company.
pub(super) fn instant() -> Instant {
    Instant::now()
}

// === impl Clock ===

impl Clock {
    /// A clock that starts no earlier than `at_least`.
    pub(super) fn start(at_least: Millis) -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Clock { base: wall.max(at_least), source: Source::Monotonic(Instant::now()) }
    }

    /// A clock that stands still until `hand` is moved; it counts milliseconds.
    #[cfg(test)]
    pub(super) fn manual(at_least: Millis, hand: std::sync::Arc<std::sync::atomic::AtomicU64>) -> Clock {
        let set = Millis(hand.load(std::sync::atomic::Ordering::SeqCst));
        Clock { base: Millis(at_least.0.saturating_sub(set.0)), source: Source::Manual(hand) }
    }

    /// The present instant.
    pub(super) fn now(&self) -> Millis {
        match &self.source {
            Source::Monotonic(start) => self.base.after(start.elapsed()),
            #[cfg(test)]
            Source::Manual(hand) => Millis(self.base.0 + hand.load(std::sync::atomic::Ordering::SeqCst)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_starts_before_the_latest_instant_written_down() {
        let far = Millis(u64::from(u32::MAX) * 2_000);
        assert!(Clock::start(far).now() >= far);
        assert!(Clock::start(Millis(0)).now() > Millis(1_700_000_000_000), "the wall clock counts otherwise");
    }
}
