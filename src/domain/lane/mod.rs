//! A lane: writes that share a key run one at a time, in the order in which they joined.
//!
//! Owns who goes next and how long a turn lasts, as a pure state machine: [`Lane::apply`] takes a command and `now`. A
//! store carries out exactly this, one atomic command at a time; see LIFECYCLE.md beside it. Leaves to others which key a
//! request has, what its record says ([`ledger`](crate::domain::ledger)), and how whoever waits is woken.

mod apply;

#[cfg(test)]
mod tests;

pub use apply::{Command, Join, Outcome, Step};

use crate::domain::ledger::{Owner, Token};
use crate::domain::time::Millis;
use std::collections::VecDeque;
use std::time::Duration;

/// Names a lane: a digest of its name in the configuration and of what its selectors found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub [u8; 16]);

/// One lane. It exists while somebody has the turn or waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Who may write at this moment.
    pub turn: Option<Turn>,
    /// Who waits, in the order in which they joined.
    pub waiting: VecDeque<Place>,
    /// How long whoever got the turn last had waited for it: what a newcomer may expect.
    pub last_wait: Duration,
}

/// The right to write, held by one attempt at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The attempt that holds it.
    pub token: Token,
    /// The process of that attempt.
    pub owner: Owner,
    /// When it was given.
    pub since: Millis,
    /// When it is over at the latest.
    pub ends: Ends,
}

/// What ends a turn that nobody gives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Nothing was sent in it: the holder's lease. From then on its `Send` is refused, so nothing will be.
    WithLease(Millis),
    /// Something was sent: what the backend may still take for it.
    At(Millis),
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The attempt that waits.
    pub token: Token,
    /// Its process.
    pub owner: Owner,
    /// Since when.
    pub joined_at: Millis,
    /// Unless it is renewed by then, the place is given up.
    pub lease_until: Millis,
}

// === impl LaneId ===

impl std::fmt::Display for LaneId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

// === impl Lane ===

impl Lane {
    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.turn.is_none() && self.waiting.is_empty()
    }

    /// When time alone next changes whose turn it is. An instant belongs to what comes after it.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.turn.as_ref().map(Turn::deadline)
    }
}

// === impl Turn ===

impl Turn {
    /// When it is over at the latest.
    pub fn deadline(&self) -> Millis {
        match self.ends {
            Ends::WithLease(until) | Ends::At(until) => until,
        }
    }
}
