//! Lanes of a fleet: the same scripts as for records, and for whoever waits the same subscription, with a look at the
//! lane itself where a message was lost or a turn ends by time alone.

use super::reply::{self, Reply};
use super::script::{Call, Script};
use super::{Inner, views};
use crate::domain::hex;
use crate::domain::lane::LaneId;
use crate::domain::ledger::{RecordId, Token};
use crate::domain::time::Millis;
use crate::store::lanes::{
    GivenUp, JoinLane, Joined, LANE_KEY_MAX, LaneAbout, LaneFigures, LanePlace, LaneView,
};
use crate::store::waiters::Signal;
use crate::store::{Held, StoreError};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An attempt's place: its lane and its token.
pub(super) type PlaceId = (LaneId, Token);

/// Turns that were told before anybody here waited for them.
const RECENT_MOST: usize = 1_024;

/// How often a place is looked at where no message comes (milliseconds).
const LOOK: u64 = 1_000;

/// Lanes that one listing gives.
const LISTING_MAX: usize = 1_000;

/// Who waits for a turn here.
#[derive(Default)]
pub(super) struct Places {
    inner: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    places: HashMap<PlaceId, Waited>,
    recent: VecDeque<PlaceId>,
}

struct Waited {
    turn: Arc<Signal<()>>,
    look_at: u64,
}

// === impl Places ===

impl Places {
    /// A place in a queue whose present turn ends in `left` milliseconds.
    fn wait(&self, place: PlaceId, left: u64, now: u64) -> LanePlace {
        let mut inner = self.lock();
        let told = inner.recent.contains(&place);
        let look_at = now.saturating_add(LOOK.min(left));
        let waited =
            inner.places.entry(place).or_insert_with(|| Waited { turn: Arc::new(Signal::new()), look_at });
        waited.look_at = waited.look_at.min(look_at);
        let turn = waited.turn.clone();
        if told {
            // A message may overtake the reply that it belongs to.
            inner.places.remove(&place);
            drop(inner);
            turn.give(());
        }
        LanePlace::new(turn)
    }

    /// The turn of `place` has come.
    pub(super) fn comes(&self, place: PlaceId) {
        let waited = {
            let mut inner = self.lock();
            if inner.recent.len() >= RECENT_MOST {
                inner.recent.pop_front();
            }
            inner.recent.push_back(place);
            inner.places.remove(&place)
        };
        if let Some(waited) = waited {
            waited.turn.give(());
        }
    }

    /// Nobody waits there any more.
    fn leave(&self, place: PlaceId) {
        self.lock().places.remove(&place);
    }

    /// Places to look at now. Those that nobody waits in any more are forgotten.
    fn due(&self, now: u64, most: usize) -> Vec<PlaceId> {
        let mut inner = self.lock();
        inner.places.retain(|_, waited| Arc::strong_count(&waited.turn) > 1);
        let due = inner.places.iter_mut().filter(|(_, waited)| waited.look_at <= now).take(most);
        due.map(|(place, waited)| {
            waited.look_at = now + LOOK;
            *place
        })
        .collect()
    }

    fn still(&self, place: PlaceId, left: u64, now: u64) {
        if let Some(waited) = self.lock().places.get_mut(&place) {
            waited.look_at = waited.look_at.min(now.saturating_add(left.max(1)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner: lanes ===

impl Inner {
    /// See [`Store::join_lane`](crate::store::Store::join_lane).
    pub(in crate::store) async fn join_lane(&self, request: JoinLane) -> Result<Joined, StoreError> {
        let JoinLane { lane, join, about } = request;
        let key = &about.key[..about.key.floor_char_boundary(LANE_KEY_MAX)];
        let call = self
            .in_lane(Script::LaneJoin, &lane, None)
            .arg(&join.token.0.to_be_bytes())
            .arg(&hex::digits(join.owner.0)[..])
            .millis(join.lease)
            .arg(join.queue_max)
            .arg(&*about.name)
            .arg(key)
            .under_agreement();
        let mut told = self.known(Reply::array(self.run(call).await?)?)?;
        let remember = || self.recall.turns.joined((lane, join.token), &about, self.clock.now());
        Ok(match &told.bytes()?[..] {
            b"yours" => {
                remember();
                Joined::Yours
            }
            b"waiting" => {
                remember();
                let ahead = u32::try_from(told.number()?).unwrap_or(u32::MAX);
                let left = told.number()?;
                let place = self.places.wait((lane, join.token), left, self.clock.elapsed());
                Joined::Waiting { place, ahead }
            }
            _ => Joined::Full { last_wait: Duration::from_millis(told.number()?) },
        })
    }

    /// See [`Store::renew_in_lane`](crate::store::Store::renew_in_lane).
    pub(in crate::store) async fn renew_in_lane(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
        lease: Duration,
    ) -> Result<Held, StoreError> {
        let call = self.in_lane(Script::LaneRenew, &lane, Some(&id));
        super::commands::held(&self.run(call.arg(&token.0.to_be_bytes()).millis(lease)).await?)
    }

    /// See [`Store::send_in_turn`](crate::store::Store::send_in_turn).
    pub(in crate::store) async fn send_in_turn(
        self: &Arc<Inner>,
        id: RecordId,
        token: Token,
        lane: LaneId,
        hold: Duration,
    ) -> Result<Held, StoreError> {
        let call = self.in_lane(Script::LaneSend, &lane, Some(&id));
        let call = call.arg(&token.0.to_be_bytes()).millis(hold).under_agreement();
        let held = self.held_if_known(&self.run(call).await?)?;
        if held == Held::Yes {
            let now = self.clock.now();
            self.recall.turns.sent((lane, token), id, now, now.after(hold));
            self.replicated(id, token).await?;
        }
        Ok(held)
    }

    /// See [`Store::leave_lane`](crate::store::Store::leave_lane).
    pub(in crate::store) async fn leave_lane(&self, lane: LaneId, token: Token) -> Result<Held, StoreError> {
        self.places.leave((lane, token));
        self.recall.turns.left((lane, token));
        let call = self.in_lane(Script::LaneLeave, &lane, None).arg(&token.0.to_be_bytes());
        let mut told = Reply::array(self.run(call).await?)?;
        let held = told.number()? == 1;
        self.wake_next(lane, &mut told)?;
        Ok(if held { Held::Yes } else { Held::No })
    }

    /// See [`Store::give_up_unless_awaited`](crate::store::Store::give_up_unless_awaited).
    pub(in crate::store) async fn give_up_unless_awaited(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
    ) -> Result<GivenUp, StoreError> {
        let awaited = self.ends.has_waiters(&(id, token));
        let call = self.in_lane(Script::LaneGiveUp, &lane, Some(&id));
        let call = call.arg(&token.0.to_be_bytes()).arg(u8::from(awaited));
        let mut told = Reply::array(self.run(call).await?)?;
        let given_up = match &told.bytes()?[..] {
            b"yes" => GivenUp::Yes,
            b"awaited" => GivenUp::Awaited,
            _ => GivenUp::Gone,
        };
        if given_up == GivenUp::Yes {
            self.recall.not_executed(id, token);
            self.places.leave((lane, token));
            self.recall.turns.left((lane, token));
            self.ends.ended_here((id, token), crate::store::AttemptEnd::NotExecuted);
        }
        self.wake_next(lane, &mut told)?;
        Ok(given_up)
    }

    /// See [`Store::lanes`](crate::store::Store::lanes).
    pub(in crate::store) async fn lanes(&self, limit: usize) -> Result<Vec<LaneView>, StoreError> {
        self.list_lanes(limit.clamp(1, LISTING_MAX)).await.map(|(_, views)| views)
    }

    /// See [`Store::lane_figures`](crate::store::Store::lane_figures).
    pub(in crate::store) async fn lane_figures(&self) -> LaneFigures {
        let asked = tokio::time::timeout(views::FIGURES_PATIENCE, self.list_lanes(0)).await;
        asked.ok().and_then(Result::ok).map(|(figures, _)| figures).unwrap_or_default()
    }

    async fn list_lanes(&self, limit: usize) -> Result<(LaneFigures, Vec<LaneView>), StoreError> {
        let call = self.in_lane(Script::LaneList, &LaneId([0; 16]), None).arg(limit);
        let mut told = Reply::array(self.run(call).await?)?;
        let figures = LaneFigures { lanes: told.number()?, waiting: told.number()?, longest: told.number()? };
        let views = told.map(|view| read_view(Reply::array(view)?)).collect::<Result<_, _>>()?;
        Ok((figures, views))
    }

    /// Whoever got the turn by a command of this gateway and waits here hears of it without a detour.
    fn wake_next(&self, lane: LaneId, told: &mut Reply) -> Result<(), StoreError> {
        if let Ok(token) = <[u8; 16]>::try_from(&told.bytes()?[..]) {
            self.places.comes((lane, Token(u128::from_be_bytes(token))));
        }
        Ok(())
    }

    /// A message: whose turn it is.
    pub(super) fn heard_turn(&self, rest: &[u8]) {
        let Some((lane, token)) = rest.split_first_chunk::<16>() else { return };
        if let Ok(token) = <[u8; 16]>::try_from(token) {
            self.places.comes((LaneId(*lane), Token(u128::from_be_bytes(token))));
        }
    }

    /// The safety net: looks at lanes whose turn ends by time, or about which no message came.
    pub(super) async fn watch_lanes(&self, most: usize) {
        let now = self.clock.elapsed();
        let looks = self.places.due(now, most).into_iter().map(async |place| {
            let call = self.in_lane(Script::LaneLook, &place.0, None).arg(&place.1.0.to_be_bytes());
            let Ok(Ok(mut told)) = self.run(call).await.map(Reply::array) else { return };
            match (told.bytes().as_deref(), told.number()) {
                (Ok(b"yours"), _) => self.places.comes(place),
                (Ok(b"waiting"), Ok(left)) => self.places.still(place, left, self.clock.elapsed()),
                // It lapsed; the attempt learns that from its own commands.
                _ => {}
            }
        });
        futures_util::future::join_all(looks).await;
    }

    pub(super) fn in_lane(&self, script: Script, lane: &LaneId, id: Option<&RecordId>) -> Call {
        Call::in_lane(&self.wire.parts, script, lane, id, self.wire.place.timeout)
    }
}

fn read_view(mut fields: Reply) -> Result<LaneView, StoreError> {
    let id = LaneId(fields.exactly()?).to_string();
    let about = LaneAbout { name: fields.text()?.into(), key: fields.text()?.into() };
    let waiting = u32::try_from(fields.number()?).unwrap_or(u32::MAX);
    let mut instant = || -> Result<Option<Millis>, StoreError> {
        let at = fields.next().map_or(Ok(0), |value| reply::number(&value))?;
        Ok((at > 0).then_some(Millis(at)))
    };
    let (oldest, turn_since, turn_until) = (instant()?, instant()?, instant()?);
    Ok(LaneView { id, about, waiting, oldest, turn_since, turn_until })
}
