//! `Cache-Status` (RFC 9211): what became of a read, said in its answer.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;

/// `Cache-Status`
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from a copy that is fresh for so many seconds more.
    Hit(i64),
    /// Answered from a stale copy, for the reason that this word names; `ttl` as above.
    Stale(i64, &'static str),
    /// Forwarded, because there was no copy.
    Miss(Stored),
    /// Forwarded, because the copy was stale or the client wanted it anew.
    Renewed(Stored),
    /// The backend confirmed the copy.
    Confirmed,
    /// Answered by the call of an equal request.
    Collapsed,
    /// Forwarded by itself: equal requests cannot share this answer, for the reason that this word names.
    Bypass(&'static str),
}

/// Whether the answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is.
    Yes,
    /// It is not, or nobody knows yet.
    No,
}

// === impl CacheStatus ===

impl CacheStatus {
    /// Adds it to an answer, behind what caches nearer to the backend said.
    pub fn add_to(self, headers: &mut HeaderMap) {
        headers.append(CACHE_STATUS, self.value());
    }

    fn value(self) -> HeaderValue {
        let fixed = |text| HeaderValue::from_static(text);
        match self {
            CacheStatus::Hit(left) => written("oncegate; hit", left, ""),
            CacheStatus::Stale(left, why) => written("oncegate; hit", left, why),
            CacheStatus::Miss(Stored::Yes) => fixed("oncegate; fwd=miss; stored"),
            CacheStatus::Miss(Stored::No) => fixed("oncegate; fwd=miss"),
            CacheStatus::Renewed(Stored::Yes) => fixed("oncegate; fwd=stale; stored"),
            CacheStatus::Renewed(Stored::No) => fixed("oncegate; fwd=stale"),
            CacheStatus::Confirmed => fixed("oncegate; fwd=stale; fwd-status=304"),
            CacheStatus::Collapsed => fixed("oncegate; fwd=miss; collapsed"),
            CacheStatus::Bypass(why) => {
                let text = format!("oncegate; fwd=bypass; detail={why}");
                HeaderValue::from_str(&text).unwrap_or(fixed("oncegate; fwd=bypass"))
            }
        }
    }
}

fn written(what: &str, left: i64, why: &str) -> HeaderValue {
    let mut text = String::with_capacity(64);
    // Writing into a string cannot fail.
    let _ = write!(text, "{what}; ttl={left}");
    if !why.is_empty() {
        let _ = write!(text, "; detail={why}");
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("oncegate; hit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_a_structured_field() {
        for status in [
            CacheStatus::Hit(2),
            CacheStatus::Stale(-3, "stale-if-error"),
            CacheStatus::Miss(Stored::Yes),
            CacheStatus::Miss(Stored::No),
            CacheStatus::Renewed(Stored::Yes),
            CacheStatus::Renewed(Stored::No),
            CacheStatus::Confirmed,
            CacheStatus::Collapsed,
            CacheStatus::Bypass("set-cookie"),
        ] {
            let value = status.value();
            let parsed = sfv::Parser::new(value.as_bytes()).parse::<sfv::List>();
            assert!(parsed.is_ok_and(|list| list.len() == 1), "{value:?}");
        }
    }

    #[test]
    fn it_goes_behind_what_was_said_before() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_STATUS, HeaderValue::from_static("origin; hit"));
        CacheStatus::Hit(2).add_to(&mut headers);
        let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["origin; hit", "oncegate; hit; ttl=2"]);
    }
}
