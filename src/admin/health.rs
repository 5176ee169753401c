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
    let (code, body) = readiness(phase, state.store.refusing());
    (code, Json(body)).into_response()
}

fn readiness(phase: Readiness, refusing: Option<String>) -> (StatusCode, serde_json::Value) {
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
    (code, body)
}

/// All figures.
pub(super) async fn metrics(State(state): State<AdminState>) -> Response {
    let (records, lanes) = (state.store.figures().await, state.store.lane_figures().await);
    let text = state.journal.metrics_text(vec![Box::new(StoreFigures(records, lanes))]);
    ([(header::CONTENT_TYPE, journal::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_refuses_degrades_a_ready_gateway_and_does_not_make_it_unready() {
        let (code, body) = readiness(Readiness::Ready, Some("disk full".into()));
        assert_eq!(
            (code, &body["status"], &body["phase"]),
            (StatusCode::OK, &"degraded".into(), &"ready".into())
        );
        assert_eq!(body["store"], serde_json::json!({ "up": false, "why": "disk full" }));
    }

    #[test]
    fn only_a_ready_gateway_is_ready() {
        for (phase, code) in [
            (Readiness::Starting, 503),
            (Readiness::Ready, 200),
            (Readiness::LameDuck, 503),
            (Readiness::Draining, 503),
        ] {
            let (found, body) = readiness(phase, None);
            assert_eq!((found.as_u16(), &body["status"]), (code, &phase.word().into()));
            assert_eq!(body["store"]["up"], true);
        }
    }
}
