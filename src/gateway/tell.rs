//! What the backend is told besides what the client said: the request's id, the client, and the way.

use super::connection::Connection;
use super::exchange::Exchange;
use super::guard::joined;
use super::headers::{Forwarding, X_FORWARDED_HOST, add_via, first_of, set_forwarded};
use super::own_lines::{self, OwnLines};
use crate::domain::told;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Version};

/// Whether it goes out as lines that are ready, where the client says none of it itself: the request goes on over
/// HTTP/1.1, and nobody on the way reads what it says of the gateway.
pub fn goes_by_lines(exchange: &Exchange, parts: &Parts) -> bool {
    let rules = exchange.rules();
    let is_read = || rules.guard().is_none_or(|guard| guard.reads_what_is_told);
    let looked_at = (exchange.guarded && is_read()) || rules.slots.ask.is_some() || rules.reads.is_some();
    !looked_at && !exchange.pool().upstream.config.http2 && first_of(&parts.headers, &header::HOST).is_some()
}

/// Where the request was sent to, as far as a trusted proxy says more of it than `Host` does. Before the gateway adds its
/// own words to the same headers.
pub fn sent_to(connection: &Connection, headers: &HeaderMap) -> Box<[(&'static str, Vec<u8>)]> {
    if !connection.trusted {
        return Box::default();
    }
    let host = first_of(headers, &header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let listed = joined(headers, X_FORWARDED_HOST).and_then(|list| told::listed(&list, host));
    let forwarded = joined(headers, header::FORWARDED).and_then(|list| told::forwarded(&list, host));
    let said = [("forwarded", forwarded), ("x-forwarded-host", listed)];
    said.into_iter().filter_map(|(name, hosts)| Some((name, hosts?))).collect()
}

/// The lines, made once a connection and host.
pub fn lines(exchange: &Exchange, parts: &Parts) -> Option<OwnLines> {
    let host = first_of(&parts.headers, &header::HOST)?;
    let before = exchange.connection.told.lines(host, || {
        let mut headers = HeaderMap::from_iter([(header::HOST, host.clone())]);
        put(exchange, parts.version, &mut headers, false);
        headers.remove(header::HOST);
        own_lines::lines(&headers, &exchange.shared().policy.config().server.request_id_header)
    });
    let signature = Some((before, exchange.request_id.clone()));
    Some(OwnLines { signature, ..OwnLines::default() })
}

/// Adds it to the request's headers. `forwarded`: they have a `Forwarded`.
pub fn in_headers(exchange: &Exchange, parts: &mut Parts, forwarded: bool) {
    let Parts { headers, version, .. } = parts;
    // Room for everything, taken once.
    headers.reserve(7);
    headers.insert(&exchange.shared().policy.config().server.request_id_header, exchange.request_id.clone());
    put(exchange, *version, headers, forwarded);
}

/// The client and the way.
fn put(exchange: &Exchange, version: Version, headers: &mut HeaderMap, forwarded: bool) {
    let (server, connection) = (&exchange.shared().policy.config().server, &exchange.connection);
    let forwarding = Forwarding {
        peer: connection.peer,
        peer_text: &connection.peer_text,
        trusted: connection.trusted,
        secure: connection.secure,
        style: server.forwarded,
        forwarded,
    };
    set_forwarded(headers, &forwarding);
    if server.via {
        add_via(headers, version);
    }
}
