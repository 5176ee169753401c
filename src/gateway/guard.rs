//! A guarded write: claimed before anything leaves, executed once, answered from the record ever after.

use super::attempt::{Attempt, Original};
use super::body::{Outgoing, RequestBody, ResponseBody};
use super::carried::{Carried, Died};
use super::clock;
use super::completion;
use super::duplicate::{remembered, tell_duplicate};
use super::exchange::{Exchange, Outcome, Room};
use super::forward::{self, STORE_PATIENCE};
use super::headers::IDEMPOTENT_STORED;
use super::identity::Shown;
use super::key::idempotency_key;
use super::lane::{InLane, lane_of};
use super::observe;
use super::pending::Pending;
use super::probe;
use super::recover::{self, InDoubt};
use super::refused::{key_reused, over_quota, still_in_flight};
pub use super::refused::{outcome_unknown, store_away, too_large};
use super::replay::Copy;
use super::slots::{self, Obstacle, Slotted};
use super::upload::ClientBody;
use super::upstream::{Permit, Reuse};
use super::whole::{Read, read_whole};
use crate::config::{Guard, Idempotency, InDoubtRule, KeyRule, Mode, OnOutage};
use crate::domain::canon::{self, GraphqlRule, Kind};
use crate::domain::client::ScopeId;
use crate::domain::event::Decision;
use crate::domain::fingerprint::{Fingerprint, MEANING_HEADERS, Parts as Meant, bears_meaning};
use crate::domain::ledger::{Claim, Doubt, PolicyVersion, RecordId, Token};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::target::NormalTarget;
use crate::domain::time::Millis;
use crate::store::{About, AttemptEnd, ClaimRequest, Claimed, StoreError, Waiter};
use bytes::Bytes;
use http::header::{self, AsHeaderName, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response};
use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;
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
    /// Whom the quota counts.
    pub counted: ScopeId,
    /// Whom it shows since its cookies were renewed, where they were.
    pub renewed: Option<ScopeId>,
    /// What it has to do with slots.
    pub slots: Slotted,
}

/// The right to execute a write: a claim, and a place at its backend.
pub struct Granted {
    /// The claim's token.
    pub token: Token,
    /// When the claim was asked for.
    pub claimed: Instant,
    /// The place.
    pub permit: Permit,
}

/// What the gateway does with a request after it asked the store.
enum Verdict {
    /// Execute it.
    Execute(Granted),
    /// Answer it without executing.
    Answer(Outcome),
    /// Refuse it.
    Refuse(Refusal),
    /// Forward it without a claim: the store is away, and the route says so; or the route voids the promise.
    Forward,
}

/// Guards one write, from its head to its answer's.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would hold what it is given twice")]
pub fn write(
    exchange: Exchange,
    parts: Parts,
    body: ClientBody,
) -> impl Future<Output = Result<Outcome, Refusal>> {
    async move {
        let Some(guard) = exchange.guard() else {
            return Err(Refusal::new(Reason::NoRoute, "This route guards nothing."));
        };
        if exchange.rules().mode == Mode::Observe {
            return Box::pin(observe::write(exchange, parts, body)).await;
        }
        let key = named(&guard.rules, &parts)?;
        // The whole body before the claim: a client that leaves in the middle claims nothing.
        let room = exchange.room_for(&body)?;
        let body = match read_body(&exchange, body).await? {
            Read::Whole(body) => body,
            Read::TooLarge(..) => return Err(too_large(exchange.rules().body_limit)),
        };
        exchange.look_for_disguise(&parts, &body);
        let Some(mut intent) = intent(&exchange, guard, &parts, key, &body)? else {
            // A GraphQL query: it changes nothing, so there is nothing to guard.
            return Box::pin(whole(exchange, parts, (body, room), Decision::Passed)).await;
        };
        let scope = intent.scope;
        let lane = lane_of(&exchange, guard, &parts, &body);
        let outcome = match verdict(&exchange, &guard.rules, (&parts, &body), &mut intent).await {
            Verdict::Execute(granted) => {
                execute(exchange, parts, body, (intent, lane), granted).await.map_err(died)
            }
            Verdict::Answer(outcome) => Ok(outcome),
            Verdict::Refuse(refusal) => Err(refusal),
            Verdict::Forward => {
                Box::pin(whole(exchange, parts, (body, room), Decision::Unguarded)).await.map(unstored)
            }
        };
        outcome.map(|outcome| Outcome { scope: Some(scope), ..outcome })
    }
}

// === impl Intent ===

impl Intent {
    /// Says what its claim has to reserve.
    pub async fn plan(&mut self, exchange: &Exchange, parts: &Parts) -> Result<(), Obstacle> {
        if !self.slots.may_reserve() {
            return Ok(());
        }
        // A key of one's own is as good as something shown: nobody else has it.
        let anonymous = self.shown.proves_nothing() && self.scope == self.counted;
        let (scope, fingerprint) = (self.scope, self.fingerprint);
        Box::pin(self.slots.plan(exchange, parts, (scope, &fingerprint.0, anonymous))).await
    }
}

/// Reads the body within the route's limit and the server's deadline.
pub async fn read_body(exchange: &Exchange, body: ClientBody) -> Result<Read, Refusal> {
    let within = exchange.shared().policy.config().server.body_timeout;
    read_whole(body, exchange.rules().body_limit, within, &exchange.worker.deadlines).await
}

/// The key that names the intent, as the route wants it.
pub fn named(idempotency: &Idempotency, parts: &Parts) -> Result<Option<Vec<u8>>, Refusal> {
    if idempotency.key == KeyRule::Fingerprint {
        return Ok(None);
    }
    match idempotency_key(&parts.headers) {
        Ok(None) if idempotency.key == KeyRule::Header => Err(Refusal::new(
            Reason::KeyMissing,
            "This route wants an Idempotency-Key header: a new value for every new intent, the same value for every retry.",
        )),
        Ok(key) => Ok(key),
        Err(why) => Err(Refusal::new(Reason::KeyMalformed, format!("The Idempotency-Key header: {why}."))),
    }
}

/// What the request means and which record that is; `None` where it means to read.
pub fn intent(
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
        (joined(&parts.headers, header::CONTENT_TYPE), joined(&parts.headers, header::CONTENT_ENCODING));
    let input = canon::BodyInput {
        content_type: content_type.as_deref(),
        content_encoding: content_encoding.as_deref(),
        query: target.query(),
        body,
    };
    let mut meaning = canon::meaning(&input, &guard.meaning);
    if meaning.kind == Kind::Graphql && exchange.counts_as(&parts.method) != Method::POST {
        // GraphQL is sent by POST: whoever deletes deletes, whatever the body looks like.
        meaning = canon::meaning(&input, &guard.meaning.clone().with_graphql(GraphqlRule::Off));
    } else if meaning.read {
        // A key says that something is written, such as a query that is to be kept: then it is a body like any other.
        if key.is_none() {
            return Ok(None);
        }
        meaning = canon::meaning(&input, &guard.meaning.clone().with_graphql(GraphqlRule::Off));
    }
    let shown = exchange.shown(&parts.headers);
    let last = &exchange.connection.last_caller;
    let (scope, counted) = shown.scopes(last, &shared.digest, key.as_deref(), exchange.address);
    let shows = counted;
    let (scope, counted) = (shared.store.scope_of(scope), shared.store.scope_of(counted));
    let renewed = (shows != counted).then_some(shows);
    // Few requests have any of them, and one pass over the names finds that out.
    let looked_for = if parts.headers.keys().any(|name| bears_meaning(name.as_str())) {
        &MEANING_HEADERS[..]
    } else {
        &[]
    };
    let headers: Vec<(&str, Cow<'_, [u8]>)> =
        looked_for.iter().filter_map(|name| Some((*name, joined(&parts.headers, *name)?))).collect();
    let headers = headers.iter().map(|(name, value)| (*name, &**value));
    let sent_to = exchange.sent_to.iter().map(|(name, value)| (*name, &**value));
    let headers: Vec<(&str, &[u8])> = headers.chain(sent_to).collect();
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
    let id = shared.store.placed(id, &counted, guard.lane.is_some() || !rules.slots.is_empty());
    let slots = Slotted::read(exchange, parts, body);
    Ok(Some(Intent { id, fingerprint, keyed: key.is_some(), shown, scope, counted, renewed, slots }))
}

/// A header's value; several lines of it as one list, which is what they mean (RFC 9110, 5.3).
pub fn joined(headers: &HeaderMap, name: impl AsHeaderName) -> Option<Cow<'_, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let first = Cow::Borrowed(lines.next()?.as_bytes());
    Some(lines.fold(first, |list, line| Cow::Owned([&list[..], b", ", line.as_bytes()].concat())))
}

/// Asks the store, and waits for an attempt in flight, until it is clear what to do.
async fn verdict(
    exchange: &Exchange,
    idempotency: &Idempotency,
    (parts, body): (&Parts, &Bytes),
    intent: &mut Intent,
) -> Verdict {
    if let Some(answer) = remembered(exchange, idempotency, parts, intent) {
        tell_duplicate(exchange, &parts.headers, intent).await;
        return answered(Decision::Replayed, exchange.replay(&answer, Copy::Late));
    }
    // A copy gets its answer whatever became of the booking since; only what is none has to say which slot it is about.
    let unnamed = match intent.plan(exchange, parts).await {
        Ok(()) => None,
        Err(Obstacle::Refused(refusal)) => {
            intent.slots.only_ask();
            Some(refusal)
        }
        Err(Obstacle::Store(error)) => return outage(exchange, &error),
    };
    let (mut asked, mut probed, mut looks) = (false, false, 1);
    let mut claimed = clock::now();
    let patience = claimed + idempotency.wait;
    let token = exchange.worker.new_token();
    loop {
        // Shed before the claim: a request that cannot be forwarded leaves no record behind. Only a copy goes on without
        // a place, because it needs none; and none is kept while it waits.
        let permit = match exchange.admit() {
            Ok(permit) => Ok(permit),
            Err(_) if matches!(exchange.shared().store.show(intent.id).await, Ok(Some(_))) => {
                exchange.admit()
            }
            Err(_) => match exchange.admit_in_turn(&parts.headers).await {
                Ok(permit) => Ok(permit),
                Err(refusal) => return Verdict::Refuse(refusal),
            },
        };
        match claim(exchange, idempotency, parts, intent, token).await {
            Ok(Claimed::Granted) => match permit {
                Ok(permit) => return Verdict::Execute(Granted { token, claimed, permit }),
                Err(refusal) => {
                    // What it would have been a copy of ended meanwhile. Nothing was sent.
                    let _ = exchange.shared().store.abandon(intent.id, token, None).await;
                    return Verdict::Refuse(refusal);
                }
            },
            Ok(Claimed::Done(answer)) => {
                tell_duplicate(exchange, &parts.headers, intent).await;
                return answered(Decision::Replayed, exchange.replay(&answer, Copy::Late));
            }
            Ok(Claimed::InFlight(waiter)) => {
                drop(permit);
                if let Some(verdict) =
                    wait(exchange, idempotency, (&parts.headers, intent), waiter, patience).await
                {
                    return verdict;
                }
                claimed = clock::now();
            }
            Ok(Claimed::SlotTaken(taken)) => {
                drop(permit);
                // Once: who holds it after that holds it.
                if !probed && Box::pin(probe::frees(exchange, parts, &taken)).await {
                    probed = true;
                    claimed = clock::now();
                    continue;
                }
                slots::tell_taken(exchange, &parts.headers, intent, &taken);
                return Verdict::Refuse(slots::slot_taken(taken));
            }
            Ok(Claimed::SlotChanged) if unnamed.is_some() || looks >= slots::LOOKS_MAX => {
                return Verdict::Refuse(unnamed.unwrap_or_else(slots::booking_busy));
            }
            Ok(Claimed::SlotChanged) => {
                looks += 1;
                match intent.plan(exchange, parts).await {
                    Ok(()) => {}
                    Err(Obstacle::Refused(refusal)) => return Verdict::Refuse(refusal),
                    Err(Obstacle::Store(error)) => return outage(exchange, &error),
                }
            }
            Ok(Claimed::OtherMeaning) => return Verdict::Refuse(key_reused()),
            Ok(Claimed::InDoubt { token, since, until, why }) => {
                drop(permit);
                let doubt = InDoubt { token, since, why };
                // Once: what the answer says next is what this copy is told.
                if asked || !Box::pin(recover::ask_about(exchange, (parts, body), intent, &doubt)).await {
                    return in_doubt(idempotency, since, until, why);
                }
                asked = true;
                claimed = clock::now();
            }
            Ok(Claimed::OverQuota) => return Verdict::Refuse(over_quota(exchange)),
            Err(error) => return outage(exchange, &error),
        }
    }
}

/// Claims. Where the client leaves meanwhile, or the store does not answer in time, the claim is given up: nothing was
/// sent under it, so nobody has to wonder.
pub async fn claim(
    exchange: &Exchange,
    idempotency: &Idempotency,
    parts: &Parts,
    intent: &Intent,
    token: Token,
) -> Result<Claimed, StoreError> {
    let request = claim_request(exchange, idempotency, parts, intent, token);
    let pending = Pending::new(exchange, intent.id, token);
    let deadlines = &exchange.worker.deadlines;
    let claimed = deadlines
        .within(clock::recent() + STORE_PATIENCE, pin!(exchange.shared().store.claim(Box::new(request))))
        .await;
    let Some(claimed) = claimed else {
        return Err(StoreError::Unavailable(format!("it does not answer within {STORE_PATIENCE:?}")));
    };
    if let (Some(shows), Ok(Claimed::Granted)) = (intent.renewed, &claimed) {
        // The client may leave here too.
        completion::outlast(exchange, shows, intent.counted).await;
    }
    // Where nobody knows what became of it, it may have been granted.
    if !matches!(claimed, Err(StoreError::Unavailable(_))) {
        pending.answered();
    }
    claimed
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
            tell_duplicate(exchange, headers, intent).await;
            Some(answered(Decision::Joined, exchange.replay(&answer, Copy::Waited)))
        }
        Some(AttemptEnd::InDoubt { since, until, why }) => Some(in_doubt(idempotency, since, until, why)),
        Some(AttemptEnd::NotExecuted) if clock::now() < patience => None,
        Some(AttemptEnd::NotExecuted) | None => Some(Verdict::Refuse(still_in_flight())),
    }
}

/// What it claims under `token`.
pub fn claim_request(
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
        scope: intent.counted,
        target: exchange.own_target(parts.uri.path()),
        token,
        owner: shared.store.owner(),
        lease: store.lease,
        // Without a lane to wait for the first byte follows the claim, so one durable step says both. Who only observes
        // waits for nothing.
        sent: rules.mode == Mode::Observe || !exchange.has_lane(),
        in_doubt_for: idempotency.in_doubt_for,
    };
    let about = About {
        route: rules.name.clone(),
        request: [parts.method.as_str(), " ", parts.uri.path()].concat(),
        request_id: exchange.request_id.to_str().unwrap_or_default().to_owned(),
    };
    ClaimRequest {
        id: intent.id,
        claim,
        quota: store.records_per_scope,
        about,
        slots: intent.slots.wanted.clone(),
        above: if intent.keyed { None } else { exchange.above(parts.uri.path()) },
    }
}

/// Executes the claimed write: the client going away changes nothing once it was claimed.
fn execute(
    exchange: Exchange,
    parts: Parts,
    body: Bytes,
    (intent, lane): (Intent, Option<Box<InLane>>),
    granted: Granted,
) -> Carried<Outcome> {
    let Granted { token, claimed, permit } = granted;
    let original = exchange.guard().filter(|guard| guard.needs_request());
    let original = original.map(|_| Box::new(Original { parts: parts.clone(), body: body.clone() }));
    let attempt = Attempt::new(Rc::new(exchange), intent, token, claimed, (lane, original));
    attempt.start(permit, request_of(parts, body))
}

/// The attempt died. Whether it had sent anything is not known here, so nobody may send it again.
fn died(_: Died) -> Refusal {
    Refusal::new(Reason::OutcomeUnknown, "The gateway failed while it executed this request.")
        .with_status(502)
}

/// The request with its body read whole: its length is known now, and said where a backend may insist on it.
pub fn request_of(mut parts: Parts, body: Bytes) -> Outgoing {
    if parts.headers.remove(header::TRANSFER_ENCODING).is_some() {
        parts.headers.remove(header::TRAILER);
        if body.is_empty() {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }
    Box::new(Request::from_parts(parts, RequestBody::whole(body)))
}

/// Forwards a request whose body was read whole, without a claim. A route that guards a GET says that it may create
/// something, so it is sent like a write.
pub async fn whole(
    exchange: Exchange,
    parts: Parts,
    (body, room): (Bytes, Room),
    decision: Decision,
) -> Result<Outcome, Refusal> {
    let permit = exchange.admit_in_turn(&parts.headers).await?;
    let request = request_of(parts, body);
    forward::carried(exchange, permit, (request, None), Reuse::Recent, decision, Some(room)).await
}

fn answered(decision: Decision, (response, lines): (Response<ResponseBody>, Vec<u8>)) -> Verdict {
    Verdict::Answer(Outcome { lines, ..Outcome::new(response, decision) })
}

/// Says in the answer that no record stands behind it.
fn unstored(mut outcome: Outcome) -> Outcome {
    outcome.response.headers_mut().insert(IDEMPOTENT_STORED, HeaderValue::from_static("false"));
    outcome
}

fn in_doubt(idempotency: &Idempotency, since: Millis, until: Millis, why: Doubt) -> Verdict {
    match idempotency.in_doubt {
        InDoubtRule::Refuse | InDoubtRule::Recover => Verdict::Refuse(outcome_unknown(since, until, why)),
        InDoubtRule::Forward => Verdict::Forward,
    }
}

fn outage(exchange: &Exchange, error: &StoreError) -> Verdict {
    match exchange.guard().map_or(OnOutage::Refuse, |guard| guard.on_outage) {
        OnOutage::Forward => Verdict::Forward,
        OnOutage::Refuse => Verdict::Refuse(store_away(error)),
    }
}
