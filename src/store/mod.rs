//! The store remembers: one atomic command each, durable before it answers. `Store` is the one door; behind it are the
//! embedded store (memory or a directory) and, for fleets, a shared one.
//!
//! Ownership: the store holds records, answers, the scopes' aliases and the waiters of attempts in flight. What a
//! command *means* is `domain::ledger::apply`; nothing here decides differently.

mod embedded;

use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::ledger::{Claim, Doubt, Owner, PolicyVersion, RecordId, TargetId, Token};
use crate::domain::time::Millis;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use embedded::{Embedded, Waiter};

/// What a store needs to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where records live.
    pub place: Place,
    /// The secret that keys fingerprints, where the configuration gives one. `file:` makes and keeps its own.
    pub secret: Option<Vec<u8>>,
    /// The most bytes of answers kept in memory (`memory:` all of them, `file:` as a read cache).
    pub memory_max: u64,
    /// The most records held; a claim past it is refused as an outage would be.
    pub records_max: usize,
}

/// Where an embedded store keeps its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `memory:`: nothing survives the process.
    Memory,
    /// `file:DIR`.
    Directory(PathBuf),
}

/// A claim as the gateway sends it: the ledger's claim plus what the store needs around it.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Which record.
    pub id: RecordId,
    /// What the ledger decides on.
    pub claim: Claim,
    /// The most live records that this scope may hold.
    pub quota: u32,
    /// For the operator: what the record is about. At most 256 bytes are kept.
    pub about: About,
}

/// What an operator sees of a record. Never a credential, never a body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The route's name.
    pub route: Arc<str>,
    /// Method and normalised path, without the query.
    pub request: String,
    /// The request id of the attempt that claimed it.
    pub request_id: String,
}

/// What a claim got.
#[derive(Debug)]
pub enum Claimed {
    /// Execute it. Durable.
    Granted,
    /// Somebody executes it at this moment; the waiter ends with that attempt.
    InFlight(Waiter),
    /// It was executed, and the answer is durable.
    Done(Answer),
    /// The same key with another meaning.
    OtherMeaning,
    /// May have been executed, nobody knows.
    InDoubt { since: Millis, until: Millis, why: Doubt },
    /// The scope holds as many live records as it may.
    OverQuota,
}

/// How an attempt ended, as its waiting copies see it.
#[derive(Clone, Debug)]
pub enum AttemptEnd {
    /// With an answer: recorded, or of an attempt that was not executed (a 4xx).
    Answered(Answer),
    /// Not executed, and there was no answer to show (a refused connection): a waiting copy claims anew.
    NotExecuted,
    /// In doubt.
    InDoubt { since: Millis, until: Millis, why: Doubt },
}

/// How an attempt that executed is completed.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Which record.
    pub id: RecordId,
    /// The right to complete it.
    pub token: Token,
    /// The answer for copies that come later.
    pub answer: Answer,
    /// How long later copies get it.
    pub keep: Duration,
    /// The intents that end with this success, in the same durable step.
    pub ends: Option<EndIntents>,
    /// The resource that the answer names (`Location`): a later unsafe request to it ends this record.
    pub names: Option<TargetId>,
    /// Scopes that are this record's scope from now on (a renewed session cookie), each for `keep`.
    pub alias: Option<ScopeId>,
}

/// An unsafe request succeeded: keyless records of these targets with another meaning are no longer the answer to a new
/// request.
#[derive(Clone, Debug)]
pub struct EndIntents {
    /// The request's own target and each of its parents, and what the answer names.
    pub targets: Vec<TargetId>,
    /// The meaning of the request that succeeded; records of the same meaning stay.
    pub by: Option<Fingerprint>,
}

/// Whether a token still held its record when its command arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Carried out, and durable where the command says so.
    Yes,
    /// The record has moved on; nothing was changed.
    No,
}

/// One record as the operator sees it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct RecordView {
    /// 64 hex digits.
    pub id: String,
    /// `queued`, `sent`, `done` or `in-doubt`.
    pub phase: String,
    /// Whether an Idempotency-Key names it.
    pub keyed: bool,
    /// The scope's short digest.
    pub scope: String,
    /// What it is about.
    #[serde(flatten)]
    pub about: About,
    /// Milliseconds since the epoch.
    pub claimed_at: Millis,
    /// When its present phase began.
    pub since: Millis,
    /// When it leaves by itself; for a lease, when the lease ends.
    pub until: Millis,
    /// Why it is in doubt.
    pub why: Option<Doubt>,
    /// The recorded status, where done.
    pub status: Option<u16>,
}

/// Which records an operator asks for.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Only this phase.
    pub phase: Option<String>,
    /// Records whose id sorts after this one.
    pub after: Option<RecordId>,
    /// At most so many; bounded by the store at 1,000.
    pub limit: usize,
}

/// How an operator settles an outcome in doubt.
#[derive(Clone, Debug)]
pub enum Settle {
    /// It was executed; copies get this answer for so long.
    Executed { answer: Answer, keep: Duration },
    /// It was not executed; the next copy executes.
    NotExecuted,
    /// Remove the record, whatever it says.
    Delete,
}

/// What settling did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Done, durably.
    Yes,
    /// No such record.
    NotFound,
    /// The record is not in doubt.
    NotInDoubt,
}

/// Figures for metrics and readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Figures {
    /// Records by phase.
    pub queued: u64,
    /// See `queued`.
    pub sent: u64,
    /// See `queued`.
    pub done: u64,
    /// See `queued`.
    pub in_doubt: u64,
    /// Bytes of answers in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Synced commits since the start.
    pub commits: u64,
    /// Why guarded writes are refused at this moment, if they are.
    pub refusing: Option<String>,
}

/// Why the store did not carry out a command. `may_have_executed` of the *store's* command is always no: a command that
/// errs has granted nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No room: the disk is full, or the record limit is reached. Nothing was changed.
    Full(String),
    /// The store cannot be used (an I/O error, or it is closing). What was in flight stays *sent*, so in doubt.
    Unavailable(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Full(why) => write!(f, "the store has no room: {why}"),
            StoreError::Unavailable(why) => write!(f, "the store is unavailable: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// The store. Shared by all workers; every method may be called from any thread.
pub enum Store {
    /// In this process: memory, or a directory.
    Embedded(Embedded),
}

// The bodies are thin: each hands its command to the store in use.
