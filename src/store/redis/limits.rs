//! Limits of the fleet. Each command waits a short time only, and a request that finds the store slow goes on without: the
//! gateway then limits by itself. Which parts do not answer is known by thread, because each has connections of its own;
//! a task for each asks until the answers come in time again.

use super::part::Part;
use super::reply::{self, Reply};
use super::script::{Call, Script};
use super::{Inner, Redis};
use crate::domain::throttle::Nanos;
use crate::store::{LimitsTaken, Said, StoreError, TakeLimits};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How often a part that did not answer in time is asked again.
const PROBE: Duration = Duration::from_millis(100);

/// Who decides.
pub(super) struct Limits {
    away: Mutex<HashSet<(ThreadId, Part)>>,
    /// How many are in it: mostly none, and then nobody locks.
    count: AtomicUsize,
    gateways: AtomicU64,
}

// === impl Limits ===

impl Limits {
    /// Nothing was asked yet.
    pub(super) fn new() -> Limits {
        Limits { away: Mutex::default(), count: AtomicUsize::new(0), gateways: AtomicU64::new(1) }
    }

    fn are_away(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn gateways(&self) -> u64 {
        self.gateways.load(Ordering::Relaxed)
    }

    /// So many gateways are there, this one included.
    pub(super) fn counted(&self, gateways: usize) {
        self.gateways.store(gateways as u64, Ordering::Relaxed);
    }

    fn is_away(&self, part: Part) -> bool {
        self.are_away() && self.lock().contains(&(std::thread::current().id(), part))
    }

    /// This thread got no answer about a part. Whether that is news.
    fn lost(&self, part: Part, why: &str) -> bool {
        let mut away = self.lock();
        let is_new = away.insert((std::thread::current().id(), part));
        self.count.store(away.len(), Ordering::Relaxed);
        if is_new && away.len() == 1 {
            let share = self.gateways();
            tracing::error!(
                why,
                share,
                "the store does not decide limits: this gateway does, and lets one part in `share` of each limit pass"
            );
        }
        is_new
    }

    fn found(&self, part: Part) {
        let mut away = self.lock();
        away.remove(&(std::thread::current().id(), part));
        self.count.store(away.len(), Ordering::Relaxed);
        if away.is_empty() {
            tracing::info!("the store decides limits again");
        }
    }

    /// Held for one change of the set, never while waiting.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(ThreadId, Part)>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Redis ===

impl Redis {
    /// See [`Store::limits_are_away`](crate::store::Store::limits_are_away).
    pub(in crate::store) fn limits_are_away(&self) -> bool {
        self.inner.limits.are_away()
    }

    /// See [`Store::gateways`](crate::store::Store::gateways).
    pub(in crate::store) fn gateways(&self) -> u64 {
        self.inner.limits.gateways()
    }
}

// === impl Inner ===

impl Inner {
    /// See [`Store::take_limits`](crate::store::Store::take_limits).
    pub(in crate::store) async fn take_limits(
        self: &Arc<Inner>,
        take: &TakeLimits,
    ) -> Result<LimitsTaken, StoreError> {
        let part = self.wire.parts.spread_by(take.space as u8);
        if self.limits.is_away(part) {
            return Err(StoreError::Unavailable("it did not answer in time".into()));
        }
        let told = match self.ask_limits(take, part, self.wire.place.limit_timeout).await {
            Ok(value) => read(value),
            Err(error) => Err(error),
        };
        if let Err(StoreError::Unavailable(why) | StoreError::Full(why)) = &told
            && self.health.check_open().is_ok()
            && self.limits.lost(part, why)
        {
            tokio::spawn(self.clone().look_for_limits(part));
        }
        told
    }

    /// See [`Store::prepare_limits`](crate::store::Store::prepare_limits).
    pub(in crate::store) async fn prepare_limits(&self) {
        for part in self.wire.parts.all() {
            // What goes wrong here, the first request finds out.
            drop(self.ask_limits(&nothing(), part, self.wire.place.timeout).await);
        }
    }

    /// Asks until the answer comes in time: with the patience of any other command, so that a dead connection is given up.
    async fn look_for_limits(self: Arc<Inner>, part: Part) {
        loop {
            tokio::time::sleep(PROBE).await;
            let asked = now();
            let told = self.ask_limits(&nothing(), part, self.wire.place.timeout).await;
            if (told.is_ok() && now().duration_since(asked) <= self.wire.place.limit_timeout)
                || self.health.check_open().is_err()
            {
                return self.limits.found(part);
            }
        }
    }

    async fn ask_limits(
        &self,
        take: &TakeLimits,
        part: Part,
        patience: Duration,
    ) -> Result<redis::Value, StoreError> {
        if self.health.is_tight() {
            // A flood of clients must not take the room that records need.
            return Err(StoreError::Full("its memory is nearly full".into()));
        }
        let buckets = take.hard.iter().chain(&take.stack);
        let count = usize::from(take.hard.is_some()) + take.stack.len();
        let prefix = self.wire.parts.prefix(part);
        let keys = buckets.clone().map(|bucket| [prefix, b"q:", &bucket.name.to_be_bytes()].concat());
        // A timeout of this short patience says nothing about the connection.
        let hasty = patience < self.wire.place.timeout;
        let mut call = Call::bare(Script::Limits, part, keys, count, patience).once().hasty(hasty);
        call = call.arg(take.cost).arg(u8::from(take.hard.is_some()));
        for bucket in buckets {
            call = call.arg(bucket.limit.interval() / 1_000).arg(bucket.limit.depth() / 1_000);
        }
        self.run(call).await
    }
}

/// A call that takes nothing.
fn nothing() -> TakeLimits {
    TakeLimits { space: 0, hard: None, stack: Vec::new(), cost: 0 }
}

fn read(value: redis::Value) -> Result<LimitsTaken, StoreError> {
    let mut told = Reply::array(value)?;
    let said = match told.number()? {
        0 => Said::Allowed,
        1 => Said::Early,
        _ => Said::Hard,
    };
    let at = told.number()?;
    let left = told.map(|left| Ok(Nanos(reply::number(&left)?.saturating_mul(1_000))));
    Ok(LimitsTaken { said, at, left: left.collect::<Result<_, StoreError>>()? })
}

#[allow(clippy::disallowed_methods, reason = "how long an answer took")]
fn now() -> Instant {
    Instant::now()
}
