//! One exchange, from the request's head to the answer's, on one screen.

use super::body::{RequestBody, ResponseBody};
use super::clock;
use super::connection::Connection;
use super::forward;
use super::guard;
use super::headers::{Forwarding, Found, add_via, set_forwarded, strip_hop_by_hop};
use super::identity::{self, client_address};
use super::respond;
use super::upstream::{Permit, Pool};
use super::worker::{Shared, Worker};
use crate::config::{Guard, RoutePolicy};
use crate::domain::client::ScopeId;
use crate::domain::event::{self, Decision};
use crate::domain::ledger::TargetId;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::route::is_safe;
use crate::domain::target::NormalTarget;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// What every step of one exchange needs to know.
pub struct Exchange {
    /// Whose exchange it is.
    pub worker: Rc<Worker>,
    /// Index of the matched route.
    pub route: usize,
    /// Whether the route guards this request.
    pub guarded: bool,
    /// The same in the answer, the log, and the backend's request.
    pub request_id: HeaderValue,
    /// The client's address: the rightmost untrusted hop.
    pub address: IpAddr,
}

/// How an exchange ended, up to the answer's head.
pub struct Outcome {
    /// What goes to the client.
    pub response: Response<ResponseBody>,
    /// What the gateway did.
    pub decision: Decision,
    /// From the first byte to the backend to its answer's head.
    pub upstream: Option<Duration>,
    /// The caller's scope, where one was needed.
    pub scope: Option<ScopeId>,
}

/// Answers one request.
pub async fn exchange(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let busy = connection.busy();
    let (mut parts, body) = request.into_parts();
    if let Some(spelling) = connection.spelling() {
        parts.extensions.extend((*spelling).clone());
    }
    // The hop's own headers go first: nothing behind this line sees what Connection hides from the backend.
    let found = strip_hop_by_hop_of_request(&mut parts, &body);
    let mut line = Line::begin(&worker, &connection, &mut parts);
    let outcome = match route(&worker, &connection, &mut parts, &line) {
        Err(refusal) => Err(refusal),
        Ok(exchange) => {
            line.route = Some(exchange.route);
            tell_the_backend(&exchange, &connection, &mut parts, found);
            if exchange.guarded {
                // Boxed: a connection at rest must not hold room for a guarded write's state.
                Box::pin(guard::write(exchange, parts, body)).await
            } else {
                // Admitted, forwarded, streamed.
                match exchange.admit() {
                    Err(refusal) => Err(refusal),
                    Ok(permit) => {
                        let (body, upload) = RequestBody::stream(body);
                        let request = Request::from_parts(parts, body);
                        forward::pass(&exchange, permit, request, upload, Decision::Passed).await
                    }
                }
            }
        }
    };
    let outcome = outcome.unwrap_or_else(|refusal| line.refused(&worker, &refusal));
    line.end(&worker, busy, outcome)
}

/// Hop-by-hop headers go; that a body is chunked is said anew, because hyper would otherwise drop a GET's body.
fn strip_hop_by_hop_of_request(parts: &mut Parts, body: &Incoming) -> Found {
    use http_body::Body;
    let found = strip_hop_by_hop(&mut parts.headers);
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // hyper has answered it, or will when the body is read.
    if found.expect {
        parts.headers.remove(header::EXPECT);
    }
    found
}

/// Brings the target into its one normal form, for matching, fingerprint and forwarding alike, and finds the route.
fn route(
    worker: &Rc<Worker>,
    connection: &Connection,
    parts: &mut Parts,
    line: &Line,
) -> Result<Exchange, Refusal> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let normal = NormalTarget::parse(target)
        .map_err(|problem| Refusal::new(Reason::BadTarget, problem.to_string()).closing())?;
    let policy = &worker.shared.policy;
    let taken = policy.route(&parts.method, normal.path()).ok_or_else(|| {
        Refusal::new(
            Reason::NoRoute,
            format!("No route of the gateway matches {} {}.", parts.method, normal.path()),
        )
    })?;
    if parts.uri.authority().is_some() || normal.as_str() != target {
        parts.uri = Uri::try_from(normal.as_str())
            .map_err(|error| Refusal::new(Reason::BadTarget, error.to_string()).closing())?;
    }
    let (route, guarded) = (taken.route.index, taken.guard.is_some());
    if taken.route.lets_writes_through && !guarded && !is_safe(&parts.method) {
        worker.shared.journal.unguarded_mutation(Some(route), &parts.method);
    }
    let clients = &policy.config().clients;
    Ok(Exchange {
        worker: worker.clone(),
        route,
        guarded,
        request_id: line.request_id.clone(),
        address: client_address(connection.peer, &parts.headers, &clients.trusted_proxies),
    })
}

/// Adds what the backend is told beside the request's id: the client, and the way.
fn tell_the_backend(exchange: &Exchange, connection: &Connection, parts: &mut Parts, found: Found) {
    let server = &exchange.shared().policy.config().server;
    let forwarding = Forwarding {
        peer: connection.peer,
        peer_text: &connection.peer_text,
        trusted: connection.trusted,
        style: server.forwarded,
        forwarded: found.forwarded,
    };
    set_forwarded(&mut parts.headers, &forwarding);
    if server.via {
        add_via(&mut parts.headers);
    }
}

// === impl Exchange ===

impl Exchange {
    /// What all workers share.
    pub fn shared(&self) -> &Shared {
        &self.worker.shared
    }

    /// The matched route's rules.
    pub fn rules(&self) -> &RoutePolicy {
        &self.worker.shared.policy.routes()[self.route]
    }

    /// How the matched route guards.
    pub fn guard(&self) -> Option<&Guard> {
        self.rules().guard()
    }

    /// The worker's connections to the route's upstream.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.worker.pools[self.rules().upstream]
    }

    /// Whom limits count, as it is logged.
    pub fn client(&self, headers: &HeaderMap) -> String {
        let shared = self.shared();
        identity::client(
            &shared.policy.config().clients,
            shared.jwt.as_ref(),
            &shared.digest,
            headers,
            self.address,
        )
    }

    /// A place among the upstream's `max_in_flight`, or the refusal that says that there is none.
    pub fn admit(&self) -> Result<Permit, Refusal> {
        self.pool().upstream.admit().ok_or_else(|| {
            let upstream = &self.pool().upstream.config;
            let detail = format!(
                "{} requests to the backend '{}' are in flight, as many as the gateway allows; nothing was sent.",
                upstream.max_in_flight, upstream.name
            );
            Refusal::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1))
        })
    }

    /// The resource that the normal form of `path` addresses; a slash at its end means nothing here.
    pub fn target(&self, path: &str) -> TargetId {
        let resource = NormalTarget::parse(path);
        let resource = resource.as_ref().map_or(path, NormalTarget::resource);
        self.shared().digest.target_id(&self.pool().upstream.config.name, resource)
    }

    /// The resource that `path` addresses and each of its parents.
    pub fn targets(&self, path: &str) -> Vec<TargetId> {
        NormalTarget::parse(path).map_or_else(
            |_| Vec::new(),
            |normal| normal.parents().map(|parent| self.target(parent)).collect(),
        )
    }
}

/// What is noted of an exchange for whoever is told of it.
struct Line {
    started: Instant,
    request_id: HeaderValue,
    route: Option<usize>,
    /// Only where access lines are written: method, path and client.
    access: Option<(Method, String, String)>,
}

/// Whom limits count, for the log.
fn client_of(shared: &Shared, peer: IpAddr, headers: &HeaderMap) -> String {
    let clients = &shared.policy.config().clients;
    let address = client_address(peer, headers, &clients.trusted_proxies);
    identity::client(clients, shared.jwt.as_ref(), &shared.digest, headers, address)
}

// === impl Line ===

impl Line {
    fn begin(worker: &Worker, connection: &Connection, parts: &mut Parts) -> Line {
        let access = worker.shared.journal.access().then(|| {
            let client = client_of(&worker.shared, connection.peer, &parts.headers);
            (parts.method.clone(), parts.uri.path().to_owned(), client)
        });
        // Room for everything that the gateway adds, taken once.
        parts.headers.reserve(7);
        Line { started: clock::now(), request_id: worker.request_id(&mut parts.headers), route: None, access }
    }

    fn refused(&self, worker: &Worker, refusal: &Refusal) -> Outcome {
        let policy = self.route.map(|route| &*worker.shared.policy.routes()[route].name);
        Outcome {
            response: respond::refusal(refusal, policy, &self.request_id),
            decision: Decision::Refused(refusal.reason),
            upstream: None,
            scope: None,
        }
    }

    /// The last steps of every exchange: the answer's own headers, and the journal.
    fn end(self, worker: &Worker, busy: super::connection::Busy, outcome: Outcome) -> Response<ResponseBody> {
        let Outcome { mut response, decision, upstream, scope } = outcome;
        let shared = &worker.shared;
        let server = &shared.policy.config().server;
        response.body_mut().hold(busy);
        let headers = response.headers_mut();
        headers.reserve(3);
        if server.via {
            add_via(headers);
        }
        if shared.draining.load(Relaxed) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let total = clock::recent().saturating_duration_since(self.started);
        match self.access {
            None => shared.journal.count(self.route, decision, upstream, total),
            Some((method, path, client)) => shared.journal.exchange(event::Exchange {
                request_id: self.request_id.to_str().unwrap_or_default().into(),
                route: self.route,
                route_name: self.route.map(|route| shared.policy.routes()[route].name.clone()),
                method,
                path,
                client,
                scope,
                status: response.status().as_u16(),
                decision,
                upstream,
                total,
            }),
        }
        response.headers_mut().entry(&server.request_id_header).or_insert(self.request_id);
        response
    }
}
