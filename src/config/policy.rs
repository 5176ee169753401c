//! The compiled configuration: what one request reads. Immutable, shared by reference, and everything that a request
//! needs of its route is resolved once, here.

use crate::config::model::{
    Config, Idempotency, KeyRule, Mode, OnOutage, Route, RouteCache, Share, TargetSpelling,
};
use crate::config::race::{Detect, Lane, Recover, Retry};
use crate::config::slots::SlotRules;
use crate::config::throttle::{Concurrency, ThrottlePolicy};
use crate::domain::canon::{GraphqlRule, Rules};
use crate::domain::client::Identity;
use crate::domain::fingerprint::policy_version;
use crate::domain::ledger::PolicyVersion;
use crate::domain::read::Keeping;
use crate::domain::route::{Match, Router, is_safe};
use http::{HeaderName, Method};
use std::sync::Arc;
use std::time::Duration;

/// A body that is sent encoded is decoded for its fingerprint up to so many times the limit of the encoded one.
const DECODED_TIMES: usize = 8;

/// A configuration, compiled. A request holds one from its first step to its last.
#[derive(Debug)]
pub struct Policy {
    config: Config,
    router: Router,
    routes: Vec<RoutePolicy>,
}

/// One route with everything resolved.
#[derive(Debug)]
pub struct RoutePolicy {
    /// Its index in the file's order.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Its own mode, or the file's.
    pub mode: Mode,
    /// Bytes of a body that has to be read whole: its own limit, or the server's.
    pub body_limit: u64,
    /// To the response head, for guarded writes to the answer's last byte: its own, or the upstream's.
    pub timeout: Duration,
    /// Whether the backend gets a target as the client spelled it.
    pub keeps_target: bool,
    /// Protocols to which an unguarded request may switch its connection, in lower case.
    pub upgrade: Vec<String>,
    /// Present where it has `[route.throttle]`.
    pub throttle: Option<Box<ThrottlePolicy>>,
    /// Present where it has `[route.concurrency]`.
    pub concurrency: Option<Concurrency>,
    /// What it does with slots.
    pub slots: SlotRules,
    /// Present where answers of its reads are kept or shared.
    pub reads: Option<Reads>,
    /// Present where it has `[route.idempotency]`. Whether it guards one request, [`Taken::guard`] says.
    guard: Option<Guard>,
}

/// How a route guards.
#[derive(Debug)]
pub struct Guard {
    /// `[route.idempotency]`
    pub rules: Idempotency,
    /// `ignore` and `unordered`, compiled.
    pub meaning: Rules,
    /// Its own, or the store's.
    pub on_outage: OnOutage,
    /// Changes with every rule that shapes the fingerprint.
    pub version: PolicyVersion,
    /// `[route.lane]`
    pub lane: Option<Lane>,
    /// `[route.retry]`
    pub retry: Option<Retry>,
    /// `[route.recover]`
    pub recover: Option<Recover>,
    /// `[route.detect]`
    pub detect: Option<Detect>,
    /// `[[upstream]] pause`: for so long after the timeout what was sent may still take effect.
    pub pause: Duration,
    /// Whether what the gateway tells the backend is read on the way, too, so that it has to be among the headers.
    pub reads_what_is_told: bool,
}

/// How a route keeps and shares the answers of its reads.
#[derive(Debug)]
pub struct Reads {
    /// Equal reads at one moment are one call.
    pub coalesce: bool,
    /// `[route.cache]`
    pub cache: Option<RouteCache>,
    /// For how long.
    pub keeping: Keeping,
    /// Headers that name callers, beside the usual ones.
    pub credentials: Vec<HeaderName>,
}

/// The route that one request takes.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// The route.
    pub route: &'a RoutePolicy,
    /// How it is guarded. `None`: it only passes through.
    pub guard: Option<&'a Guard>,
    /// The pattern that matched, for [`Policy::named`].
    pub pattern: usize,
}

// === impl Policy ===

impl Policy {
    /// Compiles a validated configuration.
    pub fn compile(config: Config) -> Policy {
        let router = router(&config);
        let routes = config
            .routes
            .iter()
            .enumerate()
            .map(|(at, route)| RoutePolicy::new(at, route, &config))
            .collect();
        Policy { config, router, routes }
    }

    /// The configuration that it was compiled from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How long a record of any guarded route may be there: through a doubt, and as an answer behind it.
    pub fn longest_record(&self) -> Duration {
        let rules = self.routes.iter().filter_map(|route| Some(&route.guard.as_ref()?.rules));
        rules
            .map(|rules| rules.in_doubt_for + rules.remember.max(rules.remember_fingerprint))
            .max()
            .unwrap_or_default()
    }

    /// The longest time for which a guarded route remembers what has no key.
    pub fn longest_fingerprint_window(&self) -> Duration {
        longest_fingerprint_window(&self.config)
    }

    /// Whether any route keeps or shares answers, so that writes have something to end.
    pub fn shares_reads(&self) -> bool {
        self.routes.iter().any(|route| route.reads.is_some())
    }

    /// The routes, in the order of the file.
    pub fn routes(&self) -> &[RoutePolicy] {
        &self.routes
    }

    /// The pattern that a request's route has for it, as the file says it, for logs.
    pub fn template(&self, method: &Method, path: &str) -> Option<Arc<str>> {
        let found = self.route(method, path)?;
        let patterns = self.config.routes.iter().flat_map(|route| &route.patterns);
        patterns.skip(found.pattern).map(|pattern| pattern.to_string().into()).next()
    }

    /// The route for a request; `path` is in normal form, without its query. Allocates nothing.
    pub fn route(&self, method: &Method, path: &str) -> Option<Taken<'_>> {
        let found = self.router.find(method, path);
        let taken = found.and_then(|found| self.taken(method, found));
        match self.router.find_loosely(method, path, found) {
            None => taken,
            // What a backend may take for another path takes that one's route; a guard is never lost by that.
            Some(loose) => {
                let loose = self.taken(method, loose);
                let keeps_guard = |taken: &Taken| {
                    taken.guard.is_some() && loose.as_ref().is_none_or(|loose| loose.guard.is_none())
                };
                taken.filter(keeps_guard).or(loose)
            }
        }
    }

    fn taken(&self, method: &Method, found: Match) -> Option<Taken<'_>> {
        let route = self.routes.get(found.route)?;
        // A pattern guards the methods that it names, GET included. `*` names none, so it guards those that write:
        // answering a page's preflights and reads from the record is nobody's intent.
        let guarded = found.method_named || !is_safe(method);
        Some(Taken { route, guard: route.guard.as_ref().filter(|_| guarded), pattern: found.pattern })
    }

    /// The segments of `path` that the pattern of a [`Taken`] names; `path` is in normal form.
    pub fn named<'a>(&'a self, pattern: usize, path: &'a str) -> Vec<(&'a str, &'a str)> {
        self.router.named(pattern, path)
    }
}

/// Finds the routes of `config` by their places in the file.
pub(super) fn router(config: &Config) -> Router {
    let patterns = config.routes.iter().enumerate();
    let patterns =
        patterns.flat_map(|(at, route)| route.patterns.iter().map(move |pattern| (pattern.clone(), at)));
    Router::new(patterns.collect())
}

/// See [`Policy::longest_fingerprint_window`].
pub(super) fn longest_fingerprint_window(config: &Config) -> Duration {
    let rules = config.routes.iter().filter_map(|route| route.idempotency.as_ref());
    rules.map(|rules| rules.remember_fingerprint).max().unwrap_or_default()
}

// === impl Guard ===

impl Guard {
    /// Whether a request is needed again after it was sent: for another attempt, a question about it, a comparison.
    pub fn needs_request(&self) -> bool {
        self.retry.is_some() || self.recover.is_some() || self.detect.is_some()
    }
}

/// Whether a guarded request of `route` is looked at as the backend gets it, with what the gateway tells beside the client's
/// headers: where it is needed again, where a selector may name any header, or where a caller is known by one of them.
fn reads_what_is_told(route: &Route, config: &Config, slots: &SlotRules) -> bool {
    let told = |name: &str| {
        name.starts_with("x-forwarded-")
            || matches!(name, "forwarded" | "via")
            || name == config.server.request_id_header.as_str()
    };
    let named = |identity: &Identity| matches!(identity, Identity::Header(name) if told(name.as_str()));
    let clients = &config.clients;
    route.mode.unwrap_or(config.mode) != Mode::Enforce
        || route.lane.is_some()
        || route.retry.is_some()
        || route.recover.is_some()
        || route.detect.is_some()
        || !slots.is_empty()
        || clients.scope_by.iter().chain(&clients.identify_by).any(named)
}

// === impl RoutePolicy ===

impl RoutePolicy {
    fn new(index: usize, route: &Route, config: &Config) -> RoutePolicy {
        // The index was resolved when the file was read; an upstream that does not exist was an error there.
        let upstream = config.upstreams.get(route.upstream);
        let body_limit = route.body_limit.unwrap_or(config.server.body_limit);
        let decoded_bytes_max = decoded_bytes_max(body_limit);
        let slots = SlotRules::new(route, config);
        RoutePolicy {
            index,
            name: route.name.clone(),
            upstream: route.upstream,
            mode: route.mode.unwrap_or(config.mode),
            body_limit,
            timeout: upstream.map_or(Duration::ZERO, |upstream| route.timeout_at(upstream)),
            keeps_target: upstream.is_some_and(|upstream| upstream.target == TargetSpelling::Original),
            upgrade: route.upgrade.clone(),
            throttle: ThrottlePolicy::compile(index, config).map(Box::new),
            concurrency: route.concurrency,
            reads: Reads::new(route, config),
            guard: route.idempotency.as_ref().map(|rules| Guard {
                rules: rules.clone(),
                on_outage: rules.on_outage.unwrap_or(config.store.on_outage),
                meaning: Rules::new(&rules.ignore, &rules.unordered, decoded_bytes_max)
                    .with_graphql(rules.graphql),
                version: version(&route.name, rules, decoded_bytes_max),
                lane: route.lane.clone(),
                retry: route.retry.clone(),
                recover: route.recover.clone(),
                detect: route.detect.clone(),
                pause: config.upstreams.get(route.upstream).map_or(Duration::ZERO, |upstream| upstream.pause),
                reads_what_is_told: reads_what_is_told(route, config, &slots),
            }),
            slots,
        }
    }

    /// What an encoded body may decode to, where something has to be read in it.
    pub fn decoded_bytes_max(&self) -> usize {
        decoded_bytes_max(self.body_limit)
    }

    /// The rules of its guard, whatever the method.
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }
}

// === impl Reads ===

impl Reads {
    fn new(route: &Route, config: &Config) -> Option<Reads> {
        if !route.coalesce && route.cache.is_none() {
            return None;
        }
        let clients = &config.clients;
        let named =
            clients.scope_by.iter().chain(&clients.identify_by).filter_map(|identity| match identity {
                Identity::Header(name) => Some(name.clone()),
                Identity::Jwt(_) | Identity::Cookie(_) | Identity::Cert | Identity::Ip => None,
            });
        let cache = route.cache.as_ref();
        let keeping = Keeping {
            ttl: cache.map_or(Duration::ZERO, |cache| cache.ttl),
            overrides: cache.is_some_and(|cache| cache.overrides),
            stale_if_error: cache.map_or(Duration::ZERO, |cache| cache.stale_if_error),
            stale_while_revalidate: cache.map_or(Duration::ZERO, |cache| cache.stale_while_revalidate),
        };
        Some(Reads {
            coalesce: route.coalesce,
            cache: route.cache.clone(),
            keeping,
            credentials: named.collect(),
        })
    }

    /// Whether everyone may have an answer.
    pub fn everyone(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.share == Share::Everyone)
    }
}

pub(super) fn decoded_bytes_max(body_limit: u64) -> usize {
    usize::try_from(body_limit).unwrap_or(usize::MAX).saturating_mul(DECODED_TIMES)
}

/// A digest over the rules that shape a fingerprint: under other rules the same fingerprint may mean something else.
fn version(name: &str, rules: &Idempotency, decoded_bytes_max: usize) -> PolicyVersion {
    let key = match rules.key {
        KeyRule::Header => "header",
        KeyRule::Fingerprint => "fingerprint",
        KeyRule::HeaderOrFingerprint => "header-or-fingerprint",
    };
    let mut bytes = Vec::new();
    let mut part = |text: &str| {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    part(name);
    part(key);
    part(&decoded_bytes_max.to_string());
    for (list, paths) in [("ignore", &rules.ignore), ("unordered", &rules.unordered)] {
        // Their order means nothing, nor does naming one twice.
        let mut texts: Vec<_> = paths.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        texts.dedup();
        part(list);
        part(&texts.len().to_string());
        texts.iter().for_each(|text| part(text));
    }
    // What a file without it has always had stays the same.
    if rules.graphql == GraphqlRule::Off {
        part("graphql off");
    }
    policy_version(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn policy(routes: &str) -> Policy {
        let text = format!(
            "[[upstream]]\nname = \"a\"\nurl = \"http://127.0.0.1:8000\"\ntimeout = \"7s\"\n{routes}"
        );
        let loaded = crate::config::parse(&text, Path::new(""), &|_| None);
        Policy::compile(loaded.unwrap_or_else(|problems| panic!("{problems}")).config)
    }

    fn route(more: &str) -> String {
        named("r", more)
    }

    fn named(name: &str, more: &str) -> String {
        format!("[[route]]\nname = \"{name}\"\nmatch = \"POST /a\"\nupstream = \"a\"\n{more}\n")
    }

    fn version_of(rules: &str) -> PolicyVersion {
        version_named("r", rules)
    }

    fn version_named(name: &str, rules: &str) -> PolicyVersion {
        let policy = policy(&named(name, &format!("[route.idempotency]\n{rules}")));
        policy.routes()[0].guard().map(|guard| guard.version).expect("guarded")
    }

    #[test]
    fn routes_own_values_come_first() {
        let policy = policy(&format!(
            "{}{}",
            route(
                "mode = \"observe\"\nbody_limit = 10\ntimeout = \"1s\"\n[route.idempotency]\non_outage = \"forward\""
            ),
            "[[route]]\nname = \"s\"\nmatch = \"* /**\"\nupstream = \"a\"\n[route.idempotency]\n"
        ));
        let [own, inherited] = policy.routes() else { panic!("two routes") };
        assert_eq!((own.mode, own.body_limit, own.timeout), (Mode::Observe, 10, Duration::from_secs(1)));
        assert_eq!(own.guard().map(|guard| guard.on_outage), Some(OnOutage::Forward));
        assert_eq!((inherited.mode, inherited.body_limit), (Mode::Enforce, 1 << 20));
        assert_eq!(inherited.timeout, Duration::from_secs(7));
        assert_eq!(inherited.guard().map(|guard| guard.on_outage), Some(OnOutage::Refuse));
    }

    #[test]
    fn a_guard_covers_the_methods_that_its_patterns_name() {
        let policy = policy(
            "[[route]]\nname = \"r\"\nmatch = [\"GET /start\", \"* /api/**\"]\nupstream = \"a\"\n[route.idempotency]\n\
             [[route]]\nname = \"rest\"\nmatch = \"* /**\"\nupstream = \"a\"",
        );
        let guarded =
            |method: Method, path: &str| policy.route(&method, path).map(|taken| taken.guard.is_some());
        assert_eq!(guarded(Method::GET, "/start"), Some(true));
        assert_eq!(guarded(Method::HEAD, "/start/"), Some(true), "HEAD does not slip past a guarded GET");
        assert_eq!(guarded(Method::POST, "/api/x"), Some(true));
        assert_eq!(guarded(Method::from_bytes(b"LOCK").expect("a token"), "/api/x"), Some(true));
        assert_eq!(guarded(Method::GET, "/api/x"), Some(false), "`*` names no GET");
        assert_eq!(guarded(Method::OPTIONS, "/api/x"), Some(false));
        assert_eq!(guarded(Method::POST, "/start"), Some(false));
        let routes = policy.config().routes.iter();
        assert_eq!(routes.map(Route::lets_writes_through).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn version_changes_with_the_rules_that_shape_the_fingerprint_and_no_others() {
        let base = version_of("");
        for other in [
            "ignore = [\"$.a\"]",
            "unordered = [\"$.a\"]",
            "key = \"header\"",
            "ignore = [\"$.a\", \"$.b\"]",
            "graphql = \"off\"",
        ] {
            assert_ne!(version_of(other), base, "{other}");
        }
        assert_ne!(version_of("ignore = [\"$.a\"]"), version_of("unordered = [\"$.a\"]"));
        assert_ne!(version_of("ignore = [\"$.ab\"]"), version_of("ignore = [\"$.a\", \"$.b\"]"));
        assert_eq!(
            version_of("ignore = [\"$.b\", \"$.a\"]"),
            version_of("ignore = [\"$.a\", \"$.b\", \"$.a\"]")
        );
        assert_ne!(version_named("s", ""), base);
        let borrowed = version_named("rheader-or-", "key = \"fingerprint\"");
        assert_ne!(borrowed, base, "where a name ends is part of the digest");
        assert_eq!(version_of("wait = \"1s\"\nremember = \"1h\"\nnot_executed = [503]"), base);
    }
}
