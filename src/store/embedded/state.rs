//! One command at a time on the records: asks the ledger, carries out what it says, and notes it for the log. Nothing
//! here waits; the caller does, without the lock.

use super::aliases::Aliases;
use super::index::Index;
use super::journal::{Journal, RoomFor};
use super::kept::{Kept, tombstone};
use super::lanes::Lanes;
use super::recovery::Sightings;
use super::settle::fated;
use super::subtrees::Subtrees;
use super::waiters::{Attempt, Signal, Waiter};
use super::{About, AttemptEnd, ClaimRequest, Completion, EndIntents, Held, LeftInDoubt, StoreError};
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::ledger::apply;
use crate::domain::ledger::{Change, Command, Doubt, Outcome, Phase, Record, RecordId, Step, Token};
use crate::domain::slot::{Saw, Taken};
use crate::domain::time::Millis;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

/// The largest tombstone in bytes: status and headers of an answer whose body was not kept.
pub(super) const TOMBSTONE_MAX: usize = 512;

/// An alias is made to last longer than it is asked to, by this part of that: then not every write through it prolongs it.
const ALIAS_AHEAD: u32 = 8;

/// What the operator sees of a record takes at most so many bytes.
const ABOUT_MAX: usize = 256;

/// Everything that the lock protects.
pub(super) struct State {
    /// The records.
    pub(super) index: Index,
    /// Scopes that stand for others.
    pub(super) aliases: Aliases,
    /// What has ended with all below it.
    pub(super) subtrees: Subtrees,
    /// What was seen in answers.
    pub(super) sightings: Sightings,
    /// Who waits for whom.
    pub(super) lanes: Lanes,
    /// Where changes are noted; in memory only, nowhere.
    pub(super) journal: Option<Journal>,
    pub(super) records_max: usize,
    /// What its beginning put in doubt, until that was told.
    pub(super) left: LeftInDoubt,
}

/// What a command leaves for its caller to do after the lock is gone.
#[derive(Default)]
pub(super) struct After {
    /// The commit to wait for before anybody is told.
    pub(super) commit: Option<u64>,
    /// Copies to wake at once: nothing has to be durable first.
    pub(super) ends: Vec<(Arc<Attempt>, AttemptEnd)>,
    /// Attempts whose turn has come.
    pub(super) turns: Vec<Arc<Signal<()>>>,
}

/// What a claim got, before anything was waited for.
pub(super) enum ClaimStep {
    Granted,
    InFlight(Waiter),
    Done(Kept),
    OtherMeaning,
    InDoubt {
        token: Token,
        since: Millis,
        until: Millis,
        why: Doubt,
    },
    OverQuota,
    SlotTaken(Taken),
    SlotChanged,
    /// The log has no room at this moment; nothing was changed.
    NoRoom,
}

// === impl State ===

impl State {
    /// An empty state.
    pub(super) fn new(memory_max: u64, records_max: usize, journal: Option<Journal>) -> State {
        let index = Index::new(memory_max, journal.is_some());
        State {
            index,
            aliases: Aliases::new(records_max),
            subtrees: Subtrees::default(),
            lanes: Lanes::default(),
            sightings: Sightings::default(),
            journal,
            records_max,
            left: LeftInDoubt::default(),
        }
    }

    /// See [`Store::claim`](crate::store::Store::claim). The request's texts are taken out of it when it is granted.
    pub(super) fn claim(
        &mut self,
        request: &mut ClaimRequest,
        now: Millis,
        after: &mut After,
    ) -> Result<ClaimStep, StoreError> {
        let id = request.id;
        self.end_below(request, now, after);
        let before = self.index.get(&id);
        // Most claims are the first of their intent. Limits are looked at only where a record would be added.
        let step = apply(before.map(|entry| &entry.record), Command::Claim(request.claim.clone()), now);
        let fated = before.and_then(|entry| fated(&entry.record, Saw::Time, &step));
        let Step { change, outcome } = step;
        match outcome {
            Outcome::Granted => {
                let known = before.is_some_and(|entry| token_of(&entry.record) == Some(request.claim.token));
                if known {
                    self.carry_out(id, change, None, after);
                    after.commit = self.commit(false).or_else(|| self.commit_of(&id));
                    return Ok(ClaimStep::Granted);
                }
                let same_scope = before.is_some_and(|entry| entry.record.scope == request.claim.scope);
                let live = self.index.live(&request.claim.scope) - u32::from(same_scope);
                if live >= request.quota {
                    return Ok(ClaimStep::OverQuota);
                }
                if before.is_none()
                    && let Some(why) = self.full()
                {
                    return Err(StoreError::Full(why));
                }
                if self.journal.as_ref().is_some_and(|journal| journal.room_for_claim() == RoomFor::NotNow) {
                    return Ok(ClaimStep::NoRoom);
                }
                // Time has removed what was there, and freed or unsettled what that had reserved.
                self.fated(fated);
                if !request.slots.is_empty()
                    && let Some(refused) = self.slots_refused(request, now, after)?
                {
                    self.commit(true);
                    return Ok(refused);
                }
                self.remove(id, false, AttemptEnd::NotExecuted, after);
                if let Change::Put(record) = change {
                    let about = take_about(&mut request.about);
                    self.take_slots(request, &about.request_id, now);
                    self.begin(id, record, about);
                }
                after.commit = self.commit(false);
                Ok(ClaimStep::Granted)
            }
            Outcome::InFlight { ended, .. } => {
                let entry = self.index.get_mut(&id).ok_or_else(inconsistent)?;
                Ok(ClaimStep::InFlight(Waiter::behind(entry.attempt.get_or_insert_with(Attempt::new), ended)))
            }
            Outcome::Done { answer, .. } => {
                after.commit = self.commit_of(&id);
                Ok(ClaimStep::Done(answer))
            }
            Outcome::OtherMeaning => {
                self.fated(fated);
                self.carry_out(id, change, None, after);
                self.commit(true);
                Ok(ClaimStep::OtherMeaning)
            }
            Outcome::InDoubt { token, since, until, why } => {
                self.fated(fated);
                self.carry_out(id, change, None, after);
                self.commit(true);
                Ok(ClaimStep::InDoubt { token, since, until, why })
            }
            Outcome::Applied | Outcome::Refused => Err(inconsistent()),
        }
    }

    /// See [`Store::mark_sent`](crate::store::Store::mark_sent).
    pub(super) fn mark_sent(&mut self, id: RecordId, token: Token, now: Millis, after: &mut After) -> Held {
        let held = self.command(id, Command::MarkSent { token }, None, now, after);
        after.commit = self.commit(false);
        if held == Held::Yes && after.commit.is_none() {
            after.commit = self.commit_of(&id);
        }
        held
    }

    /// See [`Store::renew`](crate::store::Store::renew). A lease means nothing after a restart, so it is not logged.
    pub(super) fn renew(
        &mut self,
        id: RecordId,
        token: Token,
        lease: Duration,
        now: Millis,
        after: &mut After,
    ) -> Held {
        let held = self.command(id, Command::Renew { token, lease }, None, now, after);
        self.commit(true);
        held
    }

    /// See [`Store::complete`](crate::store::Store::complete).
    pub(super) fn complete(
        &mut self,
        completion: Box<Completion>,
        now: Millis,
        after: &mut After,
    ) -> Result<Held, StoreError> {
        let kept = Kept::new(self.fitting(&completion.answer));
        let (token, keep) = (completion.token, completion.keep);
        self.finish(completion, Command::Complete { token, answer: kept, keep }, now, after)
    }

    /// A record is done, with all that follows from it in the same step.
    pub(super) fn finish(
        &mut self,
        completion: Box<Completion>,
        command: Command<Kept>,
        now: Millis,
        after: &mut After,
    ) -> Result<Held, StoreError> {
        let Completion { id, token, answer, ends, names, alias, slots, frees, .. } = *completion;
        let before = self.index.get(&id).map(|entry| &entry.record.phase);
        let repeated = matches!(before, Some(Phase::Done { .. }));
        // Copies that wait get the whole answer even where only a tombstone can be kept.
        let held = self.command(id, command, Some(answer), now, after);
        if held == Held::Yes && !repeated {
            self.settle_slots(token, &slots, now);
            self.free_slots(&frees, Some(token), now, after);
            let scope = self.index.get(&id).map(|entry| entry.record.scope);
            if let Some(names) = names {
                self.name(id, names);
            }
            if let (Some((from, keep)), Some(to)) = (alias, scope) {
                self.add_alias(from, to, now, keep);
            }
            if let Some(ends) = ends {
                self.end_all(&ends, now, after);
            }
        }
        after.commit = self.commit(false);
        if held == Held::Yes && after.commit.is_none() {
            after.commit = self.commit_of(&id);
        }
        Ok(held)
    }

    /// See [`Store::abandon`](crate::store::Store::abandon).
    pub(super) fn abandon(
        &mut self,
        id: RecordId,
        token: Token,
        answer: Option<Answer>,
        now: Millis,
        after: &mut After,
    ) -> Held {
        let held = self.command(id, Command::Abandon { token }, answer, now, after);
        after.commit = self.commit(false);
        held
    }

    /// See [`Store::doubt`](crate::store::Store::doubt).
    pub(super) fn doubt(
        &mut self,
        id: RecordId,
        token: Token,
        why: Doubt,
        now: Millis,
        after: &mut After,
    ) -> Held {
        let held = self.command(id, Command::Doubt { token, why }, None, now, after);
        self.commit(true);
        held
    }

    /// See [`Store::end_intents`](crate::store::Store::end_intents).
    pub(super) fn end_intents(&mut self, ends: &EndIntents, now: Millis, after: &mut After) -> usize {
        let changed = self.end_all(ends, now, after);
        after.commit = self.commit(false);
        changed
    }

    /// See [`Store::alias`](crate::store::Store::alias).
    pub(super) fn alias(
        &mut self,
        from: ScopeId,
        to: ScopeId,
        keep: Duration,
        now: Millis,
        after: &mut After,
    ) -> Result<(), StoreError> {
        let to = self.aliases.resolve(to, now);
        if self.index.live(&to) == 0 || self.aliases.lasts(from, to, now.after(keep)) {
            return Ok(());
        }
        if self.journal.as_ref().is_some_and(|journal| journal.room_for_note() == RoomFor::NotNow) {
            return Err(StoreError::Full("its disk has no room for the renewed scope".into()));
        }
        self.add_alias(from, to, now, keep);
        after.commit = self.commit(false);
        Ok(())
    }

    /// Why no record can be added, if that is so.
    pub(super) fn full(&self) -> Option<String> {
        let full = self.index.len() >= self.records_max;
        full.then(|| format!("it holds {} records, its limit", self.records_max))
    }

    /// Asks the ledger about `command` and carries out what it says. `answer` is what waiting copies get if the record
    /// goes away by it.
    pub(super) fn command(
        &mut self,
        id: RecordId,
        command: Command<Kept>,
        answer: Option<Answer>,
        now: Millis,
        after: &mut After,
    ) -> Held {
        let (before, saw) = (self.index.get(&id), Saw::from(&command));
        let step = apply(before.map(|entry| &entry.record), command, now);
        let fated = before.and_then(|entry| fated(&entry.record, saw, &step));
        self.fated(fated);
        let Step { change, outcome } = step;
        let held = if matches!(outcome, Outcome::Applied | Outcome::Granted) { Held::Yes } else { Held::No };
        // What time did to a record is not answered with the answer of a command that came too late for it.
        self.carry_out(id, change, answer.filter(|_| held == Held::Yes), after);
        held
    }

    pub(super) fn carry_out(
        &mut self,
        id: RecordId,
        change: Change<Kept>,
        answer: Option<Answer>,
        after: &mut After,
    ) {
        match change {
            Change::Keep => {}
            Change::Remove => {
                let end = answer.map_or(AttemptEnd::NotExecuted, AttemptEnd::Answered);
                self.remove(id, true, end, after);
            }
            Change::Put(record) => self.put(id, record, answer, after),
        }
    }

    /// A new attempt begins.
    fn begin(&mut self, id: RecordId, record: Record<Kept>, about: About) {
        self.index.insert(id, record, about);
        if let (Some(journal), Some(entry)) = (&mut self.journal, self.index.get_mut(&id)) {
            journal.began(id, entry);
        }
    }

    /// The record stays and becomes `record`.
    fn put(&mut self, id: RecordId, record: Record<Kept>, answer: Option<Answer>, after: &mut After) {
        let end = match &record.phase {
            Phase::Queued { .. } | Phase::Sent { .. } => None,
            Phase::Done { answer: kept, .. } => {
                answer.or_else(|| kept.cached.clone()).map(AttemptEnd::Answered)
            }
            Phase::InDoubt { since, until, why, .. } => {
                Some(AttemptEnd::InDoubt { since: *since, until: *until, why: *why })
            }
        };
        let durable_first = matches!(record.phase, Phase::Done { .. });
        let sent = match record.phase {
            Phase::Sent { token, .. } => Some(token),
            _ => None,
        };
        let Some(ended) = self.index.get(&id).map(|entry| entry.record.ended) else { return };
        self.index.replace(id, record);
        let Some(entry) = self.index.get_mut(&id) else { return };
        let attempt = if end.is_some() { entry.attempt.take() } else { None };
        if let Some(journal) = &mut self.journal {
            journal.changed(id, entry, ended);
        }
        if let Some(token) = sent {
            self.note_slots(token);
        }
        if let (Some(attempt), Some(end)) = (attempt, end) {
            self.tell(attempt, end, durable_first, after);
        }
    }

    /// The record goes away. `note`: that has to be said in the log (it need not where another takes its place there).
    pub(super) fn remove(&mut self, id: RecordId, note: bool, end: AttemptEnd, after: &mut After) {
        let Some(mut entry) = self.index.remove(id) else { return };
        let attempt = entry.attempt.take();
        if let Some(journal) = &mut self.journal {
            journal.removed(id, &entry, note);
        }
        if let Some(attempt) = attempt {
            let durable_first = matches!(end, AttemptEnd::Answered(_));
            self.tell(attempt, end, durable_first, after);
        }
    }

    /// Copies wake when the commit that their answer needs is durable; in memory, and where nothing is needed, at once.
    fn tell(&mut self, attempt: Arc<Attempt>, end: AttemptEnd, durable_first: bool, after: &mut After) {
        match &mut self.journal {
            Some(journal) if durable_first => journal.tell(attempt, end),
            _ => after.ends.push((attempt, end)),
        }
    }

    fn name(&mut self, id: RecordId, names: crate::domain::ledger::TargetId) {
        self.index.name(id, names);
        if let (Some(journal), Some(entry)) = (&mut self.journal, self.index.get(&id))
            && entry.names == Some(names)
        {
            journal.named(id, names);
        }
    }

    fn add_alias(&mut self, from: ScopeId, to: ScopeId, now: Millis, keep: Duration) {
        let known = self.aliases.resolve(from, now);
        let is_another = self.index.live(&from) > 0 || (known != from && known != to);
        if is_another || self.aliases.lasts(from, to, now.after(keep)) {
            return;
        }
        let until = now.after(keep + keep / ALIAS_AHEAD);
        let home = self.journal.as_ref().map_or(0, Journal::tail);
        if self.aliases.add(from, to, until, home)
            && let Some(journal) = &mut self.journal
        {
            journal.aliased(from, to, until);
        }
    }

    /// `answer`, or the tombstone of it that there is room for.
    pub(super) fn fitting(&self, answer: &Answer) -> Answer {
        let len = answer.as_bytes().len();
        let fits = match &self.journal {
            Some(journal) => journal.fits_answer(len),
            None => self.index.recent.fits(len),
        };
        if fits { answer.clone() } else { tombstone(answer, TOMBSTONE_MAX) }
    }

    /// Hands what this command noted to the log, as one step that is there after a crash as a whole or not at all.
    /// `lazily`: nobody waits for it.
    pub(super) fn commit(&mut self, lazily: bool) -> Option<u64> {
        let journal = self.journal.as_mut()?;
        let commit = journal.commit(&mut self.index, lazily);
        self.index.cool();
        commit
    }

    /// The commit that has to be durable before the present state of `id` may be shown.
    fn commit_of(&self, id: &RecordId) -> Option<u64> {
        self.journal.as_ref()?;
        self.index.get(id).map(|entry| entry.commit)
    }
}

/// The token of the attempt that a record is about.
pub(super) fn token_of(record: &Record<Kept>) -> Option<Token> {
    match record.phase {
        Phase::Queued { token, .. } | Phase::Sent { token, .. } | Phase::InDoubt { token, .. } => Some(token),
        Phase::Done { by, .. } => by,
    }
}

/// The ledger gives these outcomes never to this command, and a record that it saw is there.
fn inconsistent() -> StoreError {
    StoreError::Unavailable("the ledger's outcome does not fit the command; please report this".into())
}

/// What is kept of `about`: the texts together at most [`ABOUT_MAX`] bytes.
fn take_about(about: &mut About) -> About {
    let room = ABOUT_MAX.saturating_sub(about.route.len());
    about.request_id.truncate(about.request_id.floor_char_boundary(room));
    about.shorten_request(room - about.request_id.len());
    let (request, request_id) = (&mut about.request, &mut about.request_id);
    About { route: Arc::clone(&about.route), request: take(request), request_id: take(request_id) }
}
