//! What is recorded of a write that was executed, and what follows from it in the same durable step.

use super::changes::{changes_below, changes_target, destination};
use super::clock;
use super::exchange::Exchange;
use super::forward::STORE_PATIENCE;
use super::guard::Intent;
use super::made::made;
use super::slots::Answered;
use crate::config::Idempotency;
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::ledger::Token;
use crate::domain::says::Says;
use crate::store::{Completion, EndIntents};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Uri, response};
use std::pin::pin;
use std::time::Duration;

/// The request as far as it matters after it was sent.
pub struct Asked {
    /// The method that its success counts as.
    pub method: Method,
    /// Its target, in normal form.
    pub uri: Uri,
    /// The path that a COPY or MOVE makes.
    pub destination: Option<String>,
}

// === impl Asked ===

impl Asked {
    /// Of a request with these.
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Asked {
        Asked { method: method.clone(), uri: uri.clone(), destination: destination(method, uri, headers) }
    }
}

/// What else a success has changed: the intents that end there. The record of the write itself holds those of its target;
/// these are told before it, because a crash in between must not leave a record of something that ended nothing.
pub fn ends_beside(
    exchange: &Exchange,
    intent: &Intent,
    status: StatusCode,
    asked: &Asked,
) -> Option<EndIntents> {
    let path = asked.destination.as_deref().filter(|_| Says::of(status).is_success())?;
    Some(exchange.ends(path, intent.counted, Some(intent.fingerprint), true))
}

/// The completion of the attempt `token` with `answer`, whose head is `head`.
pub fn completion(
    exchange: &Exchange,
    intent: &Intent,
    token: Token,
    answer: Answer,
    head: &response::Parts,
    asked: &Asked,
) -> Completion {
    let kept = |rules: &Idempotency| if intent.keyed { rules.remember } else { rules.remember_fingerprint };
    let keep = exchange.guard().map_or(Duration::ZERO, |guard| kept(&guard.rules));
    let made = (!intent.keyed && asked.method == Method::POST && Says::of(head.status).is_success())
        .then(|| made(exchange, asked.uri.path(), (&head.headers, &answer)));
    let names = made.flatten();
    let ends = (changes_target(&asked.method) && Says::of(head.status).is_success())
        .then(|| (asked.uri.path(), changes_below(&asked.method)))
        .map(|(path, below)| exchange.ends(path, intent.counted, Some(intent.fingerprint), below));
    if !intent.keyed {
        exchange.shared().below.note(asked.uri.path().trim_end_matches('/'), clock::recent(), keep);
    }
    let renewed = renewed_scope(exchange, intent, &head.headers);
    let alias = renewed.map(|scope| (scope, exchange.shared().policy.longest_record()));
    let body = answer.body();
    let read = Answered {
        status: head.status,
        headers: &head.headers,
        body: (!answer.is_tombstone()).then_some(&body[..]),
    };
    let (slots, frees) = (intent.slots.settlement(exchange, read), intent.slots.frees(exchange, read));
    Completion { id: intent.id, token, answer, keep, ends, names, alias, slots, frees }
}

/// The scope that a caller shows since its cookies were renewed stands for its first one as long as a record that is made
/// through it.
pub async fn outlast(exchange: &Exchange, shows: ScopeId, scope: ScopeId) {
    let shared = exchange.shared();
    let kept = pin!(shared.store.alias(shows, scope, shared.policy.longest_record()));
    let kept = exchange.worker.deadlines.within(clock::recent() + STORE_PATIENCE, kept).await;
    if !matches!(kept, Some(Ok(()))) {
        tracing::warn!(request_id = ?exchange.request_id, "how long a renewed session counts could not be prolonged");
    }
}

/// The scope that the caller will have after this answer, where the answer renews its own cookie.
fn renewed_scope(exchange: &Exchange, intent: &Intent, answer: &HeaderMap) -> Option<ScopeId> {
    if !answer.contains_key(header::SET_COOKIE) {
        return None;
    }
    let renewed = intent.shown.renewed(answer, exchange.wall_clock())?;
    Some(renewed.scope(&exchange.shared().digest, None, exchange.address))
}
