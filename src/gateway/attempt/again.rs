//! Once more: an answer by which the backend says that it met a conflict and did nothing. The record stays claimed, its lease
//! is renewed, and the lane is kept.

use super::{Answered, Attempt, Kept, Original};
use crate::domain::conflict::Spread;
use crate::domain::event::Event;
use crate::gateway::body::Outgoing;
use crate::gateway::clock;
use crate::gateway::guard::request_of;
use crate::gateway::upstream::Permit;
use crate::store::Held;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;

impl Attempt {
    /// Whether the backend says that it did nothing, and that the same may succeed soon.
    pub(super) fn is_conflict(&self, answered: &Answered) -> bool {
        let retry = self.exchange.guard().and_then(|guard| guard.retry.as_ref());
        retry.is_some_and(|retry| {
            let (Kept::Whole(body) | Kept::TooLarge(body, _)) = &answered.body;
            retry.signs.fit(answered.head.status, &answered.head.headers, body)
        })
    }

    /// Waits for the further attempt `index` (0 is the first) and gets everything ready for it. `None`: there is none, or
    /// it cannot be made; the answer stands.
    pub(super) async fn once_more(&self, answered: &Answered, index: usize) -> Option<(Permit, Outgoing)> {
        let retry = self.exchange.guard()?.retry.as_ref()?;
        let shared = self.exchange.shared();
        let spread = Spread::nth(shared.spread_start, shared.spreads.fetch_add(1, Relaxed));
        let wait = retry.backoff.wait(index, spread)?;
        let original = self.original.as_ref()?;
        // Until it is sent again; the place at the backend has to be waited for, too.
        let place = self.exchange.pool().upstream.config.queue_wait;
        let pause = self.exchange.guard()?.pause;
        if !matches!(self.hold_turn(wait + place + pause).await, Ok(Held::Yes)) {
            return None;
        }
        self.holding_the_lease(clock::now() + wait, pin!(pending::<()>())).await;
        // The place may be somebody else's by now; then this one waits for its turn at the backend, as it did before.
        let queued = clock::now() + place;
        let admitted = pin!(self.exchange.admit_in_turn(&original.parts.headers));
        let permit = self.holding_the_lease(queued, admitted).await?.ok()?;
        // The claim is looked at once more: where it ended meanwhile, not a byte may leave.
        let held = match &self.lane {
            Some(_) => self.mark_turn().await,
            None => shared.store.mark_sent(self.intent.id, self.token).await,
        };
        if !matches!(held, Ok(Held::Yes)) {
            return None;
        }
        shared.journal.retried(self.exchange.route);
        shared.journal.event(Event::Retry {
            route: self.exchange.rules().name.clone(),
            id: self.intent.id,
            request_id: self.exchange.request_id.to_str().unwrap_or_default().into(),
            attempt: u32::try_from(index + 1).unwrap_or(u32::MAX),
            status: answered.head.status.as_u16(),
            wait,
        });
        Some((permit, original.request()))
    }
}

// === impl Original ===

impl Original {
    /// The request as it came, to be sent again.
    pub(super) fn request(&self) -> Outgoing {
        request_of(self.parts.clone(), self.body.clone())
    }
}
