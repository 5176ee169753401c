use super::super::path::JsonPath;
use super::*;

fn paths(texts: &[&str]) -> Vec<JsonPath> {
    texts.iter().map(|text| JsonPath::parse(text).expect("a path")).collect()
}

fn with(ignore: &[&str], unordered: &[&str], text: &str) -> String {
    let paths = Paths::new(&paths(ignore), &paths(unordered));
    match canonical(text.as_bytes(), &paths) {
        Ok(canonical) => String::from_utf8(canonical).expect("canonical text is UTF-8"),
        Err(Doubtful) => "raw".to_owned(),
    }
}

fn plain(text: &str) -> String {
    with(&[], &[], text)
}

#[test]
fn members_are_sorted_and_white_space_is_gone() {
    assert_eq!(
        plain(" {\"b\" : [ 1 ,\t2 ] ,\r\n \"a\" : { \"d\":null, \"c\":true } } "),
        r#"{"a":{"c":true,"d":null},"b":[1,2]}"#
    );
    assert_eq!(plain("[]"), "[]");
    assert_eq!(plain("{ }"), "{}");
    assert_eq!(plain("[ ]"), "[]");
    assert_eq!(plain(r#"{"ab":1,"a":2,"":3}"#), r#"{"":3,"a":2,"ab":1}"#);
    assert_eq!(plain("\"x\""), "\"x\"");
}

#[test]
fn names_of_different_length_are_told_apart() {
    assert_eq!(plain(r#"{"o ":1,"l":2}"#), r#"{"l":2,"o ":1}"#);
}

#[test]
fn names_sort_by_what_they_spell_and_not_by_how() {
    // The quote, 0x22, sorts before `#`, and its spelling's backslash, 0x5c, would sort behind.
    assert_eq!(plain(r##"{"#":1,"\"":2,"A":3}"##), r##"{"\"":2,"#":1,"A":3}"##);
    assert_eq!(plain(r#"{"\n":1,"A":2,"\\":3,"]":4}"#), r#"{"\u000a":1,"A":2,"\\":3,"]":4}"#);
}

#[test]
fn names_that_begin_alike_sort_by_their_ends() {
    let sorted =
        r#"{"startTim":1,"startTime":2,"startTime\\":3,"startTimeA":4,"startTimeB":5,"startTim\u0000":6}"#;
    let expected =
        r#"{"startTim":1,"startTim\u0000":6,"startTime":2,"startTimeA":4,"startTimeB":5,"startTime\\":3}"#;
    assert_eq!(plain(sorted), expected);
    assert_eq!(plain(r#"{"startTimeB":1,"startTimeA":2}"#), r#"{"startTimeA":2,"startTimeB":1}"#);
}

#[test]
fn what_ends_or_breaks_a_string_is_found_at_every_place() {
    for length in 0..40 {
        for at in 0..=length {
            let with = |inserted: &str| {
                format!(
                    "\"{}{inserted}{}\"",
                    "é".repeat(at / 2) + &"x".repeat(at % 2),
                    "\u{7f}".repeat(length - at)
                )
            };
            let whole = with("");
            assert_eq!(plain(&whole), whole);
            assert_eq!(plain(&with("\\u0041")), with("A"));
            for wrong in ["\0", "\u{1f}", "\n", "\"", "\\"] {
                assert_eq!(plain(&with(wrong)), "raw", "{wrong:?} at {at} of {length}");
            }
            assert_eq!(
                plain(&format!("[{},{}]", with("\\\""), with("\\\\"))),
                format!("[{},{}]", with("\\\""), with("\\\\"))
            );
        }
    }
}

#[test]
fn one_string_has_one_spelling() {
    assert_eq!(
        plain(r#""\u0041\/\u00e9\uD83D\uDE00\b\f\n\r\t\u0000\"\\""#),
        "\"A/é😀\\u0008\\u000c\\u000a\\u000d\\u0009\\u0000\\\"\\\\\""
    );
    assert_eq!(plain("\"A/é😀\""), "\"A/é😀\"");
    assert_eq!(plain(r#"{"\u0061":1}"#), r#"{"a":1}"#);
    // Composed and decomposed are two strings: no Unicode normalisation.
    assert_ne!(plain("\"é\""), plain("\"e\u{301}\""));
}

#[test]
fn number_text_is_kept() {
    for number in
        ["0", "-0", "1", "1.0", "1e0", "1E0", "1e+0", "-1.50e-07", "9007199254740993", "9007199254740992"]
    {
        assert_eq!(plain(number), number);
    }
}

#[test]
fn what_is_no_json_is_raw() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "\u{feff}{}",
        "{} {}",
        "{}x",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "--1",
        "0x1",
        "NaN",
        "tru",
        "truex",
        "nul",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "\"\\ud800\\ud800\"",
        "\"a\nb\"",
        "'a'",
        "// x\n1",
        "\u{a0}1",
        "[1}",
        "{\"a\":1]",
        "\0",
        "1\0",
    ] {
        assert_eq!(plain(text), "raw", "{text:?}");
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xc0\x80\"", b"\"\xed\xa0\x80\""] {
        assert_eq!(canonical(bytes, &Paths::default()), Err(Doubtful), "invalid UTF-8");
    }
}

#[test]
fn nesting_counts_up_to_the_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(plain(&nested(DEPTH_MAX)), nested(DEPTH_MAX));
    assert_eq!(plain(&nested(DEPTH_MAX + 1)), "raw");
    assert_eq!(plain(&"[".repeat(1_000_000)), "raw");
    assert_eq!(plain(&"{\"a\":".repeat(1_000_000)), "raw");
}

#[test]
fn a_repeated_name_is_a_doubt_wherever_it_is() {
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"b":2,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"x":{"a":1,"a":1}}]"#,
        r#"{"":1,"":2}"#,
        // A decoder that does not look at case takes the last of these.
        r#"{"doctor":1,"Doctor":2}"#,
        r#"{"clinicId":1,"b":2,"clinicid":3}"#,
        r#"{"é":1,"É":2}"#,
        // The long s and the Kelvin sign fold into ASCII.
        "{\"s\":1,\"\u{17f}\":2}",
        "{\"key\":1,\"\u{212a}ey\":2}",
    ] {
        assert_eq!(plain(text), "raw", "{text}");
    }
    assert_eq!(with(&["$.a"], &[], r#"{"a":1,"a":2}"#), "raw", "ignored ones too");
    let many = |last: &str| {
        let members = (0..100).map(|n| format!("\"name number {n}\":{n}")).chain([format!("\"{last}\":1")]);
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    };
    assert_ne!(plain(&many("other")), "raw");
    assert_eq!(plain(&many("Name number 7")), "raw");
}

#[test]
fn different_names_are_no_doubt() {
    assert_ne!(plain(r#"{"start":1,"end":2,"startTime":3,"endTime":4,"start_time":5,"a1":6,"a2":7}"#), "raw");
    assert_ne!(plain("{\"姓名\":1,\"电话\":2,\"日期\":3,\"é\":4,\"e\":5}"), "raw");
}

#[test]
fn values_that_differ_stay_different() {
    for (a, b) in [
        ("9007199254740993", "9007199254740992"),
        ("1", "\"1\""),
        ("1", "1.0"),
        ("[1,2]", "[2,1]"),
        ("[[1],2]", "[[1,2]]"),
        ("null", "\"null\""),
        ("{}", "[]"),
        (r#"{"a":null}"#, "{}"),
        (r#"{"a":"b\",\"c\":\"d"}"#, r#"{"a":"b","c":"d"}"#),
        (r#""\u0041""#, r#""\\u0041""#),
    ] {
        assert_ne!(plain(a), plain(b), "{a} and {b}");
    }
}

#[test]
fn ignored_values_are_gone_wherever_their_path_leads() {
    assert_eq!(with(&["$.t"], &[], r#"{"t":1,"a":{"t":2}}"#), r#"{"a":{"t":2}}"#);
    assert_eq!(with(&["$.t"], &[], r#"{"a":1,"t":{"x":[1]},"b":2}"#), r#"{"a":1,"b":2}"#);
    assert_eq!(with(&["$.a.t", "$.a.u"], &[], r#"{"t":1,"a":{"u":2,"t":2}}"#), r#"{"a":{},"t":1}"#);
    assert_eq!(
        with(&["$.items[*].t"], &[], r#"{"items":[{"t":1,"a":1},{"a":2},3]}"#),
        r#"{"items":[{"a":1},{"a":2},3]}"#
    );
    assert_eq!(with(&["$.items[1]"], &[], r#"{"items":[1,2,3]}"#), r#"{"items":[1,3]}"#);
    assert_eq!(with(&["$.items[*]"], &[], r#"{"items":[1,2,3]}"#), r#"{"items":[]}"#);
    assert_eq!(
        with(&["$.items[0].x", "$.items[*].y"], &[], r#"{"items":[{"x":1,"y":1},{"x":2,"y":2}]}"#),
        r#"{"items":[{},{"x":2}]}"#
    );
    assert_eq!(with(&["$[0][1]"], &[], "[[1,2],[3,4]]"), "[[1],[3,4]]");
    assert_eq!(with(&["$['a\"b\\n']"], &[], r#"{"a\"bn":1,"c":2}"#), r#"{"c":2}"#);
    // Written otherwise, it is the same name.
    assert_eq!(with(&["$.t"], &[], r#"{"\u0074":1,"a":2}"#), r#"{"a":2}"#);
}

#[test]
fn paths_do_not_reach_what_they_do_not_name() {
    assert_eq!(with(&["$.a.b"], &[], r#"{"a":[{"b":1}],"b":2}"#), r#"{"a":[{"b":1}],"b":2}"#);
    assert_eq!(with(&["$.a[0]"], &[], r#"{"a":{"0":1}}"#), r#"{"a":{"0":1}}"#);
    assert_eq!(with(&["$.a"], &[], r#"{"ab":1,"A":2}"#), r#"{"A":2,"ab":1}"#);
    assert_eq!(with(&["$"], &[], "[1]"), "[1]", "the whole body cannot be ignored");
    assert_eq!(with(&["$.t"], &[], r#"{"t":01}"#), "raw", "what is ignored has to be JSON too");
}

#[test]
fn unordered_arrays_are_sorted_and_keep_their_repeats() {
    assert_eq!(
        with(&[], &["$.d"], r#"{"d":["we","mo","fr"],"e":[2,1]}"#),
        r#"{"d":["fr","mo","we"],"e":[2,1]}"#
    );
    assert_ne!(with(&[], &["$.d"], r#"{"d":[1,1,2]}"#), with(&[], &["$.d"], r#"{"d":[1,2,2]}"#));
    assert_eq!(with(&[], &["$"], r#"[{"b":1,"a":2},[3],null]"#), r#"[[3],null,{"a":2,"b":1}]"#);
    assert_eq!(with(&[], &["$.d", "$.d[*]"], r#"{"d":[[2,1],[0,3],[]]}"#), r#"{"d":[[0,3],[1,2],[]]}"#);
    assert_eq!(
        with(&[], &["$.d[*].e"], r#"{"d":[{"e":[2,1]},{"e":[4,3]}]}"#),
        r#"{"d":[{"e":[1,2]},{"e":[3,4]}]}"#
    );
    assert_eq!(
        with(&["$.d[*].t"], &["$.d"], r#"{"d":[{"t":1,"a":2},{"t":2,"a":1}]}"#),
        r#"{"d":[{"a":1},{"a":2}]}"#
    );
    assert_eq!(with(&["$.d[0]"], &["$.d"], r#"{"d":[3,2,1]}"#), r#"{"d":[1,2]}"#, "an index counts as sent");
    assert_eq!(with(&[], &["$.d"], r#"{"d":{"b":[2,1]}}"#), r#"{"d":{"b":[2,1]}}"#, "not an array");
}
