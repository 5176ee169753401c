//! What happens to the records without anybody asking: time passes, owners are dead, the log is carried forward.

use super::AttemptEnd;
use super::settle::fated;
use super::state::{After, State};
use crate::domain::answer::Answer;
use crate::domain::ledger::{Change, Command, Outcome, Owner, Phase, RecordId, Step, settle};
use crate::domain::slot::Saw;
use crate::domain::time::Millis;
use std::collections::HashMap;

// === impl State ===

impl State {
    /// Lets time pass for at most `limit` records; says how many it changed.
    pub(super) fn tick(&mut self, now: Millis, limit: usize, after: &mut After) -> usize {
        let mut changed = self.aliases.expire(now, limit);
        changed += self.subtrees.expire(now, limit - changed);
        changed += self.expire_holds(now, limit - changed);
        changed += self.lanes.expire(now, limit - changed, after);
        while changed < limit
            && let Some(id) = self.index.due(now)
            && let Some(entry) = self.index.get(&id)
        {
            let step = Step { change: settle(&entry.record, now), outcome: Outcome::Refused };
            let fated = fated(&entry.record, Saw::Time, &step);
            self.fated(fated);
            match step.change {
                // Not said in the log: after a restart time does it again.
                Change::Remove => self.remove(id, false, AttemptEnd::NotExecuted, after),
                change => self.carry_out(id, change, None, after),
            }
            changed += 1;
        }
        self.commit(true);
        changed
    }

    /// A restart: what dead processes left in flight is in doubt.
    pub(super) fn owners_died(&mut self, ids: &[RecordId], alive: Owner, now: Millis) {
        // Nobody waits yet.
        let mut after = After::default();
        if let Some(journal) = &mut self.journal {
            journal.begin(now);
        }
        for id in ids {
            self.command(*id, Command::OwnersDied { alive }, None, now, &mut after);
        }
        self.commit(false);
    }

    /// Tells again of the aliases that only `segment` or older ones tell of.
    pub(super) fn carry_aliases(&mut self, segment: u32, now: Millis) {
        let Some(journal) = &mut self.journal else { return };
        journal.begin(now);
        for (from, to, until) in self.aliases.carry(segment, journal.tail()) {
            journal.aliased(from, to, until);
            if journal.is_too_large() {
                journal.commit(&mut self.index, true);
            }
        }
        self.carry_subtrees(segment);
        self.carry_turns(segment);
        self.commit(true);
    }

    /// Writes those of `ids` again whose home is `segment`. `answers`: of the records that are done and not in memory.
    /// False where there is no room.
    pub(super) fn carry_forward(
        &mut self,
        segment: u32,
        ids: &[RecordId],
        answers: &HashMap<RecordId, Answer>,
        now: Millis,
    ) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        journal.begin(now);
        for id in ids {
            let Some(entry) = self.index.get_mut(id).filter(|entry| entry.home == segment) else { continue };
            let answer = match &entry.record.phase {
                Phase::Done { answer, .. } => {
                    match answer.cached.clone().or_else(|| answers.get(id).cloned()) {
                        Some(answer) => Some(answer),
                        // It cooled down in between; the next round reads it.
                        None => continue,
                    }
                }
                _ => None,
            };
            if !journal.room_to_carry(answer.as_ref()) {
                self.commit(false);
                return false;
            }
            journal.carried(*id, entry, answer.as_ref());
            if journal.is_worth_a_step() {
                journal.commit(&mut self.index, true);
            }
        }
        self.commit(false);
        true
    }
}
