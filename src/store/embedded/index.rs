//! The records in memory, and every other way to find them: by deadline, by target, by scope. Keeps those in step with
//! the records; decides nothing.

use super::kept::{Kept, Recent};
use super::parts::Parts;
use super::waiters::Attempt;
use crate::domain::client::ScopeId;
use crate::domain::ledger::{Phase, Record, RecordId, TargetId};
use crate::domain::time::Millis;
use crate::store::About;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One record with what the store keeps around it.
pub(super) struct Entry {
    /// What the ledger decides on.
    pub(super) record: Record<Kept>,
    /// For the operator.
    pub(super) about: About,
    /// The resource that its answer names.
    pub(super) names: Option<TargetId>,
    /// Copies that wait for the attempt in flight.
    pub(super) attempt: Option<Arc<Attempt>>,
    /// When this entry is looked at next: its deadline or earlier, never later.
    alarm: Millis,
    /// The commit that makes its present state durable.
    pub(super) commit: u64,
    /// The segment that holds its oldest part; 0 where nothing was logged.
    pub(super) home: u32,
    /// Bytes of log that are set aside for what may still have to be said of it.
    pub(super) reserved: u32,
    /// Bytes of log that its present state takes.
    pub(super) logged: u32,
}

/// Records by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) queued: u64,
    pub(super) sent: u64,
    pub(super) done: u64,
    pub(super) in_doubt: u64,
}

/// See the module.
pub(super) struct Index {
    records: Parts<RecordId, Box<Entry>>,
    alarms: BTreeSet<(Millis, RecordId)>,
    targets: BTreeSet<(TargetId, RecordId)>,
    live: Parts<ScopeId, u32>,
    counts: Counts,
    /// Answers in memory.
    pub(super) recent: Recent,
}

// === impl Counts ===

impl Counts {
    fn of(&mut self, phase: &Phase<Kept>) -> &mut u64 {
        match phase {
            Phase::Queued { .. } => &mut self.queued,
            Phase::Sent { .. } => &mut self.sent,
            Phase::Done { .. } => &mut self.done,
            Phase::InDoubt { .. } => &mut self.in_doubt,
        }
    }
}

// === impl Index ===

impl Index {
    /// An empty index; answers in memory take at most `memory_max` bytes.
    pub(super) fn new(memory_max: u64) -> Index {
        Index {
            records: Parts::new(),
            alarms: BTreeSet::new(),
            targets: BTreeSet::new(),
            live: Parts::new(),
            counts: Counts::default(),
            recent: Recent::new(memory_max),
        }
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Records by phase.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Records of `scope`.
    pub(super) fn live(&self, scope: &ScopeId) -> u32 {
        self.live.get(scope).copied().unwrap_or(0)
    }

    /// The record `id`.
    pub(super) fn get(&self, id: &RecordId) -> Option<&Entry> {
        self.records.get(id).map(Box::as_ref)
    }

    /// The record `id`, to change what no index is made of: never its phase, scope or target.
    pub(super) fn get_mut(&mut self, id: &RecordId) -> Option<&mut Entry> {
        self.records.get_mut(id).map(Box::as_mut)
    }

    /// A record appears. There must be none under this id.
    pub(super) fn insert(&mut self, id: RecordId, record: Record<Kept>, about: About) {
        let alarm = record.next_deadline();
        let mut entry = Box::new(Entry {
            record,
            about,
            names: None,
            attempt: None,
            alarm,
            commit: 0,
            home: 0,
            reserved: 0,
            logged: 0,
        });
        self.alarms.insert((alarm, id));
        if !entry.record.keyed {
            self.targets.insert((entry.record.target, id));
        }
        match self.live.get_mut(&entry.record.scope) {
            Some(live) => *live += 1,
            None => drop(self.live.insert(entry.record.scope, 1)),
        }
        *self.counts.of(&entry.record.phase) += 1;
        if let Phase::Done { answer, .. } = &mut entry.record.phase {
            self.recent.enter(id, answer);
        }
        let before = self.records.insert(id, entry);
        debug_assert!(before.is_none(), "insert is for absent records");
    }

    /// The record `id` becomes `record`, which has the same scope, target and key. False where there is none.
    pub(super) fn replace(&mut self, id: RecordId, record: Record<Kept>) -> bool {
        let Some(entry) = self.records.get_mut(&id) else { return false };
        *self.counts.of(&entry.record.phase) -= 1;
        if let Phase::Done { answer, .. } = &mut entry.record.phase {
            self.recent.leave(answer);
        }
        entry.record = record;
        *self.counts.of(&entry.record.phase) += 1;
        if let Phase::Done { answer, .. } = &mut entry.record.phase {
            self.recent.enter(id, answer);
        }
        // A later deadline needs no new alarm: the old one rings, finds nothing to do and is set again.
        let deadline = entry.record.next_deadline();
        if deadline < entry.alarm {
            self.alarms.remove(&(entry.alarm, id));
            entry.alarm = deadline;
            self.alarms.insert((deadline, id));
        }
        true
    }

    /// The record `id` disappears.
    pub(super) fn remove(&mut self, id: RecordId) -> Option<Box<Entry>> {
        let mut entry = self.records.remove(&id)?;
        self.alarms.remove(&(entry.alarm, id));
        if !entry.record.keyed {
            self.targets.remove(&(entry.record.target, id));
            if let Some(names) = entry.names {
                self.targets.remove(&(names, id));
            }
        }
        if let Some(live) = self.live.get_mut(&entry.record.scope) {
            *live -= 1;
            if *live == 0 {
                self.live.remove(&entry.record.scope);
            }
        }
        *self.counts.of(&entry.record.phase) -= 1;
        if let Phase::Done { answer, .. } = &mut entry.record.phase {
            self.recent.leave(answer);
        }
        Some(entry)
    }

    /// The answer of the record `id` names the resource `names`: an unsafe request to it ends the record. Keys name
    /// their intents whatever happens, so keyed records are not listed.
    pub(super) fn name(&mut self, id: RecordId, names: TargetId) {
        let Some(entry) = self.records.get_mut(&id) else { return };
        if !entry.record.keyed && entry.record.target != names && entry.names.is_none() {
            entry.names = Some(names);
            self.targets.insert((names, id));
        }
    }

    /// The keyless records of `target`.
    pub(super) fn of_target(&self, target: TargetId) -> impl Iterator<Item = RecordId> {
        let all = (target, RecordId([0; 32]))..=(target, RecordId([0xff; 32]));
        self.targets.range(all).map(|(_, id)| *id)
    }

    /// A record whose deadline may have come by `now`. Its alarm is set again if the deadline is later by now.
    pub(super) fn due(&mut self, now: Millis) -> Option<RecordId> {
        loop {
            let &(alarm, id) = self.alarms.first()?;
            if now < alarm {
                return None;
            }
            let Some(entry) = self.records.get_mut(&id) else {
                self.alarms.pop_first();
                continue;
            };
            let deadline = entry.record.next_deadline();
            if deadline <= now {
                return Some(id);
            }
            self.alarms.pop_first();
            entry.alarm = deadline;
            self.alarms.insert((deadline, id));
        }
    }

    /// The records whose ids begin with `byte`, in no order.
    pub(super) fn of_part(&self, byte: u8) -> impl Iterator<Item = (&RecordId, &Entry)> {
        self.records.of_part(byte).map(|(id, entry)| (id, entry.as_ref()))
    }

    /// An answer was read back from disk: it is the youngest in memory now.
    pub(super) fn warm(&mut self, id: RecordId, answer: &crate::domain::answer::Answer) {
        if let Some(entry) = self.records.get_mut(&id)
            && let Phase::Done { answer: kept, .. } = &mut entry.record.phase
            && kept.cached.is_none()
        {
            kept.cached = Some(answer.clone());
            self.recent.enter(id, kept);
        }
    }

    /// Puts the oldest answers out of memory until the limit holds. Only for answers that are on disk.
    pub(super) fn cool(&mut self) {
        while let Some(id) = self.recent.oldest_over_limit() {
            match self.records.get_mut(&id).map(|entry| &mut entry.record.phase) {
                Some(Phase::Done { answer, .. }) => self.recent.leave(answer),
                _ => return,
            }
        }
    }
}
