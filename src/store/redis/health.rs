//! How the store is, as this gateway knows: whether guarded writes are accepted, why not, and its last figures. One log
//! line for each change.

use crate::store::{Figures, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
pub(super) struct Health {
    state: Mutex<State>,
    closed: AtomicBool,
    /// Bodies become tombstones: the server's memory is nearly full.
    tight: AtomicBool,
    /// Claims are refused: what is left of the server's memory is for those that are granted already.
    full: AtomicBool,
}

struct State {
    /// Why guarded writes are refused, if they are.
    refusing: Option<String>,
    figures: Figures,
}

// === impl Health ===

impl Health {
    /// Nothing was heard yet.
    pub(super) fn new() -> Health {
        let state = State { refusing: Some("it was not reached yet".into()), figures: Figures::default() };
        let off = || AtomicBool::new(false);
        Health { state: Mutex::new(state), closed: off(), tight: off(), full: off() }
    }

    /// Everything is as it should be.
    pub(super) fn good(&self) {
        let before = self.lock().refusing.take();
        if let Some(before) = before {
            tracing::info!(before, "the store is up: guarded writes are accepted");
        }
    }

    /// Guarded writes are refused, for this reason.
    pub(super) fn bad(&self, why: &str) {
        let mut state = self.lock();
        let is_new = state.refusing.is_none();
        if is_new || state.refusing.as_deref() != Some(why) {
            state.refusing = Some(why.to_owned());
        }
        drop(state);
        if is_new {
            tracing::error!(why, "the store is down: guarded writes get what `on_outage` says, reads go on");
        }
    }

    /// One command failed. That alone says little of a busy store, but a store that was good is looked at.
    pub(super) fn failed(&self, why: &str) {
        tracing::debug!(why, "a command of the store failed");
    }

    /// Why guarded writes are refused, if they are.
    pub(super) fn refusing(&self) -> Option<String> {
        self.lock().refusing.clone()
    }

    /// The last figures.
    pub(super) fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    /// New figures.
    pub(super) fn counted(&self, figures: Figures) {
        self.lock().figures = figures;
    }

    /// The server uses so many bytes of so many; 0: it has no limit.
    pub(super) fn memory(&self, used: u64, most: u64) {
        let over = |percent: u64| most > 0 && used > most / 100 * percent;
        let (tight, full) = (over(TIGHT), over(FULL));
        if self.tight.swap(tight, Ordering::Relaxed) != tight {
            if tight {
                tracing::warn!(
                    used,
                    most,
                    "the store's memory is nearly full: answers are kept without their bodies"
                );
            } else {
                tracing::info!(used, most, "the store has room again: answers are kept with their bodies");
            }
        }
        if self.full.swap(full, Ordering::Relaxed) != full && full {
            tracing::error!(used, most, "the store's memory is full: guarded writes are refused");
        }
        self.lock().figures.memory_bytes = used;
    }

    /// Whether bodies are left out.
    pub(super) fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed)
    }

    /// Whether there is room for a new record.
    pub(super) fn admits_claims(&self) -> Result<(), StoreError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::Full(format!("its memory is more than {FULL} % full")));
        }
        Ok(())
    }

    /// No more commands.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// An error once it is closed.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("it is closing".into()));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From so many percent of the server's memory on, bodies are left out.
const TIGHT: u64 = 80;

/// From so many percent on, claims are refused. What is above is for completions, which must not fail.
const FULL: u64 = 95;
