//! Limits that a fleet counts together. The store decides, in one command for all limits of a request. What it said is kept
//! in the table of this process, and while that alone says no, nobody is asked: a flood that is refused costs the store
//! nothing. Where the store does not answer in time, this gateway keeps its share of each limit by itself.
//!
//! Kept times are early by what the way from the store took, never late: asked once too often, the store says it exactly;
//! asked too seldom, somebody would be refused whose turn has come. What clients are told to wait is longer by as much.

use super::buckets::{Keys, Locked, Stand, Verdict, Whose};
use super::{Asked, Throttles, digest, resource};
use crate::config::{Config, RouteThrottle, ThrottlePolicy};
use crate::domain::throttle::key::HARD;
use crate::domain::throttle::{Denied, LIMITS_MAX, Limit, Nanos, decide};
use crate::gateway::clock;
use crate::store::{LimitsTaken, Said, SharedBucket, TakeLimits};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// See the module.
pub struct Fleet {
    keyed: Keyed,
    /// What each route's limits are called in the fleet, by the route's index.
    spaces: Vec<u64>,
    limit_timeout: Duration,
}

/// What a request wants of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// To pass; it has just come.
    First,
    /// To stand behind others that wait: only the hard limit counts it now.
    Behind,
    /// To pass, after it has waited.
    Again,
}

/// A client is called the same by every gateway, and by nobody who does not know the fleet's secret.
#[derive(Clone)]
struct Keyed(Hmac<Sha256>);

/// One bucket of a request.
#[derive(Clone, Copy)]
struct Bucket {
    whose: Whose,
    number: u64,
    limit: Limit,
}

/// What is known of a request's buckets: when each is whole again.
#[derive(Clone, Copy)]
struct Known {
    /// In the order of [`stack`].
    tats: [Nanos; 2 * LIMITS_MAX],
    hard: Nanos,
}

/// The numbers of the buckets that a gateway keeps by itself begin here; those of the fleet's are below.
const ALONE: u64 = 32;
/// That of the hard limit.
const HARD_ALONE: u64 = HARD - 1;

// === impl Fleet ===

impl Fleet {
    /// For a store that gateways share.
    pub fn new(config: &Config, secret: &[u8]) -> Fleet {
        let keyed = Keyed::new(secret);
        let umbrella = config.clients.umbrella;
        let space = |name: &str, throttle: &RouteThrottle| {
            let rules = &throttle.rules;
            let limits = rules.limits.iter().chain(&rules.hard).map(Limit::to_string).collect::<Vec<_>>();
            // Other limits are other buckets: what was counted for some means nothing for others.
            let named = throttle.bucket.as_deref().unwrap_or(name);
            keyed.hash_one((throttle.bucket.is_some(), named, rules.per as u8, umbrella, limits))
        };
        let routes = config.routes.iter();
        let spaces = routes.map(|route| route.throttle.as_ref().map_or(0, |it| space(&route.name, it)));
        Fleet { spaces: spaces.collect(), keyed, limit_timeout: config.store.shared.limit_timeout }
    }

    /// Decides for one request.
    pub async fn decide(&self, asked: &Asked<'_>, asks: Asks) -> Verdict {
        let shared = asked.who.exchange.shared();
        let Asked { throttle, keys, .. } = *asked;
        let buckets = &shared.throttles.buckets;
        // Read anew: what is kept must not be earlier than the way to the store and back explains.
        let sent = clock::now();
        let now = shared.throttles.now();
        let hard = throttle.rules.hard.filter(|_| asks != Asks::Again);
        let known = buckets.with(keys, |table| Known::read(table, throttle, keys, now));
        if let Some(denied) = hard.and_then(|hard| known.above(&hard, throttle, now)) {
            return Verdict::Hard(denied, known.stand(throttle, now));
        }
        let early = known.early(throttle, keys, now);
        let open = early.is_none() && asks != Asks::Behind;
        if !open && hard.is_none() {
            return Verdict::Early(early.unwrap_or_default(), known.stand(throttle, now));
        }
        let take = self.take(asked, hard, open);
        let Ok(taken) = shared.store.take_limits(&take).await else {
            let gateways = shared.store.gateways();
            return buckets.with(keys, |table| alone(table, asked, asks, gateways, now));
        };
        let known = known.told(&taken, hard.is_some(), now);
        if clock::now().saturating_duration_since(sent) <= self.limit_timeout {
            buckets.with(keys, |table| known.keep(table, throttle, keys, now));
        }
        let stand = known.stand(throttle, now);
        match (taken.said, hard) {
            (Said::Allowed, _) if open => Verdict::Allowed(stand),
            (Said::Hard, Some(hard)) => {
                Verdict::Hard(known.above(&hard, throttle, now).unwrap_or_default(), stand)
            }
            _ => Verdict::Early(known.early(throttle, keys, now).unwrap_or_default(), stand),
        }
    }

    /// What a client has to be told, so that a wait is enough: what is kept may be early by one command's time, and no two
    /// clocks run alike.
    pub fn enough(&self, wait: Duration) -> Duration {
        wait + self.limit_timeout + wait / 1_000
    }

    /// The command for a request, with the names that the fleet has for its buckets.
    fn take(&self, asked: &Asked<'_>, hard: Option<Limit>, open: bool) -> TakeLimits {
        let Asked { who, throttle, .. } = asked;
        let space = self.spaces.get(who.exchange.route).copied().unwrap_or_default();
        let umbrella = who.caller.umbrella(&self.keyed);
        let path = digest(&self.keyed, &resource(who.parts.uri.path()));
        let keys = Throttles::keys(throttle, space, who.caller.digest(&self.keyed), umbrella, path);
        let named = |bucket: Bucket| {
            let key = match (bucket.whose, keys.umbrella) {
                (Whose::Address, Some(umbrella)) => umbrella,
                _ => keys.own,
            };
            SharedBucket { name: key.bucket(bucket.number), limit: bucket.limit }
        };
        let stack = if open { stack(throttle, keys).map(named).collect() } else { Vec::new() };
        let hard = hard.map(|limit| named(Bucket { whose: Whose::Own, number: HARD, limit }));
        TakeLimits { space, hard, stack, cost: throttle.rules.cost }
    }
}

/// The buckets of a request, in the order of [`ThrottlePolicy::stack`].
fn stack(throttle: &ThrottlePolicy, keys: Keys) -> impl Iterator<Item = Bucket> {
    let own = throttle.rules.limits.len();
    let count = if keys.umbrella.is_some() { throttle.stack.len() } else { own };
    throttle.stack[..count].iter().enumerate().map(move |(at, limit)| Bucket {
        whose: if at < own { Whose::Own } else { Whose::Address },
        number: (at % own) as u64,
        limit: *limit,
    })
}

/// Decides without the store: by what is known of the fleet's buckets, and by this gateway's share of each limit.
fn alone(table: &mut Locked<'_>, asked: &Asked<'_>, asks: Asks, gateways: u64, now: Nanos) -> Verdict {
    let Asked { throttle, keys, .. } = *asked;
    let cost = throttle.rules.cost;
    let share = |bucket: Bucket| Bucket {
        number: bucket.number + ALONE,
        limit: bucket.limit.share(gateways, cost),
        ..bucket
    };
    let mut take = |buckets: &[Bucket], count: bool| {
        let limits: Vec<Limit> = buckets.iter().map(|bucket| bucket.limit).collect();
        let tat = |bucket: &Bucket| table.tat(keys, bucket.whose, bucket.number, now);
        let mut tats: Vec<Nanos> = buckets.iter().map(tat).collect();
        let decided = decide(&limits, &mut tats, now, cost);
        if decided.is_ok() && count {
            for (bucket, tat) in buckets.iter().zip(tats) {
                table.set(keys, bucket.whose, bucket.number, tat, now);
            }
        }
        decided
    };
    let hard = throttle.rules.hard.filter(|_| asks != Asks::Again);
    let hard = hard.map(|limit| Bucket { whose: Whose::Own, number: HARD, limit });
    let above = hard.and_then(|hard| take(&[hard, Bucket { number: HARD_ALONE, ..share(hard) }], true).err());
    let buckets: Vec<Bucket> = stack(throttle, keys).chain(stack(throttle, keys).map(share)).collect();
    let passes = above.is_none() && asks != Asks::Behind;
    let decided = take(&buckets, passes);
    let stand = Known::read(table, throttle, keys, now).stand(throttle, now);
    let count = buckets.len() / 2;
    match (above, decided) {
        (Some(denied), _) => Verdict::Hard(denied, stand),
        (None, Ok(())) if passes => Verdict::Allowed(stand),
        (None, decided) => {
            let denied = decided.err().unwrap_or_default();
            Verdict::Early(Denied { by: denied.by % count, ..denied }, stand)
        }
    }
}

// === impl Known ===

impl Known {
    fn read(table: &Locked<'_>, throttle: &ThrottlePolicy, keys: Keys, now: Nanos) -> Known {
        let mut tats = [Nanos(0); 2 * LIMITS_MAX];
        for (tat, bucket) in tats.iter_mut().zip(stack(throttle, keys)) {
            *tat = table.tat(keys, bucket.whose, bucket.number, now);
        }
        let hard = throttle.rules.hard.map(|_| table.tat(keys, Whose::Own, HARD, now));
        Known { tats, hard: hard.unwrap_or_default() }
    }

    /// With what the store said, which it said after `sent`.
    fn told(mut self, taken: &LimitsTaken, hard: bool, sent: Nanos) -> Known {
        let mut left = taken.left.iter().map(|left| Nanos(sent.0.saturating_add(left.0)));
        if hard {
            self.hard = left.next().unwrap_or(self.hard);
        }
        self.tats.iter_mut().zip(left).for_each(|(tat, told)| *tat = told);
        self
    }

    /// Keeps what is later than what is kept already: a bucket's time never goes back.
    fn keep(&self, table: &mut Locked<'_>, throttle: &ThrottlePolicy, keys: Keys, now: Nanos) {
        let hard = throttle.rules.hard.map(|limit| Bucket { whose: Whose::Own, number: HARD, limit });
        let told = stack(throttle, keys).zip(self.tats).chain(hard.into_iter().zip([self.hard]));
        for (Bucket { whose, number, .. }, tat) in told {
            if tat > table.tat(keys, whose, number, now) && tat > now {
                table.set(keys, whose, number, tat, now);
            }
        }
    }

    /// Why it is above the hard limit, if it is.
    fn above(&self, hard: &Limit, throttle: &ThrottlePolicy, now: Nanos) -> Option<Denied> {
        decide(&[*hard], &mut [self.hard], now, throttle.rules.cost).err()
    }

    /// Why it comes before its turn, if it does.
    fn early(&self, throttle: &ThrottlePolicy, keys: Keys, now: Nanos) -> Option<Denied> {
        let own = throttle.rules.limits.len();
        let stack = if keys.umbrella.is_some() { &throttle.stack[..] } else { &throttle.stack[..own] };
        let mut tats = self.tats;
        decide(stack, &mut tats[..stack.len()], now, throttle.rules.cost).err()
    }

    fn stand(&self, throttle: &ThrottlePolicy, now: Nanos) -> Stand {
        Stand::of(&throttle.rules.limits, &self.tats, now)
    }
}

// === impl Keyed ===

impl Keyed {
    #[allow(clippy::missing_panics_doc, reason = "HMAC takes keys of any length")]
    fn new(secret: &[u8]) -> Keyed {
        let mut hmac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        hmac.update(b"oncegate limits 1");
        Keyed(hmac)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Keyed;

    fn build_hasher(&self) -> Keyed {
        self.clone()
    }
}

impl Hasher for Keyed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    // Gateways of one fleet may run on different machines.
    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize().into_bytes();
        digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}
