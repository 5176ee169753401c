//! For how long a kept answer may be used (RFC 9111, 4.2; RFC 5861): what the backend says counts, and where it says
//! nothing the route.

use super::directives::{Directives, seconds};
use crate::domain::time::Millis;
use http::header::{self, HeaderMap, HeaderName};
use std::time::{Duration, UNIX_EPOCH};

/// What a route says about keeping answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// How long an answer is fresh whose backend says nothing about it.
    pub ttl: Duration,
    /// `ttl` counts whatever the backend says.
    pub overrides: bool,
    /// How long after that a copy stands in for a failing backend.
    pub stale_if_error: Duration,
    /// How long after that a copy is given while it is asked for anew.
    pub stale_while_revalidate: Duration,
}

/// How long one answer may be used, counted from its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How old it was when it came, as far as caches before this one and the backend's clock tell.
    pub age: Duration,
    /// It is fresh for so long.
    pub fresh: Duration,
    /// Behind that: how long it stands in for a failing backend.
    pub stale_if_error: Duration,
    /// Behind that: how long it is given while it is asked for anew.
    pub stale_while_revalidate: Duration,
    /// Stale, it must not be given to anybody, whatever they would accept.
    pub strict: bool,
}

/// How a kept answer stands with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be given.
    Fresh,
    /// It may be given now, and is asked for anew behind the client's back.
    Refresh,
    /// It has to be asked for anew first.
    Stale,
}

// === impl Lifetime ===

impl Lifetime {
    /// Of an answer with these headers that arrived at `received`, `delay` after it was asked for.
    pub fn of(headers: &HeaderMap, keeping: &Keeping, received: Millis, delay: Duration) -> Lifetime {
        let says = Directives::of_answer(headers);
        let told = told_age(headers) + delay;
        let dated = received.since(date(headers, &header::DATE).unwrap_or(received));
        let age = if told_age(headers).is_zero() && dated < Duration::from_secs(1) {
            Duration::ZERO
        } else {
            told.max(dated)
        };
        let expires = !says.targeted && headers.contains_key(header::EXPIRES);
        let (fresh, strict) = if keeping.overrides {
            (keeping.ttl, false)
        } else if says.no_cache {
            (Duration::ZERO, true)
        } else if let Some(lifetime) = says.s_maxage.or(says.max_age) {
            (Duration::from_secs(lifetime).saturating_sub(age), says.forbid_stale())
        } else if expires {
            (expiry(headers, received).saturating_sub(age), says.forbid_stale())
        } else {
            (keeping.ttl, says.forbid_stale())
        };
        let behind = |told: Option<u64>, configured: Duration| match told {
            _ if strict => Duration::ZERO,
            Some(told) if !keeping.overrides => Duration::from_secs(told),
            _ => configured,
        };
        Lifetime {
            age,
            fresh,
            stale_if_error: behind(says.stale_if_error, keeping.stale_if_error),
            stale_while_revalidate: behind(says.stale_while_revalidate, keeping.stale_while_revalidate),
            strict,
        }
    }

    /// How old the answer is, so long after it came.
    pub fn age_after(&self, kept: Duration) -> Duration {
        self.age + kept
    }

    /// How it stands with a request that says `wants`, so long after it came.
    pub fn standing(&self, kept: Duration, wants: &Directives) -> Standing {
        let left = self.fresh.saturating_sub(kept);
        let wanted = |seconds: u64| Duration::from_secs(seconds);
        if wants.no_cache || wants.max_age.is_some_and(|most| self.age_after(kept) > wanted(most)) {
            return Standing::Stale;
        }
        if wants.min_fresh.is_some_and(|least| left < wanted(least)) {
            return Standing::Stale;
        }
        if !left.is_zero() {
            return Standing::Fresh;
        }
        let over = kept.saturating_sub(self.fresh);
        if self.strict {
            Standing::Stale
        } else if wants.max_stale.is_some_and(|most| over <= wanted(most)) {
            Standing::Fresh
        } else if over < self.stale_while_revalidate {
            Standing::Refresh
        } else {
            Standing::Stale
        }
    }

    /// Whether it stands in for a backend that fails, so long after it came.
    pub fn stands_in(&self, kept: Duration) -> bool {
        kept < self.fresh.saturating_add(self.stale_if_error)
    }

    /// Whether it may be given to a caller who has to wait for its turn, where a copy younger than `limit` will do.
    pub fn is_younger(&self, kept: Duration, limit: Duration) -> bool {
        kept < self.fresh || (!self.strict && self.age_after(kept) < limit)
    }
}

/// What the caches before this one say; one that cannot be read says nothing.
fn told_age(headers: &HeaderMap) -> Duration {
    let first = headers.get(header::AGE).map(|value| value.as_bytes());
    let text = first.map(|text| text.split(|&b| b == b',').next().unwrap_or_default().trim_ascii());
    Duration::from_secs(text.and_then(seconds).unwrap_or(0).min(u64::from(u32::MAX)))
}

/// The lifetime that `Expires` gives: from `Date`, or from the arrival. Several, or one that is no date, are over.
fn expiry(headers: &HeaderMap, received: Millis) -> Duration {
    let mut lines = headers.get_all(header::EXPIRES).iter();
    if lines.next().is_none() || lines.next().is_some() {
        return Duration::ZERO;
    }
    let begins = date(headers, &header::DATE).unwrap_or(received);
    date(headers, &header::EXPIRES).map_or(Duration::ZERO, |ends| ends.since(begins))
}

/// A header's date; none before 1970.
pub(super) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<Millis> {
    let text = headers.get(name)?.to_str().ok()?;
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Millis(0).after(since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NOW: Millis = Millis(1_700_000_000_000);
    const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const KEEPING: Keeping = Keeping {
        ttl: Duration::from_secs(2),
        overrides: false,
        stale_if_error: Duration::from_secs(30),
        stale_while_revalidate: Duration::from_secs(5),
    };

    fn lifetime(headers: &[(&'static str, &'static str)], keeping: &Keeping) -> Lifetime {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Lifetime::of(&map, keeping, NOW, Duration::ZERO)
    }

    fn fresh(headers: &[(&'static str, &'static str)]) -> u64 {
        lifetime(headers, &KEEPING).fresh.as_secs()
    }

    #[test]
    fn the_routes_ttl_counts_where_the_backend_is_silent() {
        assert_eq!(fresh(&[]), 2);
        assert_eq!(fresh(&[("date", DATE), ("cache-control", "public")]), 2);
        assert_eq!(fresh(&[("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")]), 2);
        // A backend whose clock is wrong says nothing about freshness either.
        assert_eq!(fresh(&[("date", "Tue, 14 Nov 2023 20:13:20 GMT")]), 2);
    }

    #[test]
    fn what_the_backend_says_counts_before_it() {
        for (headers, expected) in [
            (vec![("cache-control", "max-age=60")], 60),
            (vec![("cache-control", "max-age=60, s-maxage=10")], 10),
            (vec![("cache-control", "no-cache")], 0),
            (vec![("pragma", "no-cache")], 0),
            (vec![("cache-control", "max-age=60"), ("expires", "0")], 60),
            (vec![("cache-control", "max-age=60"), ("age", "45")], 15),
            (vec![("cache-control", "max-age=60"), ("date", "Tue, 14 Nov 2023 22:13:00 GMT")], 40),
            (vec![("expires", "Tue, 14 Nov 2023 22:14:00 GMT"), ("date", DATE)], 40),
            (vec![("expires", "Tue, 14 Nov 2023 22:14:00 GMT")], 40),
            (vec![("expires", "Tuesday, 14-Nov-23 22:14:00 GMT"), ("date", DATE)], 40),
            (vec![("expires", "0")], 0),
            (vec![("expires", "-1")], 0),
            (vec![("expires", "Tue, 14 Nov 2023 22:14:00 GMT"), ("expires", "0")], 0),
        ] {
            assert_eq!(fresh(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn override_counts_always() {
        let keeping = Keeping { overrides: true, ..KEEPING };
        for says in ["max-age=60", "no-cache", "must-revalidate, max-age=0"] {
            let lifetime = lifetime(&[("cache-control", says)], &keeping);
            assert_eq!((lifetime.fresh.as_secs(), lifetime.strict), (2, false), "{says}");
        }
    }

    #[test]
    fn what_must_be_asked_for_is_never_given_stale() {
        for says in ["max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "s-maxage=1", "no-cache"] {
            let lifetime = lifetime(&[("cache-control", says)], &KEEPING);
            assert!(lifetime.strict, "{says}");
            assert!(!lifetime.stands_in(Duration::from_secs(3)), "{says}");
            assert!(!lifetime.is_younger(Duration::from_secs(3), Duration::from_secs(60)), "{says}");
            let any = Directives { max_stale: Some(u64::MAX), ..Directives::default() };
            assert_eq!(lifetime.standing(Duration::from_secs(3), &any), Standing::Stale, "{says}");
        }
    }

    #[test]
    fn a_copy_stands_as_the_client_wants_it() {
        let lifetime = lifetime(&[("cache-control", "max-age=10"), ("age", "4")], &KEEPING);
        let at = |kept: u64, wants: Directives| lifetime.standing(Duration::from_secs(kept), &wants);
        let any = Directives::default();
        assert_eq!([at(5, any), at(6, any), at(10, any), at(11, any)], {
            use Standing::{Fresh, Refresh, Stale};
            [Fresh, Refresh, Refresh, Stale]
        });
        assert_eq!(at(1, Directives { no_cache: true, ..any }), Standing::Stale);
        assert_eq!(at(1, Directives { max_age: Some(5), ..any }), Standing::Fresh);
        assert_eq!(at(2, Directives { max_age: Some(5), ..any }), Standing::Stale);
        assert_eq!(at(1, Directives { min_fresh: Some(5), ..any }), Standing::Fresh);
        assert_eq!(at(2, Directives { min_fresh: Some(5), ..any }), Standing::Stale);
        assert_eq!(at(12, Directives { max_stale: Some(6), ..any }), Standing::Fresh);
        assert_eq!(at(13, Directives { max_stale: Some(6), ..any }), Standing::Stale);
    }

    #[test]
    fn a_copy_stands_in_for_a_failing_backend_for_a_while() {
        let lifetime = lifetime(&[], &KEEPING);
        assert!(lifetime.stands_in(Duration::from_secs(31)) && !lifetime.stands_in(Duration::from_secs(32)));
        let told = super::tests::lifetime(&[("cache-control", "max-age=1, stale-if-error=3")], &KEEPING);
        assert!(told.stands_in(Duration::from_secs(3)) && !told.stands_in(Duration::from_secs(4)));
    }

    #[test]
    fn the_time_that_the_answer_took_makes_it_older() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AGE, HeaderValue::from_static("3"));
        let lifetime = Lifetime::of(&headers, &KEEPING, NOW, Duration::from_secs(2));
        assert_eq!(lifetime.age_after(Duration::from_secs(1)).as_secs(), 6);
    }
}
