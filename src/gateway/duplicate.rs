//! A copy that was answered without asking the backend, as it is told to those who watch.

use super::clock;
use super::exchange::Exchange;
use super::guard::Intent;
use crate::domain::event::Event;
use crate::domain::ledger::RecordId;
use http::header::HeaderMap;
use std::pin::pin;
use std::time::Duration;

/// How long a copy's answer waits for the name of its original.
const ORIGINAL_PATIENCE: Duration = Duration::from_millis(250);

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
