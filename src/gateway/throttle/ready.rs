//! Refusals of a route's limits, ready but for what differs from one to the next: a number of seconds, and the request's id.
//! They come in floods, and a refusal that is made anew costs more than all else that is done with its request.

use super::answer::decimal;
use crate::config::RoutePolicy;
use crate::domain::event::Decision;
use crate::domain::refusal::{Reason, Refusal};
use crate::gateway::body::ResponseBody;
use crate::gateway::exchange::{Exchange, Outcome};
use crate::gateway::respond::{self, NO_STORE, PROBLEM};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode, Version};
use std::time::Duration;

/// One limit's refusals, in pieces.
pub struct Ready {
    /// The head's lines up to the seconds, over HTTP/1.
    head: Box<[u8]>,
    /// The body, up to the seconds in its text.
    before: Box<[u8]>,
    /// From there up to the request's id.
    between: Box<[u8]>,
    /// From there up to the seconds again, behind which it ends.
    behind: Box<[u8]>,
}

/// What stands in a sample where something differs. JSON cannot have it as it is, so it is found by its escape.
const MARK: &str = "\0";
const ESCAPED: &str = "\\u0000";
/// How a sample's body ends: with its seconds, and the brace.
const END: &str = "0}";
/// The head of a refusal up to the seconds, in lines.
const HEAD: [&str; 5] = ["Content-Type: ", PROBLEM, "\r\nCache-Control: ", NO_STORE, "\r\nRetry-After: "];
/// Room for these lines, and for those with which limits speak, beside the route's own text in them.
const LINES_BYTES: usize = 256;

/// A refusal by a limit, whose `text` ends where its seconds stand.
pub fn refusal(text: &str, seconds: &str) -> Refusal {
    let detail = [text, seconds, " s. Asking before does not make it longer, and nothing was sent."].concat();
    Refusal::new(Reason::Throttled, detail)
}

/// The refusals of a route's limits, each at the place of its text.
pub fn of(route: &RoutePolicy) -> Vec<Option<Ready>> {
    let texts = route.throttle.iter().flat_map(|throttle| &throttle.texts);
    texts.map(|text| Ready::new(text, &route.name)).collect()
}

// === impl Ready ===

impl Ready {
    /// `None` where the names in it are so odd that the mark cannot be told from them.
    fn new(text: &str, route: &str) -> Option<Ready> {
        let sample = refusal(text, MARK).retry_after(Duration::ZERO);
        let body = String::from_utf8(respond::body(&sample, Some(route), MARK)).ok()?;
        let mut pieces = body.split(ESCAPED);
        let (before, between, behind) = (pieces.next()?, pieces.next()?, pieces.next()?.strip_suffix(END)?);
        let piece = |text: &str| text.as_bytes().into();
        let head = HEAD.concat().into_bytes().into();
        let ready = Ready { head, before: piece(before), between: piece(between), behind: piece(behind) };
        pieces.next().is_none().then_some(ready)
    }

    /// The answer of an exchange. Over HTTP/1 it has no header in its map, only lines.
    pub fn answer(&self, exchange: &Exchange, seconds: u64) -> Outcome {
        let policy = exchange.rules().throttle.as_ref().map_or(0, |throttle| throttle.header.len());
        // A limit's name is in its policy, too.
        let mut head = Vec::with_capacity(LINES_BYTES + 2 * policy);
        head.extend_from_slice(&self.head);
        let start = head.len();
        decimal(seconds, &mut head);
        let body = self.body(&head[start..], exchange.request_id.as_bytes());
        let mut response = Response::new(ResponseBody::whole(body));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let mut lines = Vec::new();
        if exchange.version == Version::HTTP_2 {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        } else {
            head.extend_from_slice(b"\r\n");
            lines = head;
        }
        Outcome { lines, ..Outcome::new(response, Decision::Refused(Reason::Throttled)) }
    }

    /// The body. An id has nothing that JSON would escape. Its length is known before, so it is never copied.
    fn body(&self, seconds: &[u8], request_id: &[u8]) -> Bytes {
        let pieces = [&self.before, seconds, &self.between, request_id, &self.behind, seconds, b"}"];
        let mut body = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| body.extend_from_slice(piece));
        Bytes::from(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_body_is_the_one_that_would_be_made() {
        for (text, route) in [
            ("The limit of 10/min for each client is used up; ask again in ", "profile"),
            ("姓 \"quoted\" \\ and a tab\t", "a \"b\" \\c"),
        ] {
            let ready = Ready::new(text, route).expect("pieces");
            for seconds in [0, 7, 3_600] {
                let refusal = refusal(text, &seconds.to_string()).retry_after(Duration::from_secs(seconds));
                let made = respond::body(&refusal, Some(route), "id-1");
                assert_eq!(ready.body(seconds.to_string().as_bytes(), b"id-1"), made);
            }
        }
    }

    #[test]
    fn what_looks_like_the_mark_is_made_anew_each_time() {
        assert!(Ready::new("a\0b", "c").is_none());
        assert!(Ready::new("a", "\\u0000").is_none());
    }
}
