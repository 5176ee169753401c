//! Relations of lanes, retries and recovery: how long a write may take in all, and what has to outlast it.

use super::Check;
use crate::config::model::{InDoubtRule, Route, Upstream};
use crate::config::race::{Absent, Recover};
use crate::config::values::{quote, show_duration};
use std::time::Duration;

/// So many requests at once are a load that a backend feels.
const CLOSE: Duration = Duration::from_millis(10);

impl Check<'_> {
    pub(super) fn races(&self) {
        for (at, route) in self.config.routes.iter().enumerate() {
            let Some(upstream) = self.config.upstreams.get(route.upstream) else { continue };
            self.needs_guard(at, route);
            self.lane(at, route, upstream);
            self.retry(at, route, upstream);
            self.recover(at, route);
            self.segments_of_races(at, route);
        }
        self.shared_lanes();
    }

    /// A segment that is not there would be empty for every write: one lane for all, a question that is never asked.
    fn segments_of_races(&self, at: usize, route: &Route) {
        let path = format!("route[{at}]");
        if let Some(lane) = &route.lane {
            self.segments(route, &format!("{path}.lane.by"), &lane.by);
        }
        if let Some(recover) = &route.recover {
            self.segments(route, &format!("{path}.recover.get"), recover.get.holes());
        }
        if let Some(detect) = &route.detect {
            self.segments(route, &format!("{path}.detect.unique"), [&detect.unique.selector]);
            let within = detect.within.iter().map(|pointer| &pointer.selector);
            self.segments(route, &format!("{path}.detect.within"), within);
        }
    }

    /// All of them are about the claim of a guarded write.
    fn needs_guard(&self, at: usize, route: &Route) {
        if route.idempotency.is_some() {
            return;
        }
        for (name, has) in [
            ("lane", route.lane.is_some()),
            ("retry", route.retry.is_some()),
            ("recover", route.recover.is_some()),
            ("detect", route.detect.is_some()),
        ] {
            if has {
                let message = format!("[route.{name}] needs [route.idempotency], which this route has not");
                let help = "add it: without a record nobody knows what was executed";
                self.error(&format!("route[{at}].{name}"), message, help);
            }
        }
    }

    fn lane(&self, at: usize, route: &Route, upstream: &Upstream) {
        let Some(lane) = &route.lane else { return };
        if upstream.pause < upstream.connect_timeout {
            let message = format!(
                "a turn in a lane of route {} is given up where the connection takes longer than `pause` ({}), and it may take `connect_timeout` ({})",
                quote(&route.name),
                show_duration(upstream.pause),
                show_duration(upstream.connect_timeout)
            );
            let path = format!("upstream[{}].pause", route.upstream);
            self.warn(&path, message, "make `pause` the longer one");
        }
        let timeout = route.timeout_at(upstream);
        if lane.wait < timeout {
            let message = format!(
                "one write may take {}, and others wait {} for it: then they are refused",
                show_duration(timeout),
                show_duration(lane.wait)
            );
            self.note(
                &format!("route[{at}].lane.wait"),
                message,
                "right where clients do not wait longer anyway",
            );
        }
    }

    /// Routes that share a lane wait for each other, so what one promises has to hold for all.
    fn shared_lanes(&self) {
        for (at, route) in self.config.routes.iter().enumerate() {
            let Some(lane) = &route.lane else { continue };
            let earlier = self.config.routes[..at].iter().find_map(|earlier| {
                let other = earlier.lane.as_ref().filter(|other| other.name == lane.name)?;
                Some((earlier, other))
            });
            let Some((other, shared)) = earlier else { continue };
            if shared.by.len() != lane.by.len() {
                let message = format!(
                    "lane {} has {} selectors here and {} in route {}: no write of one ever waits for one of the other",
                    quote(&lane.name),
                    lane.by.len(),
                    shared.by.len(),
                    quote(&other.name)
                );
                self.error(
                    &format!("route[{at}].lane.by"),
                    message,
                    "name the same things, in the same order",
                );
            }
        }
    }

    /// How long a guarded write of this route may take once it was sent: every attempt, and every wait between.
    fn longest(route: &Route, upstream: &Upstream) -> Duration {
        let timeout = route.timeout_at(upstream);
        match &route.retry {
            Some(retry) => timeout * (retry.backoff.len() as u32 + 1) + retry.backoff.longest(),
            None => timeout,
        }
    }

    fn retry(&self, at: usize, route: &Route, upstream: &Upstream) {
        let (Some(retry), Some(rules)) = (&route.retry, &route.idempotency) else { return };
        let path = format!("route[{at}].retry");
        let (longest, lease) = (Check::longest(route, upstream), self.config.store.lease);
        let timeout = route.timeout_at(upstream);
        let told = format!(
            "{} attempts of {} and the waits between them take up to {}",
            retry.backoff.len() + 1,
            show_duration(timeout),
            show_duration(longest)
        );
        // A timeout above the lease is told of already, route by route.
        if longest > lease && timeout <= lease && !self.reader.failed("store.lease") {
            let message = format!("{told}, longer than the lease of {}", show_duration(lease));
            let help = "the lease is renewed meanwhile; a `lease` above it needs no renewal to hold";
            self.warn(&format!("{path}.backoff"), message, help);
        }
        if rules.in_doubt_for <= longest {
            let message = format!(
                "{told}, and `in_doubt_for` is {}: a doubt would be forgotten before its write has ended",
                show_duration(rules.in_doubt_for)
            );
            self.error(
                &format!("{path}.backoff"),
                message,
                "shorten `timeout` or the list, or raise `in_doubt_for`",
            );
        }
        if retry.backoff.0.iter().any(|wait| *wait < CLOSE) {
            let message = "waits this short meet the same conflict again";
            self.warn(
                &format!("{path}.backoff"),
                message,
                "begin with about what the backend takes for one write",
            );
        }
        let has = |low: u16, high: u16| retry.signs.statuses.iter().any(|&(a, b)| a <= high && low <= b);
        if has(100, 399) {
            let message = "`status` has statuses of success: what was executed would be executed again";
            self.error(&format!("{path}.status"), message, "list only what says that nothing was executed");
        }
        if retry.signs.text.is_none() && has(500, 599) {
            let message = "without `body`, every such 5xx counts as \"nothing was executed\"";
            let help = "add the words by which the backend says so, such as body = \"duplicate key\": other errors may come after it executed";
            self.warn(&format!("{path}.status"), message, help);
        }
    }

    fn recover(&self, at: usize, route: &Route) {
        let settles = route.idempotency.as_ref().is_some_and(|rules| rules.in_doubt == InDoubtRule::Recover);
        let path = format!("route[{at}].idempotency.in_doubt");
        match &route.recover {
            None if settles && !self.reader.is_set(&format!("route[{at}].recover")) => {
                let message = "in_doubt = \"recover\" needs [route.recover]: it says whom to ask";
                self.error(&path, message, "add [route.recover] with `get` and `found`");
            }
            None => {}
            Some(recover) => self.recovers(at, recover, settles),
        }
    }

    fn recovers(&self, at: usize, recover: &Recover, settles: bool) {
        let path = format!("route[{at}].recover");
        if recover.absent == Absent::Free && !settles {
            let message = "`absent` has no effect: outcomes in doubt are not asked about";
            self.warn(
                &format!("{path}.absent"),
                message,
                "write in_doubt = \"recover\" in [route.idempotency]",
            );
        }
        if recover.absent == Absent::Free && settles {
            let message =
                "absent = \"free\": what the backend does not show after its time counts as not executed";
            let help = "right where a write that was executed is always seen by `get`; an operator decides with \"keep\"";
            self.note(&format!("{path}.absent"), message, help);
        }
        if recover.get.holes().next().is_none() {
            let message = "`get` has no selector: every write would be answered with the same record";
            self.error(
                &format!("{path}.get"),
                message,
                "name what the record is known by: \"/api/bookings?slot={$.slotIndex}\"",
            );
        }
        let has = |low: u16, high: u16| recover.signs.statuses.iter().any(|&(a, b)| a <= high && low <= b);
        if has(100, 399) {
            let message = "`status` has statuses of success: there is nothing to recover";
            self.error(&format!("{path}.status"), message, "list what says \"exists already\"");
        }
    }
}
