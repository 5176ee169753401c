//! What has ended before its time, as this gateway heard or did it, so that it can say that again to a store which was restarted,
//! replaced or emptied: an older snapshot still has the record, and what was done below a resource is told again by whoever did
//! it. Bounded; the oldest are forgotten first.

use super::Inner;
use super::ends::AttemptId;
use super::part::Part;
use super::script::{Call, Script};
use crate::domain::client::ScopeId;
use crate::domain::ledger::TargetId;
use crate::domain::time::Millis;
use crate::store::EndIntents;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records, and resources, that are remembered at most.
const RECORDS_MOST: usize = 100_000;
const RESOURCES_MOST: usize = 20_000;

/// So many of either one script says.
const A_SCRIPT: usize = 100;

/// See the module.
#[derive(Default)]
pub(super) struct Ended {
    inner: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    records: VecDeque<Record>,
    resources: VecDeque<Resource>,
}

/// How far an attempt was when its intent ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// It was in flight: what it comes to counts no longer.
    InFlight,
    /// It had an answer, or nobody will know one.
    Over,
}

/// The attempt at a record that counts no longer.
#[derive(Clone, Copy)]
struct Record {
    attempt: AttemptId,
    when: When,
    /// When it would have ended by itself.
    until: Millis,
}

/// A resource that ended with all below it.
#[derive(Clone, Copy)]
struct Resource {
    /// The part that was told; each has its own clock.
    part: Part,
    target: TargetId,
    scope: ScopeId,
    at: Millis,
    until: Millis,
}

// === impl Ended ===

impl Ended {
    /// An attempt, which would have counted until `until`, counts no longer.
    pub(super) fn record(&self, attempt: AttemptId, when: When, until: Millis, now: Millis) {
        let records = &mut self.lock().records;
        make_room(records, RECORDS_MOST, |record| record.until <= now);
        records.push_back(Record { attempt, when, until });
    }

    /// A part was told at `at` what an unsafe success ends.
    pub(super) fn intents(&self, part: Part, ends: &EndIntents, at: Millis) {
        if ends.subtree_for.is_zero() {
            return;
        }
        let resources = &mut self.lock().resources;
        make_room(resources, RESOURCES_MOST, |resource| resource.until <= at);
        let (target, scope, until) = (ends.target, ends.scope, at.after(ends.subtree_for));
        resources.push_back(Resource { part, target, scope, at, until });
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For one more: forgets the oldest, those that are over and as many as there are too many.
fn make_room<T>(list: &mut VecDeque<T>, most: usize, is_over: impl Fn(&T) -> bool) {
    while list.len() >= most || list.front().is_some_and(&is_over) {
        list.pop_front();
    }
}

// === impl Inner: what has ended ===

impl Inner {
    /// The calls that say to a part again what has ended there and would still count, and how much that is.
    pub(super) fn saying_ended(&self, part: Part, now: Millis) -> (Vec<Call>, usize) {
        let lists = self.recall.ended.lock();
        let records = lists.records.iter().filter(|record| now < record.until);
        let records: Vec<Record> =
            records.filter(|record| self.wire.parts.of(&record.attempt.0) == part).copied().collect();
        let resources = lists.resources.iter().filter(|resource| now < resource.until);
        let resources: Vec<Resource> = resources.filter(|resource| resource.part == part).copied().collect();
        drop(lists);
        let mut calls = Vec::new();
        for some in resources.chunks(A_SCRIPT) {
            let call = self.about(Script::Ended, part).arg(some.len());
            calls.push(some.iter().fold(call, |call, resource| {
                let call = call.arg(&resource.target.0).arg(&resource.scope.0);
                call.arg(resource.at.0).arg(resource.until.0)
            }));
        }
        for some in records.chunks(A_SCRIPT) {
            let call = self.about(Script::Ended, part).arg(0);
            calls.push(some.iter().fold(call, |call, record| {
                let Record { attempt: (id, token), when, until } = record;
                let how = if *when == When::InFlight { "m" } else { "" };
                call.arg(&id.0).arg(&token.0.to_be_bytes()).arg(until.0).arg(how)
            }));
        }
        (calls, records.len() + resources.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::{RecordId, Token};
    use std::time::Duration;

    fn ends(subtree_for: u64) -> EndIntents {
        let subtree_for = Duration::from_millis(subtree_for);
        let (target, scope) = (TargetId([1; 16]), ScopeId([1; 16]));
        EndIntents { target, parents: Vec::new(), scope, by: None, subtree_for }
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_ends_nothing_below_is_not_remembered() {
        let ended = Ended::default();
        ended.intents(Part(0), &ends(0), Millis(1));
        ended.intents(Part(0), &ends(10), Millis(1));
        ended.intents(Part(0), &ends(10), Millis(11));
        assert_eq!(ended.lock().resources.iter().map(|one| one.at.0).collect::<Vec<_>>(), [11]);
        for n in 0..RECORDS_MOST as u64 + 5 {
            let attempt = (RecordId([1; 32]), Token(u128::from(n)));
            ended.record(attempt, When::Over, Millis(9), Millis(n / 100_000));
        }
        let lists = ended.lock();
        let first = lists.records.front().map(|record| record.attempt.1.0);
        assert_eq!((first, lists.records.len()), (Some(5), RECORDS_MOST));
    }
}
