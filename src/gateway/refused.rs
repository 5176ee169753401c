//! What is said to a client whose guarded write is not executed.

use super::exchange::Exchange;
use crate::domain::ledger::Doubt;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Millis;
use crate::store::StoreError;
use std::time::Duration;

/// The body is larger than the route allows.
pub fn too_large(limit: u64) -> Refusal {
    let detail = format!(
        "The body of a guarded request is read whole before it is forwarded; this route allows {limit} bytes."
    );
    Refusal::new(Reason::BodyTooLarge, detail).closing()
}

/// The key names another request.
pub fn key_reused() -> Refusal {
    Refusal::new(
        Reason::KeyReused,
        "The same Idempotency-Key came with a different request before. Nothing was executed. Use a new key for a new intent.",
    )
}

/// A copy waited in vain.
pub fn still_in_flight() -> Refusal {
    Refusal::new(
        Reason::InFlight,
        "The same request came before and is still being processed. It is not executed again.",
    )
    .retry_after(Duration::from_secs(2))
}

/// The caller has as many records as it may.
pub fn over_quota(exchange: &Exchange) -> Refusal {
    let quota = exchange.shared().policy.config().store.records_per_scope;
    let detail = format!(
        "The gateway remembers at most {quota} requests of one caller at a time; nothing was executed."
    );
    Refusal::new(Reason::OverQuota, detail).retry_after(Duration::from_secs(60))
}

/// What is said of an outcome that nobody knows, whoever asks.
pub fn outcome_unknown(since: Millis, until: Millis, why: Doubt) -> Refusal {
    let what = match why {
        Doubt::ConnectionLost => "the backend closed the connection before it answered",
        Doubt::TimedOut => "the backend did not answer in time",
        Doubt::AnswerTruncated => "the backend broke off in the middle of its answer",
        Doubt::AnswerAmbiguous => "the backend's answer can be read in more than one way",
        Doubt::LeaseEnded => "the gateway that sent it stopped watching it",
        Doubt::OwnerDied => "the gateway that sent it was stopped",
    };
    let detail = format!(
        "This request was sent to the backend, and {what}. It may have been executed, so it is not sent again. Look \
         whether its effect exists; a late answer of the backend or an operator (oncegate claims resolve) settles it."
    );
    Refusal::new(Reason::OutcomeUnknown, detail).in_doubt(since, until, why)
}

/// What is said where the store is away and the route does not go on without it.
pub fn store_away(error: &StoreError) -> Refusal {
    let detail = format!(
        "Nothing was sent to the backend, because it could not be made sure that it is sent once: {error}."
    );
    Refusal::new(Reason::StoreUnavailable, detail).retry_after(Duration::from_secs(5))
}
