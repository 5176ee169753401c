//! The resource that a POST made, as far as its answer says which: by `Location`, or by the `id` of what it shows.

use super::exchange::Exchange;
use crate::domain::answer::Answer;
use crate::domain::canon::plain_end;
use crate::domain::ledger::TargetId;
use crate::domain::target::NormalTarget;
use http::Uri;
use http::header::{self, HeaderMap};
use std::borrow::Cow;

/// A body up to this size is looked at for the `id` of what it made.
const ID_LOOKED_FOR_MOST: usize = 64 << 10;

/// Containers of JSON inside each other that are looked through at most without the parser.
const DEPTH_MAX: u32 = 16;

/// Digits of a number that means the same however it is read.
const DIGITS_MAX: usize = 18;

/// The resource that a POST to `path` made, where its answer names one.
pub fn made(exchange: &Exchange, path: &str, (headers, answer): (&HeaderMap, &Answer)) -> Option<TargetId> {
    let named = location(headers, path).or_else(|| below(path, &answer.body()))?;
    let normal = NormalTarget::parse(&named).ok()?;
    Some(exchange.shared().digest.target_id(&exchange.pool().upstream.config.name, normal.resource()))
}

/// The path that `Location` names; one on another host names nothing that passes here.
fn location(answer: &HeaderMap, base: &str) -> Option<String> {
    let location = answer.get(header::LOCATION)?.to_str().ok()?;
    let path = match Uri::try_from(location) {
        Ok(uri) if location.starts_with('/') || uri.scheme().is_some() => uri.path().to_owned(),
        // Relative to the request's own directory (RFC 3986, 5.2).
        _ => {
            let directory = base.rfind('/').map_or("/", |at| &base[..=at]);
            format!("{directory}{}", location.split(['?', '#']).next().unwrap_or_default())
        }
    };
    NormalTarget::parse(&path).is_ok().then_some(path)
}

/// The path of what a POST made, where the answer says its `id`: the member of that name below the collection. Only used
/// to tell the members of a collection apart; where it is wrong, a later change of the member ends this record all the
/// same when the same caller makes it.
fn below(collection: &str, body: &[u8]) -> Option<String> {
    if body.first() != Some(&b'{') || body.len() > ID_LOOKED_FOR_MOST {
        return None;
    }
    let id = match Scan::new(body).and_then(Scan::id) {
        Ok(id) => id.map(Cow::Borrowed),
        Err(Unsure) => parsed_id(body).map(Cow::Owned),
    };
    Some([collection.trim_end_matches('/'), "/", &id?].concat())
}

/// The member `id` of any JSON object, as text.
fn parsed_id(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Made {
        id: serde_json::Value,
    }
    match serde_json::from_slice::<Made>(body).ok()?.id {
        serde_json::Value::Number(id) => Some(id.to_string()),
        serde_json::Value::String(id) if !id.is_empty() => Some(id),
        _ => None,
    }
}

/// Not plain enough for a look: the parser decides.
#[derive(Debug)]
struct Unsure;

/// A look through plain JSON, which most answers are: no escapes, whole numbers, few levels. What it says of a document is
/// what the parser would say; where that is not certain, it says nothing.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

// === impl Scan ===

impl<'a> Scan<'a> {
    fn new(body: &'a [u8]) -> Result<Scan<'a>, Unsure> {
        let text = std::str::from_utf8(body).map_err(|_| Unsure)?;
        Ok(Scan { text, at: 0 })
    }

    /// The member `id` of the object that the text is.
    fn id(mut self) -> Result<Option<&'a str>, Unsure> {
        let mut found = None;
        self.object(0, |name, value| match name {
            // Which of two would count is the parser's to say.
            "id" if found.is_some() => Err(Unsure),
            "id" => {
                found = Some(value);
                Ok(())
            }
            _ => Ok(()),
        })?;
        self.white_space();
        if self.at < self.text.len() {
            return Err(Unsure);
        }
        match found.map(|value| (value, value.as_bytes())) {
            Some((_, [b'0', _, ..])) => Err(Unsure),
            Some((value, [b'0'..=b'9', ..])) if value.len() <= DIGITS_MAX => Ok(Some(value)),
            Some((_, [b'0'..=b'9' | b'-', ..])) => Err(Unsure),
            Some((value, [b'"', _, .., b'"'])) => Ok(Some(&value[1..value.len() - 1])),
            _ => Ok(None),
        }
    }

    /// An object, from its brace. `see` gets names and the text of their values.
    fn object(
        &mut self,
        depth: u32,
        mut see: impl FnMut(&'a str, &'a str) -> Result<(), Unsure>,
    ) -> Result<(), Unsure> {
        self.expect(b'{')?;
        if self.next_is(b'}') {
            return Ok(());
        }
        loop {
            self.white_space();
            let name = self.string()?;
            self.white_space();
            self.expect(b':')?;
            self.white_space();
            let start = self.at;
            self.value(depth + 1)?;
            see(name, &self.text[start..self.at])?;
            if self.next_is(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, depth: u32) -> Result<(), Unsure> {
        self.expect(b'[')?;
        if self.next_is(b']') {
            return Ok(());
        }
        loop {
            self.white_space();
            self.value(depth + 1)?;
            if self.next_is(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn value(&mut self, depth: u32) -> Result<(), Unsure> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'0'..=b'9') => self.whole_number(),
            Some(b'{') if depth < DEPTH_MAX => self.object(depth, |_, _| Ok(())),
            Some(b'[') if depth < DEPTH_MAX => self.array(depth),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(Unsure),
        }
    }

    /// A string without escapes, from its quote to behind its end; what is between.
    fn string(&mut self) -> Result<&'a str, Unsure> {
        self.expect(b'"')?;
        let start = self.at;
        self.at = plain_end(self.text.as_bytes(), start);
        let end = self.at;
        self.expect(b'"')?;
        Ok(&self.text[start..end])
    }

    fn whole_number(&mut self) -> Result<(), Unsure> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match (self.peek(), self.text.as_bytes()[start], self.at - start) {
            (Some(b'.' | b'e' | b'E'), ..) | (_, b'0', 2..) => Err(Unsure),
            _ => Ok(()),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Unsure> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len()).ok_or(Unsure)
    }

    /// Whether `byte` comes behind white space; moves behind it.
    fn next_is(&mut self, byte: u8) -> bool {
        self.white_space();
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unsure> {
        match self.peek() == Some(byte) {
            true => {
                self.at += 1;
                Ok(())
            }
            false => Err(Unsure),
        }
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the look says, where it says anything.
    fn looked(body: &[u8]) -> Option<Option<String>> {
        Scan::new(body).and_then(Scan::id).ok().map(|id| id.map(str::to_owned))
    }

    #[test]
    fn plain_answers_need_no_parser() {
        for (body, id) in [
            (r#"{"id":17}"#, Some("17")),
            (r#"{ "ok" : true, "id" : "b-7" , "rows":[1,{"id":2},[]], "none":null}"#, Some("b-7")),
            (r#"{"name":"王小明","id":"é"}"#, Some("é")),
            (r#"{"id":""}"#, None),
            (r#"{"id":null}"#, None),
            (r#"{"id":{"id":1}}"#, None),
            (r#"{"ID":1,"data":{"id":2}}"#, None),
            ("{}\r\n", None),
        ] {
            assert_eq!(looked(body.as_bytes()), Some(id.map(str::to_owned)), "{body}");
            assert_eq!(parsed_id(body.as_bytes()), id.map(str::to_owned), "{body}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_parser() {
        for body in [
            r#"{"id":1,"id":2}"#,
            r#"{"id":01}"#,
            r#"{"id":1.0}"#,
            r#"{"id":-1}"#,
            r#"{"id":1e3}"#,
            r#"{"id":1234567890123456789}"#,
            r#"{"id":"a\"b"}"#,
            r#"{"\u0069d":1}"#,
            r#"{"id":1} x"#,
            r#"{"id":1"#,
            r#"{"id":1,}"#,
            r#"{"id":tru}"#,
            "{\"id\":\"\u{1}\"}",
        ] {
            assert_eq!(looked(body.as_bytes()), None, "{body}");
        }
        assert_eq!(below("/a/", br#"{"id":-1}"#).as_deref(), Some("/a/-1"));
        assert_eq!(below("/a", br#"{"id":"a\"b"}"#).as_deref(), Some("/a/a\"b"));
        assert_eq!(below("/a", br#"{"id":1,"id":2}"#), None);
        assert_eq!(below("/a", b"[1]"), None);
    }

    #[test]
    fn a_location_is_a_path_of_this_host() {
        let located = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::LOCATION, header::HeaderValue::from_static(text))]);
            location(&headers, "/bookings/new")
        };
        assert_eq!(located("/b/7?x").as_deref(), Some("/b/7"));
        assert_eq!(located("http://any.example/b/7").as_deref(), Some("/b/7"));
        assert_eq!(located("7#x").as_deref(), Some("/bookings/7"));
    }

    proptest! {
        #[test]
        fn the_look_says_what_the_parser_says(
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"id\"", "\"id\":", "\"a\":", "1", "0", "12", "-", ".5", "e1",
                    "\"x\"", "\"\"", "\"\\n\"", "true", "null", " ", "{}", "[]", "\"id\":7", "\"é\"",
                ]),
                0..12,
            ),
        ) {
            let body = format!("{{{}}}", pieces.concat());
            if let Some(looked) = looked(body.as_bytes()) {
                prop_assert_eq!(looked, parsed_id(body.as_bytes()), "{}", body);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
            }
        }
    }
}
