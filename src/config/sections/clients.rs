//! `[clients]` and `[clients.jwt]`: who asks, and what proves it.

use crate::config::jwks::Jwks;
use crate::config::model::{Clients, JwtConfig, JwtKeys};
use crate::config::networks;
use crate::config::problem::Severity;
use crate::config::read::{Reader, Text};
use crate::config::sections::{report_twice, throttle};
use crate::config::table::Table;
use crate::config::values::{self, Wrong, later};
use std::sync::Arc;

/// A set of public keys that is larger is some other file.
const JWKS_BYTES_MAX: u64 = 1 << 20;

/// `[clients]`
pub(super) fn read(reader: &Reader<'_>, table: &Table<'_>) -> Clients {
    for name in ["identify_by", "scope_by"] {
        let items: Vec<_> =
            table.texts(name, false).unwrap_or_default().into_iter().map(|text| text.raw).collect();
        report_twice(reader, &table.path_of(name), &items);
    }
    Clients {
        trusted_proxies: table.list("trusted_proxies", false, networks::network),
        identify_by: table.list("identify_by", false, values::identity),
        scope_by: table.list("scope_by", false, values::identity),
        umbrella: table.count("umbrella"),
        limit_memory: table.size("limit_memory"),
        held_max: usize::try_from(table.count("held_max")).unwrap_or(usize::MAX),
        held_per_client: usize::try_from(table.count("held_per_client")).unwrap_or(usize::MAX),
        poll_storm: table.parsed_or_default("poll_storm", throttle::limit_or_off),
        jwt: if table.has("jwt") { read_jwt(reader, &table.table("jwt")) } else { None },
    }
}

fn read_jwt(reader: &Reader<'_>, table: &Table<'_>) -> Option<JwtConfig> {
    let secret = table.secret("secret");
    let jwks = table.text("jwks").and_then(|file| read_jwks(reader, table, &file));
    match (table.has("jwks"), table.has("secret")) {
        (true, true) => table
            .error("secret", Wrong::new("`jwks` and `secret` exclude each other").help("keep one of them")),
        (false, false) => reader.report(
            Severity::Error,
            &table.path,
            Wrong::new("[clients.jwt] has neither `jwks` nor `secret`")
                .help("add jwks = \"jwks.json\", or a shared secret"),
        ),
        _ => {}
    }
    let text = |name: &str| table.text(name).map(|text| text.value);
    let (issuer, audience) = (text("issuer"), text("audience"));
    let keys = jwks.map(JwtKeys::Jwks).or(secret.map(JwtKeys::Secret))?;
    Some(JwtConfig { keys, issuer, audience })
}

/// Reads the key set and makes sure that something in it can verify: found out here, not with the first token.
fn read_jwks(reader: &Reader<'_>, table: &Table<'_>, file: &Text) -> Option<Arc<str>> {
    let error = |wrong: Wrong| {
        reader.report(Severity::Error, &file.path, wrong);
        None
    };
    if file.value.contains("://") {
        return error(later("a key set from a URL").help("save it as a file beside the configuration"));
    }
    let text = table.file(file, JWKS_BYTES_MAX)?;
    let Some(Jwks { keys, count }) = Jwks::parse(&text) else {
        return error(
            Wrong::new("the file is not a JWK set").help("it has to be JSON with a list `keys` (RFC 7517)"),
        );
    };
    match count - keys.len() {
        _ if keys.is_empty() => error(Wrong::new("the JWK set has no key that can verify a token")),
        0 => Some(text.into()),
        unusable => {
            let wrong = format!("{unusable} of the JWK set's {count} keys cannot be used and are left out");
            reader.report(Severity::Warning, &file.path, Wrong::new(wrong));
            Some(text.into())
        }
    }
}
