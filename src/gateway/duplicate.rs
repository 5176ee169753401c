//! A copy that is answered without asking the backend: without the store either, and as it is told to those who watch.

use super::clock;
use super::exchange::Exchange;
use super::guard::{Intent, claim_request};
use crate::config::Idempotency;
use crate::domain::answer::Answer;
use crate::domain::event::Event;
use crate::domain::ledger::RecordId;
use http::header::HeaderMap;
use http::request::Parts;
use std::pin::pin;
use std::time::Duration;

/// How long a copy's answer waits for the name of its original.
const ORIGINAL_PATIENCE: Duration = Duration::from_millis(250);

/// The answer of a copy that changes what a booking has, where it takes no store: what it would reserve is not asked for then.
pub fn remembered(
    exchange: &Exchange,
    idempotency: &Idempotency,
    parts: &Parts,
    intent: &Intent,
) -> Option<Answer> {
    if !intent.keyed || !intent.slots.looks(exchange) {
        return None;
    }
    let copy = claim_request(exchange, idempotency, parts, intent, exchange.worker.new_token());
    exchange.shared().store.remembered(&copy)
}

/// Tells of a copy of `intent`.
pub async fn tell_duplicate(exchange: &Exchange, headers: &HeaderMap, intent: &Intent) {
    let shared = exchange.shared();
    // Only the line needs it; where none is written, the store is not asked.
    let original_request_id =
        if shared.journal.writes_duplicates() { original(exchange, intent.id).await } else { None };
    shared.journal.duplicate(|| Event::Duplicate {
        route: exchange.rules().name.clone(),
        id: intent.id,
        request_id: exchange.request_id.to_str().unwrap_or_default().into(),
        original_request_id,
        scope: intent.scope,
        client: exchange.client(headers),
    });
}

/// The request id of the attempt that made the record. The copy's answer does not wait long for what only a log line says.
async fn original(exchange: &Exchange, id: RecordId) -> Option<String> {
    let asked = pin!(exchange.shared().store.made_by(id));
    let made_by = exchange.worker.deadlines.within(clock::now() + ORIGINAL_PATIENCE, asked).await?.ok()??;
    (!made_by.is_empty()).then_some(made_by)
}
