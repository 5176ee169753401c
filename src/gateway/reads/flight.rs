//! Calls under way that equal reads wait for. One of them leads; the others follow.
//!
//! Every way a follower's wait can end is a [`Landing`], or its own deadline. A leader lands its flight exactly once:
//! with an answer for all, with the word that its answer was for itself alone, or, by being dropped, with nothing.
//! Locks are held for a map or list operation only, one at a time.

use super::endings::Moment;
use super::kept::Kept;
use crate::domain::ledger::TargetId;
use crate::domain::read::ReadKey;
use crate::journal::Gauge;
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The calls under way, of all workers.
pub struct Flights {
    shards: [Mutex<HashMap<ReadKey, Arc<Flight>>>; SHARDS],
    flying: AtomicUsize,
    waiting: AtomicUsize,
    /// Bytes of answers that are being gathered, and of those that their clients have not taken yet.
    bytes: AtomicU64,
    bytes_most: u64,
}

/// One call.
#[derive(Debug)]
pub struct Flight {
    /// When it set out.
    pub born: Moment,
    /// The resource that it asks for.
    pub resource: TargetId,
    /// Somebody will follow who has not come yet.
    awaited: bool,
    /// The answer has begun.
    answered: AtomicBool,
    followers: AtomicUsize,
    landing: Mutex<Option<Landing>>,
    landed: Notify,
}

/// How a flight ended, for those who waited.
#[derive(Clone, Debug)]
pub enum Landing {
    /// With an answer for all of them; and whether it is a copy that stands in for a backend that failed.
    Shared(Arc<Kept>, Origin),
    /// Its answer was for its own request alone: each goes by itself.
    Alone,
    /// Without an answer: one of them may lead anew.
    Failed,
}

/// Where a shared answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The backend, just now.
    Backend,
    /// A stale copy, because the backend failed.
    StandIn,
}

/// What a read does next.
pub enum Joined {
    /// It leads.
    Lead(Seat),
    /// It waits.
    Follow(Follower),
    /// It may not lead, and there is nobody to follow.
    Barred,
    /// There are as many flights, or as many who wait, as there may be: it goes by itself.
    Full,
}

/// The leader's right to land the flight.
pub struct Seat {
    flights: Arc<Flights>,
    key: ReadKey,
    flight: Arc<Flight>,
    landed: bool,
}

/// A place among those who wait.
pub struct Follower {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
}

/// Bytes of an answer that is being gathered, or that its client has not taken yet.
pub struct Gathering {
    flights: Arc<Flights>,
    bytes: u64,
}

/// A body that counts until nothing holds it any more.
struct Counted {
    body: Bytes,
    _room: Gathering,
}

const SHARDS: usize = 16;
/// Calls at one moment that others may wait for.
const FLIGHTS_MOST: usize = 16_384;
/// Requests at one moment that wait for another's call.
const WAITING_MOST: usize = 65_536;
/// A body up to that size is not counted while its client takes it: most go out at once.
const SMALL_BYTES: usize = 16 << 10;

// === impl Flights ===

impl Flights {
    /// None yet. Answers that are being gathered may take `bytes_most` together.
    pub fn new(bytes_most: u64) -> Flights {
        Flights {
            shards: Default::default(),
            flying: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            bytes_most,
        }
    }

    /// Joins the flight for `key` where there is one that `is_good`, or begins its `own`, where it may. One that is not
    /// good any more (a write came after it) goes on for those who wait for it already.
    pub fn join(
        self: &Arc<Flights>,
        key: ReadKey,
        own: impl FnOnce() -> Option<Arc<Flight>>,
        is_good: impl FnOnce(&Flight) -> bool,
    ) -> Joined {
        let mut flights = self.shard(&key);
        match flights.entry(key) {
            Entry::Occupied(present) if is_good(present.get()) => self.follow(present.get().clone()),
            place => {
                if self.flying.fetch_add(1, Ordering::Relaxed) >= FLIGHTS_MOST {
                    self.flying.fetch_sub(1, Ordering::Relaxed);
                    return Joined::Full;
                }
                let Some(flight) = own() else {
                    self.flying.fetch_sub(1, Ordering::Relaxed);
                    return Joined::Barred;
                };
                match place {
                    Entry::Occupied(mut overtaken) => drop(overtaken.insert(flight.clone())),
                    Entry::Vacant(vacant) => drop(vacant.insert(flight.clone())),
                }
                Joined::Lead(Seat { flights: self.clone(), key, flight, landed: false })
            }
        }
    }

    /// Waits for a flight that is known, and may have landed already.
    pub fn follow(self: &Arc<Flights>, flight: Arc<Flight>) -> Joined {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MOST {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Joined::Full;
        }
        flight.followers.fetch_add(1, Ordering::Relaxed);
        Joined::Follow(Follower { flights: self.clone(), flight })
    }

    /// Whether a call for `key` is under way.
    #[cfg(test)]
    fn has(&self, key: &ReadKey) -> bool {
        self.shard(key).contains_key(key)
    }

    /// What answers hold that are being gathered or taken.
    #[cfg(test)]
    pub fn gathered(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Begins to gather an answer.
    pub fn gather(self: &Arc<Flights>) -> Gathering {
        Gathering { flights: self.clone(), bytes: 0 }
    }

    fn shard(&self, key: &ReadKey) -> MutexGuard<'_, HashMap<ReadKey, Arc<Flight>>> {
        self.shards[usize::from(key.0[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Flight ===

impl Flight {
    /// A call that sets out now. `awaited`: by somebody who will follow and has not come yet.
    pub fn new(born: Moment, resource: TargetId, awaited: bool) -> Arc<Flight> {
        Arc::new(Flight {
            born,
            resource,
            awaited,
            answered: AtomicBool::new(false),
            followers: AtomicUsize::new(0),
            landing: Mutex::new(None),
            landed: Notify::new(),
        })
    }

    /// Whether it ended without an answer.
    pub fn has_failed(&self) -> bool {
        matches!(*self.landing(), Some(Landing::Failed))
    }

    fn landing(&self) -> MutexGuard<'_, Option<Landing>> {
        self.landing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seat ===

impl Seat {
    /// When the flight set out.
    pub fn born(&self) -> Moment {
        self.flight.born
    }

    /// Whether anybody waits, or will.
    pub fn is_followed(&self) -> bool {
        self.flight.awaited || self.flight.followers.load(Ordering::Relaxed) > 0
    }

    /// The backend has begun to answer.
    pub fn answered(&self) {
        self.flight.answered.store(true, Ordering::Relaxed);
    }

    /// Nobody can join any more; whether anybody waits.
    pub fn close(&self) -> bool {
        self.leave();
        self.is_followed()
    }

    /// Ends the flight.
    pub fn land(mut self, landing: Landing) {
        self.end(landing);
    }

    fn end(&mut self, landing: Landing) {
        if std::mem::replace(&mut self.landed, true) {
            return;
        }
        self.leave();
        *self.flight.landing() = Some(landing);
        self.flight.landed.notify_waiters();
        self.flights.flying.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the flight out of the table, unless a later one has its place.
    fn leave(&self) {
        let mut flights = self.flights.shard(&self.key);
        if flights.get(&self.key).is_some_and(|present| Arc::ptr_eq(present, &self.flight)) {
            flights.remove(&self.key);
        }
    }
}

impl Drop for Seat {
    /// However a leader ends, nobody waits for it in vain.
    fn drop(&mut self) {
        self.end(Landing::Failed);
    }
}

// === impl Follower ===

impl Follower {
    /// Whether the backend has begun to answer.
    pub fn is_answered(&self) -> bool {
        self.flight.answered.load(Ordering::Relaxed)
    }

    /// Waits for the flight's end.
    pub async fn landing(&self, waiters: &Gauge) -> Landing {
        let _counted = waiters.held();
        loop {
            let mut landed = pin!(self.flight.landed.notified());
            // Registered before the look, so that a landing in between is not missed.
            landed.as_mut().enable();
            if let Some(landing) = self.flight.landing().clone() {
                return landing;
            }
            landed.await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.flight.followers.fetch_sub(1, Ordering::Relaxed);
        self.flights.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Gathering ===

impl Gathering {
    /// Whether there is room for so many bytes more; it is taken then.
    pub fn takes(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        self.flights.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.flights.bytes_most
    }

    /// Only so many bytes are left of it; never more than there were.
    pub fn shrinks_to(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.flights.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// So many bytes of it are gone.
    pub fn gives_back(&mut self, bytes: u64) {
        self.shrinks_to(self.bytes.saturating_sub(bytes));
    }

    /// A body that was gathered whole: it counts until it has gone out, however slowly its client takes it.
    pub fn counts(mut self, body: Bytes) -> Bytes {
        if body.len() <= SMALL_BYTES {
            return body;
        }
        self.shrinks_to(body.len() as u64);
        Bytes::from_owner(Counted { body, _room: self })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.flights.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::clock;
    use crate::gateway::reads::endings::Endings;
    use futures_util::FutureExt;

    const KEY: ReadKey = ReadKey([7; 32]);

    fn flight() -> Option<Arc<Flight>> {
        Some(Flight::new(Endings::new(clock::now()).moment(), TargetId([2; 16]), false))
    }

    fn lead(flights: &Arc<Flights>) -> Seat {
        match flights.join(KEY, flight, |_| false) {
            Joined::Lead(seat) => seat,
            _ => panic!("nobody else leads"),
        }
    }

    fn follow(flights: &Arc<Flights>) -> Follower {
        match flights.join(KEY, flight, |_| true) {
            Joined::Follow(follower) => follower,
            _ => panic!("there is a flight"),
        }
    }

    #[test]
    fn a_leader_that_is_gone_leaves_nobody_waiting() {
        let (flights, gauge) = (Arc::new(Flights::new(1)), Gauge::default());
        let seat = lead(&flights);
        let follower = follow(&flights);
        assert!(seat.close());
        let mut waits = Box::pin(follower.landing(&gauge));
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(gauge.get(), 1);
        drop(seat);
        assert!(matches!(waits.as_mut().now_or_never(), Some(Landing::Failed)));
        drop(waits);
        assert!(
            matches!(follower.landing(&gauge).now_or_never(), Some(Landing::Failed)),
            "late looks see it, too"
        );
        drop(follower);
        assert_eq!((flights.flying.load(Ordering::Relaxed), flights.waiting.load(Ordering::Relaxed)), (0, 0));
        assert!(!flights.has(&KEY));
    }

    #[test]
    fn a_flight_that_was_overtaken_goes_on_and_takes_nothing_from_its_successor() {
        let flights = Arc::new(Flights::new(1));
        let first = lead(&flights);
        let waits = follow(&flights);
        let second = lead(&flights);
        let later = follow(&flights);
        first.land(Landing::Alone);
        assert!(flights.has(&KEY), "the second one's place is its own");
        let gauge = Gauge::default();
        assert!(matches!(waits.landing(&gauge).now_or_never(), Some(Landing::Alone)));
        assert!(later.landing(&gauge).now_or_never().is_none());
        drop(second);
        assert!(!flights.has(&KEY));
    }

    #[test]
    fn what_is_gathered_is_bounded_and_given_back() {
        let flights = Arc::new(Flights::new(100));
        let (mut one, mut other) = (flights.gather(), flights.gather());
        assert!(one.takes(60) && !other.takes(60));
        drop(other);
        assert!(one.takes(40) && !one.takes(1));
        drop(one);
        assert_eq!(flights.gathered(), 0);
    }

    #[test]
    fn a_body_that_was_gathered_whole_counts_until_it_has_gone_out() {
        let flights = Arc::new(Flights::new(1 << 20));
        let gathered = |length: usize| {
            let mut room = flights.gather();
            assert!(room.takes(length as u64));
            room.counts(vec![7; length].into())
        };
        let body = gathered(100_000);
        let rest = body.slice(90_000..);
        drop(body);
        assert_eq!(flights.gathered(), 100_000, "a part of it keeps all of it");
        drop(rest);
        let small = gathered(SMALL_BYTES);
        assert_eq!((flights.gathered(), small.len()), (0, SMALL_BYTES));
    }
}
