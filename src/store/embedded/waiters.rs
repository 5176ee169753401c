//! Waiting without polling: a signal that is given once and never taken back, and the copies that wait on an attempt.

use super::AttemptEnd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Copies that may wait for one attempt; one more is told at once that nobody knows yet.
pub(super) const WAITERS_MAX: u32 = 10_000;

/// Given once, seen by everyone who asks before or after. Works across threads and runtimes.
pub(super) struct Signal<T> {
    value: OnceLock<T>,
    wake: Notify,
}

/// What the waiting copies of one attempt share. Made by the first of them: an attempt without copies costs nothing.
pub(super) struct Attempt {
    /// `None`: the store closed or failed before the end was durable.
    ended: Signal<Option<AttemptEnd>>,
    waiters: AtomicU32,
}

/// A claim's place in the queue behind the attempt in flight. Dropping it gives the place up.
pub struct Waiter {
    /// `None` where too many wait already.
    attempt: Option<Arc<Attempt>>,
    /// The intent was ended by an unsafe request before this copy came: the attempt's answer is not its answer.
    anew: bool,
}

// === impl Signal ===

impl<T: Clone> Signal<T> {
    /// A signal that was not given yet.
    pub(super) fn new() -> Signal<T> {
        Signal { value: OnceLock::new(), wake: Notify::new() }
    }

    /// Gives it. Only the first time counts.
    pub(super) fn give(&self, value: T) {
        if self.value.set(value).is_ok() {
            self.wake.notify_waiters();
        }
    }

    /// Waits until it is given.
    pub(super) async fn wait(&self) -> T {
        loop {
            // Made before the look: a signal that is given after the look is one that this has heard.
            let notified = self.wake.notified();
            if let Some(value) = self.value.get() {
                return value.clone();
            }
            notified.await;
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// An attempt at work, with nobody waiting yet.
    pub(super) fn new() -> Arc<Attempt> {
        Arc::new(Attempt { ended: Signal::new(), waiters: AtomicU32::new(0) })
    }

    /// Tells everyone who waits, now or later.
    pub(super) fn end(&self, end: Option<AttemptEnd>) {
        self.ended.give(end);
    }
}

// === impl Waiter ===

impl Waiter {
    /// One more copy behind `attempt`.
    pub(super) fn behind(attempt: &Arc<Attempt>, anew: bool) -> Waiter {
        let before = attempt.waiters.fetch_add(1, Ordering::Relaxed);
        if before >= WAITERS_MAX {
            attempt.waiters.fetch_sub(1, Ordering::Relaxed);
            return Waiter { attempt: None, anew };
        }
        Waiter { attempt: Some(Arc::clone(attempt)), anew }
    }

    /// Waits until the attempt ends, but no longer than `patience`. `None`: time ran out, or the queue is full, or the
    /// store closed; the caller knows no more than before.
    pub async fn ended(self, patience: Duration) -> Option<AttemptEnd> {
        let attempt = self.attempt.as_ref()?;
        let end = tokio::time::timeout(patience, attempt.ended.wait()).await.ok()??;
        Some(match end {
            AttemptEnd::Answered(_) if self.anew => AttemptEnd::NotExecuted,
            end => end,
        })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(attempt) = &self.attempt {
            attempt.waiters.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter").field("anew", &self.anew).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_over_the_limit_is_told_at_once() {
        let attempt = Attempt::new();
        let mut waiting: Vec<Waiter> = (0..WAITERS_MAX).map(|_| Waiter::behind(&attempt, false)).collect();
        let hour = Duration::from_secs(3600);
        assert!(Waiter::behind(&attempt, false).ended(hour).await.is_none(), "the queue is full");
        waiting.pop();
        let place = Waiter::behind(&attempt, false);
        attempt.end(Some(AttemptEnd::NotExecuted));
        assert!(matches!(place.ended(hour).await, Some(AttemptEnd::NotExecuted)), "a place was given up");
    }

    #[tokio::test]
    async fn an_end_before_the_wait_is_not_missed() {
        let attempt = Attempt::new();
        let waiter = Waiter::behind(&attempt, false);
        attempt.end(Some(AttemptEnd::NotExecuted));
        assert!(matches!(waiter.ended(Duration::from_secs(3600)).await, Some(AttemptEnd::NotExecuted)));
    }

    #[tokio::test]
    async fn a_wait_ends_when_time_runs_out() {
        let waiter = Waiter::behind(&Attempt::new(), false);
        assert!(waiter.ended(Duration::from_millis(5)).await.is_none());
    }

    #[tokio::test]
    async fn waiters_on_other_threads_are_woken() {
        let attempt = Attempt::new();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let waiter = Waiter::behind(&attempt, false);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                    runtime.expect("a runtime").block_on(waiter.ended(Duration::from_secs(60)))
                })
            })
            .collect();
        attempt.end(Some(AttemptEnd::NotExecuted));
        for thread in threads {
            assert!(matches!(thread.join(), Ok(Some(AttemptEnd::NotExecuted))));
        }
    }
}
