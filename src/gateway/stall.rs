//! Clients that are too slow: a request's body that only trickles in, an answer that is not taken. Only time counts in
//! which the gateway waits for the client; a body that the backend takes slowly is nobody's fault here.

use super::clock;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// How slow one client is. Notes moments, and lets the worker's sweep judge them.
#[derive(Default)]
pub struct Stall {
    /// Since when the next piece of a body is waited for.
    waits: Cell<Option<Instant>>,
    /// Waited for pieces of this stretch.
    waited: Cell<Duration>,
    /// Bytes of the body in this stretch.
    bytes: Cell<u64>,
    /// Since when the client takes nothing of an answer.
    blocked: Cell<Option<Instant>>,
    /// When something of one was written last.
    wrote: Cell<Option<Instant>>,
    given_up: Cell<bool>,
}

/// What a client does too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It sends its body too slowly.
    Sending,
    /// It does not take its answer.
    Taking,
}

/// What a client may take its time with.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// While nothing moves on a connection that speaks another protocol.
    pub switched: Duration,
    /// Bytes a second of a body; 0: any.
    pub body_rate: u64,
    /// How long it may take nothing of an answer.
    pub write: Duration,
}

/// A rate is judged over so much waiting: a pause by itself is no slowness. Short enough that thousands of slow bodies at
/// once, whose waiting is less than their time, are closed within a quarter of a minute.
pub const STRETCH: Duration = Duration::from_secs(8);

// === impl Stall ===

impl Stall {
    /// More of a body is waited for.
    pub fn waits(&self) {
        if self.waits.get().is_none() {
            self.waits.set(Some(clock::recent()));
        }
    }

    /// So many bytes of a body came.
    pub fn came(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        if let Some(since) = self.waits.take() {
            self.waited.set(self.waited.get() + clock::recent().saturating_duration_since(since));
        }
    }

    /// The body has ended.
    pub fn rests(&self) {
        self.waits.set(None);
        self.waited.set(Duration::ZERO);
        self.bytes.set(0);
    }

    /// The client takes nothing at the moment.
    pub fn blocked(&self) {
        if self.blocked.get().is_none() {
            self.blocked.set(Some(clock::recent()));
        }
    }

    /// It has taken something.
    pub fn took(&self) {
        self.wrote.set(Some(clock::recent()));
        self.caught_up();
    }

    /// It has taken what there was.
    pub fn caught_up(&self) {
        if self.blocked.get().is_some() {
            self.blocked.set(None);
        }
    }

    /// Whether something is still going out to it at `now`, or was a `while_ago`.
    pub fn is_sending(&self, now: Instant, while_ago: Duration) -> bool {
        let wrote = self.wrote.get().is_some_and(|at| now.saturating_duration_since(at) < while_ago);
        wrote || self.blocked.get().is_some()
    }

    /// Nothing more is to be sent; whether that was known.
    pub fn give_up(&self) -> bool {
        self.given_up.replace(true)
    }

    /// Whether nothing more is to be sent.
    pub fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Whether the client is too slow at `now`. A stretch that was fast enough is followed by another.
    pub fn judge(&self, now: Instant, patience: Patience) -> Option<Slow> {
        if self.blocked.get().is_some_and(|since| now.saturating_duration_since(since) > patience.write) {
            return Some(Slow::Taking);
        }
        let since = self.waits.get()?;
        let waited = self.waited.get() + now.saturating_duration_since(since);
        if waited < STRETCH {
            return None;
        }
        if (self.bytes.get() as f64) < patience.body_rate as f64 * waited.as_secs_f64() {
            return Some(Slow::Sending);
        }
        self.rests();
        self.waits.set(Some(now));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::ZERO,
        idle: Duration::ZERO,
        switched: Duration::ZERO,
        body_rate: 240,
        write: Duration::from_secs(10),
    };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_body_that_trickles_is_slow_after_a_stretch_of_waiting() {
        let (stall, now) = (Stall::default(), clock::now());
        stall.waits();
        stall.came(10);
        stall.waits();
        assert_eq!(stall.judge(now + seconds(7), PATIENCE), None);
        assert_eq!(stall.judge(now + seconds(9), PATIENCE), Some(Slow::Sending));
        assert_eq!(stall.judge(now + seconds(9), Patience { body_rate: 0, ..PATIENCE }), None);
    }

    #[test]
    fn one_that_is_fast_enough_is_judged_anew_in_each_stretch() {
        let (stall, now) = (Stall::default(), clock::now());
        stall.waits();
        stall.came(10_000);
        stall.waits();
        assert_eq!(stall.judge(now + seconds(9), PATIENCE), None);
        assert_eq!(stall.judge(now + seconds(16), PATIENCE), None);
        assert_eq!(stall.judge(now + seconds(18), PATIENCE), Some(Slow::Sending), "nothing came since");
    }

    #[test]
    fn time_in_which_nobody_waits_for_the_client_does_not_count() {
        let (stall, now) = (Stall::default(), clock::now());
        stall.waits();
        stall.came(1);
        assert_eq!(stall.judge(now + seconds(100), PATIENCE), None, "the backend takes its time");
    }

    #[test]
    fn an_answer_that_is_not_taken_is_slow_after_its_time() {
        let (stall, now) = (Stall::default(), clock::now());
        stall.blocked();
        assert_eq!(stall.judge(now + seconds(9), PATIENCE), None);
        assert_eq!(stall.judge(now + seconds(11), PATIENCE), Some(Slow::Taking));
        stall.took();
        assert_eq!(stall.judge(now + seconds(11), PATIENCE), None);
    }
}
