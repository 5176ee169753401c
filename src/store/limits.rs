//! Limits that a fleet counts together: one request's stack of them is decided in one atomic command, by the store's
//! clock. What it means is `domain::throttle::decide`.

use super::{Store, StoreError};
use crate::domain::throttle::{Limit, Nanos};

/// One request before its limits.
#[derive(Clone, Debug)]
pub struct TakeLimits {
    /// Which limits these are; on a cluster it says where they are kept, so that all of a request's lie together.
    pub space: u64,
    /// The hard limit's bucket, where the request counts against it. It is decided first, and by itself.
    pub hard: Option<SharedBucket>,
    /// The buckets that all have to allow.
    pub stack: Vec<SharedBucket>,
    /// What is taken from each.
    pub cost: u64,
}

/// A bucket that all gateways know by one name.
#[derive(Clone, Copy, Debug)]
pub struct SharedBucket {
    /// A digest under the fleet's secret.
    pub name: u64,
    /// What it allows, in whole microseconds ([`Limit::in_micros`]).
    pub limit: Limit,
}

/// What the store decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// All were taken from.
    Allowed,
    /// None of the stack was taken from.
    Early,
    /// The hard limit is used up; nothing was taken.
    Hard,
}

/// A decision, and what it left.
#[derive(Clone, Debug)]
pub struct LimitsTaken {
    /// The decision.
    pub said: Said,
    /// When: the store's clock, in microseconds since the epoch.
    pub at: u64,
    /// How far behind that instant each bucket is whole again; the hard limit's first.
    pub left: Vec<Nanos>,
}

// === impl Store ===

impl Store {
    /// Whether limits are counted by the store, for a fleet.
    pub fn shares_limits(&self) -> bool {
        matches!(self, Store::Redis(_))
    }

    /// Decides for one request. An error says that this was not counted, or that nobody knows; the caller then decides by
    /// itself. Waits no longer than `store.limit_timeout`, and not at all while the store is known not to answer in time.
    pub async fn take_limits(&self, take: &TakeLimits) -> Result<LimitsTaken, StoreError> {
        match self {
            Store::Embedded(_) => Err(StoreError::Unavailable("it is of this gateway alone".into())),
            Store::Redis(store) => store.inner.take_limits(take).await,
        }
    }

    /// Connects this thread, so that its first request need not wait for that.
    pub async fn prepare_limits(&self) {
        if let Store::Redis(store) = self {
            store.inner.prepare_limits().await;
        }
    }

    /// Whether a shared store does not decide limits at this moment.
    pub fn limits_are_away(&self) -> bool {
        match self {
            Store::Embedded(_) => false,
            Store::Redis(store) => store.limits_are_away(),
        }
    }

    /// Gateways that share the store, as far as was last known; this one is one of them.
    pub fn gateways(&self) -> u64 {
        match self {
            Store::Embedded(_) => 1,
            Store::Redis(store) => store.gateways(),
        }
    }
}
