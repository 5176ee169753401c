//! From the log back to the records: applies its notes in order and brings the result up to date.

use super::clock::Clock;
use super::journal::Journal;
use super::kept::{Kept, Place};
use super::lanes::SentTurn;
use super::log::entry::{Note, Stored};
use super::log::queue::Queue;
use super::log::recover::{Found, recover};
use super::log::room::Room;
use super::log::segments::Segments;
use super::space::Log;
use super::state::State;
use super::views::view;
use crate::domain::ledger::{Owner, Phase, Record, RecordId};
use crate::domain::time::Millis;
use crate::store::{LeftInDoubt, OpenError, Options};
use std::io::ErrorKind;
use std::sync::Arc;

/// What became of the records that the last life of this store had in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reopened {
    /// Records in all.
    pub(super) records: usize,
    /// Those that are in doubt, whoever left them so.
    pub(super) in_doubt: u64,
    /// Sent and never answered by the last life: in doubt since now.
    pub(super) left: usize,
}

/// The first segment of a start has a multiple of so many bytes.
const MARGIN: u64 = 64 << 10;

/// Records whose owners are declared dead in one step of the log.
const DEAD_AT_ONCE: usize = 10_000;

/// Reads what an earlier life left and gets ready to write on. Says what it found.
pub(super) fn reopen(
    options: &Options,
    segments: Segments,
    clock: impl FnOnce(Millis) -> Clock,
    owner: Owner,
) -> Result<(State, Log, Clock), OpenError> {
    let queue = Arc::new(Queue::new());
    let journal = Journal::new(Arc::clone(&queue), segments.segment_bytes);
    let mut state = State::new(options.memory_max, options.records_max, Some(journal));
    let recovered = recover(&segments, |found, note| state.replay(found, note))?;
    let clock = clock(recovered.time);
    let log = Log { queue, segments };
    let wanted = state.journal.as_ref().map_or(0, Journal::wanted_at_start);
    let room = first_room(&log, recovered.room, recovered.next_segment, wanted)?;
    log.queue.start(recovered.next_block, room.first().copied().unwrap_or_default());
    room.iter().skip(1).for_each(|spare| log.queue.add_spare(*spare));
    // What is said below is not noted then, and the next start says it again.
    let reserved = state.journal.as_ref().map_or(0, Journal::reserved);
    log.queue.set_short(log.queue.available() < reserved);
    let reopened = state.reopened(owner, clock.now());
    if recovered.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovered.torn_bytes,
            "the store's log ended in the middle of a write; what nobody had been told of was cut off"
        );
    }
    if reopened.left > 0 {
        tracing::warn!(
            records = reopened.left,
            "writes were sent and not answered when the gateway stopped; they are in doubt until settled"
        );
    }
    tracing::info!(records = reopened.records, in_doubt = reopened.in_doubt, "the store is open");
    Ok((state, log, clock))
}

/// Room for all that may have to be said of the records that are there, and little more, because nobody is served before
/// it is made. What claims need, the thread that makes room adds while reads pass already. On a full disk it is what
/// there is.
fn first_room(log: &Log, mut room: Vec<Room>, mut number: u32, wanted: u64) -> Result<Vec<Room>, OpenError> {
    let most = log.segments.segment_bytes;
    while room.len() < 2 && room.iter().map(|room| room.bytes()).sum::<u64>() < wanted {
        // A little goes to its header, and a little is left over at its end.
        let len = (wanted + MARGIN).next_multiple_of(MARGIN).min(most);
        match log.make_segment(number, len) {
            Ok(made) => room.push(made),
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => break,
            Err(error) => return Err(OpenError::io("making a segment of the log")(error)),
        }
        number += 1;
    }
    Ok(room)
}

// === impl State ===

impl State {
    /// Carries out one note of the log.
    pub(super) fn replay(&mut self, found: Found, note: Note) {
        match note {
            Note::Whole { id, record, about, names } => {
                self.forget(id);
                self.index.insert(id, located(record, found), about);
                if let (Some(journal), Some(entry)) = (&mut self.journal, self.index.get_mut(&id)) {
                    journal.recovered(entry, found.segment, found.bytes as u32);
                }
                if let Some(names) = names {
                    self.index.name(id, names);
                }
            }
            Note::Done { id, by, done_at, until, answer } => {
                let answer = kept(answer, found);
                self.enter(id, found, Phase::Done { answer, by, done_at, until });
            }
            Note::Doubt { id, token, since, until, why } => {
                self.enter(id, found, Phase::InDoubt { token, since, until, why });
            }
            Note::Gone { id } => self.forget(id),
            Note::Ended { id } => {
                if let Some(entry) = self.index.get_mut(&id) {
                    entry.record.ended = true;
                }
            }
            Note::Names { id, names } => self.index.name(id, names),
            Note::Alias { from, to, until } => {
                self.aliases.add(from, to, until, found.segment);
            }
            Note::Subtree { target, scope, at, until } => {
                self.subtrees.add(target, scope, (at, until), found.segment);
            }
            Note::Hold { slot, hold } => self.replay_hold(slot, hold, found.segment, found.bytes as u32),
            Note::Released { key, since } => self.replay_released(key, since, found.bytes as u32),
            Note::Freed { key } => self.forget_hold(key),
            Note::Turn { lane, id, token, until, about } => {
                self.replay_turn(lane, SentTurn::new(id, token, until, found.segment), about);
            }
        }
    }

    /// Everything was read: lets time pass, and puts in doubt what a dead process left in flight.
    pub(super) fn reopened(&mut self, alive: Owner, now: Millis) -> Reopened {
        let mut after = Default::default();
        self.close_turns(now, &mut after);
        while self.tick(now, usize::MAX, &mut after) > 0 {}
        let mut sent: Vec<RecordId> = Vec::new();
        for byte in 0..=255 {
            let part = self.index.of_part(byte);
            sent.extend(part.filter(|(_, entry)| entry.record.in_flight()).map(|(id, _)| *id));
        }
        for ids in sent.chunks(DEAD_AT_ONCE) {
            self.owners_died(ids, alive, now);
        }
        self.reopened_holds(alive, now);
        self.left = self.doubted_of(&sent);
        Reopened { records: self.index.len(), in_doubt: self.index.counts().in_doubt, left: self.left.count }
    }

    /// Those of `ids` that are in doubt now; what was never sent is absent instead.
    fn doubted_of(&self, ids: &[RecordId]) -> LeftInDoubt {
        let mut left = LeftInDoubt::default();
        let entries = ids.iter().filter_map(|id| Some((id, self.index.get(id)?)));
        for (id, entry) in entries.filter(|(_, entry)| matches!(entry.record.phase, Phase::InDoubt { .. })) {
            left.count += 1;
            if left.records.len() < LeftInDoubt::MOST {
                left.records.push(view(id, entry));
            }
        }
        left
    }

    /// The record `id` enters `phase`. A note about a record whose beginning is gone is about one that was absent
    /// before its segment was dropped.
    fn enter(&mut self, id: RecordId, found: Found, phase: Phase<Kept>) {
        let Some(entry) = self.index.get(&id) else { return };
        let record = Record { phase, ..entry.record.clone() };
        let (home, logged) = (entry.home, entry.logged + found.bytes as u32);
        self.index.replace(id, record);
        if let (Some(journal), Some(entry)) = (&mut self.journal, self.index.get_mut(&id)) {
            journal.removed(id, entry, false);
            entry.reserved = 0;
            journal.recovered(entry, home, logged);
        }
    }

    fn forget(&mut self, id: RecordId) {
        if let (Some(entry), Some(journal)) = (self.index.remove(id), &mut self.journal) {
            journal.removed(id, &entry, false);
        }
    }
}

fn located(record: Record<Stored>, found: Found) -> Record<Kept> {
    let phase = match record.phase {
        Phase::Queued { token, owner, lease_until } => Phase::Queued { token, owner, lease_until },
        // The lease in the log is that of the claim: renewals are not written. It must not be what ends this attempt, or a
        // long one would count as in doubt since long ago, and its doubt might even be over.
        Phase::Sent { token, owner, sent_at, .. } => {
            Phase::Sent { token, owner, lease_until: Millis(u64::MAX), sent_at }
        }
        Phase::Done { answer, by, done_at, until } => {
            Phase::Done { answer: kept(answer, found), by, done_at, until }
        }
        Phase::InDoubt { token, since, until, why } => Phase::InDoubt { token, since, until, why },
    };
    Record {
        fingerprint: record.fingerprint,
        keyed: record.keyed,
        policy: record.policy,
        scope: record.scope,
        target: record.target,
        claimed_at: record.claimed_at,
        in_doubt_for: record.in_doubt_for,
        ended: record.ended,
        phase,
    }
}

fn kept(stored: Stored, found: Found) -> Kept {
    let at = found.notes_at as u32 + stored.at;
    let place = Place { segment: found.segment, at, len: stored.len, crc: stored.crc };
    Kept { status: stored.status, place: Some(place), cached: None, stamp: 0 }
}
