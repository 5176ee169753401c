//! Relations of slots: one name is one space, what is released has been taken, and nothing voids the promise.

use super::Check;
use crate::config::model::{InDoubtRule, Mode, OnOutage, Route};
use crate::config::slots::{making, the_one};
use crate::config::values::{alternatives, quote, similar};
use crate::domain::slot::{Hole, Probe, SlotPolicy};
use http::Method;

/// Slots that one request may take.
const SLOTS_MAX: usize = 8;

impl Check<'_> {
    pub(super) fn slots(&self) {
        for (at, route) in self.config.routes.iter().enumerate() {
            let path = format!("route[{at}]");
            for (which, slot) in route.slots.slots.iter().enumerate() {
                self.slot(route, &format!("{path}.slot[{which}]"), slot);
            }
            for which in 0..route.slots.releases.len() {
                self.release(route, &self.item(&format!("{path}.release"), which), which);
            }
            let moves = route.slots.slots.iter().any(SlotPolicy::changes_a_booking);
            if route.slots.release_on_redirect && route.slots.releases.is_empty() && !moves {
                self.warn(
                    &format!("{path}.release_on_redirect"),
                    "nothing is given back here, whatever the answer is",
                    "add a `release`, or take it out",
                );
            }
            if let Some(ask) = &route.slots.ask {
                self.known(&format!("{path}.ask.slot"), &ask.slot);
                let asked = making(self.config, &ask.slot).next();
                if let (Some(by), Some(slot)) = (&ask.by, asked)
                    && by.len() != slot.by.len()
                {
                    let message = format!(
                        "slot {} is told apart by {} values, not by {}",
                        quote(&ask.slot),
                        slot.by.len(),
                        by.len()
                    );
                    self.error(&format!("{path}.ask.by"), message, "name the same values in the same order");
                }
                self.segments(route, &format!("{path}.ask.by"), ask.by.iter().flatten());
            }
            if route.slots.slots.len() > SLOTS_MAX {
                self.error(
                    &format!("{path}.slot"),
                    format!("one request takes at most {SLOTS_MAX} slots"),
                    "divide the route",
                );
            }
            self.promise_of_slots(&path, route);
        }
    }

    fn slot(&self, route: &Route, path: &str, slot: &SlotPolicy) {
        self.segments(route, &format!("{path}.by"), &slot.by);
        self.segments(route, &format!("{path}.id"), &slot.id);
        self.probe(&format!("{path}.recover"), slot);
        let Some(first) = making(self.config, &slot.name).next() else {
            if slot.changes_a_booking() && !slot.name.is_empty() {
                let message = format!("no route takes the slot {} that this one moves", quote(&slot.name));
                self.error(
                    &format!("{path}.name"),
                    message,
                    "give the route that makes bookings a [[route.slot]] of this name",
                );
            }
            return;
        };
        if first.by.len() != slot.by.len() && !first.by.is_empty() && !slot.by.is_empty() {
            let message = format!(
                "the slot {} is told apart by {} values elsewhere and by {} here, so the two would never meet",
                quote(&slot.name),
                first.by.len(),
                slot.by.len()
            );
            self.error(
                &format!("{path}.by"),
                message,
                "name the same values in the same order, or give it another name",
            );
        }
        if first.capacity != slot.capacity {
            let message =
                format!("the slot {} has a capacity of {} elsewhere", quote(&slot.name), first.capacity);
            self.error(
                &self.set_or(path, "capacity", "name"),
                message,
                "one name is one space: write the same capacity",
            );
        }
        let released = || self.config.routes.iter().flat_map(|route| &route.slots.releases);
        if slot.id.is_none() && released().any(|release| release.slot == slot.name) {
            let message = format!("slot {} has no `id`, so no release finds it", quote(&slot.name));
            self.error(
                &format!("{path}.name"),
                message,
                "add id = \"$.id\": where the answer names the booking",
            );
        }
    }

    /// A question whose answer gives a slot away.
    fn probe(&self, path: &str, slot: &SlotPolicy) {
        let Some(probe) = &slot.recover else { return };
        let get = format!("{path}.get");
        let of_values = probe.get.holes().any(|hole| matches!(hole, Hole::Part(..)));
        match (probe.names_the_booking(), slot.id.is_some()) {
            (true, false) => {
                let message =
                    format!("slot {} has no `id`, so nothing is known of its bookings", quote(&slot.name));
                self.error(&get, message, "add id = \"$.id\": where the answer names the booking");
            }
            (false, _) if !of_values => {
                let help = "write {id}: the booking that holds the slot, as in \"/api/bookings/{id}\"";
                self.error(&get, "`get` names nothing of what holds the slot", help);
            }
            (false, _) if slot.capacity > 1 => {
                let message =
                    format!("of {} bookings in one slot, it does not say which is meant", slot.capacity);
                self.error(&get, message, "write {id}: the booking that holds the place");
            }
            _ => {}
        }
        if of_values && !slot.readable {
            let message = "the slot's values are not kept, so `get` cannot be made of them";
            self.error(&get, message, "write {id}, or take out readable = false");
        }
        if slot.capacity > Probe::HOLDERS_MAX {
            let message = format!(
                "`recover` asks about one holder after the other, and there may be {}",
                slot.capacity
            );
            let most = Probe::HOLDERS_MAX;
            let help = format!("at most {most}; take it out, or release what is gone another way");
            self.error(path, message, help);
        }
        let message = format!(
            "who is refused slot {} asks the backend, and what that caller does not see is given away",
            quote(&slot.name)
        );
        let help = "right where every caller sees every booking; otherwise \"not found\" may only mean \"not yours\"";
        self.note(path, message, help);
    }

    fn release(&self, route: &Route, path: &str, which: usize) {
        let release = &route.slots.releases[which];
        self.segments(route, &format!("{path}.id"), [&release.id]);
        if !self.known(&format!("{path}.slot"), &release.slot) {
            return;
        }
        let changing = |method: &Method| *method == Method::PATCH || *method == Method::PUT;
        let changes = route.patterns.iter().any(|pattern| pattern.method.as_ref().is_some_and(changing));
        if release.when.is_empty() && changes {
            let message = "every PATCH or PUT that succeeds here gives the slot back, whatever it changes";
            self.warn(
                path,
                message,
                "add when = { \"$.status\" = [\"CANCELLED\"] }: by what the booking gives it back",
            );
        }
        let listed = route.slots.slots.iter().any(|slot| slot.name == release.slot);
        if changes && !release.when.is_empty() && !listed && the_one(self.config, &release.slot).is_none() {
            let message = format!(
                "routes find the key of slot {} in different places, so a change of it through here moves nothing",
                quote(&release.slot)
            );
            self.warn(
                path,
                message,
                "add a [[route.slot]] of this name with its `by` and id = \"path:…\" to this route",
            );
        }
    }

    /// Whether a slot of that name is taken anywhere.
    fn known(&self, path: &str, name: &str) -> bool {
        if name.is_empty() || making(self.config, name).next().is_some() {
            return true;
        }
        let slots = self.config.routes.iter().flat_map(|route| &route.slots.slots);
        let names: Vec<&str> = slots.map(|slot| &*slot.name).filter(|name| !name.is_empty()).collect();
        let help = match similar(name, names.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if names.is_empty() => "give the route that makes bookings a [[route.slot]]".into(),
            None => format!("write {}", alternatives(names.iter().copied())),
        };
        self.error(path, format!("no route takes a slot {}", quote(name)), help);
        false
    }

    fn promise_of_slots(&self, path: &str, route: &Route) {
        if route.slots.slots.is_empty() {
            return;
        }
        let Some(rules) = &route.idempotency else { return };
        if rules.in_doubt == InDoubtRule::Forward {
            let message = "in_doubt = \"forward\" cannot go together with a slot: a write that may have taken the place would be sent again";
            self.error(
                &format!("{path}.idempotency.in_doubt"),
                message,
                "write \"refuse\", or take the slot out",
            );
        }
        if rules.on_outage.unwrap_or(self.config.store.on_outage) == OnOutage::Forward {
            let path = match rules.on_outage {
                Some(_) => format!("{path}.idempotency.on_outage"),
                None => "store.on_outage".to_owned(),
            };
            let message =
                format!("while the store is away, route \"{}\" gives its slots to anybody", route.name);
            self.warn(&path, message, "write \"refuse\" to keep the promise");
        }
        if route.mode.unwrap_or(self.config.mode) == Mode::Observe {
            let message = format!(
                "route \"{}\" only observes: it tells of taken slots, and gives them away",
                route.name
            );
            self.note(&self.set_or(path, "mode", "slot"), message, "write mode = \"enforce\" to guard");
        }
    }

    /// The key's path where the file has it, another's otherwise.
    fn set_or(&self, path: &str, name: &str, other: &str) -> String {
        let set = format!("{path}.{name}");
        if self.reader.is_set(&set) { set } else { format!("{path}.{other}") }
    }
}
