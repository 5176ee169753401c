//! A fingerprint: a keyed digest of what a request means; and the other keyed digests by which the store knows things.
//!
//! All of them are HMAC-SHA-256 under the store's secret over a label, which no other digest has, and fields behind their
//! lengths. So no digest can be computed from outside, none stands for another, and no two lists of fields give the same
//! input.

use crate::domain::canon::Meaning;
use crate::domain::client::ScopeId;
use crate::domain::lane::LaneId;
use crate::domain::ledger::{PolicyVersion, RecordId, TargetId};
use crate::domain::target::NormalTarget;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;

/// HMAC-SHA-256, under the store's secret, of scope, route, method, authority, target and canonical body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

/// What a request means, part by part.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Who asks.
    pub scope: &'a ScopeId,
    /// The route's name.
    pub route: &'a str,
    /// The request's method.
    pub method: &'a http::Method,
    /// Host and port as the client addressed them; upper and lower case are one.
    pub authority: &'a str,
    /// Path and query.
    pub target: &'a NormalTarget<'a>,
    /// What the body means.
    pub meaning: &'a Meaning<'a>,
    /// Headers that change what a request means, in a fixed order; see [`MEANING_HEADERS`].
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Headers that change what a method does to its target: two requests that differ in one of them are two intents. They
/// are the conditions of RFC 9110, the method overrides of web frameworks, partial writes, those of resumable uploads
/// (tus, whose requests have no other content), of WebDAV (RFC 4918), where a MOVE is nothing without its `Destination`, of
/// CalDAV's scheduling (RFC 6638), those that name the operation where all are sent to one target, and those that name what a
/// raw body becomes.
pub const MEANING_HEADERS: [&str; 26] = [
    "content-disposition",
    "content-range",
    "depth",
    "destination",
    "if",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-schedule-tag-match",
    "if-unmodified-since",
    "lock-token",
    "overwrite",
    "prefer",
    "range",
    "schedule-reply",
    "slug",
    "soapaction",
    "upload-concat",
    "upload-length",
    "upload-metadata",
    "upload-offset",
    "x-amz-target",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Whether a header (its name in lower case) is one of [`MEANING_HEADERS`].
pub fn bears_meaning(name: &str) -> bool {
    MEANING_HEADERS.contains(&name)
}

/// The store's secret, ready to digest with. Never printed.
#[derive(Clone)]
pub struct FingerprintKey {
    /// The secret's two blocks are digested once, here.
    keyed: Hmac<Sha256>,
}

/// The fields of one digest as they are fed. Most are a few bytes long, and the digest's own bookkeeping for each piece costs
/// more than they do, so small ones are gathered.
pub(super) struct Fields {
    digest: Hmac<Sha256>,
    gathered: [u8; GATHERED_MAX],
    length: usize,
}

/// Bytes that are gathered at most: some blocks of the digest.
const GATHERED_MAX: usize = 256;

/// The version of everything that goes into a fingerprint. To change what a request means is to change this, so that
/// records made before never answer requests made after.
const FINGERPRINT: &[u8] = b"oncegate fingerprint 1";
const RECORD_BY_KEY: &[u8] = b"oncegate record by key 1";
const RECORD_BY_FINGERPRINT: &[u8] = b"oncegate record by fingerprint 1";
const SCOPE: &[u8] = b"oncegate scope 1";
const TARGET: &[u8] = b"oncegate target 1";
const LANE: &[u8] = b"oncegate lane 1";
const ANSWER: &[u8] = b"oncegate answer 1";
const POLICY: &[u8] = b"oncegate policy 1";

/// The version of compiled rules, from whatever bytes describe them. Without a key: it is compared among gateways and
/// says nothing secret.
pub fn policy_version(rules: &[u8]) -> PolicyVersion {
    let digest = Sha256::new().chain_update(POLICY).chain_update(rules).finalize();
    PolicyVersion(u64::from_be_bytes(first(&digest.into())))
}

/// The first `N` bytes of a digest.
fn first<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest[..N]);
    bytes
}

// === impl FingerprintKey ===

impl FingerprintKey {
    /// Takes the store's secret, of any length.
    pub fn new(secret: &[u8]) -> FingerprintKey {
        FingerprintKey { keyed: Hmac::new_from_slice(secret).expect("HMAC takes keys of any length") }
    }

    /// What a request means, as one digest.
    pub fn fingerprint(&self, parts: &Parts<'_>) -> Fingerprint {
        let mut fields = self.fields(FINGERPRINT);
        fields.field(&parts.scope.0);
        fields.field(parts.route.as_bytes());
        fields.field(parts.method.as_str().as_bytes());
        fields.field_in_lower_case(parts.authority.as_bytes());
        fields.field(parts.target.as_str().as_bytes());
        fields.field(&parts.meaning.head);
        fields.field(&parts.meaning.body);
        for (name, value) in parts.headers {
            fields.field(name.as_bytes());
            fields.field(value);
        }
        Fingerprint(fields.finish())
    }

    /// Names an intent: by the caller's key where there is one, by its meaning otherwise.
    pub fn record_id(
        &self,
        route: &str,
        scope: &ScopeId,
        key: Option<&[u8]>,
        fingerprint: &Fingerprint,
    ) -> RecordId {
        let (label, named_by) = match key {
            Some(key) => (RECORD_BY_KEY, key),
            None => (RECORD_BY_FINGERPRINT, &fingerprint.0[..]),
        };
        let mut fields = self.fields(label);
        fields.field(route.as_bytes());
        fields.field(&scope.0);
        fields.field(named_by);
        RecordId(fields.finish())
    }

    /// Names a scope by what the caller has shown: pairs of what it is (`header:x-api-key`) and its value, in an order
    /// that the configuration fixes.
    pub fn scope_id(&self, shown: &[(&str, &[u8])]) -> ScopeId {
        let mut fields = self.fields(SCOPE);
        for (name, value) in shown {
            fields.field(name.as_bytes());
            fields.field(value);
        }
        ScopeId(first(&fields.finish()))
    }

    /// Names a lane: its name in the configuration, and what each of its selectors found.
    pub fn lane_id(&self, name: &str, keys: &[Vec<u8>]) -> LaneId {
        LaneId(self.named(LANE, name, keys))
    }

    /// Names what an answer has and only one may have, under the name of what compares them.
    pub fn answer_id(&self, name: &str, keys: &[Vec<u8>]) -> [u8; 16] {
        self.named(ANSWER, name, keys)
    }

    fn named(&self, label: &[u8], name: &str, keys: &[Vec<u8>]) -> [u8; 16] {
        let mut fields = self.fields(label);
        fields.field(name.as_bytes());
        keys.iter().for_each(|key| fields.field(key));
        first(&fields.finish())
    }

    /// Names a resource of an upstream: `resource` is what [`NormalTarget::resource`] or [`NormalTarget::parents`] gives.
    pub fn target_id(&self, upstream: &str, resource: &str) -> TargetId {
        let mut fields = self.fields(TARGET);
        fields.field(upstream.as_bytes());
        fields.field(resource.as_bytes());
        TargetId(first(&fields.finish()))
    }

    /// Half of the digest of `fields` under `label`, which no other digest may have.
    pub(in crate::domain) fn short(&self, label: &[u8], fields: &[&[u8]]) -> [u8; 16] {
        let mut digest = self.fields(label);
        fields.iter().for_each(|field| digest.field(field));
        first(&digest.finish())
    }

    pub(super) fn fields(&self, label: &[u8]) -> Fields {
        let mut fields = Fields { digest: self.keyed.clone(), gathered: [0; GATHERED_MAX], length: 0 };
        fields.field(label);
        fields
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

// === impl Fields ===

impl Fields {
    pub(super) fn field(&mut self, field: &[u8]) {
        self.put(&(field.len() as u64).to_be_bytes());
        self.put(field);
    }

    /// A field in which case means nothing, without a copy of it on the heap.
    fn field_in_lower_case(&mut self, field: &[u8]) {
        self.put(&(field.len() as u64).to_be_bytes());
        for chunk in field.chunks(64) {
            let mut lower = [0; 64];
            let lower = &mut lower[..chunk.len()];
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            self.put(lower);
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.gathered.get_mut(self.length..self.length + bytes.len()) {
            room.copy_from_slice(bytes);
            self.length += bytes.len();
        } else {
            self.digest.update(&self.gathered[..self.length]);
            self.digest.update(bytes);
            self.length = 0;
        }
    }

    pub(super) fn finish(mut self) -> [u8; 32] {
        self.digest.update(&self.gathered[..self.length]);
        self.digest.finalize().into_bytes().into()
    }
}

// === impl Fingerprint ===

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::canon::{BodyInput, Rules, meaning};

    fn key() -> FingerprintKey {
        FingerprintKey::new(b"secret")
    }

    struct Asked {
        scope: [u8; 16],
        route: &'static str,
        method: http::Method,
        authority: &'static str,
        target: &'static str,
        content_type: &'static str,
        body: &'static str,
        headers: &'static [(&'static str, &'static [u8])],
    }

    const ASKED: Asked = Asked {
        scope: [1; 16],
        route: "book",
        method: http::Method::POST,
        authority: "clinic.example",
        target: "/bookings?a=1",
        content_type: "application/json",
        body: "{\"a\":1}",
        headers: &[],
    };

    fn print(key: &FingerprintKey, asked: Asked) -> Fingerprint {
        let input = BodyInput {
            content_type: Some(asked.content_type.as_bytes()),
            content_encoding: None,
            query: None,
            body: asked.body.as_bytes(),
        };
        key.fingerprint(&Parts {
            scope: &ScopeId(asked.scope),
            route: asked.route,
            method: &asked.method,
            authority: asked.authority,
            target: &NormalTarget::parse(asked.target).expect("a target"),
            meaning: &meaning(&input, &Rules::new(&[], &[], 1000)),
            headers: asked.headers,
        })
    }

    #[test]
    fn every_part_of_a_request_counts() {
        let key = key();
        let mut prints = vec![
            print(&key, ASKED),
            print(&FingerprintKey::new(b"Secret"), ASKED),
            print(&key, Asked { scope: [2; 16], ..ASKED }),
            print(&key, Asked { route: "walk-in", ..ASKED }),
            print(&key, Asked { method: http::Method::PUT, ..ASKED }),
            print(&key, Asked { authority: "clinic.example:80", ..ASKED }),
            print(&key, Asked { target: "/bookings?a=2", ..ASKED }),
            print(&key, Asked { target: "/bookings", ..ASKED }),
            print(&key, Asked { body: "{\"a\":2}", ..ASKED }),
            print(&key, Asked { content_type: "text/plain", ..ASKED }),
            print(&key, Asked { content_type: "text/json", ..ASKED }),
            print(&key, Asked { headers: &[("if-match", b"1")], ..ASKED }),
            print(&key, Asked { headers: &[("if-match", b"2")], ..ASKED }),
            print(&key, Asked { headers: &[("prefer", b"1")], ..ASKED }),
        ];
        let count = prints.len();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), count);
    }

    #[test]
    fn spelling_does_not_count() {
        let key = key();
        assert_eq!(print(&key, ASKED), print(&key, Asked { authority: "Clinic.EXAMPLE", ..ASKED }));
        assert_eq!(print(&key, ASKED), print(&key, Asked { target: "/x/..//%62ookings?a=%31", ..ASKED }));
        assert_eq!(print(&key, ASKED), print(&key, Asked { body: " { \"\\u0061\" : 1 } ", ..ASKED }));
        let long = Asked {
            authority: "a-name-that-is-longer-than-the-sixty-four-bytes-of-one-step.clinic.example",
            ..ASKED
        };
        let capital = Asked {
            authority: "A-NAME-THAT-IS-LONGER-THAN-THE-SIXTY-FOUR-BYTES-OF-ONE-STEP.CLINIC.EXAMPLE",
            ..ASKED
        };
        assert_eq!(print(&key, long), print(&key, capital));
    }

    #[test]
    fn a_part_cannot_borrow_bytes_from_its_neighbour() {
        let key = key();
        let (a, b) = (Asked { route: "ab", ..ASKED }, Asked { route: "a", ..ASKED });
        assert_ne!(print(&key, a), print(&key, b));
        assert_ne!(key.scope_id(&[("a", b"bc")]), key.scope_id(&[("ab", b"c")]));
        assert_ne!(key.scope_id(&[("a", b"b"), ("c", b"d")]), key.scope_id(&[("a", b"b")]));
        assert_ne!(key.target_id("ab", "/c"), key.target_id("a", "b/c"));
    }

    #[test]
    fn a_record_is_named_by_its_key_or_else_by_its_meaning() {
        let key = key();
        let (scope, other) = (ScopeId([1; 16]), ScopeId([2; 16]));
        let (one, two) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let id = key.record_id("book", &scope, Some(b"k"), &one);
        assert_eq!(
            id,
            key.record_id("book", &scope, Some(b"k"), &two),
            "under a key the meaning is only compared"
        );
        assert_ne!(id, key.record_id("book", &scope, Some(b"l"), &one));
        assert_ne!(id, key.record_id("book", &other, Some(b"k"), &one));
        assert_ne!(id, key.record_id("walk-in", &scope, Some(b"k"), &one));
        let keyless = key.record_id("book", &scope, None, &one);
        assert_ne!(keyless, key.record_id("book", &scope, None, &two));
        assert_ne!(keyless, key.record_id("book", &other, None, &one));
        assert_ne!(
            keyless,
            key.record_id("book", &scope, Some(&one.0), &one),
            "a key cannot name another's meaning"
        );
    }

    #[test]
    fn digests_of_different_things_never_meet() {
        let key = key();
        assert_ne!(key.scope_id(&[("a", b"b")]).0, key.target_id("a", "b").0);
    }

    #[test]
    fn versions_follow_the_rules() {
        assert_eq!(policy_version(b"a"), policy_version(b"a"));
        assert_ne!(policy_version(b"a"), policy_version(b"b"));
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", key()), "FingerprintKey(…)");
    }
}
