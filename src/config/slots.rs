//! What a route does with slots, resolved over the whole file: which it takes, which of a booking it changes, which it
//! gives back, and which it answers questions about.

use crate::config::model::{Config, Route};
use crate::domain::says::Says;
use crate::domain::selector::{Selector, Zone};
use crate::domain::slot::{ReleasePolicy, SlotPolicy};
use http::Method;
use std::sync::Arc;

/// What a route says about slots.
#[derive(Clone, Debug, Default)]
pub struct RouteSlots {
    /// `[[route.slot]]`
    pub slots: Vec<SlotPolicy>,
    /// `[[route.release]]`
    pub releases: Vec<ReleasePolicy>,
    /// `release_on_redirect`: a redirect gives back what a success does.
    pub release_on_redirect: bool,
    /// `[route.ask]`
    pub ask: Option<AskRule>,
}

/// `[route.ask]`: the gateway itself answers whether a slot is free.
#[derive(Clone, Debug)]
pub struct AskRule {
    /// `slot`: its name.
    pub slot: Arc<str>,
    /// `by`: where this request has the values of the slot's key; where the slot itself looks otherwise.
    pub by: Option<Vec<Selector>>,
}

/// The slots of one route.
#[derive(Clone, Debug, Default)]
pub struct SlotRules {
    /// Taken by a request that makes a booking.
    pub takes: Vec<SlotPolicy>,
    /// Of a booking that the request names and may change.
    pub changes: Vec<ChangeRule>,
    /// Given back by a success.
    pub releases: Vec<ReleasePolicy>,
    /// Whether a redirect gives back what a success does.
    pub release_on_redirect: bool,
    /// What the gateway itself answers: whether this slot is free.
    pub ask: Option<SlotPolicy>,
}

/// A slot that a booking has, on a route by which the booking changes.
#[derive(Clone, Debug)]
pub struct ChangeRule {
    /// The slot. Its `id` finds the booking in the request.
    pub slot: SlotPolicy,
    /// By what the booking gives it back and takes it again: an index into [`SlotRules::releases`].
    pub release: Option<usize>,
}

// === impl RouteSlots ===

impl RouteSlots {
    /// Whether requests have to be claimed: they take a slot, or may move a booking or bring it back.
    pub fn need_a_guard(&self) -> bool {
        !self.slots.is_empty() || self.releases.iter().any(|release| !release.when.is_empty())
    }
}

// === impl SlotRules ===

impl SlotRules {
    /// Resolves what `route` says.
    pub(super) fn new(route: &Route, config: &Config) -> SlotRules {
        let own = &route.slots;
        let (changed, takes): (Vec<_>, Vec<_>) =
            own.slots.iter().cloned().partition(SlotPolicy::changes_a_booking);
        let release_of = |name: &str| own.releases.iter().position(|release| *release.slot == *name);
        let mut changes: Vec<ChangeRule> =
            changed.into_iter().map(|slot| ChangeRule { release: release_of(&slot.name), slot }).collect();
        // A route that releases on a condition changes bookings in other ways too. Where a booking of that slot can only
        // be made in one way, what tells its slots apart is known here as well.
        for (at, release) in own.releases.iter().enumerate() {
            let listed = changes.iter().any(|change| change.slot.name == release.slot);
            if release.when.is_empty() || listed || !changes_bookings(route) {
                continue;
            }
            if let Some(slot) = the_one(config, &release.slot) {
                // Not its `recover`: this route has not asked for it.
                let slot = SlotPolicy { id: Some(release.id.clone()), recover: None, ..slot.clone() };
                changes.push(ChangeRule { slot, release: Some(at) });
            }
        }
        let ask = own.ask.as_ref().and_then(|ask| {
            let slot = making(config, &ask.slot).next()?;
            Some(SlotPolicy { by: ask.by.clone().unwrap_or_else(|| slot.by.clone()), ..slot.clone() })
        });
        let release_on_redirect = own.release_on_redirect;
        SlotRules { takes, changes, releases: own.releases.clone(), release_on_redirect, ask }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.takes.is_empty() && self.changes.is_empty() && self.releases.is_empty() && self.ask.is_none()
    }

    /// Every slot that a claim may have to reserve.
    pub fn all(&self) -> impl Iterator<Item = &SlotPolicy> {
        self.takes.iter().chain(self.changes.iter().map(|change| &change.slot))
    }

    /// Whether an answer that says this gives a place back. The same redirect may send a stranger to a login, and what may
    /// be taken stays taken, so only a route that knows its backend takes it for a success.
    pub fn may_release(&self, says: Says) -> bool {
        says == Says::Done || (says == Says::Elsewhere && self.release_on_redirect)
    }

    /// Whether a claim may have to reserve something.
    pub fn may_reserve(&self) -> bool {
        !self.takes.is_empty() || !self.changes.is_empty()
    }
}

/// Whether a route's methods change what exists.
pub(super) fn changes_bookings(route: &Route) -> bool {
    route.patterns.iter().any(|pattern| {
        pattern.method.as_ref().is_none_or(|method| {
            *method == Method::PATCH || *method == Method::PUT || *method == Method::POST
        })
    })
}

/// Every slot of that name that a request takes which makes a booking.
pub(super) fn making<'c>(config: &'c Config, name: &'c str) -> impl Iterator<Item = &'c SlotPolicy> {
    let slots = config.routes.iter().flat_map(|route| &route.slots.slots);
    slots.filter(move |slot| *slot.name == *name && !slot.changes_a_booking())
}

/// The slot of that name, where every route that takes it finds its key in the same places.
pub(super) fn the_one<'c>(config: &'c Config, name: &'c str) -> Option<&'c SlotPolicy> {
    let first = making(config, name).next()?;
    let same = |slot: &SlotPolicy| slot.by == first.by && slot.hold == first.hold;
    making(config, name).all(same).then_some(first)
}

/// The names in `path:` of selectors.
pub(super) fn path_names<'s>(selectors: impl IntoIterator<Item = &'s Selector>) -> Vec<&'s str> {
    use crate::domain::selector::Origin;
    let origins =
        selectors.into_iter().filter(|selector| !selector.is_total()).flat_map(|selector| selector.origins());
    origins
        .filter_map(|origin| if let Origin::Path(name) = origin { Some(name.as_str()) } else { None })
        .collect()
}

/// Every slot of the file by its name, for an operator's questions. Not the compiled policy: the admin address is there
/// before traffic is.
#[derive(Clone, Debug)]
pub struct SlotCatalogue {
    slots: Vec<SlotPolicy>,
    zone: Zone,
}

// === impl SlotCatalogue ===

impl SlotCatalogue {
    /// The slots of `config`.
    pub fn new(config: &Config) -> SlotCatalogue {
        let mut slots: Vec<SlotPolicy> = Vec::new();
        for slot in config.routes.iter().flat_map(|route| &route.slots.slots) {
            if !slot.changes_a_booking() && slots.iter().all(|known| known.name != slot.name) {
                slots.push(slot.clone());
            }
        }
        SlotCatalogue { slots, zone: config.time_zone.clone() }
    }

    /// The slot of that name, as the first route takes it.
    pub fn find(&self, name: &str) -> Option<&SlotPolicy> {
        self.slots.iter().find(|slot| *slot.name == *name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| &*slot.name)
    }

    /// Of dates and times that bring no offset.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }
}
