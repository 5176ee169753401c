//! What all workers share about one upstream: how much is in flight, and which servers are out of rotation.
//!
//! Health is passive: a server that refuses connections leaves the rotation for a while that doubles, up to ten
//! seconds, and comes back with the first connection that succeeds, or with what it answers after that while over one that it
//! had. One that takes a new connection and ends it without a word leaves it likewise, and comes back with an answer alone. With
//! one server there is no rotation to leave.

use super::capacity::Capacity;
use super::pool::Pool;
use super::tls::ClientTls;
use crate::config;
use crate::domain::event::Event;
use crate::domain::throttle::queue::Rank;
use crate::gateway::clock;
use crate::journal::{Apart, Journal};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// One upstream, shared by all workers.
pub struct Upstream {
    /// Its part of the configuration.
    pub config: config::Upstream,
    /// One for each base URL, in the same order.
    servers: Vec<Server>,
    pub(super) capacity: Capacity,
    /// How servers with `https` are met.
    pub(super) tls: Option<ClientTls>,
    /// Whether any base URL has a path, so that targets have to be put together.
    pub(super) has_prefixes: bool,
    started: Instant,
    journal: Arc<Journal>,
    /// Its place in the configuration.
    index: usize,
}

struct Server {
    in_flight: Apart<AtomicUsize>,
    /// Connections refused, or ended without a word, in a row.
    failures: AtomicU32,
    /// Whether the last of them was made: then it does not say much that one can be.
    is_mute: AtomicBool,
    /// Out of rotation until then, in milliseconds since `started`.
    down_until: AtomicU64,
}

/// The right to have one exchange in flight with an upstream.
pub struct Permit {
    /// The worker's own: to count who holds the upstream would be one more number that all workers write.
    pool: Rc<Pool>,
    server: Option<usize>,
}

/// A server's change of health, to be told once.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It left the rotation.
    Down,
    /// It is back.
    Up,
}

const DOWN_FIRST: Duration = Duration::from_millis(500);
const DOWN_MOST: Duration = Duration::from_secs(10);

// === impl Upstream ===

impl Upstream {
    /// All servers up, nothing in flight.
    pub fn new(
        index: usize,
        config: config::Upstream,
        tls: Option<ClientTls>,
        journal: Arc<Journal>,
        started: Instant,
    ) -> Arc<Upstream> {
        let server = |_| Server {
            in_flight: Apart::new(AtomicUsize::new(0)),
            failures: AtomicU32::new(0),
            is_mute: AtomicBool::new(false),
            down_until: AtomicU64::new(0),
        };
        if let Some(figures) = journal.metrics().upstream(index) {
            config.urls.iter().for_each(|base| figures.declare_server(&base.authority));
        }
        let servers = config.urls.iter().map(server).collect();
        let capacity = Capacity::new(&config);
        let has_prefixes = config.urls.iter().any(|base| !base.prefix.is_empty());
        Arc::new(Upstream { config, tls, has_prefixes, servers, capacity, started, journal, index })
    }

    /// The head of an answer came from `server`, to what was sent at `sent`.
    pub(super) fn answered(self: &Arc<Upstream>, server: usize, sent: Option<Instant>) {
        if let (true, Some(sent)) = (self.capacity.is_adaptive(), sent) {
            self.capacity.answered(self, clock::now().saturating_duration_since(sent));
        }
        if self.has_rested(server) {
            self.servers[server].is_mute.store(false, Relaxed);
            self.reached(server);
        }
    }

    /// When an exchange has to be over that begins now, where the upstream says that for all of it.
    pub fn ends(&self, now: Instant) -> Option<Instant> {
        self.config.total.map(|total| now + total)
    }

    /// Tells the gauges of the queue.
    pub fn report(&self) {
        if let Some(figures) = self.journal.metrics().upstream(self.index) {
            figures.set_capacity(self.capacity.waiting(), self.capacity.limit());
        }
    }

    /// The server to use: in rotation, fewest in flight, not among `tried` (a bit each). Where all are out, the one
    /// that comes back first. `None` when all were tried.
    pub(super) fn choose(&self, tried: u64, now: Instant) -> Option<usize> {
        if self.servers.len() == 1 {
            return (tried == 0).then_some(0);
        }
        let now = self.millis(now);
        let open = self.servers.iter().enumerate().filter(|(index, _)| tried & (1 << index) == 0);
        open.min_by_key(|(_, server)| {
            let wait = server.down_until.load(Relaxed).saturating_sub(now);
            (wait, server.in_flight.load(Relaxed))
        })
        .map(|(index, _)| index)
    }

    /// A connection to `server` could not be made.
    pub(super) fn failed(&self, server: usize, why: &str, now: Instant) {
        self.tell(server, self.note_failure(server, now), why);
    }

    /// `server` took a new connection and ended it before it had answered anything there.
    pub(super) fn said_nothing(&self, server: usize, why: &str) {
        self.servers[server].is_mute.store(true, Relaxed);
        self.failed(server, why, clock::now());
    }

    /// A connection to `server` was made.
    pub(super) fn reached(&self, server: usize) {
        self.tell(server, self.note_success(server), "");
    }

    fn tell(&self, server: usize, turn: Option<Turn>, detail: &str) {
        if let Some(turn) = turn {
            self.journal.event(Event::UpstreamHealth {
                upstream: self.config.name.clone(),
                authority: self.config.urls[server].authority.as_str().into(),
                up: turn == Turn::Up,
                detail: detail.to_owned(),
            });
        }
    }

    fn note_failure(&self, server: usize, now: Instant) -> Option<Turn> {
        let server = &self.servers[server];
        let failures = server.failures.fetch_add(1, Relaxed);
        let pause = DOWN_FIRST.saturating_mul(1 << failures.min(8)).min(DOWN_MOST);
        server.down_until.store(self.millis(now + pause), Relaxed);
        (failures == 0).then_some(Turn::Down)
    }

    fn note_success(&self, server: usize) -> Option<Turn> {
        let mute = self.servers[server].is_mute.load(Relaxed);
        if mute || !self.has_failed(server) {
            return None;
        }
        let server = &self.servers[server];
        server.down_until.store(0, Relaxed);
        (server.failures.swap(0, Relaxed) > 0).then_some(Turn::Up)
    }

    /// Whether it is out of rotation and has been for as long as it was to rest. What it answers over a connection that was
    /// made before brings it back then, and not sooner: it may refuse new ones at the same time.
    fn has_rested(&self, server: usize) -> bool {
        self.has_failed(server)
            && self.servers[server].down_until.load(Relaxed) <= self.millis(clock::recent())
    }

    fn has_failed(&self, server: usize) -> bool {
        self.servers[server].failures.load(Relaxed) > 0
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

// === impl Permit ===

impl Permit {
    /// Takes one of the `max_in_flight` places; `None` when all are taken, or others wait for one.
    pub fn take(pool: &Rc<Pool>) -> Option<Permit> {
        pool.upstream.capacity.take().then(|| Permit::new(pool))
    }

    /// The same, waiting behind the others of its client, each client in turn; `None` where the queue is full or it took
    /// too long.
    pub async fn take_in_turn(pool: &Rc<Pool>, rank: Rank, at_most: Duration) -> Option<Permit> {
        if let Some(permit) = Permit::take(pool) {
            return Some(permit);
        }
        let handed = pool.upstream.capacity.wait(&pool.upstream, rank, at_most).await?;
        handed.keep();
        Some(Permit::new(pool))
    }

    /// For a place that was taken.
    fn new(pool: &Rc<Pool>) -> Permit {
        let upstream = &pool.upstream;
        if let Some(figures) = upstream.journal.metrics().upstream(upstream.index) {
            figures.in_flight.inc();
        }
        Permit { pool: pool.clone(), server: None }
    }

    /// The exchange goes to `server` now; moves the count if it went to another one before.
    pub(super) fn assign(&mut self, server: usize) {
        let servers = &self.pool.upstream.servers;
        // Counted to choose the least loaded one; of one there is nothing to choose.
        if servers.len() == 1 {
            return;
        }
        if let Some(before) = self.server.replace(server) {
            servers[before].in_flight.fetch_sub(1, Relaxed);
        }
        servers[server].in_flight.fetch_add(1, Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let upstream = &self.pool.upstream;
        if let Some(figures) = upstream.journal.metrics().upstream(upstream.index) {
            figures.in_flight.dec();
        }
        if let Some(server) = self.server {
            upstream.servers[server].in_flight.fetch_sub(1, Relaxed);
        }
        upstream.capacity.give_back(upstream);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn upstream(servers: usize, max_in_flight: usize) -> Arc<Upstream> {
        upstream_with(servers, max_in_flight, 0)
    }

    pub fn upstream_with(servers: usize, max_in_flight: usize, queue: usize) -> Arc<Upstream> {
        let base = |n| config::Base {
            secure: false,
            host: "127.0.0.1".into(),
            port: n as u16,
            authority: format!("127.0.0.1:{n}"),
            prefix: String::new(),
        };
        let config = config::Upstream {
            name: "u".into(),
            urls: (0..servers).map(base).collect(),
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            pause: Duration::from_secs(5),
            idle: Duration::from_secs(4),
            stall: Duration::from_secs(60),
            total: None,
            max_in_flight,
            queue,
            queue_wait: Duration::from_secs(1),
            adaptive: false,
            host: config::HostPolicy::Preserve,
            http2: false,
            tls: config::UpstreamTls::default(),
            target: config::TargetSpelling::Normal,
            bare_lf: false,
        };
        Upstream::new(0, config, None, Journal::new(Vec::new(), vec!["u".into()], false), clock::now())
    }

    #[test]
    fn the_least_loaded_server_is_chosen() {
        let upstream = upstream(2, 10);
        let mut first = Permit::take(&Rc::new(Pool::new(upstream.clone()))).expect("room");
        first.assign(0);
        assert_eq!(upstream.choose(0, clock::now()), Some(1));
        drop(first);
        assert_eq!(upstream.choose(0, clock::now()), Some(0));
    }

    #[test]
    fn a_server_that_refuses_leaves_the_rotation_and_comes_back() {
        let upstream = upstream(2, 10);
        let now = clock::now();
        assert_eq!(upstream.note_failure(0, now), Some(Turn::Down));
        assert_eq!(upstream.note_failure(0, now), None, "told once");
        assert_eq!(upstream.choose(0, now), Some(1));
        assert_eq!(upstream.choose(0b10, now), Some(0), "the only one left is tried although it is out");
        assert_eq!(upstream.choose(0b11, now), None);
        assert_eq!(upstream.choose(0, now + DOWN_MOST), Some(0), "its pause is over");
        assert_eq!(upstream.note_success(0), Some(Turn::Up));
        assert_eq!(upstream.note_success(0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_answers_over_a_kept_connection_brings_it_back_after_its_rest() {
        let upstream = upstream(2, 10);
        upstream.failed(0, "refused", clock::now());
        upstream.answered(0, None);
        assert!(upstream.has_failed(0), "it may refuse new connections at the same time");
        tokio::time::advance(DOWN_FIRST).await;
        clock::now();
        upstream.answered(0, None);
        assert!(!upstream.has_failed(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_connections_and_says_nothing_is_back_when_it_answers() {
        let upstream = upstream(2, 10);
        upstream.said_nothing(0, "closed");
        upstream.reached(0);
        assert_eq!(upstream.choose(0, clock::now()), Some(1), "that a connection is made says nothing");
        upstream.said_nothing(0, "closed");
        tokio::time::advance(DOWN_FIRST).await;
        assert_eq!(upstream.choose(0, clock::now()), Some(1), "it rests twice as long");
        tokio::time::advance(DOWN_FIRST).await;
        assert_eq!(upstream.choose(0, clock::now()), Some(0));
        upstream.answered(0, None);
        upstream.failed(0, "refused", clock::now());
        upstream.reached(0);
        assert!(!upstream.has_failed(0), "it has spoken since");
    }

    #[test]
    fn no_more_than_max_in_flight_are_admitted() {
        let upstream = upstream(1, 2);
        let (one, other) = (Rc::new(Pool::new(upstream.clone())), Rc::new(Pool::new(upstream.clone())));
        let held = (Permit::take(&one), Permit::take(&other));
        assert!(
            held.0.is_some() && held.1.is_some() && Permit::take(&one).is_none(),
            "of all workers together"
        );
        drop(held);
        assert_eq!(upstream.capacity.taken(), 0);
        assert!(Permit::take(&other).is_some());
    }
}
