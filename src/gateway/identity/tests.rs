use super::*;
use crate::config::{JwtConfig, JwtKeys, Secret};
use http::{HeaderName, HeaderValue};
use std::time::UNIX_EPOCH;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
    }
    headers
}

fn clients(scope_by: &[Identity], identify_by: &[Identity]) -> Clients {
    Clients {
        trusted_proxies: Vec::new(),
        identify_by: identify_by.to_vec(),
        scope_by: scope_by.to_vec(),
        umbrella: 50,
        limit_memory: 1 << 20,
        held_max: 2000,
        held_per_client: 16,
        poll_storm: None,
        jwt: None,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn scope(clients: &Clients, lines: &[(&'static str, &str)]) -> ScopeId {
    let key = FingerprintKey::new(b"secret");
    shown(clients, None, &headers(lines), None).scope(&key, None, address("192.0.2.1"))
}

fn trusted() -> Vec<IpNet> {
    vec!["10.0.0.0/8".parse().expect("a network"), "2001:db8:ff::/48".parse().expect("a network")]
}

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_says() {
    let said = headers(&[("x-forwarded-for", "1.1.1.1")]);
    assert_eq!(client_address(address("203.0.113.9"), &said, &trusted()), address("203.0.113.9"));
}

#[test]
fn the_rightmost_untrusted_hop_is_the_client() {
    let cases = [
        ("6.6.6.6, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7:4711, 10.0.0.2", "198.51.100.7"),
        ("[2001:db8::5]:80, 10.0.0.2", "2001:db8::5"),
        ("\"[2001:db8::5%eth0]\", 2001:db8:ff::1", "2001:db8::5"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ("198.51.100.7, nonsense, 10.0.0.2", "10.0.0.2"),
    ];
    for (list, client) in cases {
        let said = headers(&[("x-forwarded-for", list)]);
        assert_eq!(client_address(address("10.0.0.1"), &said, &trusted()), address(client), "{list}");
    }
    let said = headers(&[("forwarded", "for=6.6.6.6, for=\"[2001:db8::5]:80\";proto=http")]);
    assert_eq!(client_address(address("10.0.0.1"), &said, &trusted()), address("2001:db8::5"));
}

#[test]
fn what_is_quoted_in_forwarded_is_no_hop_and_no_parameter() {
    let cases = [
        (r#"for=198.51.100.7;host="x,for=7.7.7.7""#, "198.51.100.7"),
        (r#"by="a;for=7.7.7.7";for=198.51.100.7"#, "198.51.100.7"),
        (r#"for=198.51.100.7;by="a;for=7.7.7.7""#, "198.51.100.7"),
        (r#"for=198.51.100.7;host="x\",for=7.7.7.7""#, "198.51.100.7"),
        (r#"for=198.51.100.7;host="x\\", for=10.0.0.2"#, "198.51.100.7"),
        (r#"for=6.6.6.6;host="a, b", for="198.51.100.7:80";proto=http, FOR=10.0.0.2"#, "198.51.100.7"),
        // What a client left open hides nothing of what the proxy wrote behind it.
        (r#"for="6.6.6.6, for=198.51.100.7"#, "198.51.100.7"),
        (r#"host="x, for="198.51.100.7";by=a"#, "198.51.100.7"),
        (r#"for=6.6.6.6, host="for=7.7.7.7""#, "10.0.0.1"),
    ];
    for (list, client) in cases {
        let said = headers(&[("forwarded", list)]);
        assert_eq!(client_address(address("10.0.0.1"), &said, &trusted()), address(client), "{list}");
    }
}

#[test]
fn a_long_forged_list_cannot_push_the_real_hop_out() {
    let forged = vec!["6.6.6.6"; 500].join(", ");
    let said = headers(&[("x-forwarded-for", &forged), ("x-forwarded-for", "198.51.100.7")]);
    assert_eq!(client_address(address("10.0.0.1"), &said, &trusted()), address("198.51.100.7"));
}

#[test]
fn every_credential_keeps_callers_apart() {
    let any = clients(&[], &[Identity::Ip]);
    let mut scopes = vec![
        scope(&any, &[]),
        scope(&any, &[("authorization", "Bearer a")]),
        scope(&any, &[("authorization", "Bearer b")]),
        scope(&any, &[("x-api-key", "a")]),
        scope(&any, &[("cookie", "session=a")]),
        scope(&any, &[("cookie", "session=b")]),
        scope(&any, &[("cookie", "session=b; x=1")]),
        scope(&any, &[("cookie", "session=b"), ("authorization", "Bearer a")]),
    ];
    let count = scopes.len();
    scopes.sort_unstable();
    scopes.dedup();
    assert_eq!(scopes.len(), count);
    assert_eq!(
        scope(&any, &[("cookie", "a=1; b=2")]),
        scope(&any, &[("cookie", "b=2;a=1")]),
        "order means nothing"
    );
}

#[test]
fn the_first_of_scope_by_that_is_present_counts_alone() {
    let both = clients(
        &[Identity::Header(HeaderName::from_static("x-api-key")), Identity::Cookie("session".into())],
        &[],
    );
    let with_key = scope(&both, &[("x-api-key", "k"), ("cookie", "session=a")]);
    assert_eq!(with_key, scope(&both, &[("x-api-key", "k"), ("cookie", "session=b")]));
    let by_cookie = scope(&both, &[("cookie", "session=a; theme=dark")]);
    assert_eq!(
        by_cookie,
        scope(&both, &[("cookie", "session=a; theme=light"), ("authorization", "Bearer x")])
    );
    assert_ne!(by_cookie, scope(&both, &[("cookie", "session=b")]));
}

#[test]
fn callers_who_showed_nothing_are_scoped_by_a_long_key_or_their_address() {
    let key = FingerprintKey::new(b"secret");
    let nobody = shown(&clients(&[], &[]), None, &HeaderMap::new(), None);
    let at = |named: Option<&[u8]>, ip| nobody.scope(&key, named, address(ip));
    let english = shown(&clients(&[], &[]), None, &headers(&[("cookie", "lang=en")]), None);
    assert_ne!(at(None, "192.0.2.1"), at(None, "192.0.2.2"));
    assert_ne!(at(Some(b"short"), "192.0.2.1"), at(Some(b"short"), "192.0.2.2"));
    let long: &[u8] = b"8e03978e-40d5-43dd-bc93-6894a57f9324";
    assert_eq!(
        at(Some(long), "192.0.2.1"),
        at(Some(long), "192.0.2.2"),
        "an address may change in mid-retry"
    );
    let in_english = |named: Option<&[u8]>, ip| english.scope(&key, named, address(ip));
    assert_eq!(
        in_english(Some(long), "192.0.2.1"),
        in_english(Some(long), "192.0.2.2"),
        "whatever everybody shows"
    );
    assert_ne!(in_english(Some(b"short"), "192.0.2.1"), in_english(Some(b"short"), "192.0.2.2"));
    assert_ne!(
        in_english(Some(long), "192.0.2.1"),
        at(Some(long), "192.0.2.1"),
        "it may be a session after all"
    );
    let session = shown(&clients(&[], &[]), None, &headers(&[("cookie", SESSION)]), None);
    assert_ne!(session.scope(&key, Some(long), address("192.0.2.1")), at(Some(long), "192.0.2.1"));
    let counted = |ip| nobody.counted(&key, address(ip));
    assert_ne!(counted("192.0.2.1"), counted("192.0.2.2"), "the quota is the address's all the same");
}

fn signed(claims: &serde_json::Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("a token");
    format!("Bearer {token}")
}

#[test]
fn a_verified_token_stands_for_its_subject_and_an_unverified_one_for_its_bytes() {
    let config = JwtConfig {
        keys: JwtKeys::Secret(Secret::new("good")),
        issuer: Some("clinic".into()),
        audience: None,
    };
    let verifier = Verifier::new(&config).expect("a verifier");
    let by_org = clients(&[], &[Identity::Jwt("org".into())]);
    let key = FingerprintKey::new(b"secret");
    let scope = |who: &Clients, token: &str| {
        let headers = headers(&[("authorization", token), ("cookie", "a=1")]);
        shown(who, Some(&verifier), &headers, None).scope(&key, None, address("192.0.2.1"))
    };
    let claims = |sub: &str, id: u32| serde_json::json!({"iss": "clinic", "sub": sub, "org": "o", "jti": id, "exp": 9_999_999_999_u64});
    let (ann, ann_again, bob) = (
        signed(&claims("ann", 1), "good"),
        signed(&claims("ann", 2), "good"),
        signed(&claims("bob", 1), "good"),
    );
    assert_eq!(scope(&by_org, &ann), scope(&by_org, &ann_again), "a rotated token is the same caller");
    assert_ne!(scope(&by_org, &ann), scope(&by_org, &bob), "colleagues share an organisation, not answers");
    assert_ne!(scope(&by_org, &ann), scope(&by_org, &signed(&claims("ann", 1), "forged")));
    let nameless = |email: &str| {
        let claims =
            serde_json::json!({"iss": "clinic", "org": "o", "email": email, "exp": 9_999_999_999_u64});
        scope(&by_org, &signed(&claims, "good"))
    };
    assert_ne!(nameless("ann"), nameless("bob"), "a token without a subject counts by its bytes");
    let stale = serde_json::json!({"iss": "clinic", "sub": "ann", "org": "o", "exp": 1});
    assert_ne!(
        scope(&by_org, &ann),
        scope(&by_org, &signed(&stale, "good")),
        "an expired token proves nothing"
    );
    let other = serde_json::json!({"iss": "elsewhere", "sub": "ann", "org": "o", "exp": 9_999_999_999_u64});
    assert_ne!(scope(&by_org, &ann), scope(&by_org, &signed(&other, "good")));
    // A service token that many users send with their own sessions: the session counts where it is named.
    let by_session = clients(&[Identity::Cookie("session".into())], &[Identity::Jwt("sub".into())]);
    let session = |cookie: &str| {
        let headers = headers(&[("authorization", &ann), ("cookie", cookie)]);
        shown(&by_session, Some(&verifier), &headers, None).scope(&key, None, address("192.0.2.1"))
    };
    assert_ne!(session("session=a"), session("session=b"));
}

fn renewed(cookies: &str, set: &[&str]) -> Option<Shown> {
    let any = clients(&[], &[]);
    let mut answer = HeaderMap::new();
    for line in set {
        answer.append(header::SET_COOKIE, HeaderValue::from_str(line).expect("a header value"));
    }
    shown(&any, None, &headers(&[("cookie", cookies)]), None)
        .renewed(&answer, UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000))
}

#[test]
fn what_a_browser_shows_after_set_cookie_is_foreseen() {
    let shows = |cookies: &str| Some(shown(&clients(&[], &[]), None, &headers(&[("cookie", cookies)]), None));
    assert_eq!(renewed("session=1; a=2", &["session=9; Path=/; HttpOnly"]), shows("a=2; session=9"));
    assert_eq!(renewed("s=1", &["s=1"]), None, "nothing changes");
    assert_eq!(renewed(SESSION, &["flash=x"]), shows(&format!("flash=x; {SESSION}")));
    assert_eq!(renewed(&format!("{SESSION}; flash=x"), &["flash=; Max-Age=0"]), shows(SESSION));
    let gone = "t=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(renewed(&format!("{SESSION}; t=2"), &[gone]), shows(SESSION));
    let csrf = "csrftoken=00112233445566778899aabbccddeeff";
    assert_eq!(renewed(SESSION, &[&format!("{csrf}; Path=/")]), shows(&format!("{csrf}; {SESSION}")));
    assert_eq!(renewed(SESSION, &[OTHER, "flash=x"]), shows(&format!("flash=x; {OTHER}")));
}

const SESSION: &str = "session=0123456789abcdef0123";
const OTHER: &str = "session=fedcba98765432103210";

#[test]
fn a_login_and_a_logout_renew_nothing() {
    let visitor = "visitor=aaaabbbbccccddddeeeeffff";
    assert_eq!(renewed("lang=en", &[SESSION]), None, "everybody shows a language");
    assert_eq!(renewed("lang=en", &["user=bob"]), None);
    assert_eq!(
        renewed(visitor, &[&format!("{SESSION}; HttpOnly")]),
        None,
        "no page's script reads a session"
    );
    assert_eq!(renewed(&format!("{visitor}; {SESSION}"), &["session=; Max-Age=0"]), None);
    assert_eq!(renewed(&format!("theme=dark; {SESSION}"), &["session=; Max-Age=0"]), None);
    assert_eq!(renewed(SESSION, &["session=; Max-Age=0"]), None, "nothing is left");
    assert_eq!(renewed(&format!("{SESSION}; flash=x"), &["session=gone", "flash=; Max-Age=0"]), None);
}

#[test]
fn cookies_that_prove_nothing_unite_no_addresses() {
    let key = FingerprintKey::new(b"secret");
    let scope = |cookie: &str, ip| {
        shown(&clients(&[], &[]), None, &headers(&[("cookie", cookie)]), None).scope(&key, None, address(ip))
    };
    assert_ne!(scope("lang=en", "192.0.2.1"), scope("lang=en", "192.0.2.2"));
    assert_ne!(scope("lang=en", "192.0.2.1"), scope("lang=de", "192.0.2.1"));
    assert_eq!(scope("lang=en", "192.0.2.1"), scope("lang=en", "192.0.2.1"));
    assert_eq!(scope(SESSION, "192.0.2.1"), scope(SESSION, "192.0.2.2"));
}

#[test]
fn what_is_empty_is_not_shown() {
    let named = [Identity::Header("x-user".parse().expect("a name")), Identity::Cookie("session".into())];
    let clients = clients(&named, &[]);
    for empty in [("x-user", ""), ("x-user", "  "), ("cookie", "session=")] {
        let with = |token| scope(&clients, &[empty, ("authorization", token)]);
        assert_ne!(with("Bearer one"), with("Bearer two"), "{empty:?}");
    }
}

#[test]
fn a_caller_without_cookies_has_no_scope_that_a_cookie_renews() {
    let mut answer = HeaderMap::new();
    answer.append(header::SET_COOKIE, HeaderValue::from_static("session=1"));
    let any = clients(&[], &[]);
    assert_eq!(shown(&any, None, &HeaderMap::new(), None).renewed(&answer, UNIX_EPOCH), None);
    assert_eq!(
        shown(&any, None, &headers(&[("authorization", "Bearer a")]), None).renewed(&answer, UNIX_EPOCH),
        None
    );
    let named = clients(&[Identity::Cookie("session".into())], &[]);
    let before = shown(&named, None, &headers(&[("cookie", "session=0; x=1")]), None);
    let after = shown(&named, None, &headers(&[("cookie", "session=1; x=2")]), None);
    assert_eq!(before.renewed(&answer, UNIX_EPOCH), Some(after));
}

#[test]
fn a_connection_that_changes_hands_changes_its_scope() {
    let (key, last) = (FingerprintKey::new(b"secret"), LastCaller::default());
    let clients = clients(&[], &[]);
    let scopes = |lines: &[(&'static str, &str)], named: Option<&[u8]>, ip| {
        let shown = shown(&clients, None, &headers(lines), None);
        let both = shown.scopes(&last, &key, named, address(ip));
        assert_eq!(both, (shown.scope(&key, named, address(ip)), shown.counted(&key, address(ip))));
        both.0
    };
    let (one, other) = ([("authorization", "Bearer one")], [("authorization", "Bearer other")]);
    let first = scopes(&one, None, "192.0.2.1");
    assert_eq!(first, scopes(&one, None, "192.0.2.1"));
    assert_ne!(first, scopes(&other, None, "192.0.2.1"));
    assert_eq!(first, scopes(&one, None, "192.0.2.2"), "an address counts only where nothing is shown");
    let nobody = scopes(&[], None, "192.0.2.1");
    assert_ne!(nobody, scopes(&[], None, "192.0.2.2"));
    assert_ne!(nobody, scopes(&[], Some(b"8e03978e-40d5-43dd-bc93-6894a57f9324"), "192.0.2.1"));
    assert_eq!(nobody, scopes(&[], None, "192.0.2.1"));
}
