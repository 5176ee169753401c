//! Holding: a request that comes before its turn waits for it. It costs a timer for whoever is next in line, and nothing
//! for those behind.

use super::turn::SharedTurn;
use crate::domain::poll::{Place, Role, Turns};
use crate::domain::read::key::ReadKey;
use crate::domain::throttle::Key;
use crate::gateway::clock;
use crate::journal::{HoldEnd, LimitFigures};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// Lines are spread over so many locks.
const SHARDS: usize = 16;

/// The lines of one shard; whoever stands in one is told by its bell.
type Lines = Turns<ReadKey, Arc<Bell>>;

/// How somebody in line is told.
#[derive(Default)]
struct Bell {
    rings: Notify,
    /// The turn that it shares, from when that has come.
    turn: OnceLock<SharedTurn>,
}

/// Every line of held requests, shared by all workers.
pub struct Holds {
    shards: Box<[Mutex<Lines>]>,
    counts: Mutex<Counts>,
    held: AtomicUsize,
    draining: watch::Sender<bool>,
    held_max: usize,
    held_per_client: usize,
    held_per_address: usize,
}

/// How many requests wait, of those of whom any do.
#[derive(Default)]
struct Counts {
    clients: BTreeMap<u64, usize>,
    /// Of all clients of an address together that prove nothing.
    addresses: BTreeMap<u64, usize>,
}

/// How a hold ended. That its client left is the one way that nobody is told.
#[derive(Debug)]
pub enum End {
    /// Its turn came; it is said where others share it.
    Turn(Option<SharedTurn>),
    /// The turn of an equal one came, which it shares.
    Shared(SharedTurn),
    /// It waited as long as it may. So many turns come before its own.
    Over(usize),
    /// As many are held as may be, of this client or in all; it did not wait.
    Full,
    /// The gateway drains.
    Draining,
}

/// Whom a hold is for.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The bucket whose turn it waits for.
    pub key: Key,
    /// The client, for its own limit of held requests.
    pub client: u64,
    /// Its address, where that answers for it.
    pub umbrella: Option<u64>,
    /// Which reads are equal to it.
    pub read: Option<ReadKey>,
    /// How long it may wait.
    pub at_most: Duration,
}

/// Counts the end of a hold, also where its client leaves and nobody is there to tell.
struct Counted<'a> {
    figures: &'a LimitFigures,
    end: HoldEnd,
}

/// A place in line; left when it is dropped.
struct Seat<'a> {
    holds: &'a Holds,
    held: Held,
    place: Place,
    told: Arc<Bell>,
    gone: bool,
}

// === impl Holds ===

impl Holds {
    /// At most so many in all, so many of one client, and `umbrella` times as many of all clients of an address together
    /// that prove nothing; never more than a quarter of all, where that is enough for one of them.
    pub fn new(held_max: usize, held_per_client: usize, umbrella: usize) -> Holds {
        let held_per_address =
            held_per_client.saturating_mul(umbrella).min((held_max / 4).max(held_per_client));
        Holds {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            counts: Mutex::default(),
            held: AtomicUsize::new(0),
            draining: watch::Sender::new(false),
            held_max,
            held_per_client,
            held_per_address,
        }
    }

    /// Counts one more, where its client and its address have fewer than they may.
    fn takes(&self, held: &Held) -> bool {
        let mut counts = lock(&self.counts);
        if !take(&mut counts.clients, held.client, self.held_per_client) {
            return false;
        }
        let fits =
            held.umbrella.is_none_or(|address| take(&mut counts.addresses, address, self.held_per_address));
        if !fits {
            give_back(&mut counts.clients, held.client);
        }
        fits
    }

    fn gives_back(&self, held: &Held) {
        let mut counts = lock(&self.counts);
        give_back(&mut counts.clients, held.client);
        if let Some(address) = held.umbrella {
            give_back(&mut counts.addresses, address);
        }
    }

    /// Whether somebody waits for this bucket: whoever comes now stands behind.
    pub fn is_waiting(&self, key: Key) -> bool {
        self.held.load(Relaxed) > 0 && self.lock(key).is_waiting(key.0)
    }

    /// Requests that wait.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Ends every hold.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits for a turn, and counts how that ended. `take` takes it, or says how long until it comes; it is asked only at the front of the line.
    pub async fn turn(
        &self,
        held: Held,
        figures: &LimitFigures,
        take: impl AsyncFnMut() -> Result<(), Duration>,
    ) -> End {
        let mut counted = Counted { figures, end: HoldEnd::Left };
        let end = match Seat::new(self, held) {
            Some(seat) => self.wait(seat, take).await,
            None => End::Full,
        };
        counted.end = match end {
            End::Turn(_) => HoldEnd::Turn,
            End::Shared(_) => HoldEnd::Shared,
            End::Over(_) => HoldEnd::Over,
            End::Full => HoldEnd::Full,
            End::Draining => HoldEnd::Drained,
        };
        end
    }

    async fn wait(&self, mut seat: Seat<'_>, mut take: impl AsyncFnMut() -> Result<(), Duration>) -> End {
        let held = seat.held;
        let mut draining = self.draining.subscribe();
        let until = clock::now() + held.at_most;
        loop {
            let role = self.lock(held.key).role(seat.place);
            let mut wake = until;
            let ahead = match role {
                Role::Gone => {
                    seat.gone = true;
                    return End::Shared(seat.told.turn.get().cloned().unwrap_or_default());
                }
                Role::Behind(ahead) => ahead,
                Role::Front => match take().await {
                    Ok(()) => return End::Turn(seat.go()),
                    Err(wait) => {
                        wake = until.min(clock::now() + wait);
                        0
                    }
                },
            };
            if clock::now() >= until {
                return End::Over(ahead);
            }
            if *draining.borrow_and_update() {
                return End::Draining;
            }
            seat.wait(wake, &mut draining).await;
        }
    }

    fn lock(&self, key: Key) -> MutexGuard<'_, Lines> {
        lock(&self.shards[key.shard(SHARDS)])
    }
}

/// Held for a step of a line, never while waiting; a panic in between leaves the line whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(counts: &mut BTreeMap<u64, usize>, who: u64, most: usize) -> bool {
    let known = counts.get(&who).copied().unwrap_or_default();
    if known >= most {
        return false;
    }
    counts.insert(who, known + 1);
    true
}

fn give_back(counts: &mut BTreeMap<u64, usize>, who: u64) {
    if let Some(count) = counts.get_mut(&who) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&who);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.figures.hold_ended(self.end);
    }
}

// === impl Seat ===

impl<'a> Seat<'a> {
    fn new(holds: &'a Holds, held: Held) -> Option<Seat<'a>> {
        if holds.held.fetch_add(1, Relaxed) >= holds.held_max {
            holds.held.fetch_sub(1, Relaxed);
            return None;
        }
        if !holds.takes(&held) {
            holds.held.fetch_sub(1, Relaxed);
            return None;
        }
        let told = Arc::new(Bell::default());
        let place = holds.lock(held.key).enter(held.key.0, held.read, told.clone());
        Some(Seat { holds, held, place, told, gone: false })
    }

    /// Until it is told something, the gateway drains, or then.
    async fn wait(&self, until: Instant, draining: &mut watch::Receiver<bool>) {
        tokio::select! {
            () = self.told.rings.notified() => {}
            _ = draining.changed() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Takes the turn, with everybody who shares it.
    fn go(&mut self) -> Option<SharedTurn> {
        let mut lines = self.holds.lock(self.held.key);
        let (along, next) = lines.go(self.place);
        let shared = (!along.is_empty()).then(SharedTurn::default);
        // While nobody can look: who is not in line any more knows its turn.
        for (told, turn) in along.iter().zip(shared.iter().cycle()) {
            let _ = told.turn.set(turn.clone());
        }
        drop(lines);
        self.gone = true;
        along.into_iter().chain(next).for_each(|told| told.rings.notify_one());
        shared
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if !self.gone {
            let next = self.holds.lock(self.held.key).leave(self.place);
            next.inspect(|told| told.rings.notify_one());
        }
        self.holds.gives_back(&self.held);
        self.holds.held.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(holds: &Holds, client: u64, umbrella: Option<u64>) -> Option<Seat<'_>> {
        let (key, at_most) = (Key(client), Duration::from_secs(1));
        Seat::new(holds, Held { key, client, umbrella, read: None, at_most })
    }

    #[test]
    fn an_address_that_invents_clients_leaves_places_to_others() {
        let holds = Holds::new(100, 10, 50);
        let invented: Vec<_> = (0..100).map_while(|client| seat(&holds, client, Some(7))).collect();
        assert_eq!(invented.len(), 25, "a quarter of all");
        assert!(seat(&holds, 200, Some(7)).is_none());
        assert!(seat(&holds, 200, Some(8)).is_some(), "another address");
        assert!(seat(&holds, 7, None).is_some(), "whom no address answers for");
        drop(invented);
        let own: Vec<_> = (0..100).map_while(|_| seat(&holds, 1, Some(7))).collect();
        assert_eq!(own.len(), 10, "one client");
        drop(own);
        let counts = lock(&holds.counts);
        assert!(counts.clients.is_empty() && counts.addresses.is_empty() && holds.held() == 0);
    }

    #[test]
    fn an_address_has_as_many_as_one_client_and_no_more_than_its_umbrella() {
        let most = |holds: &Holds| -> usize {
            let seats: Vec<_> = (0..200).map_while(|client| seat(holds, client, Some(7))).collect();
            seats.len()
        };
        assert_eq!(most(&Holds::new(20, 10, 50)), 10);
        assert_eq!(most(&Holds::new(1000, 10, 2)), 20);
    }
}
