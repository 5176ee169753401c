//! The limits' memory behind its locks. All buckets of one key lie in one shard, so a stack of limits is decided under one
//! lock; with the address's umbrella under two, always taken in the same order.

use crate::config::ThrottlePolicy;
use crate::domain::throttle::key::HARD;
use crate::domain::throttle::{Denied, Key, LIMITS_MAX, Limit, Nanos, Seen, Shard, Standing, decide};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shards: workers seldom meet in one.
const SHARDS: usize = 64;

/// Buckets that one request counts against, beside the hard limit's.
const STACK_MAX: usize = 2 * LIMITS_MAX;
/// Their arrival times.
type Tats = [Nanos; STACK_MAX];

/// What every worker shares.
pub struct Buckets {
    shards: Box<[Mutex<Shard>]>,
}

/// Whom one request counts against.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// The client, or whatever `per` says.
    pub own: Key,
    /// Its address, where it proves nothing.
    pub umbrella: Option<Key>,
}

/// Which of a request's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The client's, or whatever `per` says.
    Own,
    /// Its address's.
    Address,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    /// Which of the limits has least left.
    pub limit: usize,
    /// How much.
    pub standing: Standing,
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// It was counted.
    Allowed(Stand),
    /// It comes before its turn; nothing was taken, except from the hard limit.
    Early(Denied, Stand),
    /// It is above the hard limit.
    Hard(Denied, Stand),
}

/// The places of all, for a gauge.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Places in use.
    pub used: u64,
    /// How often a bucket found no place.
    pub overflowed: u64,
}

/// Both shards of a request, where they are two.
pub struct Locked<'a> {
    own: MutexGuard<'a, Shard>,
    umbrella: Option<MutexGuard<'a, Shard>>,
}

// === impl Buckets ===

impl Buckets {
    /// Takes at most so many bytes, and them only as far as they are used.
    pub fn new(bytes: u64) -> Buckets {
        let each = usize::try_from(bytes).unwrap_or(usize::MAX) / SHARDS;
        Buckets { shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(each))).collect() }
    }

    /// Decides for one request. `arrives`: it is here for the first time, so that the hard limit counts it.
    pub fn take(&self, throttle: &ThrottlePolicy, keys: Keys, now: Nanos, arrives: bool) -> Verdict {
        let rules = &throttle.rules;
        let own = rules.limits.len();
        let mut locked = self.lock(keys);
        let (mut tats, mut seen) = ([Nanos(0); STACK_MAX], [Seen::default(); STACK_MAX]);
        locked.read(keys, own, &mut tats, &mut seen, now);
        if let (Some(hard), true) = (&rules.hard, arrives)
            && let Err(denied) = locked.arrive(keys, hard, rules.cost, now)
        {
            return Verdict::Hard(denied, Stand::of(&rules.limits, &tats, now));
        }
        let stack = if keys.umbrella.is_some() { &throttle.stack[..] } else { &throttle.stack[..own] };
        match decide(stack, &mut tats[..stack.len()], now, rules.cost) {
            Ok(()) => {
                locked.write(own, &tats[..stack.len()], &seen, now);
                Verdict::Allowed(Stand::of(&rules.limits, &tats, now))
            }
            Err(denied) => Verdict::Early(denied, Stand::of(&rules.limits, &tats, now)),
        }
    }

    /// The same for a request that stands behind others: only the hard limit counts it now.
    pub fn arrive(&self, throttle: &ThrottlePolicy, keys: Keys, now: Nanos) -> Verdict {
        let rules = &throttle.rules;
        let mut locked = self.lock(keys);
        let (mut tats, mut seen) = ([Nanos(0); STACK_MAX], [Seen::default(); STACK_MAX]);
        locked.read(keys, rules.limits.len(), &mut tats, &mut seen, now);
        let stand = Stand::of(&rules.limits, &tats, now);
        if let Some(hard) = &rules.hard
            && let Err(denied) = locked.arrive(keys, hard, rules.cost, now)
        {
            return Verdict::Hard(denied, stand);
        }
        let stack = if keys.umbrella.is_some() { &throttle.stack[..] } else { &rules.limits[..] };
        // What it finds goes nowhere: it only says how long the first in line waits.
        let wait = decide(stack, &mut tats[..stack.len()], now, rules.cost).err().unwrap_or_default();
        Verdict::Early(wait, stand)
    }

    /// Does something with a request's buckets while nobody else changes them.
    pub fn with<T>(&self, keys: Keys, act: impl FnOnce(&mut Locked<'_>) -> T) -> T {
        act(&mut self.lock(keys))
    }

    /// Sums over the shards.
    pub fn figures(&self) -> Figures {
        let mut sum = Figures::default();
        for shard in &self.shards {
            let shard = lock(shard);
            sum.used += shard.used() as u64;
            sum.overflowed += shard.overflowed();
        }
        sum
    }

    fn lock(&self, keys: Keys) -> Locked<'_> {
        let own = keys.own.shard(SHARDS);
        let umbrella = keys.umbrella.map(|key| key.shard(SHARDS)).filter(|&shard| shard != own);
        match umbrella {
            // In the order of the shards, so that two requests never wait for each other.
            Some(umbrella) if umbrella < own => {
                let umbrella = Some(lock(&self.shards[umbrella]));
                Locked { own: lock(&self.shards[own]), umbrella }
            }
            Some(umbrella) => {
                let own = lock(&self.shards[own]);
                Locked { own, umbrella: Some(lock(&self.shards[umbrella])) }
            }
            None => Locked { own: lock(&self.shards[own]), umbrella: None },
        }
    }
}

/// Held for some comparisons, never while waiting; a panic in between leaves at most one bucket unwritten.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The arrival times of a key's buckets.
fn look(shard: &Shard, key: Key, tats: &mut [Nanos], seen: &mut [Seen], now: Nanos) {
    for (number, (tat, seen)) in tats.iter_mut().zip(seen).enumerate() {
        (*tat, *seen) = shard.look(key.bucket(number as u64), now);
    }
}

// === impl Locked ===

impl Locked<'_> {
    /// The arrival time of one bucket: of a key that these shards were locked for.
    pub fn tat(&self, keys: Keys, of: Whose, number: u64, now: Nanos) -> Nanos {
        match (of, keys.umbrella) {
            (Whose::Address, Some(key)) => {
                self.umbrella.as_ref().unwrap_or(&self.own).tat(key.bucket(number), now)
            }
            _ => self.own.tat(keys.own.bucket(number), now),
        }
    }

    /// Keeps it.
    pub fn set(&mut self, keys: Keys, of: Whose, number: u64, tat: Nanos, now: Nanos) {
        match (of, keys.umbrella) {
            (Whose::Address, Some(key)) => {
                self.umbrella.as_mut().unwrap_or(&mut self.own).set(key.bucket(number), tat, now);
            }
            _ => self.own.set(keys.own.bucket(number), tat, now),
        }
    }

    /// The arrival times of the client's `own` buckets, and behind them those of its address.
    fn read(&self, keys: Keys, own: usize, tats: &mut Tats, seen: &mut [Seen; STACK_MAX], now: Nanos) {
        look(&self.own, keys.own, &mut tats[..own], &mut seen[..own], now);
        if let Some(key) = keys.umbrella {
            let shard = self.umbrella.as_ref().unwrap_or(&self.own);
            look(shard, key, &mut tats[own..2 * own], &mut seen[own..2 * own], now);
        }
    }

    /// Counts against the hard limit.
    fn arrive(&mut self, keys: Keys, hard: &Limit, cost: u64, now: Nanos) -> Result<(), Denied> {
        let bucket = keys.own.bucket(HARD);
        let mut tat = [self.own.tat(bucket, now)];
        decide(&[*hard], &mut tat, now, cost)?;
        self.own.set(bucket, tat[0], now);
        Ok(())
    }

    /// Keeps the arrival times, of which the first `own` are the client's.
    fn write(&mut self, own: usize, tats: &[Nanos], seen: &[Seen; STACK_MAX], now: Nanos) {
        let (client, address) = tats.split_at(own);
        let (its, theirs) = seen.split_at(own);
        client.iter().zip(its).for_each(|(tat, seen)| self.own.set_at(*seen, *tat, now));
        let shard = self.umbrella.as_mut().unwrap_or(&mut self.own);
        address.iter().zip(theirs).for_each(|(tat, seen)| shard.set_at(*seen, *tat, now));
    }
}

// === impl Verdict ===

impl Verdict {
    /// Where the client stands with its `own` limits. Whatever it has left of them is of no use to it while another
    /// limit refuses: its address's, or the hard one.
    pub fn stand(&self, own: usize) -> Stand {
        let (Verdict::Allowed(stand) | Verdict::Early(_, stand) | Verdict::Hard(_, stand)) = *self;
        match *self {
            Verdict::Hard(denied, _) => stand.nothing_for(denied.wait),
            Verdict::Early(denied, _) if denied.by >= own => stand.nothing_for(denied.wait),
            _ => stand,
        }
    }
}

// === impl Stand ===

impl Stand {
    /// The limit that has least left; of several, the one that takes longest to have more.
    pub fn of(limits: &[Limit], tats: &[Nanos], now: Nanos) -> Stand {
        let (limit, standing) = Standing::least(limits, tats, now);
        Stand { limit, standing }
    }

    fn nothing_for(self, wait: Duration) -> Stand {
        Stand { standing: Standing { remaining: 0, more_in: wait }, ..self }
    }
}
