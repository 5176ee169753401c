//! Facts for the journal. Building one costs no allocation beyond the strings it carries; telling it never blocks.

use crate::domain::client::ScopeId;
use crate::domain::ledger::{Doubt, RecordId};
use crate::domain::poll::Storm;
use crate::domain::refusal::Reason;
use crate::domain::slot::{HoldState, SlotId};
use crate::domain::time::Millis;
use std::sync::Arc;
use std::time::Duration;

/// One finished exchange: the access line, and what the metrics count. Built only where access lines are wanted
/// (`Journal::access`); otherwise `Journal::count` takes the figures alone.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The id that is also in the answer, the log and the backend's request.
    pub request_id: Arc<str>,
    /// Index of the route in the policy; `None` where nothing matched or the request was refused before matching.
    pub route: Option<usize>,
    /// The route's name, for the line.
    pub route_name: Option<Arc<str>>,
    /// Request method.
    pub method: http::Method,
    /// Normalised path, without the query: queries carry personal data.
    pub path: String,
    /// Whom limits count: an address, or the kind and a digest of what `identify_by` names.
    pub client: String,
    /// The scope, where one was needed.
    pub scope: Option<ScopeId>,
    /// The status that the client got.
    pub status: u16,
    /// What the gateway did.
    pub decision: Decision,
    /// Time from the first byte sent to the backend to its response head.
    pub upstream: Option<Duration>,
    /// How long it was held until its turn, where it was.
    pub held: Option<Duration>,
    /// Time from the request's head to the answer's head.
    pub total: Duration,
}

/// What the gateway did with one request. One word, one meaning, in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Decision {
    /// An unguarded request was forwarded.
    Passed,
    /// A guarded one was forwarded, and its answer recorded.
    Executed,
    /// A guarded one was forwarded; the backend said that it did nothing.
    NotExecuted,
    /// A copy got the recorded answer.
    Replayed,
    /// A copy waited for the attempt in flight and got its answer.
    Joined,
    /// It was forwarded, and nobody knows how it ended.
    InDoubt,
    /// The gateway itself answered the question whether a slot is free.
    Asked,
    /// The gateway answered by itself.
    Refused(Reason),
    /// A guarded one was forwarded without a claim: the store was away and `on_outage = "forward"`.
    Unguarded,
    /// `mode = "observe"`: forwarded, and enforced it would have been answered otherwise.
    WouldRefuse,
    /// `mode = "observe"`: forwarded at once, and enforced it would have waited for its turn.
    WouldHold,
    /// A read was answered from a fresh copy.
    Cached,
    /// A read was answered by the call of an equal one.
    Coalesced,
    /// A read was answered from a stale copy.
    Stale,
    /// A read was answered from a copy that the backend confirmed.
    Revalidated,
    /// The client left before there was an answer. A guarded write that was claimed runs on without it.
    ClientLeft,
}

/// A fact beyond the single exchange: for the log now, for alerts and the audit later.
#[derive(Clone, Debug)]
pub enum Event {
    /// A copy was answered from the record or the attempt in flight.
    Duplicate {
        /// The route's name.
        route: Arc<str>,
        /// The record that answered it.
        id: RecordId,
        /// The copy's request id.
        request_id: Arc<str>,
        /// The request id of the attempt that it copies, where the store knows it.
        original_request_id: Option<String>,
        /// Whose it is.
        scope: ScopeId,
        /// Who sent the copy, as in the access line.
        client: String,
    },
    /// An outcome is in doubt.
    InDoubt {
        /// The route's name.
        route: Arc<str>,
        /// The record to settle.
        id: RecordId,
        /// The request id of the attempt.
        request_id: Arc<str>,
        /// Why nobody knows.
        why: Doubt,
    },
    /// The backend said that it did nothing because of a conflict, and the write is sent once more.
    Retry {
        /// The route's name.
        route: Arc<str>,
        /// The record.
        id: RecordId,
        /// The request id of the attempt.
        request_id: Arc<str>,
        /// Which further attempt this is: 1 is the first.
        attempt: u32,
        /// What the backend answered.
        status: u16,
        /// How long it waits before.
        wait: Duration,
    },
    /// The backend was asked what became of a write, and the answer settled it.
    Recovered {
        /// The route's name.
        route: Arc<str>,
        /// The record.
        id: RecordId,
        /// The request id of whoever asked.
        request_id: Arc<str>,
        /// What came of it.
        how: Recovery,
    },
    /// Two answers of the backend have in common what only one may have.
    DuplicateAnswer {
        /// The route's name.
        route: Arc<str>,
        /// The record of the later one.
        id: RecordId,
        /// Its request id.
        request_id: Arc<str>,
        /// The request id of the first one.
        first_request_id: String,
        /// What both have, in short.
        value: String,
        /// Among what it has to be unique, in short.
        within: String,
    },
    /// The store refuses, or works again. May be told as often as it is noticed; only changes are logged.
    StoreOutage {
        /// Whether it works.
        up: bool,
        /// What it says, for the log.
        detail: String,
    },
    /// An upstream server is out of rotation, or back in it. Only changes are logged.
    UpstreamHealth {
        /// The upstream's name.
        upstream: Arc<str>,
        /// The server: `host:port`.
        authority: Arc<str>,
        /// Whether it is in rotation.
        up: bool,
        /// Why, for the log.
        detail: String,
    },
    /// A client is above its limits. Counted each time; written when it begins, and again when it begins anew.
    Throttled {
        /// The route's name.
        route: Arc<str>,
        /// The normalised path, without the query.
        path: String,
        /// Who, as in the access line.
        client: String,
        /// The limit that takes longest, as the configuration writes it.
        limit: String,
        /// Until it would allow the request.
        wait: Duration,
        /// The refused request's id.
        request_id: Arc<str>,
    },
    /// A client reads one path far more often than anybody could look at it. Told once a storm.
    PollStorm {
        /// The route's name.
        route: Arc<str>,
        /// The pattern that took it, as the configuration writes it.
        template: Arc<str>,
        /// The normalised path, without the query.
        path: String,
        /// Who, as in the access line.
        client: String,
        /// How many reads, in which time, from how many source ports, how many of them answered without the backend.
        storm: Storm,
    },
    /// Somebody asked for a slot that is taken.
    SlotTaken {
        /// The route's name.
        route: Arc<str>,
        /// The slot's name.
        slot: Arc<str>,
        /// Which one of that name.
        slot_id: SlotId,
        /// How firmly it is held.
        state: HoldState,
        /// Since when.
        since: Millis,
        /// The refused request's id.
        request_id: Arc<str>,
        /// Whose it is.
        scope: ScopeId,
        /// Who sent it, as in the access line.
        client: String,
    },
    /// The backend has no such booking any more, so its place was given back.
    SlotVacated {
        /// The route's name.
        route: Arc<str>,
        /// The slot's name.
        slot: Arc<str>,
        /// Which one of that name.
        slot_id: SlotId,
        /// Since when it was held.
        since: Millis,
        /// The request id of the attempt that took it.
        held_by: Arc<str>,
        /// The id of the request that would have been refused.
        request_id: Arc<str>,
        /// Who sent it, as in the access line: with whose credentials the backend was asked.
        client: String,
    },
    /// An operator settled or removed a record.
    Settled {
        /// Which one.
        id: RecordId,
        /// What the operator said.
        verdict: OperatorVerdict,
    },
}

/// What asking the backend settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// "Exists already" was answered with what exists.
    Existing,
    /// An outcome in doubt: it was executed.
    Executed,
    /// An outcome in doubt: it was not executed, and the next copy is.
    Freed,
}

/// What an operator said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorVerdict {
    /// The write was executed; copies get the answer that the operator gave.
    Executed,
    /// The write was not executed; the next copy executes.
    NotExecuted,
    /// The record is gone, whatever it said.
    Deleted,
}

// === impl Decision ===

/// Every decision that is not a refusal, in the order of [`Decision::index`].
const PLAIN: [Decision; 15] = [
    Decision::Passed,
    Decision::Executed,
    Decision::NotExecuted,
    Decision::Replayed,
    Decision::Joined,
    Decision::InDoubt,
    Decision::Unguarded,
    Decision::WouldRefuse,
    Decision::ClientLeft,
    Decision::Cached,
    Decision::Coalesced,
    Decision::Stale,
    Decision::Revalidated,
    Decision::Asked,
    Decision::WouldHold,
];

impl Decision {
    /// How many decisions there are, a refusal for each reason counted singly.
    pub const COUNT: usize = PLAIN.len() + Reason::ALL.len();

    /// A dense number below [`Decision::COUNT`], so that counting needs no lookup.
    pub fn index(self) -> usize {
        match self {
            Decision::Passed => 0,
            Decision::Executed => 1,
            Decision::NotExecuted => 2,
            Decision::Replayed => 3,
            Decision::Joined => 4,
            Decision::InDoubt => 5,
            Decision::Unguarded => 6,
            Decision::WouldRefuse => 7,
            Decision::ClientLeft => 8,
            Decision::Cached => 9,
            Decision::Coalesced => 10,
            Decision::Stale => 11,
            Decision::Revalidated => 12,
            Decision::Asked => 13,
            Decision::WouldHold => 14,
            Decision::Refused(reason) => PLAIN.len() + reason as usize,
        }
    }

    /// Every decision, in the order of [`Decision::index`].
    pub fn all() -> impl Iterator<Item = Decision> {
        PLAIN.into_iter().chain(Reason::ALL.iter().map(|&reason| Decision::Refused(reason)))
    }

    /// Whether the request itself went to the backend.
    pub fn asks_the_backend(self) -> bool {
        use Decision::{Asked, Cached, Coalesced, Joined, Refused, Replayed, Stale};
        !matches!(self, Asked | Replayed | Joined | Cached | Coalesced | Stale | Refused(_))
    }

    /// The word for logs and metric labels.
    pub fn word(self) -> &'static str {
        match self {
            Decision::Passed => "passed",
            Decision::Executed => "executed",
            Decision::NotExecuted => "not-executed",
            Decision::Replayed => "replayed",
            Decision::Joined => "joined",
            Decision::InDoubt => "in-doubt",
            Decision::Refused(reason) => reason.slug(),
            Decision::Unguarded => "unguarded",
            Decision::WouldRefuse => "would-refuse",
            Decision::ClientLeft => "client-left",
            Decision::WouldHold => "would-hold",
            Decision::Cached => "cached",
            Decision::Coalesced => "coalesced",
            Decision::Stale => "stale",
            Decision::Revalidated => "revalidated",
            Decision::Asked => "asked",
        }
    }
}

// === impl Event ===

impl Event {
    /// The words of all events, in the order of [`Event::index`].
    pub const WORDS: [&'static str; 12] = [
        "duplicate",
        "in-doubt",
        "store-outage",
        "upstream-health",
        "settled",
        "retry",
        "recovered",
        "duplicate-answer",
        "slot-taken",
        "throttled",
        "poll-storm",
        "slot-vacated",
    ];

    /// The index of [`Event::Duplicate`].
    pub const DUPLICATE: usize = 0;

    /// The index of [`Event::Throttled`].
    pub const THROTTLED: usize = 9;

    /// A dense number below the length of [`Event::WORDS`].
    pub fn index(&self) -> usize {
        match self {
            Event::Duplicate { .. } => Event::DUPLICATE,
            Event::InDoubt { .. } => 1,
            Event::StoreOutage { .. } => 2,
            Event::UpstreamHealth { .. } => 3,
            Event::Settled { .. } => 4,
            Event::Retry { .. } => 5,
            Event::Recovered { .. } => 6,
            Event::DuplicateAnswer { .. } => 7,
            Event::SlotTaken { .. } => 8,
            Event::Throttled { .. } => Event::THROTTLED,
            Event::PollStorm { .. } => 10,
            Event::SlotVacated { .. } => 11,
        }
    }

    /// The word for logs and metric labels.
    pub fn word(&self) -> &'static str {
        Event::WORDS[self.index()]
    }
}

// === impl Recovery ===

impl Recovery {
    /// The word for logs.
    pub fn word(self) -> &'static str {
        match self {
            Recovery::Existing => "existing",
            Recovery::Executed => "executed",
            Recovery::Freed => "freed",
        }
    }
}

// === impl OperatorVerdict ===

impl OperatorVerdict {
    /// The word for logs and the API.
    pub fn word(self) -> &'static str {
        match self {
            OperatorVerdict::Executed => "executed",
            OperatorVerdict::NotExecuted => "not-executed",
            OperatorVerdict::Deleted => "deleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_decision_has_its_own_index_and_its_own_word() {
        let indexes: Vec<usize> = Decision::all().map(Decision::index).collect();
        assert_eq!(indexes, (0..Decision::COUNT).collect::<Vec<_>>());
        let words: BTreeSet<&str> = Decision::all().map(Decision::word).collect();
        assert_eq!(words.len(), Decision::COUNT, "two decisions share a word: {words:?}");
    }
}
