//! Is it alive, does it want traffic, and what does it count.

use super::AdminState;
use super::figures::StoreFigures;
use crate::journal::{self, Readiness};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Alive: that this thread answers is all there is to say.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether this process wants traffic. A store that refuses does not make it unready: reads and unguarded writes pass,
/// and the other gateways of a fleet share the store anyway.
pub(super) async fn readyz(State(state): State<AdminState>) -> Response {
    let phase = *state.readiness.borrow();
    let refusing = state.store.figures().refusing;
    let status = match (phase, &refusing) {
        (Readiness::Ready, Some(_)) => "degraded",
        (phase, _) => phase.word(),
    };
    let body = serde_json::json!({
        "status": status,
        "phase": phase.word(),
        "store": { "up": refusing.is_none(), "why": refusing },
    });
    let code = if phase == Readiness::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(body)).into_response()
}

/// All figures.
pub(super) async fn metrics(State(state): State<AdminState>) -> Response {
    let text = state.journal.metrics_text(vec![Box::new(StoreFigures(state.store.figures()))]);
    ([(header::CONTENT_TYPE, journal::CONTENT_TYPE)], text).into_response()
}
