//! Where commands put their notes and wait, and where the writer finds them: group commit.
//!
//! A batch is filled while the writer syncs the one before; its place in the log is known from its first byte on, so an
//! answer's place is known before it is written. Lock order: the state's lock first, then this one.

use super::super::AttemptEnd;
use super::super::clock::instant;
use super::super::waiters::{Attempt, Signal};
use super::block::{self, BLOCK_HEADER};
use super::gather::Gather;
use super::room::Room;
use crate::domain::time::Millis;
use crate::store::StoreError;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// A batch that is larger is closed; a single command may still be larger.
const BATCH_MAX: usize = 4 << 20;

/// Bytes that may wait for the writer before commands are held back.
const BACKLOG_MAX: u64 = 32 << 20;

/// Why nothing is written by a store that opened on a full disk, and had lost the room that it kept.
const SHORT: &str = "its disk is full, and nothing can be noted; free space on it";

/// Given when a batch is durable, or will never be.
pub(in super::super) type Commit = Signal<Result<(), StoreError>>;

/// See the module.
pub(in super::super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    synced: AtomicU64,
    backlog: AtomicU64,
    syncs: AtomicU64,
    /// Bytes that can still be written, to be read without the lock. Only a push makes them fewer.
    available: AtomicU64,
    /// There is too little room even for what may have to be said of the records that are there.
    short: AtomicBool,
    failed: OnceLock<String>,
}

struct Inner {
    open: Option<Batch>,
    sealed: VecDeque<Batch>,
    writing: Option<(u64, Arc<Commit>)>,
    next_number: u64,
    tail: Room,
    spares: VecDeque<Room>,
    /// Somebody waits for the open batch.
    urgent: bool,
    asleep: bool,
    gather: Gather,
    closing: bool,
    /// Why there is no more room, when the last attempt to make some failed.
    full: Option<String>,
    /// Given when that changes.
    room: Arc<Signal<()>>,
    buffers: Vec<Vec<u8>>,
}

/// What one sync makes durable.
pub(in super::super) struct Batch {
    /// Its block's number.
    pub(in super::super) number: u64,
    /// Where it goes.
    pub(in super::super) segment: u32,
    /// Where in the segment.
    pub(in super::super) at: u64,
    /// The block: header and notes.
    pub(in super::super) block: Vec<u8>,
    /// The latest instant that any of its commands saw.
    pub(in super::super) time: Millis,
    /// Commands whose callers wait for it.
    callers: u32,
    commit: Arc<Commit>,
    tells: Vec<(Arc<Attempt>, AttemptEnd)>,
}

/// Where a command's notes went.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Pushed {
    /// The block that makes them durable.
    pub(in super::super) commit: u64,
    /// The segment.
    pub(in super::super) segment: u32,
    /// Where in it the notes begin.
    pub(in super::super) at: u64,
}

// === impl Batch ===

impl Batch {
    /// It will never be durable: the copies that wait for it learn that nobody knows.
    pub(in super::super) fn untold(self) {
        for (attempt, _) in self.tells {
            attempt.end(None);
        }
    }
}

// === impl Queue ===

impl Queue {
    /// A queue without room; [`Queue::start`] gives it some.
    pub(in super::super) fn new() -> Queue {
        let (next_number, tail) = (1, Room::default());
        Queue {
            inner: Mutex::new(Inner {
                open: None,
                sealed: VecDeque::new(),
                writing: None,
                next_number,
                tail,
                spares: VecDeque::new(),
                urgent: false,
                asleep: false,
                gather: Gather::new(),
                closing: false,
                full: None,
                room: Arc::new(Signal::new()),
                buffers: Vec::new(),
            }),
            wake: Condvar::new(),
            synced: AtomicU64::new(next_number - 1),
            backlog: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            available: AtomicU64::new(0),
            short: AtomicBool::new(false),
            failed: OnceLock::new(),
        }
    }

    /// The next block has the number `next_number` and goes to `tail`.
    pub(in super::super) fn start(&self, next_number: u64, tail: Room) {
        let mut inner = self.lock();
        inner.next_number = next_number;
        inner.tail = tail;
        self.tell_available(&inner);
        self.synced.store(next_number - 1, Ordering::Release);
    }

    /// Puts one command's notes into the log, and `tells` whom to wake when they are durable. `lazily`: nobody waits,
    /// so the writer need not be woken. The caller made sure that there is room; `None`: nothing is written any more.
    pub(in super::super) fn push(
        &self,
        notes: &[u8],
        tells: &mut Vec<(Arc<Attempt>, AttemptEnd)>,
        lazily: bool,
        now: Millis,
    ) -> Option<Pushed> {
        let mut inner = self.lock();
        if inner.closing || self.check().is_err() {
            return None;
        }
        let batch = inner.batch_for(notes.len())?;
        let at = batch.at + batch.block.len() as u64;
        batch.block.extend_from_slice(notes);
        batch.time = batch.time.max(now);
        batch.tells.append(tells);
        batch.callers += u32::from(!lazily);
        let pushed = Pushed { commit: batch.number, segment: batch.segment, at };
        self.backlog.fetch_add(notes.len() as u64, Ordering::Relaxed);
        self.tell_available(&inner);
        inner.urgent |= !lazily;
        let wake = !lazily && inner.is_worth_waking() && std::mem::take(&mut inner.asleep);
        drop(inner);
        if wake {
            self.wake.notify_one();
        }
        Some(pushed)
    }

    /// What to wait for until the block `commit` is durable; `None` when it is.
    pub(in super::super) fn commit(&self, commit: u64) -> Result<Option<Arc<Commit>>, StoreError> {
        if self.synced.load(Ordering::Acquire) >= commit {
            return Ok(None);
        }
        self.check()?;
        let mut inner = self.lock();
        if commit >= inner.next_number {
            return Err(StoreError::Unavailable("the store is closing".into()));
        }
        if let Some((number, writing)) = &inner.writing
            && *number == commit
        {
            return Ok(Some(Arc::clone(writing)));
        }
        let sealed = inner.sealed.iter().find(|batch| batch.number == commit);
        let found = sealed.or(inner.open.as_ref()).filter(|batch| batch.number == commit);
        let found = found.map(|batch| Arc::clone(&batch.commit));
        if found.is_some() && !inner.urgent {
            // It was pushed lazily, and now somebody waits.
            inner.urgent = true;
            if std::mem::take(&mut inner.asleep) {
                self.wake.notify_one();
            }
        }
        drop(inner);
        // Neither waiting nor being written: it was finished between the two looks.
        if found.is_none() {
            self.check()?;
        }
        Ok(found)
    }

    /// Whether the block `commit` is durable.
    pub(in super::super) fn is_synced(&self, commit: u64) -> bool {
        self.synced.load(Ordering::Acquire) >= commit
    }

    /// Writes what was pushed lazily, and gives back the number of the last block that has anything in it.
    pub(in super::super) fn flush(&self) -> u64 {
        let mut inner = self.lock();
        if inner.open.is_some() {
            inner.urgent = true;
            if std::mem::take(&mut inner.asleep) {
                self.wake.notify_one();
            }
        }
        inner.next_number - 1
    }

    /// Syncs so far.
    pub(in super::super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Whether so much waits for the writer that commands have to be held back, and for what they wait then.
    pub(in super::super) fn pressure(&self) -> Option<Arc<Commit>> {
        if self.backlog.load(Ordering::Relaxed) <= BACKLOG_MAX {
            return None;
        }
        let inner = self.lock();
        let front = inner.sealed.front().or(inner.open.as_ref()).map(|batch| Arc::clone(&batch.commit));
        inner.writing.as_ref().map(|(_, commit)| Arc::clone(commit)).or(front)
    }

    // --- room ---

    /// Bytes that can still be written without making a segment.
    pub(in super::super) fn available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    fn tell_available(&self, inner: &Inner) {
        self.available.store(inner.available(), Ordering::Relaxed);
    }

    /// Whether nothing may be written until there is more room.
    pub(in super::super) fn set_short(&self, short: bool) {
        self.short.store(short, Ordering::Relaxed);
    }

    /// How many unused segments are ready.
    pub(in super::super) fn spares(&self) -> usize {
        self.lock().spares.len()
    }

    /// The segment that the next block goes to. Older ones are not written any more.
    pub(in super::super) fn tail(&self) -> u32 {
        let inner = self.lock();
        let oldest = inner.sealed.front().or(inner.open.as_ref());
        oldest.map_or(inner.tail.segment, |batch| batch.segment)
    }

    /// A new segment is ready.
    pub(in super::super) fn add_spare(&self, spare: Room) {
        let mut inner = self.lock();
        inner.spares.push_back(spare);
        self.tell_available(&inner);
        inner.full = None;
        inner.room_changed();
    }

    /// No new segment can be made.
    pub(in super::super) fn set_full(&self, why: String) {
        let mut inner = self.lock();
        inner.full = Some(why);
        inner.room_changed();
    }

    /// Why no new segment can be made, if that is so.
    pub(in super::super) fn full(&self) -> Option<String> {
        self.lock().full.clone()
    }

    /// What to wait for when there is no room: a change of it.
    pub(in super::super) fn room(&self) -> Arc<Signal<()>> {
        Arc::clone(&self.lock().room)
    }

    // --- the end ---

    /// An error when the log cannot be written any more, or not yet.
    pub(in super::super) fn check(&self) -> Result<(), StoreError> {
        match self.failed.get() {
            Some(why) => Err(StoreError::Unavailable(why.clone())),
            None if self.short.load(Ordering::Relaxed) => Err(StoreError::Full(SHORT.into())),
            None => Ok(()),
        }
    }

    /// Why the log cannot be written any more, if that is so.
    pub(in super::super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Whether no more commands come.
    pub(in super::super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Nothing is written from now on; whoever waits is told.
    pub(in super::super) fn fail(&self, why: &str) {
        drop(self.failed.set(why.to_owned()));
        let mut inner = self.lock();
        let mut lost: Vec<Batch> = inner.sealed.drain(..).collect();
        lost.extend(inner.open.take());
        let writing = inner.writing.take();
        inner.room_changed();
        drop(inner);
        let error = StoreError::Unavailable(why.to_owned());
        if let Some((_, commit)) = writing {
            commit.give(Err(error.clone()));
        }
        for batch in lost {
            batch.commit.give(Err(error.clone()));
            batch.untold();
        }
    }

    /// No more commands come: the writer ends when everything is written.
    pub(in super::super) fn close(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        inner.asleep = false;
        inner.room_changed();
        drop(inner);
        self.wake.notify_one();
    }

    // --- the writer's side ---

    /// The next batch to write; waits for one. `None`: the store closes and everything is written.
    pub(in super::super) fn take(&self) -> Option<Batch> {
        let mut inner = self.lock();
        loop {
            let company = inner.company();
            if company.is_none() {
                if let Some(batch) = inner.due() {
                    return Some(batch);
                }
                if inner.closing {
                    return None;
                }
            }
            inner.asleep = true;
            inner = match company {
                None => self.wake.wait(inner).unwrap_or_else(|poisoned| poisoned.into_inner()),
                Some(most) => {
                    let waited = self.wake.wait_timeout(inner, most);
                    waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
                }
            };
            inner.asleep = false;
        }
    }

    /// The next batch to write, if there is one.
    #[cfg(test)]
    pub(in super::super) fn take_due(&self) -> Option<Batch> {
        self.lock().due()
    }

    /// `batch` is durable: everyone who waits for it is woken, once.
    pub(in super::super) fn synced(&self, batch: Batch, took: Duration, now: Instant) {
        let Batch { number, block, commit, tells, callers, .. } = batch;
        self.synced.store(number, Ordering::Release);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.writing = None;
        let waiting = inner.callers();
        inner.gather.synced(callers, waiting, took, now);
        self.backlog.fetch_sub(inner.reuse(block), Ordering::Relaxed);
        drop(inner);
        commit.give(Ok(()));
        for (attempt, end) in tells {
            attempt.end(Some(end));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

// === impl Inner ===

impl Inner {
    /// Commands whose callers wait for the open batch.
    fn callers(&self) -> u32 {
        self.open.as_ref().map_or(0, |batch| batch.callers)
    }

    /// How long to wait for more commands before the open batch is written.
    fn company(&mut self) -> Option<Duration> {
        if self.closing || !self.sealed.is_empty() {
            return None;
        }
        self.gather.wait(self.callers(), instant())
    }

    /// Whether the writer would begin to write now.
    fn is_worth_waking(&self) -> bool {
        !self.sealed.is_empty() || self.callers() >= self.gather.enough()
    }

    fn available(&self) -> u64 {
        let mut tail = self.tail;
        if let Some(open) = &self.open {
            tail.at = (open.at + block::padded(open.block.len()) as u64).min(tail.end);
        }
        tail.bytes() + self.spares.iter().map(|spare| spare.bytes()).sum::<u64>()
    }

    /// The batch that takes `len` more bytes, in the present segment or the next.
    fn batch_for(&mut self, len: usize) -> Option<&mut Batch> {
        let fits = |batch: &Batch, end: u64| {
            let block = batch.block.len() + len;
            block <= BATCH_MAX && batch.at + block::padded(block) as u64 <= end
        };
        if self.open.as_ref().is_some_and(|batch| !fits(batch, self.tail.end)) {
            let full = self.close_open();
            self.sealed.extend(full);
        }
        if self.open.is_none() {
            let needed = block::padded(BLOCK_HEADER + len) as u64;
            if self.tail.at + needed > self.tail.end {
                // A start makes small segments, and what is too large for one goes behind it. It stays unused.
                let next = self.spares.iter().position(|spare| spare.at + needed <= spare.end)?;
                self.tail = self.spares.drain(..=next).next_back()?;
            }
            let mut block = self.buffers.pop().unwrap_or_default();
            block::begin(&mut block);
            let number = self.next_number;
            self.next_number += 1;
            self.open = Some(Batch {
                number,
                segment: self.tail.segment,
                at: self.tail.at,
                block,
                time: Millis(0),
                callers: 0,
                commit: Arc::new(Signal::new()),
                tells: Vec::new(),
            });
        }
        self.open.as_mut()
    }

    /// The batch that the writer should write now.
    fn due(&mut self) -> Option<Batch> {
        let batch = match self.sealed.pop_front() {
            Some(batch) => batch,
            None if std::mem::take(&mut self.urgent) || self.closing => self.close_open()?,
            None => return None,
        };
        self.writing = Some((batch.number, Arc::clone(&batch.commit)));
        Some(batch)
    }

    /// Takes the open batch; the next one begins behind it.
    fn close_open(&mut self) -> Option<Batch> {
        let batch = self.open.take()?;
        self.tail.at = batch.at + block::padded(batch.block.len()) as u64;
        Some(batch)
    }

    fn room_changed(&mut self) {
        std::mem::replace(&mut self.room, Arc::new(Signal::new())).give(());
    }

    /// Keeps a written batch's buffer for the next one; gives back how many bytes of notes it held.
    fn reuse(&mut self, block: Vec<u8>) -> u64 {
        let notes = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        if self.buffers.len() < 2 && block.capacity() <= 1 << 20 {
            self.buffers.push(block);
        }
        u64::from(notes)
    }
}
