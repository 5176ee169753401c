//! Who asks. Two notions, kept apart: the *client* is whom limits count, the *scope* is what the caller has shown.

use http::HeaderName;
use std::net::IpAddr;

/// Bounds every fingerprint, replay and cache key: a digest of what the caller has shown. Never of an address alone,
/// except for callers that have shown nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub [u8; 16]);

impl std::fmt::Debug for ScopeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for ScopeId {
    /// The first eight bytes in hex: enough to tell scopes apart in a log, and no credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How one request names its caller, in the order that the configuration gives (`identify_by`, `scope_by`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `header:Name`
    Header(HeaderName),
    /// `jwt:claim`: a claim of the bearer token. Only a verified token ever proves anything.
    Jwt(String),
    /// `cookie:name`.
    Cookie(String),
    /// `cert`: the verified certificate of the client's connection.
    Cert,
    /// `ip`: the rightmost untrusted address; IPv6 by its /64.
    Ip,
}

impl std::fmt::Display for Identity {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::Header(name) => write!(f, "header:{name}"),
            Identity::Jwt(claim) => write!(f, "jwt:{claim}"),
            Identity::Cookie(name) => write!(f, "cookie:{name}"),
            Identity::Cert => f.write_str("cert"),
            Identity::Ip => f.write_str("ip"),
        }
    }
}

/// An address as limits and anonymous scopes count it: IPv4 (also when it came as `::ffff:a.b.c.d`) whole, IPv6 by its
/// /64, because one household owns a whole /64.
pub fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_household_count_as_one() {
        let counted = |text: &str| counted_address(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
    }
}
