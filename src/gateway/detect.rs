//! Duplicates in the backend's own answers: told, never stopped. The client's answer is on its way already.

use super::attempt::Original;
use super::exchange::Exchange;
use super::source::{named, request_fields};
use crate::config::{Detect, Pointer};
use crate::domain::canon::{BodyInput, Fields, fields};
use crate::domain::event::Event;
use crate::domain::ledger::RecordId;
use crate::domain::selector::{Found, Source, Value};
use crate::store::{AnswerKey, Sighting};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::response;

/// Bytes of each text of the event.
const SHOWN_MAX: usize = 128;

/// What has to be unique in an answer, and among what.
pub struct Seen {
    key: AnswerKey,
    value: String,
    within: String,
}

/// What `detect` finds in one answer and its request; `None` where something is missing: what cannot be compared is no
/// duplicate.
pub fn seen(
    exchange: &Exchange,
    detect: &Detect,
    original: &Original,
    (head, body): (&response::Parts, &Bytes),
) -> Option<Seen> {
    let value = |name| head.headers.get(name).map(HeaderValue::as_bytes);
    let input = BodyInput {
        content_type: value(header::CONTENT_TYPE),
        content_encoding: value(header::CONTENT_ENCODING),
        query: None,
        body,
    };
    let answer_fields = fields(&input, exchange.rules().decoded_bytes_max());
    let answer = Source::answer(&head.headers, &answer_fields);
    let parts = &original.parts;
    let reads_body = detect.within.iter().any(|pointer| !pointer.answer && pointer.selector.reads_body());
    let request_fields =
        if reads_body { request_fields(exchange, parts, &original.body) } else { Fields::Empty };
    let path = named(exchange, parts.uri.path());
    let request =
        Source { path: &path, query: parts.uri.query(), headers: &parts.headers, body: &request_fields };
    let find = |pointer: &Pointer| -> Option<Value> {
        match pointer.selector.find(if pointer.answer { &answer } else { &request }) {
            Found::Value(value) => Some(value),
            Found::Missing | Found::Unreadable(_) => None,
        }
    };
    let unique = find(&detect.unique)?;
    let within: Vec<Value> = detect.within.iter().map(find).collect::<Option<_>>()?;
    let mut keys = Vec::with_capacity(within.len() + 1);
    for value in std::iter::once(&unique).chain(&within) {
        let mut key = Vec::new();
        value.push_key(&mut key);
        keys.push(key);
    }
    let shown: Vec<String> = within.iter().map(Value::shown).collect();
    Some(Seen {
        key: AnswerKey(exchange.shared().digest.answer_id(&detect.name, &keys)),
        value: short(unique.shown()),
        within: short(shown.join(", ")),
    })
}

/// Compares with what was seen before, in a task that nobody waits for.
pub fn tell_of_duplicates(exchange: &Exchange, id: RecordId, seen: Seen, detect: &Detect) {
    let (shared, window) = (exchange.worker.shared.clone(), detect.window);
    let route = exchange.rules().name.clone();
    let request_id = exchange.request_id.to_str().unwrap_or_default().to_owned();
    tokio::task::spawn_local(async move {
        let Seen { key, value, within } = seen;
        let sighting = Sighting { key, request_id: request_id.clone(), window };
        match shared.store.sighted(sighting).await {
            Ok(Some(first_request_id)) => shared.journal.event(Event::DuplicateAnswer {
                route,
                id,
                request_id: request_id.into(),
                first_request_id,
                value,
                within,
            }),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "an answer could not be compared with others"),
        }
    });
}

fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(SHOWN_MAX));
    text
}
