use super::*;
use crate::domain::client::counted_address;
use http::HeaderValue;
use proptest::prelude::*;
use std::collections::HashMap;

const ID: HeaderName = HeaderName::from_static("x-request-id");
static CLIENT: HeaderName = HeaderName::from_static("x-client");

/// A request as a list of everything that tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Told {
    scope: u8,
    address: u8,
    token: bool,
    everyone: bool,
    route: String,
    https: bool,
    head: bool,
    target: String,
    spelling: Option<String>,
    headers: Vec<(String, String)>,
}

fn read_key(told: &Told) -> ReadKey {
    let mut headers = HeaderMap::new();
    for (name, value) in &told.headers {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        );
    }
    let uri: Uri = told.target.parse().expect("a target");
    let reader = if told.everyone {
        Reader::Everyone
    } else {
        let address = counted_address(IpAddr::from([192, 0, 2, told.address]));
        Reader::Scope { scope: ScopeId([told.scope; 16]), address, token_proves_it: told.token }
    };
    FingerprintKey::new(b"secret").read_key(&Asked {
        reader,
        route: &told.route,
        scheme: if told.https { "https" } else { "http" },
        uri: &uri,
        spelling: told.spelling.as_deref(),
        method: if told.head { &Method::HEAD } else { &Method::GET },
        headers: &headers,
        counted: Counted::All,
        credentials: &[],
        request_id: &ID,
    })
}

fn told() -> Told {
    let headers = [("host", "a.example"), ("accept", "text/html"), ("cookie", "s=1")];
    Told {
        scope: 1,
        address: 1,
        token: false,
        everyone: false,
        route: "page".into(),
        https: false,
        head: false,
        target: "/a?b=1".into(),
        spelling: None,
        headers: headers.map(|(name, value)| (name.into(), value.into())).into(),
    }
}

fn with(name: &str, value: &str) -> Told {
    let mut told = told();
    told.headers.push((name.into(), value.into()));
    told
}

#[test]
fn whatever_may_matter_makes_another_read() {
    let plain = told();
    let mut others = vec![
        Told { scope: 2, ..plain.clone() },
        Told { address: 2, ..plain.clone() },
        Told { token: true, ..plain.clone() },
        Told { everyone: true, ..plain.clone() },
        Told { route: "other".into(), ..plain.clone() },
        Told { https: true, ..plain.clone() },
        Told { head: true, ..plain.clone() },
        Told { target: "/a?b=2".into(), ..plain.clone() },
        Told { target: "/a/?b=1".into(), ..plain.clone() },
        Told { spelling: Some("/x/../a?b=1".into()), ..plain.clone() },
    ];
    for (name, value) in [
        ("authorization", "Bearer 1"),
        ("x-api-key", "k"),
        ("accept-language", "de"),
        ("accept-encoding", "gzip"),
        ("user-agent", "x"),
        ("origin", "https://a"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-http-method-override", "DELETE"),
        ("x-tenant", "2"),
        ("prefer", "minimal"),
        ("cookie", "s=2"),
        ("accept", "text/html"),
    ] {
        others.push(with(name, value));
    }
    others.push(plain);
    let keys: std::collections::HashSet<_> = others.iter().map(read_key).collect();
    assert_eq!(keys.len(), others.len());
}

#[test]
fn noise_makes_no_other_read() {
    for (name, value) in [
        ("x-request-id", "77"),
        ("traceparent", "00-1-2-01"),
        ("tracestate", "a=1"),
        ("priority", "u=1"),
        ("if-none-match", "\"e\""),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("via", "1.1 a"),
    ] {
        assert_eq!(read_key(&with(name, value)), read_key(&told()), "{name}");
    }
}

#[test]
fn a_renewed_token_is_the_same_reader_only_where_it_proves_the_scope() {
    let read = |token: bool, value: &str| read_key(&Told { token, ..with("authorization", value) });
    assert_eq!(read(true, "Bearer 1"), read(true, "Bearer 2"));
    assert_ne!(read(false, "Bearer 1"), read(false, "Bearer 2"));
    // Its cookies still count: the token proves who asks, not what the cookies say.
    let cookie = |value: &str| read_key(&Told { token: true, ..with("cookie", value) });
    assert_ne!(cookie("a=1"), cookie("a=2"));
}

#[test]
fn everyone_shares_without_credentials_and_nothing_else_is_left_out() {
    let read = |name: &str, value: &str| read_key(&Told { everyone: true, ..with(name, value) });
    for name in ["authorization", "cookie", "x-api-key", "x-forwarded-for"] {
        assert_eq!(read(name, "1"), read(name, "2"), "{name}");
    }
    for name in ["x-forwarded-host", "x-forwarded-proto", "accept-language", "x-user"] {
        assert_ne!(read(name, "1"), read(name, "2"), "{name}");
    }
}

#[test]
fn where_a_request_was_sent_to_counts_in_forwarded_and_who_sent_it_does_not() {
    let read = |value: &str| read_key(&Told { everyone: true, ..with("forwarded", value) });
    let plain = read_key(&Told { everyone: true, ..told() });
    for who in [
        "for=192.0.2.1",
        "For=\"[2001:db8::1]:80\";BY=_x",
        "for=a, for=b;by=c",
        "for=\"a, host=x; \\\"host=y\"",
        " ; ",
    ] {
        assert_eq!(read(who), plain, "{who}");
    }
    let hosts = ["host=a", "host=b", "for=a;host=c", "for=a, proto=https", "host=\"a\""];
    let broken = ["a", "for", "for=\"a", "for=a;host=\"b", "for=b;host=\"b", "for=a;x"];
    let all: Vec<_> = [plain].into_iter().chain(hosts.into_iter().chain(broken).map(read)).collect();
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(read("for=a;host=c"), read("For=b; host=c"));
}

#[test]
fn a_backend_that_names_what_it_varies_by_is_believed_but_never_about_who_asks() {
    let accept = HeaderName::from_static("accept");
    let read = |varied: &[HeaderName], name: &'static str, value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a"));
        headers.insert(name, HeaderValue::from_static(value));
        let reader = Reader::Scope {
            scope: ScopeId([1; 16]),
            address: IpAddr::from([192, 0, 2, 1]),
            token_proves_it: false,
        };
        FingerprintKey::new(b"secret").read_key(&Asked {
            reader,
            route: "r",
            scheme: "http",
            uri: &Uri::from_static("/a"),
            spelling: None,
            method: &Method::GET,
            headers: &headers,
            counted: Counted::Varied(varied),
            credentials: std::slice::from_ref(&CLIENT),
            request_id: &ID,
        })
    };
    assert_eq!(read(&[], "accept", "1"), read(&[], "accept", "2"));
    assert_ne!(
        read(std::slice::from_ref(&accept), "accept", "1"),
        read(std::slice::from_ref(&accept), "accept", "2")
    );
    assert_ne!(
        read(&[], "x-a", "1"),
        read(std::slice::from_ref(&accept), "x-a", "1"),
        "absent is a value too"
    );
    for name in [
        "host",
        "authorization",
        "cookie",
        "x-api-key",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-client",
        "forwarded",
    ] {
        assert_ne!(read(&[], name, "host=1"), read(&[], name, "host=2"), "{name}");
    }
}

#[test]
fn what_changes_something_or_asks_for_a_part_never_shares() {
    let shareable = |method: Method, header: Option<&str>, body: bool| {
        let mut request = http::Request::new(());
        *request.method_mut() = method;
        if let Some(name) = header {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            request.headers_mut().insert(name, HeaderValue::from_static("x"));
        }
        is_shareable(&request.into_parts().0, body)
    };
    assert!(shareable(Method::GET, None, false) && shareable(Method::HEAD, Some("accept"), false));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
        assert!(!shareable(method, None, false));
    }
    assert!(!shareable(Method::GET, None, true), "a body may matter");
    for name in ["range", "if-range", "if-match", "if-unmodified-since", "expect", "x-http-method-override"] {
        assert!(!shareable(Method::GET, Some(name), false), "{name}");
    }
}

/// Texts that try to look like the end of one field and the beginning of the next.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", ":", ", ", "0", "ab"]), 0..4)
        .prop_map(|pieces| pieces.concat())
}

fn any_told() -> impl Strategy<Value = Told> {
    let name =
        prop::sample::select(vec!["a", "b", "ab", "host", "authorization", "cookie", "x-forwarded-for"]);
    let headers = prop::collection::vec((name.prop_map(str::to_owned), text()), 0..4);
    let target = prop::sample::select(vec!["/", "/a", "/a?b", "/a?b=a", "/ab"]).prop_map(str::to_owned);
    (0..3u8, 0..3u8, any::<bool>(), text(), any::<bool>(), any::<bool>(), target, headers).prop_map(
        |(scope, address, token, route, https, head, target, headers)| Told {
            scope,
            address,
            token,
            everyone: false,
            route,
            https,
            head,
            target,
            spelling: None,
            headers: grouped(headers),
        },
    )
}

/// Lines of one name belong together; among each other, and among names, their order is what came.
fn grouped(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut names: Vec<String> = Vec::new();
    headers.iter().for_each(|(name, _)| {
        if !names.contains(name) {
            names.push(name.clone());
        }
    });
    let lines =
        |wanted: &String| headers.iter().filter(|(name, _)| name == wanted).cloned().collect::<Vec<_>>();
    names.iter().flat_map(lines).collect()
}

/// What of it counts.
fn counted(told: &Told) -> Told {
    let mut told = told.clone();
    told.headers.retain(|(name, _)| !(told.token && name == "authorization"));
    told
}

proptest! {
    #[test]
    fn two_reads_share_a_key_exactly_where_nothing_that_counts_differs(all in prop::collection::vec(any_told(), 2..40)) {
        let mut seen: HashMap<ReadKey, Told> = HashMap::new();
        for told in &all {
            let known = seen.entry(read_key(told)).or_insert_with(|| counted(told));
            prop_assert_eq!(known, &counted(told));
        }
        let distinct: std::collections::HashSet<_> = all.iter().map(counted).collect();
        prop_assert_eq!(seen.len(), distinct.len());
    }
}
