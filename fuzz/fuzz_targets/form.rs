//! Forms: one meaning only where another reader finds, name by name, the same values in the same order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::domain::canon::Kind;
use oncegate_fuzz::{body_and_variant, read, read_with_rules};
use std::collections::BTreeMap;

const FORM: &str = "application/x-www-form-urlencoded";

fn by_another_reader(body: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        fields.entry(name.into_owned()).or_default().push(value.into_owned());
    }
    fields
}

fuzz_target!(|data: &[u8]| {
    let Some((body, variant)) = body_and_variant(data) else { return };
    let meaning = read(FORM, body);
    assert_eq!(meaning.kind, read_with_rules(FORM, body).kind);
    if meaning.kind == Kind::Raw {
        assert_eq!(&*meaning.body, body);
    }
    if read(FORM, &variant) == meaning {
        assert_eq!(by_another_reader(&variant), by_another_reader(body));
    }
});
