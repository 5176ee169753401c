//! JSON: the canonical text says what the document says, and says it always in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::domain::canon::Kind;
use oncegate_fuzz::{body_and_variant, read, read_with_rules};
use serde_json::Value;

const JSON: &str = "text/json";

fuzz_target!(|data: &[u8]| {
    let Some((body, variant)) = body_and_variant(data) else { return };
    let meaning = read(JSON, body);
    let ruled = read_with_rules(JSON, body);
    assert_eq!(meaning.kind, ruled.kind);
    if meaning.kind != Kind::Json {
        assert_eq!(&*meaning.body, body);
        return;
    }
    let value: Value = serde_json::from_slice(body).expect("what is canonical is JSON");
    let canonical: Value = serde_json::from_slice(&meaning.body).expect("canonical text is JSON");
    assert_eq!(value, canonical);
    assert_eq!(read(JSON, &meaning.body), meaning, "canonical text is its own");
    let pretty = serde_json::to_vec_pretty(&value).expect("JSON");
    // Another writer may spell a number's exponent in another way.
    if !body.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        assert_eq!(read(JSON, &pretty).body, meaning.body, "same meaning, same bytes");
        assert_eq!(read_with_rules(JSON, &pretty).body, ruled.body, "under rules too");
    }
    serde_json::from_slice::<Value>(&ruled.body).expect("what rules leave is JSON");
    if read(JSON, &variant) == meaning {
        assert_eq!(serde_json::from_slice::<Value>(&variant).expect("JSON"), value);
    }
});
