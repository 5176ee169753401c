//! What is noted of an exchange, and told to the journal once: when its answer goes out, or when its client has left.

use super::answering::Answer;
use super::body::ResponseBody;
use super::caller::caller;
use super::clock;
use super::connection::{Busy, Connection};
use super::exchange::{Exchange, Outcome};
use super::h2::Watched;
use super::head_writer::Written;
use super::headers::add_via;
use super::identity::client_address;
use super::own_lines::OwnLines;
use super::respond;
use super::scan::Stop;
use super::stall::STRETCH;
use super::throttle::{Flight, Notice, Shares};
use super::worker::{Shared, Worker};
use crate::domain::client::ScopeId;
use crate::domain::event::{self, Decision};
use crate::domain::refusal::{Reason, Refusal};
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// One exchange, for whoever is told of it.
pub struct Line {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    version: Version,
    started: Instant,
    request_id: HeaderValue,
    /// The request's head says an id, though it need not be this one.
    pub came_with_id: bool,
    /// Index of the route, once one matched.
    pub route: Option<usize>,
    /// What its limits have to say.
    pub limits: Limits,
    /// Who shows the page that asks, where a browser says so.
    origin: Option<HeaderValue>,
    access: Option<Access>,
    /// Its body, where its connection carries several.
    pub upload: Option<Rc<Watched>>,
    told: bool,
}

/// What the limits of an exchange's route have to say of it.
#[derive(Default)]
pub struct Limits {
    /// What goes into its answer.
    pub notice: Option<Notice>,
    /// How long it was held until its turn.
    pub held: Option<Duration>,
    /// What would have become of it where the route only observes.
    pub would: Option<Decision>,
    /// Its place among the client's requests in flight, up to its answer's last byte and to the end of its call.
    pub flight: Option<Rc<Flight>>,
    /// What it knows of a turn that equal reads share, as long as it has none of its own.
    pub shares: Option<Shares>,
    /// Under what the watch for storms knows this read.
    pub polled: Option<u64>,
}

/// Only where access lines are written.
struct Access {
    method: Method,
    path: String,
    client: String,
}

/// What the log says where no answer went out, because nobody was there to get it.
const CLIENT_LEFT: u16 = 499;

// === impl Line ===

impl Line {
    /// A request's head has come.
    pub fn begin(worker: &Rc<Worker>, connection: &Rc<Connection>, parts: &Parts) -> Line {
        let access = worker.shared.journal.access().then(|| Access {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            client: client_of(&worker.shared, connection, &parts.headers),
        });
        let (request_id, came_with_id) = worker.request_id(&parts.headers);
        Line {
            worker: worker.clone(),
            connection: connection.clone(),
            version: parts.version,
            // Over HTTP/1 it was read when the head's first bytes came, or since.
            started: if parts.version == Version::HTTP_2 { clock::now() } else { clock::recent() },
            request_id,
            came_with_id,
            route: None,
            limits: Limits::default(),
            origin: None,
            access,
            upload: None,
            told: false,
        }
    }

    /// Its route was found, by the normal form of its target, which is what the log says from now on.
    pub fn matched(&mut self, exchange: &Exchange, parts: &Parts) {
        self.route = Some(exchange.route);
        self.origin = exchange.of_page.then(|| parts.headers.get(header::ORIGIN).cloned()).flatten();
        if let Some(access) = self.access.as_mut().filter(|access| access.path != parts.uri.path()) {
            access.path = parts.uri.path().to_owned();
        }
    }

    /// The same in the answer, the log, and the backend's request.
    pub fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// The last steps of every exchange: the answer's own headers, and the journal.
    pub fn answer(&mut self, busy: Busy, end: Result<Outcome, Refusal>) -> Answer {
        let outcome = end.unwrap_or_else(|refusal| self.refused(&self.explained(refusal)));
        self.end(busy, outcome)
    }

    /// What is told of a failure: where its own client broke the body off, that, and not whatever followed from it.
    fn explained(&self, refusal: Refusal) -> Refusal {
        // Over HTTP/1 there is one body at a time, and the connection knows.
        let starved =
            self.upload.as_ref().map_or_else(|| self.connection.is_starved(), |upload| upload.is_starved());
        match (self.connection.problem(), refusal.reason) {
            (None, Reason::BadRequest | Reason::UpstreamFailed) if starved => too_slow(),
            // A head that was refused is none of it, whether it is this exchange's own or one that came behind it.
            (Some(Stop::Body(problem)), Reason::BadRequest | Reason::UpstreamFailed) => {
                problem.refusal_of_body()
            }
            _ => refusal,
        }
    }

    /// A refusal as this exchange's outcome.
    fn refused(&self, refusal: &Refusal) -> Outcome {
        let policy = self.route.map(|route| &*self.worker.shared.policy.routes()[route].name);
        let response = respond::refusal(refusal, policy, &self.request_id);
        Outcome::new(response, Decision::Refused(refusal.reason))
    }

    fn end(&mut self, busy: Busy, outcome: Outcome) -> Answer {
        let Outcome { mut response, mut lines, decision, upstream, scope } = outcome;
        let decision = self.limits.would.filter(|_| decision == Decision::Passed).unwrap_or(decision);
        self.tell(response.status().as_u16(), decision, upstream, scope);
        let shared = &self.worker.shared;
        response.body_mut().hold(busy, self.limits.flight.take());
        // An answer that switches has `Connection: upgrade`; what follows it hears of the drain in its own protocol.
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        if shared.draining.load(Relaxed) && !switches {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // What nobody knows the end of is told by the gateway itself, too.
        let refused = matches!(decision, Decision::Refused(_) | Decision::InDoubt);
        if let (Some(origin), Some(route), None) = (&self.origin, self.route, &self.limits.notice) {
            shared.throttles.tell_page(route, origin, refused, headers);
        }
        if let (Some(notice), Some(route)) = (&self.limits.notice, self.route) {
            let lines = (self.version != Version::HTTP_2).then_some(&mut lines);
            shared.throttles.tell(&shared.policy.routes()[route], notice, refused, headers, lines);
        }
        let written = self.sign(&mut response, lines);
        Answer::new(response, written, &self.connection)
    }

    /// The gateway's own headers, `whole` being lines among them. The request's id is ours also where the backend or a recorded
    /// answer has one: it is what the log says.
    fn sign(&self, response: &mut Response<ResponseBody>, whole: Vec<u8>) -> Option<Written> {
        let server = &self.worker.shared.policy.config().server;
        let name = &server.request_id_header;
        let spelling = response.extensions_mut().remove();
        let headers = response.headers_mut();
        let says = headers.keys().any(|said| said == name || (server.via && *said == header::VIA));
        let mut signature = None;
        if says || self.version == Version::HTTP_2 {
            if server.via {
                add_via(headers, Version::HTTP_11);
            }
            headers.insert(name, self.request_id.clone());
        } else {
            signature = Some((self.worker.signature.clone(), self.request_id.clone()));
        }
        (self.version != Version::HTTP_2).then(|| {
            let lines = Some(OwnLines { whole, signature });
            Written { spelling, lines, own_version: self.version == Version::HTTP_10 }
        })
    }

    fn tell(&mut self, status: u16, decision: Decision, upstream: Option<Duration>, scope: Option<ScopeId>) {
        self.told = true;
        let shared = &self.worker.shared;
        let total = clock::recent().saturating_duration_since(self.started);
        if let Some(read) = self.limits.polled.filter(|_| !decision.asks_the_backend()) {
            shared.throttles.absorbed(read);
        }
        let Some(Access { method, path, client }) = self.access.take() else {
            return shared.journal.count(self.route, decision, upstream, total);
        };
        shared.journal.exchange(event::Exchange {
            request_id: self.request_id.to_str().unwrap_or_default().into(),
            route: self.route,
            route_name: self.route.map(|route| shared.policy.routes()[route].name.clone()),
            method,
            path,
            client,
            scope,
            status,
            decision,
            upstream,
            held: self.limits.held,
            total,
        });
    }
}

impl Drop for Line {
    /// The connection ended before its answer: the exchange is told all the same. A guarded write that was claimed runs
    /// on without its client; the attempt tells of itself.
    fn drop(&mut self) {
        if !self.told {
            self.tell(CLIENT_LEFT, Decision::ClientLeft, None, None);
        }
    }
}

fn too_slow() -> Refusal {
    let detail = format!(
        "Of the request's body less came in {STRETCH:?} than the gateway wants (server.body_rate); the rest of it was not \
         passed on."
    );
    Refusal::new(Reason::BodyTimeout, detail).closing()
}

/// Whom limits count, for the log.
fn client_of(shared: &Shared, connection: &Connection, headers: &HeaderMap) -> String {
    let clients = &shared.policy.config().clients;
    let address = client_address(connection.peer, headers, &clients.trusted_proxies);
    caller(clients, shared.jwt.as_ref(), headers, address, connection.cert.as_ref()).name(&shared.digest)
}
