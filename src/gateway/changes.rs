//! What a request changes where it succeeds: its target, and with COPY and MOVE what their `Destination` names
//! (RFC 4918, 10.3). What was remembered of either ends then.

use crate::domain::target::NormalTarget;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri};

/// Methods whose success ends what was remembered; those of WebDAV among them (RFC 4918): after a MOVE or a LOCK, the
/// same PUT is another intent.
pub fn is_unsafe_change(method: &Method) -> bool {
    matches!(*method, Method::PUT | Method::PATCH | Method::DELETE)
        || matches!(method.as_str(), "LOCK" | "UNLOCK" | "PROPPATCH" | "MKCOL" | "MKCALENDAR")
        || has_destination(method)
}

/// Whether such a change is one of the target: a COPY leaves it as it was.
pub fn changes_target(method: &Method) -> bool {
    is_unsafe_change(method) && method.as_str() != "COPY"
}

/// Whether it takes what lies below the target with it.
pub fn changes_below(method: &Method) -> bool {
    *method == Method::DELETE || method.as_str() == "MOVE"
}

/// The path that is made or replaced beside the target, in its normal form.
pub fn destination(method: &Method, target: &Uri, headers: &HeaderMap) -> Option<String> {
    if !has_destination(method) {
        return None;
    }
    let text = headers.get("destination")?.to_str().ok()?;
    path_named(target.path(), headers.get(header::HOST), text)
}

fn has_destination(method: &Method) -> bool {
    matches!(method.as_str(), "COPY" | "MOVE")
}

/// The path of this gateway, in its normal form, that the reference `text` names in a request for `base` at `authority`, or
/// in its answer.
pub fn path_named(base: &str, authority: Option<&HeaderValue>, text: &str) -> Option<String> {
    let path = match Uri::try_from(text) {
        // A single word would be read as a host, so only a scheme tells one.
        Ok(uri) if uri.scheme().is_some() => {
            let own = authority?.as_bytes();
            let named = uri.authority()?.as_str().as_bytes();
            // Another host's resources are none of ours.
            named.eq_ignore_ascii_case(own).then(|| uri.path().to_owned())?
        }
        _ if text.starts_with("//") => return None,
        _ => resolved(base, text),
    };
    NormalTarget::parse(&path).ok().map(|normal| normal.path().to_owned())
}

/// A reference without a host, as it is meant at `base` (RFC 3986, 5.2).
fn resolved(base: &str, reference: &str) -> String {
    let path = reference.split(['?', '#']).next().unwrap_or_default();
    if path.starts_with('/') {
        return path.to_owned();
    }
    let directory = base.rfind('/').map_or("/", |at| &base[..=at]);
    format!("{directory}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> Method {
        Method::from_bytes(name.as_bytes()).unwrap()
    }

    #[test]
    fn references_are_resolved_against_the_request() {
        for (reference, expected) in
            [("/a/b?x", "/a/b"), ("7", "/bookings/7"), ("./7#x", "/bookings/./7"), ("", "/bookings/")]
        {
            assert_eq!(resolved("/bookings/new", reference), expected);
        }
    }

    #[test]
    fn a_destination_is_a_path_of_this_host_and_only_where_the_method_has_one() {
        let destination = |name: &str, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("dav.example"));
            headers.insert("destination", HeaderValue::from_str(text).unwrap());
            super::destination(&method(name), &Uri::from_static("/a/b"), &headers)
        };
        for text in ["/c%2e/../d", "http://dav.example/d", "https://DAV.example/d"] {
            assert_eq!(destination("MOVE", text).as_deref(), Some("/d"), "{text}");
            assert_eq!(destination("COPY", text).as_deref(), Some("/d"), "{text}");
            assert_eq!(destination("PUT", text), None);
        }
        assert_eq!(destination("MOVE", "http://other.example/d"), None);
        assert_eq!(destination("MOVE", "//dav.example/d"), None);
    }

    #[test]
    fn a_copy_changes_its_destination_and_not_its_target() {
        assert!(is_unsafe_change(&method("COPY")) && !changes_target(&method("COPY")));
        assert!(changes_target(&method("MOVE")) && changes_target(&Method::PUT));
        assert!(!is_unsafe_change(&Method::POST) && !is_unsafe_change(&method("PROPFIND")));
    }
}
