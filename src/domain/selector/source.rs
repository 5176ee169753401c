//! What selectors look into: the parts of one request, or of one answer.

use super::value::{Scalar, Value};
use super::{Found, Origin, body};
use crate::domain::canon::{Document, Fields, Shape};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, header};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A view of one request or answer. Cheap to make; nothing is read before a selector asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The segments that the route's pattern names, as they stand in the normalised path. None in an answer.
    pub path: &'a [(&'a str, &'a str)],
    /// The target's query without its `?`. None in an answer.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// What is in the body.
    pub body: &'a Fields,
}

// === impl Source ===

impl<'a> Source<'a> {
    /// An answer, as a source.
    pub fn answer(headers: &'a HeaderMap, body: &'a Fields) -> Source<'a> {
        Source { path: &[], query: None, headers, body }
    }

    /// What is at `origin`.
    pub(super) fn look(&self, origin: &Origin) -> Found {
        match origin {
            Origin::Body(path) => body::look(self.body, path),
            Origin::Path(name) => found(
                self.path.iter().filter(|(known, _)| known == name).map(|(_, segment)| decoded(segment)),
            ),
            Origin::Query(name) => found(query(self.query.unwrap_or_default(), name)),
            Origin::Header(name) => found(self.lines(name).map(Scalar::bytes)),
            Origin::Location => found(self.lines(&header::LOCATION).filter_map(last_segment)),
            Origin::Jwt(claim) => self.claim(claim),
            Origin::Text(text) => Found::Value(Value::from_text(text)),
        }
    }

    fn lines(&self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.headers.get_all(name).iter().map(|line| line.as_bytes())
    }

    /// A claim of the bearer token; nothing where there is no token or it is none.
    fn claim(&self, claim: &str) -> Found {
        let token = self.lines(&header::AUTHORIZATION).find_map(|line| {
            let (scheme, token) = line.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        let payload = token.and_then(|token| token.split(|byte| *byte == b'.').nth(1));
        let payload = payload.and_then(|payload| URL_SAFE_NO_PAD.decode(payload.trim_ascii_end()).ok());
        match payload.and_then(|payload| Document::parse(&payload)) {
            Some(claims) => claims.root().member(claim).map_or(Found::Missing, body::value),
            None => Found::Missing,
        }
    }
}

/// Values that came under one name.
pub(super) fn found(values: impl Iterator<Item = Scalar>) -> Found {
    let values: Vec<Scalar> = values.collect();
    if values.is_empty() { Found::Missing } else { Found::Value(Value::repeated(values)) }
}

fn decoded(text: &str) -> Scalar {
    Scalar::bytes(&Cow::from(percent_decode_str(text)))
}

/// The parameters of that name, whatever the case: some backends do not look at it.
fn query<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Scalar> + 'a {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| {
            let spaced = text.replace('+', " ");
            Cow::from(percent_decode_str(&spaced)).into_owned()
        };
        plain(key).eq_ignore_ascii_case(name.as_bytes()).then(|| Scalar::bytes(&plain(value)))
    })
}

/// The last segment of the path in a `Location`: the name of what was made.
fn last_segment(location: &[u8]) -> Option<Scalar> {
    let location = std::str::from_utf8(location).ok()?;
    let end = location.find(['?', '#']).unwrap_or(location.len());
    let path = location[..end].trim_end_matches('/');
    let path =
        path.split_once("://").map_or(path, |(_, rest)| rest.find('/').map_or("", |slash| &rest[slash..]));
    let segment = path.rsplit('/').next().filter(|segment| !segment.is_empty())?;
    Some(decoded(segment))
}

impl Scalar {
    /// A value of a JSON document.
    pub(super) fn of(shape: Shape, text: &[u8]) -> Scalar {
        match shape {
            Shape::Text(text) => Scalar::text(text),
            Shape::Word(word) => Scalar::word(word),
            Shape::Null => Scalar::text(String::new()),
            Shape::Array | Shape::Object => Scalar::bytes(text),
        }
    }
}
