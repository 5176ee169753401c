//! A JWK set: which of its keys can verify a token. Both the check of a file and the verifier ask here, so that they agree.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};

/// The keys of a set.
pub struct Jwks {
    /// Those that can verify.
    pub keys: Vec<VerifyingKey>,
    /// How many there are in all.
    pub count: usize,
}

/// A key that can verify.
pub struct VerifyingKey {
    /// Its `kid`.
    pub id: Option<String>,
    /// For which algorithms.
    pub family: &'static [Algorithm],
    /// The key itself.
    pub key: DecodingKey,
}

/// What goes with a shared secret.
pub const SYMMETRIC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

// === impl Jwks ===

impl Jwks {
    /// Reads the text of a set, key by key: one of a kind that nobody here knows leaves the others as they are. `None` where
    /// it is no set.
    pub fn parse(text: &str) -> Option<Jwks> {
        let mut set: serde_json::Value = serde_json::from_str(text).ok()?;
        let serde_json::Value::Array(all) = set.get_mut("keys")?.take() else { return None };
        let count = all.len();
        Some(Jwks { keys: all.into_iter().filter_map(verifying).collect(), count })
    }
}

fn verifying(key: serde_json::Value) -> Option<VerifyingKey> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256][..],
            EllipticCurve::P384 => &[Algorithm::ES384],
            EllipticCurve::P521 | EllipticCurve::Ed25519 => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        AlgorithmParameters::OctetKeyPair(_) => return None,
        AlgorithmParameters::OctetKey(_) => SYMMETRIC,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(VerifyingKey { id: jwk.common.key_id, family, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_unknown_kinds_leave_the_others_as_they_are() {
        let known = r#"{"kty":"oct","kid":"a","alg":"HS256","k":"c2VjcmV0c2VjcmV0"}"#;
        for other in [
            r#"{"kty":"OKP","crv":"Ed448","kid":"b","x":"AAAA"}"#,
            r#"{"kty":"EC","crv":"secp256k1","kid":"b","x":"AAAA","y":"AAAA"}"#,
            r#"{"kty":"EC","crv":"P-521","kid":"b","x":"AAAA","y":"AAAA"}"#,
            r#"{"kty":"oct","kid":"b","k":"not base64!"}"#,
            r#"{"kty":"AKP","alg":"ML-DSA-44"}"#,
            "7",
        ] {
            let set = Jwks::parse(&format!(r#"{{"keys":[{other},{known}]}}"#)).expect("a set");
            let ids: Vec<_> = set.keys.iter().map(|key| key.id.as_deref()).collect();
            assert_eq!((ids, set.count), (vec![Some("a")], 2), "{other}");
        }
        for text in ["", "[]", "{}", r#"{"keys":{}}"#] {
            assert!(Jwks::parse(text).is_none(), "{text}");
        }
    }
}
