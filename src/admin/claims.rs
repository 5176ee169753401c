//! The claims API: what the store remembers, and an operator's word on what nobody else can know.

use super::AdminState;
use super::follows::follows;
use super::problem::Problem;
use super::unnamed;
use crate::domain::answer::Answer;
use crate::domain::event::{Event, OperatorVerdict};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::ledger::RecordId;
use crate::domain::slot::HoldState;
use crate::store::{Listing, RecordView, Settle, Settled, StoreError};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Records of one page, where the request does not say.
const LIMIT: usize = 100;
/// Records of one page at most: the store's own bound.
const LIMIT_MAX: usize = 1_000;
/// How long copies get an operator's answer, where the request does not say.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// The longest that an operator may ask for.
const KEEP_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);

/// Headers that belong to one connection or are made anew with each answer; a recorded one would contradict them.
const NOT_RECORDED: [&str; 10] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Which records to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    phase: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// One page of records, in the order of their ids.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClaimsPage {
    /// The records.
    pub claims: Vec<RecordView>,
    /// Where the next page begins (`after`), where there may be one.
    pub next: Option<String>,
}

/// An operator's word on an outcome in doubt.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Resolution {
    /// The write was executed; copies get this answer.
    Executed {
        /// The status of the answer: 200 to 599.
        status: u16,
        /// Its headers: one value, or several.
        #[serde(default)]
        headers: BTreeMap<String, Values>,
        /// Its body, as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// Its body, as base64; instead of `body`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body_base64: Option<String>,
        /// How long copies get it, in seconds; a day where absent, 90 days at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_seconds: Option<u64>,
        /// Of which attempt this is known, where that is said: its request id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
    /// The write was not executed; the next copy executes.
    NotExecuted {
        /// Of which attempt this is known, where that is said: its request id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
}

/// A header's value, or its values.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// The usual case.
    One(String),
    /// Several lines of one name.
    Several(Vec<String>),
}

/// `GET /api/claims?phase=&after=&limit=`
pub(super) async fn list(
    State(state): State<AdminState>,
    selection: Result<Query<Selection>, QueryRejection>,
) -> Result<Json<ClaimsPage>, Problem> {
    let Query(selection) = selection.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = selection.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is 1 to {LIMIT_MAX}, not {limit}")));
    }
    let phase = selection.phase.map(known_phase).transpose()?;
    let after = selection.after.as_deref().map(parse_id).transpose()?;
    let claims = state.store.list(Listing { phase, after, limit }).await.map_err(away)?;
    let next = claims.last().filter(|_| claims.len() == limit).map(|last| last.id.clone());
    Ok(Json(ClaimsPage { claims, next }))
}

/// `GET /api/claims/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<RecordView>, Problem> {
    let id = parse_id(&id)?;
    state.store.show(id).await.map_err(away)?.map(Json).ok_or_else(|| no_record(id))
}

/// `POST /api/claims/{id}/resolve`
pub(super) async fn resolve(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    resolution: Result<Json<Resolution>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let id = parse_id(&id)?;
    let Json(resolution) = resolution.map_err(rejected_body)?;
    match resolution {
        Resolution::NotExecuted { request_id } => {
            is_of(&state, id, request_id).await?;
            settle(&state, id, Settle::NotExecuted, OperatorVerdict::NotExecuted).await
        }
        Resolution::Executed { status, headers, body, body_base64, keep_seconds, request_id } => {
            is_of(&state, id, request_id).await?;
            let keep = keep(keep_seconds)?;
            let answer = answer(status, &headers, &bytes(body, body_base64)?)?;
            let view = state.store.show(id).await.map_err(away)?.ok_or_else(|| no_record(id))?;
            let digest = FingerprintKey::new(state.store.secret());
            let (follows, unsure) = follows(&state.successes, &digest, &view.about, &answer);
            let open = unnamed::open_of(&state, id).await;
            let how = Settle::Executed { answer, keep, follows };
            let Json(mut done) = settle(&state, id, how, OperatorVerdict::Executed).await?;
            if !unsure.is_empty() {
                done["unsure"] = unsure.into();
            }
            let unnamed = unnamed::left(&state, open).await;
            if !unnamed.is_empty() {
                done["unnamed"] = serde_json::json!(unnamed);
            }
            Ok(Json(done))
        }
    }
}

/// `DELETE /api/claims/{id}`
pub(super) async fn delete(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    settle(&state, parse_id(&id)?, Settle::Delete, OperatorVerdict::Deleted).await
}

/// What an operator found out of one attempt says nothing of a later one under the same id.
async fn is_of(state: &AdminState, id: RecordId, request_id: Option<String>) -> Result<(), Problem> {
    let Some(meant) = request_id else { return Ok(()) };
    let view = state.store.show(id).await.map_err(away)?.ok_or_else(|| no_record(id))?;
    let now = &view.about.request_id;
    if *now == meant {
        return Ok(());
    }
    Err(Problem::not_in_doubt(format!(
        "the record {id} is of the request {now} now, a later attempt than {meant}"
    )))
}

async fn settle(
    state: &AdminState,
    id: RecordId,
    how: Settle,
    verdict: OperatorVerdict,
) -> Result<Json<serde_json::Value>, Problem> {
    match state.store.settle(id, how).await {
        Ok(Settled::Yes) => {
            state.journal.event(Event::Settled { id, verdict });
            Ok(Json(serde_json::json!({ "id": id.to_string(), "settled": verdict.word() })))
        }
        Ok(Settled::NotFound) => Err(no_record(id)),
        // Everything else can be deleted.
        Ok(Settled::NotInDoubt) if verdict == OperatorVerdict::Deleted => Err(Problem::at_work(
            "a record in flight cannot be removed: the next copy would run beside it; it is over within its timeout",
        )),
        Ok(Settled::NotInDoubt) => Err(not_in_doubt(state, id).await),
        Err(error) => Err(away(error)),
    }
}

/// Says what the record is instead, and what can be done about a slot that its answer left unsettled.
async fn not_in_doubt(state: &AdminState, id: RecordId) -> Problem {
    let mut detail = "only an outcome in doubt can be settled".to_owned();
    // Writing into a string cannot fail.
    if let Ok(Some(view)) = state.store.show(id).await {
        let status = view.status.map(|status| format!(", answered {status}")).unwrap_or_default();
        let _ =
            write!(detail, "; this record is {}{status}, request id {}", view.phase, view.about.request_id);
    }
    let open = unnamed::open_of(state, id).await;
    for hold in open.iter().filter(|hold| hold.state == HoldState::Unsettled) {
        let (slot, of, hold) = (&hold.slot, &hold.slot_id, &hold.hold);
        let _ = write!(
            detail,
            "; its {slot} is unsettled: where the backend has no such booking, oncegate slots release --hold {of}/{hold}, \
             and where it has one, oncegate slots import --slot {slot} first"
        );
    }
    Problem::not_in_doubt(detail)
}

fn away(error: StoreError) -> Problem {
    Problem::unavailable(error.to_string())
}

fn no_record(id: RecordId) -> Problem {
    Problem::not_found(format!("no record has the id {id}; it may have left by itself"))
}

fn parse_id(text: &str) -> Result<RecordId, Problem> {
    text.parse().map_err(|error: &str| Problem::bad_request(error))
}

fn known_phase(phase: String) -> Result<String, Problem> {
    match phase.as_str() {
        "queued" | "sent" | "done" | "in-doubt" => Ok(phase),
        _ => Err(Problem::bad_request(format!("phase is queued, sent, done or in-doubt, not {phase:?}"))),
    }
}

fn rejected_body(error: JsonRejection) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            slug: "not-json",
            title: "The request body is not JSON",
            detail: "send the resolution as `Content-Type: application/json`".into(),
        },
        _ => Problem::bad_request(error.body_text()),
    }
}

fn keep(seconds: Option<u64>) -> Result<Duration, Problem> {
    let keep = seconds.map_or(KEEP, Duration::from_secs);
    if keep.is_zero() || keep > KEEP_MAX {
        return Err(Problem::bad_request(format!("keep_seconds is 1 to {}", KEEP_MAX.as_secs())));
    }
    Ok(keep)
}

fn bytes(body: Option<String>, base64: Option<String>) -> Result<Vec<u8>, Problem> {
    match (body, base64) {
        (Some(_), Some(_)) => Err(Problem::bad_request("send body or body_base64, not both")),
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => base64::engine::general_purpose::STANDARD
            .decode(base64)
            .map_err(|error| Problem::bad_request(format!("body_base64 is not base64: {error}"))),
        (None, None) => Ok(Vec::new()),
    }
}

/// The answer that copies will get: only what the backend itself could have answered.
fn answer(status: u16, headers: &BTreeMap<String, Values>, body: &[u8]) -> Result<Answer, Problem> {
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| Problem::bad_request(format!("status is 200 to 599, not {status}")))?;
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) && !body.is_empty() {
        return Err(Problem::bad_request(format!("an answer with status {} has no body", status.as_u16())));
    }
    let mut map = HeaderMap::new();
    for (name, values) in headers {
        let known = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Problem::bad_request(format!("{name:?} is no header name")))?;
        if NOT_RECORDED.contains(&known.as_str()) {
            return Err(Problem::bad_request(format!("{known} is made anew with each answer; leave it out")));
        }
        let values = match values {
            Values::One(value) => std::slice::from_ref(value),
            Values::Several(values) => values,
        };
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|_| {
                Problem::bad_request(format!("the value of {known} has forbidden characters"))
            })?;
            map.append(known.clone(), value);
        }
    }
    Ok(Answer::new(status, &map, Some(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Resolution, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn both_verdicts_are_understood_and_nothing_beside_them() {
        assert_eq!(parsed(r#"{"verdict":"not-executed"}"#), Ok(Resolution::NotExecuted { request_id: None }));
        let executed =
            parsed(r#"{"verdict":"executed","status":201,"headers":{"A":"1","B":["2","3"]},"body":"x"}"#);
        assert!(
            matches!(executed, Ok(Resolution::Executed { status: 201, ref headers, .. }) if headers.len() == 2)
        );
        for unclear in [
            r#"{"verdict":"maybe"}"#,
            r#"{"verdict":"executed"}"#,
            r#"{"verdict":"executed","status":201,"bdoy":"x"}"#,
            r#"{"verdict":"not-executed","status":201}"#,
            r#"{"status":201}"#,
        ] {
            assert!(parsed(unclear).is_err(), "{unclear}");
        }
    }

    #[test]
    fn an_operators_answer_is_recorded_as_it_was_given() {
        let several = Values::Several(vec!["2".into(), "3".into()]);
        let headers = BTreeMap::from([("X-A".into(), Values::One("1".into())), ("X-B".into(), several)]);
        let answer = answer(201, &headers, b"body").expect("a possible answer");
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::CREATED, &b"body"[..]));
        assert_eq!(answer.headers().get_all("x-b").iter().collect::<Vec<_>>(), ["2", "3"]);
    }

    #[test]
    fn answers_that_no_backend_gives_are_refused() {
        let with =
            |name: &str, value: &str| BTreeMap::from([(name.to_owned(), Values::One(value.to_owned()))]);
        assert!(answer(101, &BTreeMap::new(), b"").is_err());
        assert!(answer(600, &BTreeMap::new(), b"").is_err());
        assert!(answer(204, &BTreeMap::new(), b"x").is_err());
        assert!(answer(200, &with("Transfer-Encoding", "chunked"), b"").is_err());
        assert!(answer(200, &with("content-length", "7"), b"").is_err());
        assert!(answer(200, &with("X-A", "1\r\nX-B: 2"), b"").is_err());
        assert!(answer(200, &with("X A", "1"), b"").is_err());
        assert!(
            bytes(Some("x".into()), Some("eA==".into())).is_err() && bytes(None, Some("%".into())).is_err()
        );
        assert!(keep(Some(0)).is_err() && keep(Some(u64::MAX)).is_err());
    }

    #[test]
    fn a_binary_body_comes_as_base64() {
        assert_eq!(bytes(None, Some("/wA=".into())), Ok(vec![0xff, 0]));
    }
}
