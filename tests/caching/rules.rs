use super::backend::{Asked, Said, Scripted};
use super::{Stand, counted};
use crate::harness::{Call, eventually};

fn get(target: &str) -> Call {
    Call::new("GET", target).header("Host", "h")
}

/// Whether a second equal read gets the copy of the first.
fn is_kept(route: &str, call: &Call, headers: &'static str) -> bool {
    is_kept_with(route, call, 200, headers)
}

fn is_kept_with(route: &str, call: &Call, status: u16, headers: &'static str) -> bool {
    let backend =
        Scripted::start(move |asked| Said::status(status, headers, format!("nonce {}", asked.number)));
    let stand = Stand::new(backend.address, route, "");
    let (first, second) = (stand.send(call), stand.send(call));
    assert_eq!(first.body == second.body, backend.count() == 1, "{headers}");
    backend.count() == 1
}

const TTL: &str = "cache = { ttl = \"60s\" }";
const SILENT: &str = "cache = { }";
const EVERYONE: &str = "cache = { ttl = \"60s\", share = \"everyone\" }";
const OVERRIDE: &str = "cache = { ttl = \"60s\", override = true }";

#[test]
fn the_ttl_counts_where_the_backend_is_silent_and_not_where_it_speaks() {
    let plain = get("/a");
    assert!(is_kept(TTL, &plain, ""));
    assert!(!is_kept(SILENT, &plain, ""));
    assert!(
        !is_kept(SILENT, &plain, "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        "nothing is guessed"
    );
    assert!(is_kept(SILENT, &plain, "Cache-Control: max-age=60\r\n"));
    assert!(is_kept(SILENT, &plain, "Cache-Control: max-age=18446744073709551615\r\n"));
    assert!(!is_kept(TTL, &plain, "Cache-Control: max-age=0\r\n"));
    assert!(!is_kept(TTL, &plain, "Cache-Control: no-cache\r\n"));
    assert!(!is_kept(TTL, &plain, "Expires: 0\r\n"));
    assert!(!is_kept(TTL, &plain, "Cache-Control: max-age=60\r\nAge: 60\r\n"));
}

#[test]
fn override_counts_before_lifetimes_and_never_before_safety() {
    let plain = get("/a");
    for headers in
        ["Cache-Control: max-age=0\r\n", "Cache-Control: no-cache, must-revalidate\r\n", "Expires: 0\r\n"]
    {
        assert!(is_kept(OVERRIDE, &plain, headers), "{headers}");
    }
    for headers in
        ["Cache-Control: no-store\r\n", "Cache-Control: private\r\n", "Set-Cookie: a=1\r\n", "Vary: *\r\n"]
    {
        assert!(!is_kept(OVERRIDE, &plain, headers), "{headers}");
    }
}

#[test]
fn what_is_never_kept() {
    for route in [TTL, EVERYONE, OVERRIDE] {
        for headers in [
            "Cache-Control: no-store, max-age=60\r\n",
            "Cache-Control: NO-STORE\r\n",
            "Set-Cookie: a=1\r\nCache-Control: public, max-age=60\r\n",
            "Vary: *\r\nCache-Control: max-age=60\r\n",
            "Vary: Accept\r\nVary: *\r\n",
            "Content-Type: text/event-stream\r\n",
            "Authentication-Info: nextnonce=1\r\n",
        ] {
            assert!(!is_kept(route, &get("/a"), headers), "{route}: {headers}");
        }
        for status in [201, 203, 206, 301, 302, 307, 404, 410, 500, 503] {
            assert!(
                !is_kept_with(route, &get("/a"), status, "Cache-Control: max-age=60\r\n"),
                "{route}: {status}"
            );
        }
    }
}

#[test]
fn private_answers_are_for_callers_who_have_shown_who_they_are() {
    let private = "Cache-Control: private, max-age=60\r\n";
    assert!(!is_kept(TTL, &get("/a"), private));
    for (name, value) in [("Authorization", "Bearer 1"), ("Cookie", "s=1"), ("X-Api-Key", "k")] {
        let shown = get("/a").header(name, value);
        assert!(is_kept(TTL, &shown, private), "{name}");
        assert!(!is_kept(EVERYONE, &shown, private), "{name}");
    }
}

#[test]
fn an_answer_to_a_token_goes_to_everyone_only_where_the_backend_does_not_say_otherwise() {
    let token = get("/a").header("Authorization", "Bearer 1");
    assert!(is_kept(EVERYONE, &token, ""), "the operator's word");
    assert!(!is_kept(EVERYONE, &token, "Cache-Control: max-age=60\r\n"));
    assert!(is_kept(EVERYONE, &token, "Cache-Control: max-age=60, public\r\n"));
    assert!(is_kept(EVERYONE, &token, "Cache-Control: s-maxage=60\r\n"));
    assert!(is_kept(TTL, &token, "Cache-Control: max-age=60\r\n"), "its own caller may have it");
}

fn echo(asked: &Asked) -> Said {
    Said::ok("Vary: Accept-Language\r\n", format!("{:?} {}", asked.header("accept-language"), asked.number))
}

#[test]
fn a_backend_that_is_believed_about_vary_is_asked_once_for_each_of_its_answers() {
    let backend = Scripted::start(echo);
    let stand = Stand::new(backend.address, "coalesce = true\ncache = { ttl = \"60s\", key = \"vary\" }", "");
    let read = |language: &str, agent: &str| {
        stand.send(&get("/a").header("Accept-Language", language).header("User-Agent", agent)).text()
    };
    assert_eq!(read("de", "x"), "Some(\"de\") 1");
    assert_eq!(read("de", "y"), "Some(\"de\") 1", "the agent does not matter to it");
    assert_eq!(read("fr", "x"), "Some(\"fr\") 2");
    assert_eq!([read("de", "z"), read("fr", "z")], ["Some(\"de\") 1", "Some(\"fr\") 2"]);
    assert_eq!(stand.send(&get("/a")).text(), "None 3");
    for (name, value) in [("Authorization", "Bearer 1"), ("Cookie", "s=1"), ("X-Api-Key", "k"), ("Host", "g")]
    {
        let before = backend.count();
        let call = Call::new("GET", "/a").header("Accept-Language", "de").header(name, value);
        let call = if name == "Host" { call } else { call.header("Host", "h") };
        stand.send(&call);
        assert_eq!(counted(&backend, before), 1, "{name} is who asks, whatever the backend says");
    }
}

#[test]
fn a_variant_that_an_answer_has_ended_never_comes_back() {
    // The page is gone once its second answer was given, but only for those who read German.
    let backend = Scripted::start(|asked| match (asked.header("accept-language"), asked.number) {
        (Some("de"), 2..) => Said::status(404, "Vary: Accept-Language\r\n", "gone"),
        _ => echo(asked),
    });
    let stand = Stand::new(backend.address, "cache = { ttl = \"60s\", key = \"vary\" }", "");
    let read = |language: &str| get("/a").header("Accept-Language", language);
    assert_eq!([stand.send(&read("de")).text(), stand.send(&read("de")).text()], ["Some(\"de\") 1"; 2]);
    assert_eq!(stand.send(&read("de").header("Cache-Control", "no-cache")).status, 404);
    eventually_kept(&stand, &read("en"));
    assert_eq!(stand.send(&read("de")).status, 404, "what is kept again is another variant");
}

/// After an answer that is not kept, those that follow are not for a moment either.
fn eventually_kept(stand: &Stand, call: &Call) {
    eventually("the answer is kept", || (stand.send(call).text() == stand.send(call).text()).then_some(()));
}

#[test]
fn a_variant_that_went_with_another_ones_end_does_not_come_back_either() {
    // The third answer and all later ones of the German page say that it is gone; the second says so of the English one.
    let backend = Scripted::start(|asked| match (asked.header("accept-language"), asked.number) {
        (Some("de"), 3..) | (Some("en"), 2) => Said::status(404, "Vary: Accept-Language\r\n", "gone"),
        _ => echo(asked),
    });
    let stand = Stand::new(backend.address, "cache = { ttl = \"60s\", key = \"vary\" }", "");
    let read = |language: &str| get("/a").header("Accept-Language", language);
    assert_eq!(["de", "en"].map(|language| stand.send(&read(language)).status), [200, 404]);
    eventually_kept(&stand, &read("en"));
    assert_eq!(stand.send(&read("de")).status, 404);
}

#[test]
fn a_header_that_names_callers_is_who_asks_whatever_the_backend_says() {
    let backend = Scripted::start(|asked| Said::ok("", format!("for {:?}", asked.header("x-client"))));
    let clients = "[clients]\nidentify_by = [\"header:X-Client\", \"ip\"]";
    let stand = Stand::new(backend.address, "cache = { ttl = \"60s\", key = \"vary\" }", clients);
    for client in ["ann", "bob", "ann"] {
        assert_eq!(
            stand.send(&get("/a").header("X-Client", client)).text(),
            format!("for Some(\"{client}\")")
        );
    }
    assert_eq!(backend.count(), 2);
}

#[test]
fn what_the_backend_gets_as_it_was_spelled_is_a_page_for_each_spelling() {
    let backend = Scripted::start(|asked| Said::ok("", asked.target.clone()));
    let original = format!(
        "[[upstream]]\nname = \"original\"\nurl = \"http://{}\"\ntarget = \"original\"\n\
         [[route]]\nname = \"spelled\"\nmatch = \"GET /pub/**\"\nupstream = \"original\"\n{EVERYONE}\n",
        backend.address
    );
    let stand = Stand::new(backend.address, EVERYONE, &original);
    for target in ["/pub/x/../home", "/pub/home", "/pub/h%6fme", "/pub/home"] {
        assert_eq!(stand.send(&get(target)).text(), target);
    }
    assert_eq!(backend.count(), 3);
}

#[test]
fn where_a_proxy_says_a_page_was_asked_for_counts_and_who_asked_it_does_not() {
    let backend = Scripted::start(|asked| Said::ok("", format!("{:?}", asked.header("forwarded"))));
    let clients = "[clients]\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let stand = Stand::new(backend.address, EVERYONE, clients);
    let read = |says: &str| stand.send(&get("/a").header("Forwarded", says)).text();
    let first = read("for=192.0.2.1;host=a.example");
    assert_eq!(read("for=192.0.2.2;host=a.example"), first, "another client");
    assert_ne!(read("for=192.0.2.1;host=b.example"), first, "another host");
    assert_ne!(read("for=192.0.2.1;host=a.example;proto=https"), first);
}

#[test]
fn everyone_gets_the_copy_whatever_they_show() {
    let backend = Scripted::start(|asked| Said::ok("", format!("nonce {}", asked.number)));
    let stand = Stand::new(backend.address, EVERYONE, "");
    let plain = stand.send(&get("/a")).text();
    for (name, value) in
        [("Authorization", "Bearer 1"), ("Authorization", "Bearer 2"), ("Cookie", "s=1"), ("X-Api-Key", "k")]
    {
        assert_eq!(stand.send(&get("/a").header(name, value)).text(), plain);
    }
    assert_ne!(stand.send(&get("/a").header("Accept-Language", "de")).text(), plain);
    assert_eq!(backend.count(), 2);
}

#[test]
fn a_renewed_token_finds_the_copy_where_its_signature_proves_the_caller() {
    // Two tokens of one subject and one of another, signed with "secret" (HS256).
    let token =
        |subject: &str, id: u32| signed(&format!(r#"{{"sub":"{subject}","jti":"{id}","exp":4102444800}}"#));
    let backend = Scripted::start(|asked| Said::ok("", format!("nonce {}", asked.number)));
    let clients = "[clients]\nidentify_by = [\"jwt:sub\"]\n[clients.jwt]\nsecret = \"0123456789abcdef0123456789abcdef\"";
    let stand = Stand::new(backend.address, TTL, clients);
    let read =
        |token: &str| stand.send(&get("/a").header("Authorization", &format!("Bearer {token}"))).text();
    assert_eq!(read(&token("ann", 1)), "nonce 1");
    assert_eq!(read(&token("ann", 2)), "nonce 1", "renewed");
    assert_eq!(read(&token("bob", 1)), "nonce 2");
    let forged = format!("{}x", token("ann", 1));
    assert_eq!(read(&forged), "nonce 3", "what is not proven is nobody but itself");
    assert_eq!(read(&token("ann", 3)), "nonce 1");
}

fn signed(claims: &str) -> String {
    use base64::Engine as _;
    use hmac::{Hmac, KeyInit, Mac};
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.as_bytes()));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"0123456789abcdef0123456789abcdef").unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", encode(&mac.finalize().into_bytes()))
}
