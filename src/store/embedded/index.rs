//! The records in memory, and every other way to find them: by deadline, by target, by scope. Keeps those in step with
//! the records; decides nothing.

use super::holds::Holds;
use super::kept::{Kept, Place, Recent};
use super::log::compact::Begun;
use super::parts::Parts;
use super::waiters::Attempt;
use crate::domain::client::ScopeId;
use crate::domain::ledger::{Phase, Record, RecordId, TargetId};
use crate::domain::time::Millis;
use crate::store::About;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Deadlines are rounded up to this many milliseconds, so that a tick finds all of them in a few lists. Tests see every
/// millisecond.
const ALARM_STEP: u64 = if cfg!(test) { 1 } else { 32 };

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
    /// When this entry is looked at next, in steps: about its deadline or earlier, never later.
    alarm: u64,
    /// Its places in the lists of its alarm, its target, and the resource that its answer names.
    alarm_at: u32,
    target_at: u32,
    names_at: u32,
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

/// See the module. A record knows its place in every list that it is in, so it leaves them without a search.
pub(super) struct Index {
    records: Parts<RecordId, Box<Entry>>,
    alarms: BTreeMap<u64, Vec<RecordId>>,
    targets: Parts<TargetId, Vec<RecordId>>,
    live: Parts<ScopeId, u32>,
    counts: Counts,
    /// Answers in memory.
    pub(super) recent: Recent,
    /// Who holds which slot.
    pub(super) holds: Holds,
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
    /// An empty index; answers in memory take at most `memory_max` bytes. `cools`: they are on disk too and may leave.
    pub(super) fn new(memory_max: u64, cools: bool) -> Index {
        Index {
            records: Parts::new(),
            alarms: BTreeMap::new(),
            targets: Parts::new(),
            live: Parts::new(),
            counts: Counts::default(),
            recent: Recent::new(memory_max, cools),
            holds: Holds::new(),
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
        let alarm = step_of(record.next_deadline());
        let mut entry = Box::new(Entry {
            record,
            about,
            names: None,
            attempt: None,
            alarm,
            alarm_at: join(self.alarms.entry(alarm).or_default(), id),
            target_at: 0,
            names_at: 0,
            commit: 0,
            home: 0,
            reserved: 0,
            logged: 0,
        });
        if !entry.record.keyed {
            entry.target_at = join(self.targets.entry(entry.record.target), id);
        }
        *self.live.entry(entry.record.scope) += 1;
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
        let step = step_of(entry.record.next_deadline());
        if step < entry.alarm {
            self.set_alarm(id, step);
        }
        true
    }

    /// The record `id` disappears.
    pub(super) fn remove(&mut self, id: RecordId) -> Option<Box<Entry>> {
        let mut entry = self.records.remove(&id)?;
        self.leave_alarm(entry.alarm, entry.alarm_at);
        if !entry.record.keyed {
            self.leave_target(entry.record.target, entry.target_at);
            if let Some(names) = entry.names {
                self.leave_target(names, entry.names_at);
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
            entry.names_at = join(self.targets.entry(names), id);
        }
    }

    /// The keyless records of `target`, in no order.
    pub(super) fn of_target(&self, target: TargetId) -> impl Iterator<Item = RecordId> {
        self.targets.get(&target).into_iter().flatten().copied()
    }

    /// A record whose deadline may have come by `now`. Its alarm is set again if the deadline is later by now.
    pub(super) fn due(&mut self, now: Millis) -> Option<RecordId> {
        loop {
            let (&step, ids) = self.alarms.first_key_value()?;
            if now.0 < step.saturating_mul(ALARM_STEP) {
                return None;
            }
            let id = *ids.last()?;
            let deadline = self.records.get(&id)?.record.next_deadline();
            if deadline <= now {
                return Some(id);
            }
            self.set_alarm(id, step_of(deadline));
        }
    }

    /// The records whose ids begin with `byte`, in no order.
    pub(super) fn of_part(&self, byte: u8) -> impl Iterator<Item = (&RecordId, &Entry)> {
        self.records.of_part(byte).map(|(id, entry)| (id, entry.as_ref()))
    }

    /// The records and the holds whose ids begin with `byte` and whose oldest parts are in `segment`, in no order.
    pub(super) fn at_home(&self, byte: u8, segment: u32) -> Begun {
        let records = self.of_part(byte).filter(|(_, entry)| entry.home == segment).map(|(id, _)| *id);
        Begun { records: records.collect(), holds: self.holds.at_home(byte, segment).collect() }
    }

    /// An answer was read back from `place`: it is the youngest in memory now. What lies elsewhere may be another answer,
    /// of a record that took the place of the one that was read for.
    pub(super) fn warm(&mut self, id: RecordId, place: Place, answer: &crate::domain::answer::Answer) {
        if let Some(entry) = self.records.get_mut(&id)
            && let Phase::Done { answer: kept, .. } = &mut entry.record.phase
            && kept.cached.is_none()
            && kept.place == Some(place)
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

    fn set_alarm(&mut self, id: RecordId, step: u64) {
        let Some(entry) = self.records.get_mut(&id) else { return };
        let (old, at) = (entry.alarm, entry.alarm_at);
        entry.alarm = step;
        entry.alarm_at = join(self.alarms.entry(step).or_default(), id);
        self.leave_alarm(old, at);
    }

    fn leave_alarm(&mut self, alarm: u64, at: u32) {
        let Some(ids) = self.alarms.get_mut(&alarm) else { return };
        ids.swap_remove(at as usize);
        // Who took the place has to know.
        if let Some(moved) = ids.get(at as usize).and_then(|id| self.records.get_mut(id)) {
            moved.alarm_at = at;
        } else if ids.is_empty() {
            self.alarms.remove(&alarm);
        }
    }

    fn leave_target(&mut self, target: TargetId, at: u32) {
        let Some(ids) = self.targets.get_mut(&target) else { return };
        ids.swap_remove(at as usize);
        if let Some(moved) = ids.get(at as usize).and_then(|id| self.records.get_mut(id)) {
            if moved.record.target == target {
                moved.target_at = at;
            } else {
                moved.names_at = at;
            }
        } else if ids.is_empty() {
            self.targets.remove(&target);
        }
    }
}

/// The step at which a deadline has passed for certain.
fn step_of(deadline: Millis) -> u64 {
    deadline.0.div_ceil(ALARM_STEP)
}

/// Adds `id` to a list; gives back its place.
fn join(list: &mut Vec<RecordId>, id: RecordId) -> u32 {
    list.push(id);
    (list.len() - 1) as u32
}
