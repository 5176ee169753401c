use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn router(patterns: &[&str]) -> Router {
    Router::new(patterns.iter().enumerate().map(|(index, text)| (pattern(text), index)).collect())
}

#[test]
fn first_match_wins() {
    let router = router(&["POST /api/bookings", "GET /api/{kind}/{id}", "* /api/**", "* /**"]);
    let route =
        |method: &str, path: &str| router.route(&Method::from_bytes(method.as_bytes()).expect("ok"), path);
    assert_eq!(route("POST", "/api/bookings"), Some(0));
    assert_eq!(route("GET", "/api/bookings/7"), Some(1));
    assert_eq!(route("PROPFIND", "/api/bookings/7"), Some(2));
    assert_eq!(route("GET", "/api"), Some(2), "** matches none, too");
    assert_eq!(route("POST", "/api/bookings-old"), Some(2), "a segment matches as a whole");
    assert_eq!(route("POST", "/apiary"), Some(3), "so does the one before `**`");
    assert_eq!(route("GET", "/"), Some(3));
    assert_eq!(route("OPTIONS", "*"), Some(3));
}

#[test]
fn nothing_matches_what_no_pattern_names() {
    let router = router(&["POST /api/bookings", "GET /", "MKCALENDAR /dav/{user}/x"]);
    assert_eq!(router.route(&Method::POST, "/api"), None);
    assert_eq!(router.route(&Method::POST, "/api/bookings/7"), None);
    assert_eq!(router.route(&Method::POST, "/API/bookings"), None);
    assert_eq!(router.route(&Method::GET, "/x"), None);
    assert_eq!(router.route(&Method::GET, "*"), None);
    let calendar = Method::from_bytes(b"MKCALENDAR").expect("a token");
    assert_eq!(router.route(&calendar, "/dav/ann/x"), Some(2));
    assert_eq!(router.route(&calendar, "/dav//x"), None, "a named segment is never empty");
    assert_eq!(router.route(&calendar, "/dav/ann/y"), None);
    assert_eq!(router.route(&calendar, "/dav/ann/xy"), None);
    assert_eq!(router.route(&calendar, "/dav/ann/x/y"), None);
}

#[test]
fn closing_slash_never_leads_past_a_route() {
    let router = router(&["POST /api/bookings", "PUT /api/bookings/{id}/", "* /**"]);
    assert_eq!(router.route(&Method::POST, "/api/bookings/"), Some(0));
    assert_eq!(router.route(&Method::PUT, "/api/bookings/7/"), Some(1));
    assert_eq!(router.route(&Method::PUT, "/api/bookings/7"), Some(1));
}

#[test]
fn head_takes_the_route_of_get() {
    let router = router(&["GET /start", "* /**"]);
    let found = router.find(&Method::HEAD, "/start");
    assert_eq!(found, Some(Match { route: 0, method_named: true, pattern: 0 }));
    let other = router.find(&Method::OPTIONS, "/start");
    assert_eq!(other, Some(Match { route: 1, method_named: false, pattern: 1 }));
}

#[test]
fn literals_are_compared_in_their_normal_form() {
    assert_eq!(pattern("GET /%7euser/a%20b/é").to_string(), "GET /~user/a%20b/%C3%A9");
    assert_eq!(pattern("GET /caf%c3%a9").to_string(), "GET /caf%C3%A9");
    assert_eq!(pattern("GET /a:b@c;d=1").to_string(), "GET /a:b@c;d=1");
    assert_eq!(
        pattern("GET /a%3Ab").to_string(),
        "GET /a%3Ab",
        "an encoded reserved character stays encoded"
    );
    assert!(router(&["GET /%7Euser"]).route(&Method::GET, "/~user").is_some());
}

#[test]
fn named_segments_are_found_again() {
    let router = router(&["GET /api/b", "PUT /api/{clinic}/slots/{slot}/**", "* /{all}"]);
    let named = |method: Method, path: &'static str| {
        let found = router.find(&method, path).expect("a match");
        router
            .named(found.pattern, path)
            .iter()
            .map(|(name, text)| format!("{name}={text}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(named(Method::PUT, "/api/c%20d/slots/7/x/y"), ["clinic=c%20d", "slot=7"]);
    assert_eq!(named(Method::GET, "/api/b/"), [""; 0]);
    assert_eq!(named(Method::GET, "/x/"), ["all=x"]);
}

#[test]
fn patterns_survive_their_display() {
    for text in ["POST /api/bookings", "* /**", "GET /", "DELETE /api/{id}/x/**", "MKCALENDAR /dav/{user}"] {
        assert_eq!(pattern(text).to_string(), text);
        assert_eq!(pattern(&pattern(text).to_string()), pattern(text));
    }
}

#[test]
fn bad_patterns_say_what_to_write() {
    let wrong = |text: &str| Pattern::parse(text).expect_err(text);
    for (text, says) in [
        ("/api", "a method and a path"),
        ("GET POST /api", "a method and a path"),
        ("GET api", "\"/api\""),
        ("post /api", "capitals: POST"),
        ("G@T /api", "not a method"),
        ("GET /a//b", "empty segment"),
        ("GET /a/../b", "never match"),
        ("GET /a/*", "{name} for one segment"),
        ("GET /a/**/b", "nothing can follow"),
        ("GET /a/{id}.json", "named as a whole"),
        ("GET /a/{}", "segment's name"),
        ("GET /{id}/{id}", "same name"),
        ("GET /a?x=1", "without query"),
        ("GET /a%2Fb", "different ways"),
        ("GET /a\\b", "different ways"),
        ("GET /a/%2E", "can never match"),
        ("GET /%2E%2e/b", "above its root"),
        ("GET /a%zz", "hexadecimal"),
        ("GET /a%c", "hexadecimal"),
        ("GET /a%é", "hexadecimal"),
    ] {
        assert!(wrong(text).contains(says), "{text}: {}", wrong(text));
    }
}

#[test]
fn pattern_covers_exactly_what_it_hides() {
    let covers = |a: &str, b: &str| pattern(a).covers(&pattern(b));
    assert!(covers("* /**", "POST /api"));
    assert!(covers("GET /a/**", "GET /a"));
    assert!(covers("GET /a/**", "HEAD /a/{id}/**"));
    assert!(covers("GET /a/{x}", "GET /a/b"));
    assert!(covers("GET /a", "GET /a/"));
    assert!(!covers("GET /a/b", "GET /a/{x}"));
    assert!(!covers("GET /a/{x}", "GET /a/{x}/**"));
    assert!(!covers("GET /a/{x}", "GET /a/**"));
    assert!(!covers("GET /a/**", "* /a"));
    assert!(!covers("HEAD /a", "GET /a"));
    assert!(!covers("GET /a/b/**", "GET /a"));
}

/// The route that a path takes by its own spelling, and the one that an equal spelling takes before.
fn found(router: &Router, path: &str) -> (Option<usize>, Option<usize>) {
    let found = router.find(&Method::POST, path);
    let loose = router.find_loosely(&Method::POST, path, found);
    (found.map(|found| found.route), loose.map(|found| found.route))
}

#[test]
fn a_path_that_a_backend_may_take_for_another_finds_that_one_too() {
    let patterns = [
        "POST /app/book",
        "POST /users/@me/{id}",
        "POST /v1/bookings:create",
        "POST /x%3Ay",
        "POST /a;v=1/**",
        "GET /app/get",
        "* /**",
    ];
    let router = router(&patterns);
    for (path, loose) in [
        ("/app/book;jsessionid=ABC", 0),
        ("/app;a=1/book;b/", 0),
        ("/;a/app/;b/book", 0),
        ("/app/book/;x", 0),
        ("/users/%40me/7", 1),
        ("/users/%40me;x/7", 1),
        ("/users/@me;x/7;y", 1),
        ("/v1/bookings%3Acreate", 2),
        ("/v1/bookings%3Acreate;x", 2),
        ("/x:y", 3),
        ("/a%3Bv=1/b", 4),
        ("/a%3Bv%3D1/b", 4),
    ] {
        assert_eq!(found(&router, path), (Some(6), Some(loose)), "{path}");
    }
    for path in [
        "/app/book%3Bx",
        "/app/boo;k",
        "/app/book;x/y",
        "/app/bo%20ok",
        "/users/%40%40me/7",
        "/users/%40me",
        "/users/%40me/;x",
        "/app/get;x",
        "/a;v=2/b",
        "/a/b",
        "/app;/book%2",
        "/y;x",
        "/",
    ] {
        assert_eq!(found(&router, path), (Some(6), None), "{path}");
    }
    assert_eq!(found(&router, "/app/book"), (Some(0), None));
    assert_eq!(found(&router, "/x%3Ay"), (Some(3), None));
    assert_eq!(found(&router, "/a;v=1/b;x"), (Some(4), None));
    assert_eq!(found(&router, "*"), (Some(6), None));
    let named = |path: &'static str| router.named(1, path);
    assert_eq!(named("/users/%40me/7"), [("id", "7")]);
    assert_eq!(named("/;x/users/@me;y/7;z/"), [("id", "7;z")]);
    assert_eq!(named("/users/@me/7;z"), [("id", "7;z")], "as ever");
}

#[test]
fn what_a_pattern_names_in_full_is_its_own_wherever_that_stands() {
    let router =
        router(&["POST /app/book", "POST /a/b/{id}", "POST /app/book;v=2", "POST /a;x/{b}/{id}", "* /**"]);
    assert_eq!(found(&router, "/app/book;v=2"), (Some(2), None));
    assert_eq!(found(&router, "/app;v=2/book;v=2"), (Some(4), Some(0)));
    assert_eq!(found(&router, "/a;x/b/7"), (Some(3), None));
    assert_eq!(found(&router, "/a;x/b;x/7"), (Some(3), Some(1)), "the second segment is anybody's");
}
