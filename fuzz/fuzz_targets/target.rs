//! Targets: a normal form is normal, hides nothing, and stands for the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::domain::target::NormalTarget;

/// All escapes undone, to compare by.
fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = text
            .get(at + 1..at + 3)
            .filter(|digits| bytes[at] == b'%' && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escape {
            Some(digits) => {
                out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

fuzz_target!(|text: &str| {
    let Ok(target) = NormalTarget::parse(text) else { return };
    let again = NormalTarget::parse(target.as_str()).expect("a normal form has a normal form");
    assert_eq!(again, target);
    let path = target.path();
    assert!(target.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    assert!(path == "*" || path.starts_with('/'));
    assert!(!path.contains("//") && !path.contains('\\'));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".." && !segment.starts_with("..;")));
    let upper = path.to_ascii_uppercase();
    assert!(["%2F", "%5C", "%00", "%2E", "%41"].iter().all(|escape| !upper.contains(escape)));
    let (sent_path, sent_query) =
        text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    if !unescaped(sent_path).windows(2).any(|pair| matches!(pair, b"//" | b"/.")) {
        assert_eq!(unescaped(path), unescaped(sent_path));
    }
    assert_eq!(target.query().map(unescaped), sent_query.map(unescaped));
    assert!(target.parents().count() <= oncegate::domain::target::PARENTS_MAX);
    assert!(
        target.parents().all(|parent| path == "*" || (parent.starts_with('/') && path.starts_with(parent)))
    );
});
