//! A head of HTTP/2 as a head of HTTP/1.1, which everything behind it reads and the backend gets.

use crate::domain::refusal::Refusal;
use crate::gateway::scan::{Limits, Problem, check_http2};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Uri, Version};
use http_body::Body;

/// Checks the head, and gives it the form that one of HTTP/1.1 has: a target without an authority, `Host` in front of all
/// others, one `Cookie`. What is wrong with it goes along, and is what `refused` finds.
pub fn translate<B: Body>(request: Request<B>, limits: &Limits) -> Request<B> {
    let (mut parts, body) = request.into_parts();
    match check_http2(&parts, body.is_end_stream(), limits) {
        Ok(()) => translate_head(&mut parts),
        Err(problem) => {
            parts.extensions.insert(problem);
        }
    }
    Request::from_parts(parts, body)
}

/// The refusal of a head that did not pass; one of HTTP/1.1 never comes so far.
pub fn refused(parts: &Parts) -> Option<Refusal> {
    if parts.version != Version::HTTP_2 {
        return None;
    }
    parts.extensions.get::<Problem>().map(|problem| problem.refusal())
}

fn translate_head(parts: &mut Parts) {
    let mut headers = HeaderMap::with_capacity(parts.headers.keys_len() + 8);
    let named = parts.uri.authority().and_then(|named| HeaderValue::from_str(named.as_str()).ok());
    if let Some(host) = named.or_else(|| parts.headers.get(header::HOST).cloned()) {
        headers.insert(header::HOST, host);
    }
    let cookie = one_cookie(&parts.headers);
    let mut current = None;
    for (name, value) in parts.headers.drain() {
        if name.is_some() {
            current = name;
        }
        match &current {
            Some(name) if *name == header::HOST => {}
            Some(name) if *name == header::COOKIE => {
                headers.entry(name).or_insert_with(|| cookie.clone().unwrap_or(value));
            }
            Some(name) => {
                headers.append(name.clone(), value);
            }
            None => {}
        }
    }
    parts.headers = headers;
    // A target that was checked is one of origin form, too.
    if let Some(target) = parts.uri.path_and_query().cloned() {
        parts.uri = Uri::from(target);
    }
}

/// HTTP/2 may cut `Cookie` into several fields; in HTTP/1.1 there is one (RFC 9113, 8.2.3).
fn one_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let first = crumbs.next()?;
    let mut joined = first.as_bytes().to_vec();
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;

    fn translated(uri: &str, fields: &[(&str, &str)]) -> Request<Empty<&'static [u8]>> {
        let mut request = Request::builder().version(Version::HTTP_2).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        translate(request.body(Empty::new()).expect("a request"), &Limits::DEFAULT)
    }

    #[test]
    fn the_authority_becomes_the_host_and_stands_in_front() {
        let request = translated("https://a:8443/x?y", &[("accept", "*/*"), ("x", "1"), ("x", "2")]);
        assert_eq!(*request.uri(), "/x?y");
        let fields = request.headers().iter();
        let fields: Vec<_> = fields.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("host", &b"a:8443"[..]), ("accept", b"*/*"), ("x", b"1"), ("x", b"2")]);
        assert!(refused(&request.into_parts().0).is_none());
    }

    #[test]
    fn crumbs_of_a_cookie_are_one_cookie() {
        let request = translated("https://a/", &[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3")]);
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn a_refused_head_says_so_and_only_in_http_2() {
        let (mut parts, _) = translated("https://a/", &[("host", "b")]).into_parts();
        assert_eq!(refused(&parts).map(|refusal| refusal.status), Some(400));
        parts.version = Version::HTTP_11;
        assert!(refused(&parts).is_none());
    }
}
