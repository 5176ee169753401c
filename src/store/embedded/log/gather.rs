//! How long the writer waits for company: a sync costs the same for one command as for thirty, so commands that are about
//! to come are worth a short wait.
//!
//! Who is about to come is known: those whom the last sync woke, and those who came while it ran. So the writer waits for
//! as many, and no longer than a sync took, after which it takes who is there. A caller that is alone never waits: nobody
//! came while its sync ran, so nobody is expected but itself.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Gather {
    /// Commands that are expected to come together.
    expected: u32,
    /// When waiting for them ends; `None`: nobody is waited for.
    until: Option<Instant>,
}

/// The longest wait for company, in syncs.
const SYNCS: u32 = 2;

/// The longest wait for company, however slow the disk is.
const WAIT_MAX: Duration = Duration::from_millis(1);

// === impl Gather ===

impl Gather {
    /// Nobody is expected.
    pub(in super::super) fn new() -> Gather {
        Gather { expected: 1, until: None }
    }

    /// A sync that took `took` ended at `now`; it made `written` commands durable, and `waiting` more have come meanwhile.
    pub(in super::super) fn synced(&mut self, written: u32, waiting: u32, took: Duration, now: Instant) {
        self.expected = written.saturating_add(waiting).max(1);
        self.until = (self.expected > 1).then(|| now + (took * SYNCS).min(WAIT_MAX));
    }

    /// How long to wait on with `waiting` commands at `now`; `None`: no longer.
    pub(in super::super) fn wait(&mut self, waiting: u32, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        if waiting >= self.expected || left.is_zero() {
            *self = Gather::new();
            return None;
        }
        Some(left)
    }

    /// How many commands have to be there before the writer is woken.
    pub(in super::super) fn enough(&self) -> u32 {
        self.expected
    }
}
