//! What has to hold between values: references, numbers that depend on each other, and what a choice costs. Single
//! values were checked where they were read.

mod promise;
mod race;
mod reads;
mod rim;
mod routing;
mod shared;
mod slots;
mod throttle;

use crate::config::model::{Config, Route, StoreUrl};
use crate::config::problem::Severity;
use crate::config::read::Reader;
use crate::config::slots::path_names;
use crate::config::values::{Wrong, quote, show_duration, show_size};
use crate::domain::client::Identity;
use crate::domain::route::Segment;
use crate::domain::selector::Selector;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Backends commonly close idle connections after 5 s.
const IDLE_COMMON: Duration = Duration::from_secs(5);
/// Orchestrators commonly kill a process 30 s after they asked it to end.
const STOP_COMMON: Duration = Duration::from_secs(30);

/// The largest answer that a `file:` store keeps: a quarter of a segment of its log.
const FILE_ANSWER_MAX: u64 = 4 << 20;

/// A finding under construction.
struct Check<'a> {
    reader: &'a Reader<'a>,
    config: &'a Config,
}

/// Checks every relation. Nothing is said about values that are wrong by themselves, nor in a file that is not TOML
/// throughout: what seems absent there may only be unreadable.
pub(super) fn check(reader: &Reader<'_>, config: &Config) {
    if !reader.is_whole() {
        return;
    }
    let check = Check { reader, config };
    check.names();
    check.addresses();
    check.clients();
    check.store();
    check.upstreams();
    check.stop();
    check.routing();
    check.promise();
    check.throttle();
    check.slots();
    check.races();
    check.reads();
    check.rim();
}

// === impl Check ===

impl Check<'_> {
    fn say(&self, severity: Severity, path: &str, message: impl Into<String>, help: impl Into<String>) {
        if !self.reader.failed(path) {
            self.reader.report(severity, path, Wrong::new(message).help(help));
        }
    }

    fn error(&self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.say(Severity::Error, path, message, help);
    }

    fn warn(&self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.say(Severity::Warning, path, message, help);
    }

    fn note(&self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.say(Severity::Note, path, message, help);
    }

    /// The item of a list; the key itself where the file has one value in place of a list.
    fn item(&self, path: &str, at: usize) -> String {
        let item = format!("{path}[{at}]");
        if self.reader.is_set(&item) { item } else { path.to_owned() }
    }

    /// What `path:` names has to be in every pattern of the route.
    fn segments<'s>(&self, route: &Route, path: &str, selectors: impl IntoIterator<Item = &'s Selector>) {
        for name in path_names(selectors) {
            let has = |segment: &Segment| matches!(segment, Segment::Named(known) if known == name);
            if let Some(pattern) = route.patterns.iter().find(|pattern| !pattern.segments.iter().any(has)) {
                let message = format!("`path:{name}` names nothing in \"{pattern}\"");
                self.error(path, message, format!("write {{{name}}} for the segment that is meant"));
            }
        }
    }

    fn names(&self) {
        let upstreams = self.config.upstreams.iter().map(|upstream| &*upstream.name).collect::<Vec<_>>();
        let routes = self.config.routes.iter().map(|route| &*route.name).collect::<Vec<_>>();
        for (kind, names) in [("upstream", upstreams), ("route", routes)] {
            let mut seen = HashMap::new();
            for (at, name) in names.into_iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                if let Some(first) = seen.insert(name, at) {
                    seen.insert(name, first);
                    let message = format!("the name {} is taken by {kind}[{first}]", quote(name));
                    self.error(
                        &format!("{kind}[{at}].name"),
                        message,
                        "give each its own: logs, metrics and records go by it",
                    );
                }
            }
        }
    }

    fn addresses(&self) {
        let (listen, admin) = (&self.config.server.listen, &self.config.admin);
        for (at, address) in listen.iter().enumerate() {
            let path = self.item("server.listen", at);
            if listen[..at].iter().any(|earlier| collide(*earlier, *address)) {
                self.error(
                    &path,
                    format!("{address} collides with another address of `listen`"),
                    "take one of them out",
                );
            }
            if collide(*address, admin.listen) {
                let path = if self.reader.is_set("admin.listen") { "admin.listen" } else { &path };
                self.error(
                    path,
                    format!("[server] and [admin] both listen on {address}"),
                    "give [admin] a port of its own",
                );
            }
        }
        if !admin.listen.ip().is_loopback() && admin.token.is_none() && !self.reader.failed("admin.token") {
            let message =
                format!("[admin] listens on {}, which is not loopback, and has no `token`", admin.listen);
            self.error(
                "admin.listen",
                message,
                "add token = \"${ONCEGATE_ADMIN_TOKEN}\", or listen on 127.0.0.1",
            );
        }
        for (at, upstream) in self.config.upstreams.iter().enumerate() {
            for (which, base) in upstream.urls.iter().enumerate() {
                let host = if base.host == "localhost" {
                    Ok(IpAddr::from([127, 0, 0, 1]))
                } else {
                    base.host.parse()
                };
                let Ok(address) = host.map(|host| SocketAddr::new(host, base.port)) else { continue };
                if listen.iter().any(|own| {
                    collide(*own, address) && (own.ip() == address.ip() || address.ip().is_loopback())
                }) {
                    let path = self.item(&format!("upstream[{at}].url"), which);
                    self.error(
                        &path,
                        "this is oncegate's own address: requests would go round in a circle",
                        "write the backend's",
                    );
                }
            }
        }
    }

    fn clients(&self) {
        let clients = &self.config.clients;
        for (at, network) in
            clients.trusted_proxies.iter().enumerate().filter(|(_, network)| network.prefix_len() == 0)
        {
            let path = self.item("clients.trusted_proxies", at);
            let message = format!("{network} trusts everybody: any client can claim any address");
            self.warn(&path, message, "name the proxies in front of oncegate alone");
        }
        let uses_jwt =
            |list: &[Identity]| list.iter().position(|identity| matches!(identity, Identity::Jwt(_)));
        let (identify, scope) = (uses_jwt(&clients.identify_by), uses_jwt(&clients.scope_by));
        let has_jwt = clients.jwt.is_some() || self.reader.failed("clients.jwt");
        let help = "add [clients.jwt] with `jwks` or `secret`, or take it out";
        if let (Some(at), false) = (scope, has_jwt) {
            let path = self.item("clients.scope_by", at);
            self.error(&path, "a JWT proves nothing without [clients.jwt]: nobody would verify it", help);
        }
        if let (Some(at), false) = (identify, has_jwt) {
            let path = self.item("clients.identify_by", at);
            let message = "without [clients.jwt] this claim is not verified: it only ever throttles, and never proves the caller";
            self.warn(&path, message, help);
        }
        if clients.jwt.is_some() && identify.is_none() && scope.is_none() {
            let message = "[clients.jwt] is not used: neither `identify_by` nor `scope_by` names a claim";
            self.warn("clients.jwt", message, "add \"jwt:sub\" to one of them");
        }
        let by_address = clients.identify_by.iter().position(|identity| *identity == Identity::Ip);
        if let Some(at) = by_address.filter(|at| at + 1 < clients.identify_by.len()) {
            let path = self.item("clients.identify_by", at + 1);
            let message = "nothing behind \"ip\" is looked at: every client has an address";
            self.warn(&path, message, "put \"ip\" last");
        }
        let by_certificate = |list: &[Identity]| list.iter().position(|identity| *identity == Identity::Cert);
        let asked_for = self.config.server.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        let lists = [("clients.identify_by", &clients.identify_by), ("clients.scope_by", &clients.scope_by)];
        for (path, list) in lists {
            if let (Some(at), false) = (by_certificate(list), asked_for || self.reader.failed("server.tls")) {
                let message =
                    "`cert` without `client_ca` in [server.tls]: no client would ever show a certificate";
                self.error(
                    &self.item(path, at),
                    message,
                    "add client_ca = \"client-ca.pem\" to [server.tls]",
                );
            }
        }
        if let Some(at) = clients.scope_by.iter().position(|identity| *identity == Identity::Ip) {
            let message = "an address is no credential: everybody behind it would share answers";
            self.error(
                &self.item("clients.scope_by", at),
                message,
                "take \"ip\" out; it belongs into `identify_by`",
            );
        }
    }

    fn store(&self) {
        let store = &self.config.store;
        if store.answer_limit > store.memory {
            let path =
                if self.reader.is_set("store.answer_limit") { "store.answer_limit" } else { "store.memory" };
            let (limit, memory) = (show_size(store.answer_limit), show_size(store.memory));
            let message =
                format!("one answer (`answer_limit`, {limit}) may be larger than all of `memory` ({memory})");
            self.error(path, message, "make `answer_limit` the smaller one");
        }
        if matches!(store.url, StoreUrl::File(_)) && store.answer_limit > FILE_ANSWER_MAX {
            let most = show_size(FILE_ANSWER_MAX);
            let message = format!(
                "answers above {most} are never kept by a `file:` store: their copies learn only that the request was executed"
            );
            let help = format!("write {most} or less, so that the file says what is so");
            self.warn("store.answer_limit", message, help);
        }
        if u64::from(store.records_per_scope) > store.records_max as u64 {
            let message = "`records_per_scope` is above `records_max`: one caller can fill the store for all";
            self.warn("store.records_per_scope", message, "make it a small part of `records_max`");
        }
        self.shared_store();
        if store.url == StoreUrl::Memory {
            let message = "`memory:` forgets everything when the process ends: what was executed before is executed again";
            self.warn("store.url", message, "write \"file:DIR\" wherever a restart must not double a write");
        }
    }

    fn upstreams(&self) {
        for (at, upstream) in self.config.upstreams.iter().enumerate() {
            let path = |name: &str| format!("upstream[{at}].{name}");
            if upstream.idle > IDLE_COMMON {
                let message = format!(
                    "connections are kept idle for {}: many backends close them after {}",
                    show_duration(upstream.idle),
                    show_duration(IDLE_COMMON)
                );
                self.warn(
                    &path("idle"),
                    message,
                    "stay below the backend's own keep-alive, or requests meet closed connections",
                );
            }
            if upstream.connect_timeout > upstream.timeout {
                let set =
                    if self.reader.is_set(&path("connect_timeout")) { "connect_timeout" } else { "timeout" };
                let message = "`connect_timeout` is longer than `timeout`, which ends the exchange before";
                self.warn(&path(set), message, "make it the shorter one");
            }
            self.short_routes(at, upstream.connect_timeout);
            if upstream.total.is_some_and(|total| total < upstream.timeout) {
                let message = "`total` is shorter than `timeout`, which then is never reached";
                self.warn(&path("total"), message, "make it the longer one");
            }
            if !self.config.routes.iter().any(|route| route.upstream == at) {
                self.warn(
                    &path("name"),
                    format!("no route uses upstream {}", quote(&upstream.name)),
                    "take it out, or route to it",
                );
            }
        }
    }

    /// A route that gives up before a connection may have failed learns late that a server is down, and what it asks then is
    /// lost.
    fn short_routes(&self, upstream: usize, connect_timeout: Duration) {
        for (at, route) in
            self.config.routes.iter().enumerate().filter(|(_, route)| route.upstream == upstream)
        {
            let path = format!("route[{at}].timeout");
            if route.timeout.is_some_and(|timeout| timeout < connect_timeout) {
                let message = format!(
                    "`timeout` is shorter than the upstream's `connect_timeout` ({}): requests give up before another server is tried",
                    show_duration(connect_timeout)
                );
                self.warn(&path, message, "make `connect_timeout` the shorter one");
            }
        }
    }

    fn stop(&self) {
        let server = &self.config.server;
        if server.lame_duck + server.drain > STOP_COMMON {
            let path = if self.reader.is_set("server.drain") { "server.drain" } else { "server.lame_duck" };
            let together = show_duration(server.lame_duck + server.drain);
            let message = format!("`lame_duck` and `drain` take {together} together");
            self.note(
                path,
                message,
                "Kubernetes kills after 30 s unless terminationGracePeriodSeconds says more",
            );
        }
    }
}

/// Whether two sockets cannot both be bound. Port 0 is a different port each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let every = |address: SocketAddr| address.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || every(a) || every(b))
}
