//! A fingerprint: a keyed digest of what a request means; and the other keyed digests by which the store knows things.
//!
//! All of them are HMAC-SHA-256 under the store's secret over a label, which no other digest has, and fields behind their
//! lengths. So no digest can be computed from outside, none stands for another, and no two lists of fields give the same
//! input.

use crate::domain::canon::Meaning;
use crate::domain::client::ScopeId;
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
}

/// The store's secret, ready to digest with. Never printed.
#[derive(Clone)]
pub struct FingerprintKey {
    /// The secret's two blocks are digested once, here.
    keyed: Hmac<Sha256>,
}

/// The fields of one digest as they are fed.
struct Fields(Hmac<Sha256>);

/// The version of everything that goes into a fingerprint. To change what a request means is to change this, so that
/// records made before never answer requests made after.
const FINGERPRINT: &[u8] = b"oncegate fingerprint 1";
const RECORD_BY_KEY: &[u8] = b"oncegate record by key 1";
const RECORD_BY_FINGERPRINT: &[u8] = b"oncegate record by fingerprint 1";
const SCOPE: &[u8] = b"oncegate scope 1";
const TARGET: &[u8] = b"oncegate target 1";
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
        let digest = self
            .fields(FINGERPRINT)
            .field(&parts.scope.0)
            .field(parts.route.as_bytes())
            .field(parts.method.as_str().as_bytes())
            .field_in_lower_case(parts.authority.as_bytes())
            .field(parts.target.as_str().as_bytes())
            .field(&parts.meaning.head)
            .field(&parts.meaning.body);
        Fingerprint(digest.finish())
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
        RecordId(self.fields(label).field(route.as_bytes()).field(&scope.0).field(named_by).finish())
    }

    /// Names a scope by what the caller has shown: pairs of what it is (`header:x-api-key`) and its value, in an order
    /// that the configuration fixes.
    pub fn scope_id(&self, shown: &[(&str, &[u8])]) -> ScopeId {
        let fields = shown
            .iter()
            .fold(self.fields(SCOPE), |fields, (name, value)| fields.field(name.as_bytes()).field(value));
        ScopeId(first(&fields.finish()))
    }

    /// Names a resource of an upstream: `resource` is what [`NormalTarget::resource`] or [`NormalTarget::parents`] gives.
    pub fn target_id(&self, upstream: &str, resource: &str) -> TargetId {
        TargetId(first(&self.fields(TARGET).field(upstream.as_bytes()).field(resource.as_bytes()).finish()))
    }

    fn fields(&self, label: &[u8]) -> Fields {
        Fields(self.keyed.clone()).field(label)
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

// === impl Fields ===

impl Fields {
    fn field(mut self, field: &[u8]) -> Fields {
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
        self
    }

    /// A field in which case means nothing, without a copy of it on the heap.
    fn field_in_lower_case(mut self, field: &[u8]) -> Fields {
        self.0.update(&(field.len() as u64).to_be_bytes());
        for chunk in field.chunks(64) {
            let mut lower = [0; 64];
            let lower = &mut lower[..chunk.len()];
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            self.0.update(lower);
        }
        self
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

// === impl Fingerprint ===

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
