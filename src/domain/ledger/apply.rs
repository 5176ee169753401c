//! One command on one record: what time has made of the record first, then what the command makes of it.
//!
//! Owns every transition of a record's life. Leaves to the store: which record a command is for, quotas, waiters, and
//! a `now` that never goes back. Every command may arrive twice, or late: its token says whether it still counts.

use super::record::{Doubt, Owner, Phase, PolicyVersion, Record, TargetId, Token};
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::time::Millis;
use std::time::Duration;

/// All that a claim says of the intent it wants to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What the request means.
    pub fingerprint: Fingerprint,
    /// Whether an Idempotency-Key names the intent.
    pub keyed: bool,
    /// The rules that made the fingerprint.
    pub policy: PolicyVersion,
    /// Whose it is.
    pub scope: ScopeId,
    /// What it addresses.
    pub target: TargetId,
    /// The fencing token of the attempt, chosen by the claimant. Fresh for every attempt; a claim whose reply was lost
    /// is repeated under the same one.
    pub token: Token,
    /// The claiming process.
    pub owner: Owner,
    /// How long the claim holds without a renewal.
    pub lease: Duration,
    /// Go straight to *sent*: nothing has to be waited for between the claim and the first byte.
    pub sent: bool,
    /// How long an outcome in doubt is kept.
    pub in_doubt_for: Duration,
}

/// What can be done to one record.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<A> {
    /// Ask for the right to execute.
    Claim(Claim),
    /// The next thing to happen is the first byte to the backend. Refused: not a byte may be written.
    MarkSent { token: Token },
    /// The backend still works: the lease ends `lease` from now, or later where it already did.
    Renew { token: Token, lease: Duration },
    /// The outcome is known and kept for `keep`.
    Complete { token: Token, answer: A, keep: Duration },
    /// The attempt is known not to have been executed.
    Abandon { token: Token },
    /// The attempt ended, and nobody knows how.
    Doubt { token: Token, why: Doubt },
    /// An operator or a probe settles an outcome in doubt. `token` is the attempt that was looked at, as
    /// [`Outcome::InDoubt`] named it: a slow probe must not settle a later attempt. `None` is an operator's word on
    /// whatever is in doubt.
    Resolve { token: Option<Token>, verdict: Verdict<A> },
    /// An unsafe request with the meaning `by` succeeded on this record's target. `None`: its meaning was not taken,
    /// so it differs from every other.
    End { by: Option<Fingerprint> },
    /// Every process but `alive` is gone (after a restart of a store with one owner).
    OwnersDied { alive: Owner },
    /// An operator removes the record, whatever it says; refused while an attempt is in flight, because a second one
    /// would be granted beside it.
    Delete,
}

/// How an outcome in doubt is settled.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<A> {
    /// It was executed; copies get this answer for `keep`.
    Executed { answer: A, keep: Duration },
    /// It was not executed; the next copy executes.
    NotExecuted,
}

/// What a command's caller learns.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// The claim is yours.
    Granted,
    /// Somebody executes it at this moment, claimed at `since`. `ended`: a copy that arrives now is a new intent (see
    /// [`Record::ended`]); it waits all the same, but then claims anew instead of taking this attempt's answer.
    InFlight { token: Token, since: Millis, ended: bool },
    /// It was executed; this is its answer.
    Done { answer: A, done_at: Millis },
    /// The same key with another meaning.
    OtherMeaning,
    /// The attempt `token` may have been executed, nobody knows.
    InDoubt { token: Token, since: Millis, until: Millis, why: Doubt },
    /// The command was carried out.
    Applied,
    /// The command came too late or does not fit the record's phase; it changed nothing (time may have).
    Refused,
}

/// What becomes of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<A> {
    /// It stays as it was.
    Keep,
    /// It becomes this.
    Put(Record<A>),
    /// It is absent from now on.
    Remove,
}

/// The result of [`apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<A> {
    /// What becomes of the record.
    pub change: Change<A>,
    /// What the caller learns.
    pub outcome: Outcome<A>,
}

/// What time alone makes of `record` by `now`: a queued lease that ended leaves nothing behind, because nothing was sent
/// and its owner's [`Command::MarkSent`] fails from now on; a sent one leaves the outcome in doubt, as of the lease's
/// end; an answer or a doubt leaves with its window. An instant belongs to what comes after it.
///
/// Settling early or late, once or in steps, ends in the same record: what follows from a deadline is dated by it.
pub fn settle<A>(record: &Record<A>, now: Millis) -> Change<A> {
    if now < record.next_deadline() {
        return Change::Keep;
    }
    match record.phase {
        Phase::Sent { token, lease_until, .. } => {
            let doubtful = record.in_doubt(token, lease_until, Doubt::LeaseEnded);
            if now < doubtful.next_deadline() { Change::Put(doubtful) } else { Change::Remove }
        }
        Phase::Queued { .. } | Phase::Done { .. } | Phase::InDoubt { .. } => Change::Remove,
    }
}

/// Carries out `command` on `record` at `now`, after letting time [`settle`] the record. Pure and total.
///
/// What time did is part of the change even where the command is refused: nobody may be told of a doubt that the
/// record does not hold.
pub fn apply<A: Clone>(record: Option<&Record<A>>, command: Command<A>, now: Millis) -> Step<A> {
    let Some(record) = record else { return on_absent(command, now) };
    match settle(record, now) {
        Change::Keep => on_present(record, command, now),
        Change::Put(aged) => match on_present(&aged, command, now) {
            Step { change: Change::Keep, outcome } => Step { change: Change::Put(aged), outcome },
            step => step,
        },
        Change::Remove => match on_absent(command, now) {
            Step { change: Change::Keep, outcome } => Step { change: Change::Remove, outcome },
            step => step,
        },
    }
}

/// Nothing is known: only a claim finds work. A fact about other records (`End`, `OwnersDied`) has nothing to do here.
fn on_absent<A>(command: Command<A>, now: Millis) -> Step<A> {
    match command {
        Command::Claim(claim) => {
            Step { change: Change::Put(claimed(&claim, now)), outcome: Outcome::Granted }
        }
        Command::End { .. } | Command::OwnersDied { .. } => Step::keep(Outcome::Applied),
        Command::MarkSent { .. }
        | Command::Renew { .. }
        | Command::Complete { .. }
        | Command::Abandon { .. }
        | Command::Doubt { .. }
        | Command::Resolve { .. }
        | Command::Delete => Step::refused(),
    }
}

fn on_present<A: Clone>(record: &Record<A>, command: Command<A>, now: Millis) -> Step<A> {
    match command {
        Command::Claim(claim) => on_claim(record, &claim, now),
        Command::MarkSent { token } => on_mark_sent(record, token, now),
        Command::Renew { token, lease } => on_renew(record, token, now.after(lease)),
        Command::Complete { token, answer, keep } => on_complete(record, token, answer, now, keep),
        Command::Abandon { token } => on_abandon(record, token),
        Command::Doubt { token, why } => on_doubt(record, token, now, why),
        Command::Resolve { token, verdict } => on_resolve(record, token, verdict, now),
        Command::End { by } => on_end(record, by),
        Command::OwnersDied { alive } => on_owners_died(record, alive, now),
        Command::Delete if record.in_flight() => Step::refused(),
        Command::Delete => Step::remove(),
    }
}

fn claimed<A>(claim: &Claim, now: Millis) -> Record<A> {
    let (token, owner, lease_until) = (claim.token, claim.owner, now.after(claim.lease));
    Record {
        fingerprint: claim.fingerprint,
        keyed: claim.keyed,
        policy: claim.policy,
        scope: claim.scope,
        target: claim.target,
        claimed_at: now,
        in_doubt_for: claim.in_doubt_for,
        ended: false,
        phase: if claim.sent {
            Phase::Sent { token, owner, lease_until, sent_at: now }
        } else {
            Phase::Queued { token, owner, lease_until }
        },
    }
}

/// The meaning is compared before the phase is looked at, so that another meaning never learns an answer; but not
/// across policies, whose fingerprints differ for equal requests. Without a key the meaning is in the record's id, and
/// comparing it costs nothing.
fn on_claim<A: Clone>(record: &Record<A>, claim: &Claim, now: Millis) -> Step<A> {
    if record.policy == claim.policy && record.fingerprint != claim.fingerprint {
        return Step::keep(Outcome::OtherMeaning);
    }
    match &record.phase {
        // The same claim again, because its reply was lost. One that means to send at once must leave a sent record.
        Phase::Queued { token, .. } if *token == claim.token && claim.sent => {
            Step { outcome: Outcome::Granted, ..on_mark_sent(record, *token, now) }
        }
        Phase::Queued { token, .. } | Phase::Sent { token, .. } if *token == claim.token => {
            Step::keep(Outcome::Granted)
        }
        Phase::Queued { token, .. } | Phase::Sent { token, .. } => {
            Step::keep(Outcome::InFlight { token: *token, since: record.claimed_at, ended: record.ended })
        }
        Phase::Done { answer, done_at, .. } => {
            Step::keep(Outcome::Done { answer: answer.clone(), done_at: *done_at })
        }
        Phase::InDoubt { token, since, until, why } => {
            Step::keep(Outcome::InDoubt { token: *token, since: *since, until: *until, why: *why })
        }
    }
}

fn on_mark_sent<A>(record: &Record<A>, by: Token, now: Millis) -> Step<A> {
    match record.phase {
        Phase::Queued { token, owner, lease_until } if token == by => {
            Step::put(record.entering(Phase::Sent { token, owner, lease_until, sent_at: now }))
        }
        Phase::Sent { token, .. } if token == by => Step::keep(Outcome::Applied),
        _ => Step::refused(),
    }
}

/// Never shortens: a renewal that was delayed on its way must not end the lease before a later one said.
fn on_renew<A>(record: &Record<A>, by: Token, until: Millis) -> Step<A> {
    match record.phase {
        Phase::Queued { token, owner, lease_until } if token == by => {
            Step::put(record.entering(Phase::Queued { token, owner, lease_until: lease_until.max(until) }))
        }
        Phase::Sent { token, owner, lease_until, sent_at } if token == by => {
            Step::put(record.entering(Phase::Sent {
                token,
                owner,
                lease_until: lease_until.max(until),
                sent_at,
            }))
        }
        _ => Step::refused(),
    }
}

/// A late answer counts as long as nobody settled the doubt; it is the same attempt. Nothing was sent while queued, so
/// there is no answer to take. The window starts here, not at the claim: a slow backend must not eat it up.
fn on_complete<A>(record: &Record<A>, by: Token, answer: A, now: Millis, keep: Duration) -> Step<A> {
    match record.phase {
        Phase::Sent { token, .. } | Phase::InDoubt { token, .. } if token == by => {
            answered(record, answer, Some(by), now, keep)
        }
        Phase::Done { by: Some(token), .. } if token == by => Step::keep(Outcome::Applied),
        _ => Step::refused(),
    }
}

/// The outcome is known. Where a later success has already ended the intent, nothing remains to be replayed.
fn answered<A>(record: &Record<A>, answer: A, by: Option<Token>, now: Millis, keep: Duration) -> Step<A> {
    if record.ended {
        return Step::remove();
    }
    Step::put(record.entering(Phase::Done { answer, by, done_at: now, until: now.after(keep) }))
}

fn on_abandon<A>(record: &Record<A>, by: Token) -> Step<A> {
    match record.phase {
        Phase::Queued { token, .. } | Phase::Sent { token, .. } | Phase::InDoubt { token, .. }
            if token == by =>
        {
            Step::remove()
        }
        _ => Step::refused(),
    }
}

/// What is in doubt already stays as it is: the first reason and its date are what copies were told.
fn on_doubt<A>(record: &Record<A>, by: Token, now: Millis, why: Doubt) -> Step<A> {
    match record.phase {
        Phase::Sent { token, .. } if token == by => Step::put(record.in_doubt(token, now, why)),
        Phase::InDoubt { token, .. } if token == by => Step::keep(Outcome::Applied),
        _ => Step::refused(),
    }
}

fn on_resolve<A>(record: &Record<A>, about: Option<Token>, verdict: Verdict<A>, now: Millis) -> Step<A> {
    match record.phase {
        Phase::InDoubt { token, .. } if about.is_none_or(|about| about == token) => match verdict {
            Verdict::Executed { answer, keep } => answered(record, answer, None, now, keep),
            Verdict::NotExecuted => Step::remove(),
        },
        _ => Step::refused(),
    }
}

/// Book, cancel, book again is three intents, so the first booking's answer must not serve the second. Only what may
/// have been executed *before* the unsafe request ends by it: a queued attempt comes after it and its copies are
/// copies still. What is sent or in doubt stays, on the safe side, but an answer that comes to it later serves nobody. A key
/// names its intent whatever else happens.
fn on_end<A: Clone>(record: &Record<A>, by: Option<Fingerprint>) -> Step<A> {
    if record.keyed || by == Some(record.fingerprint) {
        return Step::keep(Outcome::Applied);
    }
    match record.phase {
        Phase::Done { .. } => Step::remove(),
        Phase::Sent { .. } | Phase::InDoubt { .. } if !record.ended => {
            Step::put(Record { ended: true, ..record.clone() })
        }
        Phase::Queued { .. } | Phase::Sent { .. } | Phase::InDoubt { .. } => Step::keep(Outcome::Applied),
    }
}

/// A dead process answers no more, so there is nothing to wait for: in doubt at once instead of after the lease.
fn on_owners_died<A>(record: &Record<A>, alive: Owner, now: Millis) -> Step<A> {
    match record.phase {
        Phase::Sent { token, owner, .. } if owner != alive => {
            Step::put(record.in_doubt(token, now, Doubt::OwnerDied))
        }
        Phase::Queued { owner, .. } if owner != alive => Step::remove(),
        _ => Step::keep(Outcome::Applied),
    }
}

// === impl Step ===

impl<A> Step<A> {
    fn keep(outcome: Outcome<A>) -> Step<A> {
        Step { change: Change::Keep, outcome }
    }

    fn put(record: Record<A>) -> Step<A> {
        Step { change: Change::Put(record), outcome: Outcome::Applied }
    }

    fn remove() -> Step<A> {
        Step { change: Change::Remove, outcome: Outcome::Applied }
    }

    fn refused() -> Step<A> {
        Step::keep(Outcome::Refused)
    }
}
