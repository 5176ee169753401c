//! The Idempotency-Key header: a structured-field string (draft-ietf-httpapi-idempotency-key-header), or the same
//! characters bare, as most clients send it.

use super::headers::IDEMPOTENCY_KEY;
use http::HeaderMap;

/// The longest key, in bytes.
const LONGEST: usize = 255;

/// The key that a request carries; `Err` says what is wrong with it, for the client's developer.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<Vec<u8>>, String> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err("the header came more than once; send one key for one intent".into());
    }
    let text = line.as_bytes().trim_ascii();
    let key = if text.first() == Some(&b'"') { quoted(text)? } else { bare(text)? };
    match key.len() {
        1..=LONGEST => Ok(Some(key)),
        0 => Err("the key is empty".into()),
        length => Err(format!("the key has {length} bytes; at most {LONGEST} are allowed")),
    }
}

fn quoted(text: &[u8]) -> Result<Vec<u8>, String> {
    let item: sfv::Item = sfv::Parser::new(text)
        .parse()
        .map_err(|error| format!("it is not a structured-field string: {error}"))?;
    match item.bare_item.as_string() {
        Some(key) if item.params.is_empty() => Ok(key.as_str().as_bytes().to_vec()),
        _ => Err("a key is one string without parameters".into()),
    }
}

fn bare(text: &[u8]) -> Result<Vec<u8>, String> {
    match text.iter().find(|&&b| !b.is_ascii_graphic() || matches!(b, b'"' | b',' | b';' | b'\\')) {
        None => Ok(text.to_vec()),
        Some(b) => Err(format!("the character {:?} is not allowed in a key without quotes", char::from(*b))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn key(lines: &[&[u8]]) -> Result<Option<Vec<u8>>, String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(line).expect("a header value"));
        }
        idempotency_key(&headers)
    }

    #[test]
    fn a_quoted_and_a_bare_key_are_the_same_key() {
        let uuid: &[u8] = b"8e03978e-40d5-43dd-bc93-6894a57f9324";
        assert_eq!(key(&[uuid]), Ok(Some(uuid.to_vec())));
        assert_eq!(key(&[&[b"\"", uuid, b"\""].concat()]), Ok(Some(uuid.to_vec())));
        assert_eq!(key(&[br#""a\"b""#]), Ok(Some(b"a\"b".to_vec())));
        assert_eq!(key(&[]), Ok(None));
    }

    #[test]
    fn malformed_keys_are_refused() {
        let long = vec![b'k'; 256];
        let cases: [&[u8]; 9] =
            [b"", b"\"\"", b"\"open", b"a b", b"a,b", b"\"a\";x=1", b"caf\xc3\xa9", b"\"a\", \"b\"", &long];
        for case in cases {
            assert!(key(&[case]).is_err(), "{:?}", String::from_utf8_lossy(case));
        }
        assert!(key(&[b"a", b"a"]).is_err(), "two lines");
        assert!(key(&[&long[..255]]).is_ok());
    }
}
