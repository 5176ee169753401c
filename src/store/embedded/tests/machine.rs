//! A store without threads.

use super::faulty::Faulty;
use super::model::{Do, Model, Seen, answer, claim, id, see};
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::ledger::{Command, Doubt, Outcome, RecordId, TargetId};
use crate::domain::time::Millis;
use crate::store::embedded::clock::Clock;
use crate::store::embedded::kept::Kept;
use crate::store::embedded::log::disk::Disk;
use crate::store::embedded::log::writer;
use crate::store::embedded::space::Leaving;
use crate::store::embedded::state::{After, ClaimStep, State};
use crate::store::embedded::{Setup, Shared};
use crate::store::{Completion, EndIntents, Held, OpenError, Options, Place, Settle, Settled};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) const SEGMENT_BYTES: u64 = 8 << 10;

/// See the module.
pub(super) struct Machine {
    pub(super) shared: Arc<Shared>,
    pub(super) hand: Arc<AtomicU64>,
    disk: Option<Faulty>,
    leaving: Option<Leaving>,
}

/// What a machine is made of.
pub(super) fn setup(disk: Option<Faulty>, hand: &Arc<AtomicU64>, segment_bytes: u64) -> Setup {
    let hand = Arc::clone(hand);
    Setup {
        disk: disk.map(|disk| Arc::new(disk) as Arc<dyn Disk>),
        dir: None,
        secret: vec![1],
        segment_bytes,
        clock: Box::new(move |at_least| Clock::manual(at_least, hand)),
    }
}

pub(super) fn options(memory_max: u64) -> Options {
    Options { place: Place::Memory, secret: None, memory_max, records_max: 10_000 }
}

// === impl Machine ===

impl Machine {
    /// Opens `disk`, or memory without one. `memory_max` of 0 leaves every answer on disk.
    pub(super) fn open(disk: Option<Faulty>, hand: &Arc<AtomicU64>) -> Result<Machine, OpenError> {
        let memory_max = if disk.is_some() { 0 } else { 1 << 20 };
        let shared = Shared::build(&options(memory_max), setup(disk.clone(), hand, SEGMENT_BYTES))?;
        let mut machine = Machine { shared, hand: Arc::clone(hand), disk, leaving: None };
        machine.make_room();
        Ok(machine)
    }

    pub(super) fn now(&self) -> Millis {
        self.shared.clock.now()
    }

    /// What the writer would do.
    pub(super) fn write(&self) {
        let Some(log) = &self.shared.log else { return };
        log.queue.flush();
        while let Some(batch) = log.queue.take_due() {
            assert!(writer::write(&log.queue, &log.segments, batch), "{:?}", log.queue.failed());
        }
    }

    /// What the thread that makes room would do.
    pub(super) fn make_room(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(log) = &shared.log else { return };
        assert!(shared.ensure_spare(log), "{:?}", log.queue.full());
        shared.compact_oldest(log);
        for _ in 0..3 {
            // Before the writing: what is not durable yet must not let a segment go.
            shared.drop_dead(log, &mut self.leaving);
            self.write();
        }
    }

    /// One command, durable when it returns.
    pub(super) fn run<R>(&self, command: impl FnOnce(&mut State, Millis, &mut After) -> R) -> R {
        let (result, after) = self.shared.run(command).expect("the store works");
        self.write();
        if let (Some(log), Some(commit)) = (&self.shared.log, after.commit) {
            assert!(log.queue.is_synced(commit), "what the caller waits for is written");
        }
        result
    }

    /// All records, as time leaves them now.
    pub(super) fn seen(&self) -> BTreeMap<RecordId, Seen> {
        let now = self.now();
        self.run(|state, _, after| while state.tick(now, 1_000, after) > 0 {});
        let state = self.shared.lock();
        let all = (0..=255).flat_map(|byte| state.index.of_part(byte));
        let body = |kept: &Kept| self.read(kept).body();
        all.map(|(id, entry)| (*id, see(&entry.record, body))).collect()
    }

    fn read(&self, kept: &Kept) -> Answer {
        match (&kept.cached, kept.place) {
            (Some(answer), _) => answer.clone(),
            (None, Some(place)) => self.shared.read(place).expect("the answer is where it should be"),
            (None, None) => panic!("an answer is nowhere"),
        }
    }

    /// The same step on the store and on the model; both must say the same.
    pub(super) fn both(&mut self, model: &mut Model, step: &Do) {
        let now = self.now();
        match *step {
            Do::Claim { n, meaning, sent } => {
                let mut request = claim(n, meaning, sent, model.fresh());
                let expected = model.claim(n, &request, now);
                let got = self.run(|state, now, after| state.claim(&mut request, now, after));
                let got = got.expect("there is room");
                let same = match (&expected, &got) {
                    (Outcome::Granted, ClaimStep::Granted)
                    | (Outcome::InFlight { .. }, ClaimStep::InFlight(_))
                    | (Outcome::OtherMeaning, ClaimStep::OtherMeaning) => true,
                    (Outcome::Done { answer, .. }, ClaimStep::Done(kept)) => *answer == self.read(kept),
                    (
                        Outcome::InDoubt { since, until, why, .. },
                        ClaimStep::InDoubt { since: s, until: u, why: w, .. },
                    ) => (since, until, why) == (s, u, w),
                    _ => false,
                };
                assert!(same, "{step:?}: the ledger says {expected:?}");
            }
            Do::MarkSent { n, right } => {
                let token = model.token(n, right);
                let command = Command::MarkSent { token };
                let expected = model.run(id(n), command, now) == Outcome::Applied;
                let got = self.run(|state, now, after| state.mark_sent(id(n), token, now, after));
                assert_eq!(got == Held::Yes, expected, "{step:?}");
            }
            Do::Renew { n, right } => {
                let (token, lease) = (model.token(n, right), Duration::from_millis(5_000));
                let command = Command::Renew { token, lease };
                let expected = model.run(id(n), command, now) == Outcome::Applied;
                let got = self.run(|state, now, after| state.renew(id(n), token, lease, now, after));
                assert_eq!(got == Held::Yes, expected, "{step:?}");
            }
            Do::Complete { n, right, body, keep, ends, names, alias } => {
                let completion = Completion {
                    id: id(n),
                    token: model.token(n, right),
                    answer: answer(body),
                    keep: Duration::from_millis(u64::from(keep)),
                    ends: ends.map(|target| end_intents(target, Some(n))),
                    names: names.map(|target| TargetId([target; 16])),
                    alias: alias.map(|scope| (ScopeId([scope; 16]), Duration::from_millis(u64::from(keep)))),
                    slots: Default::default(),
                    frees: Vec::new(),
                };
                let expected = model.complete(&completion, now);
                let got = self.run(|state, now, after| state.complete(completion.into(), now, after));
                assert_eq!(got == Ok(Held::Yes), expected, "{step:?}");
            }
            Do::Abandon { n, right } => {
                let token = model.token(n, right);
                let command = Command::Abandon { token };
                let expected = model.run(id(n), command, now) == Outcome::Applied;
                let got = self.run(|state, now, after| state.abandon(id(n), token, None, now, after));
                assert_eq!(got == Held::Yes, expected, "{step:?}");
            }
            Do::Doubt { n, right } => {
                let (token, why) = (model.token(n, right), Doubt::TimedOut);
                let command = Command::Doubt { token, why };
                let expected = model.run(id(n), command, now) == Outcome::Applied;
                let got = self.run(|state, now, after| state.doubt(id(n), token, why, now, after));
                assert_eq!(got == Held::Yes, expected, "{step:?}");
            }
            Do::End { target, by } => {
                let ends = end_intents(target, by);
                model.end(&ends, now);
                self.run(|state, now, after| state.end_intents(&ends, now, after));
            }
            Do::Executed { n, body } => {
                let keep = Duration::from_millis(4_000);
                self.settle(model, n, Settle::Executed { answer: answer(body), keep, follows: None });
            }
            Do::NotExecuted { n } => self.settle(model, n, Settle::NotExecuted),
            Do::Delete { n } => self.settle(model, n, Settle::Delete),
            Do::Pass { millis } => {
                self.hand.fetch_add(u64::from(millis), Ordering::SeqCst);
            }
            Do::Restart => self.restart(model),
            Do::Compact => {}
        }
        self.make_room();
    }

    fn settle(&mut self, model: &mut Model, n: u8, how: Settle) {
        let expected = model.settle(id(n), &how, self.now());
        let got = self.run(|state, now, after| state.settle(id(n), how, now, after));
        assert_eq!(got == Settled::Yes, expected);
    }

    /// The process is killed and started again; in memory nothing survives that, so nothing happens.
    fn restart(&mut self, model: &mut Model) {
        let Some(disk) = &self.disk else { return };
        let disk = Faulty::with(disk.files());
        *self = Machine::open(Some(disk), &self.hand).expect("an intact log opens");
        *model = model.restarted(self.now());
    }
}

fn end_intents(target: u8, by: Option<u8>) -> EndIntents {
    EndIntents {
        target: TargetId([target; 16]),
        parents: vec![TargetId([target / 2; 16])],
        scope: ScopeId([1; 16]),
        by: by.map(|n| Fingerprint([n; 32])),
        subtree_for: Duration::ZERO,
    }
}

/// Whether a record in memory and on disk tell the same.
pub(super) fn is_done(seen: &Seen) -> bool {
    matches!(seen, Seen::Done { .. })
}
