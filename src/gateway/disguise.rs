//! Requests that ask for another method than their own. Many frameworks act on `X-HTTP-Method-Override: DELETE` in a POST as
//! on a DELETE, so where a route guards that DELETE, the POST is guarded by it too.

use crate::config::{Policy, Taken};
use http::Method;
use http::request::Parts;

/// The names under which frameworks look for a method.
const NAMES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// The field under which they look for it in a query.
const FIELD: &str = "_method=";

/// The guarded route that `parts` would take under a method that they name beside their own. `in_headers`: one of the
/// names was seen among their headers.
pub fn guarded<'a>(policy: &'a Policy, parts: &Parts, path: &str, in_headers: bool) -> Option<Taken<'a>> {
    let headers = parts.headers.iter().filter(|(name, _)| in_headers && NAMES.contains(&name.as_str()));
    let named_in_headers = headers.filter_map(|(_, value)| value.to_str().ok());
    // A query is looked at by few, and by nobody in a GET.
    let query = parts.uri.query().filter(|query| !parts.method.is_safe() && query.contains(FIELD));
    let fields = query.unwrap_or_default().split(['&', ';']);
    let named_in_query = fields.filter_map(|field| field.strip_prefix(FIELD));
    named_in_headers.chain(named_in_query).find_map(|name| {
        let method = Method::from_bytes(name.trim().to_ascii_uppercase().as_bytes()).ok()?;
        policy.route(&method, path).filter(|taken| taken.guard.is_some())
    })
}
