//! Lanes in this process: who waits where, and whom to wake. What a command means is `domain::lane`; nothing here decides.
//!
//! Places are in memory only, because whoever held them is gone after a restart. A turn in which something was sent is in
//! the log beside its record: the backend may still be at it, so the lane stays closed until that turn is over.

use super::journal::{Journal, RoomFor};
use super::state::{After, State, token_of};
use super::waiters::Signal;
use super::*;
use crate::domain::lane::{Command, Ends, Lane, LaneId, Outcome};
use crate::domain::ledger::{self, Owner};
use crate::store::lanes::{GivenUp, JoinLane, Joined, LANE_KEY_MAX, LaneAbout, LaneFigures, LaneView};
use std::collections::{BTreeSet, HashMap};

/// Lanes that are open at one time; one more counts as full.
const LANES_MAX: usize = 100_000;

/// Lanes that one listing gives.
const LISTING_MAX: usize = 1_000;

/// A place in a queue. Dropping it gives nothing up: the attempt says so, or its lease ends.
pub struct LanePlace {
    turn: Arc<Signal<()>>,
}

/// Every open lane, and when time changes it.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneId, Entry>,
    alarms: BTreeSet<(Millis, LaneId)>,
}

struct Entry {
    lane: Lane,
    about: LaneAbout,
    turns: HashMap<Token, Arc<Signal<()>>>,
    alarm: Option<Millis>,
    /// The record of the turn in which something was sent, as the log says it.
    sent: Option<SentTurn>,
}

/// A turn in which something was sent, as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentTurn {
    pub(super) id: RecordId,
    pub(super) token: Token,
    pub(super) until: Millis,
    /// No segment before this one says so.
    home: u32,
}

// === impl LanePlace ===

impl LanePlace {
    /// A place whose turn this signal tells of.
    pub(in crate::store) fn new(turn: Arc<Signal<()>>) -> LanePlace {
        LanePlace { turn }
    }

    /// Waits until the turn has come. May be dropped and asked again.
    pub async fn turn(&self) {
        self.turn.wait().await;
    }
}

impl std::fmt::Debug for LanePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LanePlace")
    }
}

// === impl Lanes ===

impl Lanes {
    /// Carries out one command on the lane `id`, and has whoever got the turn by it woken.
    fn apply(&mut self, id: LaneId, command: Command, now: Millis, after: &mut After) -> Outcome {
        let Some(entry) = self.lanes.get_mut(&id) else { return Outcome::Refused };
        let step = entry.lane.apply(command, now);
        if let Some(turn) = step.next.and_then(|next| entry.turns.remove(&next)) {
            after.turns.push(turn);
        }
        let holder = entry.lane.turn.map(|turn| turn.token);
        if entry.sent.is_some_and(|sent| Some(sent.token) != holder) {
            entry.sent = None;
        }
        // Of places that lapsed nobody says anything.
        if entry.turns.len() > 2 * entry.lane.waiting.len() + 8 {
            let waiting = &entry.lane.waiting;
            entry.turns.retain(|token, _| waiting.iter().any(|place| place.token == *token));
        }
        let alarm = entry.lane.next_deadline();
        if alarm != entry.alarm {
            if let Some(before) = std::mem::replace(&mut entry.alarm, alarm) {
                self.alarms.remove(&(before, id));
            }
            self.alarms.extend(alarm.map(|at| (at, id)));
        }
        if entry.lane.is_empty() {
            self.lanes.remove(&id);
        }
        step.outcome
    }

    fn join(&mut self, request: JoinLane, now: Millis, after: &mut After) -> Joined {
        let JoinLane { lane, join, mut about } = request;
        if !self.lanes.contains_key(&lane) {
            if self.lanes.len() >= LANES_MAX {
                return Joined::Full { last_wait: Duration::from_secs(1) };
            }
            about.key = about.key[..about.key.floor_char_boundary(LANE_KEY_MAX)].into();
            self.lanes.insert(lane, Entry::new(about));
        }
        match self.apply(lane, Command::Join(join), now, after) {
            Outcome::Yours => Joined::Yours,
            Outcome::Waiting { ahead } => {
                let turns = self.lanes.get_mut(&lane).map(|entry| &mut entry.turns);
                let turn =
                    turns.map(|turns| turns.entry(join.token).or_insert_with(|| Arc::new(Signal::new())));
                let turn = turn.map_or_else(|| Arc::new(Signal::new()), |turn| Arc::clone(turn));
                Joined::Waiting { place: LanePlace { turn }, ahead }
            }
            Outcome::Full { last_wait } => Joined::Full { last_wait },
            Outcome::Applied | Outcome::Refused => Joined::Full { last_wait: Duration::ZERO },
        }
    }

    /// Whether `token` has the turn in the lane `id` and may send.
    fn may_send(&mut self, id: LaneId, token: Token, now: Millis, after: &mut After) -> bool {
        self.apply(id, Command::Settle, now, after);
        let turn = self.lanes.get(&id).and_then(|entry| entry.lane.turn);
        turn.is_some_and(|turn| turn.token == token)
    }

    fn leave(&mut self, id: LaneId, token: Token, now: Millis, after: &mut After) -> Outcome {
        if let Some(entry) = self.lanes.get_mut(&id) {
            entry.turns.remove(&token);
        }
        self.apply(id, Command::Leave { token }, now, after)
    }

    /// Lets time pass for at most `limit` lanes; says how many it looked at.
    pub(super) fn expire(&mut self, now: Millis, limit: usize, after: &mut After) -> usize {
        let mut looked_at = 0;
        while looked_at < limit
            && let Some(&(at, id)) = self.alarms.first()
            && at <= now
        {
            self.apply(id, Command::Settle, now, after);
            looked_at += 1;
        }
        looked_at
    }

    /// A turn that an earlier life of this store sent in: nobody lives who could give it on.
    fn reopen(&mut self, id: LaneId, sent: SentTurn, about: LaneAbout) {
        let entry = self.lanes.entry(id).or_insert_with(|| Entry::new(about));
        let (token, owner) = (sent.token, Owner(0));
        let since = Millis(0);
        entry.lane.turn = Some(crate::domain::lane::Turn { token, owner, since, ends: Ends::At(sent.until) });
        entry.sent = Some(sent);
        if let Some(before) = entry.alarm.replace(sent.until) {
            self.alarms.remove(&(before, id));
        }
        self.alarms.insert((sent.until, id));
    }

    /// The turns that the log may say only in `segment` or before; from now on it says them in `home`.
    fn carry(&mut self, segment: u32, home: u32) -> Vec<(LaneId, SentTurn, LaneAbout)> {
        let mut carried = Vec::new();
        for (id, entry) in &mut self.lanes {
            if let Some(sent) = entry.sent.as_mut().filter(|sent| sent.home <= segment) {
                sent.home = home;
                carried.push((*id, *sent, entry.about.clone()));
            }
        }
        carried
    }

    fn figures(&self) -> LaneFigures {
        let waiting = self.lanes.values().map(|entry| entry.lane.waiting.len() as u64);
        let (sum, longest) = waiting.fold((0, 0), |(sum, longest), one| (sum + one, one.max(longest)));
        LaneFigures { lanes: self.lanes.len() as u64, waiting: sum, longest }
    }

    fn views(&self, limit: usize) -> Vec<LaneView> {
        let mut views: Vec<LaneView> = self.lanes.iter().map(|(id, entry)| entry.view(id)).collect();
        views.sort_by(|a, b| b.waiting.cmp(&a.waiting).then_with(|| a.id.cmp(&b.id)));
        views.truncate(limit.clamp(1, LISTING_MAX));
        views
    }
}

// === impl Entry ===

impl Entry {
    fn new(about: LaneAbout) -> Entry {
        Entry { lane: Lane::default(), about, turns: HashMap::new(), alarm: None, sent: None }
    }

    fn view(&self, id: &LaneId) -> LaneView {
        let turn = self.lane.turn.as_ref();
        LaneView {
            id: id.to_string(),
            about: self.about.clone(),
            waiting: u32::try_from(self.lane.waiting.len()).unwrap_or(u32::MAX),
            oldest: self.lane.waiting.front().map(|place| place.joined_at),
            turn_since: turn.map(|turn| turn.since),
            turn_until: turn.and_then(|turn| match turn.ends {
                Ends::At(until) => Some(until),
                Ends::WithLease(_) => None,
            }),
        }
    }
}

// === impl State: lanes ===

impl State {
    fn renew_in_lane(
        &mut self,
        (id, token): (RecordId, Token),
        lane: LaneId,
        lease: Duration,
        now: Millis,
        after: &mut After,
    ) -> Held {
        let place = self.lanes.apply(lane, Command::Renew { token, lease }, now, after);
        let claim = self.renew(id, token, lease, now, after);
        if place == Outcome::Applied { claim } else { Held::No }
    }

    /// See [`Store::send_in_turn`]. The turn is looked at first: where it is lost, the record is not touched.
    fn send_in_turn(
        &mut self,
        (id, token): (RecordId, Token),
        lane: LaneId,
        hold: Duration,
        now: Millis,
        after: &mut After,
    ) -> Result<Held, StoreError> {
        if !self.lanes.may_send(lane, token, now, after) {
            return Ok(Held::No);
        }
        // A first attempt's room was set aside by its claim. A further one finds some, or is none.
        let further = self.lanes.lanes.get(&lane).is_some_and(|entry| entry.sent.is_some());
        if further && self.journal.as_ref().is_some_and(|journal| journal.room_for_note() == RoomFor::NotNow)
        {
            return Err(StoreError::Full("its disk has no room for another attempt".into()));
        }
        if self.command(id, ledger::Command::MarkSent { token }, None, now, after) == Held::No {
            after.commit = self.commit(false);
            return Ok(Held::No);
        }
        self.lanes.apply(lane, Command::Send { token, hold }, now, after);
        if let Some(entry) = self.lanes.lanes.get_mut(&lane) {
            let home = self.journal.as_ref().map_or(0, Journal::tail);
            let sent = SentTurn { id, token, until: now.after(hold), home };
            entry.sent = Some(sent);
            if let Some(journal) = &mut self.journal {
                journal.turned(lane, &sent, &entry.about);
            }
        }
        after.commit = self.commit(false);
        Ok(Held::Yes)
    }

    /// See [`Store::give_up_unless_awaited`].
    fn give_up_unless_awaited(
        &mut self,
        id: RecordId,
        token: Token,
        lane: LaneId,
        now: Millis,
        after: &mut After,
    ) -> GivenUp {
        let holds = self.index.get(&id).filter(|entry| token_of(&entry.record) == Some(token));
        let Some(entry) = holds else { return GivenUp::Gone };
        if entry.attempt.as_ref().is_some_and(|attempt| attempt.has_waiters()) {
            return GivenUp::Awaited;
        }
        self.lanes.leave(lane, token, now, after);
        match self.abandon(id, token, None, now, after) {
            Held::Yes => GivenUp::Yes,
            Held::No => GivenUp::Gone,
        }
    }

    /// The outcome of the record `id` was settled from outside: its lane need not wait for it any longer.
    pub(super) fn free_lane_of(&mut self, id: RecordId, held: Held, now: Millis, after: &mut After) {
        let of_record = |entry: &Entry| entry.sent.filter(|sent| sent.id == id).map(|sent| sent.token);
        let found = self.lanes.lanes.iter().find_map(|(lane, entry)| Some((*lane, of_record(entry)?)));
        if let (Held::Yes, Some((lane, token))) = (held, found) {
            self.lanes.leave(lane, token, now, after);
        }
    }

    /// The log tells of a turn in which something was sent. Whether it still counts, its record says in the end.
    pub(super) fn replay_turn(&mut self, lane: LaneId, sent: SentTurn, about: LaneAbout) {
        self.lanes.reopen(lane, sent, about);
    }

    /// Everything was read: turns of attempts that are over are over.
    pub(super) fn close_turns(&mut self, now: Millis, after: &mut After) {
        let over: Vec<(LaneId, Token)> = self
            .lanes
            .lanes
            .iter()
            .filter_map(|(lane, entry)| Some((*lane, entry.sent?)))
            .filter(|(_, sent)| {
                let entry = self.index.get(&sent.id);
                let open = entry
                    .filter(|entry| matches!(entry.record.phase, Phase::Sent { .. } | Phase::InDoubt { .. }));
                open.is_none_or(|entry| token_of(&entry.record) != Some(sent.token))
            })
            .map(|(lane, sent)| (lane, sent.token))
            .collect();
        for (lane, token) in over {
            self.lanes.leave(lane, token, now, after);
        }
    }

    /// Tells again of the turns that only `segment` or older ones tell of.
    pub(super) fn carry_turns(&mut self, segment: u32) {
        let Some(journal) = &mut self.journal else { return };
        for (lane, sent, about) in self.lanes.carry(segment, journal.tail()) {
            journal.turned(lane, &sent, &about);
            if journal.is_too_large() {
                journal.commit(&mut self.index, true);
            }
        }
    }
}

// === impl SentTurn ===

impl SentTurn {
    /// As the log tells it, in the segment `home`.
    pub(super) fn new(id: RecordId, token: Token, until: Millis, home: u32) -> SentTurn {
        SentTurn { id, token, until, home }
    }
}

// === impl Embedded: lanes ===

impl Embedded {
    /// See [`Store::join_lane`].
    pub(in crate::store) fn join_lane(&self, join: JoinLane) -> Result<Joined, StoreError> {
        self.run(|state, now, after| state.lanes.join(join, now, after)).map(|(joined, _)| joined)
    }

    /// See [`Store::renew_in_lane`].
    pub(in crate::store) fn renew_in_lane(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
        lease: Duration,
    ) -> Result<Held, StoreError> {
        self.run(|state, now, after| state.renew_in_lane((id, token), lane, lease, now, after))
            .map(|(held, _)| held)
    }

    /// See [`Store::send_in_turn`].
    pub(in crate::store) async fn send_in_turn(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
        hold: Duration,
    ) -> Result<Held, StoreError> {
        let (held, after) =
            self.run(|state, now, after| state.send_in_turn((id, token), lane, hold, now, after))?;
        self.durable(after.commit).await?;
        held
    }

    /// See [`Store::leave_lane`].
    pub(in crate::store) fn leave_lane(&self, lane: LaneId, token: Token) -> Result<Held, StoreError> {
        let (outcome, _) = self.run(|state, now, after| state.lanes.leave(lane, token, now, after))?;
        Ok(if outcome == Outcome::Applied { Held::Yes } else { Held::No })
    }

    /// See [`Store::give_up_unless_awaited`].
    pub(in crate::store) async fn give_up_unless_awaited(
        &self,
        id: RecordId,
        token: Token,
        lane: LaneId,
    ) -> Result<GivenUp, StoreError> {
        let (given_up, after) =
            self.run(|state, now, after| state.give_up_unless_awaited(id, token, lane, now, after))?;
        self.durable(after.commit).await?;
        Ok(given_up)
    }

    /// See [`Store::lanes`].
    pub(in crate::store) fn lanes(&self, limit: usize) -> Vec<LaneView> {
        self.shared.lock().lanes.views(limit)
    }

    /// See [`Store::lane_figures`].
    pub(in crate::store) fn lane_figures(&self) -> LaneFigures {
        self.shared.lock().lanes.figures()
    }
}
