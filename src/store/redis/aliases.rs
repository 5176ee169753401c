//! The scopes that stand for others, as every gateway of the fleet knows them: read when the subscription begins, and
//! kept in step by its messages, so that a request asks nobody.

use crate::domain::client::ScopeId;
use crate::domain::time::Millis;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

/// See the module.
#[derive(Default)]
pub(super) struct Aliases {
    known: RwLock<HashMap<ScopeId, (ScopeId, Millis)>>,
    count: AtomicUsize,
}

// === impl Aliases ===

impl Aliases {
    /// The scope that `scope` stands for. One atomic load where there are no aliases.
    pub(super) fn resolve(&self, scope: ScopeId, now: impl FnOnce() -> Millis) -> ScopeId {
        if self.count.load(Ordering::Acquire) == 0 {
            return scope;
        }
        match self.known.read().unwrap_or_else(PoisonError::into_inner).get(&scope) {
            Some((to, until)) if now() < *until => *to,
            _ => scope,
        }
    }

    /// Whether `from` means `to` until `until` at least.
    pub(super) fn lasts(&self, from: ScopeId, to: ScopeId, until: Millis) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&from).is_some_and(|(known, last)| *known == to && until <= *last)
    }

    /// `from` means `to` until `until`.
    pub(super) fn add(&self, from: ScopeId, to: ScopeId, until: Millis) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(from, (to, until));
        self.count.store(known.len(), Ordering::Release);
    }

    /// Forgets what is over.
    pub(super) fn expire(&self, now: Millis) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, until)| now < *until);
        self.count.store(known.len(), Ordering::Release);
    }
}
