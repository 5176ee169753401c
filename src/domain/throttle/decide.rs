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
    let mut denied: Option<Denied> = None;
    for (by, (limit, tat)) in limits.iter().zip(tats.iter()).enumerate() {
        let wait = wait(limit, *tat, now, cost);
        if wait > 0 && denied.is_none_or(|longest| wait > longest.wait.as_nanos() as u64) {
            denied = Some(Denied { wait: Duration::from_nanos(wait), by });
        }
    }
    if let Some(denied) = denied {
        return Err(denied);
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
        let used = tat.0.saturating_sub(now.0);
        let free = limit.depth().saturating_sub(used);
        let remaining = free / limit.interval();
        if used == 0 {
            return Standing { remaining, more_in: Duration::ZERO };
        }
        let more_in = (remaining + 1)
            .saturating_mul(limit.interval())
            .saturating_sub(limit.depth() - used.min(limit.depth()));
        let beyond = used.saturating_sub(limit.depth());
        Standing { remaining, more_in: Duration::from_nanos(more_in.saturating_add(beyond)) }
    }
}
