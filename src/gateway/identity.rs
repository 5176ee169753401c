//! Who asks: the client's address, whom limits count, and the scope that the caller has shown.
//!
//! A scope bounds every fingerprint and replay, so it is made only of what the caller has shown: a verified JWT, what
//! `scope_by` names, or a digest of the credentials. An address proves nothing; it stands in only for callers that have
//! shown nothing at all.

use super::headers::X_FORWARDED_FOR;
use super::jwt::Verifier;
use crate::config::Clients;
use crate::domain::client::{Identity, ScopeId, counted_address};
use crate::domain::fingerprint::FingerprintKey;
use http::header::{self, HeaderMap, HeaderName};
use ipnet::IpNet;
use std::net::IpAddr;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A key of at least this many characters cannot be guessed and scopes a caller that has shown nothing else.
const KEY_SCOPES_ALONE: usize = 22;

/// What a caller has shown, in the order in which it is digested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    parts: Vec<(&'static str, Vec<u8>)>,
}

/// Whether `address` is one of `networks`. IPv4 in IPv6 counts as IPv4.
pub fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The client's address: the peer, or behind trusted proxies the rightmost address that is not one of them.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut address = peer;
    if !is_within(trusted, peer) {
        return address;
    }
    for hop in hops(headers).into_iter().rev() {
        match hop {
            // Whoever wrote what cannot be read stands where the last readable address stands.
            None => return address,
            Some(hop) => address = hop,
        }
        if !is_within(trusted, address) {
            return address;
        }
    }
    address
}

/// The addresses that proxies noted, client first: `X-Forwarded-For`, or `Forwarded` where there is none.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let list = |name: &HeaderName| -> Vec<Vec<u8>> {
        let values = headers.get_all(name).iter();
        values.flat_map(|value| value.as_bytes().split(|&b| b == b',')).map(<[u8]>::to_vec).take(64).collect()
    };
    let listed = list(&X_FORWARDED_FOR);
    if !listed.is_empty() {
        return listed.iter().map(|hop| node_address(hop)).collect();
    }
    let elements = list(&header::FORWARDED);
    let node = |element: &Vec<u8>| {
        let mut pairs = element.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let pair = pairs.find(|pair| pair.len() > 4 && pair[..4].eq_ignore_ascii_case(b"for="))?;
        node_address(&pair[4..])
    };
    elements.iter().map(node).collect()
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`, `"[fe80::1%eth0]"`.
fn node_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim().trim_matches('"');
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => match text.rsplit_once(':') {
            Some((host, _)) if !host.contains(':') => host,
            _ => text,
        },
    };
    let bare = bare.split_once('%').map_or(bare, |(address, _zone)| address);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whom limits count, as it is logged: the first of `identify_by` that is present. What it says is not proven, and it
/// may be a credential, so everything but an address is named by a digest.
pub fn client(
    clients: &Clients,
    jwt: Option<&Verifier>,
    digest: &FingerprintKey,
    headers: &HeaderMap,
    address: IpAddr,
) -> String {
    let found = clients.identify_by.iter().find_map(|identity| match identity {
        Identity::Ip => Some(counted_address(address).to_string()),
        other => {
            let value = identity_value(other, jwt, headers, false)?;
            Some(format!("{identity}:{}", digest.scope_id(&[("client", &value)])))
        }
    });
    found.unwrap_or_else(|| counted_address(address).to_string())
}

/// What the caller has shown; empty where it has shown nothing. A verified JWT counts before everything else.
pub fn shown(clients: &Clients, jwt: Option<&Verifier>, headers: &HeaderMap) -> Shown {
    if let Some(verifier) = jwt
        && let Some(claims) = bearer(headers).and_then(|token| verifier.verify(token))
    {
        let claim = clients.scope_by.iter().chain(&clients.identify_by).find_map(|identity| match identity {
            Identity::Jwt(claim) => claims.text(claim),
            _ => None,
        });
        if let Some(subject) = claim.or_else(|| claims.text("sub")) {
            let issuer = claims.text("iss").unwrap_or_default().into_bytes();
            return Shown { parts: vec![("jwt-issuer", issuer), ("jwt-subject", subject.into_bytes())] };
        }
    }
    let named = clients.scope_by.iter().find_map(|identity| match identity {
        Identity::Header(_) | Identity::Cookie(_) => {
            let value = identity_value(identity, None, headers, true)?;
            Some(vec![("named", identity.to_string().into_bytes()), ("value", value)])
        }
        _ => None,
    });
    Shown { parts: named.unwrap_or_else(|| credentials(headers)) }
}

/// Every credential that a request carries. More than is needed can only keep two requests apart.
fn credentials(headers: &HeaderMap) -> Vec<(&'static str, Vec<u8>)> {
    let mut parts = Vec::new();
    for (label, name) in [("authorization", header::AUTHORIZATION), ("x-api-key", X_API_KEY)] {
        parts.extend(headers.get_all(name).iter().map(|value| (label, value.as_bytes().to_vec())));
    }
    // The order of cookies means nothing; a browser changes it when one of them is renewed.
    let mut cookies: Vec<Vec<u8>> = cookies(headers).map(<[u8]>::to_vec).collect();
    cookies.sort_unstable();
    parts.extend(cookies.into_iter().map(|cookie| ("cookie", cookie)));
    parts
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&b| b == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|c| !c.is_empty())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn identity_value(
    identity: &Identity,
    jwt: Option<&Verifier>,
    headers: &HeaderMap,
    whole: bool,
) -> Option<Vec<u8>> {
    match identity {
        Identity::Header(name) if whole => {
            // All lines count: two different lists must not become one caller.
            let mut values = headers.get_all(name.as_str()).iter().peekable();
            values.peek()?;
            Some(values.flat_map(|value| [value.as_bytes(), b"\n"]).flatten().copied().collect())
        }
        Identity::Header(name) => headers.get(name.as_str()).map(|value| value.as_bytes().to_vec()),
        Identity::Cookie(name) => {
            let mut found = cookies(headers).filter_map(|cookie| {
                let (key, value) = split_cookie(cookie);
                (key == name.as_bytes()).then_some(value)
            });
            found.next().map(<[u8]>::to_vec)
        }
        Identity::Jwt(claim) => jwt?.verify(bearer(headers)?)?.text(claim).map(String::into_bytes),
        Identity::Ip => None,
    }
}

fn split_cookie(cookie: &[u8]) -> (&[u8], &[u8]) {
    match cookie.iter().position(|&b| b == b'=') {
        Some(at) => (cookie[..at].trim_ascii(), cookie[at + 1..].trim_ascii()),
        None => (cookie, b""),
    }
}

// === impl Shown ===

impl Shown {
    /// The scope of a caller who has shown this; one who has shown nothing is scoped by a long key alone, or by its
    /// address.
    pub fn scope(&self, digest: &FingerprintKey, key: Option<&[u8]>, address: IpAddr) -> ScopeId {
        if !self.parts.is_empty() {
            let parts: Vec<(&str, &[u8])> =
                self.parts.iter().map(|(name, value)| (*name, value.as_slice())).collect();
            return digest.scope_id(&parts);
        }
        match key {
            Some(key) if key.len() >= KEY_SCOPES_ALONE => digest.scope_id(&[("anonymous-key", b"")]),
            _ => digest.scope_id(&[("address", counted_address(address).to_string().as_bytes())]),
        }
    }

    /// What the caller will show after an answer with these `Set-Cookie` lines, where one of them renews a cookie that
    /// it has shown; its scope lives on under the new one.
    pub fn renewed(&self, answer: &HeaderMap) -> Option<Shown> {
        let mut renewed = self.clone();
        let mut changed = false;
        for line in answer.get_all(header::SET_COOKIE) {
            let pair = line.as_bytes().split(|&b| b == b';').next().unwrap_or_default();
            let (name, value) = split_cookie(pair.trim_ascii());
            changed |= renewed.replace_cookie(name, value);
        }
        if !changed {
            return None;
        }
        renewed.parts.sort_by_key(|(label, value)| (*label == "cookie").then(|| value.clone()));
        Some(renewed)
    }

    fn replace_cookie(&mut self, name: &[u8], value: &[u8]) -> bool {
        let named = self
            .parts
            .first()
            .is_some_and(|(label, what)| *label == "named" && what.strip_prefix(b"cookie:") == Some(name));
        if named {
            self.parts[1].1 = value.to_vec();
            return true;
        }
        let mut changed = false;
        for (label, cookie) in &mut self.parts {
            if *label == "cookie" && split_cookie(cookie).0 == name {
                *cookie = [name, b"=", value].concat();
                changed = true;
            }
        }
        changed
    }
}
