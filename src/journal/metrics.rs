//! The figures: what is counted, and how cheaply. Every cell exists from the start, indexed by route and decision; the
//! hot path finds it without a lookup by name, a lock or an allocation.

use super::doors::Doors;
use super::histogram::{Figures, Histogram};
use super::limits::LimitFigures;
use super::reads::ReadFigures;
use super::shard::{Apart, Gauge, SHARDS, shard};
use super::slots::Slots;
use crate::domain::event::{Decision, Event};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Servers that one upstream may name; more are not shown. The configuration is far below.
const SERVERS_MAX: usize = 1_024;

/// Methods that have their own series; any other counts as `other`, because a client may invent names.
pub(super) const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "other"];

/// All figures of the data path. Gauges are set by whoever owns what they count.
#[derive(Debug)]
pub struct Metrics {
    /// Open client connections.
    pub connections: Gauge,
    /// Connections that were closed at once, because their address had as many as it may.
    pub connections_refused: AtomicU64,
    /// Connections that speak another protocol after an upgrade.
    pub upgrades: Gauge,
    /// Requests between their head and the end of their answer.
    pub in_flight: Gauge,
    /// What limits count.
    pub limits: LimitFigures,
    /// The way in.
    pub doors: Doors,
    /// Kept and shared answers.
    pub reads: ReadFigures,
    pub(super) route_names: Vec<Arc<str>>,
    /// A copy per shard, so that workers do not share cache lines; in each a cell per route, and one more for requests
    /// without a route.
    shards: Vec<Vec<RouteCells>>,
    pub(super) upstreams: Vec<Upstream>,
    events: [Apart<[AtomicU64; Event::WORDS.len()]>; SHARDS],
    /// Places taken and refused, by the slots' names.
    pub(super) slots: Slots,
}

/// What is counted for one route, in one shard.
#[derive(Debug)]
#[repr(align(128))]
struct RouteCells {
    decisions: [AtomicU64; Decision::COUNT],
    unguarded: [AtomicU64; METHODS.len()],
    total: Histogram,
    upstream: Histogram,
    lane_wait: Histogram,
    retries: AtomicU64,
}

/// The figures of one upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// Requests that it works on.
    pub in_flight: Gauge,
    /// Requests that wait for a place, and how many places there are.
    places: [AtomicU64; 2],
    servers: Mutex<BTreeMap<Arc<str>, bool>>,
}

/// A route's figures over all shards, for a scrape.
#[derive(Clone, Debug)]
pub(super) struct RouteFigures {
    pub(super) decisions: [u64; Decision::COUNT],
    pub(super) unguarded: [u64; METHODS.len()],
    pub(super) total: Figures,
    pub(super) upstream: Figures,
    pub(super) lane_wait: Figures,
    pub(super) retries: u64,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn new(route_names: Vec<Arc<str>>, upstream_names: Vec<Arc<str>>) -> Metrics {
        let cells = || (0..=route_names.len()).map(|_| RouteCells::default()).collect();
        Metrics {
            connections: Gauge::default(),
            connections_refused: AtomicU64::new(0),
            upgrades: Gauge::default(),
            in_flight: Gauge::default(),
            limits: LimitFigures::default(),
            doors: Doors::default(),
            reads: ReadFigures::default(),
            shards: (0..SHARDS).map(|_| cells()).collect(),
            route_names,
            upstreams: upstream_names.into_iter().map(Upstream::new).collect(),
            events: Default::default(),
            slots: Slots::default(),
        }
    }

    /// Without routes and upstreams.
    #[cfg(test)]
    pub fn for_tests() -> Metrics {
        Metrics::new(Vec::new(), Vec::new())
    }

    /// The figures of an upstream, by its index in the configuration.
    pub fn upstream(&self, index: usize) -> Option<&Upstream> {
        self.upstreams.get(index)
    }

    pub(super) fn count(
        &self,
        route: Option<usize>,
        decision: Decision,
        upstream: Option<Duration>,
        total: Duration,
    ) {
        let cells = self.cells(route);
        cells.decisions[decision.index()].fetch_add(1, Ordering::Relaxed);
        cells.total.observe(total);
        if let Some(upstream) = upstream {
            cells.upstream.observe(upstream);
        }
    }

    pub(super) fn count_unguarded(&self, route: Option<usize>, method: &http::Method) {
        let other = METHODS.len() - 1;
        let index = METHODS[..other].iter().position(|&name| name == method.as_str()).unwrap_or(other);
        self.cells(route).unguarded[index].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_turn(&self, route: usize, waited: Duration) {
        self.cells(Some(route)).lane_wait.observe(waited);
    }

    pub(super) fn count_retry(&self, route: usize) {
        self.cells(Some(route)).retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_event(&self, event: &Event) {
        self.count_event_at(event.index());
    }

    /// The same, by [`Event::index`].
    pub(super) fn count_event_at(&self, index: usize) {
        self.events[shard()][index].fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers a server's state; whether that is a change. A server that was never heard of counts as up.
    pub(super) fn upstream_changed(&self, upstream: &str, authority: &Arc<str>, up: bool) -> bool {
        let Some(upstream) = self.upstreams.iter().find(|known| &*known.name == upstream) else {
            return true;
        };
        upstream.set_server(authority, up)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sum = |index: usize| self.events.iter().map(|shard| shard[index].load(Ordering::Relaxed)).sum();
        Event::WORDS.into_iter().enumerate().map(move |(index, word)| (word, sum(index)))
    }

    /// Each route's name (empty for requests without one) and figures, summed over the shards.
    pub(super) fn routes(&self) -> impl Iterator<Item = (&str, RouteFigures)> {
        let names = self.route_names.iter().map(|name| &**name).chain([""]);
        names.enumerate().map(|(index, name)| {
            let mut figures = RouteFigures::default();
            self.shards.iter().for_each(|shard| shard[index].add_to(&mut figures));
            (name, figures)
        })
    }

    /// An index beyond the table counts as no route: a wrong label is better than a dead worker.
    fn cells(&self, route: Option<usize>) -> &RouteCells {
        let cells = &self.shards[shard()];
        let none = cells.len() - 1;
        &cells[route.map_or(none, |route| route.min(none))]
    }
}

// === impl RouteCells ===

impl Default for RouteCells {
    fn default() -> RouteCells {
        RouteCells {
            decisions: std::array::from_fn(|_| AtomicU64::new(0)),
            unguarded: Default::default(),
            total: Histogram::default(),
            upstream: Histogram::default(),
            lane_wait: Histogram::default(),
            retries: AtomicU64::new(0),
        }
    }
}

impl RouteCells {
    fn add_to(&self, figures: &mut RouteFigures) {
        for (sum, cell) in figures.decisions.iter_mut().zip(&self.decisions) {
            *sum += cell.load(Ordering::Relaxed);
        }
        for (sum, cell) in figures.unguarded.iter_mut().zip(&self.unguarded) {
            *sum += cell.load(Ordering::Relaxed);
        }
        self.total.add_to(&mut figures.total);
        self.upstream.add_to(&mut figures.upstream);
        self.lane_wait.add_to(&mut figures.lane_wait);
        figures.retries += self.retries.load(Ordering::Relaxed);
    }
}

// === impl RouteFigures ===

impl Default for RouteFigures {
    fn default() -> RouteFigures {
        RouteFigures {
            decisions: [0; Decision::COUNT],
            unguarded: [0; METHODS.len()],
            total: Figures::default(),
            upstream: Figures::default(),
            lane_wait: Figures::default(),
            retries: 0,
        }
    }
}

// === impl Upstream ===

impl Upstream {
    fn new(name: Arc<str>) -> Upstream {
        Upstream { name, in_flight: Gauge::default(), places: Default::default(), servers: Mutex::default() }
    }

    /// How many wait for a place, and how many places there are at this moment.
    pub fn set_capacity(&self, waiting: usize, limit: usize) {
        self.places[0].store(waiting as u64, Ordering::Relaxed);
        self.places[1].store(limit as u64, Ordering::Relaxed);
    }

    /// The same two numbers.
    pub(super) fn places(&self) -> [u64; 2] {
        [self.places[0].load(Ordering::Relaxed), self.places[1].load(Ordering::Relaxed)]
    }

    /// Shows a server as up from the start, before anything was heard of it.
    pub fn declare_server(&self, authority: &str) {
        let mut servers = self.lock();
        if servers.len() < SERVERS_MAX {
            servers.entry(authority.into()).or_insert(true);
        }
    }

    fn set_server(&self, authority: &Arc<str>, up: bool) -> bool {
        let mut servers = self.lock();
        match servers.get_mut(authority) {
            Some(known) => std::mem::replace(known, up) != up,
            None => {
                if servers.len() < SERVERS_MAX {
                    servers.insert(authority.clone(), up);
                }
                !up
            }
        }
    }

    /// Every server that was heard of, and whether it is in rotation.
    pub(super) fn servers(&self) -> Vec<(Arc<str>, bool)> {
        self.lock().iter().map(|(authority, up)| (authority.clone(), *up)).collect()
    }

    /// Held for a map operation only, and never while waiting; a panic in between leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, bool>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(vec!["book".into(), "rest".into()], vec!["scheduler".into()])
    }

    #[test]
    fn figures_of_all_threads_are_summed_by_route() {
        let metrics = metrics();
        let count = |route| metrics.count(route, Decision::Passed, None, Duration::from_millis(1));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| count(Some(1))));
            }
        });
        count(None);
        count(Some(7));
        let passed: Vec<(&str, u64, u64)> = metrics
            .routes()
            .map(|(name, figures)| (name, figures.decisions[Decision::Passed.index()], figures.total.count()))
            .collect();
        assert_eq!(passed, [("book", 0, 0), ("rest", 400, 400), ("", 2, 2)]);
    }

    #[test]
    fn invented_methods_share_one_series() {
        let metrics = metrics();
        for method in ["PATCH", "LOCK", "X-FLOOD-1", "X-FLOOD-2"] {
            metrics.count_unguarded(Some(1), &method.parse().expect("a token"));
        }
        let unguarded = metrics.routes().nth(1).expect("two routes").1.unguarded;
        assert_eq!(unguarded, [0, 0, 1, 0, 3]);
    }

    #[test]
    fn only_changes_of_a_servers_state_are_changes() {
        let metrics = metrics();
        let told = |up| metrics.upstream_changed("scheduler", &"10.0.0.1:80".into(), up);
        assert_eq!(
            [told(true), told(false), told(false), told(true), told(true)],
            [false, true, false, true, false]
        );
        let upstream = metrics.upstream(0).expect("one upstream");
        upstream.declare_server("10.0.0.2:80");
        assert_eq!(upstream.servers(), [("10.0.0.1:80".into(), true), ("10.0.0.2:80".into(), true)]);
    }
}
