//! The shared store: records of a fleet of gateways, on a Redis or Valkey server, behind Sentinel, or on a cluster.
//!
//! ```text
//! commands, completions, -> script::Call -> wire -> link -> node -> direct (TLS: company) -> the server: scripts/*.lua
//! slots, views                              |               callers: who waits; usual: many in one command
//!        |                                map (who is the master)        keeper: every second, and when somebody doubts
//!      ends <- hearing (subscription)
//!      recall, holdings, ended, turns (said again after a loss)   replicas (WAIT)
//! ```
//!
//! Every command is one script, and every script one step of `domain::ledger`; but for usual claims and completions, of which
//! one script carries out many, each as a step of its own. What the store decides, it decides by its own clock and in one
//! place; a gateway keeps nothing that it could decide by, but for the answers of its own writes under a client's key, which
//! no later write ends (`recall`).

mod agreement;
mod aliases;
mod callers;
mod clock;
mod command;
mod commands;
mod company;
mod completions;
mod confirmations;
mod direct;
mod doubts;
mod ended;
mod ends;
mod frames;
mod health;
mod hearing;
mod held;
mod holdings;
mod identity;
mod keeper;
mod lanes;
mod limits;
mod link;
mod map;
mod node;
mod packed;
mod part;
mod place;
mod recall;
mod replicas;
mod reply;
mod script;
mod settings;
mod slots;
mod source;
mod spread;
mod stored;
mod turns;
mod usual;
mod views;
mod wire;
mod writes;

use super::{OpenError, Options};
use crate::domain::client::ScopeId;
use crate::domain::ledger::{Owner, RecordId};
use crate::domain::time::Millis;
use aliases::Aliases;
use clock::Clock;
use confirmations::Confirmations;
use doubts::Doubts;
use ends::Ends;
use health::Health;
use hmac::{Hmac, KeyInit, Mac};
use identity::Identity;
use keeper::Keeper;
use lanes::Places;
use limits::Limits;
use part::Part;
use recall::Recall;
use replicas::Replicas;
use sha2::Sha256;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use wire::Wire;
use writes::Ears;

pub use place::{Address, Layout, Shared, Tls};
pub use settings::{Finding, examine};

/// The part of what belongs to no record: aliases and the list of gateways that others wait for.
const HOME: Part = Part(0);

/// How long a start waits for the store before it goes on without, refusing guarded writes.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// A shared store, as one gateway uses it.
pub struct Redis {
    /// What its commands work on.
    pub(super) inner: Arc<Inner>,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What all threads share.
pub(super) struct Inner {
    wire: Wire,
    health: Health,
    clock: Clock,
    ends: Ends,
    aliases: Aliases,
    ears: Ears,
    confirmations: Confirmations,
    doubts: Doubts,
    places: Places,
    limits: Limits,
    recall: Recall,
    replicas: Replicas,
    owner: u64,
    secret: Vec<u8>,
    /// Tells secrets apart without saying them.
    secret_id: String,
    records_max: usize,
    memory_max: u64,
}

// === impl Redis ===

impl Redis {
    /// Opens the store. Fails where it must not be used; where it cannot be reached, guarded writes are refused until it
    /// can.
    pub(super) fn open(options: &Options, place: &Shared) -> Result<Redis, OpenError> {
        let unfit = |why: &str| OpenError::Unfit { store: place.to_string(), why: why.into() };
        let secret = options.secret.clone().ok_or_else(|| {
            unfit("several gateways need one `store.secret`, so that they take the same request for the same")
        })?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| unfit(&error.to_string()))?;
        let identity = Identity::take(&place.state, u64::from_le_bytes(random))?;
        let inner = Arc::new(Inner {
            wire: Wire::new(place.clone()),
            health: Health::new(),
            clock: Clock::new(),
            ends: Ends::default(),
            aliases: Aliases::default(),
            ears: Ears::default(),
            confirmations: Confirmations::default(),
            doubts: Doubts::default(),
            places: Places::default(),
            limits: Limits::new(),
            recall: Recall::new(options.memory_max),
            replicas: Replicas::default(),
            owner: identity.owner,
            secret_id: secret_id(&secret),
            secret,
            records_max: options.records_max,
            memory_max: options.memory_max,
        });
        let (tell, opened) = std::sync::mpsc::sync_channel(1);
        let stop = Arc::new(Notify::new());
        let (kept, stopped) = (inner.clone(), stop.clone());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let keeper = Keeper::new(kept.clone(), identity, tell);
            runtime.block_on(async {
                tokio::select! {
                    () = keeper.keep() => {}
                    () = kept.clone().hear() => {}
                    () = kept.clone().watch() => {}
                    () = stopped.notified() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("store-keeper".into()).spawn(run);
        let thread = thread.map_err(OpenError::io("starting the thread store-keeper"))?;
        let redis = Redis { inner, stop, thread: Mutex::new(Some(thread)) };
        match opened.recv_timeout(START_PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                redis.close();
                return Err(error);
            }
            Err(_) => {
                let why = redis.inner.health.refusing().unwrap_or_default();
                tracing::error!(why, store = %place, "the store cannot be reached; starting without it");
            }
        }
        Ok(redis)
    }

    /// See [`Store::scope_of`](super::Store::scope_of).
    pub(super) fn scope_of(&self, scope: ScopeId) -> ScopeId {
        self.inner.aliases.resolve(scope, || self.inner.clock.now())
    }

    /// See [`Store::placed`](super::Store::placed).
    pub(super) fn placed(&self, id: RecordId, scope: &ScopeId, apart: bool) -> RecordId {
        self.inner.wire.parts.placed(id, scope, apart)
    }

    /// See [`Store::refusing`](super::Store::refusing).
    pub(super) fn refusing(&self) -> Option<String> {
        self.inner.health.refusing()
    }

    /// See [`Store::secret`](super::Store::secret).
    pub(super) fn secret(&self) -> &[u8] {
        &self.inner.secret
    }

    /// See [`Store::owner`](super::Store::owner).
    pub(super) fn owner(&self) -> Owner {
        Owner(self.inner.owner)
    }

    /// See [`Store::now`](super::Store::now).
    pub(super) fn now(&self) -> Millis {
        self.inner.clock.now()
    }

    /// See [`Store::close`](super::Store::close).
    pub(super) fn close(&self) {
        self.inner.health.close();
        self.stop.notify_one();
        self.inner.ends.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that panicked has nothing left to do.
            drop(thread.join());
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// The largest answer that is kept with its body.
    fn answer_most(&self) -> u64 {
        self.memory_max
    }
}

/// A digest of the secret: equal for gateways that may share records, and no way back.
fn secret_id(secret: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(b"oncegate: which secret this is");
    let digest = mac.finalize().into_bytes();
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
