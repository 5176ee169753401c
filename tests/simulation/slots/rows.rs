//! What really is, and who is at work on it.

use oncegate::domain::ledger::{RecordId, Token};
use oncegate::domain::slot::{Booking, BookingId, SlotId, Wanted};

/// What really is: one row of the backend.
#[derive(Clone, Debug)]
pub struct Row {
    pub slots: Vec<usize>,
    pub active: bool,
    pub who: usize,
    /// Somebody was told that it exists, so somebody may change it.
    pub told: bool,
    /// It was cancelled, which is for good.
    pub cancelled: bool,
    /// ... where no gateway sees it: its slots stay taken until somebody asks.
    pub unseen: bool,
    /// What happened to it cannot be known through the gateway: its slots may stay taken for nothing.
    pub murky: bool,
}

/// What a request wants of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    Book(Vec<usize>),
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    Move(usize, usize),
}

/// An attempt, from its claim to its end.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: RecordId,
    pub token: Token,
    pub asks: Asks,
    pub who: usize,
    pub wanted: Vec<Wanted>,
    pub sent: bool,
    /// Its gateway is gone or hangs: only the backend goes on with it.
    pub alone: bool,
    /// What the backend did, once it did something.
    pub did: Option<(u16, Option<usize>)>,
}

/// What was met, so that a test can tell that it met it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub booked: u64,
    pub refused: u64,
    pub replays: u64,
    pub moved: u64,
    pub paused: u64,
    pub resumed: u64,
    pub cancelled: u64,
    pub doubts: u64,
    pub crashes: u64,
    pub settled: u64,
    pub late: u64,
    pub several: u64,
    pub unseen: u64,
    pub vacated: u64,
}

// === impl Asks ===

impl Asks {
    /// The booking that it changes.
    pub fn row(&self) -> Option<usize> {
        match self {
            Asks::Book(_) => None,
            Asks::Cancel(row) | Asks::Pause(row) | Asks::Resume(row) | Asks::Move(row, _) => Some(*row),
        }
    }
}

pub fn slot_id(slot: usize) -> SlotId {
    SlotId([slot as u8; 16])
}

pub fn index(slot: SlotId) -> usize {
    usize::from(slot.0[0])
}

pub fn key(row: usize) -> BookingId {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(row as u64 + 1).to_be_bytes());
    BookingId(key)
}

pub fn row_of(key: BookingId) -> usize {
    key.0[..8].iter().fold(0, |row, byte| row << 8 | usize::from(*byte)) - 1
}

pub fn booking(row: usize) -> Booking {
    Booking::new(key(row), &row.to_string())
}
