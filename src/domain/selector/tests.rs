use super::*;
use crate::domain::canon::{BodyInput, Fields, fields};
use base64::Engine;
use http::{HeaderMap, HeaderValue};

fn selector(text: &str) -> Selector {
    Selector::parse(text, &Zone::parse("Asia/Kolkata").expect("a zone")).expect(text)
}

fn read(content_type: &str, body: &str) -> Fields {
    let content_type = Some(content_type.as_bytes());
    fields(&BodyInput { content_type, content_encoding: None, query: None, body: body.as_bytes() }, 1 << 20)
}

fn json(body: &str) -> Fields {
    read("application/json", body)
}

fn form(body: &str) -> Fields {
    read("application/x-www-form-urlencoded", body)
}

fn in_body(text: &str, body: &Fields) -> Found {
    selector(text).find(&Source::answer(&HeaderMap::new(), body))
}

fn shown(text: &str, body: &Fields) -> String {
    match in_body(text, body) {
        Found::Value(value) => value.shown(),
        other => format!("{other:?}"),
    }
}

fn key(text: &str, body: &Fields) -> Vec<u8> {
    let mut key = Vec::new();
    match in_body(text, body) {
        Found::Value(value) => value.push_key(&mut key),
        other => panic!("{text}: {other:?}"),
    }
    key
}

#[test]
fn what_a_backend_takes_for_one_thing_is_one() {
    let plain = json(r#"{"slot":5,"doctor":"Dr. é","days":["Mon","Wed"]}"#);
    for (text, same) in [
        ("$.slot", json(r#"{"slot":"5"}"#)),
        ("$.slot", json(r#"{"slot":5.0}"#)),
        ("$.slot", json(r#"{"slot":" 5 "}"#)),
        ("$.slot", json(r#"{"Slot":[5]}"#)),
        ("$.slot", form("slot=5")),
        ("$.slot", form("slot[]=5")),
        ("$.slot", json(r#"{"query":"mutation { x }","variables":{"slot":5}}"#)),
        ("$.doctor", json("{\"doctor\":\"Dr. e\u{301}\\n\"}")),
        ("$.doctor", form("doctor=Dr.+%E9")),
        ("sorted:$.days", json(r#"{"days":["Wed ","Mon"]}"#)),
        ("sorted:$.days", form("days=Wed&days=Mon")),
        ("$.days", form("days[]=Mon&days[]=Wed")),
        ("$.days", form("days[0]=Mon&days[1]=Wed")),
        ("$.days[*]", form("days=Mon&days=Wed")),
        ("lower:$.doctor", json(r#"{"doctor":"DR. É"}"#)),
    ] {
        assert_eq!(key(text, &plain), key(text, &same), "{text} in {same:?}");
    }
}

#[test]
fn what_differs_differs() {
    for (text, a, b) in [
        ("$.room", r#"{"room":"1.10"}"#, r#"{"room":"1.1"}"#),
        ("$.id", r#"{"id":9007199254740993}"#, r#"{"id":9007199254740992}"#),
        ("$.days", r#"{"days":["Mon","Wed"]}"#, r#"{"days":["Wed","Mon"]}"#),
        ("sorted:$.days", r#"{"days":["a","b"]}"#, r#"{"days":["a","b","b"]}"#),
        ("$.days", r#"{"days":["a,b"]}"#, r#"{"days":["a","b"]}"#),
        ("$.doctor", r#"{"doctor":"a"}"#, r#"{"doctor":"A"}"#),
    ] {
        assert_ne!(key(text, &json(a)), key(text, &json(b)), "{text}");
    }
}

#[test]
fn a_fallback_stands_in_for_what_is_absent_null_or_empty() {
    for body in ["{}", r#"{"a":null}"#, r#"{"a":""}"#, r#"{"a":"  "}"#, r#"{"a":[]}"#, r#"{"a":[null,""]}"#] {
        assert_eq!(shown("$.a | $.b | 'main'", &json(body)), "main", "{body}");
        assert_eq!(in_body("$.a", &json(body)), Found::Missing, "{body}");
    }
    assert_eq!(shown("$.a | $.b | 'main'", &json(r#"{"a":0,"b":1}"#)), "0");
    assert_eq!(shown("$.a | $.b", &json(r#"{"a":false}"#)), "false");
    assert_eq!(shown("$.a | $.b | 'main'", &json(r#"{"b":"x"}"#)), "x");
    assert_eq!(
        shown("lower: $.a | $.b | 'MAIN | x'", &json("{}")),
        "main | x",
        "what stands first holds for all"
    );
    assert_eq!(shown("$.a | lower:$.b", &json(r#"{"a":"X"}"#)), "X");
    assert!(
        matches!(in_body("$.a | 'x'", &json(r#"{"a":1,"A":2}"#)), Found::Unreadable(_)),
        "what is there and cannot be read is not absent"
    );
}

#[test]
fn a_name_that_came_twice_is_no_value_unless_both_are_one() {
    assert!(matches!(in_body("$.slot", &form("slot=1&slot=2")), Found::Unreadable(_)));
    assert!(matches!(in_body("$.slot", &form("slot=1&Slot=2")), Found::Unreadable(_)));
    assert_eq!(shown("$.slot", &form("slot=1&slot=1+")), "1");
    let headers = HeaderMap::new();
    let source = Source {
        path: &[],
        query: Some("slot=1&slot=2&x=%C3%A9+y"),
        headers: &headers,
        body: &Fields::Empty,
    };
    assert!(matches!(selector("query:slot").find(&source), Found::Unreadable(_)));
    assert_eq!(selector("query:x").find(&source), Found::Value(Value::from_text("é y")));
    assert_eq!(selector("query:nothing").find(&source), Found::Missing);
}

#[test]
fn nested_fields_are_found_in_every_kind_of_body() {
    let nested = r#"{"booking":{"rooms":[{"id":7},{"id":8},{}]}}"#;
    assert_eq!(shown("$.booking.rooms[1].id", &json(nested)), "8");
    assert_eq!(shown("$.booking.rooms[*].id", &json(nested)), "7,8");
    assert_eq!(shown("$.booking.rooms[1].id", &form("booking[rooms][0][id]=7&booking[rooms][1][id]=8")), "8");
    assert_eq!(shown("$.booking.rooms[1].id", &form("booking.rooms[1].id=8")), "8");
    assert_eq!(shown("$['booking[id]']", &form("booking[id]=8")), "8");
    assert_eq!(shown("$.booking", &json(r#"{"booking":{"b":1, "a":2}}"#)), r#"{"a":2,"b":1}"#);
    let parts = "--b\r\nContent-Disposition: form-data; name=\"slot\"\r\n\r\n5\r\n--b--";
    assert_eq!(shown("$.slot", &read("multipart/form-data; boundary=b", parts)), "5");
}

#[test]
fn dates_are_instants() {
    let body = json(r#"{"a":"2026-11-25T10:00","b":"2026-11-25T04:30:00Z","c":"soon"}"#);
    assert_eq!(key("datetime:$.a", &body), key("datetime:$.b", &body));
    assert_ne!(key("datetime(UTC):$.a", &body), key("datetime:$.b", &body));
    assert!(matches!(in_body("datetime:$.c", &body), Found::Unreadable(_)));
}

#[test]
fn every_part_of_a_request_can_be_named() {
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"ann","tenant":5}"#);
    let mut headers = HeaderMap::new();
    let token = format!("Bearer e30.{payload}.x");
    headers.insert("authorization", HeaderValue::from_str(&token).expect("a header"));
    headers.insert("x-branch", HeaderValue::from_static(" North "));
    let body = Fields::Empty;
    let source = Source { path: &[("id", "a%20b")], query: None, headers: &headers, body: &body };
    let shown = |text: &str| match selector(text).find(&source) {
        Found::Value(value) => value.shown(),
        other => format!("{other:?}"),
    };
    assert_eq!(shown("path:id"), "a b");
    assert_eq!(shown("path:other"), "Missing");
    assert_eq!(shown("lower:header:X-Branch"), "north");
    assert_eq!(shown("jwt:tenant"), "5");
    assert_eq!(shown("jwt:other | 'none'"), "none");
    assert_eq!(shown("$.branch | header:X-Branch"), "North", "no body has no field");
}

#[test]
fn a_location_names_what_was_made() {
    for (location, id) in [
        ("/api/bookings/7", "7"),
        ("https://clinic.example/api/bookings/a%20b/?x=1", "a b"),
        ("7", "7"),
        ("https://clinic.example", "Missing"),
        ("https://clinic.example/", "Missing"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static(location));
        let found = selector("$.id | header:Location").find(&Source::answer(&headers, &Fields::Empty));
        let shown = match found {
            Found::Value(value) => value.shown(),
            other => format!("{other:?}"),
        };
        assert_eq!(shown, id, "{location}");
    }
}

#[test]
fn a_wrong_selector_says_what_to_write() {
    let wrong = |text: &str| Selector::parse(text, &Zone::utc()).expect_err(text);
    for (text, says) in [
        ("", "a value is missing"),
        ("$.a |", "a value is missing"),
        ("clinicId", "`$.field`"),
        ("$.a..b", "a name has to follow"),
        ("'open", "does not end"),
        ("'a' 'b'", "behind the closing quote"),
        ("body:x", "`$.x`"),
        ("path:a/b", "braces"),
        ("header:a b", "no header's name"),
        ("header:", "is missing"),
        ("cookie:x", "names a caller"),
        ("upper:$.a", "nothing called `upper:`"),
        ("datetime(Mars):$.a", "no time zone"),
    ] {
        assert!(wrong(text).contains(says), "{text}: {}", wrong(text));
    }
    assert_eq!(selector(" $.a | 'x' ").to_string(), "$.a | 'x'");
    assert!(selector("$.a | 'x'").is_total() && !selector("$.a | ''").is_total());
}

#[test]
fn a_value_never_leaves_its_place_in_a_target() {
    let template = |text: &str| Template::parse(text, &Zone::utc());
    let body = json(r#"{"clinic":"a&b=c/../é","slot":5,"up":"..","empty":""}"#);
    let headers = HeaderMap::new();
    let fill = |text: &str| template(text).expect(text).fill(&Source::answer(&headers, &body));
    assert_eq!(
        fill("/b?clinic={$.clinic}&slot={$.slot}"),
        Ok("/b?clinic=a%26b%3Dc%2F..%2F%C3%A9&slot=5".to_owned())
    );
    assert_eq!(fill("/b/{$.slot}/x{'}'}"), Ok("/b/5/x%7D".to_owned()));
    assert_eq!(fill("/b/{$.empty}"), Err(Unfit::Missing("$.empty".into())));
    for hole in ["$.clinic", "$.up"] {
        assert!(matches!(fill(&format!("/b/{{{hole}}}")), Err(Unfit::Unusable(..))), "{hole}");
    }
    for text in ["/{$.a", "/$.a}", "/{}", "/a}b{$.a}"] {
        assert!(template(text).is_err(), "{text}");
    }
}
