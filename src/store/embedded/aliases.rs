//! Scopes that stand for other scopes for a while: a renewed session cookie is the same caller.

use crate::domain::client::ScopeId;
use crate::domain::time::Millis;
use std::collections::{BTreeSet, HashMap};

/// Who stands for whom, and until when. Bounded: past the limit a new alias is not taken.
pub(super) struct Aliases {
    to: HashMap<ScopeId, Alias>,
    ends: BTreeSet<(Millis, ScopeId)>,
    max: usize,
}

struct Alias {
    to: ScopeId,
    until: Millis,
    /// No segment before this one says so.
    home: u32,
}

// === impl Aliases ===

impl Aliases {
    /// No aliases, room for `max`.
    pub(super) fn new(max: usize) -> Aliases {
        Aliases { to: HashMap::new(), ends: BTreeSet::new(), max }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.to.len()
    }

    /// The scope that `scope` stands for at `now`: itself without an alias.
    pub(super) fn resolve(&self, scope: ScopeId, now: Millis) -> ScopeId {
        match self.to.get(&scope) {
            Some(alias) if now < alias.until => alias.to,
            _ => scope,
        }
    }

    /// Whether `from` means `to` until `until` at least.
    pub(super) fn lasts(&self, from: ScopeId, to: ScopeId, until: Millis) -> bool {
        self.to.get(&from).is_some_and(|alias| alias.to == to && until <= alias.until)
    }

    /// From now on `from` means `to`, until `until` at least; the log says so in the segment `home` or later. False where
    /// nothing changed: it is known already, or a scope would stand for itself, or there is no room.
    pub(super) fn add(&mut self, from: ScopeId, to: ScopeId, until: Millis, home: u32) -> bool {
        if from == to {
            return false;
        }
        match self.to.get(&from) {
            Some(known) if known.to == to && until <= known.until => return false,
            Some(known) => {
                self.ends.remove(&(known.until, from));
            }
            None if self.to.len() >= self.max => return false,
            None => {}
        }
        self.to.insert(from, Alias { to, until, home });
        self.ends.insert((until, from));
        true
    }

    /// Forgets at most `limit` aliases that ended by `now`.
    pub(super) fn expire(&mut self, now: Millis, limit: usize) -> usize {
        let mut gone = 0;
        while gone < limit
            && let Some(&(until, from)) = self.ends.first()
            && until <= now
        {
            self.ends.pop_first();
            self.to.remove(&from);
            gone += 1;
        }
        gone
    }

    /// The aliases that the log may say only in `segment` or before; from now on it says them in `home`.
    pub(super) fn carry(&mut self, segment: u32, home: u32) -> Vec<(ScopeId, ScopeId, Millis)> {
        let old = self.to.iter_mut().filter(|(_, alias)| alias.home <= segment);
        old.map(|(from, alias)| {
            alias.home = home;
            (*from, alias.to, alias.until)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ScopeId = ScopeId([1; 16]);
    const NEW: ScopeId = ScopeId([2; 16]);

    #[test]
    fn an_alias_holds_until_its_end_and_is_then_forgotten() {
        let mut aliases = Aliases::new(2);
        assert!(aliases.add(NEW, OLD, Millis(10), 1));
        assert_eq!((aliases.resolve(NEW, Millis(9)), aliases.resolve(NEW, Millis(10))), (OLD, NEW));
        assert!(aliases.add(NEW, OLD, Millis(20), 1), "a later end counts");
        assert!(!aliases.add(NEW, OLD, Millis(15), 1), "an earlier one does not");
        assert_eq!((aliases.expire(Millis(19), 9), aliases.expire(Millis(20), 9), aliases.len()), (0, 1, 0));
    }

    #[test]
    fn aliases_are_bounded_and_no_scope_stands_for_itself() {
        let mut aliases = Aliases::new(1);
        assert!(!aliases.add(OLD, OLD, Millis(10), 1));
        assert!(aliases.add(NEW, OLD, Millis(10), 1));
        assert!(!aliases.add(ScopeId([3; 16]), OLD, Millis(10), 1), "no room");
    }
}
