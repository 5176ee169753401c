//! An attempt's turn in its lane: waited for without polling, marked where it begins, given on where it ends.
//!
//! Every way the wait can end: the turn comes; too many wait already; it takes too long; the client leaves and no copy waits
//! for the same; the claim or the place is lost. In all but the first nothing was sent, so the record is absent again.

use super::{Attempt, Outcome};
use crate::domain::event::Decision;
use crate::domain::lane::Join;
use crate::domain::refusal::{Reason, Refusal};
use crate::gateway::clock;
use crate::gateway::exchange::Exchange;
use crate::gateway::forward::STORE_PATIENCE;
use crate::gateway::guard;
use crate::gateway::lane::InLane;
use crate::gateway::respond;
use crate::gateway::upstream::Permit;
use crate::store::{GivenUp, Held, JoinLane, Joined, LanePlace, StoreError};
use http::HeaderMap;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Why there is no turn.
enum NoTurn {
    /// What everybody who waits is told.
    Refused(Refusal),
    /// The client has left, and nobody waits.
    Nobody,
    /// The claim or the place ended: this gateway did not come to renew it.
    Lost,
    /// The store is away.
    Away(StoreError),
}

/// The longest that a client is told to stay away because of a lane.
const COME_BACK_MOST: Duration = Duration::from_secs(60);
/// The shortest.
const COME_BACK_LEAST: Duration = Duration::from_secs(1);

// === impl Attempt: its turn ===

impl Attempt {
    /// Waits for the turn and marks it: the next thing to happen is the first byte. `Err`: what the client is told.
    pub(super) async fn take_turn(
        &self,
        lane: &InLane,
        headers: &HeaderMap,
        tell: &mut oneshot::Sender<Outcome>,
    ) -> Result<Permit, Outcome> {
        let joined = clock::now();
        let why = match self.turn(lane, headers, tell, joined).await {
            Ok(permit) => {
                let waited = clock::now().saturating_duration_since(joined);
                self.exchange.shared().journal.turn(self.exchange.route, waited);
                return Ok(permit);
            }
            Err(why) => why,
        };
        self.leave_lane().await;
        Err(match why {
            NoTurn::Refused(refusal) => self.turned_away(&refusal).await,
            NoTurn::Away(error) => {
                self.abandon(None).await;
                let refusal = guard::store_away(&error);
                self.refused(&refusal, Decision::Refused(refusal.reason))
            }
            NoTurn::Lost => self.not_sent("the claim ended before its turn came").await,
            // Given up already; there is nobody to read it.
            NoTurn::Nobody => self.refused(&slow(Duration::ZERO), Decision::ClientLeft),
        })
    }

    async fn turn(
        &self,
        lane: &InLane,
        headers: &HeaderMap,
        tell: &mut oneshot::Sender<Outcome>,
        joined: Instant,
    ) -> Result<Permit, NoTurn> {
        let shared = self.exchange.shared();
        let lease = shared.policy.config().store.lease;
        let rules = self.exchange.guard().and_then(|guard| guard.lane.as_ref());
        let (queue_max, wait) = rules.map_or((0, Duration::ZERO), |rules| (rules.queue, rules.wait));
        let join = Join { token: self.token, owner: shared.store.owner(), lease, queue_max };
        let request = JoinLane { lane: lane.id, join, about: lane.about.clone() };
        match self.in_time(shared.store.join_lane(request)).await.map_err(NoTurn::Away)? {
            Joined::Yours => {}
            Joined::Waiting { place, .. } => self.wait_for_turn(lane, &place, tell, joined + wait).await?,
            Joined::Full { last_wait } => return Err(NoTurn::Refused(full(queue_max, last_wait))),
        }
        if tell.is_closed() {
            self.go_on_for_copies(lane).await?;
        }
        // Waiters hold no place at the backend; whoever has the turn needs one.
        let permit = self.place_at_the_backend(lane, headers).await?;
        match self.mark_turn().await {
            Ok(Held::Yes) => Ok(permit),
            Ok(Held::No) => Err(NoTurn::Lost),
            Err(error) => Err(NoTurn::Away(error)),
        }
    }

    /// Waits until the turn comes, renewing claim and place.
    async fn wait_for_turn(
        &self,
        lane: &InLane,
        place: &LanePlace,
        tell: &mut oneshot::Sender<Outcome>,
        until: Instant,
    ) -> Result<(), NoTurn> {
        let lease = self.exchange.shared().policy.config().store.lease;
        let deadlines = &self.exchange.worker.deadlines;
        let mut alone = false;
        loop {
            let turn = async {
                tokio::select! {
                    biased;
                    () = place.turn() => true,
                    () = closed(tell, alone) => false,
                }
            };
            let came = deadlines.within(until.min(self.lease.renew_at()), pin!(turn)).await;
            match came {
                Some(true) => return Ok(()),
                Some(false) => {
                    self.go_on_for_copies(lane).await?;
                    alone = true;
                }
                None if clock::now() >= until => {
                    let waited = self.exchange.guard().and_then(|guard| guard.lane.as_ref());
                    let waited = waited.map_or(Duration::ZERO, |rules| rules.wait);
                    return Err(NoTurn::Refused(slow(waited)));
                }
                None => self.renew_place(lane, lease).await?,
            }
        }
    }

    /// Waits in the upstream's queue where it has one, renewing claim and place meanwhile.
    async fn place_at_the_backend(&self, lane: &InLane, headers: &HeaderMap) -> Result<Permit, NoTurn> {
        let lease = self.exchange.shared().policy.config().store.lease;
        let mut admitted = pin!(self.exchange.admit_in_turn(headers));
        loop {
            let within = self.exchange.worker.deadlines.within(self.lease.renew_at(), admitted.as_mut());
            match within.await {
                Some(admitted) => return admitted.map_err(NoTurn::Refused),
                None => self.renew_place(lane, lease).await?,
            }
        }
    }

    async fn renew_place(&self, lane: &InLane, lease: Duration) -> Result<(), NoTurn> {
        let now = clock::now();
        let store = &self.exchange.shared().store;
        match self.in_time(store.renew_in_lane(self.intent.id, self.token, lane.id, lease)).await {
            Ok(Held::Yes) => {
                self.lease.renewed(now);
                Ok(())
            }
            Ok(Held::No) => Err(NoTurn::Lost),
            // It may be back before the lease ends; until then it is asked again, not at once.
            Err(_) if now + lease / 6 < self.lease.until() => {
                tokio::time::sleep(lease / 12).await;
                Ok(())
            }
            Err(error) => Err(NoTurn::Away(error)),
        }
    }

    /// The client has left. A copy that waits for the same inherits claim and place, and this attempt goes on for it;
    /// without one, both are given up.
    async fn go_on_for_copies(&self, lane: &InLane) -> Result<(), NoTurn> {
        let store = &self.exchange.shared().store;
        match self.in_time(store.give_up_unless_awaited(self.intent.id, self.token, lane.id)).await {
            Ok(GivenUp::Awaited) => Ok(()),
            Ok(GivenUp::Yes | GivenUp::Gone) => Err(NoTurn::Nobody),
            Err(error) => Err(NoTurn::Away(error)),
        }
    }

    /// Marks the record and the turn sent. From here the first byte has to leave within `pause`: then a backend that ends
    /// within the timeout has ended before the turn goes on by itself.
    pub(super) async fn mark_turn(&self) -> Result<Held, StoreError> {
        let pause = self.exchange.guard().map_or(Duration::ZERO, |guard| guard.pause);
        let now = clock::now();
        let held = self.hold_turn(self.exchange.rules().timeout + pause).await?;
        self.send_by.set(self.lane.as_ref().map(|_| now + pause));
        Ok(held)
    }

    /// The turn lasts for `hold` from now at least: what was sent in it is not over.
    pub(super) async fn hold_turn(&self, hold: Duration) -> Result<Held, StoreError> {
        let Some(lane) = &self.lane else { return Ok(Held::Yes) };
        let store = &self.exchange.shared().store;
        self.in_time(store.send_in_turn(self.intent.id, self.token, lane.id, hold)).await
    }

    /// The attempt is over: the next one's turn begins.
    pub(super) async fn leave_lane(&self) {
        let Some(lane) = &self.lane else { return };
        let store = &self.exchange.shared().store;
        if let Err(error) = self.in_time(store.leave_lane(lane.id, self.token)).await {
            tracing::warn!(request_id = ?self.exchange.request_id, %error, "a turn in a lane could not be given on; it ends by itself");
        }
    }

    /// Nothing was sent; copies that wait are told the same.
    async fn turned_away(&self, refusal: &Refusal) -> Outcome {
        let policy = Some(&*self.exchange.rules().name);
        let answer = respond::refusal_answer(refusal, policy, &self.exchange.request_id);
        self.abandon(Some(answer)).await;
        self.refused(refusal, Decision::Refused(refusal.reason))
    }

    /// A store's command with the usual patience.
    async fn in_time<T>(
        &self,
        command: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let within =
            self.exchange.worker.deadlines.within(clock::now() + STORE_PATIENCE, pin!(command)).await;
        within.unwrap_or_else(|| {
            Err(StoreError::Unavailable(format!("it does not answer within {STORE_PATIENCE:?}")))
        })
    }
}

/// Resolves when the client has left; never where that is known already.
async fn closed(tell: &mut oneshot::Sender<Outcome>, known: bool) {
    if known { pending().await } else { tell.closed().await }
}

fn full(queue: u32, last_wait: Duration) -> Refusal {
    let detail = format!(
        "{queue} writes wait for the same thing already, as many as may; nothing was sent to the backend."
    );
    let come_back = last_wait.clamp(COME_BACK_LEAST, COME_BACK_MOST);
    Refusal::new(Reason::LaneFull, detail).retry_after(come_back)
}

fn slow(waited: Duration) -> Refusal {
    let detail = format!(
        "Writes for the same thing run one at a time; this one's turn did not come within {waited:?}, and nothing was sent \
         to the backend."
    );
    Refusal::new(Reason::LaneSlow, detail).retry_after(waited.clamp(COME_BACK_LEAST, COME_BACK_MOST))
}

impl Exchange {
    /// How many writes of this route may wait for one thing.
    pub fn has_lane(&self) -> bool {
        self.guard().is_some_and(|guard| guard.lane.is_some())
    }
}
