//! The record: all that the store knows of one intent.

use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::time::Millis;
use std::time::Duration;

/// Names one intent: a digest of (route, scope, key), or of (route, scope, fingerprint) where no key was sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub [u8; 32]);

/// Names a resource: a digest of (upstream, normalised path). An unsafe request that succeeds ends the keyless records
/// of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub [u8; 16]);

/// The fencing token of one attempt: random, never reused, held by whoever may complete it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u128);

/// One life of one gateway process. After a restart the records of an earlier one are in doubt at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u64);

/// Identifies the compiled rules under which a fingerprint was made. Across versions the key alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyVersion(pub u64);

/// Why nobody knows whether an attempt was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// The connection was reset or closed after a byte may have left.
    ConnectionLost,
    /// The upstream deadline passed after a byte may have left.
    TimedOut,
    /// The answer began and did not end.
    AnswerTruncated,
    /// An answer came that can be read in more than one way.
    AnswerAmbiguous,
    /// The lease ended without an answer: the owner hangs, or its task died.
    LeaseEnded,
    /// The gateway process that sent it is gone.
    OwnerDied,
}

/// What the store knows of one intent. `A` is where the answer is: inline bytes, a place on disk, or a number in a
/// simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<A> {
    /// What the request meant. Under a key it is only compared.
    pub fingerprint: Fingerprint,
    /// Whether the caller named the intent with an Idempotency-Key.
    pub keyed: bool,
    /// The rules that made the fingerprint.
    pub policy: PolicyVersion,
    /// Whose it is; counts towards the quota of live records.
    pub scope: ScopeId,
    /// The resource that the request addressed.
    pub target: TargetId,
    /// When it was claimed.
    pub claimed_at: Millis,
    /// How long an outcome in doubt is kept. At least as long as an answer, and never zero: the configuration proves it.
    pub in_doubt_for: Duration,
    /// An unsafe request with another meaning succeeded on its target after this attempt was sent and before its
    /// outcome was known: its waiters get its answer, later arrivals are a new intent. Only keyless records end so.
    pub ended: bool,
    /// Where it is in its life.
    pub phase: Phase<A>,
}

/// Where a record is in its life. Absent is the absence of the record.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase<A> {
    /// Claimed, nothing sent yet. Lease end: absent.
    Queued { token: Token, owner: Owner, lease_until: Millis },
    /// At least one byte may have left. Lease end: in doubt.
    Sent { token: Token, owner: Owner, lease_until: Millis, sent_at: Millis },
    /// The answer is known. `by` is the attempt that completed it, so that it may repeat itself after a lost reply;
    /// `None` where an operator or a probe settled it, whose answer a late attempt must not believe to be its own.
    /// `until`: absent.
    Done { answer: A, by: Option<Token>, done_at: Millis, until: Millis },
    /// May have been executed, nobody knows. A late answer under the same token still counts. `until`: absent.
    InDoubt { token: Token, since: Millis, until: Millis, why: Doubt },
}

// === impl Record ===

impl<A> Record<A> {
    /// When time alone next changes this record ([`settle`](super::settle) does it): the end of its lease or of its
    /// window. A sent record has a second deadline after that, as the record in doubt that it becomes.
    pub fn next_deadline(&self) -> Millis {
        match self.phase {
            Phase::Queued { lease_until, .. } | Phase::Sent { lease_until, .. } => lease_until,
            Phase::Done { until, .. } | Phase::InDoubt { until, .. } => until,
        }
    }

    /// Whether an attempt may still be at work under its lease: queued or sent.
    pub fn in_flight(&self) -> bool {
        matches!(self.phase, Phase::Queued { .. } | Phase::Sent { .. })
    }

    /// The same record in another phase. Unlike a clone it copies no answer.
    pub(super) fn entering(&self, phase: Phase<A>) -> Record<A> {
        Record {
            fingerprint: self.fingerprint,
            keyed: self.keyed,
            policy: self.policy,
            scope: self.scope,
            target: self.target,
            claimed_at: self.claimed_at,
            in_doubt_for: self.in_doubt_for,
            ended: self.ended,
            phase,
        }
    }

    /// The same record in doubt since `since` about the attempt `token`.
    pub(super) fn in_doubt(&self, token: Token, since: Millis, why: Doubt) -> Record<A> {
        self.entering(Phase::InDoubt { token, since, until: since.after(self.in_doubt_for), why })
    }
}

// === impl ids ===

macro_rules! hex_display {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}
hex_display!(RecordId);
hex_display!(TargetId);

impl std::fmt::Debug for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for RecordId {
    type Err = &'static str;

    /// The 64 hex digits that `Display` writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err("a record id is 64 hexadecimal digits");
        }
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| "not hexadecimal")?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| "a record id is 64 hexadecimal digits")?;
        }
        Ok(RecordId(id))
    }
}

impl std::fmt::Debug for Token {
    /// A token is a right; logs only tell tokens apart.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(…{:04x})", self.0 & 0xffff)
    }
}
