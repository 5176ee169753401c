//! The question before the booking: is this slot free? Answered by the gateway itself, on a route with `[route.ask]`. Nothing
//! is reserved, and nobody is named.

use super::body::ResponseBody;
use super::exchange::{Exchange, Outcome};
use super::guard::{self, too_large};
use super::respond::{NO_STORE, date};
use super::slots::unnamed;
use super::source;
use super::upload::ClientBody;
use super::whole::Read;
use crate::domain::event::Decision;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::selector::Source;
use crate::domain::slot::{HoldState, SlotPolicy};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;
use std::time::Duration;

/// What the client is told.
#[derive(Serialize)]
struct Told<'a> {
    slot: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    free: bool,
    capacity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<HoldState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Answers whether the slot is free that the request names.
pub async fn answer(exchange: &Exchange, parts: &Parts, body: ClientBody) -> Result<Outcome, Refusal> {
    let Some(slot) = &exchange.rules().slots.ask else {
        return Err(Refusal::new(Reason::NoRoute, "This route answers no questions."));
    };
    let room = exchange.room_for(&body)?;
    let body = match guard::read_body(exchange, body).await? {
        Read::Whole(body) => body,
        Read::TooLarge(..) => return Err(too_large(exchange.rules().body_limit)),
    };
    let told = look(exchange, slot, parts, &body).await?;
    drop(room);
    let mut response = Response::new(ResponseBody::whole(told));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    Ok(Outcome::new(response, Decision::Asked))
}

async fn look(exchange: &Exchange, slot: &SlotPolicy, parts: &Parts, body: &[u8]) -> Result<Bytes, Refusal> {
    let shared = exchange.shared();
    let fields = source::request_fields(exchange, parts, body);
    let named = source::named(exchange, parts.uri.path());
    let asked = Source { path: &named, query: parts.uri.query(), headers: &parts.headers, body: &fields };
    let wanted = slot.question(&shared.digest, &asked).map_err(unnamed)?;
    let taken = shared.store.look(&wanted).await.map_err(|error| {
        // Whatever `on_outage` says: the backend does not know this question.
        Refusal::new(Reason::StoreUnavailable, format!("Nobody knows at this moment: {error}."))
            .retry_after(Duration::from_secs(5))
    })?;
    let told = Told {
        slot: &slot.name,
        key: &wanted.label,
        free: taken.is_none(),
        capacity: slot.capacity,
        state: taken.as_ref().map(|taken| taken.state),
        since: taken.as_ref().map(|taken| date(taken.since)),
        until: taken.as_ref().and_then(|taken| taken.until).map(date),
    };
    // Strings and numbers: writing them cannot fail.
    Ok(serde_json::to_vec(&told).unwrap_or_default().into())
}
