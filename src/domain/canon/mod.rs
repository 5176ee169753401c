//! A body's meaning as bytes. Two bodies that mean the same give the same canonical bytes; two that mean different
//! things never do. In doubt a body is taken raw: a false difference costs a duplicate check, a false equality swallows
//! somebody's booking.
//!
//! Owns what bodies mean: JSON, urlencoded and multipart forms, GraphQL, and everything else as it is. Leaves to others
//! who asks, for what, and with which key ([`fingerprint`](crate::domain::fingerprint)), and how a body is read from a
//! connection.

mod encoding;
mod fields;
mod form;
mod frame;
mod graphql;
mod json;
mod media;
mod multipart;
mod path;
mod rules;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
pub use fields::{Document, Fields, SentField, fields};
pub use json::{Node, Shape, plain_end};
pub use path::{JsonPath, Step};
pub use rules::{GraphqlRule, Rules};

use encoding::Decoded;
use frame::push_field;
use media::MediaType;
use std::borrow::Cow;

/// Documents nested deeper than so many arrays and objects are taken raw.
pub const DEPTH_MAX: usize = 64;

/// A request's body, as it came, and the two headers and the query that say how it is to be read.
#[derive(Clone, Copy, Debug)]
pub struct BodyInput<'h, 'b> {
    /// `Content-Type`, where there is one; several of them joined by `, `, which is then no known type.
    pub content_type: Option<&'h [u8]>,
    /// `Content-Encoding`, where there is one; several of them joined by `, `.
    pub content_encoding: Option<&'h [u8]>,
    /// The target's query, without its `?`: a GraphQL server may take the document from there instead.
    pub query: Option<&'h str>,
    /// The whole body, still encoded.
    pub body: &'b [u8],
}

/// How a body was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A JSON document.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`.
    Multipart,
    /// One or several GraphQL operations.
    Graphql,
    /// Not understood, or not without doubt: the bytes as they are.
    Raw,
}

/// What a body means. `head` and `body` together are the meaning; a fingerprint takes both, each behind its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning<'a> {
    /// How the body was understood.
    pub kind: Kind,
    /// Whether it is known to change nothing: only GraphQL queries and subscriptions are. They pass unguarded.
    pub read: bool,
    /// Kind, media type and what else bears on how a backend reads the body.
    pub head: Vec<u8>,
    /// The canonical bytes; for raw bodies the bytes themselves.
    pub body: Cow<'a, [u8]>,
}

/// A body could be read in two ways, or in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubtful;

/// The bytes that an encoded body stands for, at most `bytes_max` of them; `None` where that cannot be told.
pub fn decoded<'a>(
    content_encoding: Option<&[u8]>,
    body: &'a [u8],
    bytes_max: usize,
) -> Option<Cow<'a, [u8]>> {
    match encoding::decode(content_encoding, body, bytes_max) {
        Decoded::Plain(body) => Some(body),
        Decoded::Unknown(_) => None,
    }
}

/// Says what a body means under a route's rules. Never fails: what is not understood is [`Kind::Raw`].
pub fn meaning<'a>(input: &BodyInput<'_, 'a>, rules: &Rules) -> Meaning<'a> {
    let body = match encoding::decode(input.content_encoding, input.body, rules.decoded_bytes_max) {
        Decoded::Plain(body) => body,
        Decoded::Unknown(encoding) => return raw(input.content_type, &encoding, Cow::Borrowed(input.body)),
    };
    match understood(input, &body, rules) {
        Ok(meaning) => meaning,
        Err(Doubtful) => raw(input.content_type, b"", body),
    }
}

/// The meaning of a decoded body of a known type.
fn understood(input: &BodyInput<'_, '_>, body: &[u8], rules: &Rules) -> Result<Meaning<'static>, Doubtful> {
    let media = input.content_type.and_then(MediaType::parse).ok_or(Doubtful)?;
    let meaning =
        |kind: Kind, read, body| Meaning { kind, read, head: media.head(kind), body: Cow::Owned(body) };
    match &*media.essence {
        "application/x-www-form-urlencoded" => {
            Ok(meaning(Kind::Form, false, form::canonical(body, &rules.fields)?))
        }
        "multipart/form-data" => {
            let boundary = media.parameter("boundary").ok_or(Doubtful)?;
            Ok(meaning(Kind::Multipart, false, multipart::canonical(body, boundary, &rules.fields)?))
        }
        // Other charsets spell other characters with the same bytes.
        _ if !media.is_utf8() => Err(Doubtful),
        "application/graphql" if rules.graphql == GraphqlRule::Detect => {
            let operations = graphql::document(body)?;
            let read = operations.read && !graphql::overridden(input.query);
            Ok(meaning(Kind::Graphql, read, operations.canonical))
        }
        essence if media::is_json(essence) => {
            let canonical = json::canonical(body, &rules.paths)?;
            if rules.graphql == GraphqlRule::Detect
                && matches!(essence, "application/json" | "application/graphql+json")
                && let Ok(operations) = graphql::envelope(&canonical)
                && !graphql::overridden(input.query)
            {
                return Ok(meaning(Kind::Graphql, operations.read, operations.canonical));
            }
            Ok(meaning(Kind::Json, false, canonical))
        }
        _ => Err(Doubtful),
    }
}

/// A body as it is. The media type counts with all its parameters, because a backend may read the same bytes in two ways
/// by it (a charset, a boundary), and so does an encoding that was not undone.
fn raw<'a>(content_type: Option<&[u8]>, encoding: &[u8], body: Cow<'a, [u8]>) -> Meaning<'a> {
    let mut head = match content_type {
        None => vec![Kind::Raw.tag(), b'-'],
        Some(text) => match MediaType::parse(text) {
            Some(media) => media.head(Kind::Raw),
            None => {
                let mut head = vec![Kind::Raw.tag(), b'?'];
                push_field(&mut head, text.trim_ascii());
                head
            }
        },
    };
    push_field(&mut head, encoding);
    Meaning { kind: Kind::Raw, read: false, head, body }
}

// === impl Kind ===

impl Kind {
    /// The first byte of a meaning: kinds never meet.
    fn tag(self) -> u8 {
        match self {
            Kind::Json => b'J',
            Kind::Form => b'F',
            Kind::Multipart => b'M',
            Kind::Graphql => b'G',
            Kind::Raw => b'R',
        }
    }

    /// The word for logs and explanations.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Json => "json",
            Kind::Form => "form",
            Kind::Multipart => "multipart",
            Kind::Graphql => "graphql",
            Kind::Raw => "raw",
        }
    }
}
