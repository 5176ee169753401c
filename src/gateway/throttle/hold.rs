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
    clients: Mutex<BTreeMap<u64, usize>>,
    held: AtomicUsize,
    draining: watch::Sender<bool>,
    held_max: usize,
    held_per_client: usize,
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
    /// At most so many in all, and so many of one client.
    pub fn new(held_max: usize, held_per_client: usize) -> Holds {
        Holds {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            clients: Mutex::default(),
            held: AtomicUsize::new(0),
            draining: watch::Sender::new(false),
            held_max,
            held_per_client,
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
        {
            let mut clients = lock(&holds.clients);
            let mine = clients.entry(held.client).or_default();
            if *mine >= holds.held_per_client {
                if *mine == 0 {
                    clients.remove(&held.client);
                }
                holds.held.fetch_sub(1, Relaxed);
                return None;
            }
            *mine += 1;
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
        let mut clients = lock(&self.holds.clients);
        if let Some(mine) = clients.get_mut(&self.held.client) {
            *mine -= 1;
            if *mine == 0 {
                clients.remove(&self.held.client);
            }
        }
        self.holds.held.fetch_sub(1, Relaxed);
    }
}
