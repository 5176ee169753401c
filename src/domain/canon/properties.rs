//! "Same meaning, same print; any changed value, other print", for bodies nobody thought of.

use super::{BodyInput, Kind, Meaning, Rules, meaning, push_field};
use futures_util::FutureExt;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A JSON document, apart from how it is written.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    /// As text: numbers are never numbers here.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Free choices of a writer, used again from the start when they run out.
struct Choices<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.at += 1;
        usize::from(self.bytes[self.at % self.bytes.len()]) % bound
    }

    fn shuffled<'t, T>(&mut self, items: &'t [T]) -> Vec<&'t T> {
        let mut items: Vec<&T> = items.iter().collect();
        (1..items.len()).for_each(|at| items.swap(at, self.below(at + 1)));
        items
    }

    fn space(&mut self) -> &'static str {
        ["", "", " ", "\n  ", "\t", "\r\n"][self.below(6)]
    }
}

fn write(json: &Json, choices: &mut Choices<'_>, out: &mut String) {
    out.push_str(choices.space());
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(text) => out.push_str(text),
        Json::Text(text) => write_string(text, choices, out),
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write(item, choices, out);
            }
            out.push_str(choices.space());
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (at, (name, value)) in choices.shuffled(members).into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                out.push_str(choices.space());
                write_string(name, choices, out);
                out.push_str(choices.space());
                out.push(':');
                write(value, choices, out);
            }
            out.push_str(choices.space());
            out.push('}');
        }
    }
    out.push_str(choices.space());
}

fn write_string(text: &str, choices: &mut Choices<'_>, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let short = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '/' => "\\/",
            '\n' => "\\n",
            '\t' => "\\t",
            '\r' => "\\r",
            '\x08' => "\\b",
            '\x0c' => "\\f",
            _ => "",
        };
        let must = matches!(character, '"' | '\\' | '\0'..='\x1f');
        match choices.below(4) {
            0 => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let digits = format!("{unit:04x}");
                    out.push_str("\\u");
                    out.push_str(&if choices.below(2) == 0 { digits } else { digits.to_uppercase() });
                }
            }
            1 | 2 if !must => out.push(character),
            _ if !short.is_empty() => out.push_str(short),
            _ if must => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn written(json: &Json, choices: &[u8]) -> String {
    let mut out = String::new();
    write(json, &mut Choices { bytes: choices, at: 0 }, &mut out);
    out
}

/// The values in a document, containers among them.
fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(members) => members.iter().map(|(_, value)| count(value)).sum(),
        _ => 0,
    }
}

/// One value of the document, the `at`th, made another one.
fn changed(json: &mut Json, at: &mut usize) -> bool {
    let here = std::mem::replace(at, at.wrapping_sub(1)) == 0;
    match json {
        Json::Null if here => *json = Json::Bool(false),
        Json::Bool(value) if here => *value = !*value,
        Json::Number(text) if here => text.insert(usize::from(text.starts_with('-')), '1'),
        Json::Text(text) if here => text.push('x'),
        Json::Array(items) if here => items.push(Json::Null),
        Json::Object(members) if here => members.push(("a name of its own".to_owned(), Json::Null)),
        Json::Array(items) => return items.iter_mut().any(|item| changed(item, at)),
        Json::Object(members) => return members.iter_mut().any(|(_, value)| changed(value, at)),
        _ => return false,
    }
    true
}

fn numbers() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?"
}

fn texts() -> impl Strategy<Value = String> {
    "[a-z0-9 \"\\\\/\u{0}-\u{1f}éß姓名😀\u{301}]{0,6}"
}

fn documents() -> impl Strategy<Value = Json> {
    let leaves = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        numbers().prop_map(Json::Number),
        texts().prop_map(Json::Text),
    ];
    leaves.prop_recursive(5, 48, 14, |inner| {
        let members = prop::collection::btree_map(texts(), inner.clone(), 0..14);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Json::Array),
            members.prop_map(|members: BTreeMap<String, Json>| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..64)
}

fn read<'b>(content_type: &str, body: &'b [u8]) -> Meaning<'b> {
    let content_type = Some(content_type.as_bytes());
    meaning(
        &BodyInput { content_type, content_encoding: None, query: None, body },
        &Rules::new(&[], &[], 1 << 20),
    )
}

/// Fields of a form, and the same in another order: of fields of one name none overtakes another.
fn reordered(fields: &[(String, String)], choices: &mut Choices<'_>) -> Vec<(String, String)> {
    let mut queues: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    fields.iter().rev().for_each(|(name, value)| queues.entry(name).or_default().push(value));
    let mut order: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    order = choices.shuffled(&order).into_iter().copied().collect();
    let mut next = |name: &str| queues.get_mut(name).and_then(Vec::pop).unwrap_or_default().to_owned();
    order.into_iter().map(|name| (name.to_owned(), next(name))).collect()
}

fn form(fields: &[(String, String)], choices: &mut Choices<'_>) -> String {
    let mut spell = |text: &str| {
        let mut spelled = String::new();
        for byte in text.bytes() {
            match (byte, choices.below(3)) {
                (b' ', 0) => spelled.push('+'),
                (b'a'..=b'z' | b'0'..=b'9', 1 | 2) => spelled.push(byte as char),
                (_, 0) => spelled.push_str(&format!("%{byte:02x}")),
                _ => spelled.push_str(&format!("%{byte:02X}")),
            }
        }
        spelled
    };
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", spell(name), spell(value)))
        .collect::<Vec<_>>()
        .join("&")
}

fn multipart(fields: &[(String, String)], boundary: &str) -> String {
    let part = |(name, value): &(String, String)| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    format!("{}--{boundary}--\r\n", fields.iter().map(part).collect::<String>())
}

/// What another reader of multipart makes of a body: name, file name and bytes of each part.
type Parts = Vec<(Option<String>, Option<String>, Vec<u8>)>;

fn by_another_reader(body: &[u8], boundary: &str) -> Option<Parts> {
    let body = bytes::Bytes::copy_from_slice(body);
    let stream = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut form = multer::Multipart::new(stream, boundary);
    let mut parts = Vec::new();
    let mut read = async || -> Option<()> {
        while let Some(field) = form.next_field().await.ok()? {
            let names = (field.name().map(str::to_owned), field.file_name().map(str::to_owned));
            parts.push((names.0, names.1, field.bytes().await.ok()?.to_vec()));
        }
        Some(())
    };
    read().now_or_never().flatten().map(|()| parts)
}

/// The canonical bytes of parts that have no further headers.
fn canonical_parts(mut parts: Parts) -> Vec<u8> {
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = Vec::new();
    for (name, file_name, content) in parts {
        let mut part = Vec::new();
        push_field(&mut part, name.unwrap_or_default().as_bytes());
        part.push(u8::from(file_name.is_some()));
        push_field(&mut part, file_name.as_deref().unwrap_or_default().as_bytes());
        for _absent in ["content type", "transfer encoding"] {
            part.push(0);
            push_field(&mut part, b"");
        }
        match file_name {
            Some(_) => push_field(&mut part, &Sha256::digest(&content)),
            None => push_field(&mut part, &content),
        }
        push_field(&mut out, &part);
    }
    out
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("[a-d]{1,2}", "[a-z0-9 &=+%;é\r\n-]{0,6}"), 1..8)
}

proptest! {
    // A failing case is printed; no file is kept of it.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_written_in_two_ways_means_the_same(json in documents(), one in choices(), two in choices()) {
        let (one, two) = (written(&json, &one), written(&json, &two));
        let (read_one, read_two) = (read("application/json", one.as_bytes()), read("application/json", two.as_bytes()));
        prop_assert_eq!(read_one.kind, Kind::Json, "{}", one);
        prop_assert_eq!(&read_one, &read_two, "{} and {}", one, two);
        prop_assert_eq!(&read("application/json", &read_one.body), &read_one, "canonical text is its own");
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&one) {
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&read_one.body).ok(), Some(value));
        }
    }

    #[test]
    fn json_with_any_value_changed_means_something_else(json in documents(), at in any::<usize>(), choices in choices()) {
        let mut other = json.clone();
        let mut at = at % count(&json);
        prop_assert!(changed(&mut other, &mut at));
        let (one, two) = (written(&json, &choices), written(&other, &choices));
        prop_assert_ne!(read("application/json", one.as_bytes()), read("application/json", two.as_bytes()), "{} and {}", one, two);
    }

    #[test]
    fn forms_written_in_two_ways_mean_the_same(fields in fields(), one in choices(), two in choices()) {
        let (mut one, mut two) = (Choices { bytes: &one, at: 0 }, Choices { bytes: &two, at: 0 });
        let (sent, again) = (form(&fields, &mut one), form(&reordered(&fields, &mut two), &mut two));
        let content_type = "application/x-www-form-urlencoded";
        let (read_one, read_two) = (read(content_type, sent.as_bytes()), read(content_type, again.as_bytes()));
        prop_assert_eq!(read_one.kind, Kind::Form);
        prop_assert_eq!(read_one, read_two, "{} and {}", sent, again);
    }

    #[test]
    fn forms_with_any_value_changed_mean_something_else(fields in fields(), at in 0..8_usize, choices in choices()) {
        let mut other = fields.clone();
        let at = at % fields.len();
        other[at].1.push('x');
        let choices = || Choices { bytes: &choices, at: 0 };
        let (one, two) = (form(&fields, &mut choices()), form(&other, &mut choices()));
        let content_type = "application/x-www-form-urlencoded";
        prop_assert_ne!(read(content_type, one.as_bytes()), read(content_type, two.as_bytes()));
    }

    #[test]
    fn multipart_with_another_boundary_and_order_means_the_same(fields in fields(), choices in choices()) {
        let mut choices = Choices { bytes: &choices, at: 0 };
        let (one, two) = (multipart(&fields, "one"), multipart(&reordered(&fields, &mut choices), "--2"));
        let read_one = read("multipart/form-data; boundary=one", one.as_bytes());
        let read_two = read("multipart/form-data; boundary=--2", two.as_bytes());
        prop_assume!(!fields.iter().any(|(_, value)| value.contains("--")));
        prop_assert_eq!(read_one.kind, Kind::Multipart);
        prop_assert_eq!(read_one, read_two, "{} and {}", one, two);
    }

    #[test]
    fn multipart_with_any_value_changed_means_something_else(fields in fields(), at in 0..8_usize) {
        let mut other = fields.clone();
        let at = at % fields.len();
        other[at].1.push('x');
        let (one, two) = (multipart(&fields, "b"), multipart(&other, "b"));
        let content_type = "multipart/form-data; boundary=b";
        prop_assert_ne!(read(content_type, one.as_bytes()), read(content_type, two.as_bytes()));
    }

    #[test]
    fn multipart_is_read_as_another_reader_reads_it(
        pieces in prop::collection::vec(prop_oneof![
            Just("--b"), Just("\r\n"), Just("--"), Just("\n"), Just("Content-Disposition: form-data; name=\"a\""),
            Just("Content-Disposition: form-data; name=\"c\"; filename=\"f\""), Just("\r\n\r\n"), Just("x"), Just("\r\n--b\r\n"),
        ], 0..24),
    ) {
        // Nearly all of these are malformed; those that are taken for a form have to be the same form to both.
        let body = format!("--b\r\n{}\r\n--b--\r\n", pieces.concat());
        let meaning = read("multipart/form-data; boundary=b", body.as_bytes());
        if meaning.kind == Kind::Multipart {
            let parts = by_another_reader(body.as_bytes(), "b").map(canonical_parts);
            prop_assert_eq!(parts.as_deref(), Some(&*meaning.body), "{:?}", body);
        }
    }

    #[test]
    fn whatever_comes_is_given_a_meaning(content_type in "[ -~]{0,24}|application/json|multipart/form-data; ?boundary=b", body in any::<Vec<u8>>()) {
        let meaning = read(&content_type, &body);
        prop_assert!(!meaning.read || meaning.kind == Kind::Graphql);
    }
}
