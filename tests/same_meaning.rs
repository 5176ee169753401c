//! What counts as the same request, and what must never.

use crate::harness::{
    Backend, Call, Config, RawBackend, Stand, assert_one_answer, assert_problem, at_once, ok,
};

/// Bodies that mean the same, in pairs, each with its Content-Type.
fn pairs() -> Vec<(&'static str, [Call; 2])> {
    let json = |body: &str| Call::post("/api/notes", body);
    let form = |body: &str| {
        Call::new("POST", "/api/notes").header("Content-Type", "application/x-www-form-urlencoded").body(body)
    };
    vec![
        ("shuffled keys", [json(r#"{"a":1,"b":{"c":2,"d":3}}"#), json(r#"{"b":{"d":3,"c":2},"a":1}"#)]),
        ("spacing", [json(r#"{"a":[1,2],"n":1}"#), json(" {\r\n\t\"a\" : [ 1 , 2 ] ,\n \"n\" : 1 } ")]),
        (
            "escapes",
            [json(r#"{"name":"王 芳/é\n"}"#), json(r#"{"n\u0061me":"\u738b \u82b3\/\u00e9\u000a"}"#)],
        ),
        ("surrogates", [json(r#"{"name":"😀"}"#), json(r#"{"name":"\ud83d\ude00"}"#)]),
        ("form order", [form("patient=7&slot=3"), form("slot=3&patient=7")]),
        ("form escapes", [form("name=%E7%8E%8B+x&form=1"), form("form=1&name=%e7%8e%8b%20x")]),
        (
            "boundaries",
            [
                multipart("b1", &[("patient", "8"), ("slot", "4")]),
                multipart("----x9", &[("patient", "8"), ("slot", "4")]),
            ],
        ),
        (
            "part order",
            [
                multipart("b1", &[("patient", "9"), ("slot", "5")]),
                multipart("b2", &[("slot", "5"), ("patient", "9")]),
            ],
        ),
    ]
}

fn multipart(boundary: &str, fields: &[(&str, &str)]) -> Call {
    let part = |(name, value): &(&str, &str)| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = fields.iter().map(part).collect::<String>() + &format!("--{boundary}--\r\n");
    let kind = format!("multipart/form-data; boundary={boundary}");
    Call::new("POST", "/api/notes").header("Content-Type", &kind).body(body)
}

#[test]
fn without_the_gate_every_spelling_is_another_row() {
    let backend = Backend::start();
    for (_, pair) in pairs() {
        at_once(backend.address, &pair);
    }
    assert_eq!(backend.effects().len(), 2 * pairs().len());
}

#[test]
fn one_meaning_in_two_spellings_is_one_effect() {
    let stand = Stand::new();
    for (index, (what, pair)) in pairs().into_iter().enumerate() {
        let replies = at_once(stand.gate.address, &pair);
        assert_eq!(stand.backend.effects().len(), index + 1, "{what}");
        assert_one_answer(&replies);
    }
}

#[test]
fn under_a_key_two_spellings_are_one_effect_too() {
    let stand = Stand::new();
    for (index, (what, pair)) in pairs().into_iter().enumerate() {
        let key = format!("7e91c6d4-a2bb-4a43-9f0e-{index:012}");
        let replies = at_once(stand.gate.address, &pair.map(|call| call.header("Idempotency-Key", &key)));
        assert_eq!(stand.backend.effects().len(), index + 1, "{what}");
        assert_one_answer(&replies);
    }
}

#[test]
fn a_key_as_a_string_and_as_a_bare_token_is_one_key() {
    let stand = Stand::new();
    let call = Call::post("/api/notes", "{}");
    let replies = [r#""0123456789abcdef-string""#, "0123456789abcdef-string"]
        .map(|key| stand.send(&call.clone().header("Idempotency-Key", key)));
    assert_one_answer(&replies);
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn different_meanings_are_two_effects_however_alike_they_look() {
    let stand = Stand::new();
    let pairs = [
        (r#"{"n":9007199254740993}"#, r#"{"n":9007199254740992}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"b":1}"#, r#"{"b":"1"}"#),
        (r#"{"c":[1,2]}"#, r#"{"c":[2,1]}"#),
        (r#"{"d":1.0}"#, r#"{"d":1}"#),
        (r#"{"e":null}"#, "{}"),
        (r#"{"f":"é"}"#, "{\"f\":\"e\u{301}\"}"),
        (r#"{"g":true}"#, r#"{"g":"true"}"#),
    ];
    for (index, (one, other)) in pairs.into_iter().enumerate() {
        let replies =
            at_once(stand.gate.address, &[Call::post("/api/notes", one), Call::post("/api/notes", other)]);
        assert!(replies.iter().all(|reply| reply.status == 201 && !reply.is_replay()), "{one} and {other}");
        assert_ne!(replies[0].body, replies[1].body, "{one} and {other}");
        assert_eq!(stand.backend.effects().len(), 2 * (index + 1), "{one} and {other}");
    }
}

#[test]
fn another_target_or_method_is_another_intent() {
    let stand = Stand::new();
    stand.send(&Call::post("/api/notes?a=1", "{}"));
    stand.send(&Call::post("/api/notes?a=2", "{}"));
    stand.send(&Call::post("/api/bookings", "{}"));
    assert_eq!(stand.backend.effects().len(), 3);
}

#[test]
fn headers_that_say_what_is_written_and_when_are_part_of_the_intent() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    for name in [
        "If-Schedule-Tag-Match",
        "Schedule-Reply",
        "Upload-Concat",
        "Upload-Length",
        "Upload-Metadata",
        "Upload-Offset",
    ] {
        for value in ["1", "2", "1"] {
            stand.send(&Call::post(&format!("/api/{name}"), "{}").header(name, value));
        }
        assert_eq!(raw.waiting(), 2, "{name}");
    }
}

/// Guarded writes as an ingress hands them on that gives every host the same `Host`, each saying another host.
fn behind_an_ingress() -> [[Call; 2]; 2] {
    let call = |name: &str, value: &str| Call::post(&format!("/api/{name}"), "{}").header(name, value);
    [
        ["clinic-a.example", "clinic-b.example"].map(|host| call("X-Forwarded-Host", host)),
        ["for=198.51.100.7;host=clinic-a.example", "for=198.51.100.7;host=clinic-b.example"]
            .map(|element| call("Forwarded", element)),
    ]
}

#[test]
fn behind_a_trusted_proxy_two_hosts_are_two_intents() {
    let raw = RawBackend::start(ok);
    let clients = "trusted_proxies = [\"127.0.0.0/8\"]";
    // Whichever way the backend is told the gateway's own words.
    for server in ["", "forwarded = \"off\"", "forwarded = \"both\""] {
        let stand = Stand::with(Config { backend: Some(raw.address), clients, server, ..Config::default() });
        for (index, [one, other]) in behind_an_ingress().iter().enumerate() {
            for call in [one, other] {
                assert!(!stand.send(call).is_replay());
                assert!(stand.send(call).is_replay());
            }
            let key = format!("9a0c6f55-1d51-4b9e-8f64-{index:012}");
            let keyed = |call: &Call| call.clone().header("Idempotency-Key", &key);
            assert!(!stand.send(&keyed(one)).is_replay());
            assert_problem(&stand.send(&keyed(other)), 422, "key-reused");
            assert_eq!(raw.waiting(), 3);
        }
    }
}

#[test]
fn a_host_that_nobody_trusted_has_said_and_one_that_is_said_twice_are_no_other_intent() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    for [one, other] in behind_an_ingress() {
        assert_one_answer(&[stand.send(&one), stand.send(&other)]);
    }
    let clients = "trusted_proxies = [\"127.0.0.0/8\"]";
    let stand = Stand::with(Config { backend: Some(raw.address), clients, ..Config::default() });
    let host = stand.gate.address.to_string();
    let plain = Call::post("/api/notes", "{}");
    let replies = [
        plain.clone(),
        plain.clone().header("X-Forwarded-For", "127.0.0.1"),
        plain.clone().header("X-Forwarded-Host", &host),
        plain
            .header("Forwarded", &format!("for=192.0.2.1;host=\"{host}\""))
            .header("X-Forwarded-For", "127.0.0.1"),
    ]
    .map(|call| stand.send(&call));
    assert_one_answer(&replies);
    assert_eq!(raw.waiting(), 3);
}

#[test]
fn an_upload_equals_its_retry_however_its_client_writes_file_names() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let upload = |boundary: &str, names: &str, content: &str| {
        let head =
            format!("Content-Type: application/pdf\r\nContent-Disposition: form-data; name=file; {names}");
        let kind = format!("multipart/form-data; boundary=\"{boundary}\"");
        let body = format!("--{boundary}\r\n{head}\r\n\r\n{content}\r\n--{boundary}--\r\n");
        Call::new("POST", "/api/uploads").header("Content-Type", &kind).body(body)
    };
    for (index, names) in
        ["filename=x.pdf; filename*=utf-8''x.pdf", "filename=\"x\\\".pdf\"", "filename*=utf-8''x.pdf"]
            .iter()
            .enumerate()
    {
        let key = format!("0c1d6f55-1d51-4b9e-8f64-{index:012}");
        let keyed = |call: Call| call.header("Idempotency-Key", &key);
        assert!(!stand.send(&upload("b1a7", names, "%PDF")).is_replay(), "{names}");
        assert!(stand.send(&upload("c2d8", names, "%PDF")).is_replay(), "{names}");
        assert!(!stand.send(&upload("c2d8", names, "%pdf")).is_replay(), "{names}");
        assert!(!stand.send(&keyed(upload("b1a7", names, "%PDF"))).is_replay(), "{names}");
        assert!(stand.send(&keyed(upload("c2d8", names, "%PDF"))).is_replay(), "{names}");
        assert_eq!(raw.waiting(), 3, "{names}");
    }
}

#[test]
fn a_query_that_comes_with_a_key_is_written_once() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let saved = Call::post("/api/saved", r#"{"query":"{ bookings { id } }"}"#);
    for _ in 0..2 {
        assert!(!stand.send(&saved).is_replay(), "without a key it only reads");
    }
    assert_eq!(raw.waiting(), 2);
    let keyed = |call: &Call| call.clone().header("Idempotency-Key", "7e91c6d4-a2bb-4a43-9f0e-1f2e3d4c5b6a");
    assert!(!stand.send(&keyed(&saved)).is_replay());
    assert!(stand.send(&keyed(&saved)).is_replay());
    // To a reader of the query the comma is nothing; to who keeps the text it is another one.
    let other = Call::post("/api/saved", r#"{"query":"{ bookings, { id } }"}"#);
    assert_problem(&stand.send(&keyed(&other)), 422, "key-reused");
    assert_eq!(raw.waiting(), 1);

    let idempotency = "graphql = \"off\"";
    let stand = Stand::with(Config { backend: Some(raw.address), idempotency, ..Config::default() });
    assert!(!stand.send(&saved).is_replay());
    assert!(stand.send(&saved).is_replay(), "the route says that it keeps such bodies");
}

#[test]
fn only_a_post_is_taken_for_a_query() {
    let raw = RawBackend::start(ok);
    let stand = Stand::with(Config { backend: Some(raw.address), ..Config::default() });
    let query = |method: &str, target: &str| {
        let call = Call::new(method, target).header("Content-Type", "application/json");
        call.body(r#"{"query":"{ me }"}"#)
    };
    for call in [
        query("DELETE", "/api/books/1"),
        query("PUT", "/api/books/2"),
        query("POST", "/api/books/3?_method=DELETE"),
        query("POST", "/api/books/4").header("X-HTTP-Method-Override", "PUT"),
    ] {
        assert!(!stand.send(&call).is_replay(), "{}", call.target);
        assert!(stand.send(&call).is_replay(), "{}", call.target);
    }
    assert_eq!(raw.waiting(), 4);
}

#[test]
fn ignored_fields_and_unordered_arrays_do_not_count() {
    let config = crate::harness::Config {
        idempotency: "ignore = [\"$.client_time\"]\nunordered = [\"$.days\"]",
        ..Default::default()
    };
    let stand = Stand::with(config);
    let replies = [
        r#"{"client_time":1,"days":["MON","WED"],"x":1}"#,
        r#"{"client_time":2,"days":["WED","MON"],"x":1}"#,
    ]
    .map(|body| stand.send(&Call::post("/api/notes", body)));
    assert_one_answer(&replies);
    stand.send(&Call::post("/api/notes", r#"{"client_time":2,"days":["WED","MON","MON"],"x":1}"#));
    assert_eq!(stand.backend.effects().len(), 2);
}

#[test]
fn ignored_and_unordered_fields_of_forms_are_found_as_selectors_find_them() {
    let raw = RawBackend::start(ok);
    let idempotency = "ignore = [\"$.meta.client_time\"]\nunordered = [\"$.days\"]";
    let stand = Stand::with(Config { backend: Some(raw.address), idempotency, ..Config::default() });
    let form = |body: &str| {
        Call::new("POST", "/api/f").header("Content-Type", "application/x-www-form-urlencoded").body(body)
    };
    for (one, other) in [
        ("meta[client_time]=1&meta[room]=5", "meta[client_time]=2&meta[room]=5"),
        ("meta.client_time=1&meta.room=6", "meta.client_time=2&meta.room=6"),
        ("days%5B%5D=1&days%5B%5D=2", "days%5B%5D=2&days%5B%5D=1"),
    ] {
        assert_one_answer(&[stand.send(&form(one)), stand.send(&form(other))]);
        assert_eq!(raw.waiting(), 1, "{one}");
    }
}
