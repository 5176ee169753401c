//! One exchange, from the request's head to the answer's, on one screen.

use super::answering::Answering;
use super::asked;
use super::body::{RequestBody, ResponseBody};
use super::caller::{Caller, caller};
use super::connection::Connection;
use super::disguise::{self, Meant};
use super::forward;
use super::guard;
use super::h2;
use super::headers::{Found, RATELIMIT, RATELIMIT_POLICY, strip_hop_by_hop, strip_hop_by_hop_of_answer};
use super::identity::client_address;
use super::line::Line;
use super::look_alikes;
use super::own_lines::OwnLines;
use super::reads;
use super::tell;
use super::throttle::{self, Flight, Gate, Waits};
use super::tls::Principal;
use super::upgrade;
use super::upload::ClientBody;
use super::upstream::{OriginalTarget, Permit, Pool, Reuse};
use super::worker::{Shared, Worker};
use crate::config::{Guard, RoutePolicy};
use crate::domain::client::ScopeId;
use crate::domain::event::{Decision, Event};
use crate::domain::ledger::{Doubt, RecordId};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::route::is_safe;
use crate::domain::target::NormalTarget;
use futures_util::FutureExt;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What every step of one exchange needs to know.
pub struct Exchange {
    /// Whose exchange it is.
    pub worker: Rc<Worker>,
    /// Index of the matched route.
    pub route: usize,
    /// The route's pattern that matched.
    pub pattern: usize,
    /// Whether the route guards this request.
    pub guarded: bool,
    /// The method that it asks for beside its own, as far as its success counts as another's.
    pub disguise: OnceCell<Method>,
    /// The same in the answer, the log, and the backend's request.
    pub request_id: HeaderValue,
    /// The client's address: the rightmost untrusted hop.
    pub address: IpAddr,
    /// Whom the connection's certificate proves the client to be.
    pub cert: Option<Principal>,
    /// Where its client is.
    pub connection: Rc<Connection>,
    /// What the client speaks.
    pub version: Version,
    /// What the backend is told besides the headers, once.
    pub own_lines: Cell<Option<OwnLines>>,
    /// Where it was sent to, as far as a trusted proxy says more of it than `Host` does. Only of what is guarded.
    pub sent_to: Box<[(&'static str, Vec<u8>)]>,
    /// Its place among the client's requests in flight, which it has in common with its answer: what goes on at the backend
    /// after its client has left still counts.
    pub flight: Cell<Option<Rc<Flight>>>,
    /// It has an `Origin`: a browser says which page asks.
    pub of_page: bool,
    /// Its connection goes on behind this exchange, as far as the client is concerned, and may be told so.
    pub goes_on: bool,
    /// It waits for `100 Continue` although it has no body to send: a word of the backend's that it gets.
    pub hears_continue: bool,
}

/// Memory that a body takes while it is held whole.
pub struct Room {
    bytes: u64,
    worker: Rc<Worker>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.worker.shared.body_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// How an exchange ended, up to the answer's head.
pub struct Outcome {
    /// What goes to the client. Boxed: an outcome is handed up through many futures, and each copies it.
    pub response: Box<Response<ResponseBody>>,
    /// What its head says besides the headers, as whole lines. Only over HTTP/1.
    pub lines: Vec<u8>,
    /// What the gateway did.
    pub decision: Decision,
    /// From the first byte to the backend to its answer's head.
    pub upstream: Option<Duration>,
    /// The caller's scope, where one was needed.
    pub scope: Option<ScopeId>,
}

impl Outcome {
    /// An answer of which nothing else is known.
    pub fn new(response: Response<ResponseBody>, decision: Decision) -> Outcome {
        Outcome { response: Box::new(response), lines: Vec::new(), decision, upstream: None, scope: None }
    }
}

/// Answers one request. What its limits refuse is answered at once; for all else something is waited.
pub fn exchange(worker: Rc<Worker>, connection: Rc<Connection>, request: Request<Incoming>) -> Answering {
    let busy = connection.busy();
    let (mut parts, body) = request.into_parts();
    let found = Found::of(&parts.headers);
    let protocol = found.upgrade.then(|| upgrade::wanted(&parts.headers)).flatten();
    if let Some(spelling) = connection.spelling() {
        parts.extensions.insert(spelling);
    }
    // The hop's own headers go first: nothing behind this line sees what Connection hides from the backend.
    strip_hop_by_hop_of_request(&mut parts, &body, found);
    look_alikes::strip(&mut parts.headers, found.look_alikes, &worker.shared.own_names);
    let body = ClientBody::new(body, &connection, parts.version, found.expect);
    let mut line = Line::begin(&worker, &connection, &parts);
    line.upload = body.watched();
    let mut exchange = match route(&worker, &connection, &mut parts, &line, found) {
        Ok(exchange) => exchange,
        Err(refusal) => return Answering::at_once(line.answer(busy, Err(refusal))),
    };
    line.matched(&exchange, &parts);
    exchange.hears_continue = found.expect && body.is_end_stream();
    if exchange.guarded {
        // Nobody but the gateway waits for the body of a guarded write.
        parts.headers.remove(header::EXPECT);
        if found.says() {
            exchange.sent_to = tell::sent_to(&connection, &parts.headers);
        }
    }
    let says = found.says() || line.came_with_id || protocol.is_some();
    let by_lines = !says && tell::goes_by_lines(&exchange, &parts);
    if !by_lines {
        tell::in_headers(&exchange, &mut parts, found.forwarded);
    }
    let waits = match throttle::gate(&exchange, connection.port.get(), &parts, &mut line) {
        Gate::Ends(end) => return Answering::at_once(line.answer(busy, end)),
        Gate::Waits(waits) => Some(waits),
        Gate::Passes => None,
    };
    // Many a request never gets further.
    if by_lines {
        exchange.own_lines.set(tell::lines(&exchange, &parts));
    }
    let is_plain = waits.is_none() && protocol.is_none() && exchange.rules().slots.ask.is_none();
    if is_plain && exchange.guarded {
        let write = guard::write(exchange, parts, body);
        return Answering::Later(connection, Box::pin(write.map(move |end| line.answer(busy, end).give())));
    }
    if is_plain && !exchange.may_be_kept(&parts.method) {
        return Answering::Later(
            connection,
            Box::pin(async move {
                let end = pass(exchange, parts, body).await;
                line.answer(busy, end).give()
            }),
        );
    }
    Answering::Later(
        connection,
        Box::pin(async move {
            let end = handle(exchange, parts, body, protocol, &mut line, waits).await;
            line.answer(busy, end).give()
        }),
    )
}

/// A request that is more than passed on, or waits for its turn first. What it comes to is boxed: each of these needs more
/// room than most of the others.
async fn handle(
    exchange: Exchange,
    parts: Parts,
    body: ClientBody,
    protocol: Option<HeaderValue>,
    line: &mut Line,
    waits: Option<Waits>,
) -> Result<Outcome, Refusal> {
    if let Some(waits) = waits {
        let port = exchange.connection.port.get();
        // Nothing else may have what another request gets.
        let is_plain = protocol.is_none()
            && !exchange.guarded
            && exchange.rules().slots.ask.is_none()
            && body.is_end_stream();
        let waited = Box::pin(throttle::wait(&exchange, port, &parts, line, waits, is_plain)).await?;
        if let Some(answered) = waited {
            return Ok(answered);
        }
    }
    if exchange.guarded && protocol.is_some() {
        let detail = "This route guards its writes; an upgrade would bypass that.";
        return Err(Refusal::new(Reason::UpgradeRefused, detail));
    }
    if exchange.rules().slots.ask.is_some() {
        return Box::pin(asked::answer(&exchange, &parts, body)).await;
    }
    if exchange.guarded {
        return Box::pin(guard::write(exchange, parts, body)).await;
    }
    let allowed =
        |protocol: &HeaderValue| upgrade::is_allowed(&exchange, &parts, protocol, !body.is_end_stream());
    if let Some(protocol) = protocol.filter(allowed) {
        return Box::pin(upgrade::pass(&exchange, parts, protocol)).await;
    }
    match exchange.may_be_kept(&parts.method) {
        true => Box::pin(reads::read(exchange, parts, body, line)).await,
        false => Box::pin(pass(exchange, parts, body)).await,
    }
}

/// An unguarded request: admitted, forwarded, streamed.
pub(super) async fn pass(
    exchange: Exchange,
    mut parts: Parts,
    mut body: ClientBody,
) -> Result<Outcome, Refusal> {
    let permit = exchange.admit_in_turn(&parts.headers).await?;
    if body.expects() || exchange.hears_continue {
        // Whether the body is wanted is the backend's to say.
        parts.headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    body.take_what_came().await;
    let (body, upload) = RequestBody::stream(body);
    let request = Box::new(Request::from_parts(parts, body));
    forward::carried(exchange, permit, (request, upload), Reuse::Any, Decision::Passed, None).await
}

/// Hop-by-hop headers go; that a body is chunked is said anew, because hyper would otherwise drop a GET's body.
fn strip_hop_by_hop_of_request(parts: &mut Parts, body: &Incoming, found: Found) {
    use http_body::Body;
    found.strip(&mut parts.headers);
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if found.trailers {
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    // hyper answers it when the body is read.
    if found.expect {
        parts.headers.remove(header::EXPECT);
    }
}

/// Brings the target into its one normal form, for matching, fingerprint and forwarding alike, and finds the route.
fn route(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    parts: &mut Parts,
    line: &Line,
    found: Found,
) -> Result<Exchange, Refusal> {
    if let Some(refusal) = connection.refused_head(parts).or_else(|| h2::refused(parts)) {
        return Err(refusal);
    }
    if let Some(flood) = &worker.shared.flood {
        let trusted = &worker.shared.policy.config().clients.trusted_proxies;
        flood.ask(client_address(connection.peer, &parts.headers, trusted))?;
    }
    if parts.method == Method::CONNECT {
        return Err(Refusal::new(Reason::BadRequest, "This is no proxy that opens tunnels.").closing());
    }
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().starts_with('?')) {
        root(parts);
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let normal = NormalTarget::parse(target)
        .map_err(|problem| Refusal::new(Reason::BadTarget, problem.to_string()).closing())?;
    let policy = &worker.shared.policy;
    let mut taken = policy.route(&parts.method, normal.path()).ok_or_else(|| {
        Refusal::new(
            Reason::NoRoute,
            format!("No route of the gateway matches {} {}.", parts.method, normal.path()),
        )
    })?;
    let mut disguise = None;
    if found.disguise || parts.uri.query().is_some() {
        Meant { taken, method: disguise } =
            disguise::meant(policy, parts, normal.path(), taken, found.disguise);
    }
    if parts.uri.authority().is_some() || normal.as_str() != target {
        let uri = Uri::try_from(normal.as_str())
            .map_err(|error| Refusal::new(Reason::BadTarget, error.to_string()).closing())?;
        let original = std::mem::replace(&mut parts.uri, uri).into_parts().path_and_query;
        if let Some(original) = original.filter(|_| taken.route.keeps_target) {
            parts.extensions.insert(OriginalTarget(original));
        }
    }
    let (route, guarded) = (taken.route.index, taken.guard.is_some());
    if !guarded && !is_safe(&parts.method) {
        worker.shared.journal.unguarded_mutation(Some(route), &parts.method);
    }
    let clients = &policy.config().clients;
    Ok(Exchange {
        worker: worker.clone(),
        route,
        pattern: taken.pattern,
        guarded,
        disguise: disguise.map_or_else(OnceCell::new, OnceCell::from),
        request_id: line.request_id().clone(),
        address: client_address(connection.peer, &parts.headers, &clients.trusted_proxies),
        cert: connection.cert.clone(),
        connection: connection.clone(),
        version: parts.version,
        goes_on: parts.version == Version::HTTP_11 && !found.closes,
        hears_continue: false,
        own_lines: Cell::default(),
        sent_to: Box::default(),
        flight: Cell::default(),
        of_page: found.origin,
    })
}

/// An absolute target without a path is one of the root (RFC 3986, 6.2.3), also with a query.
#[cold]
fn root(parts: &mut Parts) {
    if let Ok(rooted) = Uri::try_from(format!("/?{}", parts.uri.query().unwrap_or_default())) {
        parts.uri = rooted;
    }
}

// === impl Exchange ===

impl Exchange {
    /// Whether the answer may be a copy, or become one.
    fn may_be_kept(&self, method: &Method) -> bool {
        self.rules().reads.is_some() && matches!(*method, Method::GET | Method::HEAD)
    }

    /// What all workers share.
    pub fn shared(&self) -> &Shared {
        &self.worker.shared
    }

    /// The matched route's rules.
    pub fn rules(&self) -> &RoutePolicy {
        &self.worker.shared.policy.routes()[self.route]
    }

    /// What belongs to one hop goes from a backend's answer, and what it says of limits where the gateway has its own.
    /// `goes_on`: to a client whose connection does.
    pub fn strip_answer(&self, headers: &mut HeaderMap, goes_on: bool) {
        let strip = if goes_on { strip_hop_by_hop_of_answer } else { strip_hop_by_hop };
        let has_own =
            |rules: &RoutePolicy| rules.throttle.as_ref().is_some_and(|throttle| !throttle.observed);
        if strip(headers).limits && has_own(self.rules()) {
            for name in [RATELIMIT, RATELIMIT_POLICY] {
                headers.remove(name);
            }
        }
    }

    /// The client, where it understands interim answers.
    pub fn hears_interims(&self) -> Option<Rc<Connection>> {
        (self.version == Version::HTTP_11).then(|| self.connection.clone())
    }

    /// How the matched route guards.
    pub fn guard(&self) -> Option<&Guard> {
        self.rules().guard()
    }

    /// The worker's connections to the route's upstream.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.worker.pools[self.rules().upstream]
    }

    /// Whom limits count.
    pub fn caller<'a>(&'a self, headers: &'a HeaderMap) -> Caller<'a> {
        let shared = self.shared();
        let clients = &shared.policy.config().clients;
        caller(clients, shared.jwt.as_ref(), headers, self.address, self.cert.as_ref())
    }

    /// Whom limits count, as it is logged.
    pub fn client(&self, headers: &HeaderMap) -> String {
        let shared = self.shared();
        self.caller(headers).name(&shared.digest)
    }

    /// Tells the people who run it that nobody knows what became of the attempt of this record.
    pub fn tell_in_doubt(&self, id: RecordId, why: Doubt) {
        self.shared().journal.event(Event::InDoubt {
            route: self.rules().name.clone(),
            id,
            request_id: self.request_id.to_str().unwrap_or_default().into(),
            why,
        });
    }

    /// A place among the upstream's `max_in_flight`, or the refusal that says that there is none.
    pub fn admit(&self) -> Result<Permit, Refusal> {
        Permit::take(self.pool()).ok_or_else(|| self.overloaded())
    }

    /// The same, waiting in the upstream's queue where it has one.
    pub async fn admit_in_turn(&self, headers: &HeaderMap) -> Result<Permit, Refusal> {
        let upstream = &self.pool().upstream.config;
        match Permit::take(self.pool()) {
            Some(permit) => Ok(permit),
            None if upstream.queue == 0 => Err(self.overloaded()),
            None => {
                let rank = self.shared().throttles.rank(&self.caller(headers));
                let waited = Box::pin(Permit::take_in_turn(self.pool(), rank, upstream.queue_wait)).await;
                waited.ok_or_else(|| self.overloaded())
            }
        }
    }

    fn overloaded(&self) -> Refusal {
        let upstream = &self.pool().upstream.config;
        let detail = format!(
            "{} requests to the backend '{}' are in flight, as many as the gateway allows; nothing was sent.",
            upstream.max_in_flight, upstream.name
        );
        Refusal::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1))
    }

    /// Room for a body that is read whole: all of them together may take `server.body_memory`.
    pub fn room_for(&self, body: &ClientBody) -> Result<Room, Refusal> {
        use http_body::Body;
        let limit = self.rules().body_limit;
        let bytes = body.size_hint().exact().unwrap_or(limit).min(limit);
        let room = Room { bytes, worker: self.worker.clone() };
        let shared = self.shared();
        let most = shared.policy.config().server.body_memory;
        if shared.body_bytes.fetch_add(bytes, Relaxed) + bytes > most {
            let detail =
                "The gateway reads as many request bodies at a time as it has memory for; nothing was sent.";
            return Err(Refusal::new(Reason::Overloaded, detail)
                .retry_after(Duration::from_secs(1))
                .closing());
        }
        Ok(room)
    }
}
