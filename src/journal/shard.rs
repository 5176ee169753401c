//! Which copy of the counters a thread uses. Workers that added to one shared counter would pass its cache line back
//! and forth with every request; each thread adds to its own copy, and a scrape adds the copies up.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// Copies of every counter. More threads than that share.
pub(super) const SHARDS: usize = 8;

/// The copy that this thread adds to; below [`SHARDS`].
pub(super) fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        mine.get()
    })
}

/// A number that goes up and down: connections, requests in flight. What one thread adds another may take away.
#[derive(Debug, Default)]
pub struct Gauge {
    shards: [Apart<AtomicI64>; SHARDS],
}

/// A value that all threads write, away from those that all threads read: whoever writes takes the whole cache line away
/// from everybody else. Two lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Apart<T>(T);

// === impl Apart ===

impl<T> Apart<T> {
    /// Sets `value` apart.
    pub fn new(value: T) -> Apart<T> {
        Apart(value)
    }
}

impl<T> std::ops::Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

// === impl Gauge ===

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.shards[shard()].fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.shards[shard()].fetch_sub(1, Ordering::Relaxed);
    }

    /// One more for as long as the returned guard lives, however its holder ends.
    pub fn held(&self) -> Held<'_> {
        self.inc();
        Held(self)
    }

    /// The sum over all threads. While they work it is a moment's approximation.
    pub fn get(&self) -> i64 {
        self.shards.iter().map(|shard| shard.load(Ordering::Relaxed)).sum()
    }
}

/// Counts one in a [`Gauge`] until it is dropped.
#[derive(Debug)]
pub struct Held<'a>(&'a Gauge);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_adds_another_takes_away() {
        let gauge = Gauge::default();
        gauge.inc();
        std::thread::scope(|scope| {
            scope.spawn(|| gauge.inc());
            scope.spawn(|| gauge.inc());
        });
        assert_eq!(gauge.get(), 3);
        std::thread::scope(|scope| {
            scope.spawn(|| gauge.dec());
        });
        assert_eq!(gauge.get(), 2);
    }

    #[test]
    fn a_held_place_is_given_back_when_its_holder_panics() {
        let gauge = Gauge::default();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = gauge.held();
            assert_eq!(gauge.get(), 1);
            std::panic::resume_unwind(Box::new("the task ends"));
        }));
        assert!(ended.is_err());
        assert_eq!(gauge.get(), 0);
    }
}
