//! Requests and answers as something that selectors look into.

use super::exchange::Exchange;
use super::guard::joined;
use crate::domain::canon::{BodyInput, Fields, fields};
use http::header::{self, HeaderMap};
use http::request::Parts;

/// The segments of the request's path that the matched pattern names.
pub fn named<'a>(exchange: &'a Exchange, path: &'a str) -> Vec<(&'a str, &'a str)> {
    exchange.shared().policy.named(exchange.pattern, path)
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

/// What is in an answer's body; nothing where it was too large to keep.
pub fn answer_fields(exchange: &Exchange, headers: &HeaderMap, body: Option<&[u8]>) -> Fields {
    fields_of_answer(headers, body, exchange.rules().decoded_bytes_max())
}

/// The same of any answer, also one that an operator gives; decoded, its body has at most `decoded_bytes_max`.
pub fn fields_of_answer(headers: &HeaderMap, body: Option<&[u8]>, decoded_bytes_max: usize) -> Fields {
    let Some(body) = body else { return Fields::Empty };
    let (content_type, content_encoding) =
        (joined(headers, header::CONTENT_TYPE), joined(headers, header::CONTENT_ENCODING));
    let input = BodyInput {
        content_type: content_type.as_deref(),
        content_encoding: content_encoding.as_deref(),
        query: None,
        body,
    };
    fields(&input, decoded_bytes_max)
}
