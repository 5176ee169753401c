//! Upgrades: an unguarded request switches its connection to another protocol, WebSocket above all. What flows then is no
//! HTTP, so it is neither read nor guarded; that is why a guarded route refuses it, why only named protocols are let
//! through, and why no byte flows before the backend has agreed.

mod frames;
mod pipe;
mod switching;
mod tunnel;

pub use switching::Switching;
pub use tunnel::run;

use super::body::RequestBody;
use super::body::ResponseBody;
use super::clock;
use super::exchange::{Exchange, Outcome};
use super::forward;
use super::headers::strip_hop_by_hop;
use super::upstream::{Flight, Permit, Reply, Reuse, Switched, send};
use super::worker::Shared;
use crate::domain::event::Decision;
use crate::domain::refusal::{Reason, Refusal};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A place among `server.upgrades_max`; given up when dropped.
pub struct Place(Arc<Shared>);

/// A connection to a server that speaks another protocol now, on its way to the client's connection.
pub struct Switch {
    /// The server's side.
    server: Switched,
    /// WebSocket, whose end can be told politely.
    is_websocket: bool,
    /// Counted while it lives.
    _place: Place,
}

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// The protocol that the client wants to switch to. A client that offers h2c with every request, as some libraries do,
/// wants nothing that it would miss; nor does one that does not name the header in `Connection` (RFC 9110, 7.8).
pub fn wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// Whether this request may switch to `protocol`: one that its route lists, of a kind that can carry it.
pub fn is_allowed(exchange: &Exchange, parts: &Parts, protocol: &HeaderValue, has_body: bool) -> bool {
    let listed = |name: &String| protocol.as_bytes().eq_ignore_ascii_case(name.as_bytes());
    exchange.rules().upgrade.iter().any(listed)
        && parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && !has_body
}

/// Asks the backend to switch. The answer's head decides: with `101` the client's connection is joined with the
/// backend's as soon as that head has gone out; any other answer is one like every other.
pub async fn pass(exchange: &Exchange, parts: Parts, protocol: HeaderValue) -> Result<Outcome, Refusal> {
    if exchange.shared().draining.load(Relaxed) {
        let detail = "The gateway is shutting down and begins nothing that lasts.";
        return Err(Refusal::new(Reason::Draining, detail).retry_after(Duration::from_secs(1)).closing());
    }
    let place = Place::take(&exchange.worker.shared)?;
    let permit = exchange.admit_in_turn(&parts.headers).await?;
    let _offer = exchange.connection.switching.offer();
    let (Reply { mut head, body }, upstream) = ask(exchange, permit, parts, &protocol).await?;
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(&mut head.headers);
        let response = Response::from_parts(head, ResponseBody::stream(body));
        return Ok(Outcome { upstream, ..Outcome::new(response, Decision::Passed) });
    }
    let agreed = head.headers.get(header::UPGRADE).cloned();
    let Some(server) = body
        .into_switched()
        .filter(|_| agreed.is_some_and(|agreed| agreed.as_bytes().eq_ignore_ascii_case(protocol.as_bytes())))
    else {
        let detail = "The backend switched to another protocol than the one that was asked for.";
        return Err(Refusal::new(Reason::UpstreamAmbiguous, detail));
    };
    strip_hop_by_hop(&mut head.headers);
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    exchange.connection.switch_to(Switch { server, is_websocket, _place: place });
    head.headers.insert(header::CONNECTION, UPGRADE);
    head.headers.insert(header::UPGRADE, protocol);
    let response = Response::from_parts(head, ResponseBody::whole(Default::default()));
    Ok(Outcome { upstream, ..Outcome::new(response, Decision::Passed) })
}

/// Sends the request, with what belongs to this hop put back, and waits for the answer's head.
async fn ask(
    exchange: &Exchange,
    permit: Permit,
    mut parts: Parts,
    protocol: &HeaderValue,
) -> Result<(Reply, Option<Duration>), Refusal> {
    parts.headers.insert(header::CONNECTION, UPGRADE);
    parts.headers.insert(header::UPGRADE, protocol.clone());
    let request = Request::from_parts(parts, RequestBody::empty());
    let (now, upstream) = (clock::now(), &exchange.pool().upstream);
    let flight = Flight::to_switch().until(upstream.ends(now));
    let deadline = flight.by(now + exchange.rules().timeout);
    // On a connection of its own: this is asked once, and the connection is not given back.
    let sending = pin!(send(exchange.pool(), permit, Box::new(request), Reuse::Never, &flight, |_| true));
    let reply = exchange.worker.deadlines.within(deadline, sending).await;
    let upstream = flight.sent_at().map(|sent| clock::now().saturating_duration_since(sent));
    match reply {
        Some(Ok(reply)) => Ok((*reply, upstream)),
        Some(Err(failure)) => Err(forward::refused(failure)),
        None => Err(forward::too_slow(flight.sent_at(), deadline - now)),
    }
}

// === impl Place ===

impl Place {
    fn take(shared: &Arc<Shared>) -> Result<Place, Refusal> {
        let most = shared.policy.config().server.upgrades_max;
        if shared.upgrades.fetch_add(1, Relaxed) >= most {
            shared.upgrades.fetch_sub(1, Relaxed);
            let detail = format!(
                "{most} upgraded connections are open, as many as the gateway allows; nothing was sent."
            );
            return Err(Refusal::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1)));
        }
        shared.journal.metrics().upgrades.inc();
        Ok(Place(shared.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.upgrades.fetch_sub(1, Relaxed);
        self.0.journal.metrics().upgrades.dec();
    }
}
