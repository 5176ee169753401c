//! An upstream's capacity: how many exchanges it may have in flight, and the fair queue before them. Where the limit adapts,
//! it follows the backend's latency.

use super::health::Upstream;
use crate::config;
use crate::domain::throttle::adaptive::Gradient;
use crate::domain::throttle::queue::{FairQueue, Rank, Ticket};
use crate::journal::Apart;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Taken places, and who waits for one.
pub struct Capacity {
    taken: Apart<AtomicUsize>,
    /// `max_in_flight`, or what the latency leaves of it.
    limit: AtomicUsize,
    waiting: AtomicUsize,
    queue: Mutex<FairQueue<oneshot::Sender<Handed>>>,
    gradient: Option<Mutex<Gradient>>,
}

/// A place on its way to whoever waits for it; given back where that one has left.
pub struct Handed(Option<Arc<Upstream>>);

/// Somebody in the queue; taken out when dropped.
struct Waiting<'a> {
    capacity: &'a Capacity,
    ticket: Ticket,
}

// === impl Capacity ===

impl Capacity {
    /// All free.
    pub fn new(config: &config::Upstream) -> Capacity {
        let least = (config.max_in_flight / 20).max(1);
        Capacity {
            taken: Apart::new(AtomicUsize::new(0)),
            limit: AtomicUsize::new(config.max_in_flight),
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(FairQueue::new(config.queue)),
            gradient: config.adaptive.then(|| Mutex::new(Gradient::new(least, config.max_in_flight))),
        }
    }

    /// Takes a place where one is free and nobody waits for it.
    pub fn take(&self) -> bool {
        self.waiting.load(SeqCst) == 0 && self.take_any()
    }

    /// Never takes more than there are, not even for a moment: who gives a place back at that moment would see none free,
    /// and whoever waits would wait on.
    fn take_any(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        self.taken.fetch_update(SeqCst, SeqCst, |taken| (taken < limit).then_some(taken + 1)).is_ok()
    }

    /// Capacity that are taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }

    /// Requests that wait for one.
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// How many there are at this moment.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Whether answers' times are wanted.
    pub fn is_adaptive(&self) -> bool {
        self.gradient.is_some()
    }

    /// Notes how long an answer's head took.
    pub fn answered(&self, upstream: &Arc<Upstream>, took: Duration) {
        let Some(gradient) = &self.gradient else { return };
        let limit = lock(gradient).note(took, self.taken.load(Relaxed));
        if self.limit.swap(limit, SeqCst) < limit {
            self.serve(upstream);
        }
    }

    /// Gives a place back, and hands it to whoever is next.
    pub fn give_back(&self, upstream: &Arc<Upstream>) {
        self.taken.fetch_sub(1, SeqCst);
        self.serve(upstream);
    }

    /// Waits for a place behind the others, at most so long.
    pub async fn wait(&self, upstream: &Arc<Upstream>, rank: Rank, at_most: Duration) -> Option<Handed> {
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut queue = lock(&self.queue);
            let ticket = queue.push(rank, sender).ok()?;
            self.waiting.store(queue.len(), SeqCst);
            ticket
        };
        let waiting = Waiting { capacity: self, ticket };
        // A place may have become free between the look for one and the queue.
        self.serve(upstream);
        let handed = timeout(at_most, receiver).await.ok().and_then(Result::ok);
        drop(waiting);
        handed
    }

    /// Hands free places to those who wait.
    fn serve(&self, upstream: &Arc<Upstream>) {
        // Sends that came too late; their places come back when the lock is free again.
        let mut late = Vec::new();
        while self.waiting.load(SeqCst) > 0 && self.take_any() {
            let mut queue = lock(&self.queue);
            let next = queue.pop();
            self.waiting.store(queue.len(), SeqCst);
            drop(queue);
            let handed = Handed(Some(upstream.clone()));
            match next {
                Some(sender) => late.extend(sender.send(handed).err()),
                None => late.push(handed),
            }
        }
    }
}

/// Held for a step of the queue, never while waiting; a panic in between leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handed {
    /// The place is somebody's now, who gives it back.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(upstream) = &self.0 {
            upstream.capacity.give_back(upstream);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.capacity.queue);
        queue.remove(self.ticket);
        self.capacity.waiting.store(queue.len(), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::upstream::Pool;
    use crate::gateway::upstream::health::Permit;
    use crate::gateway::upstream::health::tests::upstream_with;
    use std::rc::Rc;
    use std::task::Poll;

    fn polled<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    fn queueing(places: usize, queue: usize) -> Rc<Pool> {
        Rc::new(Pool::new(upstream_with(1, places, queue)))
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_goes_to_the_client_whose_turn_it_is() {
        let pool = queueing(1, 10);
        let held = Permit::take(&pool).expect("room");
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |client, name| {
            let (pool, order) = (pool.clone(), order.clone());
            async move {
                let permit = Permit::take_in_turn(&pool, Rank::alone(client), Duration::from_secs(5))
                    .await
                    .expect("a place");
                lock(&order).push(name);
                tokio::task::yield_now().await;
                drop(permit);
            }
        };
        let all = async { tokio::join!(wait(1, "a1"), wait(1, "a2"), wait(1, "a3"), wait(2, "b1")) };
        let mut all = Box::pin(all);
        assert!(polled(&mut all).is_pending());
        assert!(Permit::take(&pool).is_none(), "nobody overtakes");
        drop(held);
        all.await;
        assert_eq!(*lock(&order), ["a1", "b1", "a2", "a3"]);
        assert_eq!(pool.upstream.capacity.taken(), 0);
    }

    #[tokio::test]
    async fn whoever_leaves_the_queue_gets_no_place_and_keeps_none() {
        let pool = queueing(1, 1);
        let held = Permit::take(&pool).expect("room");
        {
            let mut waiting = Box::pin(Permit::take_in_turn(&pool, Rank::alone(1), Duration::from_secs(5)));
            assert!(polled(&mut waiting).is_pending());
            assert!(
                Permit::take_in_turn(&pool, Rank::alone(2), Duration::from_secs(5)).await.is_none(),
                "the queue is full"
            );
        }
        assert_eq!(pool.upstream.capacity.waiting(), 0);
        // One that was handed a place and left before it looked gives it back.
        let mut waiting = Box::pin(Permit::take_in_turn(&pool, Rank::alone(1), Duration::from_secs(5)));
        assert!(polled(&mut waiting).is_pending());
        drop(held);
        drop(waiting);
        assert_eq!(pool.upstream.capacity.taken(), 0);
        assert!(Permit::take(&pool).is_some());
    }

    #[tokio::test]
    async fn of_two_places_that_are_given_back_at_one_moment_none_stays_free_while_somebody_waits() {
        const ROUNDS: usize = 20_000;
        let pool = queueing(2, 2);
        let (ready, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (upstream, mut lost) = (pool.upstream.clone(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    while ready.load(SeqCst) < round {
                        std::hint::spin_loop();
                    }
                    upstream.capacity.give_back(&upstream);
                    done.store(round, SeqCst);
                }
            });
            for round in 1..=ROUNDS {
                let capacity = &pool.upstream.capacity;
                assert!(capacity.take() && capacity.take());
                let wait = || Box::pin(capacity.wait(&pool.upstream, Rank::alone(1), Duration::from_secs(5)));
                let mut waiting = [wait(), wait()];
                waiting.iter_mut().for_each(|waiting| assert!(polled(waiting).is_pending()));
                ready.store(round, SeqCst);
                capacity.give_back(&pool.upstream);
                while done.load(SeqCst) < round {
                    std::hint::spin_loop();
                }
                lost += usize::from((capacity.waiting(), capacity.taken()) != (0, 2));
            }
        });
        assert_eq!(lost, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_in_time() {
        let pool = queueing(1, 1);
        let _held = Permit::take(&pool).expect("room");
        let mut waiting = Box::pin(Permit::take_in_turn(&pool, Rank::alone(1), Duration::from_secs(1)));
        assert_eq!(polled(&mut waiting).map(|permit| permit.is_some()), Poll::Pending);
        assert!(waiting.await.is_none());
        assert_eq!(pool.upstream.capacity.waiting(), 0);
    }
}
