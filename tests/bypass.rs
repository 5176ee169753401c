//! No spelling of a request bypasses a guarded route, and the backend sees the spelling that its upstream says.

use crate::harness::{Call, Config, RawBackend, Stand, ok};

fn first_line(raw: &RawBackend) -> String {
    raw.next().lines().next().unwrap_or_default().to_owned()
}

/// Sends twice; how many of the two have reached the backend.
fn executions(stand: &Stand, raw: &RawBackend, call: &Call) -> usize {
    let replies = [stand.send(call), stand.send(call)];
    assert!(replies.iter().all(|reply| reply.status == 200), "{}", replies[0].text());
    raw.waiting()
}

#[test]
fn a_slash_at_the_end_and_other_spellings_are_the_same_guarded_route() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let paths =
        ["/api/x", "/api/y/", "/api//z", "/api/./v", "/q/../api/w", "/%61pi/u", "/api/t?", "//api/s", "/api"];
    for path in paths {
        assert_eq!(executions(&stand, &raw, &Call::post(path, "{}")), 1, "{path}");
    }
    for (method, path) in [("PUT", "/api/1/"), ("DELETE", "/api/2/"), ("GET", "/assessments/new/")] {
        assert_eq!(executions(&stand, &raw, &Call::new(method, path)), 1, "{method} {path}");
    }
    // HEAD of a guarded GET creates what the GET would create.
    assert_eq!(executions(&stand, &raw, &Call::new("HEAD", "/assessments/new?of=1")), 1);
    // What is not guarded is not.
    assert_eq!(executions(&stand, &raw, &Call::post("/apix", "{}")), 2);
}

#[test]
fn a_method_in_a_header_or_a_query_does_not_bypass_the_guard_of_that_method() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    // PATCH and GET are not guarded below /api; PUT, POST and DELETE are.
    for (number, name) in
        ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-override"]
            .iter()
            .enumerate()
    {
        for (method, asked) in [("PATCH", "DELETE"), ("GET", "POST"), ("PATCH", "put"), ("PATCH", " Delete ")]
        {
            let call =
                Call::new(method, &format!("/api/{number}/{asked}").replace(' ', "-")).header(name, asked);
            assert_eq!(executions(&stand, &raw, &call), 1, "{method} with {name}: {asked}");
        }
        let call = Call::new("PATCH", "/api/x").header(name, "PATCH");
        assert_eq!(executions(&stand, &raw, &call), 2, "it asks for what it is");
    }
    assert_eq!(executions(&stand, &raw, &Call::new("PATCH", "/api/x?a=b&_method=DELETE")), 1);
    assert_eq!(executions(&stand, &raw, &Call::new("PATCH", "/api/x?a=b&x_method=DELETE")), 2);
    let original = Stand::with(Config {
        backend: Some(raw.address),
        upstream: "target = \"original\"",
        ..Config::default()
    });
    for (number, query) in
        ["%5Fmethod=DELETE", "_method=%44ELETE", "q=100%&%5fmethod=delete"].iter().enumerate()
    {
        for stand in [&stand, &original] {
            let call = Call::new("PATCH", &format!("/api/{number}?{query}"));
            assert_eq!(executions(stand, &raw, &call), 1, "{query}");
        }
    }
    // Elsewhere nothing is guarded, whatever it asks for.
    let call = Call::new("POST", "/other").header("X-HTTP-Method-Override", "DELETE");
    assert_eq!(executions(&stand, &raw, &call), 2);
}

#[test]
fn what_a_backend_may_take_for_a_guarded_path_is_guarded() {
    let raw = RawBackend::start(ok);
    let routes = r#"
[[route]]
name = "health"
match = "POST /api/health"
upstream = "scheduler"
[[route]]
name = "book"
match = ["POST /app/book", "POST /users/@me/bookings", "POST /v1/bookings:create"]
upstream = "scheduler"
[route.idempotency]
[[route]]
name = "named"
match = "POST /app/book;open=1"
upstream = "scheduler"
"#;
    let stand = Stand::with(Config { backend: Some(raw.address), routes, ..Config::default() });
    for path in [
        "/app/book",
        "/app/book;jsessionid=ABC",
        "/app;a/book;b/",
        "/;a/app/book",
        "/users/%40me/bookings",
        "/users/@me/bookings;x",
        "/v1/bookings%3Acreate",
        "/v1/bookings%3acreate;x=1",
    ] {
        let call = Call::post(path, "{}");
        stand.send(&call);
        assert!(raw.next().starts_with(&format!("POST {} ", path.replace("%3a", "%3A"))), "{path}");
        assert!(stand.send(&call).is_replay(), "{path}");
    }
    // A route that is named in full is its own, and what only may be an unguarded path loses no guard by that.
    assert_eq!(executions(&stand, &raw, &Call::post("/app/book;open=1", "{}")), 2);
    assert_eq!(executions(&stand, &raw, &Call::post("/api/health", "{}")), 2);
    assert_eq!(executions(&stand, &raw, &Call::post("/api/health;x", "{}")), 1);
    assert_eq!(executions(&stand, &raw, &Call::post("/app/book%3Bx", "{}")), 2);
}

#[test]
fn names_that_look_like_the_gateways_own_reach_no_backend() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config {
        backend: Some(raw.address),
        clients: "scope_by = [\"header:Tenant-Id\"]",
        ..Config::default()
    });
    for call in [Call::new("GET", "/x"), Call::new("PATCH", "/api/x"), Call::post("/api/x", "{}")] {
        let call = call
            .header("X_Under", "kept")
            .header("X_Forwarded_For", "6.6.6.6")
            .header("x-forwarded_Proto", "gopher")
            .header("X_HTTP_Method_Override", "DELETE")
            .header("X_Request_Id", "mine")
            .header("X_Api_Key", "secret")
            .header("Tenant_Id", "other");
        assert_eq!(stand.send(&call.header("X-Last", "1")).status, 200);
        let seen = raw.next();
        assert!(seen.contains("\r\nX_Under: kept\r\nX-Last: 1\r\n"), "{seen}");
        for said in ["6.6.6.6", "gopher", "DELETE", "mine", "secret", "other"] {
            assert!(!seen.contains(said), "{said} in {seen}");
        }
    }
}

#[test]
fn behind_a_cancellation_that_a_post_asks_for_the_same_booking_is_another_intent() {
    let raw = RawBackend::start(ok);
    let plain = "[[route]]\nname = \"plain\"\nmatch = \"POST /plain\"\nupstream = \"scheduler\"\n[route.idempotency]\nremember_fingerprint = \"60s\"\n";
    let idempotency = "remember_fingerprint = \"60s\"";
    let stand =
        Stand::with(Config { backend: Some(raw.address), routes: plain, idempotency, ..Config::default() });
    // Below /api the POST is guarded by itself, below /plain nothing is.
    for collection in ["/api/bookings", "/plain"] {
        let book = Call::post(collection, "{}");
        for (id, query, header) in [
            (1, "", "X-HTTP-Method-Override"),
            (2, "?_method=DELETE", "X-A"),
            (3, "?%5Fmethod=delete", "X-A"),
        ] {
            assert_eq!(executions(&stand, &raw, &book), 1, "{collection} before {id}");
            let cancel = Call::new("POST", &format!("{collection}/{id}{query}"));
            stand.send(&cancel.header(header, "DELETE"));
            assert_eq!(raw.waiting(), 1, "{collection}/{id}");
        }
        assert_eq!(executions(&stand, &raw, &book), 1, "{collection}");
        stand.send(&Call::new("POST", &format!("{collection}/4")).header("X-HTTP-Method-Override", "POST"));
        assert_eq!(raw.waiting(), 1, "{collection}/4");
        assert_eq!(executions(&stand, &raw, &book), 0, "a POST is a POST");
    }
}

#[test]
fn behind_a_change_that_the_body_of_a_guarded_post_asks_for_the_same_write_is_another_intent() {
    let raw = RawBackend::start(ok);
    let idempotency = "remember_fingerprint = \"60s\"";
    let stand = Stand::with(Config { backend: Some(raw.address), idempotency, ..Config::default() });
    let form = |path: &str, body: &str| {
        Call::new("POST", path).header("Content-Type", "application/x-www-form-urlencoded").body(body)
    };
    let part = "--b\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\ndelete\r\n--b--\r\n";
    let multipart =
        Call::new("POST", "/api/bookings/3").header("Content-Type", "multipart/form-data; boundary=b");
    let book = Call::post("/api/bookings", "{}");
    for (cancel, ends) in [
        (form("/api/bookings/1", "_method=DELETE"), 1),
        (form("/api/bookings/2", "a=b&%5Fmethod=delete"), 1),
        (multipart.body(part), 1),
        (Call::post("/api/bookings/4", r#"{"_method":"DELETE"}"#), 1),
        (form("/api/bookings/5", "x_method=DELETE"), 0),
        (form("/api/bookings/6", "_method=POST"), 0),
    ] {
        let what = String::from_utf8_lossy(&cancel.body).into_owned();
        stand.send(&book);
        raw.take();
        assert_eq!(executions(&stand, &raw, &cancel), 1, "{what}");
        assert_eq!(executions(&stand, &raw, &book), ends, "after {what}");
    }
    for value in ["A", "B", "A"] {
        let put = form("/api/bookings/77", &format!("_method=put&v={value}"));
        assert_eq!(executions(&stand, &raw, &put), 1, "{value}");
    }
}

#[test]
fn the_backend_gets_the_normal_form_or_the_original_spelling() {
    let raw = RawBackend::start(ok);
    let normal = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let original = Stand::with(Config {
        backend: Some(raw.address),
        upstream: "target = \"original\"",
        ..Config::default()
    });
    let cases = [
        ("/a/./b//c", "/a/b/c"),
        ("/%7euser/%c3%a9", "/~user/%C3%A9"),
        ("/x/../y?b=%7e", "/y?b=%7e"),
        ("/plain?x=1", "/plain?x=1"),
    ];
    for (spelled, form) in cases {
        for method in ["GET", "DELETE"] {
            normal.send(&Call::new(method, spelled));
            let seen = first_line(&raw);
            assert!(
                seen.starts_with(&format!("{method} {form} ")) || form.contains('?'),
                "{spelled}: {seen}"
            );
            original.send(&Call::new(method, spelled));
            assert_eq!(first_line(&raw), format!("{method} {spelled} HTTP/1.1"));
        }
    }
    // Matching and fingerprint go by the normal form all the same.
    assert_eq!(original.send(&Call::post("/api//x", "{}")).status, 200);
    assert_eq!(first_line(&raw), "POST /api//x HTTP/1.1");
    assert!(original.send(&Call::post("/api/./x", "{}")).is_replay());
    assert_eq!(raw.waiting(), 0);
    // And what has no normal form is refused before either.
    for spelled in ["/a%2fb", "/a%00", "/../a", "/a%5cb"] {
        for stand in [&normal, &original] {
            assert_eq!(stand.send(&Call::new("GET", spelled)).status, 400, "{spelled}");
        }
    }
    assert_eq!(raw.waiting(), 0);
    // An absolute target loses its authority either way.
    let authority = original.gate.address.to_string();
    original.send(&Call::new("GET", &format!("http://{authority}/a//b")));
    assert_eq!(first_line(&raw), "GET /a//b HTTP/1.1");
}

#[test]
fn behind_a_change_by_webdav_the_same_put_is_another_intent() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let put = Call::new("PUT", "/api/calendar").body("same");
    for method in ["MOVE", "LOCK", "UNLOCK", "PROPPATCH"] {
        assert_eq!(executions(&stand, &raw, &put), 1, "before {method}");
        stand.send(&Call::new(method, "/api/calendar"));
        assert_eq!(raw.waiting(), 1);
    }
}

#[test]
fn behind_the_end_of_a_collection_the_same_put_into_it_is_another_intent() {
    let raw = RawBackend::start(ok);
    let idempotency = "remember_fingerprint = \"60s\"";
    let stand = Stand::with(Config { backend: Some(raw.address), idempotency, ..Config::default() });
    let put = |path: &str| Call::new("PUT", path).body("same");
    // DELETE is guarded below /api and the others are not.
    for (method, header) in [("DELETE", "X-A"), ("MOVE", "Destination"), ("COPY", "X-A")] {
        for path in ["/api/cal/a", "/api/cal/b/c", "/api/calendar"] {
            assert_eq!(
                executions(&stand, &raw, &put(path)),
                usize::from(method == "DELETE" || path != "/api/calendar"),
                "{path} before {method}"
            );
        }
        let source = if method == "COPY" { "/other" } else { "/api/cal/" };
        let call = Call::new(method, source).header(header, "/elsewhere");
        stand.send(&if method == "COPY" { call.header("Destination", "/api/cal") } else { call });
        assert_eq!(raw.waiting(), 1, "{method}");
    }
    assert_eq!(executions(&stand, &raw, &put("/api/cal/a")), 1);
    assert_eq!(executions(&stand, &raw, &put("/api/calendar")), 0, "it only begins alike");
}

#[test]
fn the_end_of_a_collection_outlives_the_gateway() {
    let raw = RawBackend::start(ok);
    let idempotency = "remember_fingerprint = \"60s\"";
    let mut stand = Stand::with(Config { backend: Some(raw.address), idempotency, ..Config::default() });
    let put = |path: &str| Call::new("PUT", path).body("same");
    for path in ["/api/cal/a", "/api/cal/b/c", "/api/calendar"] {
        assert_eq!(executions(&stand, &raw, &put(path)), 1);
    }
    // This life of the gateway knows of no write below what it deletes, and the next one not of the deletion.
    for round in ["deleted by another life", "remembered by another life"] {
        stand.gate.kill();
        stand.start();
        if round.starts_with("deleted") {
            stand.send(&Call::new("DELETE", "/api/cal/"));
            assert_eq!(raw.waiting(), 1);
        }
    }
    assert_eq!(executions(&stand, &raw, &put("/api/cal/a")), 1);
    assert_eq!(executions(&stand, &raw, &put("/api/cal/a")), 0, "what came behind it is kept");
    stand.gate.kill();
    stand.start();
    assert_eq!(executions(&stand, &raw, &put("/api/cal/b/c")), 1);
    assert_eq!(executions(&stand, &raw, &put("/api/calendar")), 0, "it only begins alike");
}

#[test]
fn behind_a_copy_or_a_move_onto_it_the_same_put_is_another_intent() {
    let raw = RawBackend::start(ok);
    let guarded = "\n[[route]]\nname = \"dav\"\nmatch = [\"MOVE /guarded/**\", \"COPY /guarded/**\"]\nupstream = \"scheduler\"\n[route.idempotency]\n";
    let idempotency = "remember_fingerprint = \"60s\"";
    let stand =
        Stand::with(Config { backend: Some(raw.address), routes: guarded, idempotency, ..Config::default() });
    let host = stand.gate.address.to_string();
    let put = |path: &str| Call::new("PUT", path).body("same");
    for method in ["MOVE", "COPY"] {
        for source in ["/plain/a", "/guarded/a"] {
            for destination in ["/api/b", &format!("http://{host}/api/%62")] {
                let what = format!("{method} {source} to {destination}");
                assert_eq!(executions(&stand, &raw, &put("/api/b")), 1, "before {what}");
                let call = Call::new(method, source).header("Destination", destination);
                stand.send(
                    &call.header("Host", &host).header("Idempotency-Key", &what.replace([' ', '/'], "-")),
                );
                assert_eq!(raw.waiting(), 1, "{what}");
            }
        }
    }
    // Another host's resource is none of ours, and a copy leaves its source as it was.
    assert_eq!(executions(&stand, &raw, &put("/api/b")), 1);
    let elsewhere = Call::new("COPY", "/api/b").header("Destination", "http://elsewhere.example/api/b");
    stand.send(&elsewhere);
    assert_eq!(raw.waiting(), 1);
    assert_eq!(executions(&stand, &raw, &put("/api/b")), 0);
}
