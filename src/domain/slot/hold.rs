//! One holder of one slot.

use super::{BookingId, Part, SlotId};
use crate::domain::client::ScopeId;
use crate::domain::ledger::{RecordId, Token};
use crate::domain::says::Says;
use crate::domain::time::Millis;
use std::sync::Arc;
use std::time::Duration;

/// One place of one slot, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The attempt that took it. Holds of one slot are told apart by it; an adopted one has a token of its own.
    pub token: Token,
    /// The record of that attempt; `None` where nobody took it through a gateway.
    pub record: Option<RecordId>,
    /// How firmly it is held.
    pub state: HoldState,
    /// Since when it is in this state.
    pub since: Millis,
    /// When it ends by itself; while reserved it does not.
    pub until: Millis,
    /// How long it is held from a success on.
    pub keep: Keep,
    /// Who may be told which booking it is: the scope of the caller who took it.
    pub witness: ScopeId,
    /// It takes no place: the booking is paused, and only what it would hold is remembered.
    pub asleep: bool,
    /// A change of a booking is under way that leaves its slot as it is. It takes no place and leaves nothing behind; it
    /// only says to others that the booking is being changed.
    pub looks: bool,
    /// The booking that holds it, once the backend has named it.
    pub booking: Option<Booking>,
    /// The hold that ends when this one is settled: a booking moves, or comes back.
    pub instead_of: Option<HoldKey>,
    /// The slot's name in the configuration.
    pub name: Arc<str>,
    /// The slot's key as an operator reads it; empty where the configuration keeps it out of the store.
    pub label: Arc<str>,
    /// The request id of the attempt.
    pub request_id: Arc<str>,
    /// The values that the slot's key is made of.
    pub parts: Arc<[Part]>,
}

/// How firmly a place is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldState {
    /// An attempt is at work that may take it.
    Reserved,
    /// The backend said that it took it.
    Held,
    /// The backend may have taken it: a 5xx, or an outcome in doubt. Occupied until somebody settles it.
    Unsettled,
    /// It was given back by a booking that may come back. Occupies nothing.
    Released,
}

/// Names one hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldKey {
    /// The slot.
    pub slot: SlotId,
    /// The hold's token.
    pub token: Token,
}

/// How long a place is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So long from the success on.
    For(Duration),
    /// Until this instant, which the request named.
    Until(Millis),
}

/// A booking as its backend calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// Its digest.
    pub key: BookingId,
    /// The id itself, cut to [`Booking::ID_BYTES_MAX`].
    pub id: Arc<str>,
}

/// A place that a claim asks for, with everything that the hold will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The slot.
    pub slot: SlotId,
    /// How many may hold it.
    pub capacity: u32,
    /// See [`Hold::keep`].
    pub keep: Keep,
    /// See [`Hold::witness`].
    pub witness: ScopeId,
    /// See [`Hold::asleep`].
    pub asleep: bool,
    /// The booking, where the request names it.
    pub booking: Option<Booking>,
    /// What it takes the place of. The claim is granted only while that hold is as the caller saw it.
    pub instead_of: Option<HoldKey>,
    /// That hold had been given back when the caller saw it.
    pub was_released: bool,
    /// See [`Hold::looks`]: it relies on the hold `instead_of`, and does not take its place.
    pub looks: bool,
    /// See [`Hold::name`].
    pub name: Arc<str>,
    /// See [`Hold::label`].
    pub label: Arc<str>,
    /// See [`Hold::parts`].
    pub parts: Arc<[Part]>,
}

/// How the places that an attempt reserved go on when its outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The backend did it.
    Held,
    /// It may have done it.
    Unsettled,
}

/// Why a slot cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The slot's name.
    pub name: Arc<str>,
    /// The slot.
    pub slot: SlotId,
    /// The values of its key, as the refused request named them; empty where the store keeps none.
    pub label: Arc<str>,
    /// How many may hold it.
    pub capacity: u32,
    /// Since when there is no place left.
    pub since: Millis,
    /// When the first place becomes free by itself; `None` while an attempt at work has it.
    pub until: Option<Millis>,
    /// The least firm state among its holders: what may still become free soon.
    pub state: HoldState,
    /// The booking that holds it, for the caller who made it and nobody else.
    pub id: Option<Arc<str>>,
}

// === impl Booking ===

impl Booking {
    /// The longest id that is kept in clear; longer ones are told apart all the same.
    pub const ID_BYTES_MAX: usize = 128;

    /// A booking, its id cut to what is kept.
    pub fn new(key: BookingId, id: &str) -> Booking {
        Booking { key, id: id[..id.floor_char_boundary(Booking::ID_BYTES_MAX)].into() }
    }
}

// === impl Keep ===

impl Keep {
    /// The end of a hold that begins at `since`.
    pub fn end(self, since: Millis) -> Millis {
        match self {
            Keep::For(duration) => since.after(duration),
            Keep::Until(until) => until,
        }
    }
}

// === impl Wanted ===

impl Wanted {
    /// Whether a place that its booking has is given back when it is held.
    pub fn gives_back(&self) -> bool {
        self.instead_of.is_some() && !self.was_released && !self.looks
    }
}

// === impl End ===

impl End {
    /// By an answer that says this, where nothing is lost by it.
    pub fn of(says: Says) -> End {
        if says.is_success() { End::Held } else { End::Unsettled }
    }

    /// The state that a place has then.
    pub fn state(self) -> HoldState {
        match self {
            End::Held => HoldState::Held,
            End::Unsettled => HoldState::Unsettled,
        }
    }
}

// === impl HoldState ===

impl HoldState {
    /// Every state, in the order in which figures name them.
    pub const ALL: [HoldState; 4] =
        [HoldState::Reserved, HoldState::Held, HoldState::Unsettled, HoldState::Released];

    /// The word for logs, metrics and answers.
    pub fn word(self) -> &'static str {
        match self {
            HoldState::Reserved => "reserved",
            HoldState::Held => "held",
            HoldState::Unsettled => "unsettled",
            HoldState::Released => "released",
        }
    }
}

// === impl Hold ===

impl Hold {
    /// The place that the attempt `token` asks for, from `now` on.
    pub fn reserved(
        wanted: &Wanted,
        token: Token,
        record: RecordId,
        request_id: Arc<str>,
        now: Millis,
    ) -> Hold {
        Hold {
            token,
            record: Some(record),
            state: HoldState::Reserved,
            since: now,
            until: Millis(u64::MAX),
            keep: wanted.keep,
            witness: wanted.witness,
            asleep: wanted.asleep,
            looks: wanted.looks,
            booking: wanted.booking.clone(),
            instead_of: wanted.instead_of,
            name: wanted.name.clone(),
            label: wanted.label.clone(),
            request_id,
            parts: wanted.parts.clone(),
        }
    }

    /// Whether it is at `now` what the caller of a claim saw, who wants to take its place or relies on it.
    pub fn is_as_seen(&self, wanted: &Wanted, now: Millis) -> bool {
        let as_seen = match self.state {
            HoldState::Reserved => false,
            HoldState::Released => wanted.was_released,
            HoldState::Held | HoldState::Unsettled => !wanted.was_released,
        };
        as_seen && !self.is_over(now)
    }

    /// Whether it takes a place at `now`.
    pub fn occupies(&self, now: Millis) -> bool {
        !self.asleep && !self.looks && self.state != HoldState::Released && !self.is_over(now)
    }

    /// Whether time has ended it: an instant belongs to what comes after it.
    pub fn is_over(&self, now: Millis) -> bool {
        now >= self.until
    }

    /// Whether it is a change of its booking that is under way, or that nobody knows the end of.
    pub fn is_moving(&self) -> bool {
        self.state == HoldState::Reserved || (self.state == HoldState::Unsettled && self.instead_of.is_some())
    }

    /// Whether the backend had given it away before a gateway was there, or past it.
    pub fn is_adopted(&self) -> bool {
        self.record.is_none() && self.state == HoldState::Held
    }

    /// Whether its attempt has not been settled.
    pub fn is_open(&self) -> bool {
        matches!(self.state, HoldState::Reserved | HoldState::Unsettled)
    }

    /// Nobody knows since `since` whether it was taken. What is unsettled already keeps its date.
    pub fn unsettled(&self, since: Millis) -> Hold {
        if self.state == HoldState::Unsettled {
            return self.clone();
        }
        Hold { state: HoldState::Unsettled, since, until: self.keep.end(since), ..self.clone() }
    }

    /// The outcome is known at `now`: what the hold becomes, and under which booking.
    pub fn settled(&self, end: End, booking: Option<Booking>, now: Millis) -> Hold {
        let booking = self.booking.clone().or(booking);
        match end {
            End::Unsettled => Hold { booking, ..self.unsettled(now) },
            End::Held => {
                let state = if self.asleep { HoldState::Released } else { HoldState::Held };
                let until = self.keep.end(now);
                // It takes nobody's place any more; what it took the place of is gone by now.
                Hold { state, asleep: false, since: now, until, booking, instead_of: None, ..self.clone() }
            }
        }
    }

    /// Its booking gave it back at `now` and may come back; it is remembered for as long as it would have been held.
    pub fn released(&self, now: Millis) -> Hold {
        Hold { state: HoldState::Released, since: now, ..self.clone() }
    }

    /// Whether it ends where the backend says that its booking has a place, `here` in its own slot or in another one. What was
    /// given back is had again, and what was held elsewhere is not any more. What is open is its attempt's.
    pub fn ends_by_adoption(&self, here: bool) -> bool {
        match self.state {
            HoldState::Released => true,
            HoldState::Held => !here,
            HoldState::Reserved | HoldState::Unsettled => false,
        }
    }

    /// Whether its booking has a place by it, or may have: then there is nothing to adopt.
    pub fn is_a_place(&self) -> bool {
        self.state != HoldState::Released && !self.asleep && !self.looks
    }

    /// Whether a success elsewhere may give it back: it is taken, or may be. What an attempt at work reserved is that
    /// attempt's.
    pub fn can_be_released(&self) -> bool {
        matches!(self.state, HoldState::Held | HoldState::Unsettled)
    }
}
