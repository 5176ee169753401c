//! Answers that the gateway makes: refusals as problem+json; and answers as they are recorded.

use super::body::ResponseBody;
use super::throttle::decimal;
use crate::domain::answer::Answer;
use crate::domain::ledger::Doubt;
use crate::domain::refusal::Refusal;
use crate::domain::slot::HoldState;
use crate::domain::time::Millis;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use std::time::{Duration, UNIX_EPOCH};

/// The media type of a refusal.
pub const PROBLEM: &str = "application/problem+json";
/// Nobody keeps a refusal.
pub const NO_STORE: &str = "no-store";

/// The body of a refusal (RFC 9457), with this project's extension members.
#[derive(Default, Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Doubt>,
    /// Seconds, as in the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<HoldState>,
    /// The booking that holds the slot: only in the answer to who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// A refusal as the answer that goes out; `policy` is the route's name where one matched.
pub fn refusal(refusal: &Refusal, policy: Option<&str>, request_id: &HeaderValue) -> Response<ResponseBody> {
    let (status, headers, body) = problem(refusal, policy, request_id.to_str().unwrap_or_default());
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if refusal.close {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A refusal as an answer that waiting copies get.
pub fn refusal_answer(refusal: &Refusal, policy: Option<&str>, request_id: &HeaderValue) -> Answer {
    let (status, headers, body) = problem(refusal, policy, request_id.to_str().unwrap_or_default());
    Answer::new(status, &headers, Some(&body)).to_refusal()
}

fn problem(refusal: &Refusal, policy: Option<&str>, request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
    let body = Bytes::from(body(refusal, policy, request_id));
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    if let Some(wait) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    (StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers, body)
}

/// What stands in the place of an answer's body that is not kept, in JSON.
pub fn not_kept(status: StatusCode, policy: &str, request_id: &str) -> Vec<u8> {
    let problem = Problem {
        r#type: "urn:oncegate:problem:answer-not-kept".into(),
        title: "The answer was not kept",
        status: status.as_u16(),
        detail: "The same request was answered before, with this status, and is not sent again for this copy. The body \
                 of that answer was larger than the gateway keeps (store.answer_limit) or cannot be read any more.",
        policy: Some(policy),
        request_id,
        ..Problem::default()
    };
    problem.written()
}

/// What a refusal says in JSON.
pub fn body(refusal: &Refusal, policy: Option<&str>, request_id: &str) -> Vec<u8> {
    let slot = refusal.slot.as_deref();
    let (since, until, why) = match (refusal.doubt, slot) {
        (Some((since, until, why)), _) => (Some(date(since)), Some(date(until)), Some(why)),
        (None, Some(taken)) => (Some(date(taken.since)), taken.until.map(date), None),
        (None, None) => (None, None, None),
    };
    let problem = Problem {
        r#type: ["urn:oncegate:problem:", refusal.reason.slug()].concat(),
        title: refusal.reason.title(),
        status: refusal.status,
        detail: &refusal.detail,
        policy,
        request_id,
        since,
        until,
        why,
        retry_after: refusal.retry_after.map(whole_seconds),
        slot: slot.map(|taken| &*taken.name),
        key: slot.map(|taken| &*taken.label).filter(|label| !label.is_empty()),
        state: slot.map(|taken| taken.state),
        id: slot.and_then(|taken| taken.id.as_deref()),
    };
    problem.written()
}

impl Problem<'_> {
    fn written(&self) -> Vec<u8> {
        // Serialising strings and numbers into memory cannot fail; an empty problem would still carry its status.
        self.brief().unwrap_or_else(|| serde_json::to_vec(self).unwrap_or_default())
    }

    /// The same bytes as the serializer's, where there is nothing to escape and nothing beyond the usual: refusals come in
    /// floods, and looking at each byte of a text costs more than the rest of the answer.
    fn brief(&self) -> Option<Vec<u8>> {
        let Problem { r#type, title, status, detail, policy, request_id, retry_after, .. } = self;
        let usual = self.since.is_none() && self.until.is_none() && self.why.is_none() && self.slot.is_none();
        let policy_text = policy.unwrap_or_default();
        let plain = [*detail, policy_text, *request_id].into_iter().all(is_plain);
        if !usual || !plain {
            return None;
        }
        let mut out = Vec::with_capacity(160 + r#type.len() + title.len() + detail.len());
        let push = |out: &mut Vec<u8>, pieces: &[&str]| {
            pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        };
        push(&mut out, &["{\"type\":\"", r#type, "\",\"title\":\"", title, "\",\"status\":"]);
        decimal(u64::from(*status), &mut out);
        push(&mut out, &[",\"detail\":\"", detail]);
        if policy.is_some() {
            push(&mut out, &["\",\"policy\":\"", policy_text]);
        }
        push(&mut out, &["\",\"request_id\":\"", request_id, "\""]);
        if let Some(seconds) = retry_after {
            push(&mut out, &[",\"retry_after\":"]);
            decimal(*seconds, &mut out);
        }
        out.push(b'}');
        Some(out)
    }
}

/// Whether JSON has nothing to escape in a text. Looks at all of it without a branch, which processors do sixteen bytes
/// at a time.
fn is_plain(text: &str) -> bool {
    let escaped = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    text.bytes().fold(0, |found, byte| found | escaped(byte)) == 0
}

/// Rounded up: a client that obeys must not come too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// An instant as problems and answers name it.
pub fn date(at: Millis) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at.0))
}

/// The answer as it is recorded: end-to-end headers without `Date`; `None` as body leaves a tombstone.
pub fn record(status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) -> Answer {
    Answer::without(Some(&header::DATE), status, headers, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::refusal::Reason;

    #[test]
    fn retry_after_is_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(700)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_millis(2001)), 3);
    }

    #[test]
    fn the_quick_way_writes_what_the_serializer_writes() {
        for reason in Reason::ALL {
            for (detail, policy, wait) in [
                ("Wait; nothing was sent.", Some("book"), Some(1_500)),
                ("姓 and a tab\tin it", None, None),
                ("say \"no\"", Some("a.b"), Some(0)),
                ("back\\slash", None, Some(1)),
            ] {
                let mut refused = Refusal::new(*reason, detail);
                refused.retry_after = wait.map(Duration::from_millis);
                let (_, _, body) = problem(&refused, policy, "id-1");
                let expected = serde_json::to_vec(&Problem {
                    r#type: format!("urn:oncegate:problem:{}", reason.slug()),
                    title: reason.title(),
                    status: refused.status,
                    detail,
                    policy,
                    request_id: "id-1",
                    since: None,
                    until: None,
                    why: None,
                    retry_after: refused.retry_after.map(whole_seconds),
                    slot: None,
                    key: None,
                    state: None,
                    id: None,
                });
                assert_eq!(body, expected.expect("JSON"));
            }
        }
    }

    #[test]
    fn a_refusal_explains_itself_in_json() {
        let refused = Refusal::new(Reason::OutcomeUnknown, "why \"it\" is")
            .in_doubt(Millis(0), Millis(86_400_000), Doubt::TimedOut)
            .retry_after(Duration::from_millis(1500));
        let (status, headers, body) = problem(&refused, Some("book"), "id-1");
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(headers[header::RETRY_AFTER], "2");
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(json["type"], "urn:oncegate:problem:outcome-unknown");
        assert_eq!(json["policy"], "book");
        assert_eq!(json["request_id"], "id-1");
        assert_eq!(json["since"], "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(json["why"], "timed-out");
    }
}
