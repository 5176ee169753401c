//! One kept answer, and the answers that are made of it.

use super::endings::Moment;
use super::status::CacheStatus;
use crate::domain::answer::Answer;
use crate::domain::ledger::TargetId;
use crate::domain::read::condition::{goes_into_304, has_it, is_updated_by_304};
use crate::domain::read::{Directives, Lifetime, Standing};
use crate::gateway::body::ResponseBody;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// An answer with what decides who may have it and for how long. One compact allocation: it pins none of the
/// connection's buffers.
#[derive(Debug)]
pub struct Kept {
    answer: Answer,
    lifetime: Lifetime,
    /// When it came, or was last confirmed.
    came: Instant,
    /// When it was asked for.
    pub born: Moment,
    /// What it is a copy of.
    pub resource: TargetId,
}

/// Where an answer comes from, beside the answer itself.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// When it came.
    pub came: Instant,
    /// When it was asked for.
    pub born: Moment,
    /// What it is a copy of.
    pub resource: TargetId,
}

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 256;

// === impl Kept ===

impl Kept {
    /// Copies an answer.
    pub fn new(headers: &HeaderMap, body: &[u8], lifetime: Lifetime, origin: Origin) -> Kept {
        let answer = Answer::new(StatusCode::OK, headers, Some(body));
        let Origin { came, born, resource } = origin;
        Kept { answer, lifetime, came, born, resource }
    }

    /// What it takes of the cache's memory.
    pub fn weight(&self) -> u64 {
        (self.answer.as_bytes().len() + OVERHEAD) as u64
    }

    /// How it stands with a request that says `wants`.
    pub fn standing(&self, now: Instant, wants: &Directives) -> Standing {
        self.lifetime.standing(self.kept_for(now), wants)
    }

    /// Whether it stands in for a backend that fails.
    pub fn stands_in(&self, now: Instant) -> bool {
        self.lifetime.stands_in(self.kept_for(now))
    }

    /// Whether it will do for a caller that would have to wait for its turn.
    pub fn is_younger(&self, now: Instant, limit: Duration) -> bool {
        self.lifetime.is_younger(self.kept_for(now), limit)
    }

    /// For how many seconds it is still fresh; negative where it has not been for so long.
    pub fn seconds_left(&self, now: Instant) -> i64 {
        let kept = i64::try_from(self.kept_for(now).as_secs()).unwrap_or(i64::MAX);
        i64::try_from(self.lifetime.fresh.as_secs()).unwrap_or(i64::MAX).saturating_sub(kept)
    }

    fn kept_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.came)
    }

    /// Its headers, as they came.
    pub fn headers(&self) -> HeaderMap {
        self.answer.headers()
    }

    /// The backend's own validators, with which it can be asked whether the copy still holds.
    pub fn conditions(&self) -> Vec<(HeaderName, HeaderValue)> {
        let headers = self.answer.headers();
        let tag = headers.get(header::ETAG).filter(|tag| !is_own_tag(tag));
        let date = headers.get(header::LAST_MODIFIED);
        let tag = tag.map(|tag| (header::IF_NONE_MATCH, tag.clone()));
        let date = date.map(|date| (header::IF_MODIFIED_SINCE, date.clone()));
        tag.into_iter().chain(date).collect()
    }

    /// Its headers after a 304 with these.
    pub fn merged(&self, update: &HeaderMap) -> HeaderMap {
        let mut merged = self.answer.headers();
        merged.remove(header::AGE);
        for name in update.keys().filter(|name| is_updated_by_304(name)) {
            merged.remove(name);
            for value in update.get_all(name) {
                merged.append(name.clone(), value.clone());
            }
        }
        merged
    }

    /// Whether a 304 with these headers speaks of this copy: a strong tag has to be its own.
    pub fn is_meant_by(&self, update: &HeaderMap) -> bool {
        let headers = self.answer.headers();
        match (headers.get(header::ETAG), update.get(header::ETAG)) {
            (Some(own), Some(told)) => opaque(own) == opaque(told),
            _ => true,
        }
    }

    /// Its body.
    pub fn body(&self) -> Bytes {
        self.answer.body()
    }

    /// The answer to a request with these conditions: 304 where its client has this copy.
    pub fn answer(
        &self,
        asked: &HeaderMap,
        head_only: bool,
        now: Instant,
        status: CacheStatus,
    ) -> Response<ResponseBody> {
        let mut headers = self.answer.headers();
        let age = self.lifetime.age_after(self.kept_for(now)).as_secs();
        let has_it = !asked.is_empty() && has_it(asked, &headers);
        headers.insert(header::AGE, HeaderValue::from(age));
        status.add_to(&mut headers);
        if has_it {
            return not_modified(headers);
        }
        let body = self.answer.body();
        let body = if head_only {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            Bytes::new()
        } else {
            body
        };
        let mut response = Response::new(ResponseBody::whole(body));
        *response.headers_mut() = headers;
        response
    }
}

/// A 304 in place of an answer with these headers.
pub fn not_modified(mut headers: HeaderMap) -> Response<ResponseBody> {
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| !goes_into_304(name)).cloned().collect();
    dropped.iter().for_each(|name| drop(headers.remove(name)));
    let mut response = Response::new(ResponseBody::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = headers;
    response
}

/// The mark of a tag that the gateway made, because the backend gave none.
const OWN_TAG: &str = "W/\"oncegate-";

/// A tag for an answer without one: a digest of its body, weak because the headers are not in it.
pub fn own_tag(body: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(body);
    let mut tag = String::from(OWN_TAG);
    for byte in &digest[..12] {
        // Writing into a string cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"\""))
}

fn is_own_tag(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(OWN_TAG.as_bytes())
}

fn opaque(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
}
