//! Waiting without polling: a signal that is given once and never taken back, and the copies that wait on an attempt.

use super::AttemptEnd;
use slab::Slab;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::Duration;

/// Copies that may wait for one attempt; one more is told at once that nobody knows yet.
pub(super) const WAITERS_MAX: u32 = 10_000;

/// Given once, seen by everyone who asks before or after. Works across threads and runtimes.
///
/// To wake a task of another thread is a system call, and many tasks of few threads wait for one commit. So the giver
/// wakes one task of each thread, and that one wakes the others of its thread, which costs no call. A task that goes
/// away instead of hearing the signal wakes them all the same.
pub(super) struct Signal<T> {
    value: OnceLock<T>,
    waiting: Mutex<Vec<Group>>,
}

/// Those of one thread that wait.
struct Group {
    thread: ThreadId,
    tasks: Slab<Waker>,
}

/// One who waits.
struct Wait<'a, T> {
    signal: &'a Signal<T>,
    /// The group and the place in it.
    place: Option<(ThreadId, usize)>,
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
        Signal { value: OnceLock::new(), waiting: Mutex::default() }
    }

    /// Gives it. Only the first time counts.
    pub(super) fn give(&self, value: T) {
        if self.value.set(value).is_err() {
            return;
        }
        // Whoever comes to wait from here on sees the value under the lock.
        let first = |group: &Group| group.tasks.iter().next().map(|(_, task)| task.clone());
        let woken: Vec<Waker> = self.groups().iter().filter_map(first).collect();
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until it is given.
    pub(super) fn wait(&self) -> impl Future<Output = T> {
        Wait { signal: self, place: None }
    }

    /// Held for moves only, never while waking.
    fn groups(&self) -> MutexGuard<'_, Vec<Group>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Wait ===

impl<T: Clone> Future for Wait<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if this.signal.value.get().is_none() {
            let mut groups = this.signal.groups();
            // Looked at again under the lock: a giver that came in between has not seen this one.
            if this.signal.value.get().is_none() {
                this.place = Some(place(&mut groups, this.place, cx.waker()));
                return Poll::Pending;
            }
        }
        match this.signal.value.get() {
            Some(value) => Poll::Ready(value.clone()),
            None => Poll::Pending,
        }
    }
}

/// Puts a task into its place, or a new one.
fn place(groups: &mut Vec<Group>, place: Option<(ThreadId, usize)>, task: &Waker) -> (ThreadId, usize) {
    if let Some((thread, at)) = place
        && let Some(group) = groups.iter_mut().find(|group| group.thread == thread)
        && let Some(known) = group.tasks.get_mut(at)
    {
        known.clone_from(task);
        return (thread, at);
    }
    let thread = std::thread::current().id();
    let group = match groups.iter().position(|group| group.thread == thread) {
        Some(at) => &mut groups[at],
        None => groups.push_mut(Group { thread, tasks: Slab::new() }),
    };
    (thread, group.tasks.insert(task.clone()))
}

impl<T> Drop for Wait<'_, T> {
    /// Gives up the place. Where the signal was given, the others of the thread may depend on this one to hear of it.
    fn drop(&mut self) {
        let Some((thread, at)) = self.place else { return };
        let mut groups = self.signal.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = groups.iter_mut().find(|group| group.thread == thread) else { return };
        group.tasks.try_remove(at);
        if self.signal.value.get().is_some() {
            let tasks = std::mem::take(&mut group.tasks);
            drop(groups);
            tasks.into_iter().for_each(|(_, task)| task.wake());
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// An attempt at work, with nobody waiting yet.
    pub(super) fn new() -> Arc<Attempt> {
        Arc::new(Attempt { ended: Signal::new(), waiters: AtomicU32::new(0) })
    }

    /// Whether any copy waits at this moment.
    pub(super) fn has_waiters(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
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

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicU32);

    impl std::task::Wake for Task {
        fn wake(self: Arc<Task>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many who wait for `signal` on this thread, and the task of each.
    fn several(signal: &Signal<u32>, count: usize) -> Vec<(Option<Wait<'_, u32>>, Arc<Task>)> {
        let one = |_| {
            let (mut wait, task) = (Wait { signal, place: None }, Arc::new(Task::default()));
            assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&task.clone().into())).is_pending());
            (Some(wait), task)
        };
        (0..count).map(one).collect()
    }

    fn woken(waiting: &[(Option<Wait<'_, u32>>, Arc<Task>)]) -> Vec<u32> {
        waiting.iter().map(|(_, task)| task.0.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn one_task_of_a_thread_is_woken_and_wakes_the_others() {
        let signal = Signal::new();
        let mut waiting = several(&signal, 3);
        signal.give(7);
        assert_eq!(woken(&waiting), [1, 0, 0]);
        let mut first = waiting[0].0.take().expect("it waits");
        let heard = Pin::new(&mut first).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(heard, Poll::Ready(7));
        drop(first);
        assert_eq!(woken(&waiting), [1, 1, 1]);
        drop(waiting);
        assert!(signal.groups().iter().all(|group| group.tasks.is_empty()));
    }

    #[test]
    fn one_that_is_woken_and_goes_away_wakes_the_others_all_the_same() {
        let signal = Signal::new();
        let mut waiting = several(&signal, 3);
        waiting[0].0 = None;
        signal.give(7);
        assert_eq!(woken(&waiting), [0, 1, 0], "who left before is not relied on");
        waiting[1].0 = None;
        assert_eq!(woken(&waiting), [0, 1, 1]);
    }
}
