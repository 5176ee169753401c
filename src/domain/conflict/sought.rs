//! What a question to the backend has shown: the record that was looked for, or that there is none.

use crate::domain::canon::{Document, Fields, JsonPath, Node, Shape, Step};
use bytes::Bytes;
use http::StatusCode;

/// Where in an answer the record is that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought(pub JsonPath);

/// What one answer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The record is there: its JSON text.
    Found(Bytes),
    /// The backend says that there is none. Weak: it may not be there *yet*.
    Absent,
    /// The answer shows neither; the sentence says why.
    Nothing(String),
}

// === impl Sought ===

impl Sought {
    /// What the answer to a question shows. Only a success with a body that every reader reads alike shows a record, and
    /// only such a one, 404 or 410 shows that there is none: an error page is no evidence.
    pub fn look(&self, status: StatusCode, body: &Fields) -> Evidence {
        match (status, body) {
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Evidence::Absent,
            (status, _) if !status.is_success() => {
                Evidence::Nothing(format!("the backend answered {}", status.as_u16()))
            }
            (_, Fields::Json(document)) => match at(document, self.0.steps()) {
                Some(text) => Evidence::Found(Bytes::copy_from_slice(text)),
                None => Evidence::Absent,
            },
            (_, Fields::Unreadable(why)) => Evidence::Nothing(format!("its answer cannot be read: {why}")),
            (_, Fields::Empty | Fields::Form(_)) => Evidence::Nothing("its answer is no JSON".into()),
        }
    }
}

/// The JSON text at a path; null, an empty text, list or object are nothing.
fn at<'d>(document: &'d Document, steps: &[Step]) -> Option<&'d [u8]> {
    let mut node: Node<'d> = document.root();
    for step in steps {
        node = match step {
            Step::Name(name) => node.member(name)?,
            Step::Index(index) => node.elements().nth(*index)?,
            // The first of all that there are.
            Step::Every => node.elements().next()?,
        };
    }
    let nothing = matches!(node.shape(), Shape::Null) || matches!(node.text(), b"\"\"" | b"[]" | b"{}");
    (!nothing).then(|| node.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::canon::{BodyInput, fields};

    fn look(path: &str, status: u16, content_type: &str, body: &str) -> Evidence {
        let input = BodyInput {
            content_type: Some(content_type.as_bytes()),
            content_encoding: None,
            query: None,
            body: body.as_bytes(),
        };
        let status = StatusCode::from_u16(status).expect("a status");
        Sought(JsonPath::parse(path).expect("a path")).look(status, &fields(&input, 1 << 20))
    }

    #[test]
    fn a_record_is_found_as_it_is() {
        let body = r#"{"items":[{"id":9007199254740993,"name":"王医生"}],"total":1}"#;
        let found = look("$.items[0]", 200, "application/json", body);
        let text = r#"{"id":9007199254740993,"name":"王医生"}"#;
        assert_eq!(found, Evidence::Found(Bytes::from_static(text.as_bytes())));
        assert_eq!(look("$", 200, "application/json", "[1]"), Evidence::Found(Bytes::from_static(b"[1]")));
    }

    #[test]
    fn a_definite_no_is_told_from_no_answer() {
        for body in [r#"{"items":[]}"#, r#"{"items":null}"#, "{}", r#"{"items":[null]}"#, r#"{"items":[{}]}"#]
        {
            assert_eq!(look("$.items[0]", 200, "application/json", body), Evidence::Absent, "{body}");
        }
        assert_eq!(look("$", 404, "text/html", "<p>no</p>"), Evidence::Absent);
        for (status, content_type, body) in [
            (500, "application/json", r#"{"items":[]}"#),
            (302, "text/html", ""),
            (401, "application/json", "{}"),
            (200, "text/html", "<p>sign in</p>"),
            (200, "application/json", ""),
            (200, "application/json", r#"{"items":[],"items":[1]}"#),
        ] {
            let shown = look("$.items[0]", status, content_type, body);
            assert!(matches!(shown, Evidence::Nothing(_)), "{status} {body}: {shown:?}");
        }
    }
}
