//! The operator's door: health, readiness, figures and the claims API, on an address and a thread of their own. It asks
//! the store and the journal; it decides nothing. Who may come in is decided in `guard`, before anything else.

mod claims;
mod figures;
mod follows;
mod guard;
mod health;
mod lanes;
mod problem;
mod server;
mod slots;
mod unnamed;

pub use claims::{ClaimsPage, Resolution, Values};
pub use lanes::LanesPage;
pub use server::{Admin, serve};
pub use slots::{HoldsPage, Imported, ROWS_MAX, Release, SlotView};
pub use unnamed::Unnamed;

use crate::config::{Secret, SlotCatalogue, Successes};
use crate::journal::{Journal, Readiness};
use crate::store::Store;
use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::routing::{get, post};
use std::sync::Arc;
use tokio::sync::watch;
use tower::ServiceBuilder;
use tower_http::trace::TraceLayer;

/// Bytes of a request's body: an answer of the largest usual size, in base64, and some.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// Requests at once; more are refused.
const REQUESTS_MAX: usize = 64;

/// What the door leads to.
#[derive(Clone)]
pub struct AdminState {
    /// Whose records are shown and settled.
    pub store: Arc<Store>,
    /// Whose figures are shown, and who is told what an operator did.
    pub journal: Arc<Journal>,
    /// The slots that can be asked about and adopted.
    pub slots: Arc<SlotCatalogue>,
    /// What follows from a write that is settled as executed.
    pub successes: Arc<Successes>,
    /// Set by whoever runs the process.
    pub readiness: watch::Receiver<Readiness>,
    /// What an operator has to show. Without one only a loopback address is served.
    pub token: Option<Secret>,
}

/// Every path of the admin address.
fn router(state: AdminState) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/api/claims", get(claims::list))
        .route("/api/lanes", get(lanes::list))
        .route("/api/claims/{id}", get(claims::show).delete(claims::delete))
        .route("/api/claims/{id}/resolve", post(claims::resolve))
        .route("/api/slots", get(slots::list))
        .route("/api/slots/ask", get(slots::ask))
        .route("/api/slots/import", post(slots::import))
        .route("/api/slots/release", post(slots::release))
        .route_layer(axum::middleware::from_fn_with_state(state.clone(), guard::admit));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(guarded)
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(
            // From the outside in; outermost stands what makes a problem of every refusal of the others.
            ServiceBuilder::new()
                // That it is not ready, or asked too much, is an answer and no failure of its own.
                .layer(TraceLayer::new_for_http().on_failure(()))
                .layer(axum::middleware::from_fn(guard::rim))
                .layer(HandleErrorLayer::new(guard::refused))
                .load_shed()
                .concurrency_limit(REQUESTS_MAX)
                .timeout(guard::REQUEST_MAX),
        )
        .with_state(state)
}

#[cfg(test)]
pub(crate) mod tests;
