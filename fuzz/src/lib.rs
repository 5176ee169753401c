//! What the fuzz targets share. Each of them asks one thing above all: where two bodies have one meaning, does another
//! reader of the format find them equal too?

use oncegate::domain::canon::{BodyInput, JsonPath, Meaning, Rules, meaning};

/// The meaning of a body without any rules.
pub fn read<'b>(content_type: &str, body: &'b [u8]) -> Meaning<'b> {
    let content_type = Some(content_type.as_bytes());
    meaning(
        &BodyInput { content_type, content_encoding: None, query: None, body },
        &Rules::new(&[], &[], 1 << 20),
    )
}

/// The meaning of a body under rules that touch much of what fuzzing finds.
pub fn read_with_rules<'b>(content_type: &str, body: &'b [u8]) -> Meaning<'b> {
    let paths =
        |texts: &[&str]| texts.iter().map(|text| JsonPath::parse(text).expect("a path")).collect::<Vec<_>>();
    let rules =
        Rules::new(&paths(&["$.a", "$[0]", "$.b[*].c"]), &paths(&["$", "$.b", "$[*]", "$.d"]), 1 << 20);
    let content_type = Some(content_type.as_bytes());
    meaning(&BodyInput { content_type, content_encoding: None, query: None, body }, &rules)
}

/// Splits fuzzing's bytes into a body and the same body with one small change, which often means nothing.
pub fn body_and_variant(data: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let (&[high, low, change, byte], body) = data.split_first_chunk::<4>()?;
    let mut variant = body.to_vec();
    if body.is_empty() {
        return Some((body, variant));
    }
    let at = usize::from(u16::from_be_bytes([high, low])) % body.len();
    match change % 4 {
        0 => variant[at] = byte,
        1 => variant.insert(at, byte),
        2 => drop(variant.remove(at)),
        _ => variant.swap(at, usize::from(byte) % body.len()),
    }
    Some((body, variant))
}
