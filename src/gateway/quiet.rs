//! The waker that a connection's task lends to hyper.
//!
//! Whoever takes a part of a request's body wakes hyper's end of it, also where that was the last part and hyper has long let
//! go of the body. Both ends are the same task here, which would run once more for nothing, through all that the exchange waits
//! for. So the one who takes the part listens first, and passes on only what means something.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Wake, Waker};

thread_local! {
    static HEARD: Cell<Heard> = const { Cell::new(Heard::PassedOn) };
}

/// What becomes of wake-ups that this thread gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// They reach the task.
    PassedOn,
    /// They are kept back; none has come.
    None,
    /// They are kept back; one has come.
    Some,
}

/// The waker that is lent, and the task's own.
#[derive(Default)]
pub struct Lent(Option<(Waker, Waker)>);

/// Wakes a task, unless its own thread keeps that back.
struct Passing(Waker);

/// Does what may wake this thread's lent wakers, and says whether it did: they have not reached their tasks. Those of other
/// threads do.
pub fn quietly<T>(act: impl FnOnce() -> T) -> (T, bool) {
    HEARD.set(Heard::None);
    let ends = Ends;
    let result = act();
    let woken = HEARD.get() == Heard::Some;
    drop(ends);
    (result, woken)
}

/// Whatever happens, wake-ups are passed on again.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        HEARD.set(Heard::PassedOn);
    }
}

// === impl Lent ===

impl Lent {
    /// A waker for `task`: the same one as long as that is the same.
    pub fn waker(&mut self, task: &Waker) -> &Waker {
        let known = self.0.take().filter(|(_, known)| known.will_wake(task));
        let lend = || (Waker::from(Arc::new(Passing(task.clone()))), task.clone());
        &self.0.insert(known.unwrap_or_else(lend)).0
    }
}

// === impl Passing ===

impl Wake for Passing {
    fn wake(self: Arc<Passing>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Passing>) {
        match HEARD.get() {
            Heard::PassedOn => self.0.wake_by_ref(),
            Heard::None | Heard::Some => HEARD.set(Heard::Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    struct Task(AtomicU32);

    impl Wake for Task {
        fn wake(self: Arc<Task>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn only_what_its_own_thread_keeps_back_does_not_reach_the_task() {
        let task = Arc::new(Task(AtomicU32::new(0)));
        let (own, mut lent) = (Waker::from(task.clone()), Lent::default());
        let lent = lent.waker(&own).clone();
        lent.wake_by_ref();
        assert_eq!(task.0.load(Relaxed), 1);
        assert_eq!(quietly(|| 7), (7, false));
        assert!(quietly(|| lent.wake_by_ref()).1);
        assert_eq!(task.0.load(Relaxed), 1);
        // What another thread has to say comes from somebody else.
        let other = lent.clone();
        let heard = quietly(|| std::thread::spawn(move || other.wake()).join().expect("no panic")).1;
        assert!(!heard);
        assert_eq!(task.0.load(Relaxed), 2);
        let failed = std::panic::catch_unwind(|| quietly(|| panic!("planned")));
        assert!(failed.is_err());
        lent.wake();
        assert_eq!(task.0.load(Relaxed), 3);
    }
}
