//! Meanings and fingerprints that must never change: a record made by one version is answered by another. If one of
//! these has to change, the version in the fingerprint's label changes with it.

use super::{BodyInput, JsonPath, Rules, meaning};
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::{FingerprintKey, Parts};
use crate::domain::target::NormalTarget;

/// One request and all that is made of it. The secret is `golden secret`, the scope 16 times 0x01, the route `golden`.
#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Vector {
    about: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    body: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignore: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unordered: Vec<String>,
    kind: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    read: bool,
    head_hex: String,
    /// As text where it is text without control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    canonical: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    canonical_hex: Option<String>,
    fingerprint: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same request with what is made of it now.
fn made(vector: &Vector) -> Vector {
    let paths = |texts: &[String]| {
        texts.iter().map(|text| JsonPath::parse(text).expect("a path")).collect::<Vec<_>>()
    };
    let input = BodyInput {
        content_type: vector.content_type.as_deref().map(str::as_bytes),
        content_encoding: None,
        query: None,
        body: vector.body.as_bytes(),
    };
    let meaning = meaning(&input, &Rules::new(&paths(&vector.ignore), &paths(&vector.unordered), 1 << 20));
    let fingerprint = FingerprintKey::new(b"golden secret").fingerprint(&Parts {
        scope: &ScopeId([1; 16]),
        route: "golden",
        method: &http::Method::POST,
        authority: "Clinic.example:8080",
        target: &NormalTarget::parse("/api//bookings?day=%31").expect("a target"),
        meaning: &meaning,
        headers: &[],
    });
    let text = String::from_utf8(meaning.body.to_vec()).ok().filter(|text| !text.contains(char::is_control));
    Vector {
        about: vector.about.clone(),
        content_type: vector.content_type.clone(),
        body: vector.body.clone(),
        ignore: vector.ignore.clone(),
        unordered: vector.unordered.clone(),
        kind: meaning.kind.word().to_owned(),
        read: meaning.read,
        head_hex: hex(&meaning.head),
        canonical_hex: text.is_none().then(|| hex(&meaning.body)),
        canonical: text,
        fingerprint: hex(&fingerprint.0),
    }
}

#[test]
fn meanings_and_fingerprints_are_what_they_always_were() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("golden.json")).expect("golden.json is JSON");
    assert!(vectors.len() >= 20);
    for vector in &vectors {
        assert_eq!(&made(vector), vector, "{}", vector.about);
    }
}

#[test]
fn no_two_golden_meanings_are_equal_unless_they_say_so() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("golden.json")).expect("golden.json is JSON");
    for (at, vector) in vectors.iter().enumerate() {
        let equal = vectors[..at].iter().find(|other| other.fingerprint == vector.fingerprint);
        assert_eq!(equal.is_some(), vector.about.starts_with("same:"), "{}", vector.about);
    }
}
