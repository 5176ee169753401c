//! Request bodies as a legacy backend understands them: JSON, form or multipart become the same flat fields.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

/// The fields of a body.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub Map<String, Value>);

// === impl Fields ===

impl Fields {
    /// Understands `body` by its Content-Type.
    ///
    /// # Errors
    /// What is wrong with it, for the answer.
    pub async fn read(headers: &HeaderMap, body: &Bytes) -> Result<Fields, String> {
        let kind =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
        if kind.starts_with("application/x-www-form-urlencoded") {
            let pairs = form_urlencoded::parse(body);
            return Ok(Fields(
                pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect(),
            ));
        }
        if kind.starts_with("multipart/") {
            return Fields::read_multipart(kind, body.clone()).await.map_err(|error| error.to_string());
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err("the body is not an object".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn read_multipart(kind: &str, body: Bytes) -> Result<Fields, multer::Error> {
        let whole = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
        let mut parts = multer::Multipart::new(whole, multer::parse_boundary(kind)?);
        let mut fields = Map::new();
        while let Some(part) = parts.next_field().await? {
            let name = part.name().unwrap_or_default().to_owned();
            fields.insert(name, String::from_utf8_lossy(&part.bytes().await?).into_owned().into());
        }
        Ok(Fields(fields))
    }

    /// A field as text, however it was sent; empty where it is absent.
    pub fn text(&self, name: &str) -> String {
        match self.0.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// Whether a field says yes.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.text(name).as_str(), "true" | "1" | "on")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_encoding_gives_the_same_fields() {
        let multipart = "--b1\r\nContent-Disposition: form-data; name=\"confirm\"\r\n\r\ntrue\r\n\
                         --b1\r\nContent-Disposition: form-data; name=\"who\"\r\n\r\n王 芳\r\n--b1--\r\n";
        let bodies = [
            ("application/json; charset=utf-8", r#"{"confirm": true, "who": "王 芳"}"#),
            ("application/x-www-form-urlencoded", "who=%E7%8E%8B+%E8%8A%B3&confirm=true"),
            ("multipart/form-data; boundary=b1", multipart),
        ];
        for (kind, body) in bodies {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().expect("a header value"));
            let fields = Fields::read(&headers, &Bytes::from_static(body.as_bytes())).await.expect(kind);
            assert_eq!((fields.text("who").as_str(), fields.flag("confirm")), ("王 芳", true), "{kind}");
        }
    }
}
