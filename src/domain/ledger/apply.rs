//! One command on one record.

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
    /// The fencing token of the attempt, chosen by the claimant.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<A> {
    /// Ask for the right to execute.
    Claim(Claim),
    /// The next thing to happen is the first byte to the backend.
    MarkSent { token: Token },
    /// The backend still works.
    Renew { token: Token, lease: Duration },
    /// The outcome is known and kept for `keep`.
    Complete { token: Token, answer: A, keep: Duration },
    /// The attempt is known not to have been executed.
    Abandon { token: Token },
    /// The attempt ended, and nobody knows how.
    Doubt { token: Token, why: Doubt },
    /// An operator or a probe settles an outcome in doubt.
    Resolve { verdict: Verdict<A> },
    /// An unsafe request with the meaning `by` succeeded on this record's target.
    End { by: Fingerprint },
    /// Every process but `alive` is gone (after a restart of a store with one owner).
    OwnersDied { alive: Owner },
    /// An operator removes the record, whatever it says.
    Delete,
}

/// How an outcome in doubt is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<A> {
    /// It was executed; copies get this answer for `keep`.
    Executed { answer: A, keep: Duration },
    /// It was not executed; the next copy executes.
    NotExecuted,
}

/// What a command's caller learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// The claim is yours.
    Granted,
    /// Somebody executes it at this moment.
    InFlight { token: Token, since: Millis },
    /// It was executed; this is its answer.
    Done { answer: A, done_at: Millis },
    /// The same key with another meaning.
    OtherMeaning,
    /// May have been executed, nobody knows.
    InDoubt { since: Millis, until: Millis, why: Doubt },
    /// The command was carried out.
    Applied,
    /// The command came too late or does not fit the record's phase; nothing was changed by it.
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

/// Carries out `command` on `record` at `now`, after letting time settle the record first (a queued lease that ended is
/// absent, a sent one in doubt, a window that ended absent). Pure and total.
pub fn apply<A: Clone>(record: Option<&Record<A>>, command: Command<A>, now: Millis) -> Step<A> {
    let _ = (record, command, now, Phase::<A>::Queued { token: Token(0), owner: Owner(0), lease_until: now });
    todo!()
}
