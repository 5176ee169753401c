//! The embedded store: the records of one process, in memory or with a log in a directory. `state` decides under one
//! lock, `log` makes it durable with one writer thread, this file joins the two.

mod adoption;
mod aliases;
mod clock;
mod dir;
mod holdlog;
mod holds;
mod index;
mod journal;
mod kept;
mod lanes;
mod log;
mod parts;
mod reading;
mod recovery;
mod reopen;
mod settle;
mod slots;
mod space;
mod state;
mod subtrees;
mod upkeep;
mod views;

#[cfg(test)]
mod tests;

use super::waiters;
use super::*;
use crate::domain::ledger::Phase;
use clock::Clock;
use dir::Dir;
use kept::Kept;
use log::disk::{Directory, Disk};
use log::segments::Segments;
use space::Log;
use state::{After, ClaimStep, State};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use waiters::Signal;

pub use lanes::LanePlace;

/// How often leases and windows are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Records that one tick changes before it lets others have the lock.
const TICK_RECORDS_MAX: usize = 256;

/// Bytes of a segment of the log. Larger ones are removed more rarely, smaller ones are made faster at the start.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long a claim waits for a new segment before it is refused.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// A store in this process.
pub struct Embedded {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    log: Option<Log>,
    clock: Clock,
    secret: Vec<u8>,
    owner: Owner,
    /// How many aliases there are, to be read without the lock.
    aliases: AtomicUsize,
    /// The same of what has ended with all below it.
    subtrees: AtomicUsize,
    closed: AtomicBool,
    closing: Mutex<bool>,
    close: Condvar,
    /// Keeps other processes out of the directory.
    _dir: Option<Dir>,
}

/// What a store is made of, apart from the operator's choices; tests put faults and their own time in.
struct Setup {
    disk: Option<Arc<dyn Disk>>,
    dir: Option<Dir>,
    secret: Vec<u8>,
    segment_bytes: u64,
    /// A clock that starts no earlier than what was written down.
    clock: Box<dyn FnOnce(Millis) -> Clock>,
}

// === impl Embedded ===

impl Embedded {
    /// See [`Store::open`].
    pub(super) fn open(options: Options) -> Result<Embedded, OpenError> {
        let setup = match &options.place {
            // A shared store is opened elsewhere; there is nothing here that it could mean.
            Place::Shared(place) => {
                let why = "it is not in this process".into();
                return Err(OpenError::Unfit { store: place.to_string(), why });
            }
            Place::Memory => Setup {
                disk: None,
                dir: None,
                secret: match &options.secret {
                    Some(secret) => secret.clone(),
                    None => random::<32>()?.to_vec(),
                },
                segment_bytes: SEGMENT_BYTES,
                clock: Box::new(Clock::start),
            },
            Place::Directory(path) => {
                let dir = Dir::take(path, options.secret.clone())?;
                Setup {
                    disk: Some(Arc::new(Directory::new(path.clone()))),
                    secret: dir.secret.clone(),
                    dir: Some(dir),
                    segment_bytes: SEGMENT_BYTES,
                    clock: Box::new(Clock::start),
                }
            }
        };
        Embedded::start(Shared::build(&options, setup)?)
    }

    /// Starts the threads of a store.
    fn start(shared: Arc<Shared>) -> Result<Embedded, OpenError> {
        let store = Embedded { shared, threads: Mutex::default() };
        store.spawn("store-keeper", Shared::keep_house)?;
        if store.shared.log.is_some() {
            store.spawn("store-writer", |shared| shared.log.iter().for_each(Log::write))?;
            store.spawn("store-space", |shared| shared.log.iter().for_each(|log| shared.make_room(log)))?;
            store.shared.log.iter().for_each(|log| store.shared.wait_for_room(log));
        }
        Ok(store)
    }

    fn spawn(&self, name: &str, work: impl Fn(&Shared) + Send + 'static) -> Result<(), OpenError> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&shared));
        let thread = thread.map_err(OpenError::io(format!("starting its thread {name}")))?;
        self.threads.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(thread);
        Ok(())
    }

    pub(super) async fn claim(&self, request: impl Into<Box<ClaimRequest>>) -> Result<Claimed, StoreError> {
        let mut request = request.into();
        self.hold_back().await?;
        let (step, commit) = match self.claim_now(&mut request)? {
            (ClaimStep::NoRoom, _) => Box::pin(self.claim_with_room(&mut request)).await?,
            claimed => claimed,
        };
        self.durable(commit).await?;
        Ok(match step {
            ClaimStep::Granted => Claimed::Granted,
            ClaimStep::InFlight(waiter) => Claimed::InFlight(waiter),
            ClaimStep::Done(Kept { cached: Some(answer), .. }) => Claimed::Done(answer),
            ClaimStep::Done(kept) => Claimed::Done(Box::pin(self.read_or_tombstone(request.id, kept)).await),
            ClaimStep::OtherMeaning => Claimed::OtherMeaning,
            ClaimStep::InDoubt { token, since, until, why } => Claimed::InDoubt { token, since, until, why },
            ClaimStep::OverQuota => Claimed::OverQuota,
            ClaimStep::SlotTaken(taken) => Claimed::SlotTaken(taken),
            ClaimStep::SlotChanged => Claimed::SlotChanged,
            ClaimStep::NoRoom => return Err(StoreError::Full("its disk is full".into())),
        })
    }

    fn claim_now(&self, request: &mut ClaimRequest) -> Result<(ClaimStep, Option<u64>), StoreError> {
        let (step, after) = self.run(|state, now, after| state.claim(request, now, after))?;
        Ok((step?, after.commit))
    }

    /// Claims when the log has room, where there was none.
    async fn claim_with_room(
        &self,
        request: &mut ClaimRequest,
    ) -> Result<(ClaimStep, Option<u64>), StoreError> {
        while let Some(log) = &self.shared.log {
            // Asked for before it is looked at once more, so that no change is missed.
            let room = log.queue.room();
            match self.claim_now(request)? {
                (ClaimStep::NoRoom, _) => self.wait_for_room(&room).await?,
                claimed => return Ok(claimed),
            }
        }
        Ok((ClaimStep::NoRoom, None))
    }

    pub(super) async fn mark_sent(&self, id: RecordId, token: Token) -> Result<Held, StoreError> {
        let (held, after) = self.run(|state, now, after| state.mark_sent(id, token, now, after))?;
        self.durable(after.commit).await?;
        Ok(held)
    }

    pub(super) fn renew(&self, id: RecordId, token: Token, lease: Duration) -> Result<Held, StoreError> {
        self.run(|state, now, after| state.renew(id, token, lease, now, after)).map(|(held, _)| held)
    }

    pub(super) async fn complete(&self, completion: impl Into<Box<Completion>>) -> Result<Held, StoreError> {
        self.hold_back().await?;
        let (held, after) = self.run(|state, now, after| state.complete(completion.into(), now, after))?;
        self.durable(after.commit).await?;
        held
    }

    pub(super) async fn abandon(
        &self,
        id: RecordId,
        token: Token,
        answer: Option<Answer>,
    ) -> Result<Held, StoreError> {
        let (held, after) = self.run(|state, now, after| state.abandon(id, token, answer, now, after))?;
        self.durable(after.commit).await?;
        Ok(held)
    }

    pub(super) fn doubt(&self, id: RecordId, token: Token, why: Doubt) -> Result<Held, StoreError> {
        self.run(|state, now, after| state.doubt(id, token, why, now, after)).map(|(held, _)| held)
    }

    pub(super) async fn end_intents(&self, ends: EndIntents) -> Result<usize, StoreError> {
        self.hold_back().await?;
        let (changed, after) = self.run(|state, now, after| state.end_intents(&ends, now, after))?;
        self.durable(after.commit).await?;
        Ok(changed)
    }

    pub(super) async fn alias(&self, from: ScopeId, to: ScopeId, keep: Duration) -> Result<(), StoreError> {
        let (added, after) = self.run(|state, now, after| state.alias(from, to, keep, now, after))?;
        self.durable(after.commit).await?;
        added
    }

    pub(super) async fn settle(&self, id: RecordId, how: Settle) -> Result<Settled, StoreError> {
        let (settled, after) = self.run(|state, now, after| state.settle(id, how, now, after))?;
        self.durable(after.commit).await?;
        Ok(settled)
    }

    pub(super) fn scope_of(&self, scope: ScopeId) -> ScopeId {
        if self.shared.aliases.load(Ordering::Acquire) == 0 {
            return scope;
        }
        let now = self.shared.clock.now();
        self.shared.lock().aliases.resolve(scope, now)
    }

    pub(super) fn has_live(&self, scope: ScopeId) -> bool {
        self.shared.lock().index.live(&scope) > 0
    }

    pub(super) async fn answer(&self, id: RecordId) -> Option<Answer> {
        let (kept, commit) = {
            let state = self.shared.lock();
            let entry = state.index.get(&id)?;
            let Phase::Done { answer, .. } = &entry.record.phase else { return None };
            (answer.clone(), state.journal.as_ref().map(|_| entry.commit))
        };
        self.durable(commit).await.ok()?;
        self.read(id, kept).await.ok()
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.shared.lock();
        let (counts, memory_bytes) = (state.index.counts(), state.index.recent.bytes());
        let (records_full, slots) = (state.full(), state.index.holds.figures());
        drop(state);
        let log = self.shared.log.as_ref();
        let failed = log.and_then(|log| log.queue.failed().map(str::to_owned));
        let full = || log.and_then(|log| log.queue.full());
        Figures {
            queued: counts.queued,
            sent: counts.sent,
            done: counts.done,
            in_doubt: counts.in_doubt,
            memory_bytes,
            slots,
            disk_bytes: log.map_or(0, |log| log.segments.bytes()),
            commits: log.map_or(0, |log| log.queue.syncs()),
            refusing: failed.or_else(full).or(records_full),
        }
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.shared.secret
    }

    pub(super) fn owner(&self) -> Owner {
        self.shared.owner
    }

    pub(super) fn now(&self) -> Millis {
        self.shared.clock.now()
    }

    pub(super) fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        *self.shared.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        self.shared.close.notify_all();
        if let Some(log) = &self.shared.log {
            log.queue.close();
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for thread in threads {
            // A thread that panicked has nothing left to write.
            drop(thread.join());
        }
    }

    /// One command under the lock. Copies that need not wait for the disk are woken when the lock is gone.
    fn run<R>(
        &self,
        command: impl FnOnce(&mut State, Millis, &mut After) -> R,
    ) -> Result<(R, After), StoreError> {
        self.shared.run(command)
    }

    /// Waits until the block `commit` is durable.
    async fn durable(&self, commit: Option<u64>) -> Result<(), StoreError> {
        let (Some(log), Some(commit)) = (&self.shared.log, commit) else { return Ok(()) };
        match log.queue.commit(commit)? {
            Some(signal) => signal.wait().await,
            None => Ok(()),
        }
    }

    /// Waits while more is on its way to the disk than the log's queue may hold.
    async fn hold_back(&self) -> Result<(), StoreError> {
        let Some(log) = &self.shared.log else { return Ok(()) };
        while let Some(commit) = log.queue.pressure() {
            commit.wait().await?;
        }
        Ok(())
    }

    /// There is no room for a claim: waits for a new segment, or says why there will be none.
    async fn wait_for_room(&self, room: &Signal<()>) -> Result<(), StoreError> {
        let Some(log) = &self.shared.log else { return Ok(()) };
        if let Some(why) = log.queue.full() {
            return Err(StoreError::Full(why));
        }
        if tokio::time::timeout(ROOM_PATIENCE, room.wait()).await.is_err() {
            return Err(StoreError::Full("its disk is too slow to make room".into()));
        }
        match log.queue.full() {
            Some(why) => Err(StoreError::Full(why)),
            None => Ok(()),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Shared ===

impl Shared {
    /// Reads what an earlier life left; nothing runs yet.
    fn build(options: &Options, setup: Setup) -> Result<Arc<Shared>, OpenError> {
        let owner = Owner(u64::from_le_bytes(random()?));
        let (state, log, clock) = match setup.disk {
            None => {
                (State::new(options.memory_max, options.records_max, None), None, (setup.clock)(Millis(0)))
            }
            Some(disk) => {
                let segments = Segments::new(disk, setup.segment_bytes);
                let (state, log, clock) = reopen::reopen(options, segments, setup.clock, owner)?;
                (state, Some(log), clock)
            }
        };
        let aliases = AtomicUsize::new(state.aliases.len());
        let subtrees = AtomicUsize::new(state.subtrees.len());
        Ok(Arc::new(Shared {
            state: Mutex::new(state),
            log,
            clock,
            secret: setup.secret,
            owner,
            aliases,
            subtrees,
            closed: AtomicBool::new(false),
            closing: Mutex::new(false),
            close: Condvar::new(),
            _dir: setup.dir,
        }))
    }

    /// The state, whatever a panicking thread left of it: for reading only.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn run<R>(
        &self,
        command: impl FnOnce(&mut State, Millis, &mut After) -> R,
    ) -> Result<(R, After), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("it is closing".into()));
        }
        if let Some(log) = &self.log {
            log.queue.check()?;
        }
        let mut after = After::default();
        let result = {
            let mut state = self.state.lock().map_err(|_| {
                StoreError::Unavailable("a command failed in the middle; restart the gateway".into())
            })?;
            // Read under the lock, so that commands see time in their own order.
            let now = self.clock.now();
            if let Some(journal) = &mut state.journal {
                journal.begin(now);
            }
            let result = command(&mut state, now, &mut after);
            for (count, told) in
                [(state.aliases.len(), &self.aliases), (state.subtrees.len(), &self.subtrees)]
            {
                if count != told.load(Ordering::Relaxed) {
                    told.store(count, Ordering::Release);
                }
            }
            result
        };
        for (attempt, end) in after.ends.drain(..) {
            attempt.end(Some(end));
        }
        after.turns.drain(..).for_each(|turn| turn.give(()));
        Ok((result, after))
    }

    fn read(&self, place: kept::Place) -> Result<Answer, String> {
        self.log.as_ref().ok_or("it is not on disk")?.read(place)
    }

    /// The keeper's thread: lets time pass for records, and has written what nobody waits for.
    fn keep_house(&self) {
        while !self.closes_within(TICK) {
            while let Ok((changed, _)) =
                self.run(|state, now, after| state.tick(now, TICK_RECORDS_MAX, after))
                && changed >= TICK_RECORDS_MAX
            {}
            if let Some(log) = &self.log {
                log.queue.flush();
            }
        }
    }

    /// Waits for so long, or until the store closes: then it is true.
    fn closes_within(&self, wait: Duration) -> bool {
        let closing = self.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = self.close.wait_timeout_while(closing, wait, |closing| !*closing);
        *waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }
}

/// Random bytes from the operating system.
fn random<const N: usize>() -> Result<[u8; N], OpenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        OpenError::io("asking the system for random bytes")(std::io::Error::other(error.to_string()))
    })?;
    Ok(bytes)
}
