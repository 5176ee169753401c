//! The lease of a claim, renewed as long as its attempt goes on. Where it ends nobody works on the claim any more, and its
//! outcome is in doubt.

use super::clock;
use super::exchange::Exchange;
use crate::domain::ledger::{RecordId, Token};
use crate::store::Held;
use std::cell::Cell;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// See the module.
pub struct Lease {
    id: RecordId,
    token: Token,
    lasts: Duration,
    until: Cell<Instant>,
}

// === impl Lease ===

impl Lease {
    /// Of the claim of `id` that was asked for at `claimed` and granted since under `token`. It is counted from the earlier
    /// moment, because the store counted from some moment in between.
    pub fn new(exchange: &Exchange, id: RecordId, token: Token, claimed: Instant) -> Lease {
        let lasts = exchange.shared().policy.config().store.lease;
        Lease { id, token, lasts, until: Cell::new(claimed + lasts) }
    }

    /// Whose it is.
    pub fn token(&self) -> Token {
        self.token
    }

    /// When it ends.
    pub fn until(&self) -> Instant {
        self.until.get()
    }

    /// When it is to be renewed: there is time to try again.
    pub fn renew_at(&self) -> Instant {
        self.until.get() - self.lasts * 2 / 3
    }

    /// It was renewed by a command that was given at `now`.
    pub fn renewed(&self, now: Instant) {
        self.until.set(now + self.lasts);
    }

    /// Waits for `ended` until `deadline`, where there is one, renewing the lease meanwhile. `None`: time ran out.
    pub async fn hold<T>(
        &self,
        exchange: &Exchange,
        deadline: Option<Instant>,
        mut ended: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let (store, deadlines) = (&exchange.shared().store, &exchange.worker.deadlines);
        let mut renew_at = self.renew_at();
        loop {
            let next = deadline.map_or(renew_at, |deadline| deadline.min(renew_at));
            if let Some(ended) = deadlines.within(next, ended.as_mut()).await {
                return Some(ended);
            }
            let now = clock::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return None;
            }
            let renewed = tokio::select! {
                biased;
                ended = ended.as_mut() => return Some(ended),
                renewed = store.renew(self.id, self.token, self.lasts) => renewed,
            };
            match renewed {
                Ok(Held::Yes) => {
                    self.renewed(now);
                    renew_at = self.renew_at();
                }
                // It may be back before the lease ends, or be told again of the record; asked again, not at once.
                Err(_) => renew_at = clock::now() + self.lasts / 12,
                // Superseded: nothing new is sent, but an answer that comes still counts.
                Ok(Held::No) => {
                    return match deadline {
                        Some(deadline) => deadlines.within(deadline, ended).await,
                        None => Some(ended.await),
                    };
                }
            }
        }
    }
}
