//! What a lane promises, judged from the outside: who joined when, which commands were accepted, and when the backend works.

use oncegate::domain::lane::{Command, Lane, Outcome};
use oncegate::domain::ledger::Token;
use oncegate::domain::time::Millis;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The backend works on two writes of the lane at once.
    Overlap,
    /// Somebody got the turn before one who had joined earlier and still waits.
    Overtaken,
    /// Somebody waits, and nobody has the turn.
    TurnLost,
    /// More wait than may.
    QueueOverflow,
    /// A newcomer was turned away although there was room.
    RoomDenied,
    /// Who has the turn was refused.
    HolderRefused,
    /// Who waits and renewed in time was forgotten.
    PlaceLost,
}

/// One who joined, and has neither left nor lapsed.
#[derive(Clone, Copy, Debug)]
struct Joined {
    token: Token,
    lease_until: Millis,
    /// Something was sent: from then on the turn lasts until then.
    sent_until: Option<Millis>,
}

/// The books: the first entry has the turn.
#[derive(Default)]
pub struct Oracle {
    joined: Vec<Joined>,
    /// Writes that the backend works on, and until when.
    working: Vec<(Token, Millis)>,
}

// === impl Oracle ===

impl Oracle {
    /// The backend begins to work on a write, until `end` at most.
    pub fn begins(&mut self, token: Token, now: Millis, end: Millis) -> Result<(), Violation> {
        self.working.retain(|(_, end)| now < *end);
        if self.working.iter().any(|(other, _)| *other != token) {
            return Err(Violation::Overlap);
        }
        self.working.push((token, end));
        Ok(())
    }

    /// It has ended with it.
    pub fn ends(&mut self, token: Token) {
        self.working.retain(|(other, _)| *other != token);
    }

    /// Whether it still works on it.
    pub fn works_on(&self, token: Token, now: Millis) -> bool {
        self.working.iter().any(|(other, end)| *other == token && now < *end)
    }

    /// Judges one command, writes it into the books, and compares them with the lane.
    pub fn judge(
        &mut self,
        command: &Command,
        outcome: Outcome,
        now: Millis,
        lane: &Lane,
    ) -> Result<(), Violation> {
        self.age(now);
        match *command {
            Command::Join(join) => {
                let known = self.joined.iter().any(|entry| entry.token == join.token);
                let waiting = self.joined.len().saturating_sub(1);
                match outcome {
                    Outcome::Full { .. } if known => return Err(Violation::PlaceLost),
                    Outcome::Full { .. } if waiting < join.queue_max as usize => {
                        return Err(Violation::RoomDenied);
                    }
                    Outcome::Full { .. } => {}
                    _ if !known => self.joined.push(Joined {
                        token: join.token,
                        lease_until: now.after(join.lease),
                        sent_until: None,
                    }),
                    _ => {}
                }
                if self.joined.len() > join.queue_max as usize + 1 {
                    return Err(Violation::QueueOverflow);
                }
            }
            Command::Renew { token, lease } => {
                if let Some(entry) = self.joined.iter_mut().find(|entry| entry.token == token) {
                    entry.lease_until = entry.lease_until.max(now.after(lease));
                    if outcome != Outcome::Applied {
                        return Err(Violation::PlaceLost);
                    }
                }
            }
            Command::Send { token, hold } => {
                let holder = self.joined.first_mut().filter(|first| first.token == token);
                match (holder, outcome) {
                    (Some(first), Outcome::Applied) => {
                        first.sent_until = first.sent_until.max(Some(now.after(hold)));
                    }
                    (Some(_), _) => return Err(Violation::HolderRefused),
                    (None, _) => {}
                }
            }
            Command::Leave { token } => self.joined.retain(|entry| entry.token != token),
            Command::Settle => {}
        }
        self.compare(now, lane)
    }

    /// Who has the turn keeps it until its lease's end, or for what it sent; who waits, until the lease's end. Whoever lapses
    /// while waiting is noticed only when it is their turn, or when the queue is full.
    fn age(&mut self, now: Millis) {
        loop {
            let over = self.joined.first().is_some_and(|first| match first.sent_until {
                Some(until) => now >= until,
                None => now >= first.lease_until,
            });
            if !over {
                break;
            }
            self.joined.remove(0);
        }
        if self.joined.len() > 1 {
            let first = self.joined.remove(0);
            self.joined.retain(|entry| now < entry.lease_until);
            self.joined.insert(0, first);
        }
    }

    fn compare(&self, _now: Millis, lane: &Lane) -> Result<(), Violation> {
        let wanted = self.joined.first().map(|first| first.token);
        let given = lane.turn.map(|turn| turn.token);
        match (wanted, given) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Violation::TurnLost),
            (Some(wanted), Some(given)) if wanted == given => Ok(()),
            (Some(_), Some(_)) => Err(Violation::Overtaken),
        }
    }
}
