use super::*;

fn read<'b>(content_type: &str, body: &'b str) -> Meaning<'b> {
    let content_type = Some(content_type.as_bytes());
    let input = BodyInput { content_type, content_encoding: None, query: None, body: body.as_bytes() };
    meaning(&input, &Rules::new(&[], &[], 1 << 20))
}

#[test]
fn one_booking_written_in_two_ways_is_one() {
    let sent = r#"{"doctor":"李雷","date":"2026-11-22","slotIndex":17}"#;
    let again = "{ \"slotIndex\" : 17,\n \"date\":\"2026\\u002d11-22\", \"doctor\":\"\\u674e\\u96f7\" }";
    assert_eq!(read("application/json", sent), read("Application/JSON; charset=UTF-8", again));
    assert_eq!(read("application/json", sent).kind, Kind::Json);
}

#[test]
fn bookings_that_differ_are_two() {
    for (a, b) in [
        ("9007199254740993", "9007199254740992"),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
        ("1", "\"1\""),
        ("1", "1.0"),
        ("[1,2]", "[2,1]"),
        ("{}", "{} "),
    ] {
        let different = a.trim() != b.trim();
        assert_eq!(read("application/json", a) != read("application/json", b), different, "{a} and {b}");
    }
}

#[test]
fn kinds_never_meet() {
    let body = "a=1";
    let types = [
        "application/json",
        "application/x-www-form-urlencoded",
        "application/graphql",
        "text/plain",
        "odd",
        "",
    ];
    for (at, one) in types.iter().enumerate() {
        for other in &types[..at] {
            assert_ne!(read(one, body), read(other, body), "{one} and {other}");
        }
    }
    let without =
        BodyInput { content_type: None, content_encoding: None, query: None, body: body.as_bytes() };
    assert!(
        types.iter().all(|known| read(known, body).head != meaning(&without, &Rules::new(&[], &[], 9)).head)
    );
}

#[test]
fn json_is_read_only_where_it_is_said_to_be_json_in_utf8() {
    for (content_type, kind) in [
        ("application/json", Kind::Json),
        ("application/vnd.clinic.v2+json", Kind::Json),
        ("text/json;charset=utf8", Kind::Json),
        ("application/json; charset=iso-8859-1", Kind::Raw),
        ("application/json, application/json", Kind::Raw),
        ("application/json;", Kind::Raw),
        ("application/jsonp", Kind::Raw),
        ("application/json-seq", Kind::Raw),
        ("text/plain", Kind::Raw),
    ] {
        assert_eq!(read(content_type, "{ }").kind, kind, "{content_type}");
    }
}

#[test]
fn the_media_type_of_a_patch_means_something() {
    let body = r#"[{"op":"remove","path":"/a"}]"#;
    assert_ne!(read("application/json-patch+json", body), read("application/merge-patch+json", body));
    assert_ne!(read("application/json; version=1", body), read("application/json; version=2", body));
}

#[test]
fn an_encoding_that_was_not_undone_means_something() {
    let read = |encoding: Option<&'static str>| {
        let content_encoding = encoding.map(str::as_bytes);
        let input = BodyInput {
            content_type: Some(b"text/plain"),
            content_encoding,
            query: None,
            body: b"same bytes",
        };
        meaning(&input, &Rules::new(&[], &[], 1000))
    };
    assert_eq!(read(None), read(Some("identity")));
    assert_ne!(read(None), read(Some("gzip")));
    assert_ne!(read(Some("zstd")), read(Some("gzip")));
}

#[test]
fn a_raw_body_is_not_copied() {
    assert!(matches!(read("text/plain", "as it is").body, Cow::Borrowed(_)));
}
