//! A booking as a row of fields: what an operator asks about, or what the backend holds already.
//!
//! The fields are found by the same selectors as in a request. What a selector takes from elsewhere stands under the
//! selector's own text: `path:clinic`, `query:day`, `header:X-Branch`.

use crate::domain::canon::{Document, Fields};
use crate::domain::selector::Source;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// One row, ready to be looked into.
#[derive(Debug)]
pub struct Row {
    fields: Fields,
    headers: HeaderMap,
    path: Vec<(String, String)>,
    query: String,
}

/// Elements that the lists in one name may count to, together.
const INDEX_MOST: usize = 999;
/// Steps into a row that one name may take. Bodies of requests are no deeper than this by far, and a value that was nested
/// without a bound could not be taken apart again.
const STEPS_MOST: usize = 32;

/// Puts `value` where `name`, of a column or a parameter, says: `a.b[0].c` is what the selector `$.a.b[0].c` finds. A name
/// with a colon is a selector itself (`path:clinic`) and stays as it is. The error says what is wrong with the name.
pub fn put_field(row: &mut Value, name: &str, value: Value) -> Result<(), String> {
    let name = name.strip_prefix("$.").unwrap_or(name);
    let mut place = row;
    let words = if name.contains(':') { vec![name] } else { name.split('.').collect() };
    let read: Result<Vec<_>, _> = words.into_iter().map(indexes).collect();
    let steps = read?;
    let (count, counted) = steps.iter().fold((0, 0), |(count, counted), (_, indexes)| {
        (count + 1 + indexes.len(), counted + indexes.iter().sum::<usize>())
    });
    if count > STEPS_MOST || counted > INDEX_MOST {
        return Err(format!(
            "a name leads {STEPS_MOST} steps into a row and counts to {INDEX_MOST}, at most"
        ));
    }
    for (member, indexes) in steps {
        place = within(place, name)?.entry(member).or_insert(Value::Null);
        for index in indexes {
            if place.is_null() {
                *place = Value::Array(Vec::new());
            }
            let list = place.as_array_mut().ok_or_else(|| twice(name))?;
            list.resize(list.len().max(index + 1), Value::Null);
            place = &mut list[index];
        }
    }
    match place.is_null() {
        true => *place = value,
        false => return Err(twice(name)),
    }
    Ok(())
}

fn within<'v>(place: &'v mut Value, name: &str) -> Result<&'v mut Map<String, Value>, String> {
    if place.is_null() {
        *place = Value::Object(Map::new());
    }
    place.as_object_mut().ok_or_else(|| twice(name))
}

fn twice(name: &str) -> String {
    format!("{name} comes twice, or as a field and as what is in one")
}

/// `rooms[1][0]` as `rooms`, 1 and 0.
fn indexes(word: &str) -> Result<(&str, Vec<usize>), String> {
    let Some((member, rest)) = word.split_once('[').filter(|_| word.ends_with(']')) else {
        return Ok((word, Vec::new()));
    };
    let read = |digits: &str| digits.parse().ok().filter(|index| *index <= INDEX_MOST);
    let indexes: Option<_> = rest[..rest.len() - 1].split("][").map(read).collect();
    let indexes = indexes.ok_or_else(|| format!("{word} names no element from 0 to {INDEX_MOST}"))?;
    Ok((member, indexes))
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
    fn flat_names_are_put_where_selectors_look() {
        let mut row = Value::Null;
        for (name, value) in [
            ("a.b", "1"),
            ("$.a.c", "2"),
            ("items[1].id", "3"),
            ("items[0].id", "4"),
            ("path:x.y", "5"),
            ("m[0][1]", "6"),
        ] {
            put_field(&mut row, name, value.into()).expect("it has a place");
        }
        let expected = serde_json::json!({
            "a": {"b": "1", "c": "2"}, "items": [{"id": "4"}, {"id": "3"}], "path:x.y": "5", "m": [[null, "6"]]
        });
        assert_eq!(row, expected);
        let far = ["a.".repeat(32) + "a", "a".to_owned() + &"[0]".repeat(32), "x[500][500]".to_owned()];
        for wrong in &far {
            assert!(put_field(&mut row, wrong, "7".into()).is_err(), "{wrong}");
        }
        put_field(&mut row, &("b.".repeat(31) + "b"), "7".into()).expect("it has a place");
        for wrong in ["a", "a.b", "a.b.c", "items.id", "items[0]", "x[1000]", "x[]", "x[one]", "x[0]y]"] {
            assert!(put_field(&mut row, wrong, "7".into()).is_err(), "{wrong}");
        }
    }

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
