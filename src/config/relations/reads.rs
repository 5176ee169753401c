//! Relations of caching and coalescing: whose answers whom may reach, and what has no effect.

use super::Check;
use crate::config::model::{CacheKey, Route, RouteCache, Share};
use crate::config::throttle::RouteThrottle;
use crate::config::values::{quote, show_size};
use crate::domain::throttle::Over;
use http::Method;
use std::time::Duration;

/// The cache is cut into parts, and an answer has to fit into one of them.
const ANSWERS_LEAST: u64 = 32;

impl Check<'_> {
    pub(super) fn reads(&self) {
        for (at, route) in self.config.routes.iter().enumerate() {
            let path = format!("route[{at}]");
            if route.coalesce || route.cache.is_some() {
                self.reaches_no_read(&path, route);
            }
            if let Some(cache) = &route.cache {
                self.shared(&path, route, cache);
                self.keeps_nothing(&path, cache);
                self.gives_to_nobody(&path, route, cache);
            }
        }
        let cache = &self.config.cache;
        if cache.answer_limit.saturating_mul(ANSWERS_LEAST) > cache.memory
            && !self.reader.failed("cache.memory")
        {
            let message = format!(
                "`answer_limit` ({}) is more than a {ANSWERS_LEAST}th of `memory` ({})",
                show_size(cache.answer_limit),
                show_size(cache.memory)
            );
            let help = format!(
                "write memory = \"{}\", or a smaller `answer_limit`",
                show_size(cache.answer_limit.saturating_mul(ANSWERS_LEAST))
            );
            let path =
                if self.reader.is_set("cache.answer_limit") { "cache.answer_limit" } else { "cache.memory" };
            self.error(path, message, help);
        }
    }

    /// Guarded reads are answered from the record, and writes are never shared.
    fn reaches_no_read(&self, path: &str, route: &Route) {
        let reads = |method: &Method| matches!(*method, Method::GET | Method::HEAD);
        let unguarded = route.patterns.iter().any(|pattern| match &pattern.method {
            None => true,
            Some(method) => reads(method) && route.idempotency.is_none(),
        });
        if unguarded || route.patterns.is_empty() {
            return;
        }
        let key = if route.cache.is_some() { "cache" } else { "coalesce" };
        let message =
            format!("`{key}` has no effect: route {} takes no GET that is not guarded", quote(&route.name));
        self.warn(&format!("{path}.{key}"), message, "put it at the route that takes the reads");
    }

    /// What everyone may have must not depend on who asks, and a file that says how callers prove themselves suggests
    /// that it does.
    fn shared(&self, path: &str, route: &Route, cache: &RouteCache) {
        let clients = &self.config.clients;
        if cache.share != Share::Everyone {
            return;
        }
        let path = format!("{path}.cache.share");
        if route.idempotency.is_some() {
            let message =
                format!("the reads of guarded route {} are shared with everyone", quote(&route.name));
            self.warn(&path, message, "right for public pages only: give them a route of their own");
        } else if !clients.scope_by.is_empty() || clients.jwt.is_some() {
            let message = format!(
                "answers of route {} go to everyone, although callers prove who they are",
                quote(&route.name)
            );
            let help =
                "right for public pages only: whatever the backend puts into them for one caller, others see";
            self.warn(&path, message, help);
        }
    }

    /// Who is refused at once never waits for its turn.
    fn gives_to_nobody(&self, path: &str, route: &Route, cache: &RouteCache) {
        let holds = |throttle: &RouteThrottle| matches!(throttle.rules.over, Over::Hold { .. });
        if cache.stale_if_throttled == Duration::ZERO || route.throttle.as_ref().is_some_and(holds) {
            return;
        }
        let message = "`stale_if_throttled` has no effect: no client of this route waits for its turn";
        let help = "write over = \"hold\" in [route.throttle], or take it out";
        self.warn(&format!("{path}.cache.stale_if_throttled"), message, help);
    }

    fn keeps_nothing(&self, path: &str, cache: &RouteCache) {
        if cache.ttl != Duration::ZERO {
            return;
        }
        let path = format!("{path}.cache");
        if cache.overrides {
            let message = "with override = true and no `ttl`, every answer is stale when it comes";
            self.warn(&format!("{path}.override"), message, "write a `ttl`");
        } else if cache.key == CacheKey::Headers {
            let message = "without a `ttl`, only answers are kept of which the backend says for how long";
            self.note(&path, message, "write ttl = \"2s\" where the backend says nothing");
        }
    }
}
