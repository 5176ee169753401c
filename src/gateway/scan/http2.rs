//! Heads of HTTP/2, which come decoded: the same rules as for HTTP/1.1, as far as the decoder below has not applied them.
//! It refuses capital letters in names, fields of HTTP/1.1's framing, pseudo-headers that are missing, doubled or out of
//! place, and control characters; what two readers could still read in two ways once the head is HTTP/1.1 towards the
//! backend is refused here.

use super::head::{Field, check_method, check_target_bytes, length};
use super::problem::Problem;
use super::{Limits, authority};
use http::Method;
use http::header::{self, HeaderMap};
use http::request::Parts;

/// Checks a head of HTTP/2; `ended` where no body follows.
pub fn check_http2(parts: &Parts, ended: bool, limits: &Limits) -> Result<(), Problem> {
    if parts.method == Method::CONNECT {
        return Err(Problem::Tunnel);
    }
    check_method(parts.method.as_str().as_bytes())?;
    target(parts, limits)?;
    host(parts)?;
    fields(&parts.headers, ended, limits)
}

fn target(parts: &Parts, limits: &Limits) -> Result<(), Problem> {
    if !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err(Problem::TargetForm);
    }
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes();
    if target.len() > limits.target_bytes {
        return Err(Problem::TargetTooLong);
    }
    match target {
        b"*" if parts.method == Method::OPTIONS => Ok(()),
        [b'/', ..] => check_target_bytes(target),
        _ => Err(Problem::TargetForm),
    }
}

/// `:authority` and `Host` say the same where both are there, and one of them is.
fn host(parts: &Parts) -> Result<(), Problem> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(Problem::SeveralHosts);
    }
    if let Some(host) = host {
        authority::check(host.as_bytes(), Problem::Host)?;
    }
    let named = parts.uri.authority().map(|named| named.as_str().as_bytes());
    if let Some(named) = named {
        authority::check(named, Problem::Authority)?;
    }
    match (named, host) {
        (None, None) => Err(Problem::NoHost),
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host.as_bytes()) => {
            Err(Problem::AuthorityMismatch)
        }
        _ => Ok(()),
    }
}

fn fields(headers: &HeaderMap, ended: bool, limits: &Limits) -> Result<(), Problem> {
    if headers.len() > limits.headers {
        return Err(Problem::TooManyHeaders);
    }
    headers.keys().try_for_each(|name| Field::named(name.as_str().as_bytes()).without_look_alikes())?;
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let announced = lengths.next().map(|value| length(value.as_bytes())).transpose()?;
    if lengths.next().is_some() {
        return Err(Problem::SeveralLengths);
    }
    // A body that is announced and not sent would be taken from the next request.
    if ended && announced.is_some_and(|length| length > 0) { Err(Problem::Length) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    type Case = (&'static str, String, &'static [(&'static str, &'static str)], Problem);

    fn checked(method: &str, uri: &str, fields: &[(&str, &str)], ended: bool) -> Result<(), Problem> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        check_http2(&parts, ended, &Limits::DEFAULT)
    }

    #[test]
    fn what_http_1_would_refuse_is_refused() {
        let long = format!("https://a/{}", "x".repeat(Limits::DEFAULT.target_bytes));
        let cases: [Case; 18] = [
            ("CONNECT", "a:443".into(), &[], Problem::Tunnel),
            ("get", "https://a/".into(), &[], Problem::Method),
            ("G!T", "https://a/".into(), &[], Problem::Method),
            ("GET", "ftp://a/".into(), &[], Problem::TargetForm),
            ("GET", "/".into(), &[("host", "a")], Problem::TargetForm),
            ("GET", long, &[], Problem::TargetTooLong),
            ("GET", "https://user@a/".into(), &[], Problem::Userinfo),
            ("GET", "https://a/".into(), &[("host", "b")], Problem::AuthorityMismatch),
            ("GET", "https://a/".into(), &[("host", "a:80")], Problem::AuthorityMismatch),
            ("GET", "https://a/".into(), &[("host", "a"), ("host", "a")], Problem::SeveralHosts),
            ("GET", "https://a/".into(), &[("host", "a/b")], Problem::Host),
            ("GET", "https://a/".into(), &[("content_length", "1")], Problem::LookAlike),
            ("GET", "https://a/".into(), &[("transfer.encoding", "x")], Problem::LookAlike),
            ("GET", "https://a/".into(), &[("transfer---encoding", "x")], Problem::LookAlike),
            (
                "POST",
                "https://a/".into(),
                &[("content-length", "1"), ("content-length", "1")],
                Problem::SeveralLengths,
            ),
            ("POST", "https://a/".into(), &[("content-length", "+1")], Problem::Length),
            ("POST", "https://a/".into(), &[("content-length", "01")], Problem::Length),
            ("POST", "https://a/".into(), &[("content-length", "1, 1")], Problem::Length),
        ];
        for (method, uri, fields, problem) in cases {
            assert_eq!(checked(method, &uri, fields, false), Err(problem), "{method} {uri} {fields:?}");
        }
        let many: Vec<_> = (0..=Limits::DEFAULT.headers).map(|_| ("x", "1")).collect();
        assert_eq!(checked("GET", "https://a/", &many, false), Err(Problem::TooManyHeaders));
        assert_eq!(checked("POST", "https://a/", &[("content-length", "1")], true), Err(Problem::Length));
    }

    #[test]
    fn what_http_1_accepts_is_accepted() {
        let fields: &[(&str, &str)] = &[("host", "A:8443"), ("x_under", "1"), ("content-length", "3")];
        assert_eq!(checked("POST", "https://a:8443/x?y=%20", fields, false), Ok(()));
        assert_eq!(checked("PROPFIND", "http://[::1]:80/", &[], true), Ok(()));
        assert_eq!(checked("GET", "https://a", &[("content-length", "0")], true), Ok(()));
    }
}
