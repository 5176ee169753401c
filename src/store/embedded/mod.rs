//! The embedded store: the records of one process, in memory or with a log in a directory. `state` decides under one
//! lock, `log` makes it durable with one writer thread, this file joins the two.

mod aliases;
mod clock;
mod index;
mod journal;
mod kept;
mod parts;
mod state;
mod views;
mod waiters;

use super::*;
use clock::Clock;
use kept::Kept;
use state::{After, ClaimStep, State};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

pub use waiters::Waiter;

/// How often leases and windows are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Records that one tick changes before it lets others have the lock.
const TICK_RECORDS_MAX: usize = 256;

/// A store in this process.
pub struct Embedded {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    secret: Vec<u8>,
    owner: Owner,
    /// How many aliases there are, to be read without the lock.
    aliases: AtomicUsize,
    closing: Mutex<bool>,
    close: Condvar,
}

// === impl Embedded ===

impl Embedded {
    /// See [`Store::open`].
    pub(super) fn open(options: Options) -> Result<Embedded, OpenError> {
        if let Place::Directory(dir) = &options.place {
            let why = std::io::Error::other("file stores are not built in yet; use memory:");
            return Err(OpenError::io(format!("opening {}", dir.display()))(why));
        }
        let secret = match options.secret {
            Some(secret) => secret,
            None => random::<32>()?.to_vec(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(options.memory_max, options.records_max, None)),
            clock: Clock::start(Millis(0)),
            secret,
            owner: Owner(u64::from_le_bytes(random()?)),
            aliases: AtomicUsize::new(0),
            closing: Mutex::new(false),
            close: Condvar::new(),
        });
        let keeper = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-keeper".into())
            .spawn(move || keeper.keep_house())
            .map_err(OpenError::io("starting its thread"))?;
        Ok(Embedded { shared, threads: Mutex::new(vec![thread]) })
    }

    pub(super) async fn claim(&self, mut request: ClaimRequest) -> Result<Claimed, StoreError> {
        let (step, after) = self.run(|state, now, after| state.claim(&mut request, now, after))?;
        self.durable(after.commit).await?;
        Ok(match step? {
            ClaimStep::Granted => Claimed::Granted,
            ClaimStep::InFlight(waiter) => Claimed::InFlight(waiter),
            ClaimStep::Done(kept) => Claimed::Done(self.read(request.id, kept).await?),
            ClaimStep::OtherMeaning => Claimed::OtherMeaning,
            ClaimStep::InDoubt { since, until, why } => Claimed::InDoubt { since, until, why },
            ClaimStep::OverQuota => Claimed::OverQuota,
        })
    }

    pub(super) async fn mark_sent(&self, id: RecordId, token: Token) -> Result<Held, StoreError> {
        let (held, after) = self.run(|state, now, after| state.mark_sent(id, token, now, after))?;
        self.durable(after.commit).await?;
        Ok(held)
    }

    pub(super) fn renew(&self, id: RecordId, token: Token, lease: Duration) -> Result<Held, StoreError> {
        self.run(|state, now, after| state.renew(id, token, lease, now, after)).map(|(held, _)| held)
    }

    pub(super) async fn complete(&self, completion: Completion) -> Result<Held, StoreError> {
        let (held, after) = self.run(|state, now, after| state.complete(completion, now, after))?;
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
        let (changed, after) = self.run(|state, now, after| state.end_intents(&ends, now, after))?;
        self.durable(after.commit).await?;
        Ok(changed)
    }

    pub(super) async fn alias(&self, from: ScopeId, to: ScopeId, keep: Duration) -> Result<(), StoreError> {
        let (added, after) =
            self.run(|state, now, after| state.alias(from, to, now.after(keep), now, after))?;
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

    pub(super) fn list(&self, listing: &Listing) -> Vec<RecordView> {
        let limit = views::limit(listing);
        let mut views = Vec::new();
        for byte in listing.after.map_or(0, |after| after.0[0])..=255 {
            // One part at a time: claims get the lock in between.
            views.extend(views::list_part(&self.shared.lock().index, byte, listing, limit - views.len()));
            if views.len() == limit {
                break;
            }
        }
        views
    }

    pub(super) fn show(&self, id: RecordId) -> Option<RecordView> {
        self.shared.lock().index.get(&id).map(|entry| views::view(&id, entry))
    }

    pub(super) async fn answer(&self, id: RecordId) -> Option<Answer> {
        let (kept, commit) = {
            let state = self.shared.lock();
            let entry = state.index.get(&id)?;
            let crate::domain::ledger::Phase::Done { answer, .. } = &entry.record.phase else { return None };
            (answer.clone(), state.journal.as_ref().map(|_| entry.commit))
        };
        self.durable(commit).await.ok()?;
        self.read(id, kept).await.ok()
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.shared.lock();
        let counts = state.index.counts();
        Figures {
            queued: counts.queued,
            sent: counts.sent,
            done: counts.done,
            in_doubt: counts.in_doubt,
            memory_bytes: state.index.recent.bytes(),
            disk_bytes: 0,
            commits: 0,
            refusing: None,
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
        *self.shared.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        self.shared.close.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for thread in threads {
            // A thread that panicked has nothing left to flush.
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

    async fn durable(&self, _commit: Option<u64>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn read(&self, _id: RecordId, kept: Kept) -> Result<Answer, StoreError> {
        kept.cached.ok_or_else(|| StoreError::Unavailable("the recorded answer cannot be read".into()))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Shared ===

impl Shared {
    /// The state, whatever a panicking thread left of it: for reading only.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn run<R>(
        &self,
        command: impl FnOnce(&mut State, Millis, &mut After) -> R,
    ) -> Result<(R, After), StoreError> {
        let mut after = After::default();
        let result = {
            let mut state = self.state.lock().map_err(|_| {
                StoreError::Unavailable("a command failed in the middle; restart the gateway".into())
            })?;
            // Read under the lock, so that commands see time in their own order.
            let now = self.clock.now();
            let result = command(&mut state, now, &mut after);
            let aliases = state.aliases.len();
            if aliases != self.aliases.load(Ordering::Relaxed) {
                self.aliases.store(aliases, Ordering::Release);
            }
            result
        };
        for (attempt, end) in after.ends.drain(..) {
            attempt.end(Some(end));
        }
        Ok((result, after))
    }

    /// The keeper's thread: lets time pass for records until the store closes.
    fn keep_house(&self) {
        let mut closing = self.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while !*closing {
            drop(closing);
            while let Ok((changed, _)) =
                self.run(|state, now, after| state.tick(now, TICK_RECORDS_MAX, after))
                && changed == TICK_RECORDS_MAX
            {}
            closing = self.closing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if !*closing {
                closing =
                    self.close.wait_timeout(closing, TICK).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
        }
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
