//! How many handshakes a worker has under way. One that does not end costs memory, and whoever opens many of them hopes
//! that nobody else gets a turn: so past the bound the oldest is given up, which is never one that makes progress.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// The handshakes of one worker that have not ended.
#[derive(Default)]
pub struct Handshakes {
    /// By their numbers, which rise.
    waiting: RefCell<VecDeque<(u64, Rc<Notify>)>>,
    next: Cell<u64>,
}

/// A handshake's place; given up when dropped.
struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
}

/// More unfinished handshakes than this a worker does not have.
const MOST: usize = 1024;

// === impl Handshakes ===

impl Handshakes {
    /// Waits for `handshake`; `None` where its place is needed before it has ended.
    pub async fn run<T>(&self, handshake: impl Future<Output = T>) -> Option<T> {
        let given_up = Rc::new(Notify::new());
        let _place = self.enter(given_up.clone());
        tokio::select! {
            ended = handshake => Some(ended),
            () = given_up.notified() => None,
        }
    }

    fn enter(&self, given_up: Rc<Notify>) -> Place<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MOST
            && let Some((_, oldest)) = waiting.pop_front()
        {
            oldest.notify_one();
        }
        waiting.push_back((number, given_up));
        Place { handshakes: self, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.handshakes.waiting.borrow_mut();
        if let Ok(at) = waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::{pending, ready};
    use std::task::{Context, Poll, Waker};

    #[test]
    fn the_oldest_unfinished_handshake_gives_way_to_the_next_one() {
        let handshakes = Handshakes::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut held: Vec<_> = (0..MOST).map(|_| Box::pin(handshakes.run(pending::<()>()))).collect();
        assert!(held.iter_mut().all(|handshake| handshake.as_mut().poll(&mut cx).is_pending()));
        assert_eq!(handshakes.run(ready(7)).now_or_never(), Some(Some(7)));
        assert_eq!(held[0].as_mut().poll(&mut cx), Poll::Ready(None));
        assert!(held[1].as_mut().poll(&mut cx).is_pending(), "only as many as have to");
        drop(held);
        assert!(handshakes.waiting.borrow().is_empty());
    }
}
