//! A request as something that selectors look into.

use super::exchange::Exchange;
use super::guard::joined;
use crate::domain::canon::{BodyInput, Fields, fields};
use http::header;
use http::request::Parts;

/// The segments of the request's path that the matched pattern names.
pub fn named<'a>(exchange: &'a Exchange, parts: &'a Parts) -> Vec<(&'a str, &'a str)> {
    exchange.shared().policy.named(exchange.pattern, parts.uri.path())
}

/// What is in a request's body.
pub fn request_fields(exchange: &Exchange, parts: &Parts, body: &[u8]) -> Fields {
    let (content_type, content_encoding) =
        (joined(&parts.headers, header::CONTENT_TYPE), joined(&parts.headers, header::CONTENT_ENCODING));
    let input = BodyInput {
        content_type: content_type.as_deref(),
        content_encoding: content_encoding.as_deref(),
        query: parts.uri.query(),
        body,
    };
    fields(&input, exchange.rules().decoded_bytes_max())
}
