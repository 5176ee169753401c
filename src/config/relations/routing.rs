//! Relations between routes: what is never reached, and what slips past every guard.

use super::Check;
use crate::config::values::{all_of, quote, similar};
use crate::domain::route::{Pattern, is_safe};

/// Methods that are written often enough for a slip of the finger to be recognised.
const KNOWN: [&str; 18] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "MKCALENDAR",
];

impl Check<'_> {
    pub(super) fn routing(&self) {
        self.covered();
        self.methods();
        self.unguarded();
    }

    /// A pattern that an earlier one covers is never reached. Where it carries a guard, that guard never works.
    fn covered(&self) {
        let mut earlier: Vec<(&Pattern, &str)> = Vec::new();
        for (at, route) in self.config.routes.iter().enumerate() {
            let path = format!("route[{at}].match");
            if self.reader.failed(&path) {
                continue;
            }
            for (which, pattern) in route.patterns.iter().enumerate() {
                if let Some((cover, owner)) = earlier.iter().find(|(earlier, _)| earlier.covers(pattern)) {
                    let message = format!(
                        "\"{pattern}\" is never reached: \"{cover}\" of route {} takes it",
                        quote(owner)
                    );
                    self.warn(
                        &self.item(&path, which),
                        message,
                        "put the narrower route first: the first match wins",
                    );
                }
                earlier.push((pattern, &route.name));
            }
        }
    }

    fn methods(&self) {
        for (at, route) in self.config.routes.iter().enumerate() {
            let path = format!("route[{at}].match");
            for (which, pattern) in route.patterns.iter().enumerate() {
                let Some(method) = pattern.method.as_ref().map(http::Method::as_str) else { continue };
                if let Some(meant) = similar(method, KNOWN).filter(|_| !KNOWN.contains(&method)) {
                    let message = format!("{method} is not a common method");
                    self.warn(&self.item(&path, which), message, format!("did you mean {meant}?"));
                }
            }
            if route.idempotency.is_none() {
                continue;
            }
            let names = |pattern: &Pattern| pattern.method.as_ref().is_some_and(is_safe);
            if let Some(which) = route.patterns.iter().position(names) {
                let message =
                    format!("\"{}\" is guarded although its method only reads", route.patterns[which]);
                let help = "right where the backend creates something in it; copies get the recorded answer, not a fresh one";
                self.note(&self.item(&path, which), message, help);
            }
            if let Some(which) = route.patterns.iter().position(|pattern| pattern.method.is_none()) {
                let message = format!(
                    "\"{}\" guards the methods that write; those that only read pass",
                    route.patterns[which]
                );
                self.note(&self.item(&path, which), message, "name GET itself where it has to be guarded");
            }
        }
    }

    /// Writes that no guard sees, by name: what nobody decided is what doubles.
    fn unguarded(&self) {
        let routes = &self.config.routes;
        if routes.is_empty() {
            return;
        }
        let guarded: Vec<_> =
            routes.iter().filter(|route| route.idempotency.is_some()).map(|route| &*route.name).collect();
        if guarded.is_empty() {
            let message = "no route has [route.idempotency]: nothing is guarded";
            self.warn(
                "route",
                message,
                "add [route.idempotency] below the routes whose writes must not double",
            );
            return;
        }
        let named = routes.iter().enumerate().filter(|(_, route)| !route.name.is_empty());
        for (at, route) in named.filter(|(_, route)| route.lets_writes_through()) {
            let path = format!("route[{at}].match");
            let message = format!("writes that fall through to route {} are not guarded", quote(&route.name));
            let help = format!(
                "they are counted as unguarded; guarded are only {}. Add [route.idempotency] here, or routes for them",
                all_of(guarded.iter().copied())
            );
            self.warn(&path, message, help);
        }
    }
}
