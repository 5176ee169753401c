//! Signs by which an answer is recognised: its status, and a text in its body.

use crate::domain::canon::decoded;
use http::StatusCode;
use http::header::{self, HeaderMap};
use regex::bytes::Regex;
use std::borrow::Cow;

/// So many bytes of an answer's body are looked at; an error says what it is about sooner.
pub const LOOKED_AT_MAX: usize = 64 << 10;

/// A regular expression over bytes. Matching takes time in proportion to what is looked at, whatever the expression.
#[derive(Clone, Debug)]
pub struct Text(Regex);

/// What an answer has to look like: one of these statuses and, where there is a text, that text in its body.
#[derive(Clone, Debug)]
pub struct Signs {
    /// Inclusive ranges of statuses.
    pub statuses: Vec<(u16, u16)>,
    /// What the body has to hold.
    pub text: Option<Text>,
}

// === impl Text ===

impl Text {
    /// Reads an expression; the error is a sentence for the operator.
    pub fn parse(text: &str) -> Result<Text, String> {
        // A larger one takes more memory than any sign of a conflict deserves.
        let regex = regex::bytes::RegexBuilder::new(text).size_limit(1 << 20).build();
        regex.map(Text).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large".into(),
            error => error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_str() == other.as_str()
    }
}

// === impl Signs ===

impl Signs {
    /// Whether an answer bears these signs. `body` is as much of it as was read, still encoded; a coding that cannot be
    /// undone hides every text.
    pub fn fit(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> bool {
        if !self.statuses.iter().any(|&(low, high)| (low..=high).contains(&status.as_u16())) {
            return false;
        }
        let Some(Text(text)) = &self.text else { return true };
        let encoding = headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes());
        let body = match encoding {
            None => Some(Cow::Borrowed(body)),
            Some(encoding) => decoded(Some(encoding), body, LOOKED_AT_MAX),
        };
        body.is_some_and(|body| text.is_match(&body[..body.len().min(LOOKED_AT_MAX)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn signs(text: Option<&str>) -> Signs {
        Signs {
            statuses: vec![(409, 409), (500, 500)],
            text: text.map(|text| Text::parse(text).expect("one")),
        }
    }

    fn fits(signs: &Signs, status: u16, body: &[u8]) -> bool {
        signs.fit(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), body)
    }

    #[test]
    fn status_and_text_have_to_fit_both() {
        let signs = signs(Some("23505|duplicate key"));
        assert!(fits(&signs, 500, b"ERROR: duplicate key value violates unique constraint"));
        assert!(fits(&signs, 409, b"SQLSTATE 23505 \xff"));
        assert!(!fits(&signs, 500, b"out of memory"));
        assert!(!fits(&signs, 503, b"duplicate key"));
        assert!(!fits(&signs, 500, b""));
    }

    #[test]
    fn without_a_text_the_status_alone_counts() {
        assert!(fits(&signs(None), 500, b""));
        assert!(!fits(&signs(None), 501, b""));
    }

    #[test]
    fn what_is_far_behind_is_not_looked_at() {
        let mut body = vec![b'x'; LOOKED_AT_MAX];
        body.extend_from_slice(b"duplicate key");
        assert!(!fits(&signs(Some("duplicate key")), 500, &body));
        assert!(fits(&signs(Some("duplicate key")), 500, &body[100..]));
    }

    #[test]
    fn an_encoded_answer_is_read_and_one_that_cannot_be_is_not_guessed_at() {
        use flate2::write::GzEncoder;
        use std::io::Write;
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(b"duplicate key").expect("into memory");
        let body = gzip.finish().expect("into memory");
        let encoded = |coding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            signs(Some("duplicate key")).fit(StatusCode::CONFLICT, &headers, &body)
        };
        assert!(encoded("gzip"));
        assert!(!encoded("zstd"));
    }

    #[test]
    fn an_expression_that_is_none_says_why() {
        assert!(Text::parse("a(").expect_err("not closed").contains("unclosed"));
        assert!(Text::parse("(a{999}){999}").is_err());
    }
}
