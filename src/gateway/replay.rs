//! Replays: recorded answers as they go to copies of their request.
//!
//! Almost nothing of a recorded head is looked at again on its way out. So it goes out as ready lines, copied once, instead of
//! through a header map, in which each header would be hashed, parsed, allocated, spelled and copied anew.

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::headers::IDEMPOTENT_REPLAYED;
use super::respond::{self, PROBLEM};
use super::spelling;
use crate::domain::answer::Answer;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};

/// Whether a copy is answered from the record or from the attempt that it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// It came while the original was in flight: its answer is what the browser shows, cookies included.
    Waited,
    /// It came later.
    Late,
}

// === impl Exchange: replays ===

impl Exchange {
    /// A recorded answer as it goes to a copy, and the lines of its head that are none of its headers: status, end-to-end
    /// headers and body as they were; `Date` is made anew.
    pub fn replay(&self, answer: &Answer, copy: Copy) -> (Response<ResponseBody>, Vec<u8>) {
        // Limits have something to add to some of the headers, and HTTP/2 has no lines.
        let is_special = answer.is_tombstone() || answer.is_refusal();
        if self.version == Version::HTTP_2 || self.rules().throttle.is_some() || is_special {
            let not_kept = answer.is_tombstone().then(|| self.not_kept(answer.status()));
            return (replay(answer, copy, not_kept), Vec::new());
        }
        as_lines(answer, copy, &self.shared().policy.config().server.request_id_header)
    }

    /// What is said in the place of an answer that was too large to keep.
    fn not_kept(&self, status: StatusCode) -> Bytes {
        let request_id = self.request_id.to_str().unwrap_or_default();
        Bytes::from(respond::not_kept(status, &self.rules().name, request_id))
    }
}

/// A recorded answer for a copy. `not_kept`: what stands in the place of its body, where that is not there.
fn replay(answer: &Answer, copy: Copy, not_kept: Option<Bytes>) -> Response<ResponseBody> {
    let mut headers = answer.headers();
    if copy == Copy::Late {
        headers.remove(header::SET_COOKIE);
    }
    // Nothing was recorded: a refusal is told to all who waited, and is nobody's answer.
    if !answer.is_refusal() {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    let body = not_kept.inspect(|_| describe_problem(&mut headers)).unwrap_or_else(|| answer.body());
    response(answer.status(), headers, body)
}

/// The same, with all headers as lines but those that are looked at, `id` among them.
fn as_lines(answer: &Answer, copy: Copy, id: &HeaderName) -> (Response<ResponseBody>, Vec<u8>) {
    const REPLAYED: &[u8] = b"idempotent-replayed: true\r\n";
    let mut headers = HeaderMap::new();
    // A line needs no more than its header takes in the record.
    let mut lines = Vec::with_capacity(answer.fields_len() + REPLAYED.len());
    for (name, value) in answer.fields() {
        if (name == b"set-cookie" && copy == Copy::Late) || name == IDEMPOTENT_REPLAYED.as_str().as_bytes() {
            continue;
        }
        if is_looked_at(name) || name == id.as_str().as_bytes() || !is_line(name, value) {
            answer.put(&mut headers, name, value);
            continue;
        }
        for piece in [name, b": ", value, b"\r\n"] {
            lines.extend_from_slice(piece);
        }
    }
    lines.extend_from_slice(REPLAYED);
    spelling::spell(&mut lines, None);
    (response(answer.status(), headers, answer.body()), lines)
}

/// Whether something on the way out looks at a header of this name, so that it has to be among the headers.
fn is_looked_at(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection" | b"content-length" | b"date" | b"trailer" | b"transfer-encoding" | b"upgrade" | b"via"
    )
}

/// Whether these make a line and nothing else: a record that is not as it was written must not become two answers.
fn is_line(name: &[u8], value: &[u8]) -> bool {
    let odd_in_name = |byte: &u8| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let odd = |byte: u8| u8::from(byte < 0x20 && byte != b'\t') | u8::from(byte == 0x7f);
    !name.is_empty()
        && !name.iter().any(odd_in_name)
        && value.iter().fold(0, |found, byte| found | odd(*byte)) == 0
}

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The headers say what the body is that stands in the place of the recorded one.
fn describe_problem(headers: &mut HeaderMap) {
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ETAG, header::CONTENT_RANGE] {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::respond::record;

    const ID: HeaderName = HeaderName::from_static("x-request-id");

    fn answer(pairs: &[(&'static str, &'static str)]) -> Answer {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        record(StatusCode::CREATED, &pairs.iter().map(pair).collect(), Some(b"x"))
    }

    #[test]
    fn a_late_copy_gets_no_cookie_and_one_that_waited_does() {
        let answer = answer(&[("set-cookie", "session=1"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")]);
        assert!(!replay(&answer, Copy::Late, None).headers().contains_key(header::SET_COOKIE));
        let waited = replay(&answer, Copy::Waited, None);
        assert!(waited.headers().contains_key(header::SET_COOKIE));
        assert!(!waited.headers().contains_key(header::DATE), "made anew by the server");
        assert_eq!(waited.headers()[IDEMPOTENT_REPLAYED], "true");
        let lines = |copy| String::from_utf8(as_lines(&answer, copy, &ID).1).expect("ASCII");
        assert_eq!(lines(Copy::Late), "Idempotent-Replayed: true\r\n");
        assert_eq!(lines(Copy::Waited), "Set-Cookie: session=1\r\nIdempotent-Replayed: true\r\n");
    }

    #[test]
    fn a_refusal_that_a_copy_waited_for_is_no_replay() {
        let refusal = answer(&[("retry-after", "1")]).to_refusal();
        let refusal = Answer::from_bytes(refusal.as_bytes().clone()).expect("own bytes");
        let waited = replay(&refusal, Copy::Waited, None);
        assert!(!waited.headers().contains_key(IDEMPOTENT_REPLAYED));
        assert_eq!(waited.headers()["retry-after"], "1");
    }

    #[test]
    fn what_is_looked_at_stays_a_header_and_the_rest_becomes_lines_in_its_order() {
        let answer = answer(&[
            ("content-type", "application/json"),
            ("content-length", "1"),
            ("etag", "\"e\""),
            ("via", "1.1 old"),
            ("x-request-id", "old"),
            ("idempotent-replayed", "true"),
        ]);
        let (response, lines) = as_lines(&answer, Copy::Late, &ID);
        let names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "via", "x-request-id"]);
        let expected = "Content-Type: application/json\r\nEtag: \"e\"\r\nIdempotent-Replayed: true\r\n";
        assert_eq!(String::from_utf8(lines).expect("ASCII"), expected);
        assert_eq!(response.status(), StatusCode::CREATED);
    }

    #[test]
    fn what_is_no_line_never_becomes_one() {
        assert!(is_line(b"x-a_1", b"caf\xe9\t1"));
        for (name, value) in
            [(&b"x"[..], &b"1\r\nb: 2"[..]), (b"x", b"\x7f"), (b"", b"1"), (b"x:", b"1"), (b"X", b"1")]
        {
            assert!(!is_line(name, value), "{name:?}");
        }
    }
}
