//! A body as something to take values from, for the selectors of the configuration. The same strict readers as for its
//! meaning: what could be read in two ways is not read at all, and whoever asked is told so.

use super::encoding::{self, Decoded};
use super::json::{self, Node, Paths};
use super::media::{self, MediaType};
use super::{BodyInput, Doubtful, form, multipart};

/// What can be found in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// There is no body.
    Empty,
    /// A JSON document; of a GraphQL request, its envelope.
    Json(Document),
    /// A form's fields as sent, names and values as the bytes that they stand for. A file is not a value: its field has none.
    Form(Vec<SentField>),
    /// Nothing can be taken from it without doubt; the sentence says why.
    Unreadable(&'static str),
}

/// A form's field: its name and its value.
pub type SentField = (Vec<u8>, Option<Vec<u8>>);

/// A JSON document in canonical text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(Vec<u8>);

/// Reads a body's fields. `decoded_bytes_max` bounds what an encoded one may decode to.
///
/// A body without a known media type, and a form that is no form, are JSON where they are JSON: `curl -d` says "form", a
/// beacon says "text", and a backend that does not look at the type reads them all the same. One that does look refuses
/// them, and then nothing was taken for long.
pub fn fields(input: &BodyInput<'_, '_>, decoded_bytes_max: usize) -> Fields {
    if input.body.is_empty() {
        return Fields::Empty;
    }
    let Decoded::Plain(body) = encoding::decode(input.content_encoding, input.body, decoded_bytes_max) else {
        return Fields::Unreadable("its content coding is unknown or broken, or it decodes to too much");
    };
    let media = input.content_type.and_then(MediaType::parse);
    let read = match media.as_ref().map(|media| &*media.essence) {
        Some("application/x-www-form-urlencoded") => form::fields(&body).map(Fields::Form),
        Some("multipart/form-data") => {
            let boundary = media.as_ref().and_then(|media| media.parameter("boundary")).ok_or(Doubtful);
            return match boundary.and_then(|boundary| multipart::fields(&body, boundary)) {
                Ok(fields) => Fields::Form(fields),
                Err(Doubtful) => Fields::Unreadable("it is no multipart form that every reader reads alike"),
            };
        }
        // It says what happens to fields, not what they are: its own shape is no place to look for them.
        Some("application/json-patch+json") => {
            return Fields::Unreadable("it is a JSON Patch, which names fields only by what it does to them");
        }
        Some(essence) if media::is_json(essence) => {
            return match document(&body) {
                Ok(document) => Fields::Json(document),
                Err(Doubtful) => {
                    Fields::Unreadable("it is no JSON that every reader reads alike (or a name comes twice)")
                }
            };
        }
        _ => Err(Doubtful),
    };
    let looks_like_json = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    match read {
        Ok(fields) if !looks_like_json => fields,
        read => match document(&body) {
            Ok(document) => Fields::Json(document),
            Err(Doubtful) => read.unwrap_or(Fields::Unreadable("it is neither JSON nor a form")),
        },
    }
}

fn document(body: &[u8]) -> Result<Document, Doubtful> {
    json::canonical(body, &Paths::default()).map(Document)
}

// === impl Document ===

impl Document {
    /// Reads a document; `None` where it is none, or two readers could read it in two ways.
    pub fn parse(text: &[u8]) -> Option<Document> {
        document(text).ok()
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node::root(&self.0)
    }

    /// The variables of a GraphQL request, where the document has the shape of one.
    pub fn variables(&self) -> Option<Node<'_>> {
        let root = self.root();
        root.member("query")?;
        root.member("variables").filter(|variables| variables.text().starts_with(b"{"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: Option<&str>, body: &[u8]) -> Fields {
        let content_type = content_type.map(str::as_bytes);
        fields(&BodyInput { content_type, content_encoding: None, query: None, body }, 1 << 20)
    }

    fn form(pairs: &[(&str, Option<&str>)]) -> Fields {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Fields::Form(pairs.iter().map(|(name, value)| (bytes(name), value.map(bytes))).collect())
    }

    #[test]
    fn bodies_are_read_as_what_they_say_they_are() {
        assert_eq!(read(None, b""), Fields::Empty);
        assert!(matches!(read(Some("application/json"), b" {\"a\": 1}"), Fields::Json(_)));
        assert_eq!(
            read(Some("application/x-www-form-urlencoded"), b"a=x+y&b&a=%31"),
            form(&[("a", Some("x y")), ("b", None), ("a", Some("1"))])
        );
        let parts = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n%\r\n--b--";
        assert_eq!(
            read(Some("multipart/form-data; boundary=b"), parts.as_bytes()),
            form(&[("a", Some("1")), ("f", None)])
        );
    }

    #[test]
    fn json_under_another_name_is_json() {
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("odd")]
        {
            assert!(matches!(read(content_type, b"{\"a\":1}"), Fields::Json(_)), "{content_type:?}");
        }
        assert!(matches!(read(Some("application/x-www-form-urlencoded"), b"a={1"), Fields::Form(_)));
    }

    #[test]
    fn what_two_readers_read_differently_is_not_read() {
        for (content_type, body) in [
            ("application/json", &b"{\"a\":1,\"A\":2}"[..]),
            ("application/json", b"{\"a\":1,}"),
            ("application/json", b"\xff"),
            ("application/x-www-form-urlencoded", b"a=1;b=2"),
            ("multipart/form-data; boundary=b", b"--b\r\n"),
            ("multipart/form-data", b"{}"),
            ("application/pdf", b"%PDF"),
            ("application/json-patch+json", b"[]"),
        ] {
            assert!(matches!(read(Some(content_type), body), Fields::Unreadable(_)), "{content_type}");
        }
        let encoded =
            BodyInput { content_type: None, content_encoding: Some(b"zstd"), query: None, body: b"{}" };
        assert!(matches!(fields(&encoded, 1 << 20), Fields::Unreadable(_)));
    }
}
