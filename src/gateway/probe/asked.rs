//! Which slots are being asked about, and which holds were lately. One question at a time for each slot, whoever wants it; a
//! hold that was asked about, and a slot of which nothing is left to ask, rest for some seconds. So a flood of refused
//! requests is no flood of questions.

use crate::domain::slot::{HoldKey, SlotId};
use crate::gateway::clock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a hold that was asked about is left alone, and a slot without one that may be asked about.
pub const REST: Duration = Duration::from_secs(5);
/// Questions about different slots at one time.
const ASKING_MOST: usize = 256;
/// Slots, and holds, that rest at one time; of more nobody is asked.
const RESTING_MOST: usize = 10_000;
/// How often those that have rested are looked for, where there are too many.
const SWEEP: Duration = Duration::from_secs(1);

/// See the module. Shared by all workers.
#[derive(Default)]
pub struct Probing(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    asking: HashMap<SlotId, watch::Receiver<Option<Shown>>>,
    slots: Resting<SlotId>,
    holds: Resting<HoldKey>,
}

/// What was asked about lately, and until when it rests.
struct Resting<K> {
    until: HashMap<K, Instant>,
    swept: Option<Instant>,
}

/// What a question showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The holder is there.
    There,
    /// The backend did not say.
    Nothing,
    /// It was gone, and its place was given back.
    Freed,
    /// It was gone, and so was the hold: the next claim tells what is there now.
    Changed,
}

/// What somebody may do who wants to know of a slot.
pub enum Place<'a> {
    /// Ask.
    First(Asking<'a>),
    /// Wait for who asks already.
    Copy(Waiting),
    /// Neither: it was asked lately, or too much is asked.
    Rests,
}

/// One slot's question; over when it is dropped.
pub struct Asking<'a> {
    probing: &'a Probing,
    slot: SlotId,
    tell: watch::Sender<Option<Shown>>,
}

/// Waits for the end of another one's question.
pub struct Waiting(watch::Receiver<Option<Shown>>);

// === impl Probing ===

impl Probing {
    /// Somebody is refused `slot` and wants to know.
    pub fn enter(&self, slot: SlotId) -> Place<'_> {
        let mut inner = self.lock();
        if let Some(asked) = inner.asking.get(&slot) {
            return Place::Copy(Waiting(asked.clone()));
        }
        if inner.asking.len() >= ASKING_MOST || inner.slots.rests(&slot) {
            return Place::Rests;
        }
        let (tell, told) = watch::channel(None);
        inner.asking.insert(slot, told);
        Place::First(Asking { probing: self, slot, tell })
    }

    /// Whether a hold may be asked about; from now on it rests.
    pub fn take(&self, hold: HoldKey) -> bool {
        let mut inner = self.lock();
        !inner.holds.rests(&hold) && inner.holds.begin(hold)
    }

    /// Nothing of a slot may be asked about: it rests.
    pub fn rest(&self, slot: SlotId) {
        self.lock().slots.begin(slot);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Resting ===

impl<K: Eq + Hash> Resting<K> {
    fn rests(&self, key: &K) -> bool {
        self.until.get(key).is_some_and(|until| clock::now() < *until)
    }

    /// It rests from now on; false where too many do.
    fn begin(&mut self, key: K) -> bool {
        let now = clock::now();
        if self.until.len() >= RESTING_MOST && self.swept.is_none_or(|swept| now >= swept + SWEEP) {
            self.swept = Some(now);
            self.until.retain(|_, until| now < *until);
        }
        let room = self.until.len() < RESTING_MOST || self.until.contains_key(&key);
        if room {
            self.until.insert(key, now + REST);
        }
        room
    }
}

impl<K> Default for Resting<K> {
    fn default() -> Resting<K> {
        Resting { until: HashMap::new(), swept: None }
    }
}

// === impl Shown ===

impl Shown {
    /// Whether the slot may be had now.
    pub fn is_worth_a_claim(self) -> bool {
        matches!(self, Shown::Freed | Shown::Changed)
    }

    /// The word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Shown::There => "there",
            Shown::Nothing => "nothing",
            Shown::Freed => "freed",
            Shown::Changed => "changed",
        }
    }
}

// === impl Asking ===

impl Asking<'_> {
    /// Tells those who wait.
    pub fn ended(self, shown: Shown) {
        let _ = self.tell.send(Some(shown));
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.probing.lock().asking.remove(&self.slot);
    }
}

// === impl Waiting ===

impl Waiting {
    /// What the question showed; nothing where whoever asked has left.
    pub async fn shown(mut self) -> Shown {
        let shown = self.0.wait_for(Option::is_some).await.ok().and_then(|shown| *shown);
        shown.unwrap_or(Shown::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::Token;

    const SLOT: SlotId = SlotId([1; 16]);

    fn hold(token: u128) -> HoldKey {
        HoldKey { slot: SLOT, token: Token(token) }
    }

    fn first(probing: &Probing, slot: SlotId) -> Option<Asking<'_>> {
        if let Place::First(asking) = probing.enter(slot) { Some(asking) } else { None }
    }

    fn copy(probing: &Probing, slot: SlotId) -> Option<Waiting> {
        if let Place::Copy(waiting) = probing.enter(slot) { Some(waiting) } else { None }
    }

    #[tokio::test]
    async fn one_asks_and_all_others_hear_it() {
        let probing = Probing::default();
        let asking = first(&probing, SLOT).expect("nobody asks");
        let copies: Vec<Waiting> = (0..3).filter_map(|_| copy(&probing, SLOT)).collect();
        assert_eq!(copies.len(), 3);
        assert!(first(&probing, SlotId([2; 16])).is_some(), "another slot is another question");
        asking.ended(Shown::Freed);
        for copy in copies {
            assert_eq!(copy.shown().await, Shown::Freed);
        }
        assert!(first(&probing, SLOT).is_some());
    }

    #[tokio::test]
    async fn whoever_leaves_while_asking_leaves_nobody_waiting() {
        let probing = Probing::default();
        let asking = first(&probing, SLOT).expect("nobody asks");
        let waiting = copy(&probing, SLOT).expect("somebody asks");
        drop(asking);
        assert_eq!(waiting.shown().await, Shown::Nothing);
        assert!(first(&probing, SLOT).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_about_rests() {
        let probing = Probing::default();
        assert!(probing.take(hold(1)));
        assert!(
            !probing.take(hold(1)) && probing.take(hold(2)),
            "another hold of the same slot may be asked about"
        );
        probing.rest(SLOT);
        assert!(first(&probing, SLOT).is_none() && copy(&probing, SLOT).is_none());
        tokio::time::advance(REST - Duration::from_millis(1)).await;
        assert!(!probing.take(hold(1)) && first(&probing, SLOT).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(probing.take(hold(1)) && first(&probing, SLOT).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn questions_and_what_is_remembered_of_them_are_bounded() {
        let probing = Probing::default();
        let slot = |n: usize| SlotId((n as u128).to_be_bytes());
        let asking: Vec<_> = (0..ASKING_MOST).filter_map(|n| first(&probing, slot(n))).collect();
        assert_eq!(asking.len(), ASKING_MOST);
        assert!(first(&probing, slot(ASKING_MOST)).is_none());
        drop(asking);
        assert!(first(&probing, slot(ASKING_MOST)).is_some());
        assert_eq!((0..RESTING_MOST as u128 + 10).filter(|n| probing.take(hold(*n))).count(), RESTING_MOST);
        tokio::time::advance(REST + SWEEP).await;
        assert!(probing.take(hold(1 << 100)), "those that have rested make room");
        assert_eq!(probing.lock().holds.until.len(), 1);
    }
}
