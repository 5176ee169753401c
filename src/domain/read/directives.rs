//! `Cache-Control`, read the careful way (RFC 9111, 5.2): names in any case, quoted values, and where two lines contradict
//! each other or a number is none, what keeps less. And `CDN-Cache-Control` (RFC 9213), by which a backend speaks to the
//! caches that stand before it on its behalf: where that is valid, it counts instead.

use http::header::{self, HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// The directives of one message. Seconds are whole; what is larger than a number can hold is the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// They were addressed to this cache, so that `Expires` does not count either.
    pub targeted: bool,
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`, also where it names fields: leaving single fields out is more than is worth it.
    pub no_cache: bool,
    /// `private`, also where it names fields.
    pub private: bool,
    /// `public`
    pub public: bool,
    /// `must-revalidate`
    pub must_revalidate: bool,
    /// `proxy-revalidate`
    pub proxy_revalidate: bool,
    /// `only-if-cached`
    pub only_if_cached: bool,
    /// `max-age`
    pub max_age: Option<u64>,
    /// `s-maxage`
    pub s_maxage: Option<u64>,
    /// `min-fresh`
    pub min_fresh: Option<u64>,
    /// `max-stale`; without a value any staleness is welcome.
    pub max_stale: Option<u64>,
    /// `stale-if-error` (RFC 5861)
    pub stale_if_error: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861)
    pub stale_while_revalidate: Option<u64>,
}

/// `CDN-Cache-Control`
const TARGETED: HeaderName = HeaderName::from_static("cdn-cache-control");

// === impl Directives ===

impl Directives {
    /// The directives of an answer.
    pub fn of_answer(headers: &HeaderMap) -> Directives {
        Directives::targeted(headers).unwrap_or_else(|| Directives::of(headers))
    }

    /// The targeted directives; `None` where there are none, or where they are no structured field.
    fn targeted(headers: &HeaderMap) -> Option<Directives> {
        let lines: Vec<&[u8]> = headers.get_all(TARGETED).iter().map(|line| line.as_bytes()).collect();
        let list = Some(lines.join(&b", "[..])).filter(|list| !list.trim_ascii().is_empty())?;
        let dictionary = Parser::new(&list[..]).parse::<Dictionary>().ok()?;
        let mut all = Directives { targeted: true, ..Directives::default() };
        for (name, member) in &dictionary {
            let ListEntry::Item(item) = member else { continue };
            let name = name.as_str().as_bytes();
            match &item.bare_item {
                BareItem::Boolean(false) => {}
                BareItem::Integer(number) => {
                    let number = i64::from(*number).max(0);
                    all.take(&[name, b"=", number.to_string().as_bytes()].concat());
                }
                _ if is_lifetime(name) => return None,
                _ => all.take(name),
            }
        }
        Some(all)
    }

    /// The directives of a request, or what an answer says to every cache. `Pragma: no-cache` stands in where there is no `Cache-Control` (RFC 9111, 5.4).
    pub fn of(headers: &HeaderMap) -> Directives {
        let mut all = Directives::default();
        let mut lines = headers.get_all(header::CACHE_CONTROL).iter().peekable();
        if lines.peek().is_none() {
            let pragmas = headers.get_all(header::PRAGMA).iter();
            let mut words = pragmas.flat_map(|line| line.as_bytes().split(|&b| b == b','));
            all.no_cache = words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-cache"));
            return all;
        }
        for line in lines {
            let mut rest = line.as_bytes();
            while !rest.is_empty() {
                let (member, behind) = rest.split_at(end_of_member(rest));
                all.take(member);
                rest = behind.get(1..).unwrap_or_default();
            }
        }
        all
    }

    fn take(&mut self, member: &[u8]) {
        let (name, value) = match member.iter().position(|&b| b == b'=') {
            Some(at) => (member[..at].trim_ascii(), Some(member[at + 1..].trim_ascii())),
            None => (member.trim_ascii(), None),
        };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // Lifetimes that cannot be read are over; a willingness that cannot be read is none.
        let lifetime = || value.and_then(seconds).unwrap_or(0);
        match () {
            () if is("no-store") => self.no_store = true,
            () if is("no-cache") => self.no_cache = true,
            () if is("private") => self.private = true,
            () if is("public") => self.public = true,
            () if is("must-revalidate") => self.must_revalidate = true,
            () if is("proxy-revalidate") => self.proxy_revalidate = true,
            () if is("only-if-cached") => self.only_if_cached = true,
            () if is("max-age") => least(&mut self.max_age, lifetime()),
            () if is("s-maxage") => least(&mut self.s_maxage, lifetime()),
            () if is("stale-if-error") => least(&mut self.stale_if_error, lifetime()),
            () if is("stale-while-revalidate") => least(&mut self.stale_while_revalidate, lifetime()),
            () if is("max-stale") => {
                let any = if value.is_none() { u64::MAX } else { lifetime() };
                least(&mut self.max_stale, any);
            }
            () if is("min-fresh") => {
                let wanted = value.and_then(seconds).unwrap_or(u64::MAX);
                self.min_fresh = Some(self.min_fresh.unwrap_or(0).max(wanted));
            }
            () => {}
        }
    }

    /// Whether an answer says something of its own about how long it is fresh.
    pub fn speak_of_freshness(&self) -> bool {
        self.no_cache || self.max_age.is_some() || self.s_maxage.is_some()
    }

    /// Whether a stale copy must not be used without asking (RFC 9111, 5.2.2.2, 5.2.2.8, 5.2.2.10).
    pub fn forbid_stale(&self) -> bool {
        self.no_cache || self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some()
    }
}

fn is_lifetime(name: &[u8]) -> bool {
    matches!(name, b"max-age" | b"s-maxage" | b"stale-if-error" | b"stale-while-revalidate")
}

/// Where the first member of a list ends: at a comma that no quotes hold.
fn end_of_member(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

fn least(kept: &mut Option<u64>, value: u64) {
    *kept = Some(kept.map_or(value, |kept| kept.min(value)));
}

/// Whole seconds, plain or quoted.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: u64, &byte: &u8| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    Some(text.iter().fold(0, digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(lines: &[&'static str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_static(line));
        }
        Directives::of(&headers)
    }

    #[test]
    fn names_are_read_in_any_case_and_on_any_line() {
        let all = of(&["No-Store , MAX-AGE=3", "Private=\"a, no-cache\",public"]);
        assert!(all.no_store && all.private && all.public && !all.no_cache);
        assert_eq!(all.max_age, Some(3));
    }

    #[test]
    fn what_is_quoted_is_no_directive_of_its_own() {
        assert!(!of(&["x=\"a, no-store, \\\", no-cache\""]).no_store);
        assert!(of(&["x=\"a\", no-store"]).no_store);
        assert_eq!(of(&["x=\"max-age=9\""]).max_age, None);
    }

    #[test]
    fn of_two_lifetimes_the_shorter_counts_and_one_that_is_no_number_is_over() {
        assert_eq!(of(&["max-age=3600", "max-age=1"]).max_age, Some(1));
        for broken in ["max-age=-5", "max-age=", "max-age", "max-age=1.5", "max-age=a", "max-age='9'"] {
            assert_eq!(of(&[broken]).max_age, Some(0), "{broken}");
        }
        assert_eq!(of(&["max-age=\"60\""]).max_age, Some(60));
        assert_eq!(of(&["max-age=99999999999999999999999"]).max_age, Some(u64::MAX));
    }

    #[test]
    fn max_stale_without_a_value_welcomes_any() {
        assert_eq!(of(&["max-stale"]).max_stale, Some(u64::MAX));
        assert_eq!(of(&["max-stale=7"]).max_stale, Some(7));
        assert_eq!(of(&["max-stale=x"]).max_stale, Some(0));
        assert_eq!(of(&["min-fresh=x"]).min_fresh, Some(u64::MAX));
    }

    #[test]
    fn what_is_addressed_to_this_cache_counts_instead_where_it_is_valid() {
        let of = |targeted: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(TARGETED, HeaderValue::from_static(targeted));
            Directives::of_answer(&headers)
        };
        assert_eq!((of("max-age=60, foo").max_age, of("max-age=60").no_store), (Some(60), false));
        assert!(of("private").private && of("no-cache, x=?0").no_cache && of("no-store").targeted);
        for invalid in ["max-age=\"60\"", "max-age=60, &&&", "Max-Age=60", "max-age = 60", "max-age", ""] {
            assert_eq!(of(invalid), Directives { no_store: true, ..Directives::default() }, "{invalid}");
        }
    }

    #[test]
    fn pragma_counts_only_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(header::PRAGMA, HeaderValue::from_static("a, No-Cache"));
        assert!(Directives::of(&headers).no_cache);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        assert!(!Directives::of(&headers).no_cache);
    }
}
