//! Work that a client waits for, and that goes on without it.
//!
//! In a task of its own from the beginning, every write would cost two wake-ups, a polled task, and copies of what is handed to
//! and fro; but almost every client stays until it is answered. So the client's own task carries the work, and it gets a task of
//! its own only where the client leaves before its end, or is told something while it goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Work, for the one who waits to be told by it. Dropped before the work is over, it gives it a task of its own on this
/// worker.
pub struct Carried<T> {
    /// `None` once it is over.
    work: Option<Pin<Box<dyn Future<Output = ()>>>>,
    told: oneshot::Receiver<T>,
}

/// The work failed before it had told anything.
#[derive(Debug, PartialEq, Eq)]
pub struct Died;

// === impl Carried ===

impl<T> Carried<T> {
    /// `work`, which tells through the other end of `told`.
    pub fn new(work: Pin<Box<dyn Future<Output = ()>>>, told: oneshot::Receiver<T>) -> Carried<T> {
        Carried { work: Some(work), told }
    }
}

impl<T> Future for Carried<T> {
    type Output = Result<T, Died>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Died>> {
        let this = self.get_mut();
        if let Some(work) = &mut this.work {
            // As in a task of its own: where it fails, the one who waits is told so, and nothing else of the connection ends.
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) | Err(_) => this.work = None,
            }
        }
        // Whoever tells does it in this very poll, so nobody has to be woken for it.
        match this.told.try_recv() {
            Ok(told) => Poll::Ready(Ok(told)),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Closed) => Poll::Ready(Err(Died)),
        }
    }
}

impl<T> Drop for Carried<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            tokio::task::spawn_local(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::time::sleep;

    fn on_a_worker<F: Future>(future: F) -> F::Output {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build_local(Default::default());
        runtime.expect("a runtime").block_on(future)
    }

    /// Work that tells 1 after a second and is over after two; and whether it is.
    fn slow() -> (Carried<u32>, Rc<Cell<bool>>) {
        let (tell, told) = oneshot::channel();
        let over = Rc::new(Cell::new(false));
        let ends = over.clone();
        let work = async move {
            sleep(Duration::from_secs(1)).await;
            // Whoever has left is not told.
            let _ = tell.send(1);
            sleep(Duration::from_secs(1)).await;
            ends.set(true);
        };
        (Carried::new(Box::pin(work), told), over)
    }

    #[test]
    fn whoever_waits_is_told_and_the_work_goes_on_behind_it() {
        on_a_worker(async {
            let (carried, over) = slow();
            assert_eq!(carried.await, Ok(1));
            assert!(!over.get());
            sleep(Duration::from_millis(1001)).await;
            assert!(over.get());
        });
    }

    #[test]
    fn the_work_goes_on_where_nobody_waits_any_more_or_nobody_ever_did() {
        on_a_worker(async {
            let (mut left, over) = slow();
            let _nothing_yet = tokio::time::timeout(Duration::from_millis(10), &mut left).await;
            drop(left);
            let (never, over_too) = slow();
            drop(never);
            sleep(Duration::from_millis(2001)).await;
            assert!(over.get() && over_too.get());
        });
    }

    #[test]
    fn work_that_fails_says_so() {
        on_a_worker(async {
            let (tell, told) = oneshot::channel::<u32>();
            let work = async move {
                let _held = tell;
                panic!("planned");
            };
            assert_eq!(Carried::new(Box::pin(work), told).await, Err(Died));
        });
    }
}
