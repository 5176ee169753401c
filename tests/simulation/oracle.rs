//! What the promise allows, judged from the outside: from the commands that were accepted, from the bytes that left, and
//! from what the backend really did. It keeps its own books by its own clock arithmetic and never asks the ledger.

use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{
    Claim, Command, Outcome, Owner, Phase, PolicyVersion, Record, Token, Verdict,
};
use oncegate::domain::time::Millis;
use std::collections::HashMap;
use std::time::Duration;

/// The answer of one attempt: which token it was, and whether an operator wrote it.
pub type Body = u32;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A second attempt was granted while an earlier one may have been executed or is still at work.
    SecondAttempt,
    /// The backend really did it twice.
    TwoEffects,
    /// A byte left without the right to send it.
    ByteWithoutRight,
    /// The right to send was given after the lease had ended.
    SentAfterLease,
    /// A recorded answer became another one, or two callers of one intent saw different bodies.
    AnswerChanged,
    /// A recorded answer was gone before its time.
    AnswerLost,
    /// What may have been executed was forgotten before its time.
    DoubtLost,
    /// A command under a token that no longer holds the record was carried out.
    StrangerObeyed,
    /// An attempt in flight was settled or removed from outside.
    LiveAttemptTouched,
    /// The rightful holder was refused.
    HolderRefused,
    /// A new intent was given an old answer, or nothing, though nothing stood against it.
    IntentSwallowed,
    /// Another meaning under the same key was not told so, or an equal one was.
    MeaningMixedUp,
    /// A copy was told to wait for an attempt that nobody holds any more.
    WaitForNobody,
    /// Copies of an answered or running intent were told something else than its state.
    WrongState,
}

/// The life of the one attempt that matters for a record at a time.
#[derive(Clone, Debug)]
struct Life {
    token: Token,
    owner: Owner,
    meaning: Fingerprint,
    policy: PolicyVersion,
    /// A success with another meaning came after it was sent.
    ended: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued { lease_until: Millis },
    Sent { lease_until: Millis },
    Doubt { until: Millis },
    Done { body: Body, by: Option<Token>, until: Millis },
}

/// What the oracle knows of one record.
#[derive(Default)]
struct Book {
    life: Option<Life>,
    /// Counts intents: the same request after a window, an end or a deletion is a new one.
    epoch: u32,
    effects: HashMap<u32, u32>,
    /// The body that callers of this epoch have seen.
    seen: Option<(u32, Body)>,
}

/// What happened to one attempt outside the store.
#[derive(Clone, Copy, Default)]
struct Facts {
    /// The intent that its bytes served. A repeated claim that arrives much later must not move them to another.
    epoch: u32,
    byte_left: bool,
    known_not_executed: bool,
}

/// The books.
pub struct Oracle {
    books: Vec<Book>,
    facts: HashMap<Token, Facts>,
    intents: &'static [(bool, bool)],
    /// Records that the success of another intent may end now. A success ends what came before it once; said again
    /// later it would end what came after it.
    ends_due: Vec<usize>,
    in_doubt_for: Duration,
}

// === impl Oracle ===

impl Oracle {
    /// Empty books. Of each intent: whether a key names it, and whether its success ends the others.
    pub fn new(intents: &'static [(bool, bool)], in_doubt_for: Duration) -> Oracle {
        Oracle {
            books: intents.iter().map(|_| Book::default()).collect(),
            facts: HashMap::new(),
            intents,
            ends_due: Vec::new(),
            in_doubt_for,
        }
    }

    /// The gateway has learned, by one of the listed ways, that the attempt did nothing.
    pub fn learn_not_executed(&mut self, token: Token) {
        self.facts.entry(token).or_default().known_not_executed = true;
    }

    /// The first byte of an attempt leaves.
    pub fn byte_leaves(&mut self, id: usize, token: Token, now: Millis) -> Result<(), Violation> {
        self.age(id, now);
        match &self.books[id].life {
            Some(Life { token: holder, stage: Stage::Sent { .. } | Stage::Doubt { .. }, .. })
                if *holder == token =>
            {
                let facts = self.facts.entry(token).or_default();
                // What was known of an earlier try says nothing about this one.
                facts.known_not_executed = false;
                (facts.byte_left, facts.epoch) = (true, self.books[id].epoch);
                Ok(())
            }
            _ => Err(Violation::ByteWithoutRight),
        }
    }

    /// The backend does what the attempt asked for.
    pub fn effect(&mut self, id: usize, token: Token) -> Result<(), Violation> {
        let epoch = self.facts.entry(token).or_default().epoch;
        let effects = self.books[id].effects.entry(epoch).or_default();
        *effects += 1;
        if *effects > 1 { Err(Violation::TwoEffects) } else { Ok(()) }
    }

    /// A caller is given the body of an executed attempt.
    pub fn delivered(&mut self, id: usize, body: Body) -> Result<(), Violation> {
        let book = &mut self.books[id];
        match book.seen {
            Some((epoch, seen)) if epoch == book.epoch && seen != body => Err(Violation::AnswerChanged),
            _ => {
                book.seen = Some((book.epoch, body));
                Ok(())
            }
        }
    }

    /// Judges one command on the record `id`, writes it into the books, and looks at what the store now holds.
    pub fn judge(
        &mut self,
        id: usize,
        command: &Command<Body>,
        outcome: &Outcome<Body>,
        now: Millis,
        stored: Option<&Record<Body>>,
    ) -> Result<(), Violation> {
        self.age(id, now);
        match command {
            Command::Claim(claim) => self.judge_claim(id, claim, outcome, now)?,
            Command::MarkSent { token } => self.judge_mark_sent(id, *token, outcome)?,
            Command::Renew { token, lease } => self.judge_renew(id, *token, now.after(*lease), outcome)?,
            Command::Complete { token, answer, keep } => {
                self.judge_complete(id, *token, *answer, now.after(*keep), outcome)?;
            }
            Command::Abandon { token } => self.judge_abandon(id, *token, outcome)?,
            Command::Doubt { token, .. } => self.judge_doubt(id, *token, now, outcome)?,
            Command::Resolve { token, verdict } => self.judge_resolve(id, *token, verdict, now, outcome)?,
            Command::End { by } => self.note_end(id, *by),
            Command::OwnersDied { alive } => self.note_owners_died(id, *alive, now),
            Command::Delete => self.judge_delete(id, outcome)?,
        }
        self.compare(id, stored)
    }

    /// Time alone: what is due by `now`. A queued attempt has sent nothing, so its intent goes on; a window's end ends it.
    fn age(&mut self, id: usize, now: Millis) {
        let in_doubt_for = self.in_doubt_for;
        let book = &mut self.books[id];
        if let Some(life) = &mut book.life
            && let Stage::Sent { lease_until } = life.stage
            && now >= lease_until
        {
            life.stage = Stage::Doubt { until: lease_until.after(in_doubt_for) };
        }
        match book.life.as_ref().map(|life| life.stage) {
            Some(Stage::Queued { lease_until }) if now >= lease_until => book.life = None,
            Some(Stage::Doubt { until } | Stage::Done { until, .. }) if now >= until => book.close(),
            _ => {}
        }
    }

    fn judge_claim(
        &mut self,
        id: usize,
        claim: &Claim,
        outcome: &Outcome<Body>,
        now: Millis,
    ) -> Result<(), Violation> {
        let granted = *outcome == Outcome::Granted;
        let Some(life) = &mut self.books[id].life else {
            return if granted { self.grant(id, claim, now) } else { Err(Violation::IntentSwallowed) };
        };
        let other_meaning = life.policy == claim.policy && life.meaning != claim.fingerprint;
        if other_meaning != (*outcome == Outcome::OtherMeaning) {
            return Err(if granted { Violation::SecondAttempt } else { Violation::MeaningMixedUp });
        }
        match (life.stage, outcome) {
            _ if other_meaning => Ok(()),
            (Stage::Queued { lease_until } | Stage::Sent { lease_until }, Outcome::Granted)
                if life.token == claim.token =>
            {
                if claim.sent {
                    life.stage = Stage::Sent { lease_until };
                }
                Ok(())
            }
            (_, Outcome::Granted) => Err(Violation::SecondAttempt),
            (Stage::Queued { .. } | Stage::Sent { .. }, Outcome::InFlight { token, ended, .. }) => {
                match *token == life.token && *ended == life.ended {
                    true if life.token == claim.token => Err(Violation::HolderRefused),
                    true => Ok(()),
                    false => Err(Violation::WrongState),
                }
            }
            (Stage::Doubt { until: due }, Outcome::InDoubt { token, until, .. })
                if *token == life.token && *until == due =>
            {
                Ok(())
            }
            (Stage::Done { body, .. }, Outcome::Done { answer, .. }) if *answer == body => Ok(()),
            (Stage::Done { .. }, Outcome::Done { .. }) => Err(Violation::AnswerChanged),
            (_, Outcome::InFlight { .. }) => Err(Violation::WaitForNobody),
            _ => Err(Violation::WrongState),
        }
    }

    fn grant(&mut self, id: usize, claim: &Claim, now: Millis) -> Result<(), Violation> {
        let book = &mut self.books[id];
        let lease_until = now.after(claim.lease);
        book.life = Some(Life {
            token: claim.token,
            owner: claim.owner,
            meaning: claim.fingerprint,
            policy: claim.policy,
            ended: false,
            stage: if claim.sent { Stage::Sent { lease_until } } else { Stage::Queued { lease_until } },
        });
        Ok(())
    }

    fn judge_mark_sent(&mut self, id: usize, by: Token, outcome: &Outcome<Body>) -> Result<(), Violation> {
        let applied = *outcome == Outcome::Applied;
        match self.books[id].life.as_mut().filter(|life| life.token == by) {
            Some(Life { stage, .. }) => match *stage {
                Stage::Queued { lease_until } | Stage::Sent { lease_until } if applied => {
                    *stage = Stage::Sent { lease_until };
                    Ok(())
                }
                Stage::Queued { .. } | Stage::Sent { .. } => Err(Violation::HolderRefused),
                _ if applied => Err(Violation::SentAfterLease),
                _ => Ok(()),
            },
            None if applied => Err(Violation::SentAfterLease),
            None => Ok(()),
        }
    }

    fn judge_renew(
        &mut self,
        id: usize,
        by: Token,
        until: Millis,
        outcome: &Outcome<Body>,
    ) -> Result<(), Violation> {
        let applied = *outcome == Outcome::Applied;
        match self.books[id].life.as_mut().filter(|life| life.token == by).map(|life| &mut life.stage) {
            Some(Stage::Queued { lease_until } | Stage::Sent { lease_until }) => {
                *lease_until = (*lease_until).max(until);
                if applied { Ok(()) } else { Err(Violation::HolderRefused) }
            }
            _ if applied => Err(Violation::StrangerObeyed),
            _ => Ok(()),
        }
    }

    fn judge_complete(
        &mut self,
        id: usize,
        token: Token,
        body: Body,
        until: Millis,
        outcome: &Outcome<Body>,
    ) -> Result<(), Violation> {
        let applied = *outcome == Outcome::Applied;
        let book = &mut self.books[id];
        match book.life.as_mut() {
            Some(Life { stage: Stage::Done { by, .. }, .. }) if *by == Some(token) => {
                if applied {
                    Ok(())
                } else {
                    Err(Violation::HolderRefused)
                }
            }
            Some(life)
                if life.token == token && matches!(life.stage, Stage::Sent { .. } | Stage::Doubt { .. }) =>
            {
                let done = Stage::Done { body, by: Some(token), until };
                if !applied {
                    return Err(Violation::HolderRefused);
                }
                if life.ended {
                    book.close();
                } else {
                    life.stage = done;
                }
                if self.intents[id].1 {
                    self.ends_due = (0..self.intents.len()).filter(|other| *other != id).collect();
                }
                Ok(())
            }
            _ if applied => Err(Violation::StrangerObeyed),
            _ => Ok(()),
        }
    }

    /// The intent goes on without the attempt; but only where the attempt did nothing, and that is known. An attempt of
    /// which not a byte left is known to have done nothing.
    fn judge_abandon(&mut self, id: usize, by: Token, outcome: &Outcome<Body>) -> Result<(), Violation> {
        let facts = self.facts.get(&by).copied().unwrap_or_default();
        let applied = *outcome == Outcome::Applied;
        let book = &mut self.books[id];
        match &book.life {
            Some(Life { stage: Stage::Done { .. }, .. }) | None if applied => Err(Violation::StrangerObeyed),
            Some(life) if life.token == by && !applied && !matches!(life.stage, Stage::Done { .. }) => {
                Err(Violation::HolderRefused)
            }
            Some(life) if life.token != by && applied => Err(Violation::StrangerObeyed),
            Some(_) if applied => {
                // Left standing, so that forgetting it is seen as what it is.
                if !facts.byte_left || facts.known_not_executed {
                    book.life = None;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn judge_doubt(
        &mut self,
        id: usize,
        by: Token,
        now: Millis,
        outcome: &Outcome<Body>,
    ) -> Result<(), Violation> {
        let applied = *outcome == Outcome::Applied;
        let until = now.after(self.in_doubt_for);
        match self.books[id].life.as_mut().filter(|life| life.token == by).map(|life| &mut life.stage) {
            Some(stage @ Stage::Sent { .. }) => {
                *stage = Stage::Doubt { until };
                if applied { Ok(()) } else { Err(Violation::HolderRefused) }
            }
            Some(Stage::Doubt { .. }) if applied => Ok(()),
            _ if applied => Err(Violation::StrangerObeyed),
            _ => Ok(()),
        }
    }

    fn judge_resolve(
        &mut self,
        id: usize,
        about: Option<Token>,
        verdict: &Verdict<Body>,
        now: Millis,
        outcome: &Outcome<Body>,
    ) -> Result<(), Violation> {
        let applied = *outcome == Outcome::Applied;
        let book = &mut self.books[id];
        let Some(life) = &mut book.life else {
            return if applied { Err(Violation::StrangerObeyed) } else { Ok(()) };
        };
        if !applied {
            let refusable =
                !matches!(life.stage, Stage::Doubt { .. }) || about.is_some_and(|about| about != life.token);
            return if refusable { Ok(()) } else { Err(Violation::HolderRefused) };
        }
        if about.is_some_and(|about| about != life.token) {
            return Err(Violation::StrangerObeyed);
        }
        if !matches!(life.stage, Stage::Doubt { .. }) {
            return Err(Violation::LiveAttemptTouched);
        }
        match verdict {
            Verdict::NotExecuted => book.life = None,
            Verdict::Executed { .. } if life.ended => book.close(),
            Verdict::Executed { answer, keep } => {
                life.stage = Stage::Done { body: *answer, by: None, until: now.after(*keep) };
            }
        }
        Ok(())
    }

    fn note_end(&mut self, id: usize, by: Option<Fingerprint>) {
        let keyed = self.intents[id].0;
        if self.ends_due.extract_if(.., |due| *due == id).count() == 0 {
            return;
        }
        let book = &mut self.books[id];
        let Some(life) = book.life.as_mut().filter(|life| !keyed && by != Some(life.meaning)) else { return };
        match life.stage {
            Stage::Done { .. } => book.close(),
            Stage::Sent { .. } | Stage::Doubt { .. } => life.ended = true,
            Stage::Queued { .. } => {}
        }
    }

    fn note_owners_died(&mut self, id: usize, alive: Owner, now: Millis) {
        let until = now.after(self.in_doubt_for);
        let book = &mut self.books[id];
        let Some(life) = book.life.as_mut().filter(|life| life.owner != alive) else { return };
        match life.stage {
            Stage::Queued { .. } => book.life = None,
            Stage::Sent { .. } => life.stage = Stage::Doubt { until },
            Stage::Doubt { .. } | Stage::Done { .. } => {}
        }
    }

    fn judge_delete(&mut self, id: usize, outcome: &Outcome<Body>) -> Result<(), Violation> {
        let applied = *outcome == Outcome::Applied;
        let book = &mut self.books[id];
        match book.life.as_ref().map(|life| life.stage) {
            None if applied => Err(Violation::StrangerObeyed),
            None => Ok(()),
            Some(Stage::Queued { .. } | Stage::Sent { .. }) if applied => Err(Violation::LiveAttemptTouched),
            Some(Stage::Queued { .. } | Stage::Sent { .. }) => Ok(()),
            Some(_) if applied => {
                book.close();
                Ok(())
            }
            Some(_) => Err(Violation::HolderRefused),
        }
    }

    /// What the store holds must not be less than what the books say. It may still hold what is over: nobody has looked
    /// at it yet, and time will settle it when somebody does.
    fn compare(&self, id: usize, stored: Option<&Record<Body>>) -> Result<(), Violation> {
        let Some(life) = &self.books[id].life else { return Ok(()) };
        match (life.stage, stored.map(|record| &record.phase)) {
            (Stage::Done { body, .. }, Some(Phase::Done { answer, .. })) if *answer == body => Ok(()),
            (Stage::Done { .. }, Some(Phase::Done { .. })) => Err(Violation::AnswerChanged),
            (Stage::Done { .. }, _) => Err(Violation::AnswerLost),
            (Stage::Sent { .. }, Some(Phase::Sent { .. })) => Ok(()),
            (Stage::Doubt { .. }, Some(Phase::Sent { lease_until, .. })) => {
                // Not looked at since its lease ended; a lease that goes on would hide the doubt.
                if lease_until.after(self.in_doubt_for) <= self.doubt_until(id) {
                    Ok(())
                } else {
                    Err(Violation::WaitForNobody)
                }
            }
            (Stage::Doubt { .. }, Some(Phase::InDoubt { .. })) => Ok(()),
            (Stage::Sent { .. } | Stage::Doubt { .. }, _) => Err(Violation::DoubtLost),
            (Stage::Queued { .. }, Some(Phase::Queued { .. })) => Ok(()),
            (Stage::Queued { .. }, _) => Err(Violation::WrongState),
        }
    }

    fn doubt_until(&self, id: usize) -> Millis {
        match self.books[id].life.as_ref().map(|life| life.stage) {
            Some(Stage::Doubt { until }) => until,
            _ => Millis(0),
        }
    }
}

// === impl Book ===

impl Book {
    /// The intent is over: the next equal request is another one.
    fn close(&mut self) {
        self.life = None;
        self.epoch += 1;
    }
}
