//! Relations within and between limits: what could never pass, never binds, or never comes in time.

use super::Check;
use crate::config::throttle::RouteThrottle;
use crate::config::values::{quote, show_duration};
use crate::domain::client::Identity;
use crate::domain::throttle::{Limit, Over, Per};
use std::time::Duration;

/// Proxies and clients commonly give up after 30 s or 60 s.
const HOLD_COMMON: Duration = Duration::from_secs(25);

impl Check<'_> {
    pub(super) fn throttle(&self) {
        let clients = &self.config.clients;
        if clients.held_per_client > clients.held_max {
            let message = "`held_per_client` is above `held_max`: one client can take every place";
            self.warn("clients.held_per_client", message, "make it a small part of `held_max`");
        }
        let throttled = self.config.routes.iter().enumerate();
        let throttled: Vec<_> =
            throttled.filter_map(|(at, route)| Some((at, route.throttle.as_ref()?))).collect();
        for &(at, throttle) in &throttled {
            let path = format!("route[{at}].throttle");
            self.limits(&path, throttle);
            self.hard(&path, throttle);
            self.hold(&path, throttle);
        }
        self.buckets(&throttled);
        let per_client = throttled.iter().find(|(_, throttle)| throttle.rules.per != Per::Route);
        if let (Some((at, _)), [Identity::Ip, ..] | []) = (per_client, clients.identify_by.as_slice()) {
            let message =
                "`identify_by` is the address alone: everybody behind one address counts as one client";
            let help = "name what tells people apart, as in identify_by = [\"header:X-Api-Key\", \"jwt:sub\", \"cookie:session\", \"ip\"]";
            self.note(&format!("route[{at}].throttle"), message, help);
        }
    }

    fn limits(&self, path: &str, throttle: &RouteThrottle) {
        let rules = &throttle.rules;
        let list = format!("{path}.limits");
        for (which, limit) in rules.limits.iter().chain(&rules.hard).enumerate() {
            let item = match which < rules.limits.len() {
                true => self.item(&list, which),
                false => format!("{path}.hard"),
            };
            if rules.cost > limit.burst() {
                let message = format!("`cost` is {}, and \"{limit}\" never has so much at once", rules.cost);
                self.error(&item, message, format!("add \"burst {}\", or lower `cost`", rules.cost));
            }
        }
        for (which, limit) in rules.limits.iter().enumerate() {
            let idle = |other: &Limit| other.interval() >= limit.interval() && other.burst() <= limit.burst();
            let binding = rules.limits.iter().enumerate();
            let mut binding =
                binding.filter(|(at, other)| *at != which && idle(other) && (*other != limit || *at < which));
            if let Some((_, other)) = binding.next() {
                let message = format!("\"{limit}\" never binds: \"{other}\" is at least as strict");
                self.warn(&self.item(&list, which), message, "take it out");
            }
        }
    }

    fn hard(&self, path: &str, throttle: &RouteThrottle) {
        let Some(hard) = &throttle.rules.hard else { return };
        let path = format!("{path}.hard");
        if throttle.rules.over == Over::Reject {
            let message = "`hard` has no effect: with over = \"reject\" every limit refuses at once";
            self.warn(&path, message, "take it out, or write over = \"hold\"");
            return;
        }
        let slower = |limit: &&Limit| hard.interval() >= limit.interval() && hard.burst() <= limit.burst();
        if let Some(limit) = throttle.rules.limits.iter().find(slower) {
            let message = format!("`hard` (\"{hard}\") is within \"{limit}\": nobody would ever be held");
            self.warn(&path, message, "make it the wider one: it counts every request, also those that wait");
        }
    }

    fn hold(&self, path: &str, throttle: &RouteThrottle) {
        let Over::Hold { at_most } = throttle.rules.over else {
            let path = format!("{path}.hold_at_most");
            if self.reader.is_set(&path) {
                self.note(
                    &path,
                    "`hold_at_most` has no effect: with over = \"reject\" nobody waits",
                    "take it out",
                );
            }
            return;
        };
        let path = format!("{path}.hold_at_most");
        let turn = |limit: &Limit| Duration::from_nanos(limit.interval().saturating_mul(throttle.rules.cost));
        if let Some(limit) = throttle.rules.limits.iter().find(|limit| turn(limit) > at_most) {
            let (longest, turn) = (show_duration(at_most), show_duration(turn(limit)));
            let message = format!(
                "requests wait at most {longest}, and \"{limit}\" gives a turn every {turn}: past its burst some wait in vain, and end in a copy or a 429"
            );
            self.warn(&path, message, format!("write {turn} or more"));
        }
        if at_most > HOLD_COMMON {
            let message = format!("requests wait for up to {}", show_duration(at_most));
            self.note(&path, message, "clients and proxies in front commonly give up after 30 s");
        }
    }

    /// Routes that share a bucket have to agree on what it is.
    fn buckets(&self, throttled: &[(usize, &RouteThrottle)]) {
        for (which, (at, throttle)) in throttled.iter().enumerate() {
            let Some(bucket) = &throttle.bucket else { continue };
            let differs = |other: &RouteThrottle| {
                (&other.rules.limits, other.rules.per, other.rules.hard)
                    != (&throttle.rules.limits, throttle.rules.per, throttle.rules.hard)
            };
            let earlier = throttled[..which].iter().find(|(_, other)| other.bucket.as_ref() == Some(bucket));
            if let Some((first, _)) = earlier.filter(|(_, other)| differs(other)) {
                let message = format!(
                    "bucket {} has other limits here than in route[{first}]: what is counted together has one rule",
                    quote(bucket)
                );
                self.error(
                    &format!("route[{at}].throttle.bucket"),
                    message,
                    "give both routes the same `limits`, `per` and `hard`, or each its own bucket",
                );
            }
        }
    }
}
