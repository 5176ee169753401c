//! An operator settles what nobody knows, and what a step of a record means for the slots of its attempt.

use super::kept::Kept;
use super::state::{After, State, token_of};
use super::{Held, Settle, Settled};
use crate::domain::ledger::{Command, Record, RecordId, Step, Token, Verdict};
use crate::domain::slot::{End, Fate, Saw, fate};
use crate::domain::time::Millis;
use crate::store::slots::Settlement;

/// The attempt that a record is about, and what `step` means for what it reserved.
pub(super) fn fated(record: &Record<Kept>, saw: Saw, step: &Step<Kept>) -> Option<(Token, Fate)> {
    let fate = fate(record, saw, step);
    token_of(record).filter(|_| fate != Fate::Stay).map(|token| (token, fate))
}

// === impl State ===

impl State {
    /// See [`Store::settle`](crate::store::Store::settle).
    pub(super) fn settle(&mut self, id: RecordId, how: Settle, now: Millis, after: &mut After) -> Settled {
        let token = self.index.get(&id).and_then(|entry| token_of(&entry.record));
        let success = match &how {
            Settle::Executed { answer, .. } => Some(answer.status()),
            Settle::NotExecuted | Settle::Delete => None,
        };
        let command = match how {
            Settle::Executed { answer, keep } => {
                let answer = Kept::new(self.fitting(&answer));
                Command::Resolve { token: None, verdict: Verdict::Executed { answer, keep } }
            }
            Settle::NotExecuted => Command::Resolve { token: None, verdict: Verdict::NotExecuted },
            Settle::Delete => Command::Delete,
        };
        let held = self.command(id, command, None, now, after);
        if let (Held::Yes, Some(status), Some(token)) = (held, success, token) {
            let done = status.is_success() || status.is_redirection();
            let end = if done { End::Held } else { End::Unsettled };
            self.settle_slots(token, &Settlement { end, ..Settlement::default() }, now);
        }
        self.free_lane_of(id, held, now, after);
        after.commit = self.commit(false);
        match held {
            Held::Yes => Settled::Yes,
            Held::No if self.index.get(&id).is_some() => Settled::NotInDoubt,
            Held::No => Settled::NotFound,
        }
    }
}
