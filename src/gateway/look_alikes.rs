//! Names of headers that look like the gateway's own, or like those that name callers. CGI and its like hand a header over as
//! a variable, in whose name `-` and every other sign are one: to them `X_Forwarded_For` of anybody is the line that the gateway has set itself, and
//! `X_HTTP_Method_Override` a method that it has not seen. So these go before anybody looks.

use crate::config::Config;
use crate::domain::client::Identity;
use http::header::{HeaderMap, HeaderName};

/// What the gateway sets, or acts on, beside `X-Forwarded-*` and what the configuration names.
const OWN: [&str; 5] =
    ["idempotency-key", "x-api-key", "x-http-method", "x-http-method-override", "x-method-override"];

/// The names that the configuration adds: of the request's id, and of whom `scope_by` and `identify_by` look for.
pub struct Own {
    names: Vec<HeaderName>,
    /// Some of them have another first letter than [`may_be`] knows, so they are looked for in every request.
    is_unusual: bool,
}

/// Whether a name (in lower case) may be one that [`strip`] removes. Nearly all are known not to be by their first letter.
#[inline]
pub fn may_be(name: &str) -> bool {
    matches!(name.as_bytes().first(), Some(b'x' | b'i')) && has_signs(name)
}

/// Removes them. `seen`: [`may_be`] was true of one.
pub fn strip(headers: &mut HeaderMap, seen: bool, own: &Own) {
    let goes = |name: &HeaderName| has_signs(name.as_str()) && own.is_like(name);
    if !(seen || own.is_unusual) || !headers.keys().any(goes) {
        return;
    }
    // Built anew: to remove one would move the last one into its place.
    let mut kept = HeaderMap::with_capacity(headers.keys_len() + 6);
    let mut current: Option<HeaderName> = None;
    for (name, value) in headers.drain() {
        if let Some(name) = name {
            current = (!goes(&name)).then_some(name);
        }
        if let Some(name) = &current {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

/// Whether a name has a sign that is no `-`.
fn has_signs(name: &str) -> bool {
    name.bytes().any(|byte| byte != b'-' && !byte.is_ascii_alphanumeric())
}

// === impl Own ===

impl Own {
    /// What a configuration names.
    pub fn of(config: &Config) -> Own {
        let clients = &config.clients;
        let of_callers =
            clients.scope_by.iter().chain(&clients.identify_by).filter_map(|identity| match identity {
                Identity::Header(name) => Some(name),
                Identity::Jwt(_) | Identity::Cookie(_) | Identity::Cert | Identity::Ip => None,
            });
        Own::named(of_callers.chain([&config.server.request_id_header]).cloned().collect())
    }

    fn named(mut names: Vec<HeaderName>) -> Own {
        // No other name reads like one of a single word.
        names.retain(|name| !name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let is_unusual = names.iter().any(|name| !name.as_str().starts_with(['x', 'i']));
        Own { names, is_unusual }
    }

    /// Whether a name is none of them and reads like one.
    #[cold]
    fn is_like(&self, name: &HeaderName) -> bool {
        let dashed = name.as_str().replace(|char: char| !char.is_ascii_alphanumeric(), "-");
        let is_known = || !self.names.contains(name) && self.names.iter().any(|own| own.as_str() == dashed);
        dashed.starts_with("x-forwarded-") || OWN.contains(&&*dashed) || is_known()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn left<'a>(names: &[&'a str], own: &'static str) -> Vec<&'a str> {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        }
        let seen = headers.keys().any(|name| may_be(name.as_str()));
        strip(&mut headers, seen, &Own::named(own.split(' ').map(HeaderName::from_static).collect()));
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.iter().filter(|name| left.contains(&&*name.to_ascii_lowercase())).copied().collect()
    }

    #[test]
    fn what_looks_like_the_gateways_own_goes_and_nothing_else() {
        for name in [
            "X_Forwarded_For",
            "x-forwarded_proto",
            "X.Forwarded.Host",
            "X_FORWARDED_PREFIX",
            "X_HTTP_Method_Override",
            "x_http_method",
            "X_Method-Override",
            "Idempotency_Key",
            "X_Request_Id",
            "X_Api_Key",
            "x.api-key",
        ] {
            assert_eq!(left(&["Host", name, "X-Last"], "x-request-id"), ["Host", "X-Last"], "{name}");
        }
        let others =
            ["X-Forwarded-For", "X-Request-Id", "Idempotency-Key", "x_forwarded", "X_Under", "If_Match"];
        assert_eq!(left(&others, "x-request-id"), others);
        assert_eq!(left(&["Trace_Id", "X_Request_Id"], "trace-id"), ["X_Request_Id"]);
        let callers = "x-request-id tenant-id x-client_no";
        assert_eq!(
            left(&["Tenant_Id", "Tenant-Id", "X-Client_No", "a_b"], callers),
            ["Tenant-Id", "X-Client_No", "a_b"]
        );
    }

    #[test]
    fn the_others_keep_their_order_and_lines() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("x_request_id", "2"), ("b", "3"), ("a", "4"), ("c", "5")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip(&mut headers, true, &Own::named(vec![HeaderName::from_static("x-request-id")]));
        let lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(lines, [("a", &b"1"[..]), ("a", b"4"), ("b", b"3"), ("c", b"5")]);
    }
}
