//! The data path. [`Gateway`] starts the threads; everything that happens to a request is in `exchange`, read top to
//! bottom, and behind it in `guard` (writes) and `forward` (everything else).
//!
//! ```text
//!            door (PROXY, TLS)
//!                        |
//! listener -> worker -> connection -> exchange -+-> forward ----------> upstream
//!                           |                   +-> reads ---> lead --> upstream
//!                           |                   +-> guard -> attempt -> upstream
//!                       stream -> intake -> scan
//!                       h2     -> frames -> hyper -> head (HTTP/2, from the same port or by ALPN)
//! ```
//!
//! A worker is one thread with a single-threaded runtime, so nothing on the path of a request is locked or sent between
//! threads, except the store's commands.

mod answered;
mod answering;
mod asked;
mod attempt;
mod below;
mod body;
mod caller;
mod carried;
mod changes;
mod clock;
mod completion;
mod connection;
mod deadline;
mod detect;
mod disguise;
mod door;
mod duplicate;
mod exchange;
mod flood;
mod forward;
mod guard;
mod h2;
mod head_writer;
mod headers;
mod identity;
mod intake;
mod jwt;
mod key;
mod lane;
mod lease;
mod line;
mod linger;
mod listener;
mod look_alikes;
mod made;
mod observe;
mod overheard;
mod own_lines;
mod pending;
mod places;
mod probe;
mod proxy_protocol;
mod quiet;
mod reads;
mod recover;
mod refused;
mod replay;
mod respond;
pub mod scan;
mod slots;
mod socket;
mod source;
mod spelling;
mod stall;
mod stream;
mod targets;
mod tell;
mod throttle;
mod tls;
mod upgrade;
mod upload;
mod upstream;
mod whole;
mod worker;

pub use changes::{changes_below, changes_target};
pub use source::fields_of_answer;
pub use upstream::tls::check_authorities;

use crate::config::Policy;
use crate::domain::fingerprint::FingerprintKey;
use crate::journal::Journal;
use crate::store::Store;
use flood::Flood;
use listener::Listener;
use places::Places;
use probe::Probing;
use recover::Asking;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;
use upstream::Upstream;
use worker::{Shared, WorkerHandle};

/// A running gateway.
pub struct Gateway {
    listener: Option<Listener>,
    workers: Vec<WorkerHandle>,
    shared: Arc<Shared>,
}

/// Why the gateway did not start, for the operator.
#[derive(Debug)]
pub struct StartError(String);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Workers that still had connections or attempts when time ran out. What they had sent is in doubt.
    pub unfinished: usize,
}

/// How long exchanges that the end of a drain cuts off may take to tell of themselves.
const LAST_WORDS: Duration = Duration::from_secs(1);

// === impl Gateway ===

impl Gateway {
    /// Binds, starts the workers, and accepts.
    pub fn start(
        policy: Arc<Policy>,
        store: Arc<Store>,
        journal: Arc<Journal>,
    ) -> Result<Gateway, StartError> {
        let config = policy.config();
        let jwt = config.clients.jwt.as_ref().map(jwt::Verifier::new).transpose();
        let jwt = jwt.map_err(|why| StartError(format!("[clients.jwt]: {why}")))?;
        let tls = config.server.tls.as_ref();
        let tls = tls.map(|tls| tls::start(tls, config.server.http2, journal.clone())).transpose();
        let tls = tls.map_err(|why| StartError(format!("[server.tls]: {why}")))?;
        let started = clock::now();
        let upstreams = config.upstreams.iter().enumerate();
        let upstreams = upstreams
            .map(|(index, upstream)| {
                let tls = upstream::tls::start(upstream, &journal);
                let tls = tls.map_err(|why| StartError(format!("upstream {}: {why}", upstream.name)))?;
                Ok(Upstream::new(index, upstream.clone(), tls, journal.clone(), started))
            })
            .collect::<Result<_, _>>()?;
        let digest = FingerprintKey::new(store.secret());
        let reads = policy.shares_reads().then(|| reads::Reads::new(&config.cache, journal.clone()));
        if let Some(reads) = &reads {
            store.hear_writes(reads.clone());
        }
        let throttles = throttle::Throttles::new(&policy, &store, started);
        let shared = Arc::new(Shared {
            store,
            journal,
            upstreams,
            digest,
            reads,
            jwt,
            tls,
            asking: Asking::default(),
            probing: Probing::default(),
            spread_start: worker::random_start(),
            spreads: Default::default(),
            own_names: look_alikes::Own::of(config),
            body_bytes: Default::default(),
            flood: config.server.flood.and_then(Flood::new),
            upgrades: Default::default(),
            unrecorded: Default::default(),
            giving_up: Default::default(),
            draining: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            below: Default::default(),
            throttles,
            policy: policy.clone(),
        });
        let failed = |error: std::io::Error| StartError(error.to_string());
        let start = |index| WorkerHandle::start(index, shared.clone()).map_err(failed);
        let workers = (0..config.server.workers.max(1)).map(start).collect::<Result<Vec<_>, _>>()?;
        let places = Places::new(config, shared.journal.clone());
        let listener = Listener::start(&config.server.listen, &workers, places).map_err(failed)?;
        Ok(Gateway { listener: Some(listener), workers, shared })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listener.as_ref().map_or(&[], |listener| &listener.addresses)
    }

    /// Ends politely: no new connections, exchanges and attempts in flight run to their end, within `limit`.
    pub fn drain(mut self, limit: Duration) -> Drained {
        self.shared.draining.store(true, Relaxed);
        self.shared.throttles.drain();
        self.listener = None;
        let deadline = clock::now() + limit;
        let open: Vec<_> = self.workers.iter().map(|worker| worker.connections.clone()).collect();
        let workers: Vec<_> = std::mem::take(&mut self.workers).into_iter().map(WorkerHandle::end).collect();
        wait_until(deadline, || workers.iter().all(|thread| thread.is_finished()));
        let unfinished = workers.iter().filter(|thread| !thread.is_finished()).count();
        if unfinished > 0 {
            self.shared.cut_off.store(true, Relaxed);
            wait_until(clock::now() + LAST_WORDS, || open.iter().all(|open| open.load(Relaxed) == 0));
        }
        Drained { unfinished }
    }
}

/// Looks until `deadline` whether it `is_so`.
fn wait_until(deadline: Instant, is_so: impl Fn() -> bool) {
    while clock::now() < deadline && !is_so() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}
