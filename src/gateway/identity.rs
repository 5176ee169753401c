//! Who asks: the client's address, whom limits count, and the scope that the caller has shown.
//!
//! A scope bounds every fingerprint and replay, so it is made only of what the caller has shown: a verified JWT, what
//! `scope_by` names, or a digest of the credentials. An address proves nothing; it stands in only for callers that have
//! shown nothing at all.

use super::headers::X_FORWARDED_FOR;
use super::jwt::Verifier;
use super::tls::Principal;
use crate::config::Clients;
use crate::domain::client::{Identity, ScopeId, counted_address};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::quoted::pieces;
use http::header::{self, HeaderMap, HeaderName};
use ipnet::IpNet;
use std::cell::RefCell;
use std::net::IpAddr;
use std::time::SystemTime;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a client's certificate is digested as.
const CERT: &str = "cert";

/// A key of at least this many characters cannot be guessed and scopes a caller that has shown nothing else.
const KEY_SCOPES_ALONE: usize = 22;

/// A cookie's value of at least this many characters may be a secret. A shorter one (a language, a consent) is shown by many,
/// so it proves nothing.
const COOKIE_PROVES: usize = 16;

/// Hops of a forwarding list that are looked at.
const HOPS_MOST: usize = 64;

/// What a caller has shown, in the order in which it is digested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    parts: Vec<(&'static str, Vec<u8>)>,
}

/// Who asked last on a connection. Most requests of a connection show the same, and comparing is cheaper than digesting.
#[derive(Default)]
pub struct LastCaller(RefCell<Option<Box<(Shown, IpAddr, ScopeId)>>>);

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

/// The addresses that proxies noted, client first: `X-Forwarded-For`, or `Forwarded` where there is none. Of a list that
/// is absurdly long the end counts, which is what the nearest proxies wrote.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = |name: HeaderName| -> Vec<_> { headers.get_all(name).iter().collect() };
    let listed = lines(X_FORWARDED_FOR);
    let mut nearest: Vec<_> = if listed.is_empty() {
        let forwarded = lines(header::FORWARDED);
        let elements = forwarded.iter().rev().flat_map(|line| pieces(line.as_bytes(), |byte| byte == b','));
        elements.take(HOPS_MOST).map(element_address).collect()
    } else {
        let hops = listed.iter().rev().flat_map(|line| line.as_bytes().rsplit(|&b| b == b','));
        hops.take(HOPS_MOST).map(node_address).collect()
    };
    nearest.reverse();
    nearest
}

/// The `for` of an element of `Forwarded`.
fn element_address(element: &[u8]) -> Option<IpAddr> {
    let pairs = pieces(element, |byte| byte == b';').map(<[u8]>::trim_ascii);
    let names_it = |pair: &&[u8]| pair.len() > 4 && pair[..4].eq_ignore_ascii_case(b"for=");
    node_address(&pairs.filter(names_it).last()?[4..])
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

/// What the caller has shown; empty where it has shown nothing. The first of `scope_by` that is present counts alone; a
/// token counts only with a verified signature. Where `scope_by` names nothing, a verified token that `identify_by` uses
/// stands for its subject, and otherwise every credential counts.
pub fn shown(
    clients: &Clients,
    jwt: Option<&Verifier>,
    headers: &HeaderMap,
    cert: Option<&Principal>,
) -> Shown {
    let certified = || Some(vec![(CERT, cert?.bytes().to_vec())]);
    let named = clients.scope_by.iter().find_map(|identity| match identity {
        Identity::Jwt(claim) => subject(jwt, headers, claim),
        Identity::Header(_) | Identity::Cookie(_) => {
            let value = identity_value(identity, headers)?;
            Some(vec![("named", identity.to_string().into_bytes()), ("value", value)])
        }
        Identity::Cert => certified(),
        Identity::Ip => None,
    });
    let identified = || {
        let proven = clients.identify_by.iter().filter(|_| clients.scope_by.is_empty());
        proven.into_iter().find_map(|identity| match identity {
            Identity::Jwt(claim) => subject(jwt, headers, claim).filter(|parts| names_subject(parts)),
            Identity::Cert => certified(),
            Identity::Header(_) | Identity::Cookie(_) | Identity::Ip => None,
        })
    };
    Shown { parts: named.or_else(identified).unwrap_or_else(|| credentials(headers, cert)) }
}

/// Whether a token says of whom it is, and not only what many share. `scope_by` may name what it likes.
fn names_subject(parts: &[(&'static str, Vec<u8>)]) -> bool {
    parts.iter().any(|(label, subject)| *label == "jwt-subject" && !subject.is_empty())
}

/// A verified token's subject together with `claim`: a claim that many share (an organisation) must not become one caller.
fn subject(jwt: Option<&Verifier>, headers: &HeaderMap, claim: &str) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let claims = jwt?.verify(bearer(headers)?)?;
    let value = claims.text(claim).filter(|value| !value.is_empty())?;
    let text = |claim| claims.text(claim).unwrap_or_default().into_bytes();
    Some(vec![
        ("jwt-issuer", text("iss")),
        ("jwt-subject", text("sub")),
        ("jwt-claim", format!("{claim}={value}").into_bytes()),
    ])
}

/// Every credential that a request carries.
fn credentials(headers: &HeaderMap, cert: Option<&Principal>) -> Vec<(&'static str, Vec<u8>)> {
    let mut parts: Vec<_> = cert.map(|cert| (CERT, cert.bytes().to_vec())).into_iter().collect();
    for (label, name) in [("authorization", header::AUTHORIZATION), ("x-api-key", X_API_KEY)] {
        parts.extend(headers.get_all(name).iter().map(|value| (label, value.as_bytes().to_vec())));
    }
    // The order of cookies means nothing; a browser changes it when one of them is renewed.
    let mut cookies: Vec<Vec<u8>> = cookies(headers).map(<[u8]>::to_vec).collect();
    cookies.sort_unstable();
    parts.extend(cookies.into_iter().map(|cookie| ("cookie", cookie)));
    parts
}

pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&b| b == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|c| !c.is_empty())
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a request shows of a header or cookie; what is empty is nothing.
fn identity_value(identity: &Identity, headers: &HeaderMap) -> Option<Vec<u8>> {
    match identity {
        Identity::Header(name) => {
            // All lines count: two different lists must not become one caller.
            let values = || headers.get_all(name).iter();
            values().find(|value| !value.as_bytes().trim_ascii().is_empty())?;
            Some(values().flat_map(|value| [value.as_bytes(), b"\n"]).flatten().copied().collect())
        }
        Identity::Cookie(name) => {
            let mut found = cookies(headers).filter_map(|cookie| {
                let (key, value) = split_cookie(cookie);
                (key == name.as_bytes()).then_some(value)
            });
            found.next().filter(|value| !value.is_empty()).map(<[u8]>::to_vec)
        }
        Identity::Jwt(_) | Identity::Cert | Identity::Ip => None,
    }
}

pub(super) fn split_cookie(cookie: &[u8]) -> (&[u8], &[u8]) {
    match cookie.iter().position(|&b| b == b'=') {
        Some(at) => (cookie[..at].trim_ascii(), cookie[at + 1..].trim_ascii()),
        None => (cookie, b""),
    }
}

// === impl Shown ===

impl Shown {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a verified token showed it, so that the token's own text does not matter.
    pub fn is_from_token(&self) -> bool {
        self.parts.first().is_some_and(|(label, _)| *label == "jwt-issuer")
    }

    /// The scope of a caller who has shown this; one who has shown nothing that proves anything is told apart by a long key
    /// or by its address.
    pub fn scope(&self, digest: &FingerprintKey, key: Option<&[u8]>, address: IpAddr) -> ScopeId {
        match key.filter(|key| self.is_scoped_by(key)) {
            Some(key) => self.digested(digest, Some(("anonymous-key", key))),
            None => self.counted(digest, address),
        }
    }

    /// Whether the key tells the caller from others, who cannot guess it, so that the address does not matter.
    fn is_scoped_by(&self, key: &[u8]) -> bool {
        key.len() >= KEY_SCOPES_ALONE && self.proves_nothing()
    }

    /// Whom the quota of records counts: the scope, or the address of a caller who has shown nothing. What proves nothing
    /// keeps callers of one address apart, and unites none of several.
    pub fn counted(&self, digest: &FingerprintKey, address: IpAddr) -> ScopeId {
        let address = self.proves_nothing().then(|| counted_address(address).to_string());
        self.digested(digest, address.as_ref().map(|address| ("address", address.as_bytes())))
    }

    fn digested(&self, digest: &FingerprintKey, beside: Option<(&str, &[u8])>) -> ScopeId {
        let shown = self.parts.iter().map(|(name, value)| (*name, value.as_slice()));
        digest.scope_id(&beside.into_iter().chain(shown).collect::<Vec<(&str, &[u8])>>())
    }

    /// Whether it is nothing, or nothing but cookies that many others show, too.
    fn proves_nothing(&self) -> bool {
        self.parts.iter().all(|(label, value)| *label == "cookie" && !is_secret(value))
    }

    /// Both of them, of a caller on a connection on which `last` asked last.
    pub fn scopes(
        &self,
        last: &LastCaller,
        digest: &FingerprintKey,
        key: Option<&[u8]>,
        address: IpAddr,
    ) -> (ScopeId, ScopeId) {
        let counted = last.counted(self, digest, address);
        let by_key_alone = key.is_some_and(|key| self.is_scoped_by(key));
        let scope = if by_key_alone { self.scope(digest, key, address) } else { counted };
        (scope, counted)
    }

    /// What the caller will show after an answer with these `Set-Cookie` lines, where they renew the cookies that it has
    /// shown: its scope lives on under the new ones. `now` decides what has expired. `None` where nothing changes, and where
    /// it may be somebody else who comes next: who logs in or out is given or loses a cookie of its own.
    pub fn renewed(&self, answer: &HeaderMap, now: SystemTime) -> Option<Shown> {
        let mut renewed = self.clone();
        let mut hidden = Vec::new();
        for line in answer.get_all(header::SET_COOKIE) {
            let cookie = SetCookie::read(line.as_bytes(), now);
            renewed.set(cookie.name, cookie.value);
            if cookie.is_hidden {
                hidden.push(cookie.name);
            }
        }
        (renewed != *self && renewed.is_same_caller(self, &hidden)).then_some(renewed)
    }

    /// Whether this is shown by whoever has shown `before`. Cookies that only have other values renew it. One that comes or
    /// goes does, beside a credential that stays: but not one that goes and may have been a secret, and not one that comes
    /// and is a secret that no script of a page may read (`hidden`), as sessions are.
    fn is_same_caller(&self, before: &Shown, hidden: &[&[u8]]) -> bool {
        let cookie = |shown: &Shown, name: &[u8]| {
            shown.cookies().find(|cookie| split_cookie(cookie).0 == name).map(is_secret)
        };
        let mut gone = before.cookies().filter(|was| cookie(self, split_cookie(was).0).is_none()).peekable();
        let mut new = self.cookies().filter(|is| cookie(before, split_cookie(is).0).is_none()).peekable();
        if gone.peek().is_none() && new.peek().is_none() {
            return true;
        }
        let stays = self.parts.iter().any(|(label, _)| *label != "cookie")
            || before.cookies().any(|was| is_secret(was) && cookie(self, split_cookie(was).0) == Some(true));
        let logs_out = gone.any(is_secret);
        let logs_in = new.any(|is| is_secret(is) && hidden.contains(&split_cookie(is).0));
        stays && !logs_out && !logs_in
    }

    fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter(|(label, _)| *label == "cookie").map(|(_, cookie)| cookie.as_slice())
    }

    /// Changes a cookie as a browser would; `None` deletes it.
    fn set(&mut self, name: &[u8], value: Option<&[u8]>) {
        if let Some(("named", what)) = self.parts.first().map(|(label, what)| (*label, what.as_slice())) {
            // Deleted, the credential is gone, and with it the scope.
            if let (Some(named), Some(value)) = (what.strip_prefix(b"cookie:"), value)
                && named == name
            {
                self.parts[1].1 = value.to_vec();
            }
            return;
        }
        if self.cookies().next().is_none() {
            return;
        }
        self.parts.retain(|(label, cookie)| *label != "cookie" || split_cookie(cookie).0 != name);
        if let Some(value) = value {
            let cookie = ("cookie", [name, b"=", value].concat());
            let cookies =
                self.parts.iter().position(|(label, _)| *label == "cookie").unwrap_or(self.parts.len());
            let at = cookies + self.parts[cookies..].partition_point(|(_, other)| *other < cookie.1);
            self.parts.insert(at, cookie);
        }
    }
}

// === impl LastCaller ===

impl LastCaller {
    /// As [`Shown::counted`].
    pub fn counted(&self, shown: &Shown, digest: &FingerprintKey, address: IpAddr) -> ScopeId {
        let mut last = self.0.borrow_mut();
        if let Some((_, _, scope)) =
            last.as_deref().filter(|(known, from, _)| known == shown && *from == address)
        {
            return *scope;
        }
        let scope = shown.counted(digest, address);
        *last = Some(Box::new((shown.clone(), address, scope)));
        scope
    }
}

/// A `Set-Cookie` line (RFC 6265, 5.2).
struct SetCookie<'a> {
    name: &'a [u8],
    /// `None` where it deletes the cookie.
    value: Option<&'a [u8]>,
    /// `HttpOnly`.
    is_hidden: bool,
}

// === impl SetCookie ===

impl<'a> SetCookie<'a> {
    fn read(line: &'a [u8], now: SystemTime) -> SetCookie<'a> {
        let mut pieces = line.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let (name, value) = split_cookie(pieces.next().unwrap_or_default());
        let (mut expires, mut max_age, mut is_hidden) = (false, None, false);
        for piece in pieces {
            let (attribute, text) = split_cookie(piece);
            let text = std::str::from_utf8(text).unwrap_or_default();
            if attribute.eq_ignore_ascii_case(b"max-age") {
                max_age = text.parse::<i64>().ok().map(|seconds| seconds <= 0);
            } else if attribute.eq_ignore_ascii_case(b"expires") {
                expires = httpdate::parse_http_date(text).is_ok_and(|at| at <= now);
            } else if attribute.eq_ignore_ascii_case(b"httponly") {
                is_hidden = true;
            }
        }
        // Max-Age wins over Expires; an empty value is how many frameworks log out.
        let is_gone = value.is_empty() || max_age.unwrap_or(expires);
        SetCookie { name, value: (!is_gone).then_some(value), is_hidden }
    }
}

/// Whether a cookie's value may be a secret.
fn is_secret(cookie: &[u8]) -> bool {
    split_cookie(cookie).1.len() >= COOKIE_PROVES
}

#[cfg(test)]
mod tests;
