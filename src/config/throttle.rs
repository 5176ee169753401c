//! `[route.throttle]` and `[route.concurrency]`: as they were validated, and compiled, with everything about a route's limits
//! that is the same for every request.

use crate::config::model::{Config, Mode, StoreUrl};
use crate::domain::throttle::{Limit, Per, Throttle};
use http::HeaderValue;
use sfv::{BareItem, Item, ItemSerializer, Key, List, ListEntry, Parameters};
use std::sync::Arc;
use std::time::Duration;

/// `[route.throttle]`
#[derive(Clone, Debug)]
pub struct RouteThrottle {
    /// What is allowed, and what happens above it.
    pub rules: Throttle,
    /// `bucket`: routes that name the same one count together.
    pub bucket: Option<Arc<str>>,
    /// `allow`: addresses that are not counted.
    pub allow: Vec<ipnet::IpNet>,
    /// `storm`: so many equal reads before their turn, within a minute, are a storm.
    pub storm: u32,
    /// `x_ratelimit`: whether the older `X-RateLimit-*` headers are sent as well.
    pub x_ratelimit: bool,
}

/// `[route.concurrency]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// `per_client`: requests of one client at once.
    pub per_client: usize,
    /// `queue`: of each client, how many more wait for that.
    pub queue: usize,
    /// `wait`: how long each of them waits at most.
    pub wait: Duration,
}

/// How a route throttles.
#[derive(Debug)]
pub struct ThrottlePolicy {
    /// The rules.
    pub rules: Throttle,
    /// The limits, and behind them the same ones `umbrella` times as wide, for the address of a client that proves nothing.
    pub stack: Vec<Limit>,
    /// Names the bucket among those of other routes; routes with the same one count together.
    pub space: u64,
    /// Addresses that are not counted.
    pub allow: Vec<ipnet::IpNet>,
    /// So many equal reads before their turn are a storm.
    pub storm: u32,
    /// Whether `X-RateLimit-*` are sent as well.
    pub x_ratelimit: bool,
    /// Whether only observed.
    pub observed: bool,
    /// `RateLimit-Policy`: all limits.
    pub header: HeaderValue,
    /// What a refusal says of each limit of `stack`, and last of `hard`, up to the number of seconds.
    pub texts: Vec<String>,
    /// Each limit's name as a structured field's string, with which its `RateLimit` begins.
    pub names: Vec<String>,
    /// For each limit the header lines of an answer in which it has least left, up to how much that is.
    pub lines: Vec<String>,
}

// === impl ThrottlePolicy ===

impl ThrottlePolicy {
    pub(super) fn compile(index: usize, config: &Config) -> Option<ThrottlePolicy> {
        let route = config.routes.get(index)?;
        let throttle = route.throttle.as_ref()?;
        let is_shared = matches!(config.store.url, StoreUrl::Redis(_));
        let rules = counted(&throttle.rules, is_shared);
        let limits = &rules.limits;
        let shared = |other: usize| {
            let other = config.routes[other].throttle.as_ref();
            throttle.bucket.is_some() && other.is_some_and(|other| other.bucket == throttle.bucket)
        };
        let space = (0..index).find(|&other| shared(other)).unwrap_or(index) as u64;
        let name = throttle.bucket.as_ref().unwrap_or(&route.name);
        let wide = limits.iter().map(|limit| limit.times(config.clients.umbrella));
        let wide = wide.map(|limit| if is_shared { limit.in_micros() } else { limit });
        let items = limits.iter().map(|limit| policy_item(name, limit));
        let list: List = items.clone().map(ListEntry::Item).collect();
        let header = sfv::FieldType::serialize(&list).unwrap_or_default();
        let bare = |item: Item| ItemSerializer::new().bare_item(&item.bare_item).finish();
        let names: Vec<String> = items.map(bare).collect();
        let lines = |name| format!("RateLimit-Policy: {header}\r\nRateLimit: {name};r=");
        Some(ThrottlePolicy {
            stack: limits.iter().copied().chain(wide).collect(),
            space,
            allow: throttle.allow.clone(),
            storm: throttle.storm,
            x_ratelimit: throttle.x_ratelimit,
            observed: route.mode.unwrap_or(config.mode) == Mode::Observe,
            // A structured field has only bytes that a header's value may have.
            lines: names.iter().map(lines).collect(),
            header: HeaderValue::try_from(header).unwrap_or(HeaderValue::from_static("")),
            names,
            texts: texts(&rules, config.clients.umbrella),
            rules,
        })
    }
}

/// The rules as they are counted: a shared store's clock has whole microseconds.
fn counted(rules: &Throttle, is_shared: bool) -> Throttle {
    let mut rules = rules.clone();
    if is_shared {
        rules.limits.iter_mut().chain(&mut rules.hard).for_each(|limit| *limit = limit.in_micros());
    }
    rules
}

fn texts(rules: &Throttle, umbrella: u64) -> Vec<String> {
    let whose = match rules.per {
        Per::Client => "each client",
        Per::ClientResource => "each client and path",
        Per::Route => "everybody together",
    };
    let text =
        |limit: Limit, whose: &str| format!("The limit of {limit} for {whose} is used up; ask again in ");
    let own = rules.limits.iter().map(|limit| text(*limit, whose));
    let address = "all unproven clients of this address together";
    let wide = rules.limits.iter().map(|limit| text(limit.times(umbrella), address));
    own.chain(wide).chain(rules.hard.map(|hard| text(hard, whose))).collect()
}

/// One limit of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): `q` requests, which take `w` seconds to come
/// back. A burst is what a client may use at once, so that is the quota.
fn policy_item(name: &str, limit: &Limit) -> Item {
    // In whole milliseconds first: what one request takes is rounded up, so many of them take a little more than the window.
    let seconds = Duration::from_nanos(limit.depth()).as_millis().div_ceil(1000).max(1);
    let integer = |value: u64| sfv::Integer::try_from(value).unwrap_or(sfv::Integer::MAX);
    let mut params = Parameters::new();
    for (key, value) in [("q", limit.burst()), ("w", u64::try_from(seconds).unwrap_or(u64::MAX))] {
        if let Ok(key) = Key::from_string(key.to_owned()) {
            params.insert(key, BareItem::Integer(integer(value)));
        }
    }
    // Routes' names and limits are plain ASCII.
    let text = sfv::String::from_string(format!("{name}:{limit}")).unwrap_or_default();
    Item { bare_item: BareItem::String(text), params }
}

#[cfg(test)]
mod tests {
    use crate::config::Policy;
    use std::path::Path;

    fn policy(route: &str) -> Policy {
        let text = format!(
            "[[upstream]]\nname = \"a\"\nurl = \"http://127.0.0.1:8000\"\n[[route]]\nname = \"profile\"\nmatch = \"GET /a\"\nupstream = \"a\"\n[route.throttle]\n{route}"
        );
        let loaded = crate::config::parse(&text, Path::new(""), &|_| None);
        Policy::compile(loaded.unwrap_or_else(|problems| panic!("{problems}")).config)
    }

    #[test]
    fn limits_are_announced_as_structured_fields() {
        let policy = policy("limits = [\"1/2s burst 3\", \"10/min\"]");
        let throttle = policy.routes()[0].throttle.as_ref().expect("throttled");
        assert_eq!(throttle.header, r#""profile:1/2s burst 3";q=3;w=6, "profile:10/min";q=10;w=60"#);
        let odd = self::policy("limits = [\"3/2s\", \"7/min\"]");
        let odd = odd.routes()[0].throttle.as_ref().expect("throttled");
        assert_eq!(odd.header, r#""profile:3/2s";q=3;w=2, "profile:7/min";q=7;w=60"#);
        assert_eq!(throttle.names[1], r#""profile:10/min""#);
        assert_eq!(throttle.stack.len(), 4);
        assert_eq!(throttle.stack[3].burst(), 500);
    }

    #[test]
    fn routes_that_name_one_bucket_count_together() {
        let more = "[[route]]\nname = \"other\"\nmatch = \"GET /b\"\nupstream = \"a\"\n[route.throttle]\nlimits = \"10/min\"\n";
        let shared = policy(&format!("limits = \"10/min\"\nbucket = \"x\"\n{more}bucket = \"x\"\n"));
        let spaces = |policy: &Policy| {
            policy
                .routes()
                .iter()
                .filter_map(|route| Some(route.throttle.as_ref()?.space))
                .collect::<Vec<_>>()
        };
        assert_eq!(spaces(&shared), [0, 0]);
        assert_eq!(spaces(&policy(&format!("limits = \"10/min\"\n{more}"))), [0, 1]);
        assert_eq!(
            shared.routes()[1].throttle.as_ref().map(|throttle| throttle.names[0].as_str()),
            Some("\"x:10/min\"")
        );
    }
}
