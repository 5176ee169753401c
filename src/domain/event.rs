//! Facts for the journal. Building one costs no allocation beyond the strings it carries; telling it never blocks.

use crate::domain::client::ScopeId;
use crate::domain::ledger::{Doubt, RecordId};
use crate::domain::refusal::Reason;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// One finished exchange: the access line, and what the metrics count.
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
    /// The client's address: the rightmost untrusted hop.
    pub client: IpAddr,
    /// The scope, where one was needed.
    pub scope: Option<ScopeId>,
    /// The status that the client got.
    pub status: u16,
    /// What the gateway did.
    pub decision: Decision,
    /// Time from the first byte sent to the backend to its response head.
    pub upstream: Option<Duration>,
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
    /// The gateway answered by itself.
    Refused(Reason),
    /// A guarded one was forwarded without a claim: the store was away and `on_outage = "forward"`.
    Unguarded,
    /// `mode = "observe"`: forwarded, and enforced it would have been answered otherwise.
    WouldRefuse,
}

/// A fact beyond the single exchange: for the log now, for alerts and the audit later.
#[derive(Clone, Debug)]
pub enum Event {
    /// A copy was answered from the record or the attempt in flight.
    Duplicate {
        route: Arc<str>,
        id: RecordId,
        request_id: Arc<str>,
        original_request_id: Option<String>,
        scope: ScopeId,
        client: IpAddr,
    },
    /// An outcome is in doubt.
    InDoubt { route: Arc<str>, id: RecordId, request_id: Arc<str>, why: Doubt },
    /// The store refuses, or works again.
    StoreOutage { up: bool, detail: String },
    /// An upstream server is out of rotation, or back in it.
    UpstreamHealth { upstream: Arc<str>, authority: Arc<str>, up: bool, detail: String },
}

impl Decision {
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
        }
    }
}
