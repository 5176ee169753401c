//! One worker: one thread, one single-threaded runtime, its own connections to the backends. Nothing of it is shared
//! with other workers except what [`Shared`] names.

use super::below::Below;
use super::clock;
use super::connection::{Connection, Orders, serve};
use super::deadline::Deadlines;
use super::flood::Flood;
use super::headers::{add_via, first_of};
use super::identity::is_within;
use super::jwt::Verifier;
use super::look_alikes;
use super::own_lines;
use super::places;
use super::probe::Probing;
use super::reads::Reads;
use super::recover::Asking;
use super::stall::Patience;
use super::throttle::Throttles;
use super::tls::{Handshakes, ServerSide};
use super::upstream::{Pool, Upstream};
use crate::config::{self, Policy};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::hex;
use crate::domain::ledger::Token;
use crate::journal::{Apart, Journal};
use crate::store::Store;
use bytes::Bytes;
use http::Version;
use http::header::{HeaderMap, HeaderValue};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

/// What all workers share.
pub struct Shared {
    /// The compiled configuration.
    pub policy: Arc<Policy>,
    /// Where records live.
    pub store: Arc<Store>,
    /// Who is told.
    pub journal: Arc<Journal>,
    /// In the order of the configuration.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Makes fingerprints, scopes and record ids.
    pub digest: FingerprintKey,
    /// Kept and coming answers, where any route keeps or shares some.
    pub reads: Option<Arc<Reads>>,
    /// Verifies bearer tokens, where `[clients.jwt]` is configured.
    pub jwt: Option<Verifier>,
    /// How clients are met where `[server.tls]` is configured.
    pub tls: Option<ServerSide>,
    /// Names of headers that others may look like.
    pub own_names: look_alikes::Own,
    /// Bytes of request bodies that are read whole and not yet sent.
    pub body_bytes: Apart<AtomicU64>,
    /// What one address may send, where `[server.flood]` is configured.
    pub flood: Option<Flood>,
    /// Connections that speak another protocol, or are about to.
    pub upgrades: Apart<AtomicUsize>,
    /// Where writes without a key are remembered.
    pub below: Below,
    /// Records that the backend is asked about at this moment.
    pub asking: Asking,
    /// Slots of which the backend is asked whether their holders are still there.
    pub probing: Probing,
    /// Where the walk of waits before further attempts begins, and how far it is.
    pub spread_start: u64,
    /// See `spread_start`.
    pub spreads: Apart<AtomicU64>,
    /// How often clients may ask.
    pub throttles: Throttles,
    /// Answers that the store has not taken yet, each kept by a task of its own.
    pub unrecorded: Apart<AtomicUsize>,
    /// Claims that nobody carries out and that the store has still to forget.
    pub giving_up: Apart<AtomicUsize>,
    /// No new requests on connections that live on.
    pub draining: AtomicBool,
    /// The drain is over: connections end, whatever they are doing.
    pub cut_off: AtomicBool,
}

/// A connection on its way from the listener to its worker.
pub struct Arrival {
    /// The accepted socket, in non-blocking mode.
    pub socket: TcpStream,
    /// Who connected.
    pub peer: IpAddr,
    /// The connection's place among `server.connections_max`.
    pub place: places::Place,
}

/// What the listener knows of a worker.
pub struct WorkerHandle {
    /// Takes connections. Bounded: a worker that does not keep up slows the listener, not itself.
    pub arrivals: mpsc::Sender<Arrival>,
    /// Open connections, counted from the moment that they are handed over.
    pub connections: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

/// One worker, on its own thread.
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// This worker's connections to each upstream.
    pub pools: Vec<Rc<Pool>>,
    /// How long this worker's exchanges wait for what.
    pub deadlines: Deadlines,
    /// TLS handshakes under way.
    pub handshakes: Handshakes,
    /// The lines at the end of every answer of HTTP/1.1; the last one's value is the request's id.
    pub signature: Rc<[u8]>,
    connections: RefCell<Slab<Rc<Connection>>>,
    open: Arc<AtomicUsize>,
    /// Attempts and other work whose client may be gone.
    running: Cell<usize>,
    ids: Cell<u64>,
    /// Ids of the requests to come, one behind the other: one by one, each would cost two pieces of memory.
    ids_to_come: RefCell<Bytes>,
    tokens: Cell<u128>,
}

/// So many ids are made together.
const IDS_AT_ONCE: usize = 64;

/// See [`Worker::signature`].
fn signature(server: &config::Server) -> Rc<[u8]> {
    let mut headers = HeaderMap::new();
    if server.via {
        add_via(&mut headers, Version::HTTP_11);
    }
    own_lines::lines(&headers, &server.request_id_header)
}

/// Work whose client may be gone: a drain waits for it.
pub struct Running(Rc<Worker>);

/// A connection's place in its worker's list; given up when dropped.
pub struct Place {
    worker: Rc<Worker>,
    index: usize,
}

/// How often overdue connections are looked for: deadlines are kept to this grain.
pub const SWEEP: Duration = Duration::from_millis(250);
/// Bytes of answers that the kernel keeps for one client beside those on their way.
const UNSENT_MOST: u32 = 64 << 10;
/// The flood guard forgets what it can in one sweep of so many: it looks through all addresses.
const FLOOD_SWEEPS: u64 = 20;
/// Connections waiting for a worker.
const ARRIVALS_MOST: usize = 1024;
/// A request id from outside is kept up to this length.
const REQUEST_ID_LONGEST: usize = 128;

// === impl WorkerHandle ===

impl WorkerHandle {
    /// Starts a worker's thread. It ends when its arrivals are closed and its connections and attempts have ended.
    pub fn start(index: usize, shared: Arc<Shared>) -> io::Result<WorkerHandle> {
        let (arrivals, queue) = mpsc::channel(ARRIVALS_MOST);
        let connections = Arc::new(AtomicUsize::new(0));
        let open = connections.clone();
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        drop(runtime?);
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // Built on its own thread, because it cannot be moved; that it can be built was tried above.
            match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime.block_on(Worker::run(shared, open, queue)),
                Err(error) => tracing::error!(%error, "a worker could not start"),
            }
        })?;
        Ok(WorkerHandle { arrivals, connections, thread })
    }

    /// Takes no more connections. The thread ends when those it has, and all attempts, have ended.
    pub fn end(self) -> std::thread::JoinHandle<()> {
        self.thread
    }
}

// === impl Worker ===

impl Worker {
    async fn run(shared: Arc<Shared>, open: Arc<AtomicUsize>, mut queue: mpsc::Receiver<Arrival>) {
        let worker = Worker::new(shared, open);
        let sweep = spawn_local(worker.clone().sweep());
        let store = worker.shared.store.clone();
        spawn_local(async move { store.prepare_limits().await });
        while let Some(Arrival { socket, peer, place }) = queue.recv().await {
            let worker = worker.clone();
            match tokio::net::TcpStream::from_std(socket) {
                Ok(socket) => {
                    let _ = socket.set_nodelay(true);
                    // With more in the kernel's hands, nobody could tell a slow client from one that takes nothing.
                    let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_MOST);
                    spawn_local(async move {
                        serve(worker, socket, peer).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    worker.open.fetch_sub(1, Relaxed);
                    tracing::warn!(%error, "a connection could not be taken over");
                }
            }
        }
        worker.drained().await;
        sweep.abort();
    }

    fn new(shared: Arc<Shared>, open: Arc<AtomicUsize>) -> Rc<Worker> {
        let pools = shared.upstreams.iter().map(|upstream| Rc::new(Pool::new(upstream.clone()))).collect();
        let seed = u64::from_ne_bytes(random());
        let (deadlines, connections) = (Deadlines::default(), RefCell::new(Slab::new()));
        let (running, ids) = (Cell::new(0), Cell::new(seed));
        let tokens = Cell::new(u128::from_ne_bytes(random()));
        let handshakes = Handshakes::default();
        let signature = signature(&shared.policy.config().server);
        Rc::new(Worker {
            shared,
            pools,
            deadlines,
            handshakes,
            signature,
            connections,
            open,
            running,
            ids,
            ids_to_come: RefCell::default(),
            tokens,
        })
    }

    /// Closes what is overdue, until the worker ends.
    async fn sweep(self: Rc<Worker>) {
        let server = &self.shared.policy.config().server;
        let patience = Patience {
            head: server.header_timeout,
            idle: server.idle,
            switched: server.upgrade_idle,
            body_rate: server.body_rate,
            write: server.write_timeout,
        };
        let mut ticks = tokio::time::interval(SWEEP);
        for tick in 0_u64.. {
            ticks.tick().await;
            let now = clock::now();
            if let Some(flood) = self.shared.flood.as_ref().filter(|_| tick % FLOOD_SWEEPS == 0) {
                flood.sweep();
            }
            let draining = self.shared.draining.load(Relaxed);
            for (_, connection) in self.connections.borrow().iter() {
                if draining {
                    connection.drain();
                }
                connection.sweep(now, patience);
            }
            self.deadlines.sweep(now);
            self.shared.throttles.report(self.shared.journal.metrics(), &self.shared.store);
            for pool in &self.pools {
                pool.upstream.report();
                pool.sweep(now);
            }
        }
    }

    /// Ends each connection after its present exchange, and waits until none is left and no attempt runs.
    async fn drained(&self) {
        for (_, connection) in self.connections.borrow().iter() {
            connection.drain();
        }
        while self.open.load(Relaxed) > 0 || self.running.get() > 0 {
            if self.shared.cut_off.load(Relaxed) {
                // Each tells of its exchanges as if its client had left.
                self.connections.borrow().iter().for_each(|(_, connection)| connection.give(Orders::Close));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A connection ended before it came into the sweep.
    pub fn turned_away(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// Takes a connection into the sweep.
    pub fn register(self: &Rc<Worker>, connection: Rc<Connection>) -> Place {
        self.shared.journal.metrics().connections.inc();
        let index = self.connections.borrow_mut().insert(connection);
        Place { worker: self.clone(), index }
    }

    /// Whether `peer` may say for whom it asks.
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        is_within(&self.shared.policy.config().clients.trusted_proxies, peer)
    }

    /// The request's id: kept where it came with a usable one, made otherwise. And whether it came with any.
    pub fn request_id(&self, headers: &HeaderMap) -> (HeaderValue, bool) {
        match first_of(headers, &self.shared.policy.config().server.request_id_header) {
            Some(given) if is_usable_id(given.as_bytes()) => (given.clone(), true),
            given => (self.new_id(), given.is_some()),
        }
    }

    /// A number that nobody can foresee: a random start, then a bijective walk (splitmix64).
    pub fn chance(&self) -> u64 {
        let state = self.ids.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.ids.set(state);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Sixteen hex digits, unlike any other of this fleet.
    fn new_id(&self) -> HeaderValue {
        let mut ids = self.ids_to_come.borrow_mut();
        if ids.len() < hex::DIGITS {
            *ids = (0..IDS_AT_ONCE).flat_map(|_| hex::digits(self.chance())).collect();
        }
        let id = ids.split_to(hex::DIGITS);
        HeaderValue::from_maybe_shared(id).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// A fencing token that nobody else has: steps from a random start, which no other worker's steps ever reach. Asking
    /// the system for each would cost a call a write.
    pub fn new_token(&self) -> Token {
        let token = self.tokens.get().wrapping_add(1);
        self.tokens.set(token);
        Token(token)
    }
}

/// Bytes from the operating system. Without its random source no token is safe, so there is nothing to fall back to.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A number that no other process begins with.
pub fn random_start() -> u64 {
    u64::from_ne_bytes(random())
}

fn is_usable_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_LONGEST).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'='))
}

impl Running {
    /// Counted from now until it is dropped.
    pub fn new(worker: &Rc<Worker>) -> Running {
        worker.running.set(worker.running.get() + 1);
        Running(worker.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(self.index);
        self.worker.open.fetch_sub(1, Relaxed);
        self.worker.shared.journal.metrics().connections.dec();
    }
}
