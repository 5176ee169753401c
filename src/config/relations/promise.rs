//! Relations that the promise rests on, route by route: windows, leases, statuses, and what a choice gives up.

use super::Check;
use crate::config::model::{Idempotency, InDoubtRule, KeyRule, Mode, OnOutage, Route};
use crate::config::values::{all_of, alternatives, show_duration};
use crate::domain::says::Says;
use http::StatusCode;

impl Check<'_> {
    pub(super) fn promise(&self) {
        for (at, route) in self.config.routes.iter().enumerate() {
            let Some(rules) = &route.idempotency else { continue };
            let path = format!("route[{at}].idempotency");
            self.windows(&path, rules);
            self.deadline(at, route);
            self.forgotten(&path, route, rules);
            self.not_executed(&path, rules);
            self.given_up(&path, rules);
        }
        self.anonymous();
        self.mode();
        if self.config.store.on_outage == OnOutage::Forward {
            let message =
                "while the store is away, guarded writes are forwarded unguarded: copies may execute twice";
            self.warn("store.on_outage", message, "write \"refuse\" to keep the promise");
        }
    }

    /// A doubt that is forgotten before the answer would have been lets the copy through that it was kept for.
    fn windows(&self, path: &str, rules: &Idempotency) {
        let set = |name: &str| self.reader.is_set(&format!("{path}.{name}"));
        for (name, window) in
            [("remember", rules.remember), ("remember_fingerprint", rules.remember_fingerprint)]
        {
            if rules.in_doubt_for < window && !self.reader.failed(&format!("{path}.{name}")) {
                let (kept, window) = (show_duration(rules.in_doubt_for), show_duration(window));
                let message = format!("`in_doubt_for` ({kept}) is shorter than `{name}` ({window})");
                let help = format!("write {window} or more: in doubt is kept at least as long as done");
                self.error(&format!("{path}.in_doubt_for"), message, help);
            }
        }
        if rules.key == KeyRule::Header && set("remember_fingerprint") {
            let message =
                "`remember_fingerprint` has no effect: with key = \"header\" every record has a key";
            self.note(
                &format!("{path}.remember_fingerprint"),
                message,
                "take it out, or write key = \"header-or-fingerprint\"",
            );
        }
        if rules.key == KeyRule::Fingerprint && set("remember") {
            let message = "`remember` has no effect: with key = \"fingerprint\" no key is looked at";
            self.note(
                &format!("{path}.remember"),
                message,
                "use `remember_fingerprint`, or key = \"header-or-fingerprint\"",
            );
        }
    }

    /// What a backend still works on when the timeout is over may end as long again later. Retries are summed up elsewhere.
    fn forgotten(&self, path: &str, route: &Route, rules: &Idempotency) {
        let Some(upstream) = self.config.upstreams.get(route.upstream) else { return };
        let timeout = route.timeout_at(upstream);
        let path = format!("{path}.in_doubt_for");
        if route.retry.is_some() || rules.in_doubt_for > timeout || self.reader.failed(&path) {
            return;
        }
        let message = format!(
            "`in_doubt_for` ({}) is no longer than the timeout ({}): a doubt would be forgotten before its write has ended",
            show_duration(rules.in_doubt_for),
            show_duration(timeout)
        );
        self.error(
            &path,
            message,
            "write the longest time after which the backend may still act, or shorten `timeout`",
        );
    }

    fn deadline(&self, at: usize, route: &Route) {
        let Some(upstream) = self.config.upstreams.get(route.upstream) else { return };
        let (timeout, lease) = (route.timeout_at(upstream), self.config.store.lease);
        if timeout <= lease || self.reader.failed("store.lease") {
            return;
        }
        let path = match route.timeout {
            Some(_) => format!("route[{at}].timeout"),
            None => format!("upstream[{}].timeout", route.upstream),
        };
        let message = format!(
            "guarded writes of route \"{}\" may take {}, longer than the lease of {}",
            route.name,
            show_duration(timeout),
            show_duration(lease)
        );
        let help = "the lease is renewed while the backend works; a `lease` above the timeout needs no renewal to hold";
        self.warn(&path, message, help);
    }

    /// A status listed here says "I did nothing" for the backend. Some rarely mean it.
    fn not_executed(&self, path: &str, rules: &Idempotency) {
        let path = format!("{path}.not_executed");
        let has =
            |status: u16| rules.not_executed.ranges.iter().any(|&(low, high)| (low..=high).contains(&status));
        let says_nothing =
            |status: u16| StatusCode::from_u16(status).is_ok_and(|status| Says::of(status) == Says::Nothing);
        if (100..400).any(|status| has(status) && !says_nothing(status)) {
            let message = "`not_executed` has statuses of success: their copies are all executed";
            self.warn(&path, message, "list only statuses by which the backend says that it did nothing");
        }
        let unsure: Vec<_> = [500, 502, 504]
            .into_iter()
            .filter(|&status| has(status))
            .map(|status| status.to_string())
            .collect();
        if !unsure.is_empty() {
            let message = format!(
                "a backend may answer {} after it executed",
                alternatives(unsure.iter().map(String::as_str))
            );
            self.warn(
                &path,
                message.replace('"', ""),
                "a retry then executes twice; leave them out unless the backend is known better",
            );
        }
    }

    fn given_up(&self, path: &str, rules: &Idempotency) {
        if rules.in_doubt == InDoubtRule::Forward {
            let message = "in_doubt = \"forward\" voids the promise: a write whose outcome is unknown is executed again";
            self.warn(
                &format!("{path}.in_doubt"),
                message,
                "write \"refuse\" unless the write may happen twice",
            );
        }
        if rules.on_outage == Some(OnOutage::Forward) {
            let message = "while the store is away, this route's writes are forwarded unguarded: copies may execute twice";
            self.warn(&format!("{path}.on_outage"), message, "write \"refuse\" to keep the promise");
        }
    }

    fn anonymous(&self) {
        let keyless =
            |route: &Route| route.idempotency.as_ref().is_some_and(|rules| rules.key != KeyRule::Header);
        let routes: Vec<_> =
            self.config.routes.iter().enumerate().filter(|(_, route)| keyless(route)).collect();
        let Some((first, _)) = routes.first() else { return };
        let names = all_of(routes.iter().map(|(_, route)| &*route.name));
        let message = format!(
            "on {names}, identical requests without a key and without any credential that come from one address count as one"
        );
        let help = "who must be told apart has to show something: a credential, what `scope_by` names, or an Idempotency-Key";
        self.note(&format!("route[{first}].idempotency"), message, help);
    }

    fn mode(&self) {
        if self.config.mode == Mode::Observe {
            let message =
                "mode = \"observe\": everything is forwarded, copies too; decisions are only recorded";
            self.note("mode", message, "write \"enforce\" to guard");
        }
        for (at, route) in self.config.routes.iter().enumerate() {
            if route.mode == Some(Mode::Observe)
                && self.config.mode != Mode::Observe
                && route.idempotency.is_some()
            {
                let message = format!("route \"{}\" only observes: its copies are forwarded too", route.name);
                self.note(&format!("route[{at}].mode"), message, "write \"enforce\" to guard");
            }
        }
    }
}
