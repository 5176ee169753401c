//! Names of headers that look like the gateway's own. CGI and its like hand a header over as a variable, in whose name `-`
//! and every other sign are one: to them `X_Forwarded_For` of anybody is the line that the gateway has set itself, and
//! `X_HTTP_Method_Override` a method that it has not seen. So these go before anybody looks.

use http::header::{HeaderMap, HeaderName};

/// What the gateway sets, or acts on, beside `X-Forwarded-*` and the header of the request's id.
const OWN: [&str; 4] = ["idempotency-key", "x-http-method", "x-http-method-override", "x-method-override"];

/// Whether a name (in lower case) may be one that [`strip`] removes. Nearly all are known not to be by their first letter.
#[inline]
pub fn may_be(name: &str) -> bool {
    matches!(name.as_bytes().first(), Some(b'x' | b'i')) && has_signs(name)
}

/// Removes them. `seen`: [`may_be`] was true of one. Another header of the request's id than usual is looked for each time.
pub fn strip(headers: &mut HeaderMap, seen: bool, request_id: &HeaderName) {
    let is_known = request_id.as_str().starts_with(['x', 'i']);
    let goes = |name: &HeaderName| has_signs(name.as_str()) && looks_own(name.as_str(), request_id.as_str());
    if (is_known && !seen) || !headers.keys().any(goes) {
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

#[cold]
fn looks_own(name: &str, request_id: &str) -> bool {
    let dashed = name.replace(|char: char| !char.is_ascii_alphanumeric(), "-");
    dashed.starts_with("x-forwarded-") || dashed == request_id || OWN.contains(&&*dashed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn left<'a>(names: &[&'a str], request_id: &'static str) -> Vec<&'a str> {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        }
        let seen = headers.keys().any(|name| may_be(name.as_str()));
        strip(&mut headers, seen, &HeaderName::from_static(request_id));
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
        ] {
            assert_eq!(left(&["Host", name, "X-Last"], "x-request-id"), ["Host", "X-Last"], "{name}");
        }
        let others =
            ["X-Forwarded-For", "X-Request-Id", "Idempotency-Key", "x_forwarded", "X_Under", "If_Match"];
        assert_eq!(left(&others, "x-request-id"), others);
        assert_eq!(left(&["Trace_Id", "X_Request_Id"], "trace-id"), ["X_Request_Id"]);
    }

    #[test]
    fn the_others_keep_their_order_and_lines() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("x_request_id", "2"), ("b", "3"), ("a", "4"), ("c", "5")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip(&mut headers, true, &HeaderName::from_static("x-request-id"));
        let lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(lines, [("a", &b"1"[..]), ("a", b"4"), ("b", b"3"), ("c", b"5")]);
    }
}
