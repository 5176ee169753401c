//! What a route's `[route.throttle]` says.

use super::key::Per;
use super::limit::Limit;
use std::time::Duration;

/// Limits that one route may stack.
pub const LIMITS_MAX: usize = 4;

/// `[route.throttle]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// `limits`: all must allow.
    pub limits: Vec<Limit>,
    /// `per`: who or what shares a bucket.
    pub per: Per,
    /// `over`: what happens to a request before its turn.
    pub over: Over,
    /// `hard`: above this, 429 at once. Counts every request that asks, also those that wait.
    pub hard: Option<Limit>,
    /// `cost`: what one request takes from each limit.
    pub cost: u64,
}

/// What happens to a request that comes before its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// `hold`: it waits for its turn, at most so long.
    Hold {
        /// `hold_at_most`
        at_most: Duration,
    },
    /// `reject`: 429 at once.
    Reject,
}
