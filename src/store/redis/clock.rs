//! What the gateway knows of the store's clock between two commands: the latest instant that a reply brought, moved on
//! with the monotonic clock. It dates what people read; what the store decides, it decides by its own clock.

#![allow(clippy::disallowed_methods, reason = "this is the store's clock")]

use crate::domain::time::Millis;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// See the module.
pub(super) struct Clock {
    start: Instant,
    /// The store's time at `start`, as far as is known.
    base: AtomicU64,
}

// === impl Clock ===

impl Clock {
    /// A clock that has heard nothing yet: the machine's own.
    pub(super) fn new() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Clock { start: Instant::now(), base: AtomicU64::new(wall) }
    }

    /// The store said that it is `now`.
    pub(super) fn heard(&self, now: Millis) {
        self.base.store(now.0.saturating_sub(self.elapsed()), Ordering::Relaxed);
    }

    /// The present instant.
    pub(super) fn now(&self) -> Millis {
        self.both().0
    }

    /// The present instant, and [`Clock::elapsed`], by one look at the machine's clock.
    pub(super) fn both(&self) -> (Millis, u64) {
        let elapsed = self.elapsed();
        (Millis(self.base.load(Ordering::Relaxed).saturating_add(elapsed)), elapsed)
    }

    /// Milliseconds since the start of this gateway, for what never leaves it.
    pub(super) fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
