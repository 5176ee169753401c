//! One request on its way through a gateway: claim, wait for its turn, send, listen, record. What a gateway has to do with
//! each outcome of the store is here; the habits of a wrong one are the machine's.

use super::backend::{Job, JobState, Reply};
use super::oracle::{Body, Violation};
use super::world::{LEASE, World};
use oncegate::domain::ledger::{Claim, Command, Doubt, Outcome, Phase, Token};
use oncegate::domain::time::Millis;

/// One request on its way through a gateway.
pub(super) struct Task {
    pub(super) id: usize,
    pub(super) gateway: usize,
    pub(super) claim: Claim,
    pub(super) stage: Stage,
    /// When the store last said that it may send: its record is kept for `in_doubt_for` after that at least.
    pub(super) allowed_at: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Claiming,
    /// Granted, waiting for its turn.
    Queued,
    /// Sent in the store's eyes; not a byte has left.
    Ready,
    /// The backend has it.
    Exchanging,
    /// The backend said that it did nothing: it is to be sent once more.
    Again,
    Completing(Body),
    Abandoning,
    /// Says that the outcome is unknown; `listens` for a late answer all the same.
    Doubting {
        listens: bool,
    },
}

// === impl World: its gateways' requests ===

impl World<'_> {
    /// One request goes a step further, or is over.
    pub(super) fn advance_a_task(&mut self) -> Result<(), Violation> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        let task = self.rng.below(self.tasks.len());
        if self.gateways[self.tasks[task].gateway].hung {
            return Ok(());
        }
        let next = match self.tasks[task].stage {
            Stage::Claiming => self.claim(task)?,
            Stage::Queued => self.leave_the_queue(task)?,
            Stage::Ready => self.send(task)?,
            Stage::Exchanging => self.listen(task)?,
            Stage::Again => self.once_more(task)?,
            Stage::Completing(body) => self.complete(task, body)?,
            Stage::Abandoning => self.abandon(task)?,
            Stage::Doubting { listens } => self.doubt(task, listens)?,
        };
        match next {
            Some(stage) => {
                let task = &mut self.tasks[task];
                if stage == Stage::Ready && task.stage != Stage::Ready {
                    task.allowed_at = self.now;
                }
                task.stage = stage;
            }
            None => drop(self.tasks.swap_remove(task)),
        }
        Ok(())
    }

    fn claim(&mut self, task: usize) -> Result<Option<Stage>, Violation> {
        let claim = self.tasks[task].claim.clone();
        if self.rng.one_in(self.trouble) {
            // Gives up without knowing whether it was granted; nothing was sent, so it says so, sooner or later.
            self.late.push((self.tasks[task].id, Command::Abandon { token: claim.token }));
            return Ok(None);
        }
        let sent = claim.sent;
        Ok(match self.ask(task, Command::Claim(claim))? {
            None => Some(Stage::Claiming),
            Some(Outcome::Granted) => Some(if sent { Stage::Ready } else { Stage::Queued }),
            Some(Outcome::InFlight { .. }) => {
                self.tally.copies_in_flight += 1;
                if self.rng.one_in(2) {
                    self.tasks[task].claim.token = Token(u128::from(self.fresh()));
                }
                Some(Stage::Claiming)
            }
            Some(Outcome::Done { answer, .. }) => {
                self.tally.replays += 1;
                self.oracle.delivered(self.tasks[task].id, answer)?;
                None
            }
            Some(Outcome::OtherMeaning) => {
                self.tally.other_meanings += 1;
                None
            }
            Some(Outcome::InDoubt { .. }) => {
                self.tally.copies_in_doubt += 1;
                None
            }
            Some(Outcome::Applied | Outcome::Refused) => None,
        })
    }

    fn leave_the_queue(&mut self, task: usize) -> Result<Option<Stage>, Violation> {
        let token = self.tasks[task].claim.token;
        match self.rng.below(8) {
            0 => return Ok(Some(Stage::Abandoning)),
            1 => return self.renew(task, Stage::Queued),
            2 if self.machine.sends_unmarked => return Ok(Some(Stage::Ready)),
            _ => {}
        }
        Ok(match self.ask(task, Command::MarkSent { token })? {
            None => Some(Stage::Queued),
            Some(Outcome::Refused) if !self.machine.sends_when_refused => {
                self.tally.lapsed_claims += 1;
                None
            }
            Some(_) => Some(Stage::Ready),
        })
    }

    fn renew(&mut self, task: usize, then: Stage) -> Result<Option<Stage>, Violation> {
        let (token, lease) = (self.tasks[task].claim.token, self.rng.pick(&[LEASE, LEASE / 4]));
        let outcome = self.ask(task, Command::Renew { token, lease })?;
        // A queued claim that cannot be renewed is lost; one that was sent goes on until its answer or its deadline.
        Ok((then != Stage::Queued || outcome != Some(Outcome::Refused)).then_some(then))
    }

    /// The last look at the lease is not atomic with the write, so a gateway may hang between them; but not for as long
    /// as doubts are kept, which is the declared limit.
    fn send(&mut self, task: usize) -> Result<Option<Stage>, Violation> {
        let Task { id, ref claim, allowed_at, .. } = self.tasks[task];
        let token = claim.token;
        let hung_too_long = self.now >= allowed_at.after(self.in_doubt_for);
        // Refused by the pool, the name lookup or the connection: known not executed.
        if hung_too_long || self.rng.one_in(self.trouble) {
            return Ok(Some(Stage::Abandoning));
        }
        self.tell(|| format!("record {id}: the first byte of {token:?} leaves"));
        self.tally.attempts += 1;
        self.oracle.byte_leaves(id, token, self.now)?;
        self.jobs.insert(token, Job { id, connected: true, executed: false, state: JobState::Buffered });
        Ok(Some(Stage::Exchanging))
    }

    fn listen(&mut self, task: usize) -> Result<Option<Stage>, Violation> {
        let token = self.tasks[task].claim.token;
        let Some(job) = self.jobs.get_mut(&token) else { return Ok(None) };
        let body = u32::try_from(token.0).expect("tokens count from one hundred");
        match job.state {
            JobState::Answered(Reply::Rejected) if job.connected => {
                self.oracle.learn_not_executed(token);
                return Ok(Some(if self.rng.one_in(2) { Stage::Again } else { Stage::Abandoning }));
            }
            JobState::Answered(Reply::Failed) if job.connected && self.machine.retries_on_5xx => {
                return Ok(Some(Stage::Again));
            }
            JobState::Answered(Reply::Failed) if job.connected && self.machine.frees_on_5xx => {
                return Ok(Some(Stage::Abandoning));
            }
            JobState::Answered(_) if job.connected => return Ok(Some(Stage::Completing(body))),
            _ => {}
        }
        match self.rng.below(4 + self.trouble) {
            // Timed out, but the connection stays open: the answer may still come.
            0 => Ok(Some(Stage::Doubting { listens: true })),
            1 => {
                job.connected = false;
                Ok(Some(if self.machine.frees_on_reset {
                    Stage::Abandoning
                } else {
                    Stage::Doubting { listens: false }
                }))
            }
            2..5 => self.renew(task, Stage::Exchanging),
            _ => Ok(Some(Stage::Exchanging)),
        }
    }

    /// The record stays claimed while the gateway waits. The claim is looked at once more before anything is sent again;
    /// where it ended meanwhile, the answer stands that said that nothing was done.
    fn once_more(&mut self, task: usize) -> Result<Option<Stage>, Violation> {
        let token = self.tasks[task].claim.token;
        match self.rng.below(8) {
            0 => return Ok(Some(Stage::Abandoning)),
            1..3 => return self.renew(task, Stage::Again),
            _ => {}
        }
        Ok(match self.ask(task, Command::MarkSent { token })? {
            None => Some(Stage::Again),
            Some(Outcome::Refused) if !self.machine.retries_when_refused => Some(Stage::Abandoning),
            Some(_) => {
                self.tally.retries += 1;
                Some(Stage::Ready)
            }
        })
    }

    fn complete(&mut self, task: usize, body: Body) -> Result<Option<Stage>, Violation> {
        let (id, token) = (self.tasks[task].id, self.tasks[task].claim.token);
        let doubted =
            matches!(self.records[id].as_ref().map(|record| &record.phase), Some(Phase::InDoubt { .. }));
        let command = Command::Complete { token, answer: body, keep: self.keep };
        Ok(match self.ask(task, command)? {
            None => Some(Stage::Completing(body)),
            Some(Outcome::Refused) if !self.machine.answers_when_refused => {
                // The record has moved on: its answer, if any, is the one that counts.
                self.tally.refused_completions += 1;
                None
            }
            Some(_) => {
                self.tally.answers_after_doubt += u64::from(doubted);
                // An ended intent is over with its completion; only its own client still gets this answer.
                if self.records[id].is_some() || self.machine.answers_when_refused {
                    self.oracle.delivered(id, body)?;
                }
                None
            }
        })
    }

    fn abandon(&mut self, task: usize) -> Result<Option<Stage>, Violation> {
        let token = self.tasks[task].claim.token;
        let outcome = self.ask(task, Command::Abandon { token })?;
        Ok(outcome.is_none().then_some(Stage::Abandoning))
    }

    fn doubt(&mut self, task: usize, listens: bool) -> Result<Option<Stage>, Violation> {
        let (token, why) =
            (self.tasks[task].claim.token, self.rng.pick(&[Doubt::TimedOut, Doubt::ConnectionLost]));
        Ok(match self.ask(task, Command::Doubt { token, why })? {
            None => Some(Stage::Doubting { listens }),
            Some(_) => listens.then_some(Stage::Exchanging),
        })
    }
}
