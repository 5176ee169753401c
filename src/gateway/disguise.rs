//! Requests that ask for another method than their own. Many frameworks act on `X-HTTP-Method-Override: DELETE` in a POST as
//! on a DELETE, so where a route guards that DELETE, or gives a slot back by it, the POST takes that route too; and its
//! success ends what the DELETE's would end.

use super::changes::is_unsafe_change;
use super::exchange::Exchange;
use crate::config::{Policy, Taken};
use http::Method;
use http::request::Parts;

/// The names under which frameworks look for a method.
const NAMES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// The field under which they look for it in a query.
const FIELD: &str = "_method";

/// What a request is meant as by whoever acts on a method that it names beside its own.
pub struct Meant<'a> {
    /// The route that it takes.
    pub taken: Taken<'a>,
    /// The method that its success counts as, where that changes more than its own.
    pub method: Option<Method>,
}

/// What `parts` mean, which would take `own` as they are. `in_headers`: one of the names was seen among their headers.
pub fn meant<'a>(
    policy: &'a Policy,
    parts: &Parts,
    path: &str,
    own: Taken<'a>,
    in_headers: bool,
) -> Meant<'a> {
    // A guard comes before all else: whatever else is named, nothing leads from a guarded route to one that is not.
    let weight = |taken: &Taken| (taken.guard.is_some(), !taken.route.slots.releases.is_empty());
    // What ends more than others do ends it, whatever else it is called.
    let counts = !matches!(parts.method.as_str(), "DELETE" | "COPY" | "MOVE");
    let mut meant = Meant { taken: own, method: None };
    for method in named(parts, in_headers) {
        let better = policy.route(&method, path).filter(|other| weight(other) > weight(&meant.taken));
        if counts && is_unsafe_change(&method) && (better.is_some() || meant.method.is_none()) {
            meant.method = Some(method);
        }
        meant.taken = better.unwrap_or(meant.taken);
    }
    meant
}

/// The methods that a request names, in its headers first.
fn named(parts: &Parts, in_headers: bool) -> impl Iterator<Item = Method> {
    let headers = parts.headers.iter().filter(move |(name, _)| in_headers && NAMES.contains(&name.as_str()));
    let in_headers = headers.map(|(_, value)| value.as_bytes().to_vec());
    // A query is looked at by few, and by nobody in a GET. An escape may hide the field's name.
    let may_name = |query: &&str| !parts.method.is_safe() && (query.contains(FIELD) || query.contains('%'));
    let fields = parts.uri.query().filter(may_name).unwrap_or_default().split(['&', ';']);
    let in_query = fields.filter_map(|field| {
        let (name, value) = field.split_once('=')?;
        decoded(name).eq(FIELD.bytes()).then(|| decoded(value).collect())
    });
    in_headers
        .chain(in_query)
        .filter_map(|name: Vec<u8>| Method::from_bytes(&name.trim_ascii().to_ascii_uppercase()).ok())
}

/// The bytes that a piece of a query stands for. What is no escape stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match (byte, after) {
            (b'%', &[high, low, ..]) => {
                let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Some(b'%') };
                rest = &after[2..];
                u8::try_from(high << 4 | low).ok()
            }
            (b'+', _) => Some(b' '),
            _ => Some(byte),
        }
    })
}

impl Exchange {
    /// The method that a success of this request counts as, which is `own` unless it names another.
    pub fn counts_as<'a>(&'a self, own: &'a Method) -> &'a Method {
        self.disguise.as_ref().unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    fn names(method: &str, target: &str, header: Option<&'static str>) -> Vec<String> {
        let (mut parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
        if let Some(header) = header {
            parts.headers.insert("x-method-override", HeaderValue::from_static(header));
        }
        named(&parts, header.is_some()).map(|method| method.to_string()).collect()
    }

    #[test]
    fn a_query_names_a_method_in_every_spelling_that_decodes_to_it() {
        for query in [
            "_method=DELETE",
            "a=b&_method=delete",
            "a=b;%5Fmethod=DELETE",
            "%5fmeth%6Fd=%44ELETE",
            "_method=+DELETE%20",
            "a=100%&_method=%64elete",
            "_method=x%zz&_method=DELETE",
        ] {
            assert_eq!(names("POST", &format!("/a?{query}"), None).last().unwrap(), "DELETE", "{query}");
        }
        for query in ["", "a=%25", "x_method=DELETE", "_method", "%255Fmethod=DELETE", "_method%3DDELETE"] {
            assert_eq!(names("POST", &format!("/a?{query}"), None), [""; 0], "{query}");
        }
        assert_eq!(names("GET", "/a?_method=DELETE", None), [""; 0]);
        assert_eq!(names("POST", "/a?_method=PUT", Some(" delete ")), ["DELETE", "PUT"]);
    }
}
