//! One command on one lane: what time has made of it first, then what the command makes of it.

use super::{Ends, Lane, Place, Turn};
use crate::domain::ledger::{Owner, Token};
use crate::domain::time::Millis;
use std::time::Duration;

/// An attempt wants its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// The attempt's own token: the claim's.
    pub token: Token,
    /// The claiming process.
    pub owner: Owner,
    /// How long the place holds without a renewal: as long as the claim does.
    pub lease: Duration,
    /// The most that may wait. It is one more where the newcomer need not wait.
    pub queue_max: u32,
}

/// What can be done to one lane.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Wait for the turn, behind everybody who waits already.
    Join(Join),
    /// The attempt is still there: its place, or its turn as long as nothing was sent in it, holds for `lease` from now,
    /// or longer where it already did.
    Renew { token: Token, lease: Duration },
    /// The next thing to happen is the first byte to the backend, and the turn lasts for `hold` from now at most. Once
    /// more under the same turn for each further attempt. Refused: not a byte may be written.
    Send { token: Token, hold: Duration },
    /// The attempt is over, or does not want its turn any more.
    Leave { token: Token },
    /// Only time.
    Settle,
}

/// What a command's caller learns.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The turn is yours.
    Yours,
    /// `ahead` come before you, the one whose turn it is among them.
    Waiting { ahead: u32 },
    /// As many wait as may. Whoever got the turn last had waited for `last_wait`.
    Full { last_wait: Duration },
    /// The command was carried out.
    Applied,
    /// The token has no place and no turn here, or not any more.
    Refused,
}

/// The result of [`Lane::apply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the caller learns.
    pub outcome: Outcome,
    /// Who got the turn by this step and has to be told: never the caller of a `Join`.
    pub next: Option<Token>,
}

// === impl Lane ===

impl Lane {
    /// Carries out `command` at `now`, after letting time do what is due. Total, and deterministic. A lane that is empty
    /// afterwards may be forgotten.
    pub fn apply(&mut self, command: Command, now: Millis) -> Step {
        let next = self.settle(now);
        match command {
            Command::Join(join) => self.on_join(join, next, now),
            Command::Renew { token, lease } => {
                Step { outcome: self.on_renew(token, now.after(lease), now), next }
            }
            Command::Send { token, hold } => Step { outcome: self.on_send(token, now.after(hold)), next },
            Command::Leave { token } => {
                let (outcome, given) = self.on_leave(token, now);
                // Whoever time gave the turn and who leaves by this very command need not be told.
                Step { outcome, next: given.or(next.filter(|next| *next != token)) }
            }
            Command::Settle => Step { outcome: Outcome::Applied, next },
        }
    }

    /// What time alone makes of it: a turn that is over goes to the next one who still waits.
    fn settle(&mut self, now: Millis) -> Option<Token> {
        match &self.turn {
            Some(turn) if now < turn.deadline() => None,
            _ => self.give_on(now),
        }
    }

    /// The turn goes to the first of the queue whose lease still holds.
    fn give_on(&mut self, now: Millis) -> Option<Token> {
        self.turn = None;
        while let Some(place) = self.waiting.pop_front() {
            if place.holds(now) {
                self.begin(place.token, place.owner, place.lease_until, now.since(place.joined_at), now);
                return Some(place.token);
            }
        }
        None
    }

    fn begin(&mut self, token: Token, owner: Owner, lease_until: Millis, waited: Duration, now: Millis) {
        self.last_wait = waited;
        self.turn = Some(Turn { token, owner, since: now, ends: Ends::WithLease(lease_until) });
    }

    /// Behind everybody else, also where the reply to the same command was lost and it comes again: then it finds its
    /// place, or its turn.
    fn on_join(&mut self, join: Join, next: Option<Token>, now: Millis) -> Step {
        let Join { token, owner, lease, queue_max } = join;
        if let Some(turn) = &self.turn {
            if turn.token == token {
                // Told by this reply, whoever gave it.
                return Step { outcome: Outcome::Yours, next: None };
            }
            match self.waiting.iter().position(|place| place.token == token) {
                Some(at) if self.waiting[at].holds(now) => {
                    return Step { outcome: Outcome::Waiting { ahead: count(at + 1) }, next };
                }
                // It lapsed: whoever comes back queues anew.
                Some(at) => drop(self.waiting.remove(at)),
                None => {}
            }
            if self.waiting.len() >= queue_max as usize {
                // Places that nobody renewed keep nobody out.
                self.waiting.retain(|place| place.holds(now));
            }
            if self.waiting.len() >= queue_max as usize {
                return Step { outcome: Outcome::Full { last_wait: self.last_wait }, next };
            }
            self.waiting.push_back(Place { token, owner, joined_at: now, lease_until: now.after(lease) });
            return Step { outcome: Outcome::Waiting { ahead: count(self.waiting.len()) }, next };
        }
        // Without a turn nobody waits: time has given it to the first who did.
        self.begin(token, owner, now.after(lease), Duration::ZERO, now);
        Step { outcome: Outcome::Yours, next: None }
    }

    /// Never shortens: a renewal that was delayed on its way must not end what a later one said.
    fn on_renew(&mut self, token: Token, until: Millis, now: Millis) -> Outcome {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.token == token) {
            if let Ends::WithLease(lease_until) = &mut turn.ends {
                *lease_until = until.max(*lease_until);
            }
            return Outcome::Applied;
        }
        // A place that lapsed is given up, although it is still in the list: what it was promised is over.
        match self.waiting.iter_mut().find(|place| place.token == token && place.holds(now)) {
            Some(place) => {
                place.lease_until = until.max(place.lease_until);
                Outcome::Applied
            }
            None => Outcome::Refused,
        }
    }

    /// Only whose turn it is may send. The turn of one that sent is no longer its lease's: the backend works on, whether
    /// or not its gateway lives.
    fn on_send(&mut self, token: Token, until: Millis) -> Outcome {
        match self.turn.as_mut().filter(|turn| turn.token == token) {
            Some(turn) => {
                turn.ends = match turn.ends {
                    Ends::WithLease(_) => Ends::At(until),
                    Ends::At(before) => Ends::At(until.max(before)),
                };
                Outcome::Applied
            }
            None => Outcome::Refused,
        }
    }

    fn on_leave(&mut self, token: Token, now: Millis) -> (Outcome, Option<Token>) {
        if self.turn.as_ref().is_some_and(|turn| turn.token == token) {
            return (Outcome::Applied, self.give_on(now));
        }
        match self.waiting.iter().position(|place| place.token == token) {
            Some(at) => {
                self.waiting.remove(at);
                (Outcome::Applied, None)
            }
            None => (Outcome::Refused, None),
        }
    }
}

// === impl Place ===

impl Place {
    fn holds(&self, now: Millis) -> bool {
        now < self.lease_until
    }
}

fn count(places: usize) -> u32 {
    u32::try_from(places).unwrap_or(u32::MAX)
}
