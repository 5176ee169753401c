//! Requests that ask for another method than their own. Many frameworks act on `X-HTTP-Method-Override: DELETE` in a POST as
//! on a DELETE, so where a route guards that DELETE, or gives a slot back by it, the POST takes that route too; and its
//! success ends what the DELETE's would end. In a body they look too, for a form's field `_method`; it is seen where the body
//! is read whole, after the route was found.

use super::changes::is_unsafe_change;
use super::exchange::Exchange;
use super::source::request_fields;
use crate::config::{Policy, Taken};
use crate::domain::canon::Fields;
use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method};
use memchr::{memchr, memmem};

/// The names under which frameworks look for a method.
const NAMES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// The field under which they look for it in a query, and in the body of a POST.
const FIELD: &str = "_method";
/// Forms in which an escape may hide the field's name.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

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
    in_headers.chain(in_query).filter_map(|name: Vec<u8>| method(&name))
}

/// The method of such a name; frameworks heed neither its case nor spaces around it.
fn method(name: &[u8]) -> Option<Method> {
    Method::from_bytes(&name.trim_ascii().to_ascii_uppercase()).ok()
}

/// Whether a body is worth reading for the field. Few have it, and every guarded POST is asked; a coding hides it, and so may
/// an escape.
fn may_name_one(headers: &HeaderMap, body: &[u8]) -> bool {
    let is_form = |value: &HeaderValue| {
        value.as_bytes().get(..FORM.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORM))
    };
    memmem::find(body, FIELD.as_bytes()).is_some()
        || headers.contains_key(header::CONTENT_ENCODING)
        || memchr(b'%', body).is_some() && headers.get(header::CONTENT_TYPE).is_some_and(is_form)
}

/// The method that a body names: in a form the last field counts, as for those who read it into a table; in JSON the
/// outermost one.
fn named_in_body(fields: &Fields) -> Option<Method> {
    match fields {
        Fields::Form(fields) => {
            let (_, value) = fields.iter().rev().find(|(name, _)| name == FIELD.as_bytes())?;
            method(value.as_deref()?)
        }
        Fields::Json(document) => {
            let text = document.root().member(FIELD)?.text();
            method(text.strip_prefix(b"\"")?.strip_suffix(b"\"")?)
        }
        Fields::Empty | Fields::Unreadable(_) => None,
    }
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
        self.disguise.get().unwrap_or(own)
    }

    /// Looks for a method in the body of a POST that names none in its head. The request keeps its route.
    pub fn look_for_disguise(&self, parts: &Parts, body: &Bytes) {
        if parts.method != Method::POST
            || self.disguise.get().is_some()
            || !may_name_one(&parts.headers, body)
        {
            return;
        }
        let named = named_in_body(&request_fields(self, parts, body));
        if let Some(method) = named.filter(is_unsafe_change) {
            // It was empty a moment ago, and nobody else looks.
            let _ = self.disguise.set(method);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::canon::{BodyInput, fields};
    use http::Request;

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

    #[test]
    fn a_body_names_a_method_in_the_field_that_frameworks_look_for() {
        const MULTIPART: &str =
            "--b\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--b--\r\n";
        let (form, json) = ("application/x-www-form-urlencoded", "application/json");
        for (content_type, body, names) in [
            (form, "_method=DELETE", "DELETE"),
            (form, "a=%25&%5Fmethod=%64elete", "DELETE"),
            ("Application/X-WWW-Form-Urlencoded; charset=utf-8", "%5fmethod=DELETE", "DELETE"),
            (form, "_method=PUT&_method=+delete", "DELETE"),
            ("multipart/form-data; boundary=b", MULTIPART, "DELETE"),
            (json, r#"{"_method":"delete"}"#, "DELETE"),
            (form, "x_method=DELETE&a=_method", ""),
            (form, "_method", ""),
            (json, r#"{"a":{"_method":"DELETE"},"b":"_method"}"#, ""),
            (json, r#"{"_method":["DELETE"]}"#, ""),
            ("text/plain", "_method=DELETE", ""),
        ] {
            let input = BodyInput {
                content_type: Some(content_type.as_bytes()),
                content_encoding: None,
                query: None,
                body: body.as_bytes(),
            };
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
            let named = named_in_body(&fields(&input, 1 << 20));
            let named = named.filter(|_| may_name_one(&headers, body.as_bytes()));
            assert_eq!(named.as_ref().map_or("", Method::as_str), names, "{content_type}: {body}");
        }
    }
}
