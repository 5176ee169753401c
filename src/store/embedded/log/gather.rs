//! How long the writer waits for company: a sync costs the same for one command as for thirty, so commands that are about
//! to come are worth a short wait.
//!
//! Who is about to come is known: those whom the last sync woke, and those who came while it ran. So the writer waits for
//! as many. It gives them twice the time of a sync, and goes on waiting only while more of them come within the time of
//! one. A caller that is alone never waits: nobody came while its sync ran, so nobody is expected but itself.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Gather {
    /// Commands that are expected to come together.
    expected: u32,
    /// `None`: nobody is waited for.
    wait: Option<Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// When it is looked at next whether more have come.
    look: Instant,
    /// How many there were at the last look.
    seen: u32,
    /// How long the next ones may take.
    gap: Duration,
    /// When it ends, whoever comes.
    end: Instant,
}

/// The longest wait until somebody comes, in syncs.
const SYNCS: u32 = 2;

/// The same, however slow the disk is.
const GAP_MAX: Duration = Duration::from_millis(1);

/// The longest wait for company.
const WAIT_MAX: Duration = Duration::from_millis(2);

// === impl Gather ===

impl Gather {
    /// Nobody is expected.
    pub(in super::super) fn new() -> Gather {
        Gather { expected: 1, wait: None }
    }

    /// A sync that took `took` ended at `now`; it made `written` commands durable, and `waiting` more have come meanwhile.
    pub(in super::super) fn synced(&mut self, written: u32, waiting: u32, took: Duration, now: Instant) {
        self.expected = written.saturating_add(waiting).max(1);
        let wait = Wait {
            look: now + (took * SYNCS).min(GAP_MAX),
            seen: waiting,
            gap: took.min(GAP_MAX),
            end: now + WAIT_MAX,
        };
        self.wait = (self.expected > 1).then_some(wait);
    }

    /// How long to wait on with `waiting` commands at `now`; `None`: no longer.
    pub(in super::super) fn wait(&mut self, waiting: u32, now: Instant) -> Option<Duration> {
        let wait = self.wait.as_mut()?;
        let come = waiting > wait.seen;
        if waiting >= self.expected || now >= wait.end || (now >= wait.look && !come) {
            *self = Gather::new();
            return None;
        }
        if now >= wait.look {
            (wait.look, wait.seen) = (now + wait.gap, waiting);
        }
        Some(wait.look.min(wait.end).saturating_duration_since(now))
    }

    /// How many commands have to be there before the writer is woken.
    pub(in super::super) fn enough(&self) -> u32 {
        self.expected
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::instant;
    use super::*;

    const SYNC: Duration = Duration::from_micros(100);

    fn synced(written: u32, waiting: u32, took: Duration) -> (Gather, Instant) {
        let (mut gather, now) = (Gather::new(), instant());
        gather.synced(written, waiting, took, now);
        (gather, now)
    }

    #[test]
    fn a_caller_that_is_alone_never_waits() {
        let (mut gather, now) = synced(1, 0, SYNC);
        assert_eq!((gather.wait(0, now), gather.wait(1, now), gather.enough()), (None, None, 1));
    }

    #[test]
    fn those_whom_a_sync_woke_and_those_who_came_meanwhile_are_waited_for() {
        let (mut gather, now) = synced(3, 2, SYNC);
        assert_eq!(gather.enough(), 5);
        assert_eq!(gather.wait(2, now), Some(SYNC * SYNCS));
        assert_eq!(gather.wait(4, now + SYNC), Some(SYNC * SYNCS - SYNC));
        assert_eq!(gather.wait(5, now + SYNC), None);
        assert_eq!(gather.enough(), 1, "from here on the first one is written");
    }

    #[test]
    fn those_who_stay_away_are_not_waited_for_twice() {
        let (mut gather, now) = synced(3, 2, SYNC);
        assert_eq!(gather.wait(2, now + SYNC * SYNCS), None);
        assert_eq!(gather.wait(1, now), None);
    }

    #[test]
    fn those_who_come_one_by_one_are_waited_for_while_they_do() {
        let (mut gather, now) = synced(3, 2, SYNC);
        assert_eq!(gather.wait(3, now + SYNC * 2), Some(SYNC), "one has come, so the next one gets its time");
        assert_eq!(gather.wait(4, now + SYNC * 3), Some(SYNC));
        assert_eq!(gather.wait(4, now + SYNC * 4), None);
    }

    #[test]
    fn there_is_an_end_to_waiting() {
        let (mut gather, now) = synced(3_000, 2, SYNC);
        let waits = (0_u32..).take_while(|n| gather.wait(2 + n, now + SYNC * *n).is_some()).count();
        assert_eq!(waits as u128, WAIT_MAX.as_nanos() / SYNC.as_nanos());
    }

    #[test]
    fn a_slow_disk_makes_nobody_wait_for_long() {
        let (mut gather, now) = synced(3, 2, Duration::from_secs(1));
        assert_eq!(gather.wait(2, now), Some(GAP_MAX));
    }
}
