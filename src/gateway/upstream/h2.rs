//! HTTP/2 towards a backend: many exchanges on one connection.
//!
//! What a backend says of a stream that it did not work on, REFUSED_STREAM or a GOAWAY that names a lower one as its last,
//! is known not to have executed. Everything else after a byte is lost.

use super::body::{Connection, UpstreamBody};
use super::connect::open;
use super::health::Permit;
use super::pool::Pool;
use super::send::{Failure, Flight, RECENT, Reply, Reuse, SUSPECT, authority, describe, is_repeatable};
use crate::gateway::body::RequestBody;
use crate::gateway::clock;
use crate::gateway::h2::LocalExecutor;
use crate::gateway::scan::Limits;
use h2::Reason;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, Parts as UriParts, PathAndQuery, Scheme};
use http::{Request, Uri, Version};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// One worker's HTTP/2 connections to one upstream.
pub struct Trunks {
    /// A list a server.
    servers: Vec<Server>,
}

#[derive(Default)]
struct Server {
    trunks: RefCell<Vec<Rc<Trunk>>>,
    /// A connection is being made, and whoever wants one waits for it.
    connecting: Cell<bool>,
    connected: Notify,
    /// How many attempts to connect have failed, and what the last one said.
    failures: Cell<u64>,
    failure: RefCell<String>,
}

/// One connection.
struct Trunk {
    sender: SendRequest<RequestBody>,
    streams: Cell<usize>,
    /// When its last exchange ended.
    used: Cell<Instant>,
}

/// One exchange's place on a connection; given up when dropped.
pub(super) struct Stream {
    trunk: Rc<Trunk>,
}

/// Marks that a connection is being made.
struct Connecting<'a>(&'a Server);

/// Exchanges at once on one connection; for more of them another one is made. Backends commonly allow a hundred.
const STREAMS_MOST: usize = 100;
/// What a backend may send of an answer before its client reads it; and of all answers of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How often a request that was handed back, or that the backend refused, is tried again.
const TRIES_MOST: u32 = 3;

/// Sends `request` and waits for the head of the answer: `send` for an upstream with `http2`.
pub(super) async fn send(
    pool: &Rc<Pool>,
    trunks: &Trunks,
    mut permit: Permit,
    mut request: Request<RequestBody>,
    reuse: Reuse,
    flight: &Flight,
    may_send: &dyn Fn(Instant) -> bool,
) -> Result<Box<Reply>, Failure> {
    if flight.switches() {
        return Err(Failure::NotSent(
            "an upgrade needs HTTP/1.1, and this backend is spoken to in HTTP/2".into(),
        ));
    }
    let target = request.uri().path_and_query().cloned();
    let client_host = request.headers().get(header::HOST).cloned();
    let mut tries = 0;
    loop {
        tries += 1;
        let (server, stream, rested) = stream(pool, trunks, reuse, tries, &mut permit).await?;
        address(&mut request, pool, server, target.as_ref(), client_host.as_ref())?;
        let now = clock::now();
        if !may_send(now) {
            return Err(Failure::NotSent("the claim ended before anything was sent".into()));
        }
        let mut copy = (tries < TRIES_MOST).then(|| copy_of(&request)).flatten();
        flight.opens();
        flight.sent(Some(now));
        let mut error = match stream.trunk.sender.clone().try_send_request(request).await {
            Ok(answer) => {
                let (mut head, incoming) = answer.into_parts();
                head.version = Version::HTTP_11;
                let total = pool.upstream.config.total.map(|total| clock::now() + total);
                let connection =
                    Connection { link: None, stream: Some(stream), pool: pool.clone(), server, permit };
                return Ok(Box::new(Reply { head, body: UpstreamBody::new(incoming, connection, total) }));
            }
            Err(error) => error,
        };
        // Handed back whole: not a byte was written.
        let back = error.take_message();
        let error = error.into_error();
        let unsent = back.is_some() || is_refused(&error);
        let dead = !unsent && reuse == Reuse::Any && rested.is_some_and(|rested| rested >= SUSPECT);
        let repeatable = dead && copy.as_ref().is_some_and(is_repeatable);
        if !unsent && !repeatable {
            return Err(Failure::Lost(describe(&error)));
        }
        flight.sent(None);
        match back.or_else(|| copy.take()) {
            Some(next) if tries < TRIES_MOST => request = next,
            _ => return Err(Failure::NotSent(describe(&error))),
        }
        if repeatable {
            // Once, and on a fresh connection.
            tries = TRIES_MOST - 1;
        }
    }
}

/// Whether the backend says that it has not worked on the stream.
fn is_refused(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
            // A stream gets the connection's GOAWAY as its error only where that names a lower one as the last.
            return error.is_remote() && (refused || error.is_go_away());
        }
        source = error.source();
    }
    false
}

/// The same request once more, where its body is not on its way from the client.
fn copy_of(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Gives the request the form that HTTP/2 wants: the authority in its target, and nothing that belongs to HTTP/1.1's framing.
fn address(
    request: &mut Request<RequestBody>,
    pool: &Pool,
    server: usize,
    target: Option<&PathAndQuery>,
    client_host: Option<&HeaderValue>,
) -> Result<(), Failure> {
    let base = &pool.upstream.config.urls[server];
    let unusable = |error: http::Error| Failure::NotSent(format!("{}: {error}", base.authority));
    let host = authority(&pool.upstream.config, server, client_host);
    let named = Authority::try_from(host.as_bytes()).map_err(|error| unusable(error.into()))?;
    let path = match target {
        Some(target) if base.prefix.is_empty() => target.clone(),
        target => {
            let target = target.map_or("/", PathAndQuery::as_str);
            PathAndQuery::try_from(format!("{}{target}", base.prefix))
                .map_err(|error| unusable(error.into()))?
        }
    };
    let mut parts = UriParts::default();
    parts.scheme = Some(if base.secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(named);
    parts.path_and_query = Some(path);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| unusable(error.into()))?;
    *request.version_mut() = Version::HTTP_2;
    without_framing(request.headers_mut());
    Ok(())
}

fn without_framing(headers: &mut HeaderMap) {
    headers.remove(header::HOST);
    headers.remove(header::TRANSFER_ENCODING);
    // What a server says before its answer does not come through here.
    headers.remove(header::EXPECT);
}

/// A place on a connection to the best server; `None` as the time of rest where that was just made.
async fn stream(
    pool: &Rc<Pool>,
    trunks: &Trunks,
    reuse: Reuse,
    tries: u32,
    permit: &mut Permit,
) -> Result<(usize, Stream, Option<Duration>), Failure> {
    let upstream = &pool.upstream;
    let most = if reuse == Reuse::Any { upstream.config.idle } else { upstream.config.idle.min(RECENT) };
    let (mut tried, mut problem) = (0, String::new());
    while let Some(server) = upstream.choose(tried, clock::recent()) {
        permit.assign(server);
        match trunks.servers[server].stream(pool, server, most, tries >= TRIES_MOST).await {
            Ok((stream, rested)) => return Ok((server, stream, rested)),
            Err(why) => {
                problem = why;
                tried |= 1 << server;
            }
        }
    }
    Err(Failure::NotSent(problem))
}

// === impl Trunks ===

impl Trunks {
    /// None yet.
    pub fn new(servers: usize) -> Trunks {
        Trunks { servers: (0..servers).map(|_| Server::default()).collect() }
    }

    /// Lets go of what has ended and of what was unused for longer than `most`; hyper says GOAWAY for it.
    pub fn sweep(&self, now: Instant, most: Duration) {
        for server in &self.servers {
            server.trunks.borrow_mut().retain(|trunk| {
                let rested = now.saturating_duration_since(trunk.used.get());
                !trunk.sender.is_closed() && (trunk.streams.get() > 0 || rested < most)
            });
        }
    }
}

// === impl Server ===

impl Server {
    /// A place on a connection that has room and is in use, or rested no longer than `most`; on a new one otherwise.
    async fn stream(
        &self,
        pool: &Pool,
        server: usize,
        most: Duration,
        fresh: bool,
    ) -> Result<(Stream, Option<Duration>), String> {
        loop {
            if let Some(found) = self.find(most).filter(|_| !fresh) {
                return Ok(found);
            }
            if !fresh && self.connecting.get() {
                let failures = self.failures.get();
                self.connected.notified().await;
                if self.failures.get() != failures {
                    return Err(self.failure.borrow().clone());
                }
                continue;
            }
            let connecting = Connecting::new(self);
            match connect(pool, server).await {
                Ok(sender) => {
                    pool.upstream.reached(server);
                    let (streams, used) = (Cell::new(0), Cell::new(clock::recent()));
                    let trunk = Rc::new(Trunk { sender, streams, used });
                    self.trunks.borrow_mut().push(trunk.clone());
                    drop(connecting);
                    return Ok((Stream::new(trunk), None));
                }
                Err(why) => {
                    pool.upstream.failed(server, &why, clock::now());
                    self.failures.set(self.failures.get() + 1);
                    self.failure.borrow_mut().clone_from(&why);
                    drop(connecting);
                    return Err(why);
                }
            }
        }
    }

    fn find(&self, most: Duration) -> Option<(Stream, Option<Duration>)> {
        let now = clock::recent();
        self.trunks.borrow().iter().find_map(|trunk| {
            let (streams, rested) = (trunk.streams.get(), now.saturating_duration_since(trunk.used.get()));
            let usable = streams < STREAMS_MOST
                && (streams > 0 || rested <= most)
                && !trunk.sender.is_closed()
                && trunk.sender.is_ready();
            usable.then(|| {
                let rested = if streams > 0 { Duration::ZERO } else { rested };
                (Stream::new(trunk.clone()), Some(rested))
            })
        })
    }
}

async fn connect(pool: &Pool, server: usize) -> Result<SendRequest<RequestBody>, String> {
    let socket = open(pool, server).await?;
    let config = &pool.upstream.config;
    let authority = &config.urls[server].authority;
    let starting = Builder::new(LocalExecutor)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(Limits::DEFAULT.head_bytes).unwrap_or(u32::MAX))
        .handshake(TokioIo::new(socket));
    let late = |_| format!("no HTTP/2 with {authority} within {:?}", config.connect_timeout);
    let started = timeout(config.connect_timeout, starting).await.map_err(late)?;
    let (sender, connection) =
        started.map_err(|error| format!("cannot start HTTP/2 with {authority}: {error}"))?;
    tokio::task::spawn_local(async move {
        // Each exchange on it sees the same error and classifies it.
        let _ = connection.await;
    });
    Ok(sender)
}

// === impl Connecting ===

impl Connecting<'_> {
    fn new(server: &Server) -> Connecting<'_> {
        server.connecting.set(true);
        Connecting(server)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

// === impl Stream ===

impl Stream {
    fn new(trunk: Rc<Trunk>) -> Stream {
        trunk.streams.set(trunk.streams.get() + 1);
        Stream { trunk }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.trunk.streams.set(self.trunk.streams.get() - 1);
        self.trunk.used.set(clock::recent());
    }
}
