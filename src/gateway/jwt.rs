//! Bearer tokens whose signature is verified. A token that is not, for whatever reason, shows nothing beyond its own
//! bytes.

use crate::config::{Jwks, JwtConfig, JwtKeys, SYMMETRIC, VerifyingKey};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use std::sync::Arc;

/// Verifies tokens against the keys of `[clients.jwt]`.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<[VerifyingKey]>,
    validation: Validation,
}

/// The claims of a verified token.
pub struct Claims(serde_json::Map<String, serde_json::Value>);

// === impl Verifier ===

impl Verifier {
    /// Takes the keys apart; an error where none of them can be used.
    pub fn new(config: &JwtConfig) -> Result<Verifier, String> {
        let keys = match &config.keys {
            JwtKeys::Secret(secret) => vec![VerifyingKey {
                id: None,
                family: SYMMETRIC,
                key: DecodingKey::from_secret(secret.expose().as_bytes()),
            }],
            JwtKeys::Jwks(text) => Jwks::parse(text).ok_or("not a JWK set")?.keys,
        };
        if keys.is_empty() {
            return Err("the JWK set has no key that can verify a token".into());
        }
        let mut validation = Validation::default();
        validation.set_required_spec_claims::<&str>(&[]);
        validation.validate_nbf = true;
        validation.validate_aud = config.audience.is_some();
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        Ok(Verifier { keys: keys.into(), validation })
    }

    /// The claims of `token`, where one of the keys signed it, it has not expired, and issuer and audience fit.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        let header = decode_header(token).ok()?;
        let fits = |key: &&VerifyingKey| {
            // The key decides which algorithms are possible, never the token alone.
            let named = key.id.is_none() || header.kid.is_none() || key.id == header.kid;
            named && key.family.contains(&header.alg)
        };
        self.keys.iter().filter(fits).find_map(|key| {
            let mut validation = self.validation.clone();
            validation.algorithms = vec![header.alg];
            decode(token, &key.key, &validation).ok().map(|token| Claims(token.claims))
        })
    }
}

/// A token that is longer is not looked into without its signature.
const UNVERIFIED_LONGEST: usize = 16 << 10;

/// What a token claims without anybody having verified it: good for counting, and for nothing else.
pub fn unverified(token: &str) -> Option<Claims> {
    use base64::Engine as _;
    if token.len() > UNVERIFIED_LONGEST {
        return None;
    }
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&json).ok().map(Claims)
}

// === impl Claims ===

impl Claims {
    /// A claim that is text, a number or a boolean, as text.
    pub fn text(&self, claim: &str) -> Option<String> {
        match self.0.get(claim)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            serde_json::Value::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: &str = r#"{"kty":"OKP","crv":"Ed448","kid":"b","x":"AAAA"}"#;

    fn verifier(keys: &[&str]) -> Result<Verifier, String> {
        let set = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        Verifier::new(&JwtConfig { keys: JwtKeys::Jwks(set.into()), issuer: None, audience: None })
    }

    #[test]
    fn a_key_that_nobody_knows_is_left_out_and_none_at_all_is_an_error() {
        let known = r#"{"kty":"oct","kid":"a","alg":"HS256","k":"c2VjcmV0c2VjcmV0"}"#;
        let key = jsonwebtoken::EncodingKey::from_secret(b"secretsecret");
        let claims = serde_json::json!({"sub": "ann", "exp": 9_999_999_999_u64});
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
        let verified = verifier(&[UNKNOWN, known]).expect("a verifier").verify(&token);
        assert_eq!(verified.and_then(|claims| claims.text("sub")).as_deref(), Some("ann"));
        assert!(verifier(&[UNKNOWN]).is_err());
        assert!(verifier(&[]).is_err());
    }
}
