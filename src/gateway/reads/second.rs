//! A second reader of what a backend says about caching: the well-kept library. Where the two differ, the stricter
//! reading counts.

use crate::domain::read::{Directives, Keyed, Lifetime};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_cache_semantics::{CacheOptions, CachePolicy};
use std::time::{Duration, SystemTime};

/// Whether the library would keep an answer with these headers, and for how long at most.
fn second_opinion(
    headers: &HeaderMap,
    everyone: bool,
    authorization: bool,
    now: SystemTime,
) -> Option<Duration> {
    let says = Directives::of_answer(headers);
    let mut request = Request::new(());
    if everyone && authorization {
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("x"));
    }
    let mut response = Response::new(());
    for name in
        [header::CACHE_CONTROL, header::EXPIRES, header::DATE, header::AGE, header::PRAGMA, header::VARY]
    {
        for value in headers.get_all(&name) {
            let value = if name == header::CACHE_CONTROL { lowered(value) } else { value.clone() };
            response.headers_mut().append(&name, value);
        }
    }
    // `private` was weighed before; within a scope it is no reason not to keep.
    let options = CacheOptions { shared: everyone || !says.private, ..CacheOptions::default() };
    let policy = CachePolicy::new_options(&request, &response, now, options);
    policy.is_storable().then(|| policy.time_to_live(now))
}

/// The library compares directives as they are written.
fn lowered(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(&value.as_bytes().to_ascii_lowercase()).unwrap_or_else(|_| value.clone())
}

/// `lifetime` as far as the library agrees with it; `None` where the answer must not be kept. Asked only where the backend
/// speaks of freshness.
pub fn agreed(
    lifetime: Lifetime,
    headers: &HeaderMap,
    keyed: &Keyed<'_>,
    now: SystemTime,
) -> Option<Lifetime> {
    let says = Directives::of_answer(headers);
    // It does not know directives that are addressed to this cache alone.
    if says.targeted || (!says.speak_of_freshness() && !headers.contains_key(header::EXPIRES)) {
        return Some(lifetime);
    }
    let second = second_opinion(headers, keyed.everyone, keyed.authorization, now)?;
    // It counts whole seconds; one of them is no difference.
    Some(Lifetime { fresh: lifetime.fresh.min(second.saturating_add(Duration::from_secs(1))), ..lifetime })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::read::{Keeping, Standing};
    use crate::domain::time::Millis;
    use http::HeaderName;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn both(headers: &HeaderMap) -> (u64, Option<u64>) {
        let keeping = Keeping {
            ttl: Duration::ZERO,
            overrides: false,
            stale_if_error: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
        };
        let own = Lifetime::of(headers, &keeping, NOW, Duration::ZERO);
        let now = UNIX_EPOCH + Duration::from_millis(NOW.0);
        let second = second_opinion(headers, false, false, now);
        (own.fresh.as_secs(), second.map(|second| second.as_secs()))
    }

    #[test]
    fn a_lifetime_without_end_is_read_like_any_other() {
        static ID: HeaderName = HeaderName::from_static("x-request-id");
        let keyed = Keyed {
            everyone: true,
            shown: false,
            authorization: false,
            token_proves_it: false,
            credentials: &[],
            request_id: &ID,
        };
        for name in ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"] {
            for seconds in ["9223372036854775808", "18446744073709551615"] {
                let mut headers = HeaderMap::new();
                let says = format!("max-age={seconds}, {name}={seconds}");
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(&says).expect("a value"));
                let keeping = Keeping {
                    ttl: Duration::ZERO,
                    overrides: false,
                    stale_if_error: Duration::ZERO,
                    stale_while_revalidate: Duration::ZERO,
                };
                let own = Lifetime::of(&headers, &keeping, NOW, Duration::ZERO);
                let now = UNIX_EPOCH + Duration::from_millis(NOW.0);
                let agreed = agreed(own, &headers, &keyed, now).expect("it may be kept");
                let later = Duration::from_secs(86_400);
                assert_eq!(agreed.standing(later, &Directives::default()), Standing::Fresh, "{says}");
                assert!(agreed.stands_in(later) && agreed.is_younger(later, later), "{says}");
            }
        }
    }

    proptest! {
        /// What the two read alike they weigh alike; `no-cache` the library leaves to the moment of use.
        #[test]
        fn both_readers_agree_on_what_is_plainly_said(
            max_age in prop::option::of(0..5000u64),
            s_maxage in prop::option::of(0..5000u64),
            age in prop::option::of(0..5000u64),
        ) {
            let mut headers = HeaderMap::new();
            let mut says = Vec::new();
            says.extend(max_age.map(|seconds| format!("max-age={seconds}")));
            says.extend(s_maxage.map(|seconds| format!("s-maxage={seconds}")));
            if !says.is_empty() {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(&says.join(", ")).expect("a value"));
            }
            if let Some(age) = age {
                headers.insert(header::AGE, HeaderValue::from(age));
            }
            let (own, second) = both(&headers);
            prop_assert_eq!(Some(own), second);
        }
    }
}
