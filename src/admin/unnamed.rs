//! The slots of a record that an operator settles as executed and whose bookings the answer does not name: no cancellation
//! would find them, so the operator is told which they are.

use super::AdminState;
use crate::domain::ledger::RecordId;
use crate::domain::slot::HoldState;
use crate::store::slots::{HoldListing, HoldView};
use serde::{Deserialize, Serialize};

/// Pages that are read at most, and what one has. More holds than that are never unsettled at one time, unless the backend
/// was away for long; then some are not told of.
const PAGES_MAX: usize = 10;
const PAGE: usize = 1_000;

/// A slot that stays taken under no booking's name.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unnamed {
    /// Its name.
    pub slot: String,
    /// `SLOT/HOLD`, as it is released.
    pub hold: String,
}

/// What the attempt of the record `id` may have taken, before that is settled. It tells and decides nothing, so a store that
/// does not answer here keeps nobody from settling.
pub(super) async fn open_of(state: &AdminState, id: RecordId) -> Vec<HoldView> {
    let mut found = Vec::new();
    if state.slots.names().next().is_none() {
        return found;
    }
    let id = id.to_string();
    // Time may have ended a lease that nobody has looked at since.
    for open in [HoldState::Unsettled, HoldState::Reserved] {
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let listing = HoldListing { state: Some(open), after, limit: PAGE, ..HoldListing::default() };
            let Ok(page) = state.store.holds(listing).await else { break };
            let last = page.last().filter(|_| page.len() == PAGE);
            after = last.and_then(HoldView::key_of);
            found.extend(page.into_iter().filter(|hold| hold.record.as_ref() == Some(&id)));
            if after.is_none() {
                break;
            }
        }
    }
    found
}

/// Those of `open` that are there after the record was settled, although no booking has them.
pub(super) async fn left(state: &AdminState, open: Vec<HoldView>) -> Vec<Unnamed> {
    let mut unnamed = Vec::new();
    for before in open {
        // Where the configuration does not say where its id is, no booking ever has one.
        let has_id = state.slots.find(&before.slot).is_none_or(|slot| slot.id.is_some());
        let Some(key) = before.key_of().filter(|_| has_id) else { continue };
        let listing = HoldListing { slot: Some(key.slot), limit: PAGE, ..HoldListing::default() };
        let Ok(now) = state.store.holds(listing).await else { continue };
        if now.iter().any(|hold| hold.hold == before.hold && hold.booking.is_none()) {
            let hold = format!("{}/{}", before.slot_id, before.hold);
            unnamed.push(Unnamed { slot: before.slot, hold });
        }
    }
    unnamed
}
