//! Bearer tokens whose signature is verified. A token that is not, for whatever reason, shows nothing beyond its own
//! bytes.

use crate::config::{JwtConfig, JwtKeys};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use std::sync::Arc;

/// Verifies tokens against the keys of `[clients.jwt]`.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<[Key]>,
    validation: Validation,
}

struct Key {
    id: Option<String>,
    family: Vec<Algorithm>,
    key: DecodingKey,
}

/// The claims of a verified token.
pub struct Claims(serde_json::Map<String, serde_json::Value>);

const SYMMETRIC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

// === impl Verifier ===

impl Verifier {
    /// Takes the keys apart; the error names the key that cannot be used.
    pub fn new(config: &JwtConfig) -> Result<Verifier, String> {
        let keys = match &config.keys {
            JwtKeys::Secret(secret) => vec![Key {
                id: None,
                family: SYMMETRIC.to_vec(),
                key: DecodingKey::from_secret(secret.expose().as_bytes()),
            }],
            JwtKeys::Jwks(text) => jwks(text)?,
        };
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
        let fits = |key: &&Key| {
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

fn jwks(text: &str) -> Result<Vec<Key>, String> {
    use jsonwebtoken::jwk::AlgorithmParameters as P;
    let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("not a JWK set: {error}"))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let family = match &jwk.algorithm {
            P::RSA(_) => vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            P::EllipticCurve(_) => vec![Algorithm::ES256, Algorithm::ES384],
            P::OctetKeyPair(_) => vec![Algorithm::EdDSA],
            P::OctetKey(_) => SYMMETRIC.to_vec(),
        };
        let id = jwk.common.key_id.clone();
        let key = DecodingKey::from_jwk(jwk).map_err(|error| {
            format!("key {} cannot be used: {error}", id.as_deref().unwrap_or("without kid"))
        })?;
        keys.push(Key { id, family, key });
    }
    if keys.is_empty() { Err("the JWK set has no keys".into()) } else { Ok(keys) }
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
