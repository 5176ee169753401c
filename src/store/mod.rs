//! The store remembers: one atomic command each, durable before it answers. `Store` is the one door; behind it are the
//! embedded store (memory or a directory) and, for fleets, a shared one.
//!
//! Ownership: the store holds records, answers, the scopes' aliases and the waiters of attempts in flight. What a
//! command *means* is `domain::ledger::apply`; nothing here decides differently.

mod about;
mod embedded;
mod error;
mod lanes;
mod limits;
mod recovery;
mod redis;
pub mod slots;
mod waiters;
mod writes;

use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::ledger::{Claim, Doubt, Owner, Phase, Record, RecordId, TargetId, Token};
use crate::domain::slot::{Taken, Wanted};
use crate::domain::time::Millis;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use about::About;
pub use embedded::Embedded;
pub use error::{OpenError, StoreError};
pub use lanes::{GivenUp, JoinLane, Joined, LaneAbout, LaneFigures, LanePlace, LaneView};
pub use limits::{LimitsTaken, Said, SharedBucket, TakeLimits};
pub use recovery::{AnswerKey, HearsOfDoubt, LeftInDoubt, Sighting};
pub use redis::{Address, Finding, Layout, Redis, Shared, Tls, examine};
pub use slots::{Follows, Free, Settlement, SlotFigures};
pub use waiters::Waiter;
pub use writes::{HearsWrites, WriteHeard, WriteTold};

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

/// Where a store keeps its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `memory:`: nothing survives the process.
    Memory,
    /// `file:DIR`.
    Directory(PathBuf),
    /// `redis:`, `rediss:`, `redis-sentinel:`, `redis-cluster:`: shared by a fleet.
    Shared(Shared),
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
    /// The slots that are reserved with it: all of them, or nothing is claimed.
    pub slots: Vec<Wanted>,
    /// The resources above the one that it addresses, where one of them may have ended with all below it.
    pub above: Option<Arc<[TargetId]>>,
}

/// What a claim got.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
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
    /// The attempt `token` may have been executed, nobody knows: since when, until when that is kept, and why.
    InDoubt { token: Token, since: Millis, until: Millis, why: Doubt },
    /// The scope holds as many live records as it may.
    OverQuota,
    /// Somebody else holds a slot; nothing was claimed.
    SlotTaken(Taken),
    /// A booking's slots are not what the caller saw; nothing was claimed. Look again.
    SlotChanged,
}

/// How an attempt ended, as its waiting copies see it.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Debug)]
pub enum AttemptEnd {
    /// With an answer: recorded, or of an attempt that was not executed (a 4xx).
    Answered(Answer),
    /// Not executed, and there was no answer to show (a refused connection): a waiting copy claims anew.
    NotExecuted,
    /// In doubt: since when, until when that is kept, and why.
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
    /// The scope that is this record's scope from now on (a renewed session cookie), and for how long; see
    /// [`Store::alias`].
    pub alias: Option<(ScopeId, Duration)>,
    /// How the slots that were reserved with the claim go on.
    pub slots: Settlement,
    /// The bookings that give back what they hold, in the same durable step.
    pub frees: Vec<Free>,
}

/// An unsafe request succeeded: keyless records of these targets with another meaning are no longer the answer to a new
/// request.
#[derive(Clone, Debug)]
pub struct EndIntents {
    /// The resource that the request changed.
    pub target: TargetId,
    /// Each resource above it.
    pub parents: Vec<TargetId>,
    /// Who changed it.
    pub scope: ScopeId,
    /// The meaning of the request that succeeded; records of the same meaning stay.
    pub by: Option<Fingerprint>,
    /// For so long it is kept that all below the target ended, too: the longest that a record of it may be remembered.
    /// Zero: it has not.
    pub subtree_for: Duration,
}

impl EndIntents {
    /// The resources whose records may be concerned.
    pub fn targets(&self) -> impl Iterator<Item = TargetId> {
        std::iter::once(self.target).chain(self.parents.iter().copied())
    }

    /// Whether the change concerns `record`, whose answer named the resource `names`.
    ///
    /// Whoever changes the resource that a record made or addressed ends it. Whoever changes something below a
    /// collection ends what was made there only where nothing tells the two apart: another caller's change of another
    /// member is no reason to make a double click two bookings. Without an answer, a record is only concerned by a change of its
    /// very target: what it is about to make, or may have made, nobody can name.
    pub fn concerns<A>(&self, record: &Record<A>, names: Option<TargetId>) -> bool {
        let above = |target: TargetId| self.parents.contains(&target);
        if record.target == self.target {
            return true;
        }
        let named = names.is_some_and(|names| names == self.target || above(names));
        let below = above(record.target) && (names.is_none() || record.scope == self.scope);
        matches!(record.phase, Phase::Done { .. }) && (named || below)
    }
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
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Clone, Debug)]
pub enum Settle {
    /// It was executed; copies get this answer for so long, and this follows from it.
    Executed { answer: Answer, keep: Duration, follows: Option<Follows> },
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
    /// Holds of slots, by the slots' names.
    #[serde(default)]
    pub slots: Vec<SlotFigures>,
    /// Bytes of answers in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Synced commits since the start.
    pub commits: u64,
    /// Why guarded writes are refused at this moment, if they are.
    pub refusing: Option<String>,
}

/// The store. Shared by all workers; every method may be called from any thread.
pub enum Store {
    /// In this process: memory, or a directory.
    Embedded(Embedded),
    /// On servers that a fleet of gateways shares.
    Redis(Redis),
}

// === impl Store ===

// The bodies are thin: each hands its command to the store in use. What crosses a network is boxed: otherwise every write
// would carry, and copy, room for it on the embedded store, too.
impl Store {
    /// Opens the store. Blocks while it reads what an earlier process left; call it before traffic is accepted.
    pub fn open(options: Options) -> Result<Store, OpenError> {
        match &options.place {
            Place::Shared(place) => Redis::open(&options, place).map(Store::Redis),
            Place::Memory | Place::Directory(_) => Embedded::open(options).map(Store::Embedded),
        }
    }

    /// Whether a claim has to say what it lies below.
    pub fn may_have_ended_subtrees(&self) -> bool {
        match self {
            Store::Embedded(store) => store.has_ended_subtrees(),
            Store::Redis(_) => true,
        }
    }

    /// Asks for the right to execute. *Granted* and *Done* are durable when this returns; *InFlight* carries a waiter
    /// that was registered in the same step, so no wake-up is lost. Who claims often boxes the request: every future that it
    /// is handed through copies it.
    pub async fn claim(&self, request: impl Into<Box<ClaimRequest>>) -> Result<Claimed, StoreError> {
        match self {
            Store::Embedded(store) => store.claim(request).await,
            Store::Redis(store) => Box::pin(store.inner.claim(*request.into())).await,
        }
    }

    /// The next thing to happen is the first byte to the backend. Durable before it returns; on [`Held::No`] not a byte
    /// may be written.
    pub async fn mark_sent(&self, id: RecordId, token: Token) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.mark_sent(id, token).await,
            Store::Redis(store) => Box::pin(store.inner.mark_sent(id, token)).await,
        }
    }

    /// The backend still works: the lease ends no earlier than `lease` from now.
    pub async fn renew(&self, id: RecordId, token: Token, lease: Duration) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.renew(id, token, lease),
            Store::Redis(store) => Box::pin(store.inner.renew(id, token, lease)).await,
        }
    }

    /// The outcome is known. Durable before it returns, together with the intents that it ends and the alias that it
    /// brings. Where there is no room for the answer's body, a tombstone is kept instead. Boxed as a claim's request is.
    pub async fn complete(&self, completion: impl Into<Box<Completion>>) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.complete(completion).await,
            Store::Redis(store) => Box::pin(store.inner.complete(*completion.into())).await,
        }
    }

    /// The attempt is known not to have been executed. Waiting copies get `answer` where there is one (a 4xx), and claim
    /// anew otherwise. Durable before it returns, so a client that was told so never meets a doubt after a crash.
    pub async fn abandon(
        &self,
        id: RecordId,
        token: Token,
        answer: Option<Answer>,
    ) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.abandon(id, token, answer).await,
            Store::Redis(store) => Box::pin(store.inner.abandon(id, token, answer)).await,
        }
    }

    /// The attempt ended, and nobody knows how. Does not wait for the disk: a *sent* record that is lost to a crash
    /// comes back in doubt anyway.
    pub async fn doubt(&self, id: RecordId, token: Token, why: Doubt) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.doubt(id, token, why),
            Store::Redis(store) => Box::pin(store.inner.doubt(id, token, why)).await,
        }
    }

    /// An unsafe request succeeded: ends the keyless intents on its targets. Says how many records it changed; durable
    /// before it returns if it changed any.
    pub async fn end_intents(&self, ends: EndIntents) -> Result<usize, StoreError> {
        match self {
            Store::Embedded(store) => store.end_intents(ends).await,
            Store::Redis(store) => Box::pin(store.inner.end_intents(ends)).await,
        }
    }

    /// `from` means the scope `to` for `keep` at least (a renewed session cookie). Does nothing where `to` has no live record, and
    /// where `from` has its own or means another scope: what it names must stay found. Durable before it returns.
    pub async fn alias(&self, from: ScopeId, to: ScopeId, keep: Duration) -> Result<(), StoreError> {
        match self {
            Store::Embedded(store) => store.alias(from, to, keep).await,
            Store::Redis(store) => Box::pin(store.inner.alias(from, to, keep)).await,
        }
    }

    /// The scope that `scope` stands for: itself, unless an alias says otherwise. One atomic load where there are none.
    pub fn scope_of(&self, scope: ScopeId) -> ScopeId {
        match self {
            Store::Embedded(store) => store.scope_of(scope),
            Store::Redis(store) => store.scope_of(scope),
        }
    }

    /// Whether `scope` may have a record in flight, done or in doubt: false is certain. A shared store is not asked for
    /// it; what depends on it is decided there.
    pub fn may_have_live(&self, scope: ScopeId) -> bool {
        match self {
            Store::Embedded(store) => store.has_live(scope),
            Store::Redis(_) => true,
        }
    }

    /// The id under which a record of `scope` (whom the quota counts) is kept. A cluster keeps the records of a scope
    /// together, and those of routes with a lane or with slots (`apart`) beside these, and an id says where; everywhere else
    /// it is the id that came in.
    pub fn placed(&self, id: RecordId, scope: &ScopeId, apart: bool) -> RecordId {
        match self {
            Store::Embedded(_) => id,
            Store::Redis(store) => store.placed(id, scope, apart),
        }
    }

    /// An operator settles an outcome in doubt, or deletes a record. Durable before it returns.
    pub async fn settle(&self, id: RecordId, how: Settle) -> Result<Settled, StoreError> {
        match self {
            Store::Embedded(store) => store.settle(id, how).await,
            Store::Redis(store) => Box::pin(store.inner.settle(id, how)).await,
        }
    }

    /// Records in the order of their ids; see [`Listing`].
    pub async fn list(&self, listing: Listing) -> Result<Vec<RecordView>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.list(&listing)),
            Store::Redis(store) => Box::pin(store.inner.list(&listing)).await,
        }
    }

    /// One record.
    pub async fn show(&self, id: RecordId) -> Result<Option<RecordView>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.show(id)),
            Store::Redis(store) => Box::pin(store.inner.show(id)).await,
        }
    }

    /// The request id of the attempt that made a record.
    pub async fn made_by(&self, id: RecordId) -> Result<Option<String>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.show(id).map(|view| view.about.request_id)),
            Store::Redis(store) => Box::pin(store.inner.made_by(id)).await,
        }
    }

    /// The recorded answer of a record that is done; `None` also where it cannot be read any more.
    pub async fn answer(&self, id: RecordId) -> Option<Answer> {
        match self {
            Store::Embedded(store) => store.answer(id).await,
            Store::Redis(store) => Box::pin(store.inner.answer(id)).await.ok().flatten(),
        }
    }

    /// Figures for metrics and readiness.
    pub async fn figures(&self) -> Figures {
        match self {
            Store::Embedded(store) => store.figures(),
            Store::Redis(store) => Box::pin(store.inner.figures()).await,
        }
    }

    /// Why guarded writes are refused at this moment, if they are. Asks nobody.
    pub fn refusing(&self) -> Option<String> {
        match self {
            Store::Embedded(store) => store.figures().refusing,
            Store::Redis(store) => store.refusing(),
        }
    }

    /// Keys the fingerprints.
    pub fn secret(&self) -> &[u8] {
        match self {
            Store::Embedded(store) => store.secret(),
            Store::Redis(store) => store.secret(),
        }
    }

    /// This life of this process, for [`Claim::owner`].
    pub fn owner(&self) -> Owner {
        match self {
            Store::Embedded(store) => store.owner(),
            Store::Redis(store) => store.owner(),
        }
    }

    /// The store's clock: never goes back, not even over a restart.
    pub fn now(&self) -> Millis {
        match self {
            Store::Embedded(store) => store.now(),
            Store::Redis(store) => store.now(),
        }
    }

    /// Writes out what is pending and stops. Blocks until then; commands after it get [`StoreError::Unavailable`].
    pub fn close(&self) {
        match self {
            Store::Embedded(store) => store.close(),
            Store::Redis(store) => store.close(),
        }
    }
}
