//! One exchange with the backend, up to the head of its answer.

use super::body::{Connection, UpstreamBody};
use super::connect::connect;
use super::h2;
use super::health::Permit;
use super::hearing::Hearing;
use super::link::Link;
use super::pool::Pool;
use crate::config::{self, HostPolicy, TargetSpelling};
use crate::gateway::body::{Outgoing, RequestBody};
use crate::gateway::clock;
use crate::gateway::headers::first_of;
use crate::gateway::own_lines::OwnLines;
use crate::gateway::scan::{Asked, Problem};
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version, response};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A target as its client spelled it, in a request's extensions, where that is not its normal form.
#[derive(Clone, Debug)]
pub struct OriginalTarget(pub PathAndQuery);

/// What a caller sees of an exchange that it stopped waiting for.
#[derive(Default)]
pub struct Flight {
    sent_at: Cell<Option<Instant>>,
    hearing: Hearing,
    /// An upgrade is asked for.
    switches: bool,
    /// What the request's head says besides its headers. Only over HTTP/1.1.
    lines: Option<OwnLines>,
    /// When it has to be over altogether.
    until: Option<Instant>,
    /// What has not left when it is over must not leave later.
    stays: bool,
}

/// The answer's head, and its body as it comes.
pub struct Reply {
    /// Status and headers.
    pub head: response::Parts,
    /// The rest.
    pub body: UpstreamBody,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No byte was written: known not executed.
    NotSent(String),
    /// At least one byte may have left.
    Lost(String),
    /// An answer came that has more than one reading.
    Ambiguous(Problem),
}

/// Which pooled connections a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Any that is open; a GET without a body is sent once more where a rested connection turns out dead.
    Any,
    /// Only one that rested for less than a second, so that a backend's idle timeout makes no false doubt.
    Recent,
    /// A new one: what becomes another protocol's must have no past, such as a task that still sends a body.
    Never,
}

/// See [`Reuse::Recent`].
pub(super) const RECENT: Duration = Duration::from_secs(1);
/// A connection that rested for less is not suspected of being dead, and no copy of the request is kept for it.
pub(super) const SUSPECT: Duration = Duration::from_millis(100);
/// How often a request may come back unsent before a fresh connection is the only choice left.
const UNSENT_MOST: u32 = 3;

// === impl Flight ===

impl Flight {
    /// One in which somebody wants to know what comes before the answer.
    pub fn heard_by(hearing: Hearing) -> Flight {
        Flight { hearing, ..Flight::default() }
    }

    /// Its request's head says this too.
    pub fn saying(mut self, lines: Option<OwnLines>) -> Flight {
        self.lines = lines;
        self
    }

    /// It is an attempt's: what has not left when it is over must never leave.
    pub fn of_attempt(mut self) -> Flight {
        self.stays = true;
        self
    }

    /// It ends then, with all of its answer.
    pub fn until(mut self, until: Option<Instant>) -> Flight {
        self.until = until;
        self
    }

    /// One whose answer may switch the connection to another protocol.
    pub fn to_switch() -> Flight {
        Flight { switches: true, ..Flight::default() }
    }

    /// When the first byte may have left; `None` while it certainly has not.
    pub fn sent_at(&self) -> Option<Instant> {
        self.sent_at.get()
    }

    /// See [`Flight::until`].
    pub fn ends(&self) -> Option<Instant> {
        self.until
    }

    /// See [`Flight::of_attempt`].
    pub(super) fn stays(&self) -> bool {
        self.stays
    }

    /// `deadline`, or its end where that comes first.
    pub fn by(&self, deadline: Instant) -> Instant {
        self.until.map_or(deadline, |until| until.min(deadline))
    }

    /// Whether the connection is to speak another protocol behind the answer.
    pub(super) fn switches(&self) -> bool {
        self.switches
    }

    /// The server will not say whether it wants the body: it gets it.
    pub(super) fn opens(&self) {
        self.hearing.upload.iter().for_each(|upload| upload.open());
    }

    /// The first byte may leave from now on; or it certainly has not left after all.
    pub(super) fn sent(&self, at: Option<Instant>) {
        self.sent_at.set(at);
    }
}

/// Sends `request` to the upstream of `pool` and waits for the head of the answer. Deadlines are the caller's, who can
/// see in `flight` whether anything may have been sent; only connecting has its own. `may_send` is asked directly
/// before the first byte.
pub async fn send(
    pool: &Rc<Pool>,
    mut permit: Permit,
    mut request: Outgoing,
    reuse: Reuse,
    flight: &Flight,
    may_send: impl Fn(Instant) -> bool,
) -> Result<Box<Reply>, Failure> {
    if pool.upstream.config.target == TargetSpelling::Original
        && let Some(OriginalTarget(original)) = request.extensions_mut().remove()
    {
        *request.uri_mut() = Uri::from(original);
    }
    if let Some(trunks) = &pool.trunks {
        return Box::pin(h2::send(pool, trunks, permit, *request, reuse, flight, &may_send)).await;
    }
    let target = request.uri().path_and_query().cloned();
    let client_host = first_of(request.headers(), &header::HOST).cloned();
    let mut unsent = 0;
    loop {
        let (server, mut link, rested) = connection(pool, reuse, unsent, &mut permit).await?;
        prepare(&mut request, pool, server, target.as_ref(), client_host.as_ref())?;
        let now = clock::now();
        if !may_send(now) {
            pool.give_back(server, link, now);
            return Err(Failure::NotSent("the claim ended before anything was sent".into()));
        }
        let second_try = copy_for_second_try(&request, reuse, rested);
        flight.sent_at.set(Some(now));
        let head = *request.method() == Method::HEAD;
        let asked = Asked { head, upgrade: flight.switches, expects: flight.hearing.upload.is_some() };
        let hearing = (!flight.hearing.is_empty()).then(|| flight.hearing.clone());
        match link.exchange(*request, flight.lines.clone(), asked, hearing).await {
            Ok(answer) => {
                pool.upstream.answered(server, flight.sent_at());
                let (mut head, incoming) = answer.into_parts();
                // What the backend speaks ends here; to the client it is this gateway that answers.
                head.version = Version::HTTP_11;
                let connection =
                    Connection { link: Some(link), stream: None, pool: pool.clone(), server, permit };
                let body = UpstreamBody::new(incoming, connection, flight.ends());
                // Boxed: it is handed up through several futures, and each would copy it.
                return Ok(Box::new(Reply { head, body }));
            }
            Err(mut error) => match (error.take_message(), second_try) {
                // Handed back whole: not a byte was written.
                (Some(back), _) if unsent < UNSENT_MOST => {
                    flight.sent_at.set(None);
                    unsent += 1;
                    *request = back;
                }
                (Some(_), _) => {
                    flight.sent_at.set(None);
                    return Err(Failure::NotSent(error.into_error().to_string()));
                }
                (None, _) if link.problem().is_some() => {
                    let lost = || Failure::Lost(describe(&error.into_error()));
                    return Err(link.problem().map_or_else(lost, Failure::Ambiguous));
                }
                (None, Some(copy)) => {
                    unsent = UNSENT_MOST;
                    request = copy;
                }
                (None, None) => {
                    let error = error.into_error();
                    let why = describe(&error);
                    // A client that breaks off its upload says nothing of the server.
                    if rested.is_none() && !error.is_user() {
                        pool.upstream.said_nothing(server, &why);
                    }
                    return Err(Failure::Lost(why));
                }
            },
        }
    }
}

/// A connection to the best server: a rested one where that is allowed, a new one otherwise; a server that refuses is
/// followed by the next.
async fn connection(
    pool: &Rc<Pool>,
    reuse: Reuse,
    unsent: u32,
    permit: &mut Permit,
) -> Result<(usize, Box<Link>, Option<Duration>), Failure> {
    let upstream = &pool.upstream;
    let most = match reuse {
        Reuse::Any => Some(upstream.config.idle),
        Reuse::Recent => Some(upstream.config.idle.min(RECENT)),
        Reuse::Never => None,
    };
    let mut tried = 0;
    let mut problem = String::new();
    while let Some(server) = upstream.choose(tried, clock::recent()) {
        permit.assign(server);
        if unsent < UNSENT_MOST
            && let Some(most) = most
            && let Some((link, rested)) = pool.take(server, most, clock::recent())
        {
            return Ok((server, link, Some(rested)));
        }
        // Boxed: most exchanges find a connection, and should not be copied with room for making one.
        match Box::pin(connect(pool, server)).await {
            Ok(link) => return Ok((server, link, None)),
            Err(why) => {
                problem = why;
                tried |= 1 << server;
            }
        }
    }
    Err(Failure::NotSent(problem))
}

/// Makes the request fit the server: origin form, the base's path in front, the host as configured.
fn prepare(
    request: &mut Request<RequestBody>,
    pool: &Pool,
    server: usize,
    target: Option<&PathAndQuery>,
    client_host: Option<&HeaderValue>,
) -> Result<(), Failure> {
    let config = &pool.upstream.config;
    let base = &config.urls[server];
    *request.version_mut() = Version::HTTP_11;
    if pool.upstream.has_prefixes {
        let target = target.map_or("/", PathAndQuery::as_str);
        let joined = Uri::try_from(format!("{}{target}", base.prefix));
        *request.uri_mut() =
            joined.map_err(|error| Failure::NotSent(format!("{}{target}: {error}", base.prefix)))?;
    }
    if (config.host == HostPolicy::Rewrite || client_host.is_none())
        && let Ok(host) = HeaderValue::from_str(&base.authority)
    {
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(())
}

/// A GET or HEAD without a body may be sent once more where a pooled connection was dead; never anything else.
fn copy_for_second_try(
    request: &Request<RequestBody>,
    reuse: Reuse,
    rested: Option<Duration>,
) -> Option<Outgoing> {
    let suspect = reuse == Reuse::Any && rested.is_some_and(|rested| rested >= SUSPECT);
    if !(suspect && is_repeatable(request)) {
        return None;
    }
    let mut copy = Box::new(Request::new(RequestBody::empty()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Whether the request may be sent once more where a pooled connection was dead.
pub(super) fn is_repeatable(request: &Request<RequestBody>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_empty()
}

/// The `Host` that the server gets: the client's, or the base's own.
pub(super) fn authority(
    config: &config::Upstream,
    server: usize,
    client_host: Option<&HeaderValue>,
) -> HeaderValue {
    let own = || HeaderValue::from_str(&config.urls[server].authority).ok();
    let host = client_host.cloned().filter(|_| config.host == HostPolicy::Preserve).or_else(own);
    host.unwrap_or(HeaderValue::from_static("localhost"))
}

pub(super) fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
