//! Who may come in. The admin address settles what counts as executed, so a page in an operator's browser must not
//! reach it, whatever that browser can reach.

use super::problem::Problem;
use super::{AdminState, BODY_BYTES_MAX};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::Duration;

/// For a whole request, its body included.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(10);

/// What tower refuses around a request, as a problem: it took too long, or too many are being answered.
pub(super) async fn refused(error: axum::BoxError) -> Problem {
    if error.is::<tower::timeout::error::Elapsed>() { Problem::timeout(REQUEST_MAX) } else { Problem::busy() }
}

/// Around every request: a bound on its body, and headers that keep answers out of caches and away from guesses.
pub(super) async fn rim(request: Request, next: Next) -> Response {
    let mut response = match body_bound(request.headers()) {
        Err(problem) => problem.into_response(),
        Ok(()) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A body that says that it is too large need not be waited for; one that does not say is cut off while it is read.
fn body_bound(headers: &HeaderMap) -> Result<(), Problem> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_BYTES_MAX) { Err(Problem::too_large()) } else { Ok(()) }
}

/// Before figures and the API: not on behalf of another site, and with the token where one is configured.
pub(super) async fn admit(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let token = state.token.as_ref().map(|token| token.expose());
    match admitted(request.headers(), token) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn admitted(headers: &HeaderMap, token: Option<&str>) -> Result<(), Problem> {
    same_site(headers)?;
    match token {
        Some(token) if !bears(headers, token) => Err(Problem::token_required()),
        Some(_) => Ok(()),
        // Without a token the only proof is the loopback address, and a page can reach that under a name of its own.
        None => loopback_host(headers),
    }
}

/// A browser says for whom it asks: `Sec-Fetch-Site` on every request, `Origin` on those that matter.
fn same_site(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err(Problem::refused("the browser says that another site asks (Sec-Fetch-Site)"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin_host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origin_host, host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Problem::refused("the request comes from a page of another site (Origin)")),
    }
}

fn loopback_host(headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let is_loopback = match (host, more) {
        // Every browser sends one; what sends none is no browser.
        (None, _) => true,
        (Some(host), None) => host.to_str().is_ok_and(names_loopback),
        (Some(_), Some(_)) => false,
    };
    if is_loopback {
        return Ok(());
    }
    Err(Problem::refused(
        "without a token the admin address answers only as a loopback address or localhost (Host); \
         set [admin] token to reach it under another name",
    ))
}

fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Digests are compared instead of the texts, and all of their bytes: the time taken says nothing about the token.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((scheme, shown)) = shown.split_at_checked(7) else { return false };
    let (shown, token) = (Sha256::digest(shown.trim_ascii()), Sha256::digest(token.as_bytes()));
    let differs = shown
        .iter()
        .zip(&token)
        .fold(0, |differs, (one, other)| std::hint::black_box(differs | (one ^ other)));
    scheme.eq_ignore_ascii_case(b"bearer ") && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(headers: &[(&'static str, &str)], token: Option<&str>) -> Option<&'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header value"));
        }
        admitted(&map, token).err().map(|problem| problem.slug)
    }

    #[test]
    fn a_program_on_the_same_machine_comes_in() {
        for host in ["127.0.0.1:9090", "127.8.8.8", "localhost:9090", "LOCALHOST", "[::1]:9090", "[::1]"] {
            assert_eq!(refusal(&[("host", host)], None), None, "{host}");
        }
        assert_eq!(refusal(&[], None), None);
    }

    #[test]
    fn a_rebound_name_stays_out_without_a_token() {
        for host in [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "",
        ] {
            assert_eq!(refusal(&[("host", host)], None), Some("cross-site"), "{host}");
        }
        assert_eq!(refusal(&[("host", "localhost"), ("host", "evil.example")], None), Some("cross-site"));
    }

    #[test]
    fn a_page_of_another_site_stays_out_even_with_the_token() {
        let bearer = ("authorization", "Bearer secret");
        let host = ("host", "localhost:9090");
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
        ] {
            assert_eq!(refusal(&[host, bearer, foreign], Some("secret")), Some("cross-site"), "{foreign:?}");
            assert_eq!(refusal(&[host, foreign], None), Some("cross-site"), "{foreign:?}");
        }
    }

    #[test]
    fn an_own_page_and_a_typed_address_come_in() {
        let host = ("host", "localhost:9090");
        let own = [host, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:9090")];
        assert_eq!(refusal(&own, None), None);
        assert_eq!(refusal(&[host, ("sec-fetch-site", "none")], None), None);
    }

    #[test]
    fn the_token_is_required_whole_and_as_a_bearer_token() {
        for shown in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer secre",
            "Bearer secrets",
            "Basic secret",
            "secret",
            "Bearer Secret",
        ] {
            assert_eq!(
                refusal(&[("authorization", shown)], Some("secret")),
                Some("token-required"),
                "{shown:?}"
            );
        }
        assert_eq!(refusal(&[], Some("secret")), Some("token-required"));
        for shown in ["Bearer secret", "bearer secret"] {
            assert_eq!(refusal(&[("authorization", shown), ("host", "gate.example")], Some("secret")), None);
        }
    }
}
