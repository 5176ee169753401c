//! The store's commands on lanes. What they mean is `domain::lane`; each is one atomic command, so that a fleet shares a
//! lane as the workers of one gateway do.
//!
//! A queued record and its place hold by the same lease, and [`Store::renew_in_lane`] renews both. The turn is given on as
//! soon as an attempt is over, before its answer is durable: what the lane orders is what the backend does.

use super::embedded::Embedded;
use super::{Held, Store, StoreError};
use crate::domain::lane::{Join, LaneId};
use crate::domain::ledger::{RecordId, Token};
use crate::domain::time::Millis;
use std::sync::Arc;
use std::time::Duration;

pub use super::embedded::LanePlace;

/// An attempt wants its turn in a lane.
#[derive(Clone, Debug)]
pub struct JoinLane {
    /// Which lane.
    pub lane: LaneId,
    /// What the lane decides on.
    pub join: Join,
    /// For the operator: what the lane is.
    pub about: LaneAbout,
}

/// What an operator sees of a lane.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LaneAbout {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What its selectors found, in short. At most `LANE_KEY_MAX` bytes are kept.
    pub key: Arc<str>,
}

/// See [`LaneAbout::key`].
pub const LANE_KEY_MAX: usize = 128;

/// What joining a lane got.
#[allow(missing_docs, reason = "the sentence over each variant names its fields")]
#[derive(Debug)]
pub enum Joined {
    /// The turn is yours.
    Yours,
    /// `ahead` come first; the place tells when the turn has come.
    Waiting { place: LanePlace, ahead: u32 },
    /// As many wait as may; whoever got the turn last had waited for `last_wait`.
    Full { last_wait: Duration },
}

/// Whether a claim that is queued was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The record is absent again, and the place is free.
    Yes,
    /// Copies wait for this attempt: they inherit claim and place, and it goes on for them.
    Awaited,
    /// The token no longer holds the record.
    Gone,
}

/// One lane as the operator sees it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct LaneView {
    /// 32 hex digits.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub about: LaneAbout,
    /// How many wait.
    pub waiting: u32,
    /// Since when the first of them waits.
    pub oldest: Option<Millis>,
    /// Since when the present turn lasts.
    pub turn_since: Option<Millis>,
    /// When it is over at the latest, where something was sent in it.
    pub turn_until: Option<Millis>,
}

/// Figures of all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneFigures {
    /// Lanes in which somebody has the turn.
    pub lanes: u64,
    /// Attempts that wait for their turn.
    pub waiting: u64,
    /// The longest queue.
    pub longest: u64,
}

// === impl Store: lanes ===

impl Store {
    /// Queues an attempt behind everybody who waits already. A waiter is registered in the same step, so no wake-up is
    /// lost.
    pub async fn join_lane(&self, join: JoinLane) -> Result<Joined, StoreError> {
        match self {
            Store::Embedded(store) => store.join_lane(join),
            Store::Redis(store) => Box::pin(store.inner.join_lane(join)).await,
        }
    }

    /// The attempt still waits, or still works: its record's lease and its place's end no earlier than `lease` from now.
    /// [`Held::No`] where either is lost.
    pub async fn renew_in_lane(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
        lease: Duration,
    ) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.renew_in_lane(id, token, lane, lease),
            Store::Redis(store) => Box::pin(store.inner.renew_in_lane(id, token, lane, lease)).await,
        }
    }

    /// The next thing to happen is the first byte to the backend, and for `hold` from now on nobody else gets the turn,
    /// whatever becomes of this gateway. Marks the record sent in the same step; durable before it returns. On
    /// [`Held::No`] (the turn or the claim is lost) not a byte may be written. Once more for each further attempt under the
    /// same claim.
    pub async fn send_in_turn(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
        hold: Duration,
    ) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.send_in_turn(id, token, lane, hold).await,
            Store::Redis(store) => Box::pin(store.inner.send_in_turn(id, token, lane, hold)).await,
        }
    }

    /// The attempt is over, or gives up its place: the next one's turn begins.
    pub async fn leave_lane(&self, lane: LaneId, token: Token) -> Result<Held, StoreError> {
        match self {
            Store::Embedded(store) => store.leave_lane(lane, token),
            Store::Redis(store) => Box::pin(store.inner.leave_lane(lane, token)).await,
        }
    }

    /// The client of a queued attempt has left. Where copies wait for it, claim and place go on for them; otherwise both
    /// are given up in one step.
    pub async fn give_up_unless_awaited(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
    ) -> Result<GivenUp, StoreError> {
        match self {
            Store::Embedded(store) => store.give_up_unless_awaited(id, token, lane).await,
            Store::Redis(store) => Box::pin(store.inner.give_up_unless_awaited(id, token, lane)).await,
        }
    }

    /// The lanes with the most that wait, at most `limit` of them.
    pub async fn lanes(&self, limit: usize) -> Result<Vec<LaneView>, StoreError> {
        match self {
            Store::Embedded(store) => Ok(store.lanes(limit)),
            Store::Redis(store) => Box::pin(store.inner.lanes(limit)).await,
        }
    }

    /// Figures for metrics.
    pub async fn lane_figures(&self) -> LaneFigures {
        match self {
            Store::Embedded(store) => Embedded::lane_figures(store),
            Store::Redis(store) => Box::pin(store.inner.lane_figures()).await,
        }
    }
}
