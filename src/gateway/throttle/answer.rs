//! What limits say in answers: where the client stands, when it may come back, and that a page's script may read both.

use super::buckets::Stand;
use crate::config::ThrottlePolicy;
use crate::gateway::headers::{RATELIMIT, RATELIMIT_POLICY, append_to_list};
use bytes::Bytes;
use http::HeaderName;
use http::header::{self, HeaderMap, HeaderValue};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What a script may read of an answer beyond the few headers that it always may.
const EXPOSED: &str = "RateLimit, RateLimit-Policy, Retry-After";
const EXPOSED_WITH_X: &str =
    "RateLimit, RateLimit-Policy, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset";

/// What an exchange's answer says of its limits.
pub struct Notice {
    /// Where the client stands.
    pub stand: Stand,
    /// Who shows the page that asks, where a browser says so.
    pub origin: Option<HeaderValue>,
}

/// Which pages a route's backend lets read its answers, as its answers have said: then they may read the gateway's
/// refusals, too.
#[derive(Default)]
pub struct Origins {
    known: Mutex<Vec<Known>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Known {
    origin: HeaderValue,
    /// `*` or the origin itself.
    allowed: HeaderValue,
    credentials: bool,
}

/// Pages that one route remembers; beyond them the oldest is forgotten.
const ORIGINS_MAX: usize = 32;
/// What is behind the text of `RateLimit` at most: two numbers, and what is between and behind them.
const NUMBERS_LONGEST: usize = 48;
/// A longer origin is none.
const ORIGIN_LONGEST: usize = 512;

// === impl Notice ===

impl Notice {
    /// Adds the headers to an answer that came from the backend, and learns from it who may read.
    pub fn tell(
        &self,
        throttle: &ThrottlePolicy,
        origins: &Origins,
        headers: &mut HeaderMap,
        lines: Option<&mut Vec<u8>>,
    ) {
        self.limits(throttle, headers, lines);
        let Some(origin) = &self.origin else { return };
        if origins.hear(origin, headers) {
            append_to_list(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed(throttle).as_bytes());
        }
    }

    /// The same for a refusal of the gateway's own. A page that the backend lets read its answers may read this one; any
    /// other may, where it sends no credentials: there is nothing of the caller or the backend in it.
    pub fn tell_refused(
        &self,
        throttle: &ThrottlePolicy,
        origins: &Origins,
        headers: &mut HeaderMap,
        lines: Option<&mut Vec<u8>>,
    ) {
        self.limits(throttle, headers, lines);
        let Some(origin) = &self.origin else { return };
        let (allowed, credentials) = match origins.known(origin) {
            Some(known) => (known.allowed, known.credentials),
            None => (HeaderValue::from_static("*"), false),
        };
        let_read(headers, allowed, credentials, exposed(throttle));
    }

    fn limits(&self, throttle: &ThrottlePolicy, headers: &mut HeaderMap, lines: Option<&mut Vec<u8>>) {
        let Stand { limit, standing } = self.stand;
        match lines {
            Some(lines) => {
                let text = throttle.lines.get(limit).map_or("", String::as_str);
                if lines.capacity() == 0 {
                    *lines = Vec::with_capacity(text.len() + NUMBERS_LONGEST);
                }
                lines.extend_from_slice(text.as_bytes());
                self.standing(lines);
                lines.extend_from_slice(b"\r\n");
            }
            None => {
                headers.insert(RATELIMIT_POLICY, throttle.header.clone());
                let name = throttle.names.get(limit).map_or("", String::as_str);
                let mut text = [name, ";r="].concat().into_bytes();
                self.standing(&mut text);
                // The name was serialised as a structured field, so its bytes are those of a header's value.
                if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
                    headers.insert(RATELIMIT, value);
                }
            }
        }
        if throttle.x_ratelimit {
            let burst = throttle.rules.limits.get(limit).map_or(0, |limit| limit.burst());
            headers.insert(X_LIMIT, HeaderValue::from(burst));
            headers.insert(X_REMAINING, HeaderValue::from(standing.remaining));
            headers.insert(X_RESET, HeaderValue::from(ceil(standing.more_in)));
        }
    }

    /// The value of `RateLimit`, behind the limit's name.
    fn standing(&self, text: &mut Vec<u8>) {
        let Stand { standing, .. } = self.stand;
        decimal(standing.remaining, text);
        if standing.more_in > Duration::ZERO {
            text.extend_from_slice(b";t=");
            decimal(ceil(standing.more_in), text);
        }
    }
}

fn exposed(throttle: &ThrottlePolicy) -> &'static str {
    if throttle.x_ratelimit { EXPOSED_WITH_X } else { EXPOSED }
}

/// Lets the page that asked read an answer, and of its headers those that are `exposed`.
fn let_read(headers: &mut HeaderMap, allowed: HeaderValue, credentials: bool, exposed: &'static str) {
    if credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Adds a number's digits: every answer of a limited route has some, and formatting costs ten times as much.
pub fn decimal(mut number: u64, text: &mut Vec<u8>) {
    let mut room = [0; 20];
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            return text.extend_from_slice(&room[at..]);
        }
    }
}

fn ceil(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

// === impl Origins ===

impl Origins {
    /// Learns from a backend's answer whether this page may read it. False where the answer says nothing of that.
    pub fn hear(&self, origin: &HeaderValue, answer: &HeaderMap) -> bool {
        let allowed = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        allowed.inspect(|allowed| self.learn(origin, allowed, answer)).is_some()
    }

    /// Lets a page read a refusal, where the backend lets it read its answers. Nobody else: without limits, a refusal may be about
    /// what one caller holds.
    pub fn tell_refused(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        if let Some(known) = self.known(origin) {
            let_read(headers, known.allowed, known.credentials, "Retry-After");
        }
    }

    fn known(&self, origin: &HeaderValue) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|known| known.origin == *origin).cloned()
    }

    fn learn(&self, origin: &HeaderValue, allowed: &HeaderValue, answer: &HeaderMap) {
        if (allowed != "*" && allowed != origin) || origin.len() > ORIGIN_LONGEST {
            return;
        }
        let credentials =
            answer.get(header::ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some_and(|value| value == "true");
        // Copied: kept values must not pin the buffers that they were read into.
        let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.iter().position(|known| known.origin == *origin);
        if same.is_some_and(|at| known[at].allowed == *allowed && known[at].credentials == credentials) {
            return;
        }
        let (Ok(origin), Ok(allowed)) = (copy(origin), copy(allowed)) else { return };
        let learned = Known { origin, allowed, credentials };
        match same {
            Some(at) => known[at] = learned,
            None => {
                if known.len() >= ORIGINS_MAX {
                    known.remove(0);
                }
                known.push(learned);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policy;
    use crate::domain::throttle::Standing;

    fn policy(more: &str) -> Policy {
        let text = format!(
            "[[upstream]]\nname = \"a\"\nurl = \"http://127.0.0.1:8000\"\n[[route]]\nname = \"profile\"\nmatch = \"GET /a\"\nupstream = \"a\"\n[route.throttle]\nlimits = [\"1/2s burst 3\", \"10/min\"]\n{more}"
        );
        let loaded = crate::config::parse(&text, std::path::Path::new(""), &|_| None);
        Policy::compile(loaded.unwrap_or_else(|problems| panic!("{problems}")).config)
    }

    fn notice(origin: Option<&'static str>) -> Notice {
        let standing = Standing { remaining: 2, more_in: Duration::from_millis(3_100) };
        Notice { stand: Stand { limit: 1, standing }, origin: origin.map(HeaderValue::from_static) }
    }

    fn refused(policy: &Policy, origins: &Origins, origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let throttle = policy.routes()[0].throttle.as_ref().expect("throttled");
        notice(Some(origin)).tell_refused(throttle, origins, &mut headers, None);
        headers
    }

    fn answered(
        policy: &Policy,
        origins: &Origins,
        origin: &'static str,
        lines: &[(HeaderName, &'static str)],
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|(name, value)| drop(headers.insert(name, HeaderValue::from_static(value))));
        let throttle = policy.routes()[0].throttle.as_ref().expect("throttled");
        notice(Some(origin)).tell(throttle, origins, &mut headers, None);
        headers
    }

    #[test]
    fn the_headers_are_structured_fields() {
        let (policy, mut headers) = (policy("x_ratelimit = true"), HeaderMap::new());
        let throttle = policy.routes()[0].throttle.as_ref().expect("throttled");
        notice(None).tell(throttle, &Origins::default(), &mut headers, None);
        assert_eq!(headers[RATELIMIT], r#""profile:10/min";r=2;t=4"#);
        for name in [RATELIMIT, RATELIMIT_POLICY] {
            let parsed = sfv::Parser::new(headers[&name].as_bytes()).parse::<sfv::List>();
            assert!(parsed.is_ok_and(|list| !list.is_empty()), "{name}");
        }
        assert_eq!(
            (&headers[X_LIMIT], &headers[X_REMAINING], &headers[X_RESET]),
            (&"10".parse().expect("a value"), &"2".parse().expect("a value"), &"4".parse().expect("a value"))
        );
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "nobody asked");
    }

    #[test]
    fn lines_say_the_same_as_headers() {
        let (policy, mut headers, mut lines) = (policy(""), HeaderMap::new(), Vec::new());
        let throttle = policy.routes()[0].throttle.as_ref().expect("throttled");
        notice(None).tell(throttle, &Origins::default(), &mut headers, None);
        let text = |name: HeaderName| headers[name].to_str().expect("ASCII").to_owned();
        let expected =
            format!("RateLimit-Policy: {}\r\nRateLimit: {}\r\n", text(RATELIMIT_POLICY), text(RATELIMIT));
        let mut none = HeaderMap::new();
        notice(None).tell(throttle, &Origins::default(), &mut none, Some(&mut lines));
        assert_eq!((String::from_utf8(lines).expect("ASCII"), none.len()), (expected, 0));
    }

    #[test]
    fn numbers_are_written_as_ever() {
        for number in [0, 1, 9, 10, 99, 100, 1_000_000, u64::MAX] {
            let mut text = Vec::new();
            decimal(number, &mut text);
            assert_eq!(text, number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_page_that_may_read_the_backends_answers_may_read_the_refusal() {
        let (policy, origins) = (policy(""), Origins::default());
        let app = "https://app.example";
        let cors = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, app),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "X-Total"),
        ];
        let answer = answered(&policy, &origins, app, &cors);
        assert_eq!(answer[header::ACCESS_CONTROL_EXPOSE_HEADERS], format!("X-Total, {EXPOSED}"));
        let refusal = refused(&policy, &origins, app);
        assert_eq!(refusal[header::ACCESS_CONTROL_ALLOW_ORIGIN], app);
        assert_eq!(refusal[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(refusal[header::ACCESS_CONTROL_EXPOSE_HEADERS], EXPOSED);
        assert_eq!(refusal[header::VARY], "Origin");
    }

    #[test]
    fn any_other_page_may_only_without_credentials() {
        let (policy, origins) = (policy(""), Origins::default());
        // The backend answers, and does not let this page read it.
        let answer = answered(
            &policy,
            &origins,
            "https://evil.example",
            &[(header::ACCESS_CONTROL_ALLOW_ORIGIN, "https://app.example")],
        );
        assert!(answer.contains_key(header::ACCESS_CONTROL_EXPOSE_HEADERS));
        let refusal = refused(&policy, &origins, "https://evil.example");
        assert_eq!(refusal[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!refusal.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn what_is_learned_is_bounded() {
        let (policy, origins) = (policy(""), Origins::default());
        let throttle = policy.routes()[0].throttle.as_ref().expect("throttled");
        for n in 0..100 {
            let origin = HeaderValue::from_str(&format!("https://{n}.example")).expect("a value");
            let mut headers = HeaderMap::from_iter([(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())]);
            Notice { origin: Some(origin), ..notice(None) }.tell(throttle, &origins, &mut headers, None);
        }
        assert_eq!(origins.known.lock().expect("whole").len(), ORIGINS_MAX);
    }
}
