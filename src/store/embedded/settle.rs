//! An operator settles what nobody knows, and what a step of a record means for the slots of its attempt.

use super::kept::Kept;
use super::state::{After, State, token_of};
use super::{EndIntents, Held, Settle, Settled};
use crate::domain::ledger::{Command, Record, RecordId, Step, Token, Verdict};
use crate::domain::says::Says;
use crate::domain::slot::{Booking, End, Fate, HoldKey, Saw, SlotId, fate};
use crate::domain::time::Millis;
use crate::store::slots::{Follows, Settlement};

/// The attempt that a record is about, and what `step` means for what it reserved.
pub(super) fn fated(record: &Record<Kept>, saw: Saw, step: &Step<Kept>) -> Option<(Token, Fate)> {
    let fate = fate(record, saw, step);
    token_of(record).filter(|_| fate != Fate::Stay).map(|token| (token, fate))
}

// === impl State ===

impl State {
    /// See [`Store::settle`](crate::store::Store::settle).
    pub(super) fn settle(&mut self, id: RecordId, how: Settle, now: Millis, after: &mut After) -> Settled {
        let record = self.index.get(&id).map(|entry| &entry.record);
        let token = record.and_then(token_of);
        let whose = record.map(|record| (record.target, record.scope, record.fingerprint));
        let success = match &how {
            Settle::Executed { answer, follows, .. } => Some((answer.status(), follows.clone())),
            Settle::NotExecuted | Settle::Delete => None,
        };
        let command = match how {
            Settle::Executed { answer, keep, .. } => {
                let answer = Kept::new(self.fitting(&answer));
                Command::Resolve { token: None, verdict: Verdict::Executed { answer, keep } }
            }
            Settle::NotExecuted => Command::Resolve { token: None, verdict: Verdict::NotExecuted },
            Settle::Delete => Command::Delete,
        };
        let held = self.command(id, command, None, now, after);
        if let (Held::Yes, Some((status, follows)), Some(token)) = (held, success, token) {
            let end = End::of(Says::of(status));
            let bookings = follows.as_ref().map(|follows| self.named_by(follows, token)).unwrap_or_default();
            self.settle_slots(token, &Settlement { end, bookings }, now);
            if let (Some(follows), Some((target, scope, by))) = (follows, whose)
                && follows.target == target
            {
                self.free_slots(&follows.frees, Some(token), now, after);
                if let Some((parents, subtree_for)) = follows.ends {
                    let ends = EndIntents { target, parents, scope, by: Some(by), subtree_for };
                    self.end_all(&ends, now, after);
                }
            }
        }
        self.free_lane_of(id, held, now, after);
        after.commit = self.commit(false);
        match held {
            Held::Yes => Settled::Yes,
            Held::No if self.index.get(&id).is_some() => Settled::NotInDoubt,
            Held::No => Settled::NotFound,
        }
    }

    /// What the operator's answer calls the bookings of the slots that the attempt `token` reserved.
    fn named_by(&self, follows: &Follows, token: Token) -> Vec<(SlotId, Booking)> {
        let open = self.index.holds.open_of(token);
        let name = |key: &HoldKey| Some((key.slot, &*self.index.holds.get(*key)?.hold.name));
        follows.bookings_of(open.iter().filter_map(name))
    }
}
