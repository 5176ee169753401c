//! A booking as a row of fields: what an operator asks about, or what the backend holds already.
//!
//! The fields are found by the same selectors as in a request. What a selector takes from elsewhere stands under the
//! selector's own text: `path:clinic`, `query:day`, `header:X-Branch`.

use crate::domain::canon::{Document, Fields};
use crate::domain::selector::Source;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// One row, ready to be looked into.
#[derive(Debug)]
pub struct Row {
    fields: Fields,
    headers: HeaderMap,
    path: Vec<(String, String)>,
    query: String,
}

// === impl Row ===

impl Row {
    /// Reads a JSON object; the error says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Row, String> {
        // The strict reader first: what it takes has no name twice.
        let fields = Document::parse(text).ok_or("it is no JSON object that every reader reads alike")?;
        let Ok(Value::Object(members)) = serde_json::from_slice(text) else {
            return Err("it is no JSON object".into());
        };
        let mut row = Row {
            fields: Fields::Json(fields),
            headers: HeaderMap::new(),
            path: Vec::new(),
            query: String::new(),
        };
        for (name, value) in &members {
            let Some((kind, name)) = name.split_once(':') else { continue };
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Null => continue,
                other => other.to_string(),
            };
            row.add(kind, name.trim(), &text)?;
        }
        Ok(row)
    }

    fn add(&mut self, kind: &str, name: &str, text: &str) -> Result<(), String> {
        let escaped =
            || percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        match kind {
            "path" => self.path.push((name.to_owned(), escaped())),
            "query" => {
                let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
                self.query.push_str(&format!(
                    "{}{name}={}",
                    if self.query.is_empty() { "" } else { "&" },
                    escaped()
                ));
            }
            "header" => {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| format!("`{name}` is no header's name"))?;
                let value = HeaderValue::from_bytes(text.as_bytes())
                    .map_err(|_| "a header's value has forbidden characters")?;
                self.headers.append(name, value);
            }
            // A field of the body whose name has a colon.
            _ => {}
        }
        Ok(())
    }

    /// Hands out the row as something that selectors look into.
    pub fn look<T>(&self, look: impl FnOnce(&Source<'_>) -> T) -> T {
        let path: Vec<(&str, &str)> =
            self.path.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        look(&Source { path: &path, query: Some(&self.query), headers: &self.headers, body: &self.fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::selector::{Found, Selector, Zone};

    #[test]
    fn a_row_has_its_fields_where_a_request_has_them() {
        let row = Row::parse(
            r#"{"a":{"b":5},"path:clinic":"c 1","query:d ay":"é","header:X-Branch":"west","x:y":1}"#
                .as_bytes(),
        );
        let row = row.expect("a row");
        for (selector, shown) in [
            ("$.a.b", "5"),
            ("path:clinic", "c 1"),
            ("query:d ay", "é"),
            ("header:X-Branch", "west"),
            ("$['x:y']", "1"),
        ] {
            let selector = Selector::parse(selector, &Zone::utc()).expect("a selector");
            let found = row.look(|source| selector.find(source));
            assert!(matches!(&found, Found::Value(value) if value.shown() == shown), "{selector}: {found:?}");
        }
        for wrong in ["[]", "{\"a\":1,\"A\":2}", "", "{\"header:a b\":1}"] {
            assert!(Row::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
