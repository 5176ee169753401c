//! The resources that a request's path names, as the store knows them, and what ends with them.

use super::clock;
use super::exchange::Exchange;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::ledger::TargetId;
use crate::domain::target::NormalTarget;
use crate::store::EndIntents;
use std::sync::Arc;
use std::time::Duration;

impl Exchange {
    /// The resource that the normal form of `path` addresses; a slash at its end means nothing here.
    pub fn target(&self, path: &str) -> TargetId {
        let resource = NormalTarget::parse(path);
        let resource = resource.as_ref().map_or(path, NormalTarget::resource);
        self.shared().digest.target_id(&self.pool().upstream.config.name, resource)
    }

    /// The same of this request's own path. Writes come to the same collection again and again, so the last one of each
    /// route is remembered (a few routes share).
    pub fn own_target(&self, path: &str) -> TargetId {
        let mut last = self.pool().last_targets.borrow_mut();
        let slot = self.route % last.len();
        match &mut last[slot] {
            Some((known, id)) if known == path => *id,
            slot => {
                let id = self.target(path);
                *slot = Some((path.to_owned(), id));
                id
            }
        }
    }

    /// The resources above that of this request's own path, for a store that may know of one that ended with all below it.
    pub fn above(&self, path: &str) -> Option<Arc<[TargetId]>> {
        if !self.shared().store.may_have_ended_subtrees() {
            return None;
        }
        let directory = path.trim_end_matches('/').rfind('/').map(|slash| &path[..=slash])?;
        let mut last = self.pool().last_above.borrow_mut();
        let slot = self.route % last.len();
        match &mut last[slot] {
            Some((known, above)) if known == directory => Some(above.clone()),
            slot => {
                let directory = NormalTarget::parse(directory).ok()?;
                let above: Arc<[TargetId]> = directory.parents().map(|parent| self.target(parent)).collect();
                *slot = Some((directory.path().to_owned(), above.clone()));
                Some(above)
            }
        }
    }

    /// What ends when a request to `path` that means `by` succeeds. `with_below`: what lies below it is gone or another.
    pub fn ends(&self, path: &str, scope: ScopeId, by: Option<Fingerprint>, with_below: bool) -> EndIntents {
        let normal = NormalTarget::parse(path);
        let mut above: Vec<TargetId> =
            normal.iter().flat_map(NormalTarget::parents).map(|parent| self.target(parent)).collect();
        if !above.is_empty() {
            above.remove(0);
        }
        if with_below {
            let resource = normal.as_ref().map_or(path, NormalTarget::resource);
            let below = self.shared().below.of(resource, clock::recent());
            above.extend(below.iter().map(|path| self.target(path)));
        }
        let longest = || self.shared().policy.longest_fingerprint_window();
        let subtree_for = if with_below { longest() } else { Duration::ZERO };
        EndIntents { target: self.target(path), parents: above, scope, by, subtree_for }
    }
}
