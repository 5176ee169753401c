//! The journal tells: log, access lines and figures. It owns what is said and how it looks; whoever does a thing says
//! that it was done. Telling never blocks: counting is a few relaxed additions, and a line goes through a bounded queue
//! to a thread of its own (`queue`), which loses lines rather than time.

mod doors;
mod exposition;
mod histogram;
mod limits;
mod line;
pub mod log;
mod metrics;
mod process;
mod queue;
mod readiness;
mod reads;
mod shard;
mod slots;
mod stamp;

pub use doors::Doors;
pub use exposition::{CONTENT_TYPE, counter, gauge, labelled_gauge};
pub use limits::{HoldEnd, LimitFigures};
pub use metrics::{Metrics, Upstream};
pub use readiness::Readiness;
pub use reads::ReadFigures;
pub use shard::{Apart, Gauge, Held};

use crate::domain::event::{Decision, Event, Exchange};
use line::Line;
use prometheus_client::collector::Collector;
use queue::Queue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One for the process, shared by all workers.
#[derive(Debug)]
pub struct Journal {
    metrics: Arc<Metrics>,
    log: Option<Arc<Queue>>,
    access: bool,
    store_up: AtomicBool,
}

// === impl Journal ===

impl Journal {
    /// A journal for these routes and upstreams, in the order of the configuration. Lines go to the log that
    /// [`log::init`] started before; without one the journal only counts.
    pub fn new(route_names: Vec<Arc<str>>, upstream_names: Vec<Arc<str>>, access: bool) -> Arc<Journal> {
        Journal::with_log(route_names, upstream_names, access, log::queue())
    }

    fn with_log(
        route_names: Vec<Arc<str>>,
        upstream_names: Vec<Arc<str>>,
        access: bool,
        log: Option<Arc<Queue>>,
    ) -> Arc<Journal> {
        let metrics = Arc::new(Metrics::new(route_names, upstream_names));
        Arc::new(Journal { metrics, access: access && log.is_some(), log, store_up: AtomicBool::new(true) })
    }

    /// Whether access lines are wanted: only then is building an [`Exchange`] worth its strings.
    pub fn access(&self) -> bool {
        self.access
    }

    /// Counts one finished exchange: the cheap path, for when [`Journal::access`] is false. `upstream`: to the backend's
    /// answer head; `total`: to our answer's head.
    pub fn count(
        &self,
        route: Option<usize>,
        decision: Decision,
        upstream: Option<Duration>,
        total: Duration,
    ) {
        self.metrics.count(route, decision, upstream, total);
    }

    /// Counts one finished exchange and writes its access line, where these are wanted.
    pub fn exchange(&self, exchange: Exchange) {
        self.count(exchange.route, exchange.decision, exchange.upstream, exchange.total);
        if self.access
            && let Some(log) = &self.log
        {
            log.send(Line::Exchange(exchange));
        }
    }

    /// Counts a mutation that no idempotency rule guarded.
    pub fn unguarded_mutation(&self, route: Option<usize>, method: &http::Method) {
        self.metrics.count_unguarded(route, method);
    }

    /// Counts a turn in a lane, and how long it was waited for.
    pub fn turn(&self, route: usize, waited: Duration) {
        self.metrics.count_turn(route, waited);
    }

    /// Counts a further attempt.
    pub fn retried(&self, route: usize) {
        self.metrics.count_retry(route);
    }

    /// Counts a fact and writes its line. States (the store's, a server's) are counted and written once per change,
    /// however often they are told.
    pub fn event(&self, event: Event) {
        let news = match &event {
            Event::StoreOutage { up, .. } => self.store_up.swap(*up, Ordering::Relaxed) != *up,
            Event::UpstreamHealth { upstream, authority, up, .. } => {
                self.metrics.upstream_changed(upstream, authority, *up)
            }
            Event::Duplicate { .. }
            | Event::InDoubt { .. }
            | Event::SlotTaken { .. }
            | Event::SlotVacated { .. }
            | Event::Retry { .. }
            | Event::Recovered { .. }
            | Event::DuplicateAnswer { .. }
            | Event::Throttled { .. }
            | Event::PollStorm { .. }
            | Event::Settled { .. } => true,
        };
        if !news {
            return;
        }
        self.metrics.count_event(&event);
        if let Some(log) = self.log.as_ref().filter(|log| log.wants(line::level(&event))) {
            log.send(Line::Event(event));
        }
    }

    /// Whether a copy's line is written, so that it is worth finding out what it says.
    pub fn writes_duplicates(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.wants(line::DUPLICATE))
    }

    /// Counts a copy that was answered from its record, and writes its line where the log wants it: only then is
    /// building the event worth its strings, because copies may be most of the traffic.
    pub fn duplicate(&self, event: impl FnOnce() -> Event) {
        match self.log.as_ref().filter(|log| log.wants(line::DUPLICATE)) {
            None => self.metrics.count_event_at(Event::DUPLICATE),
            Some(_) => self.event(event()),
        }
    }

    /// Counts a refusal for a limit. `news`: the client's first for a while, which is worth a line.
    pub fn throttled(&self, news: bool, event: impl FnOnce() -> Event) {
        if news {
            self.event(event());
        } else {
            self.metrics.count_event_at(Event::THROTTLED);
        }
    }

    /// Counts a place of a slot that a success took.
    pub fn slot_held(&self, slot: &Arc<str>) {
        self.metrics.slots.held(slot);
    }

    /// Counts a request that was refused because a slot was taken.
    pub fn slot_refused(&self, slot: &Arc<str>) {
        self.metrics.slots.refused(slot);
    }

    /// Counts a question to the backend about what holds a slot, and what it showed.
    pub fn slot_probed(&self, slot: &Arc<str>, shown: &'static str) {
        self.metrics.slots.probed(slot, shown);
    }

    /// The gauges that others set.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All figures as OpenMetrics text ([`CONTENT_TYPE`]), with what `more` collects under our prefix.
    pub fn metrics_text(&self, more: Vec<Box<dyn Collector>>) -> String {
        let log_dropped = self.log.as_ref().map_or(0, |log| log.dropped());
        exposition::expose(self.metrics.clone(), log_dropped, more)
    }
}

#[cfg(test)]
pub(crate) mod tests;
