//! Which answers may be handed to another request, at once or later. Everything here errs on the side of asking again.

use super::directives::Directives;
use super::key::{is_noise, says_who};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};

/// How a request was keyed, as far as it bears on who may get its answer.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// `share = "everyone"`: the key is without credentials.
    pub everyone: bool,
    /// The scope is more than an address.
    pub shown: bool,
    /// The request came with `Authorization`.
    pub authorization: bool,
    /// `Authorization` is not in the key, because a verified token in it proves the scope.
    pub token_proves_it: bool,
    /// Headers that name callers, beside `Authorization` and `Cookie`.
    pub credentials: &'a [HeaderName],
    /// The header of the request's id.
    pub request_id: &'a HeaderName,
}

/// Why an answer is for its own request alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Its status is not 200.
    Status,
    /// It sets a cookie, or goes on with an authentication.
    Cookie,
    /// `no-store`
    NoStore,
    /// `private`, and the caller has shown nothing or shares with everyone.
    Private,
    /// `Vary` names something that is not in the key, or everything.
    Vary,
    /// It is a stream of events.
    Stream,
    /// It answers a request with `Authorization`, speaks of caching, and does not say that it is for everyone.
    Authorization,
    /// It is larger than what is kept, or there is no room for it.
    Large,
}

/// Why this answer is for its own request alone; `None` where equal requests may have it.
pub fn bar(status: StatusCode, headers: &HeaderMap, keyed: &Keyed<'_>) -> Option<Bar> {
    if status != StatusCode::OK || headers.contains_key(header::CONTENT_RANGE) {
        return Some(Bar::Status);
    }
    let mut names = headers.keys().map(HeaderName::as_str);
    if names
        .any(|name| matches!(name, "set-cookie" | "set-cookie2" | "authentication-info" | "www-authenticate"))
    {
        return Some(Bar::Cookie);
    }
    let says = Directives::of_answer(headers);
    if says.no_store {
        return Some(Bar::NoStore);
    }
    if says.private && (keyed.everyone || !keyed.shown) {
        return Some(Bar::Private);
    }
    // Where the backend speaks of caching it knows the rule for shared caches (RFC 9111, 3.5); where it is silent, the
    // operator's word that the page is for everyone counts.
    let speaks = says.speak_of_freshness() || (!says.targeted && headers.contains_key(header::EXPIRES));
    let for_everyone = says.public || says.must_revalidate || says.s_maxage.is_some();
    if keyed.everyone && keyed.authorization && speaks && !for_everyone {
        return Some(Bar::Authorization);
    }
    if !varied(headers).all(|name| name.is_ok_and(|name| is_in_key(&name, keyed))) {
        return Some(Bar::Vary);
    }
    is_event_stream(headers).then_some(Bar::Stream)
}

/// The names that `Vary` lists. `Err` for `*` and for what is no name.
pub fn varied(headers: &HeaderMap) -> impl Iterator<Item = Result<HeaderName, ()>> {
    let members = headers.get_all(header::VARY).iter().flat_map(|line| line.as_bytes().split(|&b| b == b','));
    members.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()).map(|name| match name {
        b"*" => Err(()),
        name => HeaderName::from_bytes(name).map_err(|_| ()),
    })
}

fn is_in_key(name: &HeaderName, keyed: &Keyed<'_>) -> bool {
    let left_out = (keyed.everyone && says_who(name, keyed.credentials))
        || (keyed.token_proves_it && *name == header::AUTHORIZATION);
    !left_out && !is_noise(name.as_str()) && name != keyed.request_id
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kinds: [&[u8]; 2] = [b"text/event-stream", b"multipart/x-mixed-replace"];
    headers.get_all(header::CONTENT_TYPE).iter().any(|value| {
        let kind = value.as_bytes().split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        kinds.iter().any(|stream| kind.eq_ignore_ascii_case(stream))
    })
}

// === impl Bar ===

impl Bar {
    /// All of them, in their order.
    pub const ALL: [Bar; 8] = [
        Bar::Status,
        Bar::Cookie,
        Bar::NoStore,
        Bar::Private,
        Bar::Vary,
        Bar::Stream,
        Bar::Authorization,
        Bar::Large,
    ];

    /// The word for logs and `Cache-Status`.
    pub fn word(self) -> &'static str {
        match self {
            Bar::Status => "status",
            Bar::Cookie => "set-cookie",
            Bar::NoStore => "no-store",
            Bar::Private => "private",
            Bar::Vary => "vary",
            Bar::Stream => "event-stream",
            Bar::Authorization => "authorization",
            Bar::Large => "large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    static ID: HeaderName = HeaderName::from_static("x-request-id");
    static SCOPED: Keyed<'static> = Keyed {
        everyone: false,
        shown: true,
        authorization: true,
        token_proves_it: false,
        credentials: &[],
        request_id: &ID,
    };
    static ANONYMOUS: Keyed<'static> = Keyed { shown: false, authorization: false, ..SCOPED };
    static EVERYONE: Keyed<'static> = Keyed { everyone: true, authorization: false, ..SCOPED };

    fn of(keyed: &Keyed<'_>, headers: &[(&'static str, &'static str)]) -> Option<Bar> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        bar(StatusCode::OK, &map, keyed)
    }

    #[test]
    fn only_a_plain_200_is_shared() {
        for status in [201, 203, 204, 206, 301, 302, 304, 400, 401, 404, 410, 500, 502, 503] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(bar(status, &HeaderMap::new(), &SCOPED), Some(Bar::Status));
        }
        assert_eq!(of(&SCOPED, &[("content-range", "bytes 0-1/2")]), Some(Bar::Status));
        assert_eq!(of(&SCOPED, &[("etag", "\"a\"")]), None);
    }

    #[test]
    fn cookies_and_what_the_backend_wants_unstored_are_for_one() {
        for keyed in [SCOPED, ANONYMOUS, EVERYONE] {
            for name in ["set-cookie", "set-cookie2", "authentication-info", "www-authenticate"] {
                assert_eq!(of(&keyed, &[(name, "a=1")]), Some(Bar::Cookie), "{name}");
            }
            assert_eq!(of(&keyed, &[("cache-control", "max-age=5, No-Store")]), Some(Bar::NoStore));
        }
    }

    #[test]
    fn private_is_for_callers_who_have_shown_who_they_are() {
        let private = [("cache-control", "private, max-age=5")];
        assert_eq!(of(&SCOPED, &private), None);
        assert_eq!(of(&ANONYMOUS, &private), Some(Bar::Private));
        assert_eq!(of(&EVERYONE, &private), Some(Bar::Private));
        assert_eq!(of(&ANONYMOUS, &[("cache-control", "private=\"x\"")]), Some(Bar::Private));
    }

    #[test]
    fn an_answer_that_varies_by_something_outside_the_key_is_for_one() {
        for keyed in [SCOPED, ANONYMOUS, EVERYONE] {
            assert_eq!(of(&keyed, &[("vary", "*")]), Some(Bar::Vary));
            assert_eq!(of(&keyed, &[("vary", "accept"), ("vary", "x, *")]), Some(Bar::Vary));
            assert_eq!(of(&keyed, &[("vary", "a b")]), Some(Bar::Vary));
            assert_eq!(of(&keyed, &[("vary", "Traceparent")]), Some(Bar::Vary));
            assert_eq!(of(&keyed, &[("vary", "X-Request-ID")]), Some(Bar::Vary));
            assert_eq!(of(&keyed, &[("vary", "Accept-Encoding, Origin")]), None);
        }
        assert_eq!(of(&SCOPED, &[("vary", "Cookie, Authorization")]), None);
        assert_eq!(of(&EVERYONE, &[("vary", "Cookie")]), Some(Bar::Vary));
        let token = Keyed { token_proves_it: true, ..SCOPED };
        assert_eq!(of(&token, &[("vary", "Authorization")]), Some(Bar::Vary));
        assert_eq!(of(&token, &[("vary", "Cookie")]), None);
    }

    #[test]
    fn what_answers_a_token_is_for_everyone_only_where_nothing_says_otherwise() {
        let asked = Keyed { authorization: true, ..EVERYONE };
        assert_eq!(of(&asked, &[]), None, "the operator's word counts where the backend is silent");
        for says in ["max-age=60", "no-cache"] {
            assert_eq!(of(&asked, &[("cache-control", says)]), Some(Bar::Authorization), "{says}");
        }
        assert_eq!(of(&asked, &[("expires", "0")]), Some(Bar::Authorization));
        for says in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"] {
            assert_eq!(of(&asked, &[("cache-control", says)]), None, "{says}");
        }
        assert_eq!(of(&SCOPED, &[("cache-control", "max-age=60")]), None);
    }

    #[test]
    fn streams_of_events_are_for_one() {
        assert_eq!(of(&SCOPED, &[("content-type", "Text/Event-Stream; charset=utf-8")]), Some(Bar::Stream));
        assert_eq!(of(&SCOPED, &[("content-type", "text/event-streams")]), None);
    }
}
