//! Unguarded requests: forwarded as they come, streamed both ways.

use super::body::{Outgoing, ResponseBody};
use super::carried::{Carried, Died};
use super::changes::{changes_below, changes_target, destination, is_unsafe_change};
use super::clock;
use super::connection::Connection;
use super::exchange::{Exchange, Outcome, Room};
use super::headers::first_of;
use super::identity::{Shown, shown};
use super::slots;
use super::upload::Upload;
use super::upstream::{Failure, Flight, Hearing, Permit, Reply, Reuse, UpstreamBody, send};
use super::worker::{Running, Worker};
use crate::domain::event::Decision;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::route::is_safe;
use crate::domain::says::Says;
use crate::store::{EndIntents, StoreError};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, response};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long a request waits for the store before it goes on without, or is refused.
pub const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// A backend's answer to an unguarded request.
pub struct Answered {
    /// Status and end-to-end headers.
    pub head: response::Parts,
    /// The rest as it comes.
    pub body: UpstreamBody,
    /// From the first byte to the backend to the head.
    pub upstream: Option<Duration>,
}

/// Forwards a request without a claim.
pub async fn pass(
    exchange: &Exchange,
    permit: Permit,
    request: Outgoing,
    upload: Option<Rc<Upload>>,
    reuse: Reuse,
    decision: Decision,
) -> Result<Outcome, Refusal> {
    // Boxed, as all that few requests do: the others would be copied with room for it.
    let mut writing = match is_safe(exchange.counts_as(request.method())) || exchange.reads().is_none() {
        true => None,
        false => Box::pin(exchange.writing(&request)).await,
    };
    let hearing = exchange.hears_interims();
    let answered = ask(exchange, permit, request, upload, reuse, hearing).await;
    let Answered { head, body, upstream } = answered.inspect_err(|refusal| {
        if let Some(writing) = writing.as_mut().filter(|_| refusal.reason == Reason::UpstreamUnreachable) {
            writing.not_sent();
        }
    })?;
    let mut body = ResponseBody::stream(body);
    if let Some(writing) = &mut writing {
        writing.answered(exchange, head.status, &head.headers);
    }
    body.end_with(writing);
    Ok(Outcome { upstream, ..Outcome::new(Response::from_parts(head, body), decision) })
}

/// The same for whoever may leave: where its success has consequences here, it runs to its answer's head all the same, so that
/// a cancellation counts although its client has left. `room`: what its body takes meanwhile.
pub async fn carried(
    exchange: Exchange,
    permit: Permit,
    (request, upload): (Outgoing, Option<Rc<Upload>>),
    reuse: Reuse,
    decision: Decision,
    room: Option<Room>,
) -> Result<Outcome, Refusal> {
    let changes = is_unsafe_change(exchange.counts_as(request.method()));
    if !changes && exchange.rules().slots.releases.is_empty() {
        let outcome = pass(&exchange, permit, request, upload, reuse, decision).await;
        drop(room);
        return outcome;
    }
    let worker = exchange.worker.clone();
    outlasting(&worker, |tell| async move {
        // Whoever has left is not told.
        let _ = tell.send(pass(&exchange, permit, request, upload, reuse, decision).await);
        drop(room);
    })
    .await
}

/// Runs `work`, which tells its client the outcome, to its end whether the client stays or not; a drain waits for it.
pub async fn outlasting<W: Future<Output = ()> + 'static>(
    worker: &Rc<Worker>,
    work: impl FnOnce(oneshot::Sender<Result<Outcome, Refusal>>) -> W,
) -> Result<Outcome, Refusal> {
    let running = Running::new(worker);
    let (tell, told) = oneshot::channel();
    let work = work(tell);
    let work = Box::pin(async move {
        work.await;
        drop(running);
    });
    Carried::new(work, told).await.unwrap_or_else(|Died| {
        Err(Refusal::new(Reason::UpstreamFailed, "The gateway failed while it forwarded this request."))
    })
}

/// The same as [`pass`], with the answer as it came. Interim answers go to the client of `hearing`, where there is one that still waits.
pub async fn ask(
    exchange: &Exchange,
    permit: Permit,
    request: Outgoing,
    upload: Option<Rc<Upload>>,
    reuse: Reuse,
    hearing: Option<Rc<Connection>>,
) -> Result<Answered, Refusal> {
    // What the answer may have consequences for is looked at before the request is gone.
    let method = exchange.counts_as(request.method());
    let changed = changed_paths(method, &request);
    let renews = request.method().is_safe() && first_of(request.headers(), &header::COOKIE).is_some();
    let caller = (!changed.is_empty() || renews).then(|| exchange.shown(request.headers()));
    let frees = slots::frees_of_head(exchange, method, request.uri(), request.headers());
    let held = upload.clone().filter(|upload| upload.is_held());
    let hears_continue = exchange.hears_continue;
    let flight = Flight::heard_by(Hearing { client: hearing, hears_continue, upload: held.clone() })
        .saying(exchange.own_lines.take())
        .until(exchange.pool().upstream.ends(clock::recent()));
    let reply = head_in_time(exchange, permit, request, upload, reuse, &flight).await?;
    let upstream = flight.sent_at().map(|sent| clock::now().saturating_duration_since(sent));
    let Reply { mut head, body } = *reply;
    // What is kept for others says nothing of this connection.
    exchange.strip_answer(&mut head.headers, exchange.goes_on && exchange.reads().is_none());
    if held.is_some_and(|upload| upload.is_held()) {
        // The backend answered without asking for the body: the client will hardly send it, so the connection ends.
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let says = Says::of(head.status);
    if says.is_success() {
        let ends = |(path, below): (String, bool)| Some(ends_of(exchange, &path, caller.as_ref()?, below));
        let mut ends = changed.into_iter().filter_map(ends);
        if !frees.is_empty() && exchange.rules().slots.may_release(says) {
            Box::pin(slots::release(exchange, frees, ends.next())).await;
        }
        for ends in ends {
            Box::pin(end_intents(exchange, ends)).await;
        }
    }
    // A redirect or a refusal that changes cookies may be a login, a logout or a session that is over.
    let is_plain = head.status.is_success() || head.status == StatusCode::NOT_MODIFIED;
    if let Some(caller) = caller.filter(|_| renews && is_plain) {
        keep_scope(exchange, &caller, &head.headers);
    }
    Ok(Answered { head, body, upstream })
}

/// Sends, and waits for the head of the answer. While the request's body still moves, the backend is given time; the
/// deadline counts from the last movement. Where the upstream says how long a whole exchange may take, no longer than that.
async fn head_in_time(
    exchange: &Exchange,
    permit: Permit,
    request: Outgoing,
    upload: Option<Rc<Upload>>,
    reuse: Reuse,
    flight: &Flight,
) -> Result<Box<Reply>, Refusal> {
    let timeout = exchange.rules().timeout;
    let mut sending = pin!(send(exchange.pool(), permit, request, reuse, flight, |_| true));
    let mut deadline = flight.by(clock::recent() + timeout);
    loop {
        match exchange.worker.deadlines.within(deadline, &mut sending).await {
            Some(Ok(reply)) => return Ok(reply),
            Some(Err(failure)) => return Err(refused(failure)),
            None => match upload.as_ref().and_then(|upload| upload.moved_at()) {
                Some(moved) if flight.by(moved + timeout) > deadline => deadline = flight.by(moved + timeout),
                _ => {
                    let total =
                        exchange.pool().upstream.config.total.filter(|_| flight.ends() == Some(deadline));
                    let waited = total.unwrap_or(timeout);
                    let paused = upload.is_some_and(|upload| upload.waits_for_client());
                    return Err(match flight.sent_at() {
                        Some(_) if paused && total.is_none() => client_too_slow(waited),
                        sent => too_slow(sent, waited),
                    });
                }
            },
        }
    }
}

/// What the client is told of an exchange that failed.
pub fn refused(failure: Failure) -> Refusal {
    match failure {
        Failure::Ambiguous(problem) => problem.refusal_of_answer(),
        Failure::NotSent(why) => unreachable_backend(&why),
        Failure::Lost(why) => Refusal::new(
            Reason::UpstreamFailed,
            format!(
                "The backend broke off the exchange before it answered; it may have acted on the request. ({why})"
            ),
        ),
    }
}

/// Known not executed: nothing was sent.
pub fn unreachable_backend(why: &str) -> Refusal {
    let detail = format!("Nothing was sent to the backend, so nothing was executed; try again. ({why})");
    Refusal::new(Reason::UpstreamUnreachable, detail).retry_after(Duration::from_secs(1))
}

/// What the client is told where no answer came in time.
pub fn too_slow(sent: Option<Instant>, timeout: Duration) -> Refusal {
    match sent {
        None => unreachable_backend("no connection in time"),
        Some(_) => Refusal::new(
            Reason::UpstreamTimeout,
            format!("The backend did not answer within {timeout:?}; it may still act on the request."),
        ),
    }
}

/// What the client is told where the backend could not answer yet, because the request's body did not go on.
fn client_too_slow(timeout: Duration) -> Refusal {
    let detail = format!(
        "Of the request's body nothing more came for {timeout:?}; the backend has been sent a part of it, and may act on that."
    );
    Refusal::new(Reason::BodyTimeout, detail).closing()
}

/// The paths of what a success of `request` as a `method` changes, each with whether it changes what lies below.
fn changed_paths<B>(method: &Method, request: &Request<B>) -> Vec<(String, bool)> {
    let target = request.uri();
    let own = changes_target(method).then(|| (target.path().to_owned(), changes_below(method)));
    let made = destination(method, target, request.headers()).map(|path| (path, true));
    own.into_iter().chain(made).collect()
}

/// Durable before the answer goes out: after a cancellation, booking again must reach the backend.
pub async fn end_intents(exchange: &Exchange, ends: EndIntents) {
    let shared = exchange.shared();
    let ended = timeout_at(clock::now() + STORE_PATIENCE, shared.store.end_intents(ends)).await;
    if let Err(error) = ended.unwrap_or_else(|_| Err(StoreError::Unavailable("it does not answer".into()))) {
        tracing::warn!(request_id = ?exchange.request_id, %error, "remembered intents of a changed resource could not be ended");
    }
}

/// The intents that end when `caller` has changed `path`.
fn ends_of(exchange: &Exchange, path: &str, caller: &Shown, below: bool) -> EndIntents {
    let shared = exchange.shared();
    let scope = shared.store.scope_of(caller.counted(&shared.digest, exchange.address));
    exchange.ends(path, scope, None, below)
}

/// A cookie of the caller's own that the answer to a read renews keeps its scope, as far as anything is remembered under
/// it. An unguarded write that changes cookies may be a login or a logout, and then it is somebody else who comes next.
fn keep_scope(exchange: &Exchange, caller: &Shown, answer: &HeaderMap) {
    if !answer.contains_key(header::SET_COOKIE) {
        return;
    }
    let shared = exchange.shared();
    let Some(renewed) = caller.renewed(answer, exchange.wall_clock()) else { return };
    let scope_of = |shown: &Shown| shown.scope(&shared.digest, None, exchange.address);
    let scope = shared.store.scope_of(scope_of(caller));
    if shared.store.may_have_live(scope) {
        let keep = shared.policy.longest_record();
        let (shared, from) = (exchange.worker.shared.clone(), scope_of(&renewed));
        // Nobody waits for it: a read must not wait for a disk.
        tokio::task::spawn_local(async move {
            if let Err(error) = shared.store.alias(from, scope, keep).await {
                tracing::warn!(%error, "a renewed session could not be remembered");
            }
        });
    }
}

impl Exchange {
    /// The store's clock as a calendar knows it, for cookies that expire.
    pub fn wall_clock(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.shared().store.now().0)
    }

    /// See [`shown`].
    pub fn shown(&self, headers: &HeaderMap) -> Shown {
        let shared = self.shared();
        shown(&shared.policy.config().clients, shared.jwt.as_ref(), headers, self.cert.as_ref())
    }
}
