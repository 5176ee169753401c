use super::super::{BodyInput, JsonPath, Kind, Meaning, Rules, meaning};

const DATE: &str = "Content-Disposition: form-data; name=\"date\"\r\n\r\n2026-11-22";
const DOCTOR: &str = "Content-Disposition: form-data; name=\"doctor\"\r\n\r\n42";
const FILE: &str = "Content-Disposition: form-data; name=\"scan\"; filename=\"a.pdf\"\r\nContent-Type: application/pdf\r\n\r\n%PDF\r\n\r\n-";

fn body(boundary: &str, parts: &[&str]) -> Vec<u8> {
    let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
    format!("{parts}--{boundary}--\r\n").into_bytes()
}

fn read<'a>(boundary: &str, body: &'a [u8], rules: &Rules) -> Meaning<'a> {
    let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
    let input =
        BodyInput { content_type: Some(content_type.as_bytes()), content_encoding: None, query: None, body };
    meaning(&input, rules)
}

fn rules(ignore: &[&str], unordered: &[&str]) -> Rules {
    let paths =
        |texts: &[&str]| texts.iter().map(|text| JsonPath::parse(text).expect("a path")).collect::<Vec<_>>();
    Rules::new(&paths(ignore), &paths(unordered), 1 << 20)
}

/// Whether two lists of parts mean the same; both have to be understood.
fn same(a: &[&str], b: &[&str]) -> bool {
    let (a, b) = (body("one", a), body("other-boundary", b));
    let plain = rules(&[], &[]);
    let (a, b) = (read("one", &a, &plain), read("other-boundary", &b, &plain));
    assert_eq!((a.kind, b.kind), (Kind::Multipart, Kind::Multipart));
    a == b
}

#[test]
fn boundary_and_order_of_different_names_mean_nothing() {
    assert!(same(&[DATE, DOCTOR, FILE], &[DATE, DOCTOR, FILE]));
    assert!(same(&[DATE, DOCTOR, FILE], &[FILE, DOCTOR, DATE]));
    assert!(same(&[DATE], &["content-disposition:form-data ;Name=date\r\n\r\n2026-11-22"]));
    assert!(same(
        &[DATE],
        &["Content-Length: 10\r\nContent-Disposition: form-data; name=\"date\"\r\n\r\n2026-11-22"]
    ));
}

#[test]
fn everything_else_means_something() {
    assert!(!same(&[DATE, DOCTOR], &[DATE]));
    assert!(!same(&[DATE], &[DATE, DATE]));
    let changed = |from: &str, to: &str| !same(&[FILE], &[&FILE.replace(from, to)]);
    assert!(changed("a.pdf", "b.pdf"));
    assert!(changed("application/pdf", "text/plain"));
    assert!(changed("\r\nContent-Type: application/pdf", ""));
    assert!(changed("; filename=\"a.pdf\"", ""));
    assert!(changed("%PDF", "%pDF"));
    assert!(changed("\"scan\"", "\"scan2\""));
    assert!(changed("\r\n\r\n%PDF", "\r\nContent-Transfer-Encoding: binary\r\n\r\n%PDF"));
    let [one, two] =
        ["1", "2"].map(|value| format!("Content-Disposition: form-data; name=\"a\"\r\n\r\n{value}"));
    assert!(!same(&[&one, &two], &[&two, &one]), "order of equal names");
    let capital = two.replace("\"a\"", "\"A\"");
    assert!(!same(&[&one, &capital], &[&capital, &one]), "order of names that one backend takes for equal");
}

#[test]
fn a_field_cannot_pass_for_the_digest_of_a_file() {
    let file = "Content-Disposition: form-data; name=\"a\"; filename=\"\"\r\n\r\n";
    let field = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";
    assert!(!same(&[file], &[field]));
}

#[test]
fn whatever_is_not_written_as_usual_is_raw() {
    let usual = String::from_utf8(body("b", &[DATE, DOCTOR])).expect("ASCII");
    let odd = |from: &str, to: &str| {
        assert!(usual.contains(from), "{from:?}");
        usual.replacen(from, to, 1)
    };
    for odd in [
        String::new(),
        "--b--\r\n".to_owned(),
        "--b\r\n--b--\r\n".to_owned(),
        format!("preamble\r\n{usual}"),
        format!("\r\n{usual}"),
        format!("{usual}epilogue"),
        odd("--b--\r\n", ""),
        odd("--b--\r\n", "--b-"),
        odd("\r\n--b\r\n", "\n--b\r\n"),
        odd("\r\n--b\r\n", "\r\n--b \r\n"),
        odd("2026-11-22", "2026--b-11-22"),
        odd("2026-11-22", "2026\n--b\n11-22"),
        odd("\r\n\r\n2026", "\r\n2026"),
        odd("\r\n\r\n2026", "\r\nX-Part: 1\r\n\r\n2026"),
        odd("\r\n\r\n2026", "\r\nContent-Transfer-Encoding: base64\r\n\r\n2026"),
        odd("\r\n\r\n2026", "\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n2026"),
        odd("\r\n\r\n2026", "\r\nContent-Type: a/b\r\nContent-Type: a/c\r\n\r\n2026"),
        odd("\r\n\r\n2026", "\r\nContent-Length: 9\r\n\r\n2026"),
        odd("\r\n\r\n2026", "\r\n folded\r\n\r\n2026"),
        odd("name=\"date\"", "name=\"date\"; name=\"x\""),
        odd("name=\"date\"", "name=\"date\"; filename*=UTF-8''x; filename*=UTF-8''x"),
        odd("name=\"date\"", "name=\"date\"; filename*=\"a\\\"b\""),
        odd("name=\"date\"", "name=\"date\"; filename=\"a\\\""),
        odd("name=\"date\"", "name*=UTF-8''date"),
        odd("name=\"date\"", "name=\"da\\\"te\""),
        odd("name=\"date\"", "name=\"da\nte\""),
        odd("name=\"date\"", "name=\"date"),
        odd("name=\"date\"", "name="),
        odd("; name=\"date\"", ""),
        odd("form-data", "attachment"),
        odd("form-data; name=\"date\"", "form-data"),
        odd("Content-Disposition", "Content-Disposition "),
        odd("name=\"date\"", "name=\"date\"\x0c"),
        odd("name=\"date\"", "name=\x0c\"date\""),
        odd("; name=\"date\"", ";\x0c name=\"date\""),
        odd("name=\"date\"", "name=\"da\x7fte\""),
        odd("\r\n\r\n2026", "\r\nContent-Type: a/b\x0c\r\n\r\n2026"),
    ] {
        let meaning = read("b", odd.as_bytes(), &rules(&[], &[]));
        assert_eq!((meaning.kind, &*meaning.body), (Kind::Raw, odd.as_bytes()), "{odd:?}");
    }
    for boundary in ["", "a b", &"x".repeat(71)] {
        let body = body(boundary, &[DATE]);
        assert_eq!(read(boundary, &body, &rules(&[], &[])).kind, Kind::Raw, "{boundary:?}");
    }
    let body = body("b", &[DATE]);
    let input = BodyInput {
        content_type: Some(b"multipart/form-data"),
        content_encoding: None,
        query: None,
        body: &body,
    };
    assert_eq!(meaning(&input, &rules(&[], &[])).kind, Kind::Raw, "no boundary");
}

#[test]
fn rules_address_parts_by_name() {
    let rules = rules(&["$.doctor"], &["$.a"]);
    let [one, two] =
        ["1", "2"].map(|value| format!("Content-Disposition: form-data; name=\"a\"\r\n\r\n{value}"));
    let (with, without) = (body("b", &[DATE, DOCTOR]), body("b", &[DATE]));
    assert_eq!(read("b", &with, &rules), read("b", &without, &rules));
    let (forth, back) = (body("b", &[&one, DATE, &two]), body("b", &[&two, &one, DATE]));
    assert_eq!(read("b", &forth, &rules), read("b", &back, &rules));
    let (twice_one, twice_two) = (body("b", &[&one, &one, &two]), body("b", &[&one, &two, &two]));
    assert_ne!(read("b", &twice_one, &rules), read("b", &twice_two, &rules));
}

const NET: &str = "Content-Type: application/pdf\r\nContent-Disposition: form-data; name=scan; filename=a.pdf; filename*=utf-8''a.pdf\r\n\r\n%PDF";
const CURL: &str = "Content-Disposition: form-data; name=\"scan\"; filename=\"a\\\"b.pdf\"\r\n\r\n%PDF";

#[test]
fn file_names_that_are_read_in_two_ways_are_equal_where_their_bytes_are() {
    for upload in [NET, CURL, &NET.replace(" filename=a.pdf;", ""), &CURL.replace("a\\\"b", "C:\\b")] {
        assert!(same(&[upload, DATE], &[upload, DATE]), "{upload}");
        let usual = "form-data; name=\"scan\"; filename=\"a.pdf\"";
        let plain = format!("Content-Type: application/pdf\r\nContent-Disposition: {usual}\r\n\r\n%PDF");
        assert!(!same(&[upload], &[&plain]), "{upload}");
        for (from, to) in [("pdf\r\n\r", "pd\r\n\r"), ("pdf\"", "pd\""), ("%PDF", "%PDf"), ("scan", "scans")]
        {
            assert!(
                !upload.contains(from) || !same(&[upload], &[&upload.replace(from, to)]),
                "{upload}: {to}"
            );
        }
    }
    assert!(same(&[NET, DATE], &[DATE, NET]));
    assert!(!same(&[NET], &[&NET.replace("utf-8''", "utf-8'en'")]), "spelled otherwise");
}

#[test]
fn where_a_quote_may_end_a_file_name_the_order_of_all_parts_counts() {
    assert!(!same(&[CURL, DATE], &[DATE, CURL]), "another reader may see other names");
    let rules = rules(&["$.scan"], &[]);
    let (with, without) = (body("b", &[DATE, CURL]), body("b", &[DATE]));
    assert_ne!(read("b", &with, &rules), read("b", &without, &rules));
    let (with, without) = (body("b", &[DATE, NET]), body("b", &[DATE]));
    assert_eq!(read("b", &with, &rules), read("b", &without, &rules));
}

#[test]
fn no_value_is_taken_from_a_form_in_which_readers_may_see_other_fields() {
    let fields = |part: &str| super::fields(&body("b", &[part]), b"b");
    assert_eq!(fields(NET), Ok(vec![(b"scan".to_vec(), None)]));
    assert_eq!(fields(&CURL.replace("a\\\"b", "C:\\b")), Ok(vec![(b"scan".to_vec(), None)]));
    assert_eq!(fields(CURL), Err(super::Doubtful));
    assert_eq!(fields(&NET.replace(" filename=a.pdf;", "")), Err(super::Doubtful));
}
