//! The arithmetic: GCRA over a stack of limits. All of them allow, and all are taken from, or none is.

use super::limit::{Limit, Nanos};
use std::time::Duration;

/// Why not now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Until all limits would allow it, if nobody else takes from them meanwhile.
    pub wait: Duration,
    /// Which of them takes longest.
    pub by: usize,
}

/// Where a caller stands with one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests that it would allow at this moment.
    pub remaining: u64,
    /// Until it would allow one more than that; zero where a whole burst is there.
    pub more_in: Duration,
}

/// Decides for one request of so much `cost`. `tats` are the limits' theoretical arrival times (when the bucket is whole
/// again; zero for one that nobody has used), moved where the request is allowed and left alone where it is not.
///
/// # Errors
/// How long to wait. A cost above a limit's burst is never allowed; the configuration refuses it.
pub fn decide(limits: &[Limit], tats: &mut [Nanos], now: Nanos, cost: u64) -> Result<(), Denied> {
    let (mut longest, mut by) = (0, 0);
    for (at, (limit, tat)) in limits.iter().zip(tats.iter()).enumerate() {
        let wait = wait(limit, *tat, now, cost);
        if wait > longest {
            (longest, by) = (wait, at);
        }
    }
    if longest > 0 {
        return Err(Denied { wait: Duration::from_nanos(longest), by });
    }
    for (limit, tat) in limits.iter().zip(tats) {
        *tat = taken(limit, *tat, now, cost);
    }
    Ok(())
}

/// Nanoseconds until a limit allows so much; zero: now.
fn wait(limit: &Limit, tat: Nanos, now: Nanos, cost: u64) -> u64 {
    taken(limit, tat, now, cost).0.saturating_sub(limit.depth()).saturating_sub(now.0)
}

/// The theoretical arrival time after so much was taken.
fn taken(limit: &Limit, tat: Nanos, now: Nanos, cost: u64) -> Nanos {
    Nanos(tat.0.max(now.0).saturating_add(limit.interval().saturating_mul(cost)))
}

// === impl Standing ===

impl Standing {
    /// Where a caller with this arrival time stands.
    pub fn of(limit: &Limit, tat: Nanos, now: Nanos) -> Standing {
        Standing::new(left(limit, tat, now))
    }

    /// The limit that has least left, and how much; of several, the one that takes longest to have more.
    pub fn least(limits: &[Limit], tats: &[Nanos], now: Nanos) -> (usize, Standing) {
        let (mut least, mut at) = ((u64::MAX, 0), 0);
        for (number, (limit, tat)) in limits.iter().zip(tats).enumerate() {
            let left = left(limit, *tat, now);
            if left.0 < least.0 || (left.0 == least.0 && left.1 > least.1) {
                (least, at) = (left, number);
            }
        }
        (at, Standing::new(least))
    }

    fn new((remaining, more_in): (u64, u64)) -> Standing {
        Standing { remaining, more_in: Duration::from_nanos(more_in) }
    }
}

/// Requests that a limit would allow, and the nanoseconds until it would allow one more.
fn left(limit: &Limit, tat: Nanos, now: Nanos) -> (u64, u64) {
    let (used, depth) = (tat.0.saturating_sub(now.0), limit.depth());
    let free = depth.saturating_sub(used);
    let remaining = free / limit.interval();
    if used == 0 {
        return (remaining, 0);
    }
    let more_in = (remaining + 1).saturating_mul(limit.interval()).saturating_sub(free);
    (remaining, more_in.saturating_add(used.saturating_sub(depth)))
}
