//! Whom limits count: the first of `identify_by` that a request brings. Mostly it is not proven, so it only ever throttles,
//! and counts under an umbrella of its address as well: whoever invents names gains nothing by it.

use super::identity::{bearer, cookies, split_cookie};
use super::jwt::{self, Verifier};
use super::tls::Principal;
use crate::config::Clients;
use crate::domain::client::{Identity, counted_address};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::throttle::Key;
use http::header::HeaderMap;
use std::borrow::Cow;
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

/// One request's client.
pub struct Caller<'a> {
    named: Option<Named<'a>>,
    /// As limits count it: IPv6 by its /64.
    address: IpAddr,
}

/// The address that asked last on a connection, and its digest, for the one hasher of the process. Mostly all that ask on a
/// connection have one address.
#[derive(Default)]
pub struct LastAddress(Cell<Option<(IpAddr, u64)>>);

/// A client that names itself.
struct Named<'a> {
    /// Which of `identify_by`.
    by: &'a Identity,
    value: Cow<'a, [u8]>,
    proof: Proof,
}

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// A signature or a certificate that this gateway verified.
    Verified,
    /// Whoever knows the value is the client: an API key, a session.
    Known,
    /// Anybody can claim it, so it counts only together with the address that does: nobody uses up another one's limits by
    /// claiming to be it.
    Claimed,
}

/// The client of a request.
pub fn caller<'a>(
    clients: &'a Clients,
    jwt: Option<&Verifier>,
    headers: &'a HeaderMap,
    address: IpAddr,
    cert: Option<&'a Principal>,
) -> Caller<'a> {
    let named = clients.identify_by.iter().find_map(|by| match by {
        // Everything behind the address is never looked at.
        Identity::Ip => Some(None),
        _ => named(by, jwt, headers, cert).map(Some),
    });
    Caller { named: named.flatten(), address: counted_address(address) }
}

fn named<'a>(
    by: &'a Identity,
    jwt: Option<&Verifier>,
    headers: &'a HeaderMap,
    cert: Option<&'a Principal>,
) -> Option<Named<'a>> {
    let known = |value: &'a [u8]| (!value.is_empty()).then_some((Cow::Borrowed(value), Proof::Known));
    let (value, proof) = match by {
        Identity::Header(name) => known(headers.get(name)?.as_bytes())?,
        Identity::Cookie(name) => {
            let mut values = cookies(headers).map(split_cookie);
            known(values.find(|(key, _)| *key == name.as_bytes())?.1)?
        }
        Identity::Jwt(claim) => {
            let token = bearer(headers)?;
            let verified = jwt.and_then(|jwt| jwt.verify(token));
            let proof = if verified.is_some() { Proof::Verified } else { Proof::Claimed };
            let value = verified.or_else(|| jwt::unverified(token))?.text(claim)?;
            (Cow::Owned(value.into_bytes()), proof)
        }
        Identity::Cert => (Cow::Borrowed(cert?.bytes()), Proof::Verified),
        Identity::Ip => return None,
    };
    Some(Named { by, value, proof })
}

// === impl Caller ===

impl Caller<'_> {
    /// A keyed digest of the client.
    pub fn digest(&self, keyed: &impl BuildHasher) -> u64 {
        self.digest_with(keyed, || address_digest(self.address, keyed))
    }

    /// The same, with the digest that `last` keeps of the address; `keyed` is the hasher that made that.
    pub fn digest_by(&self, keyed: &impl BuildHasher, last: &LastAddress) -> u64 {
        self.digest_with(keyed, || last.digest(self.address, keyed))
    }

    fn digest_with(&self, keyed: &impl BuildHasher, address: impl Fn() -> u64) -> u64 {
        let Some(Named { by, value, proof }) = &self.named else { return address() };
        let (kind, name) = match by {
            Identity::Header(name) => (0, name.as_str()),
            Identity::Cookie(name) => (1, name.as_str()),
            Identity::Jwt(name) => (2, name.as_str()),
            Identity::Cert => (3, ""),
            // An address has no name of its own, so it never gets here.
            Identity::Ip => return address(),
        };
        // A verified name and the same one merely claimed are two clients.
        let kind = kind << 8 | *proof as u64;
        let mut hasher = keyed.build_hasher();
        hasher.write(value);
        let parts = [kind, Key::text(name), hasher.finish()];
        match proof {
            Proof::Claimed => Key::of(&[parts[0], parts[1], parts[2], address()]).0,
            Proof::Verified | Proof::Known => Key::of(&parts).0,
        }
    }

    /// A keyed digest of the address, under whose umbrella the client counts as well; `None` where it is proven, or where
    /// it is the address itself.
    pub fn umbrella(&self, keyed: &impl BuildHasher) -> Option<u64> {
        self.has_umbrella().then(|| address_digest(self.address, keyed))
    }

    /// The same, as in [`Caller::digest_by`].
    pub fn umbrella_by(&self, keyed: &impl BuildHasher, last: &LastAddress) -> Option<u64> {
        self.has_umbrella().then(|| last.digest(self.address, keyed))
    }

    fn has_umbrella(&self) -> bool {
        self.named.as_ref().is_some_and(|named| named.proof != Proof::Verified)
    }

    /// As it is logged. What a client says may be a credential, so everything but an address is named by a digest.
    pub fn name(&self, digest: &FingerprintKey) -> String {
        match &self.named {
            None => self.address.to_string(),
            Some(Named { by, value, proof }) => {
                let label = if *proof == Proof::Claimed { "claimed" } else { "client" };
                format!("{by}:{}", digest.scope_id(&[(label, value)]))
            }
        }
    }
}

fn address_digest(address: IpAddr, keyed: &impl BuildHasher) -> u64 {
    let mut hasher = keyed.build_hasher();
    match address {
        IpAddr::V4(v4) => hasher.write_u32(v4.to_bits()),
        IpAddr::V6(v6) => hasher.write_u128(v6.to_bits()),
    }
    hasher.finish()
}

// === impl LastAddress ===

impl LastAddress {
    fn digest(&self, address: IpAddr, keyed: &impl BuildHasher) -> u64 {
        match self.0.get() {
            Some((last, digest)) if last == address => digest,
            _ => {
                let digest = address_digest(address, keyed);
                self.0.set(Some((address, digest)));
                digest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::hash::RandomState;

    fn clients(identify_by: &[&str]) -> Clients {
        let by = identify_by.iter().map(|by| format!("\"{by}\"")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "[clients]\nidentify_by = [{by}]\n[[upstream]]\nname = \"a\"\nurl = \"http://127.0.0.1:8000\"\n[[route]]\nname = \"r\"\nmatch = \"* /**\"\nupstream = \"a\"\n"
        );
        let loaded = crate::config::parse(&text, std::path::Path::new(""), &|_| None);
        loaded.unwrap_or_else(|problems| panic!("{problems}")).config.clients
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (name.parse().expect("a name"), HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    fn token(sub: &str, more: &str) -> String {
        use base64::Engine as _;
        let payload = format!("{{\"sub\":\"{sub}\",\"more\":\"{more}\"}}");
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(payload);
        format!("Bearer eyJhbGciOiJub25lIn0.{payload}.sig-{more}")
    }

    #[test]
    fn the_first_that_is_present_counts() {
        let (keyed, clients) = (RandomState::new(), clients(&["header:X-Api-Key", "cookie:session", "ip"]));
        let one = "192.0.2.1".parse().expect("an address");
        let digest = |lines: &[(&'static str, &str)]| {
            caller(&clients, None, &headers(lines), one, None).digest(&keyed)
        };
        let key = digest(&[("x-api-key", "k"), ("cookie", "a=1; session=s")]);
        assert_eq!(key, digest(&[("cookie", "session=other"), ("x-api-key", "k")]));
        assert_ne!(key, digest(&[("x-api-key", "other")]));
        assert_eq!(
            digest(&[("cookie", "a=1; session=s")]),
            digest(&[("cookie", "session=s; b=2"), ("x-api-key", "")])
        );
        assert_ne!(digest(&[("cookie", "session=k")]), key, "a cookie is no key");
        assert_eq!(digest(&[]), digest(&[("cookie", "session=")]), "nothing in it is nobody");
    }

    #[test]
    fn a_rotated_token_is_the_same_client_and_a_forged_one_hurts_only_its_own_address() {
        let (keyed, clients) = (RandomState::new(), clients(&["jwt:sub", "ip"]));
        let digest = |token: &str, address: &str| {
            let headers = headers(&[("authorization", token)]);
            caller(&clients, None, &headers, address.parse().expect("an address"), None).digest(&keyed)
        };
        let ann = digest(&token("ann", "1"), "192.0.2.1");
        assert_eq!(ann, digest(&token("ann", "2"), "192.0.2.1"), "rotated");
        assert_ne!(ann, digest(&token("bob", "1"), "192.0.2.1"));
        assert_ne!(ann, digest(&token("ann", "1"), "192.0.2.2"), "claimed elsewhere");
        assert_eq!(
            digest("Bearer nonsense", "192.0.2.1"),
            digest("Basic x", "192.0.2.1"),
            "the address counts"
        );
    }

    #[test]
    fn spellings_of_an_address_are_one_client_and_a_household_is_one() {
        let (keyed, clients, none) = (RandomState::new(), clients(&["ip"]), HeaderMap::new());
        let digest = |address: &str| {
            caller(&clients, None, &none, address.parse().expect("an address"), None).digest(&keyed)
        };
        assert_eq!(digest("::ffff:192.0.2.1"), digest("192.0.2.1"));
        assert_eq!(digest("2001:db8:1:2:3::4"), digest("2001:db8:1:2::9"));
        assert_ne!(digest("2001:db8:1:2::9"), digest("2001:db8:1:3::9"));
        let caller = caller(&clients, None, &none, "192.0.2.1".parse().expect("an address"), None);
        assert_eq!(caller.umbrella(&keyed), None, "it is the address already");
    }

    #[test]
    fn an_address_that_asks_again_is_the_same_and_another_one_on_its_connection_is_not() {
        let (keyed, clients, none) =
            (RandomState::new(), clients(&["header:X-Api-Key", "ip"]), HeaderMap::new());
        let (last, key) = (LastAddress::default(), headers(&[("x-api-key", "a")]));
        for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1"] {
            let address = address.parse().expect("an address");
            let (it, named) =
                (caller(&clients, None, &none, address, None), caller(&clients, None, &key, address, None));
            assert_eq!(it.digest_by(&keyed, &last), it.digest(&keyed));
            assert_eq!(named.digest_by(&keyed, &last), named.digest(&keyed));
            assert_eq!(named.umbrella_by(&keyed, &last), named.umbrella(&keyed));
            assert_eq!(named.umbrella(&keyed), Some(it.digest(&keyed)));
        }
    }

    #[test]
    fn what_is_not_proven_counts_against_its_address_too() {
        let (keyed, clients) = (RandomState::new(), clients(&["header:X-Api-Key", "ip"]));
        let umbrella = |key: &str, address: &str| {
            let headers = headers(&[("x-api-key", key)]);
            caller(&clients, None, &headers, address.parse().expect("an address"), None).umbrella(&keyed)
        };
        assert!(umbrella("a", "192.0.2.1").is_some());
        assert_eq!(umbrella("a", "192.0.2.1"), umbrella("invented", "192.0.2.1"));
        assert_ne!(umbrella("a", "192.0.2.1"), umbrella("a", "192.0.2.2"));
    }
}
