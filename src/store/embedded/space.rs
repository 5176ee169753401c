//! The thread that makes room: new segments before they are needed, old ones away when nothing in them is alive.

#![allow(clippy::disallowed_methods, reason = "the space thread's pauses are real time")]

use super::Shared;
use super::journal::RoomFor;
use super::kept::{Place, status_alone};
use super::log::compact::{self, Begun};
use super::log::queue::Queue;
use super::log::room::Room;
use super::log::segments::{Opened, Segments};
use crate::domain::answer::Answer;
use crate::domain::ledger::{Phase, RecordId};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it looks.
const ROUND: Duration = Duration::from_millis(20);

/// Between two attempts to make a segment, or to compact, on a full disk.
const RETRY: Duration = Duration::from_millis(500);

/// How long a store that opens waits for room that claims need.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// Records carried forward in one step, and the pause after it: commands go in between.
const CARRIED_AT_ONCE: usize = 128;
const PAUSE: Duration = Duration::from_millis(1);

/// The log of a store on disk.
pub(super) struct Log {
    /// Where commands wait for the writer.
    pub(super) queue: Arc<Queue>,
    /// Its files.
    pub(super) segments: Segments,
}

/// The oldest segment, on its way out.
pub(super) struct Leaving {
    segment: u32,
    /// Once this block is durable, so is everything that took the segment's last record out of it.
    barrier: u64,
    /// It was said that it cannot be removed.
    told: bool,
}

// === impl Log ===

impl Log {
    /// The writer's thread.
    pub(super) fn write(&self) {
        super::log::writer::run(&self.queue, &self.segments);
    }

    /// Makes a segment of `len` bytes after all others.
    pub(super) fn make_segment(&self, number: u32, len: u64) -> std::io::Result<Room> {
        let salt = super::random().map_err(std::io::Error::other)?;
        let opened = self.segments.create(number, u64::from_le_bytes(salt), len)?;
        Ok(room_of(&opened))
    }

    /// Reads an answer back. The error says what is wrong with it.
    pub(super) fn read(&self, place: Place) -> Result<Answer, String> {
        let name = self.segments.disk.name(place.segment);
        let segment = self.segments.get(place.segment).ok_or_else(|| format!("{name} is gone"))?;
        let mut bytes = vec![0; place.len as usize];
        segment.file.read_at(&mut bytes, u64::from(place.at)).map_err(|error| format!("{name}: {error}"))?;
        if crc32c::crc32c(&bytes) != place.crc {
            return Err(format!("{name}, byte {}: the checksum is wrong", place.at));
        }
        Answer::from_bytes(Bytes::from(bytes)).map_err(|_| format!("{name}, byte {}: no answer", place.at))
    }
}

fn room_of(opened: &Opened) -> Room {
    let at = super::log::block::SEGMENT_HEADER as u64;
    Room { segment: opened.head.number, at, end: opened.head.len }
}

// === impl Shared ===

impl Shared {
    /// The space thread: runs until the store closes.
    pub(super) fn make_room(&self, log: &Log) {
        let mut leaving = None;
        let (mut retry_at, mut compact_at) = (Instant::now(), Instant::now());
        loop {
            if Instant::now() >= retry_at && !self.ensure_spare(log) {
                retry_at = Instant::now() + RETRY;
            }
            if self.closes_within(ROUND) {
                return;
            }
            if log.queue.check().is_ok() {
                self.drop_dead(log, &mut leaving);
                if Instant::now() >= compact_at && !self.compact_oldest(log) {
                    compact_at = Instant::now() + RETRY;
                }
            }
        }
    }

    /// At the start: until a claim has room, or the disk is full, or slow: then reads need not wait for it.
    pub(super) fn wait_for_room(&self, log: &Log) {
        let until = Instant::now() + START_PATIENCE;
        let has_room = || {
            let state = self.lock();
            state.journal.as_ref().is_none_or(|journal| journal.room_for_claim() == RoomFor::Yes)
        };
        while !has_room() && log.queue.full().is_none() && Instant::now() < until {
            std::thread::sleep(PAUSE);
        }
    }

    /// Keeps a segment's worth of room beyond what is set aside. False where the disk did not give it.
    pub(super) fn ensure_spare(&self, log: &Log) -> bool {
        loop {
            let (reserved, wanted) = {
                let state = self.lock();
                let Some(journal) = &state.journal else { return true };
                (journal.reserved(), journal.set_aside() + log.segments.segment_bytes)
            };
            let available = log.queue.available();
            if available >= reserved {
                log.queue.set_short(false);
            }
            if available >= wanted {
                return true;
            }
            let number = log.segments.span().map_or(1, |(_, newest, _)| newest + 1);
            match log.make_segment(number, log.segments.segment_bytes) {
                Ok(room) => {
                    if log.queue.full().is_some() {
                        tracing::info!("the store has room again; guarded writes go on");
                    }
                    log.queue.add_spare(room);
                }
                Err(error) => {
                    let why = format!(
                        "no room for {}: {error}; free space on its disk",
                        log.segments.disk.name(number)
                    );
                    if log.queue.full().is_none() {
                        tracing::error!(%why, "the store is full; guarded writes are refused");
                    }
                    log.queue.set_full(why);
                    return false;
                }
            }
        }
    }

    /// Removes old segments that nothing alive is in. One that the disk does not let go is tried again, and keeps all later
    /// ones: a log without its middle is damaged.
    pub(super) fn drop_dead(&self, log: &Log, leaving: &mut Option<Leaving>) {
        loop {
            match leaving.take() {
                Some(Leaving { segment, barrier, told }) if log.queue.is_synced(barrier) => {
                    if let Err(error) = log.segments.remove(segment) {
                        if !told {
                            let name = log.segments.disk.name(segment);
                            tracing::error!(%name, %error, "an old segment of the store cannot be removed, nor any behind it");
                        }
                        *leaving = Some(Leaving { segment, barrier, told: true });
                        return;
                    }
                }
                Some(wait) => {
                    *leaving = Some(wait);
                    return;
                }
                None => {
                    let Some(segment) = self.dead_oldest(log) else { return };
                    *leaving = Some(Leaving { segment, barrier: log.queue.flush(), told: false });
                }
            }
        }
    }

    /// The oldest segment, if nothing alive is in it. Aliases that only it tells of are told again.
    fn dead_oldest(&self, log: &Log) -> Option<u32> {
        let (oldest, _, _) = log.segments.span()?;
        let mut state = self.lock();
        if oldest >= log.queue.tail() || state.journal.as_ref()?.at_home(oldest) > 0 {
            return None;
        }
        let now = self.clock.now();
        state.carry_aliases(oldest, now);
        Some(oldest)
    }

    /// Carries what is alive in the oldest segment forward, if the log is too large for what is alive. False where there is
    /// no room for it.
    pub(super) fn compact_oldest(&self, log: &Log) -> bool {
        let Some(oldest) = self.due_oldest(log) else { return true };
        let begun = compact::begun_in(&log.segments, oldest).unwrap_or_else(|error| {
            tracing::debug!(%error, "an old segment of the store cannot be read back");
            Begun::default()
        });
        if !self.carry_all(log, oldest, &begun) {
            return false;
        }
        // What the segment does not show any more, memory still knows.
        self.at_home(oldest) == 0
            || (0..=255).all(|byte| {
                let left = self.lock().index.at_home(byte, oldest);
                self.carry_all(log, oldest, &left)
            })
    }

    /// The oldest segment, if it is worth carrying forward what is alive in it, and there is room to begin.
    fn due_oldest(&self, log: &Log) -> Option<u32> {
        let (oldest, _, count) = log.segments.span()?;
        let written = count.saturating_sub(log.queue.spares()) as u64;
        let full = log.queue.full().is_some();
        let state = self.lock();
        let journal = state.journal.as_ref()?;
        let is_due = compact::is_due(written, log.segments.segment_bytes, journal.live_bytes(), full);
        let can = oldest < log.queue.tail() && journal.at_home(oldest) > 0 && journal.room_to_carry(None);
        (is_due && can).then_some(oldest)
    }

    fn at_home(&self, segment: u32) -> u64 {
        self.lock().journal.as_ref().map_or(0, |journal| journal.at_home(segment))
    }

    /// Carries what is alive of `begun`, which began in `segment`, forward. False where that has to stop.
    fn carry_all(&self, log: &Log, segment: u32, begun: &Begun) -> bool {
        let goes_on = || !self.closes_within(PAUSE) && log.queue.failed().is_none();
        begun.records.chunks(CARRIED_AT_ONCE).all(|ids| goes_on() && self.carry(log, segment, ids))
            && begun
                .holds
                .chunks(CARRIED_AT_ONCE)
                .all(|keys| goes_on() && self.lock().carry_holds(segment, keys, self.clock.now()))
    }

    /// Carries the records among `ids` that are alive in `segment` forward. False where there is no room for them.
    fn carry(&self, log: &Log, segment: u32, ids: &[RecordId]) -> bool {
        let cold: Vec<(RecordId, Place, u16)> = {
            let state = self.lock();
            let cold = |id: &RecordId| {
                let entry = state.index.get(id).filter(|entry| entry.home == segment)?;
                match &entry.record.phase {
                    Phase::Done { answer, .. } if answer.cached.is_none() => {
                        Some((*id, answer.place?, answer.status))
                    }
                    _ => None,
                }
            };
            ids.iter().filter_map(cold).collect()
        };
        // Read without the lock. Only this thread moves answers, so a place that was right stays right.
        let (mut answers, mut lost) = (HashMap::new(), Vec::new());
        for (id, place, status) in cold {
            let answer = log.read(place).unwrap_or_else(|why| {
                lost.push((id, why));
                status_alone(status)
            });
            answers.insert(id, answer);
        }
        let mut state = self.lock();
        let now = self.clock.now();
        let carried = state.carry_forward(segment, ids, &answers, now);
        // What there was no room for is tried again, and said then.
        lost.retain(|(id, _)| state.index.get(id).is_some_and(|entry| entry.home != segment));
        drop(state);
        for (id, why) in lost {
            tracing::error!(%id, %why, "a recorded answer cannot be read back; from now on its status alone is kept");
        }
        carried
    }
}
