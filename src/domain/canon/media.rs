//! Media types, as far as they bear on what a body means.

use super::Kind;
use super::frame::push_field;
use std::borrow::Cow;

/// A `Content-Type` that could be read without doubt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MediaType<'a> {
    /// `type/subtype` in lower case.
    pub(super) essence: Cow<'a, str>,
    /// Parameters in the order sent: the name in lower case, the value without quotes.
    parameters: Vec<(Cow<'a, str>, &'a [u8])>,
}

/// Name and value as sent.
type Parameter<'a> = (&'a [u8], &'a [u8]);

/// More parameters than any type has are a doubt.
const PARAMETERS_MAX: usize = 16;

/// Whether a media type's bodies are JSON documents.
pub(super) fn is_json(essence: &str) -> bool {
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// Whether `byte` may stand in a token (RFC 9110).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn lower(text: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(text).ok()?;
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if upper { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) })
}

/// Splits `name=value` off the front of a parameter list: the value is a quoted string without escapes, or any visible
/// text up to a `;` (boundaries are often sent without the quotes that their characters need).
fn parameter(text: &[u8]) -> Option<(Parameter<'_>, &[u8])> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, rest) = (&text[..equals], &text[equals + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let end = quoted.iter().position(|byte| matches!(byte, b'"' | b'\\') || byte.is_ascii_control())?;
        return (quoted[end] == b'"').then_some(((name, &quoted[..end]), &quoted[end + 1..]));
    }
    let end = rest.iter().position(|byte| !byte.is_ascii_graphic() || *byte == b';').unwrap_or(rest.len());
    let value = &rest[..end];
    // A comma is the trace of two headers that were joined.
    let odd = |byte: &u8| matches!(byte, b',' | b'"' | b'\\');
    (!value.is_empty() && !value.iter().any(odd)).then_some(((name, value), &rest[end..]))
}

// === impl MediaType ===

impl<'a> MediaType<'a> {
    /// Reads a header's value; `None` where it is odd in any way.
    pub(super) fn parse(text: &'a [u8]) -> Option<MediaType<'a>> {
        if text == b"application/json" {
            return Some(MediaType { essence: Cow::Borrowed("application/json"), parameters: Vec::new() });
        }
        let text = text.trim_ascii();
        let end = text.iter().position(|byte| !is_token(*byte) && *byte != b'/').unwrap_or(text.len());
        let (essence, mut rest) = text.split_at(end);
        let slash = essence.iter().position(|byte| *byte == b'/')?;
        if slash == 0 || slash + 1 == essence.len() || essence[slash + 1..].contains(&b'/') {
            return None;
        }
        let mut media = MediaType { essence: lower(essence)?, parameters: Vec::new() };
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Some(media);
            }
            let ((name, value), after) = parameter(rest.strip_prefix(b";")?.trim_ascii_start())?;
            let name = lower(name)?;
            if media.parameter(&name).is_some() || media.parameters.len() == PARAMETERS_MAX {
                return None;
            }
            media.parameters.push((name, value));
            rest = after;
        }
    }

    /// A parameter's value, by its name in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Whether the text is UTF-8: said, or not said otherwise.
    pub(super) fn is_utf8(&self) -> bool {
        self.parameter("charset").is_none_or(|charset| {
            charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"utf8")
        })
    }

    /// The start of a meaning: kind, type, and the parameters that the kind has not used up.
    pub(super) fn head(&self, kind: Kind) -> Vec<u8> {
        let used = match kind {
            // Both are UTF-8 by definition, and `is_utf8` was asked: to say so adds nothing.
            Kind::Json | Kind::Graphql => "charset",
            Kind::Multipart => "boundary",
            Kind::Form | Kind::Raw => "",
        };
        let mut head = Vec::with_capacity(48);
        head.extend_from_slice(&[kind.tag(), b'=']);
        push_field(&mut head, self.essence.as_bytes());
        let counted = self.parameters.iter().filter(|(name, _)| name != used);
        head.push(counted.clone().count() as u8);
        for (name, value) in counted {
            push_field(&mut head, name.as_bytes());
            push_field(&mut head, value);
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_content_types_are_read() {
        let media = MediaType::parse(b"Application/JSON ; Charset=\"utf-8\"; v=2").expect("a media type");
        assert_eq!(media.essence, "application/json");
        assert!(media.is_utf8());
        assert_eq!(media.parameter("v"), Some(&b"2"[..]));
        let unquoted =
            MediaType::parse(b"multipart/form-data; boundary=----=_Part:1?").expect("a media type");
        assert_eq!(unquoted.parameter("boundary"), Some(&b"----=_Part:1?"[..]));
        assert!(!MediaType::parse(b"text/plain;charset=latin1").expect("a media type").is_utf8());
    }

    #[test]
    fn odd_content_types_are_not_guessed_at() {
        for odd in [
            "",
            "json",
            "/json",
            "a/",
            "a/b/c",
            "a/b;",
            "a/b; x",
            "a/b; x=",
            "a/b; x=\"1",
            "a/b; x=\"\\1\"",
            "a/b; x=1; X=2",
            "application/json, text/plain",
            "a/b; x=1, c/d",
            "a/b; x=1,c/d",
            "a/b c",
            "a/\u{e9}",
        ] {
            assert_eq!(MediaType::parse(odd.as_bytes()), None, "{odd}");
        }
        let many = (0..=PARAMETERS_MAX).map(|n| format!(";p{n}=1")).collect::<String>();
        assert_eq!(MediaType::parse(format!("a/b{many}").as_bytes()), None);
    }

    #[test]
    fn what_only_says_how_to_read_the_body_is_not_in_its_meaning_and_all_else_is() {
        let head = |text: &str, kind| MediaType::parse(text.as_bytes()).expect("a media type").head(kind);
        assert_eq!(head("application/json", Kind::Json), head("application/json;charset=UTF-8", Kind::Json));
        assert_ne!(head("application/json", Kind::Json), head("application/json;v=2", Kind::Json));
        assert_ne!(
            head("application/merge-patch+json", Kind::Json),
            head("application/json-patch+json", Kind::Json)
        );
        assert_eq!(
            head("multipart/form-data;boundary=a", Kind::Multipart),
            head("multipart/form-data;boundary=b", Kind::Multipart)
        );
        assert_ne!(
            head("multipart/form-data;boundary=a", Kind::Raw),
            head("multipart/form-data;boundary=b", Kind::Raw)
        );
        assert_ne!(head("text/plain;charset=a", Kind::Raw), head("text/plain;charset=b", Kind::Raw));
    }
}
