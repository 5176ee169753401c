//! The lanes at this moment: who waits where, and for how long.

use super::AdminState;
use super::problem::Problem;
use crate::store::{LaneView, StoreError};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

/// Lanes of one answer, where the request does not say.
const LIMIT: usize = 100;
/// The most.
const LIMIT_MAX: usize = 1_000;

/// How many to show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    limit: Option<usize>,
}

/// The lanes with the most that wait, first the longest.
#[derive(Debug, Serialize, Deserialize)]
pub struct LanesPage {
    /// The lanes.
    pub lanes: Vec<LaneView>,
    /// All lanes that there are.
    pub total: u64,
    /// All writes that wait.
    pub waiting: u64,
}

/// `GET /api/lanes?limit=`
pub(super) async fn list(
    State(state): State<AdminState>,
    selection: Result<Query<Selection>, QueryRejection>,
) -> Result<Json<LanesPage>, Problem> {
    let Query(selection) = selection.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = selection.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is 1 to {LIMIT_MAX}, not {limit}")));
    }
    let figures = state.store.lane_figures().await;
    let away = |error: StoreError| Problem::unavailable(error.to_string());
    let lanes = state.store.lanes(limit).await.map_err(away)?;
    Ok(Json(LanesPage { lanes, total: figures.lanes, waiting: figures.waiting }))
}
