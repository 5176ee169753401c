//! A guarded write: claimed before anything leaves, executed once, answered from the record ever after.

use super::attempt::Attempt;
use super::body::RequestBody;
use super::clock;
use super::exchange::{Exchange, Outcome};
use super::forward;
use super::headers::IDEMPOTENT_STORED;
use super::identity::Shown;
use super::key::idempotency_key;
use super::respond::{self, Copy};
use super::upstream::Permit;
use super::whole::{Read, read_whole};
use crate::config::{Guard, Idempotency, InDoubtRule, KeyRule, Mode, OnOutage};
use crate::domain::canon;
use crate::domain::client::ScopeId;
use crate::domain::event::{Decision, Event};
use crate::domain::fingerprint::{Fingerprint, MEANING_HEADERS, Parts as Meant};
use crate::domain::ledger::{Claim, Doubt, PolicyVersion, RecordId, Token};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::target::NormalTarget;
use crate::domain::time::Millis;
use crate::store::{About, AttemptEnd, ClaimRequest, Claimed, StoreError, Waiter};
use bytes::Bytes;
use http::Request;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use hyper::body::Incoming;
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// What a guarded request intends, and who intends it.
pub struct Intent {
    /// Which record it is about.
    pub id: RecordId,
    /// What it means.
    pub fingerprint: Fingerprint,
    /// Whether an Idempotency-Key names it.
    pub keyed: bool,
    /// What the caller has shown.
    pub shown: Shown,
    /// Bounds who may ever see the answer.
    pub scope: ScopeId,
}

/// What the gateway does with a request after it asked the store.
enum Verdict {
    /// Execute it, under a claim that was asked for at this moment.
    Execute(Token, Instant),
    /// Answer it without executing.
    Answer(Box<Outcome>),
    /// Refuse it.
    Refuse(Refusal),
    /// Forward it without a claim: the store is away, and the route says so; or the route voids the promise.
    Forward,
}

/// Guards one write, from its head to its answer's.
pub async fn write(exchange: Exchange, parts: Parts, body: Incoming) -> Result<Outcome, Refusal> {
    let rules = exchange.rules();
    let Some(guard) = exchange.guard() else {
        return Err(Refusal::new(Reason::NoRoute, "This route guards nothing."));
    };
    let idempotency = &guard.rules;
    let observing = rules.mode == Mode::Observe;
    if parts.headers.contains_key(header::UPGRADE) {
        return Err(Refusal::new(
            Reason::UpgradeRefused,
            "This route guards its writes; an upgrade would bypass that.",
        ));
    }
    // Shed before the claim: a request that cannot be forwarded must not leave a record behind.
    let permit = exchange.admit()?;
    let key = named(idempotency, &parts, observing)?;
    // The whole body before the claim: a client that leaves in the middle claims nothing.
    let body_timeout = exchange.shared().policy.config().server.body_timeout;
    let body = match read_whole(body, rules.body_limit, body_timeout, &exchange.worker.deadlines).await? {
        Read::Whole(body) => body,
        Read::TooLarge(prefixed) if observing => {
            let request = Request::from_parts(parts, prefixed);
            return forward::pass(&exchange, permit, request, None, Decision::WouldRefuse).await;
        }
        Read::TooLarge(_) => return Err(too_large(rules.body_limit)),
    };
    let Some(intent) = intent(&exchange, guard, &parts, key, &body)? else {
        // A GraphQL query: it changes nothing, so there is nothing to guard.
        return whole(&exchange, permit, parts, body, Decision::Passed).await;
    };
    let scope = intent.scope;
    let outcome = match verdict(&exchange, idempotency, &parts, &intent).await {
        Verdict::Execute(token, claimed) => {
            execute(exchange, permit, parts, body, intent, (token, claimed)).await
        }
        verdict if observing => {
            let decision =
                if let Verdict::Forward = verdict { Decision::Unguarded } else { Decision::WouldRefuse };
            whole(&exchange, permit, parts, body, decision).await
        }
        Verdict::Answer(outcome) => Ok(*outcome),
        Verdict::Refuse(refusal) => Err(refusal),
        Verdict::Forward => {
            let outcome = whole(&exchange, permit, parts, body, Decision::Unguarded).await;
            outcome.map(unstored)
        }
    };
    outcome.map(|outcome| Outcome { scope: Some(scope), ..outcome })
}

/// The key that names the intent, as the route wants it.
fn named(idempotency: &Idempotency, parts: &Parts, observing: bool) -> Result<Option<Vec<u8>>, Refusal> {
    if idempotency.key == KeyRule::Fingerprint {
        return Ok(None);
    }
    match idempotency_key(&parts.headers) {
        Ok(None) if idempotency.key == KeyRule::Header && !observing => Err(Refusal::new(
            Reason::KeyMissing,
            "This route wants an Idempotency-Key header: a new value for every new intent, the same value for every retry.",
        )),
        Ok(key) => Ok(key),
        Err(_) if observing => Ok(None),
        Err(why) => Err(Refusal::new(Reason::KeyMalformed, format!("The Idempotency-Key header: {why}."))),
    }
}

/// What the request means and which record that is; `None` where it means to read.
fn intent(
    exchange: &Exchange,
    guard: &Guard,
    parts: &Parts,
    key: Option<Vec<u8>>,
    body: &Bytes,
) -> Result<Option<Intent>, Refusal> {
    let shared = exchange.shared();
    let rules = exchange.rules();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let target = &NormalTarget::parse(target)
        .map_err(|problem| Refusal::new(Reason::BadTarget, problem.to_string()))?;
    let (content_type, content_encoding) =
        (joined(&parts.headers, "content-type"), joined(&parts.headers, "content-encoding"));
    let input = canon::BodyInput {
        content_type: content_type.as_deref(),
        content_encoding: content_encoding.as_deref(),
        query: target.query(),
        body,
    };
    let meaning = canon::meaning(&input, &guard.meaning);
    if meaning.read && !parts.method.is_safe() {
        return Ok(None);
    }
    let shown = exchange.shown(&parts.headers);
    let scope = shown.scope(&shared.digest, key.as_deref(), exchange.address);
    let scope = shared.store.scope_of(scope);
    let headers: Vec<(&str, Cow<'_, [u8]>)> =
        MEANING_HEADERS.iter().filter_map(|name| Some((*name, joined(&parts.headers, name)?))).collect();
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
    let fingerprint = shared.digest.fingerprint(&Meant {
        scope: &scope,
        route: &rules.name,
        method: &parts.method,
        authority: parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
        target,
        meaning: &meaning,
        headers: &headers,
    });
    let id = shared.digest.record_id(&rules.name, &scope, key.as_deref(), &fingerprint);
    Ok(Some(Intent { id, fingerprint, keyed: key.is_some(), shown, scope }))
}

/// A header's value; several lines of it as one list, which is what they mean (RFC 9110, 5.3).
fn joined<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let first = Cow::Borrowed(lines.next()?.as_bytes());
    Some(lines.fold(first, |list, line| Cow::Owned([&list[..], b", ", line.as_bytes()].concat())))
}

/// Asks the store, and waits for an attempt in flight, until it is clear what to do.
async fn verdict(exchange: &Exchange, idempotency: &Idempotency, parts: &Parts, intent: &Intent) -> Verdict {
    let patience = clock::now() + idempotency.wait;
    let token = exchange.worker.new_token();
    loop {
        let request = claim(exchange, idempotency, parts, intent, token);
        let asked = clock::now();
        match exchange.shared().store.claim(request).await {
            Ok(Claimed::Granted) => return Verdict::Execute(token, asked),
            Ok(Claimed::Done(answer)) => {
                tell_duplicate(exchange, &parts.headers, intent);
                return answered(Decision::Replayed, respond::replay(&answer, Copy::Late));
            }
            Ok(Claimed::InFlight(waiter)) => {
                if let Some(verdict) =
                    wait(exchange, idempotency, (&parts.headers, intent), waiter, patience).await
                {
                    return verdict;
                }
            }
            Ok(Claimed::OtherMeaning) => return Verdict::Refuse(key_reused()),
            Ok(Claimed::InDoubt { since, until, why }) => return in_doubt(idempotency, since, until, why),
            Ok(Claimed::OverQuota) => return Verdict::Refuse(over_quota(exchange)),
            Err(error) => return outage(exchange, &error),
        }
    }
}

/// Waits for the attempt in flight; `None` where it ended without an answer and this copy may claim anew.
async fn wait(
    exchange: &Exchange,
    idempotency: &Idempotency,
    (headers, intent): (&HeaderMap, &Intent),
    waiter: Waiter,
    patience: Instant,
) -> Option<Verdict> {
    match waiter.ended(patience.saturating_duration_since(clock::now())).await {
        Some(AttemptEnd::Answered(answer)) => {
            tell_duplicate(exchange, headers, intent);
            Some(answered(Decision::Joined, respond::replay(&answer, Copy::Waited)))
        }
        Some(AttemptEnd::InDoubt { since, until, why }) => Some(in_doubt(idempotency, since, until, why)),
        Some(AttemptEnd::NotExecuted) if clock::now() < patience => None,
        Some(AttemptEnd::NotExecuted) | None => Some(Verdict::Refuse(still_in_flight())),
    }
}

fn claim(
    exchange: &Exchange,
    idempotency: &Idempotency,
    parts: &Parts,
    intent: &Intent,
    token: Token,
) -> ClaimRequest {
    let shared = exchange.shared();
    let rules = exchange.rules();
    let store = &shared.policy.config().store;
    let claim = Claim {
        fingerprint: intent.fingerprint,
        keyed: intent.keyed,
        policy: exchange.guard().map_or(PolicyVersion(0), |guard| guard.version),
        scope: intent.scope,
        target: exchange.target(parts.uri.path()),
        token,
        owner: shared.store.owner(),
        lease: store.lease,
        // No lane to wait for: the first byte follows the claim, so one durable step says both.
        sent: true,
        in_doubt_for: idempotency.in_doubt_for,
    };
    let about = About {
        route: rules.name.clone(),
        request: format!("{} {}", parts.method, parts.uri.path()),
        request_id: exchange.request_id.to_str().unwrap_or_default().to_owned(),
    };
    ClaimRequest { id: intent.id, claim, quota: store.records_per_scope, about }
}

/// Executes the claimed write in a task of its own: the client going away changes nothing once it was claimed.
async fn execute(
    exchange: Exchange,
    permit: Permit,
    parts: Parts,
    body: Bytes,
    intent: Intent,
    (token, claimed): (Token, Instant),
) -> Result<Outcome, Refusal> {
    let attempt = Attempt::new(Rc::new(exchange), intent, token, claimed);
    let told = attempt.start(permit, Request::from_parts(parts, RequestBody::whole(body)));
    match told.await {
        Ok(outcome) => Ok(outcome),
        // The task died. Whether it had sent anything is not known here, so nobody may send it again.
        Err(_) => {
            Err(Refusal::new(Reason::OutcomeUnknown, "The gateway failed while it executed this request.")
                .with_status(502))
        }
    }
}

/// Forwards a request whose body was read whole, without a claim.
async fn whole(
    exchange: &Exchange,
    permit: Permit,
    parts: Parts,
    body: Bytes,
    decision: Decision,
) -> Result<Outcome, Refusal> {
    let mut parts = parts;
    parts.headers.remove(header::TRANSFER_ENCODING);
    forward::pass(exchange, permit, Request::from_parts(parts, RequestBody::whole(body)), None, decision)
        .await
}

fn answered(decision: Decision, response: http::Response<super::body::ResponseBody>) -> Verdict {
    Verdict::Answer(Box::new(Outcome { response, decision, upstream: None, scope: None }))
}

/// Says in the answer that no record stands behind it.
fn unstored(mut outcome: Outcome) -> Outcome {
    outcome.response.headers_mut().insert(IDEMPOTENT_STORED, HeaderValue::from_static("false"));
    outcome
}

fn tell_duplicate(exchange: &Exchange, headers: &HeaderMap, intent: &Intent) {
    exchange.shared().journal.event(Event::Duplicate {
        route: exchange.rules().name.clone(),
        id: intent.id,
        request_id: exchange.request_id.to_str().unwrap_or_default().into(),
        original_request_id: None,
        scope: intent.scope,
        client: exchange.client(headers),
    });
}

// === refusals ===

fn too_large(limit: u64) -> Refusal {
    let detail = format!(
        "The body of a guarded request is read whole before it is forwarded; this route allows {limit} bytes."
    );
    Refusal::new(Reason::BodyTooLarge, detail).closing()
}

fn key_reused() -> Refusal {
    Refusal::new(
        Reason::KeyReused,
        "The same Idempotency-Key came with a different request before. Nothing was executed. Use a new key for a new intent.",
    )
}

fn still_in_flight() -> Refusal {
    Refusal::new(
        Reason::InFlight,
        "The same request came before and is still being processed. It is not executed again.",
    )
    .retry_after(Duration::from_secs(2))
}

fn over_quota(exchange: &Exchange) -> Refusal {
    let quota = exchange.shared().policy.config().store.records_per_scope;
    let detail = format!(
        "The gateway remembers at most {quota} requests of one caller at a time; nothing was executed."
    );
    Refusal::new(Reason::OverQuota, detail).retry_after(Duration::from_secs(60))
}

/// What is said of an outcome that nobody knows, whoever asks.
pub fn outcome_unknown(since: Millis, until: Millis, why: Doubt) -> Refusal {
    let what = match why {
        Doubt::ConnectionLost => "the backend closed the connection before it answered",
        Doubt::TimedOut => "the backend did not answer in time",
        Doubt::AnswerTruncated => "the backend broke off in the middle of its answer",
        Doubt::LeaseEnded => "the gateway that sent it stopped watching it",
        Doubt::OwnerDied => "the gateway that sent it was stopped",
    };
    let detail = format!(
        "This request was sent to the backend, and {what}. It may have been executed, so it is not sent again. Look \
         whether its effect exists; a late answer of the backend or an operator (oncegate claims resolve) settles it."
    );
    Refusal::new(Reason::OutcomeUnknown, detail).in_doubt(since, until, why)
}

fn in_doubt(idempotency: &Idempotency, since: Millis, until: Millis, why: Doubt) -> Verdict {
    match idempotency.in_doubt {
        InDoubtRule::Refuse => Verdict::Refuse(outcome_unknown(since, until, why)),
        InDoubtRule::Forward => Verdict::Forward,
    }
}

fn outage(exchange: &Exchange, error: &StoreError) -> Verdict {
    match exchange.guard().map_or(OnOutage::Refuse, |guard| guard.on_outage) {
        OnOutage::Forward => Verdict::Forward,
        OnOutage::Refuse => Verdict::Refuse(
            Refusal::new(
                Reason::StoreUnavailable,
                format!("Nothing was sent to the backend, because it could not be made sure that it is sent once: {error}."),
            )
            .retry_after(Duration::from_secs(5)),
        ),
    }
}
