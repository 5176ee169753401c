//! What a success of a request changes, as far as its method and path say it: for an operator who settles a record, of which
//! no more is kept. Not the compiled policy: the admin address is there before traffic is.

use crate::config::model::Config;
use crate::config::policy::{decoded_bytes_max, longest_fingerprint_window, router};
use crate::config::slots::SlotRules;
use crate::domain::canon::Fields;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::route::Router;
use crate::domain::selector::Source;
use crate::domain::slot::{Booking, ReleasePolicy};
use http::{HeaderMap, Method};
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Successes {
    router: Router,
    routes: Vec<SuccessRules>,
}

/// What a success on one route changes.
#[derive(Clone, Debug)]
pub struct SuccessRules {
    name: Arc<str>,
    /// The upstream's name, within which resources are told apart.
    pub upstream: Arc<str>,
    /// What it does with slots.
    pub slots: SlotRules,
    /// What an encoded answer may decode to.
    pub decoded_bytes_max: usize,
    /// The longest that a record without a key is remembered on any route.
    pub remembered_most: Duration,
}

/// A request as its record names it.
#[derive(Debug)]
pub struct Named<'s> {
    /// The rules of its route.
    pub rules: &'s SuccessRules,
    /// The method by which its route takes it.
    pub method: Method,
    path: Vec<(&'s str, &'s str)>,
}

// === impl Successes ===

impl Successes {
    /// Of all routes of `config`.
    pub fn new(config: &Config) -> Successes {
        let remembered_most = longest_fingerprint_window(config);
        let routes = config.routes.iter().filter_map(|route| {
            Some(SuccessRules {
                name: route.name.clone(),
                upstream: config.upstreams.get(route.upstream)?.name.clone(),
                slots: SlotRules::new(route, config),
                decoded_bytes_max: decoded_bytes_max(route.body_limit.unwrap_or(config.server.body_limit)),
                remembered_most,
            })
        });
        Successes { router: router(config), routes: routes.collect() }
    }

    /// The slots that successes of the route of that name may give back.
    pub fn released_by(&self, route: &str) -> Vec<String> {
        let rules = self.routes.iter().filter(|rules| *rules.name == *route);
        rules.flat_map(|rules| &rules.slots.releases).map(|release| release.slot.to_string()).collect()
    }

    /// The request to `path`, where the route of that name still takes it: by `method`, or by another that it named beside
    /// its own, of which a record says nothing.
    pub fn find<'s>(&'s self, route: &str, method: &Method, path: &'s str) -> Option<Named<'s>> {
        let at = self.routes.iter().position(|rules| *rules.name == *route)?;
        let may_count_as = [method, &Method::DELETE, &Method::PUT, &Method::PATCH].into_iter();
        let mut taken =
            may_count_as.filter_map(|method| Some((method, self.router.find_of(at, method, path)?)));
        let (method, found) = taken.next()?;
        let path = self.router.named(found.pattern, path);
        Some(Named { rules: &self.routes[at], method: method.clone(), path })
    }
}

// === impl Named ===

impl Named<'_> {
    /// The booking that `release` is about, where the path names it.
    pub fn booking(&self, release: &ReleasePolicy, digest: &FingerprintKey) -> Option<Booking> {
        let headers = HeaderMap::new();
        let source = Source { path: &self.path, query: None, headers: &headers, body: &Fields::Empty };
        release.booking(digest, &source)
    }
}
