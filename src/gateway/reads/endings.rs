//! What writes have ended. A read notes the order's moment when it sets out; a write marks its scope (and the resources
//! that it changed) with a later one. Whatever was asked for before the mark, kept or still on its way, is not given to
//! anybody who comes after it.
//!
//! Marks are looked at when a copy is wanted, not when it is kept, so no race between the two matters. The table is
//! bounded: where it is full, the older half of it becomes one mark over everything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A place in the order of reads and writes of this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// Whose or which copies a mark ends: a scope, or a resource.
pub type EndingId = [u8; 16];

/// The marks, shared by all workers.
pub struct Endings {
    order: AtomicU64,
    /// No mark is later.
    latest: AtomicU64,
    /// Everything before it is ended, whoever asked for it.
    floor: AtomicU64,
    /// No scope is held open for longer, in milliseconds since `started`.
    open_until: AtomicU64,
    /// Whether the writes of the other gateways are not heard: then nothing is good.
    deaf: AtomicBool,
    started: Instant,
    shards: [Mutex<Shard>; SHARDS],
}

/// Two generations, so that forgetting is a move.
#[derive(Default)]
struct Shard {
    young: HashMap<EndingId, Mark>,
    old: HashMap<EndingId, Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    at: u64,
    /// Writes whose end nobody has told yet: until they are, or for so long, nothing is kept.
    open: u32,
    until: Option<Instant>,
}

const SHARDS: usize = 16;
/// Marks of one shard and generation. All of them together take some megabytes.
const MARKS_MOST: usize = 4096;

// === impl Endings ===

impl Endings {
    /// No marks yet.
    pub fn new(now: Instant) -> Endings {
        Endings {
            order: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            open_until: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
            started: now,
            shards: Default::default(),
        }
    }

    /// Whether no write has been marked yet.
    pub fn are_none(&self) -> bool {
        self.latest.load(Ordering::SeqCst) == 0
    }

    /// The moment at which a read sets out.
    pub fn moment(&self) -> Moment {
        Moment(self.order.load(Ordering::SeqCst))
    }

    /// Ends what was asked for under `id` before now.
    pub fn end(&self, id: EndingId, now: Instant) {
        self.mark(id, now, |_| {});
    }

    /// A write under `id` begins whose end is told elsewhere, or may never be told: until [`Endings::closed`], and at
    /// most until `until`, nothing that is asked for under it is kept either.
    pub fn opened(&self, id: EndingId, now: Instant, until: Instant) {
        // Before the mark, so that whoever sees the mark sees this.
        let millis = u64::try_from((until - self.started).as_millis()).unwrap_or(u64::MAX);
        self.open_until.fetch_max(millis + 1, Ordering::SeqCst);
        self.mark(id, now, |mark| {
            mark.open = mark.open.saturating_add(1);
            mark.until = Some(mark.until.map_or(until, |known| known.max(until)));
        });
    }

    /// A write under `id` has ended.
    pub fn closed(&self, id: EndingId, now: Instant) {
        self.mark(id, now, |mark| {
            mark.open = mark.open.saturating_sub(1);
            if mark.open == 0 {
                mark.until = None;
            }
        });
    }

    /// Ends everything that was asked for before now: nobody knows what was missed.
    pub fn end_all(&self) {
        let at = self.order.fetch_add(1, Ordering::SeqCst) + 1;
        self.floor.fetch_max(at, Ordering::SeqCst);
        self.latest.fetch_max(at, Ordering::SeqCst);
    }

    /// From now on nothing of what the others write is heard, or everything again. What was asked for before is ended both
    /// times, because nobody knows what was missed.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
        self.end_all();
    }

    /// Whether what was asked for at `born` must not be given any more at `now`: a write under one of `ids` came after
    /// it. `ids` are only asked for where any write did.
    pub fn ended(&self, born: Moment, now: Instant, ids: impl FnOnce() -> [EndingId; 2]) -> bool {
        if self.deaf.load(Ordering::SeqCst) {
            return true;
        }
        let millis = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
        let open = millis <= self.open_until.load(Ordering::SeqCst);
        if born.0 >= self.latest.load(Ordering::SeqCst) && !open {
            return false;
        }
        if born.0 < self.floor.load(Ordering::SeqCst) {
            return true;
        }
        let ends = |mark: Mark| born.0 < mark.at || mark.until.is_some_and(|until| now < until);
        ids().into_iter().any(|id| {
            let shard = self.shard(&id);
            shard.find(&id).is_some_and(ends)
        })
    }

    fn mark(&self, id: EndingId, now: Instant, change: impl FnOnce(&mut Mark)) {
        let at = self.order.fetch_add(1, Ordering::SeqCst) + 1;
        let mut shard = self.shard(&id);
        let mut mark = shard.find(&id).unwrap_or(Mark { at, open: 0, until: None });
        mark.at = mark.at.max(at);
        // Writes whose end was never told are over by then: the next one's end is the only one that is waited for.
        if mark.until.is_some_and(|until| until <= now) {
            (mark.open, mark.until) = (0, None);
        }
        change(&mut mark);
        if shard.young.len() >= MARKS_MOST && !shard.young.contains_key(&id) {
            self.floor.fetch_max(shard.forget(now), Ordering::SeqCst);
        }
        shard.young.insert(id, mark);
        drop(shard);
        self.latest.fetch_max(at, Ordering::SeqCst);
    }

    /// Held for a map operation only.
    fn shard(&self, id: &EndingId) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(id[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a write whose end nobody tells keeps its scope open, where a backend may take `timeout`.
    pub fn untold(timeout: Duration) -> Duration {
        timeout.saturating_mul(2)
    }
}

// === impl Shard ===

impl Shard {
    fn find(&self, id: &EndingId) -> Option<Mark> {
        self.young.get(id).or_else(|| self.old.get(id)).copied()
    }

    /// Forgets the older generation but for what is open in it, as far as there is room; the latest mark that it had.
    fn forget(&mut self, now: Instant) -> u64 {
        let young = std::mem::take(&mut self.young);
        let forgotten = std::mem::replace(&mut self.old, young);
        let open = forgotten.iter().filter(|(_, mark)| mark.until.is_some_and(|until| now < until));
        self.young = open.take(MARKS_MOST / 2).map(|(id, mark)| (*id, *mark)).collect();
        forgotten.values().map(|mark| mark.at).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::clock;

    const ANN: EndingId = [1; 16];
    const BOB: EndingId = [2; 16];
    const PAGE: EndingId = [3; 16];

    fn ended(endings: &Endings, born: Moment, id: EndingId) -> bool {
        endings.ended(born, clock::now(), || [id, PAGE])
    }

    #[test]
    fn a_write_ends_what_its_scope_asked_for_before_it_and_nothing_else() {
        let endings = Endings::new(clock::now());
        let before = endings.moment();
        assert!(!ended(&endings, before, ANN));
        endings.end(ANN, clock::now());
        assert!(ended(&endings, before, ANN) && !ended(&endings, before, BOB));
        assert!(!ended(&endings, endings.moment(), ANN));
        endings.end(PAGE, clock::now());
        assert!(ended(&endings, before, BOB), "the resource was changed");
    }

    #[test]
    fn while_a_write_is_open_nothing_of_its_scope_is_good() {
        let endings = Endings::new(clock::now());
        endings.opened(ANN, clock::now(), clock::now() + Duration::from_secs(60));
        assert!(ended(&endings, endings.moment(), ANN) && !ended(&endings, endings.moment(), BOB));
        endings.opened(ANN, clock::now(), clock::now() + Duration::from_secs(60));
        endings.closed(ANN, clock::now());
        assert!(ended(&endings, endings.moment(), ANN), "the other one is open");
        let during = endings.moment();
        endings.closed(ANN, clock::now());
        assert!(ended(&endings, during, ANN) && !ended(&endings, endings.moment(), ANN));
    }

    #[test]
    fn a_write_that_never_ends_does_not_keep_its_scope_open_for_ever() {
        let endings = Endings::new(clock::now());
        let until = clock::now() + Duration::from_secs(5);
        endings.opened(ANN, clock::now(), until);
        let now = endings.moment();
        assert!(endings.ended(now, until - Duration::from_millis(1), || [ANN, PAGE]));
        assert!(!endings.ended(now, until + Duration::from_millis(1), || [ANN, PAGE]));
    }

    #[test]
    fn a_write_that_never_ended_leaves_the_next_one_its_end() {
        let endings = Endings::new(clock::now());
        let began = clock::now();
        let until = began + Duration::from_secs(5);
        endings.opened(ANN, began, until);
        let later = until + Duration::from_secs(1);
        endings.opened(ANN, later, later + Duration::from_secs(5));
        assert!(endings.ended(endings.moment(), later, || [ANN, PAGE]), "it is open");
        endings.closed(ANN, later);
        assert!(!endings.ended(endings.moment(), later, || [ANN, PAGE]), "and closed");
    }

    #[test]
    fn where_there_are_too_many_marks_more_is_ended_never_less() {
        let endings = Endings::new(clock::now());
        let before = endings.moment();
        endings.end(ANN, clock::now());
        for n in 0..(4 * SHARDS * MARKS_MOST) as u64 {
            let mut id = [9; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            endings.end(id, clock::now());
        }
        let held: usize = (0..SHARDS as u8)
            .map(|first| endings.shard(&[first; 16]))
            .map(|shard| shard.young.len() + shard.old.len())
            .sum();
        assert!(held <= 2 * SHARDS * MARKS_MOST, "{held}");
        assert!(ended(&endings, before, ANN) && ended(&endings, before, BOB));
        assert!(!ended(&endings, endings.moment(), ANN));
    }

    #[test]
    fn what_was_missed_ends_everything() {
        let endings = Endings::new(clock::now());
        let before = endings.moment();
        endings.set_deaf(true);
        let during = endings.moment();
        assert!(ended(&endings, before, BOB) && ended(&endings, during, BOB));
        endings.set_deaf(false);
        assert!(ended(&endings, before, BOB) && ended(&endings, during, BOB));
        assert!(!ended(&endings, endings.moment(), BOB));
    }
}
