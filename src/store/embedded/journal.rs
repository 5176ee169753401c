//! Between the state and the log: turns what a command changed into notes, hands them over as one step, and accounts
//! for room. Lives under the state's lock, so the log has the order of the commands.
//!
//! Room: a claim is granted only when there is room for its note *and* for everything that may still have to be said of
//! it, its answer as a tombstone included. So a full disk refuses claims, and nothing that was begun is ever stuck.

use super::AttemptEnd;
use super::holdlog::HOLD_ROOM;
use super::index::{Entry, Index};
use super::kept::Place;
use super::lanes::SentTurn;
use super::log::entry::{self, Stored};
use super::log::queue::Queue;
use super::waiters::Attempt;
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::lane::LaneId;
use crate::domain::ledger::{Phase, RecordId, TargetId};
use crate::domain::slot::HoldKey;
use crate::domain::time::Millis;
use crate::store::lanes::LaneAbout;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest note of a record without its answer.
const WHOLE_MAX: u64 = 1024;

/// What may still be said of a record whose outcome is open: done as a tombstone, in doubt, ended, named, aliased, gone;
/// and that all below its target ended.
const OPEN_RESERVE: u32 = 1344;

/// What may still be said of a record that is done: gone.
const DONE_RESERVE: u32 = 96;

/// Records are carried forward in steps of about so many bytes.
const STEP: usize = 1024;

/// A block of its own costs so much.
const BLOCK_COST: u64 = 40;

/// An answer takes at most this part of a segment; a larger one becomes a tombstone.
const ANSWER_PART: u64 = 4;

/// A start makes room for such a part of a segment beyond what is reserved, so that is left to the next one.
const FIRST_PART: u64 = 16;

/// See the module.
pub(super) struct Journal {
    queue: Arc<Queue>,
    segment_bytes: u64,
    /// The instant of the present command.
    now: Millis,
    pub(super) notes: Vec<u8>,
    noted: Vec<Noted>,
    /// Holds that the present command made notes of, and how many bytes.
    pub(super) noted_holds: Vec<(HoldKey, usize)>,
    tells: Vec<(Arc<Attempt>, AttemptEnd)>,
    pub(super) reserved: u64,
    /// How many records have their oldest part in which segment.
    pub(super) homes: BTreeMap<u32, u64>,
    pub(super) live_bytes: u64,
}

/// A record that the present command made notes of.
struct Noted {
    id: RecordId,
    answer: Option<Stored>,
    bytes: usize,
}

/// Whether there is room for a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomFor {
    Yes,
    NotNow,
}

// === impl Journal ===

impl Journal {
    /// A journal that writes to `queue`.
    pub(super) fn new(queue: Arc<Queue>, segment_bytes: u64) -> Journal {
        Journal {
            queue,
            segment_bytes,
            now: Millis(0),
            notes: Vec::new(),
            noted: Vec::new(),
            noted_holds: Vec::new(),
            tells: Vec::new(),
            reserved: 0,
            homes: BTreeMap::new(),
            live_bytes: 0,
        }
    }

    /// A command begins at `now`.
    pub(super) fn begin(&mut self, now: Millis) {
        self.now = now;
    }

    // --- room ---

    /// Whether a claim may be granted.
    pub(super) fn room_for_claim(&self) -> RoomFor {
        self.room_for_claim_with(0)
    }

    /// Whether a claim that reserves so many slots may be granted.
    pub(super) fn room_for_claim_with(&self, slots: usize) -> RoomFor {
        self.room_for(WHOLE_MAX + u64::from(OPEN_RESERVE) + BLOCK_COST + slots as u64 * HOLD_ROOM)
    }

    /// Whether a note that nothing was set aside for may be made.
    pub(super) fn room_for_note(&self) -> RoomFor {
        self.room_for(WHOLE_MAX)
    }

    /// Whether an answer of `len` bytes may be kept whole. What does not fit into the present segment goes to the next,
    /// which may waste as much as it takes.
    pub(super) fn fits_answer(&self, len: usize) -> bool {
        let len = len as u64;
        len <= self.segment_bytes / ANSWER_PART && self.room_for(2 * len + WHOLE_MAX) == RoomFor::Yes
    }

    /// Whether a record may be carried forward. That uses the segment that is kept free for it, and leaves what the next
    /// start needs: on a disk that stays full it finds no more.
    pub(super) fn room_to_carry(&self, answer: Option<&Answer>) -> bool {
        let answer = answer.map_or(0, |answer| 2 * answer.as_bytes().len() as u64);
        let pending = self.notes.len() as u64;
        self.queue.available() >= self.wanted_at_start() + pending + WHOLE_MAX + BLOCK_COST + answer
    }

    /// Bytes that are set aside, for compaction too: a whole segment may have to be carried forward before one can go,
    /// and crosses two ends of segments on its way, each of which may waste as much as the largest answer takes.
    pub(super) fn set_aside(&self) -> u64 {
        self.wanted_at_start() + self.segment_bytes + 2 * self.segment_bytes / ANSWER_PART
    }

    /// Bytes of log that there have to be at a start.
    pub(super) fn wanted_at_start(&self) -> u64 {
        self.reserved + self.segment_bytes / FIRST_PART
    }

    /// Bytes that are set aside for what may still have to be said of the records.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    fn room_for(&self, bytes: u64) -> RoomFor {
        if self.queue.available() >= self.set_aside() + bytes { RoomFor::Yes } else { RoomFor::NotNow }
    }

    fn reserve(&mut self, entry: &mut Entry, bytes: u32) {
        self.reserved = self.reserved - u64::from(entry.reserved) + u64::from(bytes);
        entry.reserved = bytes;
    }

    // --- notes ---

    /// A new attempt. While it is queued nothing is written: a restart makes it absent, and so does a missing note.
    pub(super) fn began(&mut self, id: RecordId, entry: &mut Entry) {
        if matches!(entry.record.phase, Phase::Queued { .. }) {
            self.reserve(entry, WHOLE_MAX as u32 + OPEN_RESERVE);
        } else {
            self.reserve(entry, OPEN_RESERVE);
            self.whole(id, entry, None);
        }
    }

    /// A record changed. `ended`: whether its intent had ended before already.
    pub(super) fn changed(&mut self, id: RecordId, entry: &mut Entry, ended: bool) {
        let logged = entry.home != 0;
        match &entry.record.phase {
            Phase::Queued { .. } => {}
            Phase::Sent { .. } if !logged => {
                self.reserve(entry, OPEN_RESERVE);
                self.whole(id, entry, None);
            }
            Phase::Sent { .. } => {
                // A renewed lease means nothing after a restart.
                if entry.record.ended && !ended {
                    self.ended(id);
                }
            }
            Phase::Done { answer, by, done_at, until } => {
                let before = self.notes.len();
                if let Some(bytes) = &answer.cached {
                    let stored = entry::done(&mut self.notes, &id, *by, *done_at, *until, bytes);
                    self.note(id, before, Some(stored));
                }
                self.reserve(entry, DONE_RESERVE);
            }
            Phase::InDoubt { .. } if entry.record.ended && !ended => self.ended(id),
            Phase::InDoubt { token, since, until, why } => {
                let before = self.notes.len();
                entry::doubt(&mut self.notes, &id, *token, *since, *until, *why);
                self.note(id, before, None);
            }
        }
    }

    /// Its intent ended while nobody knew its outcome.
    fn ended(&mut self, id: RecordId) {
        let before = self.notes.len();
        entry::ended(&mut self.notes, &id);
        self.note(id, before, None);
    }

    /// A record went away. `said`: that is to be written; what time alone does is not, it will do it again.
    pub(super) fn removed(&mut self, id: RecordId, entry: &Entry, said: bool) {
        self.reserved -= u64::from(entry.reserved);
        if entry.home == 0 {
            return;
        }
        self.live_bytes -= u64::from(entry.logged);
        self.leave_home(entry.home);
        if said {
            entry::gone(&mut self.notes, &id);
        }
    }

    /// A record's answer names a resource.
    pub(super) fn named(&mut self, id: RecordId, names: TargetId) {
        let before = self.notes.len();
        entry::names(&mut self.notes, &id, names);
        self.note(id, before, None);
    }

    /// The oldest segment that the next note may go to.
    pub(super) fn tail(&self) -> u32 {
        self.queue.tail()
    }

    /// A scope stands for another.
    pub(super) fn aliased(&mut self, from: ScopeId, to: ScopeId, until: Millis) {
        entry::alias(&mut self.notes, from, to, until);
    }

    /// All below a resource ended.
    pub(super) fn subtree_ended(&mut self, target: TargetId, scope: ScopeId, (at, until): (Millis, Millis)) {
        entry::subtree(&mut self.notes, target, scope, (at, until));
    }

    /// A lane is closed by what was sent in this turn.
    pub(super) fn turned(&mut self, lane: LaneId, sent: &SentTurn, about: &LaneAbout) {
        entry::turn(&mut self.notes, lane, (sent.id, sent.token), sent.until, about);
    }

    /// Copies to wake when this command is durable.
    pub(super) fn tell(&mut self, attempt: Arc<Attempt>, end: AttemptEnd) {
        self.tells.push((attempt, end));
    }

    /// Whether the notes so far are worth a step of their own. Small steps waste little at the end of a segment.
    pub(super) fn is_worth_a_step(&self) -> bool {
        self.notes.len() >= STEP
    }

    /// Whether the notes so far are all that should go into one step: more would not fit into a segment in the end.
    pub(super) fn is_too_large(&self) -> bool {
        self.notes.len() as u64 >= self.segment_bytes / ANSWER_PART
    }

    /// Hands this command's notes to the log, as one step. Gives back what to wait for.
    pub(super) fn commit(&mut self, index: &mut Index, lazily: bool) -> Option<u64> {
        if self.notes.is_empty() {
            // Nothing to make durable (a queued attempt leaves no trace), so nothing to wait for.
            self.tells.drain(..).for_each(|(attempt, end)| attempt.end(Some(end)));
            return None;
        }
        let lazily = lazily && self.tells.is_empty();
        let pushed = self.queue.push(&self.notes, &mut self.tells, lazily, self.now);
        self.notes.clear();
        if self.notes.capacity() > 1 << 20 {
            self.notes = Vec::new();
        }
        let Some(pushed) = pushed else {
            // Closed, failed or short: this will not be durable, and waiting for the number that never comes says so.
            self.noted.clear();
            self.noted_holds.clear();
            self.tells.drain(..).for_each(|(attempt, _)| attempt.end(None));
            if !self.queue.is_closing() && self.queue.check().is_ok() {
                self.queue.fail("its room was miscounted; restart the gateway, and please report this");
            }
            return Some(u64::MAX);
        };
        self.holds_noted(&mut index.holds, pushed.segment);
        for noted in self.noted.drain(..) {
            let Some(entry) = index.get_mut(&noted.id) else { continue };
            entry.commit = pushed.commit;
            entry.logged += noted.bytes as u32;
            self.live_bytes += noted.bytes as u64;
            if entry.home == 0 {
                entry.home = pushed.segment;
                *self.homes.entry(pushed.segment).or_default() += 1;
            }
            if let (Some(stored), Phase::Done { answer, .. }) = (noted.answer, &mut entry.record.phase) {
                let at = (pushed.at + u64::from(stored.at)) as u32;
                answer.place = Some(Place { segment: pushed.segment, at, len: stored.len, crc: stored.crc });
            }
        }
        Some(pushed.commit)
    }

    fn whole(&mut self, id: RecordId, entry: &mut Entry, answer: Option<&Answer>) {
        let before = self.notes.len();
        let stored = entry::whole(&mut self.notes, &id, &entry.record, &entry.about, entry.names, answer);
        self.note(id, before, stored);
    }

    fn note(&mut self, id: RecordId, before: usize, answer: Option<Stored>) {
        self.noted.push(Noted { id, answer, bytes: self.notes.len() - before });
    }

    // --- what segments hold ---

    /// A record was read back at the start: it is at home in `segment` and takes `bytes` of log.
    pub(super) fn recovered(&mut self, entry: &mut Entry, segment: u32, bytes: u32) {
        entry.home = segment;
        entry.logged = bytes;
        self.live_bytes += u64::from(bytes);
        *self.homes.entry(segment).or_default() += 1;
        let done = matches!(entry.record.phase, Phase::Done { .. });
        self.reserve(entry, if done { DONE_RESERVE } else { OPEN_RESERVE });
    }

    /// A record is carried forward: it leaves its home and is written whole. `answer` where it is done.
    pub(super) fn carried(&mut self, id: RecordId, entry: &mut Entry, answer: Option<&Answer>) {
        self.live_bytes -= u64::from(entry.logged);
        self.leave_home(entry.home);
        (entry.home, entry.logged) = (0, 0);
        self.whole(id, entry, answer);
    }

    /// How many records are at home in `segment`.
    pub(super) fn at_home(&self, segment: u32) -> u64 {
        self.homes.get(&segment).copied().unwrap_or(0)
    }

    /// Bytes of log that the present state takes.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn leave_home(&mut self, home: u32) {
        if let Some(records) = self.homes.get_mut(&home) {
            *records -= 1;
            if *records == 0 {
                self.homes.remove(&home);
            }
        }
    }
}
