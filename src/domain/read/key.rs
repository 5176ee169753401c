//! Which reads are one. Two requests share a call, a turn or a copy only where nothing that may matter to the backend
//! differs: the caller, the method, where it was sent to, and every header but those that [`is_noise`] names.

use crate::domain::client::ScopeId;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::quoted::pairs;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, Uri};
use std::fmt;
use std::net::IpAddr;

/// A keyed digest of a whole read request. Equal digests are requests that a backend cannot tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadKey(pub [u8; 32]);

/// For whom an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// One caller: its scope, and the address that it counts under, which also keeps callers apart that have shown
    /// nothing.
    Scope {
        /// What the caller has shown.
        scope: ScopeId,
        /// The address as limits count it.
        address: IpAddr,
        /// The scope was read from a verified token in `Authorization`, so that header may differ: a token that was
        /// renewed finds the copy.
        token_proves_it: bool,
    },
    /// Everyone: `share = "everyone"`. Headers that say who asks are left out.
    Everyone,
}

/// What of a request, beside its method and its headers, tells it from others.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// For whom the answer may be.
    pub reader: Reader,
    /// The route's name: under another route other rules hold.
    pub route: &'a str,
    /// `http` or `https`, as the client came.
    pub scheme: &'a str,
    /// Path and query in normal form.
    pub uri: &'a Uri,
    /// The same as they are forwarded, where the backend gets the client's own spelling: it may mean another page.
    pub spelling: Option<&'a str>,
    /// Under which a GET's copy also answers a HEAD, so it is given rather than taken from the request.
    pub method: &'a Method,
    /// The headers as the backend will see them.
    pub headers: &'a HeaderMap,
    /// Which of them count.
    pub counted: Counted<'a>,
    /// Headers beside `Authorization` and `Cookie` that name callers (`scope_by`, `identify_by`), in lower case.
    pub credentials: &'a [HeaderName],
    /// The header of the request's id.
    pub request_id: &'a HeaderName,
}

/// Which headers tell reads of one target apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted<'a> {
    /// All but noise.
    All,
    /// Where to and who, and these, which the backend named in `Vary` (RFC 9111, 4.1).
    Varied(&'a [HeaderName]),
}

const READ: &[u8] = b"oncegate read 1";

/// Headers that differ between equal reads without meaning anything to the answer: the names of one exchange (its id and
/// its trace), hints to the way (`Priority`, `Via`), and what a cache answers by itself: conditions and directives.
pub fn is_noise(name: &str) -> bool {
    matches!(
        name,
        "traceparent"
            | "tracestate"
            | "priority"
            | "via"
            | "cache-control"
            | "pragma"
            | "if-none-match"
            | "if-modified-since"
    )
}

/// Whether a request could share an answer at all: a GET or HEAD without a body that asks for the whole of its target as
/// it is. Ranges, conditions that guard against a change, expectations and methods in disguise go to the backend by
/// themselves.
pub fn is_shareable(parts: &Parts, has_body: bool) -> bool {
    let apart = |name: &HeaderName| {
        matches!(
            name.as_str(),
            "range"
                | "if-range"
                | "if-match"
                | "if-unmodified-since"
                | "expect"
                | "upgrade"
                | "x-http-method-override"
                | "x-http-method"
                | "x-method-override"
        )
    };
    matches!(parts.method, Method::GET | Method::HEAD) && !has_body && !parts.headers.keys().any(apart)
}

/// Whether a header says who asks, so that a page for everyone leaves it out.
pub(super) fn says_who(name: &HeaderName, credentials: &[HeaderName]) -> bool {
    matches!(name.as_str(), "authorization" | "cookie" | "x-api-key" | "x-forwarded-for" | "forwarded")
        || credentials.contains(name)
}

/// What a `Forwarded` says of where a request was sent to (RFC 7239: `host`, `proto`), without who sent it and through
/// whom: its parameters but for `for` and `by`, and all of it where it cannot be taken apart.
fn where_to(forwarded: &[u8]) -> Vec<u8> {
    let Some(pairs) = pairs(forwarded) else { return forwarded.to_vec() };
    let mut kept = Vec::new();
    for (name, pair) in pairs {
        if !name.eq_ignore_ascii_case(b"for") && !name.eq_ignore_ascii_case(b"by") {
            kept.extend_from_slice(pair);
            kept.push(b';');
        }
    }
    kept
}

// === impl FingerprintKey ===

impl FingerprintKey {
    /// Names a read. Headers count in the order in which they came: another order is a false difference, never a false
    /// equality.
    pub fn read_key(&self, asked: &Asked<'_>) -> ReadKey {
        let mut fields = self.fields(READ);
        match asked.reader {
            Reader::Scope { scope, address, token_proves_it } => {
                fields.field(if token_proves_it { b"token" } else { b"scope" });
                fields.field(&scope.0);
                match address {
                    IpAddr::V4(address) => fields.field(&address.octets()),
                    IpAddr::V6(address) => fields.field(&address.octets()),
                }
            }
            Reader::Everyone => fields.field(b"everyone"),
        }
        match asked.counted {
            Counted::All => fields.field(b"all"),
            Counted::Varied(names) => {
                fields.field(b"varied");
                // The names themselves count: a header that is not there is not one that does not matter.
                fields.field(&(names.len() as u64).to_be_bytes());
                names.iter().for_each(|name| fields.field(name.as_str().as_bytes()));
            }
        }
        fields.field(asked.route.as_bytes());
        fields.field(asked.scheme.as_bytes());
        fields.field(asked.method.as_str().as_bytes());
        fields.field(asked.uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
        let normal = || asked.uri.path_and_query().map_or("", |target| target.as_str());
        fields.field(asked.spelling.unwrap_or_else(normal).as_bytes());
        for (name, value) in asked.headers {
            if asked.counts(name) {
                fields.field(name.as_str().as_bytes());
                fields.field(value.as_bytes());
            } else if *name == header::FORWARDED {
                let where_to = where_to(value.as_bytes());
                if !where_to.is_empty() {
                    fields.field(b"forwarded");
                    fields.field(&where_to);
                }
            }
        }
        ReadKey(fields.finish())
    }
}

// === impl Asked ===

impl Asked<'_> {
    /// Whether a header counts whole.
    fn counts(&self, name: &HeaderName) -> bool {
        let left_out = match self.reader {
            Reader::Scope { token_proves_it, .. } => token_proves_it && *name == header::AUTHORIZATION,
            Reader::Everyone => says_who(name, self.credentials),
        };
        !left_out && self.may_vary_by(name) && !is_noise(name.as_str()) && name != self.request_id
    }

    fn may_vary_by(&self, name: &HeaderName) -> bool {
        let Counted::Varied(names) = self.counted else { return true };
        let always =
            ["host", "authorization", "cookie", "x-api-key", "x-forwarded-proto", "x-forwarded-host"];
        always.contains(&name.as_str()) || self.credentials.contains(name) || names.contains(name)
    }
}

// === impl ReadKey ===

impl ReadKey {
    /// The same read in a list of variants: what was kept under a list that has ended is not found under another.
    pub fn within(mut self, list: u64) -> ReadKey {
        for (byte, of_list) in self.0[16..24].iter_mut().zip(list.to_be_bytes()) {
            *byte ^= of_list;
        }
        self
    }

    /// Where it is noted that such reads do not wait for each other: not in the place of their answer. `kind` tells apart
    /// which of them.
    pub fn aside(mut self, kind: u8) -> ReadKey {
        // Still as good as a digest: no other one is likely to differ in this byte alone.
        self.0[31] ^= kind.saturating_add(1);
        self
    }
}

impl fmt::Debug for ReadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
