//! Deadlines that almost never come. A timer a request is registered and cancelled under the runtime's lock; noting the
//! deadline where the worker's sweep looks is a push and a pop. Only what is nearly due gets a timer, so it is as punctual
//! as one.

use super::clock;
use super::worker::SWEEP;
use slab::Slab;
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// What one worker waits for, with limited patience.
#[derive(Default)]
pub struct Deadlines {
    noted: RefCell<Slab<Noted>>,
}

struct Noted {
    until: Instant,
    waker: Waker,
    /// The sweep has found it: from here on it needs a timer.
    near: bool,
}

/// A future with a deadline: `None` when that comes first.
pub struct Within<'a, F> {
    deadlines: &'a Deadlines,
    future: F,
    until: Instant,
    noted: Option<usize>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What is due this soon gets a timer: the next sweep could be late by as much as its own interval.
const NEAR: Duration = SWEEP.saturating_mul(2);

// === impl Deadlines ===

impl Deadlines {
    /// Waits for `future` until then.
    pub fn within<F: Future + Unpin>(&self, until: Instant, future: F) -> Within<'_, F> {
        Within { deadlines: self, future, until, noted: None, timer: None }
    }

    /// Wakes what is nearly due, so that it sets its timer. Called by the worker's sweep.
    pub fn sweep(&self, now: Instant) {
        for (_, noted) in self.noted.borrow_mut().iter_mut() {
            if !noted.near && noted.until <= now + NEAR {
                noted.near = true;
                noted.waker.wake_by_ref();
            }
        }
    }
}

// === impl Within ===

impl<F: Future + Unpin> Future for Within<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.get_mut();
        if let Poll::Ready(output) = Pin::new(&mut this.future).poll(cx) {
            return Poll::Ready(Some(output));
        }
        if this.timer.is_none() && !this.is_near(cx) {
            return Poll::Pending;
        }
        let until = this.until;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(cx).map(|()| None)
    }
}

impl<F> Within<'_, F> {
    /// Whether it needs a timer now. Otherwise the sweep knows whom to wake.
    fn is_near(&mut self, cx: &Context<'_>) -> bool {
        let mut noted = self.deadlines.noted.borrow_mut();
        match self.noted.and_then(|index| noted.get_mut(index)) {
            Some(noted) => {
                noted.waker.clone_from(cx.waker());
                noted.near
            }
            None if self.until <= clock::recent() + NEAR => true,
            None => {
                let waker = cx.waker().clone();
                self.noted = Some(noted.insert(Noted { until: self.until, waker, near: false }));
                false
            }
        }
    }
}

impl<F> Drop for Within<'_, F> {
    fn drop(&mut self) {
        if let Some(index) = self.noted {
            self.deadlines.noted.borrow_mut().try_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    fn on_a_clock_of_its_own<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn what_is_ready_never_sees_a_deadline() {
        on_a_clock_of_its_own(async {
            let deadlines = Deadlines::default();
            assert_eq!(deadlines.within(clock::now(), ready(1)).await, Some(1));
            assert!(deadlines.noted.borrow().is_empty());
        });
    }

    #[test]
    fn a_near_deadline_comes_without_a_sweep() {
        on_a_clock_of_its_own(async {
            let (deadlines, started) = (Deadlines::default(), clock::now());
            assert_eq!(deadlines.within(started + SWEEP, pending::<()>()).await, None);
            assert!(clock::now() - started < SWEEP * 2);
        });
    }

    #[test]
    fn a_far_deadline_is_kept_to_the_millisecond_and_leaves_nothing_behind() {
        on_a_clock_of_its_own(async {
            let (deadlines, started) = (Deadlines::default(), clock::now());
            let limit = SWEEP * 10 + Duration::from_millis(7);
            let sweeps = async {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    deadlines.sweep(clock::now());
                }
            };
            tokio::select! {
                ended = deadlines.within(started + limit, pending::<()>()) => assert_eq!(ended, None),
                () = sweeps => unreachable!(),
            }
            let late = (clock::now() - started).saturating_sub(limit);
            assert!(late <= Duration::from_millis(2), "{late:?}");
            assert!(deadlines.noted.borrow().is_empty());
        });
    }
}
