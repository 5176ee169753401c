//! The turns in lanes that attempts of this gateway have, so that a store which has forgotten a lane gives the turn to nobody
//! else while what was sent in it may still be executed. Bounded by what is at work; what is over leaves them with later ones.

use super::Inner;
use super::lanes::PlaceId;
use super::reply;
use super::script::Script;
use crate::domain::hex;
use crate::domain::lane::LaneId;
use crate::domain::ledger::{RecordId, Token};
use crate::domain::time::Millis;
use crate::store::StoreError;
use crate::store::lanes::{LANE_KEY_MAX, LaneAbout};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Turns and places that are remembered at most: as many as lanes may be open.
const TURNS_MOST: usize = 100_000;

/// So many are there before it is looked for the first time what is over.
const LOOKED_FROM: usize = 1_024;

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    inner: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    turns: HashMap<PlaceId, Turn>,
    /// From so many on it is looked for what is over.
    look_from: usize,
}

/// A place in a lane, and the turn that came of it.
#[derive(Clone)]
pub(super) struct Turn {
    lane: LaneId,
    token: Token,
    about: LaneAbout,
    sent: Option<Sent>,
}

/// What was sent in a turn.
#[derive(Clone, Copy)]
struct Sent {
    id: RecordId,
    since: Millis,
    /// Until when nobody else has the turn.
    until: Millis,
}

// === impl Turns ===

impl Turns {
    /// An attempt has a place in a lane.
    pub(super) fn joined(&self, (lane, token): PlaceId, about: &LaneAbout, now: Millis) {
        let mut inner = self.lock();
        if inner.turns.len() >= inner.look_from.max(LOOKED_FROM) {
            inner.turns.retain(|_, turn| turn.sent.is_none_or(|sent| now < sent.until));
            inner.look_from = 2 * inner.turns.len();
        }
        if inner.turns.len() < TURNS_MOST {
            inner.turns.insert((lane, token), Turn { lane, token, about: about.clone(), sent: None });
        }
    }

    /// It is sent since `since`, and the turn its own until `until`.
    pub(super) fn sent(&self, place: PlaceId, id: RecordId, since: Millis, until: Millis) {
        if let Some(turn) = self.lock().turns.get_mut(&place) {
            // What is sent in it once more never shortens it.
            let until = turn.sent.map_or(until, |sent| sent.until.max(until));
            turn.sent = Some(Sent { id, since, until });
        }
    }

    /// It has the place no more.
    pub(super) fn left(&self, place: PlaceId) {
        self.lock().turns.remove(&place);
    }

    /// Turns in which something was sent, and which hold at `now`.
    pub(super) fn all(&self, now: Millis) -> Vec<Turn> {
        let inner = self.lock();
        let holds = |turn: &&Turn| turn.sent.is_some_and(|sent| now < sent.until);
        inner.turns.values().filter(holds).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner: turns ===

impl Inner {
    /// Says to a store that may have forgotten them whose the turns are, after their records were said.
    pub(super) async fn say_turns_again(&self, turns: &[Turn]) -> Result<(), StoreError> {
        let calls = turns.iter().filter_map(|turn| {
            let Turn { lane, token, about, sent } = turn;
            let Sent { id, since, until } = sent.as_ref()?;
            let call = self
                .in_lane(Script::LaneRestore, lane, Some(id))
                .arg(&token.0.to_be_bytes())
                .arg(&hex::digits(self.owner)[..])
                .arg(since.0)
                .arg(until.0)
                .arg(&*about.name)
                .arg(&about.key[..about.key.floor_char_boundary(LANE_KEY_MAX)]);
            Some(self.run(call))
        });
        for told in futures_util::future::join_all(calls).await {
            reply::number(&told?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u32) -> PlaceId {
        (LaneId([1; 16]), Token(u128::from(n)))
    }

    #[test]
    fn turns_are_said_while_they_hold_and_what_is_over_makes_room() {
        let (turns, about) = (Turns::default(), LaneAbout { name: "lane".into(), key: "".into() });
        let joined = |n: u32, now: u64| turns.joined(place(n), &about, Millis(now));
        (0..3).for_each(|n| joined(n, 1));
        (0..2).for_each(|n| turns.sent(place(n), RecordId([1; 32]), Millis(1), Millis(9)));
        turns.sent(place(1), RecordId([1; 32]), Millis(2), Millis(4));
        turns.left(place(0));
        assert_eq!(turns.all(Millis(8)).iter().map(|turn| turn.token.0).collect::<Vec<_>>(), [1]);
        assert!(turns.all(Millis(9)).is_empty());
        for n in 3..=LOOKED_FROM as u32 {
            joined(n, 2);
            turns.sent(place(n), RecordId([1; 32]), Millis(2), Millis(9));
        }
        joined(9_999, 10);
        assert_eq!(turns.lock().turns.len(), 2, "one that waits, and the new one");
        (10_000..10_000 + 2 * TURNS_MOST as u32).for_each(|n| joined(n, 10));
        assert_eq!(turns.lock().turns.len(), TURNS_MOST);
    }
}
