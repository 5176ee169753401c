//! Header rules on both ways: what belongs to one hop is removed in one pass, what tells the backend about the client
//! is added. Names keep their case and order, because legacy backends depend on both.

use super::look_alikes;
use crate::config::ForwardedStyle;
use http::Version;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

/// `X-Forwarded-For`
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `Idempotent-Replayed`: this answer is a copy of a recorded one.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// `Idempotent-Stored: false`: this answer is real, and a copy of the request may not get it.
pub const IDEMPOTENT_STORED: HeaderName = HeaderName::from_static("idempotent-stored");

/// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit` (the same).
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What one pass over the names of a head has found: looking each of them up would cost more than the pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// `Expect: 100-continue`, and nothing else of that name.
    pub expect: bool,
    /// `Connection: close`
    pub closes: bool,
    /// `Forwarded`
    pub forwarded: bool,
    /// `X-Forwarded-For` and its family, or `Via`: what the gateway says itself.
    pub tells: bool,
    /// `RateLimit` or `RateLimit-Policy`
    pub limits: bool,
    /// A header that names another method.
    pub disguise: bool,
    /// A name that may look like one of the gateway's own.
    pub look_alikes: bool,
    /// `Origin`
    pub origin: bool,
    /// `TE: trailers`
    pub trailers: bool,
    /// `Upgrade`, named by `Connection`
    pub upgrade: bool,
    /// Where the first of the names stands that belong to this hop only.
    hop_by_hop: Option<usize>,
}

/// The first value of `name`. Heads have few headers, and most of what is looked for is in front or not there: going through
/// them costs less than a digest of the name.
pub fn first_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.iter().find(|(present, _)| *present == name).map(|(_, value)| value)
}

/// Removes what belongs to this hop only: the fixed names and those that `Connection` lists. A head without any of them
/// costs one scan, and one that ends with them (as most do) one removal each; otherwise the map is rebuilt once, because
/// removing from the middle would move the last header there.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> Found {
    let found = Found::of(headers);
    found.strip(headers);
    found
}

/// The same of an answer to a client of HTTP/1.1 whose connection goes on: where the backend speaks of its own, the client
/// is told so. It goes without saying, but some wait for the word before they ask again on a connection.
pub fn strip_hop_by_hop_of_answer(headers: &mut HeaderMap) -> Found {
    let (mut found, mut first) = (Found::default(), None);
    for (at, (name, value)) in headers.iter().enumerate() {
        match name.as_str() {
            "connection" if value.as_bytes().eq_ignore_ascii_case(b"keep-alive") => {}
            "ratelimit" | "ratelimit-policy" => found.limits = true,
            name if is_hop_by_hop(name) => {
                first = Some(at);
                break;
            }
            _ => {}
        }
    }
    if first.is_some() {
        let speaks_of_it = headers.contains_key(header::CONNECTION);
        found = strip_hop_by_hop(headers);
        if speaks_of_it {
            headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        }
    }
    found
}

/// The same, where the first of these names is the one at `first`.
fn strip_from(headers: &mut HeaderMap, first: usize) {
    let named = named_by_connection(headers);
    let is_fixed = |name: &HeaderName| is_hop_by_hop(name.as_str());
    if named.iter().all(is_fixed) && headers.keys().skip(first).all(is_fixed) {
        while let Some(last) = headers.keys().nth(first).cloned() {
            headers.remove(last);
        }
        return;
    }
    let mut kept = HeaderMap::with_capacity(headers.keys_len() + 6);
    let mut current: Option<HeaderName> = None;
    for (name, value) in headers.drain() {
        if let Some(name) = name {
            let drop = is_fixed(&name) || named.contains(&name);
            current = (!drop).then_some(name);
        }
        if let Some(name) = &current {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

/// Whether a header, its name in lower case, belongs to one hop only.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
    )
}

/// Whether the client takes trailers: the only part of `TE` that concerns more than one hop.
fn accepts_trailers(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    codings.into_iter().any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Whether `Expect` says what HTTP knows, and only that. Whatever else it says is between the client and the backend.
fn expects_continue(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::EXPECT).iter();
    let first = lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    first && lines.next().is_none()
}

/// Whether `Connection` has this option.
fn has_option(headers: &HeaderMap, option: &[u8]) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(option))
}

/// The headers that `Connection` lists. `Host` and `Content-Length` frame and route the message, and `X-Forwarded-*` and
/// `Forwarded` say behind a trusted proxy who asks: a client that lists them wants to confuse somebody, so they stay.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION);
    // Mostly one of the options stands alone.
    if lines.iter().all(|line| is_option(line.as_bytes())) {
        return Vec::new();
    }
    let tokens = lines.iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    tokens
        .filter(|token| !is_option(token.trim_ascii()))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::FORWARDED].contains(name))
        .filter(|name| !name.as_str().starts_with("x-forwarded-"))
        .take(64)
        .collect()
}

/// Whether a token of `Connection` is one of its two options rather than a header's name.
fn is_option(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive")
}

/// What the backend is told about the client.
pub struct Forwarding<'a> {
    /// The connection's other end.
    pub peer: IpAddr,
    /// `peer` as text, made once a connection.
    pub peer_text: &'a HeaderValue,
    /// Whether the peer may say for whom it asks.
    pub trusted: bool,
    /// Whether it came over TLS.
    pub secure: bool,
    /// Which headers are used.
    pub style: ForwardedStyle,
    /// Whether the request came with `Forwarded`.
    pub forwarded: bool,
}

/// Sets the forwarding headers. A trusted peer's list is extended; anybody else's is replaced, whichever of the two
/// families it is in, so that no client can put words into the gateway's mouth.
pub fn set_forwarded(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) {
    let Forwarding { trusted, style, .. } = *forwarding;
    if !trusted && forwarding.forwarded {
        headers.remove(header::FORWARDED);
    }
    if matches!(style, ForwardedStyle::Forwarded | ForwardedStyle::Both) {
        append_forwarded(headers, forwarding);
    }
    if matches!(style, ForwardedStyle::XForwarded | ForwardedStyle::Both) {
        set_x_forwarded(headers, forwarding);
    } else if !trusted {
        for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            headers.remove(name);
        }
    }
}

fn set_x_forwarded(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) {
    let host = headers.get(header::HOST).cloned();
    if forwarding.trusted && headers.contains_key(X_FORWARDED_FOR) {
        append_to_list(headers, X_FORWARDED_FOR, forwarding.peer_text.as_bytes());
    } else {
        headers.insert(X_FORWARDED_FOR, forwarding.peer_text.clone());
    }
    if !(forwarding.trusted && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(forwarding.proto()));
    }
    if !(forwarding.trusted && headers.contains_key(X_FORWARDED_HOST)) {
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
}

/// RFC 7239: one element for this hop, after those that a trusted peer sent.
fn append_forwarded(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) {
    let node = match forwarding.peer {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let mut element = format!("for={node};proto={}", forwarding.proto()).into_bytes();
    if let Some(host) = headers.get(header::HOST) {
        // A host that would have to be escaped is none that a legacy backend could use.
        if host.as_bytes().iter().all(|&b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            element.extend_from_slice(b";host=\"");
            element.extend_from_slice(host.as_bytes());
            element.push(b'"');
        }
    }
    append_to_list(headers, header::FORWARDED, &element);
}

/// Adds `element` to a comma-separated list that may be spread over several lines; one line is left.
pub fn append_to_list(headers: &mut HeaderMap, name: HeaderName, element: &[u8]) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element);
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(name, value);
    }
}

impl Forwarding<'_> {
    fn proto(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// Adds this hop to `Via` (RFC 9110, 7.6.3), with the version in which the message came.
pub fn add_via(headers: &mut HeaderMap, version: Version) {
    let hop = if version == Version::HTTP_2 { "2.0 oncegate" } else { "1.1 oncegate" };
    match headers.entry(header::VIA) {
        Entry::Vacant(vacant) => {
            vacant.insert(HeaderValue::from_static(hop));
        }
        Entry::Occupied(_) => append_to_list(headers, header::VIA, hop.as_bytes()),
    }
}

// === impl Found ===

impl Found {
    /// What is in a request's head.
    pub fn of(headers: &HeaderMap) -> Found {
        let (mut found, mut first) = (Found::default(), None);
        for (at, name) in headers.keys().enumerate() {
            match name.as_str() {
                "expect" => found.expect = expects_continue(headers),
                "forwarded" => found.forwarded = true,
                "origin" => found.origin = true,
                "ratelimit" | "ratelimit-policy" => found.limits = true,
                "via" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => found.tells = true,
                "x-http-method-override" | "x-http-method" | "x-method-override" => found.disguise = true,
                "te" => {
                    found.trailers = accepts_trailers(headers);
                    first = first.or(Some(at));
                }
                "connection" => {
                    found.closes = has_option(headers, b"close");
                    first = first.or(Some(at));
                }
                "upgrade" => {
                    // Without the option it is another hop's, and no wish of this one's (RFC 9110, 7.8).
                    found.upgrade = has_option(headers, b"upgrade");
                    first = first.or(Some(at));
                }
                name if first.is_none() && is_hop_by_hop(name) => first = Some(at),
                name => found.look_alikes |= look_alikes::may_be(name),
            }
        }
        Found { hop_by_hop: first, ..found }
    }

    /// Whether a request says something that what the gateway says of it would have to be joined with.
    pub fn says(&self) -> bool {
        self.forwarded || self.tells
    }

    /// Removes what belongs to this hop from `headers`, in which this was found.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if let Some(first) = self.hop_by_hop {
            strip_from(headers, first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn hop_by_hop_headers_go_and_the_rest_keeps_its_order() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "keep-alive, X-Secret"),
            ("x-one", "1"),
            ("x-secret", "s"),
            ("te", "trailers"),
            ("x-two", "2"),
            ("x-two", "3"),
            ("keep-alive", "5"),
            ("cookie", "c"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["host", "x-one", "x-two", "x-two", "cookie"]);
    }

    #[test]
    fn hop_by_hop_headers_at_the_end_go_without_disturbing_the_rest() {
        let mut headers =
            map(&[("host", "a"), ("x-one", "1"), ("te", "trailers"), ("connection", "keep-alive, TE")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["host", "x-one"]);
        let mut headers = map(&[("x-one", "1"), ("connection", "close"), ("x-two", "2")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["x-one", "x-two"]);
        let mut headers = map(&[("x-one", "1"), ("x-two", "2"), ("connection", "close, x-one")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["x-two"]);
    }

    #[test]
    fn an_answer_says_that_its_connection_goes_on_and_keeps_nothing_else_of_its_hop() {
        for (pairs, expected) in [
            (&[("connection", "keep-alive"), ("x-one", "1")][..], &["connection", "x-one"][..]),
            (&[("connection", "Keep-Alive"), ("keep-alive", "5"), ("x-one", "1")], &["x-one", "connection"]),
            (&[("connection", "keep-alive, x-one"), ("x-one", "1")], &["connection"]),
            (&[("connection", "close"), ("x-one", "1")], &["x-one", "connection"]),
            (&[("connection", "keep-alive"), ("connection", "close")], &["connection"]),
            (&[("connection", "x-one"), ("x-one", "1")], &["connection"]),
            (&[("x-one", "1"), ("te", "trailers")], &["x-one"]),
        ] {
            let mut headers = map(pairs);
            strip_hop_by_hop_of_answer(&mut headers);
            assert_eq!(names(&headers), expected, "{pairs:?}");
            let said = headers
                .get(header::CONNECTION)
                .is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
            assert!(said, "{pairs:?}");
        }
    }

    #[test]
    fn connection_cannot_remove_host_or_content_length() {
        let mut headers =
            map(&[("host", "a"), ("content-length", "3"), ("connection", "host, content-length")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["host", "content-length"]);
    }

    #[test]
    fn connection_cannot_remove_for_whom_a_proxy_asks() {
        let listed = "X-Forwarded-For, forwarded, x-forwarded-port, x-one";
        let names_told = ["x-forwarded-for", "forwarded", "x-forwarded-port"];
        let mut headers = map(&names_told.map(|name| (name, "1.2.3.4")));
        headers.append("x-one", HeaderValue::from_static("1"));
        headers.append(header::CONNECTION, HeaderValue::from_static(listed));
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), names_told);
    }

    fn forward(headers: &mut HeaderMap, trusted: bool, style: ForwardedStyle) {
        let text = HeaderValue::from_static("192.0.2.9");
        let peer = "192.0.2.9".parse().expect("an address");
        let forwarding =
            Forwarding { peer, peer_text: &text, trusted, secure: false, style, forwarded: true };
        set_forwarded(headers, &forwarding);
    }

    #[test]
    fn an_untrusted_peers_claims_are_replaced_in_both_families() {
        let mut headers = map(&[
            ("host", "h"),
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-proto", "https"),
        ]);
        forward(&mut headers, false, ForwardedStyle::XForwarded);
        assert_eq!(headers[X_FORWARDED_FOR], "192.0.2.9");
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
        assert_eq!(headers[X_FORWARDED_HOST], "h");
        assert!(!headers.contains_key(header::FORWARDED));
    }

    #[test]
    fn a_trusted_peers_list_is_extended() {
        let mut headers =
            map(&[("host", "h"), ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")]);
        forward(&mut headers, true, ForwardedStyle::Both);
        assert_eq!(headers[X_FORWARDED_FOR], "1.1.1.1, 2.2.2.2, 192.0.2.9");
        assert_eq!(headers[header::FORWARDED], "for=192.0.2.9;proto=http;host=\"h\"");
    }

    #[test]
    fn off_passes_a_trusted_peers_headers_and_removes_anybody_elses() {
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1")]);
        forward(&mut headers, true, ForwardedStyle::Off);
        assert_eq!(headers[X_FORWARDED_FOR], "1.1.1.1");
        forward(&mut headers, false, ForwardedStyle::Off);
        assert!(headers.is_empty());
    }
}
