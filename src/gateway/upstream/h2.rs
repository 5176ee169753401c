//! HTTP/2 towards a backend: many exchanges on one connection.
//!
//! What a backend says of a stream that it did not work on, REFUSED_STREAM or a GOAWAY that names a lower one as its last,
//! is known not to have executed. Everything else after a byte is lost.

use super::body::{Connection, UpstreamBody};
use super::health::Permit;
use super::pool::Pool;
use super::send::{Failure, Flight, RECENT, Reply, Reuse, SUSPECT, authority, describe, is_repeatable};
use super::trunk::{Stream, Trunks, Unanswered};
use crate::gateway::body::RequestBody;
use crate::gateway::clock;
use h2::Reason;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, Parts as UriParts, PathAndQuery, Scheme};
use http::{Request, Uri, Version};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

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
        let (server, mut stream, rested) = stream(pool, trunks, reuse, tries, &mut permit).await?;
        address(&mut request, pool, server, target.as_ref(), client_host.as_ref())?;
        let now = clock::now();
        if !may_send(now) {
            return Err(late());
        }
        let mut copy = (tries < TRIES_MOST).then(|| copy_of(&request)).flatten();
        flight.opens();
        flight.sent(Some(now));
        let (why, back, repeatable) = match stream.exchange(request, may_send, flight.stays()).await {
            Ok(answer) => {
                pool.upstream.answered(server, flight.sent_at());
                let (mut head, incoming) = answer.into_parts();
                head.version = Version::HTTP_11;
                let connection =
                    Connection { link: None, stream: Some(stream), pool: pool.clone(), server, permit };
                return Ok(Box::new(Reply {
                    head,
                    body: UpstreamBody::new(incoming, connection, flight.ends()),
                }));
            }
            Err(Unanswered::Late) => {
                flight.sent(None);
                return Err(late());
            }
            Err(Unanswered::Unsent(why, back)) => (why, back.map(|back| *back), false),
            Err(Unanswered::Broken(error)) => {
                let refused = is_refused(&error);
                let dead = !refused && reuse == Reuse::Any && rested.is_some_and(|rested| rested >= SUSPECT);
                let repeatable = dead && copy.as_ref().is_some_and(is_repeatable);
                if !refused && !repeatable {
                    let why = describe(&error);
                    if rested.is_none() && is_of_the_connection(&error) {
                        pool.upstream.said_nothing(server, &why);
                    }
                    return Err(Failure::Lost(why));
                }
                (describe(&error), None, repeatable)
            }
        };
        flight.sent(None);
        match back.or_else(|| copy.take()) {
            Some(next) if tries < TRIES_MOST => request = next,
            _ => return Err(Failure::NotSent(why)),
        }
        if repeatable {
            // Once, and on a fresh connection.
            tries = TRIES_MOST - 1;
        }
    }
}

fn late() -> Failure {
    Failure::NotSent("the claim ended before anything was sent".into())
}

/// Whether the backend says that it has not worked on the stream.
fn is_refused(error: &hyper::Error) -> bool {
    of_h2(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // A stream gets the connection's GOAWAY as its error only where that names a lower one as the last.
        error.is_remote() && (refused || error.is_go_away())
    })
}

/// Whether the connection ended, and not this stream alone or by what its client did.
fn is_of_the_connection(error: &hyper::Error) -> bool {
    !error.is_user() && !of_h2(error).is_some_and(h2::Error::is_reset)
}

fn of_h2(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(error);
        }
        source = error.source();
    }
    None
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
        match trunks.of(server).stream(pool, server, most, tries >= TRIES_MOST).await {
            Ok((stream, rested)) => return Ok((server, stream, rested)),
            Err(why) => {
                problem = why;
                tried |= 1 << server;
            }
        }
    }
    Err(Failure::NotSent(problem))
}
