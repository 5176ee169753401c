//! Idle connections of one worker to one upstream. Last in, first out, so that surplus connections age and close.

use super::health::Upstream;
use super::link::Link;
use super::trunk::Trunks;
use crate::domain::ledger::TargetId;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One worker's connections to one upstream.
pub struct Pool {
    /// What the workers share.
    pub upstream: Arc<Upstream>,
    /// One list a server.
    idle: Vec<RefCell<Vec<Idle>>>,
    /// Where the upstream speaks HTTP/2.
    pub(super) trunks: Option<Trunks>,
    /// Paths that were written to last, and the resources that they address here.
    pub last_targets: RefCell<Last<TargetId>>,
    /// Directories that were written into last, and the resources that they are here, with those above them.
    pub last_above: RefCell<Last<Arc<[TargetId]>>>,
}

struct Idle {
    link: Box<Link>,
    since: Instant,
}

/// What is known of the paths that came last, by route.
type Last<T> = [Option<(String, T)>; TARGETS];

/// Paths whose resources are remembered.
const TARGETS: usize = 8;
/// More idle connections than this a server are not kept by one worker.
const IDLE_MOST: usize = 1024;

// === impl Pool ===

impl Pool {
    /// An empty pool.
    pub fn new(upstream: Arc<Upstream>) -> Pool {
        let idle = upstream.config.urls.iter().map(|_| RefCell::new(Vec::new())).collect();
        let trunks = upstream.config.http2.then(|| Trunks::new(upstream.config.urls.len()));
        Pool { upstream, idle, trunks, last_targets: RefCell::default(), last_above: RefCell::default() }
    }

    /// A connection that is open, ready and was not idle for longer than `most`, with its time of rest.
    pub(super) fn take(&self, server: usize, most: Duration, now: Instant) -> Option<(Box<Link>, Duration)> {
        let mut idle = self.idle[server].borrow_mut();
        while let Some(last) = idle.last() {
            let rested = now.saturating_duration_since(last.since);
            if rested > most {
                // The ones below have rested even longer. They stay for requests that may use them.
                return None;
            }
            let last = idle.pop()?;
            if last.link.is_ready() {
                return Some((last.link, rested));
            }
        }
        None
    }

    /// Keeps a connection whose exchange has ended.
    pub(super) fn give_back(&self, server: usize, link: Box<Link>, since: Instant) {
        link.rests();
        let mut idle = self.idle[server].borrow_mut();
        if !link.is_closed() && idle.len() < IDLE_MOST {
            idle.push(Idle { link, since });
        }
    }

    /// Looks after the connections at rest: those that the server closed go, and those that are unused for longer than
    /// the upstream's `idle` are closed. Called by the worker's sweep.
    pub fn sweep(&self, now: Instant) {
        let most = self.upstream.config.idle;
        for idle in &self.idle {
            idle.borrow_mut().retain_mut(|one| {
                one.link.look_after();
                !one.link.is_closed() && now.saturating_duration_since(one.since) < most
            });
        }
        if let Some(trunks) = &self.trunks {
            trunks.sweep(now, most);
        }
    }
}
