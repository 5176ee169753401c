//! Resources that ended together with all that lay below them, and when: what was done there before is no answer any more.
//! Records do not know what they lie below, so a claim says it, and only where something has ended so.

use super::Embedded;
use super::journal::{Journal, RoomFor};
use super::kept::Kept;
use super::settle::fated;
use super::state::{After, State};
use crate::domain::client::ScopeId;
use crate::domain::ledger::{Change, Command, Phase, RecordId, TargetId, apply};
use crate::domain::slot::Saw;
use crate::domain::time::Millis;
use crate::store::{ClaimRequest, EndIntents};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

/// What has ended so. Bounded: past the limit the one that would be forgotten first goes.
#[derive(Default)]
pub(super) struct Subtrees {
    ended: HashMap<Key, Ended>,
    ends: BTreeSet<(Millis, Key)>,
}

/// A resource, by whomever it was ended or by this scope: a record that says what it made only ends by its own scope's
/// change (see [`EndIntents::concerns`]).
type Key = (TargetId, Option<ScopeId>);

struct Ended {
    at: Millis,
    /// Until when anything that it may concern is remembered.
    until: Millis,
    /// No segment before this one says so.
    home: u32,
}

/// So many are kept, each once for its scope and once for all.
const SUBTREES_MAX: usize = 1 << 16;

// === impl Subtrees ===

impl Subtrees {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ended.len()
    }

    /// All below `target` ended at `at` by a change of `scope`; the log says so in the segment `home` or later.
    pub(super) fn add(&mut self, target: TargetId, scope: ScopeId, (at, until): (Millis, Millis), home: u32) {
        for key in [(target, None), (target, Some(scope))] {
            if let Some(known) = self.ended.remove(&key) {
                self.ends.remove(&(known.until, key));
            } else if self.ended.len() >= SUBTREES_MAX
                && let Some((_, oldest)) = self.ends.pop_first()
            {
                self.ended.remove(&oldest);
            }
            self.ended.insert(key, Ended { at, until, home });
            self.ends.insert((until, key));
        }
    }

    /// Whether one of `above` ended after `done_at`; `scope` where only a change of that one counts. What happened in one
    /// millisecond is not told apart, and then nothing has ended: a write that came behind the change is no new one.
    fn ended_since(&self, above: &[TargetId], scope: Option<ScopeId>, done_at: Millis) -> bool {
        above.iter().any(|target| self.ended.get(&(*target, scope)).is_some_and(|ended| ended.at > done_at))
    }

    /// Forgets at most `limit` that concern nothing any more by `now`.
    pub(super) fn expire(&mut self, now: Millis, limit: usize) -> usize {
        let mut gone = 0;
        while gone < limit
            && let Some(&(until, key)) = self.ends.first()
            && until <= now
        {
            self.ends.pop_first();
            self.ended.remove(&key);
            gone += 1;
        }
        gone
    }

    /// What the log may say only in `segment` or before; from now on it says it in `home`.
    pub(super) fn carry(&mut self, segment: u32, home: u32) -> Vec<(TargetId, ScopeId, Millis, Millis)> {
        let old = self.ended.iter_mut().filter(|(_, ended)| ended.home <= segment);
        old.filter_map(|(&(target, scope), ended)| {
            ended.home = home;
            Some((target, scope?, ended.at, ended.until))
        })
        .collect()
    }
}

// === impl Embedded ===

impl Embedded {
    /// See [`Store::may_have_ended_subtrees`](crate::store::Store::may_have_ended_subtrees).
    pub(in crate::store) fn has_ended_subtrees(&self) -> bool {
        self.shared.subtrees.load(Ordering::Acquire) > 0
    }
}

// === impl State ===

impl State {
    /// Ends the record that is asked for, where it lies below what has ended since it was done.
    pub(super) fn end_below(&mut self, request: &ClaimRequest, now: Millis, after: &mut After) {
        let (Some(above), false) = (&request.above, self.subtrees.len() == 0) else { return };
        let Some(entry) = self.index.get(&request.id) else { return };
        let Phase::Done { done_at, .. } = entry.record.phase else { return };
        let scope = entry.names.map(|_| entry.record.scope);
        if !entry.record.keyed && self.subtrees.ended_since(above, scope, done_at) {
            self.end_intent(request.id, Command::End { by: None }, now, after);
            self.commit(true);
        }
    }

    pub(super) fn end_all(&mut self, ends: &EndIntents, now: Millis, after: &mut After) -> usize {
        if !ends.subtree_for.is_zero() {
            self.end_subtree(ends, now);
        }
        let ids: Vec<RecordId> = ends.targets().flat_map(|target| self.index.of_target(target)).collect();
        let mut changed = 0;
        for id in ids {
            let Some(entry) = self.index.get(&id) else { continue };
            if !ends.concerns(&entry.record, entry.names) {
                continue;
            }
            changed += usize::from(self.end_intent(id, Command::End { by: ends.by }, now, after));
            // Beyond what fits into one step a crash may leave a part of it; what it follows from is in the first one.
            if self.journal.as_ref().is_some_and(Journal::is_too_large) {
                self.commit(true);
            }
        }
        changed
    }

    /// Whether that changed anything.
    fn end_intent(&mut self, id: RecordId, end: Command<Kept>, now: Millis, after: &mut After) -> bool {
        let Some(entry) = self.index.get(&id) else { return false };
        let step = apply(Some(&entry.record), end, now);
        let fated = fated(&entry.record, Saw::Time, &step);
        let newly = match &step.change {
            Change::Keep => false,
            Change::Remove => true,
            Change::Put(record) => record.ended && !entry.record.ended,
        };
        self.fated(fated);
        self.carry_out(id, step.change, None, after);
        newly
    }

    /// On a disk without room it is known as long as this process lives.
    fn end_subtree(&mut self, ends: &EndIntents, now: Millis) {
        let (at, until) = (now, now.after(ends.subtree_for));
        let home = self.journal.as_ref().map_or(0, Journal::tail);
        self.subtrees.add(ends.target, ends.scope, (at, until), home);
        if let Some(journal) = self.journal.as_mut().filter(|journal| journal.room_for_note() == RoomFor::Yes)
        {
            journal.subtree_ended(ends.target, ends.scope, (at, until));
        }
    }

    /// Tells again of what only `segment` or older ones tell of.
    pub(super) fn carry_subtrees(&mut self, segment: u32) {
        let Some(journal) = &mut self.journal else { return };
        for (target, scope, at, until) in self.subtrees.carry(segment, journal.tail()) {
            journal.subtree_ended(target, scope, (at, until));
            if journal.is_too_large() {
                journal.commit(&mut self.index, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOVE: TargetId = TargetId([1; 16]);
    const OTHER: TargetId = TargetId([2; 16]);
    const MINE: ScopeId = ScopeId([3; 16]);
    const YOURS: ScopeId = ScopeId([4; 16]);

    #[test]
    fn what_was_done_before_has_ended_and_what_came_with_it_or_after_has_not() {
        let mut subtrees = Subtrees::default();
        subtrees.add(ABOVE, MINE, (Millis(10), Millis(50)), 1);
        let ended = |above: &[TargetId], scope, done_at| subtrees.ended_since(above, scope, Millis(done_at));
        assert!(ended(&[OTHER, ABOVE], None, 9) && !ended(&[OTHER], None, 9) && !ended(&[], None, 9));
        assert!(!ended(&[ABOVE], None, 10) && !ended(&[ABOVE], None, 11));
        assert!(ended(&[ABOVE], Some(MINE), 9) && !ended(&[ABOVE], Some(YOURS), 9));
        assert_eq!(
            (subtrees.expire(Millis(49), 9), subtrees.expire(Millis(50), 9), subtrees.len()),
            (0, 2, 0)
        );
    }

    #[test]
    fn a_later_end_counts_and_is_kept_longer_and_the_log_says_it_anew() {
        let mut subtrees = Subtrees::default();
        subtrees.add(ABOVE, MINE, (Millis(10), Millis(50)), 1);
        subtrees.add(ABOVE, YOURS, (Millis(20), Millis(60)), 2);
        assert!(subtrees.ended_since(&[ABOVE], None, Millis(19)));
        assert!(!subtrees.ended_since(&[ABOVE], Some(MINE), Millis(19)));
        assert_eq!(subtrees.carry(1, 7), [(ABOVE, MINE, Millis(10), Millis(50))]);
        assert_eq!(subtrees.carry(1, 8), []);
        assert_eq!(
            (subtrees.expire(Millis(50), 9), subtrees.expire(Millis(60), 9), subtrees.len()),
            (1, 2, 0)
        );
    }

    #[test]
    fn they_are_bounded() {
        let mut subtrees = Subtrees::default();
        for n in 0..SUBTREES_MAX as u64 {
            let mut target = [0; 16];
            target[..8].copy_from_slice(&n.to_be_bytes());
            subtrees.add(TargetId(target), MINE, (Millis(n), Millis(100 + n)), 1);
        }
        assert_eq!((subtrees.len(), subtrees.ends.len()), (SUBTREES_MAX, SUBTREES_MAX));
        assert!(!subtrees.ended_since(&[TargetId([0; 16])], None, Millis(0)), "the oldest gave way");
    }
}
