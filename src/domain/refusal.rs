//! Answers that the gateway makes itself. A refusal is a value with a reason and a hint when to come back; one match
//! in `gateway::respond` turns it into `application/problem+json` (RFC 9457).

use crate::domain::ledger::Doubt;
use crate::domain::slot::Taken;
use crate::domain::time::Millis;
use std::time::Duration;

/// A refusal, complete: what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The status that goes out: the reason's own, unless this refusal has a better one.
    pub status: u16,
    /// What happened, whose fault it is and what to do, for this request.
    pub detail: String,
    /// When asking again makes sense.
    pub retry_after: Option<Duration>,
    /// Since when the outcome is unknown, and until when that is kept; only with `OutcomeUnknown`.
    pub doubt: Option<(Millis, Millis, Doubt)>,
    /// Which slot is taken, since when and until when; only with `SlotTaken`.
    pub slot: Option<Box<Taken>>,
    /// The connection cannot be kept: the next bytes might be read as a request.
    pub close: bool,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// Why the gateway answers by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, for metrics and documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The word in logs, metrics and the problem's `type`.
            pub fn slug(self) -> &'static str { match self { $(Reason::$name => $slug,)* } }

            /// The status that goes with it, unless the refusal says otherwise.
            pub fn status(self) -> u16 { match self { $(Reason::$name => $status,)* } }

            /// The problem's `title`.
            pub fn title(self) -> &'static str { match self { $(Reason::$name => $title,)* } }
        }
    };
}

reasons! {
    /// The request's head or framing is malformed or ambiguous.
    BadRequest = "bad-request", 400, "The request is malformed";
    /// The target has no normal form.
    BadTarget = "bad-target", 400, "The request target is not acceptable";
    /// The route requires an Idempotency-Key and none came.
    KeyMissing = "key-missing", 400, "An Idempotency-Key header is required";
    /// The Idempotency-Key is malformed.
    KeyMalformed = "key-malformed", 400, "The Idempotency-Key header is malformed";
    /// No route matches.
    NoRoute = "no-route", 404, "No route matches this request";
    /// The body did not arrive in time.
    BodyTimeout = "body-timeout", 408, "The request body did not arrive in time";
    /// A copy waited, and the original is still running.
    InFlight = "in-flight", 409, "The same request is still being processed";
    /// The first client, or a copy: nobody knows whether the write was executed.
    OutcomeUnknown = "outcome-unknown", 409, "The outcome of this request is not known";
    /// Somebody else holds the slot that the request asks for.
    SlotTaken = "slot-taken", 409, "The slot is taken";
    /// The body is larger than the route allows.
    BodyTooLarge = "body-too-large", 413, "The request body is too large";
    /// The target is longer than the gateway accepts.
    TargetTooLong = "target-too-long", 414, "The request target is too long";
    /// The same key came with another meaning.
    KeyReused = "key-reused", 422, "The Idempotency-Key was used for a different request";
    /// A value is missing, or cannot be read, that says which slot the request is about.
    SlotUnnamed = "slot-unnamed", 422, "The request does not say which slot it is about";
    /// Of this address more requests come than the flood guard lets through.
    Flooded = "flooded", 429, "Too many requests from this address";
    /// The scope holds as many live records as it may.
    OverQuota = "over-quota", 429, "Too many remembered requests for this caller";
    /// The client asks more often than the route's limits allow.
    Throttled = "throttled", 429, "Too many requests";
    /// The client has as many requests in flight, and waiting, as the route allows.
    TooManyInFlight = "too-many-in-flight", 429, "Too many requests of this client at once";
    /// The head is larger than the gateway accepts.
    HeadTooLarge = "head-too-large", 431, "The request head is too large";
    /// An upgrade was asked for on a guarded route.
    UpgradeRefused = "upgrade-refused", 400, "A guarded route does not upgrade its connection";
    /// The backend could not be reached: known not executed.
    UpstreamUnreachable = "upstream-unreachable", 502, "The backend could not be reached";
    /// The backend broke off an unguarded exchange.
    UpstreamFailed = "upstream-failed", 502, "The backend broke off the exchange";
    /// The backend's answer has several readings.
    UpstreamAmbiguous = "upstream-ambiguous", 502, "The backend's answer is ambiguous";
    /// The store is away, or full.
    StoreUnavailable = "store-unavailable", 503, "The idempotency store is unavailable";
    /// The gateway or the upstream has as much in flight as it may.
    Overloaded = "overloaded", 503, "The gateway is at its limit";
    /// As many wait in the write's lane as may.
    LaneFull = "lane-full", 503, "Too many writes wait for the same thing";
    /// The write waited for its turn as long as it may.
    LaneSlow = "lane-slow", 503, "The write's turn did not come in time";
    /// The gateway is shutting down.
    Draining = "draining", 503, "The gateway is shutting down";
    /// The client wants a kept answer or none, and there is none.
    NotCached = "not-cached", 504, "No kept answer satisfies the request";
    /// The backend did not answer an unguarded request in time.
    UpstreamTimeout = "upstream-timeout", 504, "The backend did not answer in time";
}

impl Refusal {
    /// A refusal for `reason` that explains itself with `detail`.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            status: reason.status(),
            detail: detail.into(),
            retry_after: None,
            doubt: None,
            slot: None,
            close: false,
        }
    }

    /// The same, with a hint when to come back.
    pub fn retry_after(self, wait: Duration) -> Refusal {
        Refusal { retry_after: Some(wait), ..self }
    }

    /// The same under another status.
    pub fn with_status(self, status: u16) -> Refusal {
        Refusal { status, ..self }
    }

    /// The same, naming since when and until when the outcome is unknown.
    pub fn in_doubt(self, since: Millis, until: Millis, why: Doubt) -> Refusal {
        Refusal { doubt: Some((since, until, why)), ..self }
    }

    /// The same, naming the slot that is taken.
    pub fn taken(self, slot: Taken) -> Refusal {
        Refusal { slot: Some(Box::new(slot)), ..self }
    }

    /// The same, closing the connection.
    pub fn closing(self) -> Refusal {
        Refusal { close: true, ..self }
    }
}
