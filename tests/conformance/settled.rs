//! What an operator's answer calls the bookings of its record.

use super::slots::{booking, place, slot, wanting};
use super::support::*;
use oncegate::domain::ledger::{Doubt, TargetId, Token};
use oncegate::domain::slot::{HoldState, Wanted};
use oncegate::store::slots::{Follows, HoldListing};
use oncegate::store::{Free, Held, Settle, Settled, Store};

async fn bookings(store: &Store) -> Vec<(HoldState, Option<String>)> {
    let holds = store.holds(HoldListing { limit: 100, ..Default::default() }).await.expect("the store works");
    holds.into_iter().map(|hold| (hold.state, hold.booking)).collect()
}

pub async fn a_booking_that_an_operators_answer_names_holds_its_slot_and_frees_it(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let places = [place(1), Wanted { name: "room".into(), ..place(2) }, place(3)];
    granted(&store, wanting(&store, 1, 1, &places)).await;
    assert_eq!(store.doubt(id(1), Token(1), Doubt::TimedOut).await, Ok(Held::Yes));
    // Of another resource nothing follows; its own slots are its own all the same.
    let bookings_named = vec![("doctor-slot".into(), booking(7)), ("other".into(), booking(8))];
    let (target, frees) = (TargetId([9; 16]), Vec::new());
    let follows = Some(Follows { target, ends: None, frees, bookings: bookings_named });
    let how = Settle::Executed { answer: answer(201, "booked"), keep: MINUTE, follows };
    assert_eq!(store.settle(id(1), how).await, Ok(Settled::Yes));
    let seven = || (HoldState::Held, Some("7".to_owned()));
    assert_eq!(bookings(&store).await, [seven(), (HoldState::Held, None), seven()]);
    let free = Free { booking: booking(7).key, remember: false };
    assert_eq!(store.release(vec![free], None).await, Ok(2));
    granted(&store, wanting(&store, 2, 2, &[place(1), place(3)])).await;
    assert_eq!(store.holders(slot(2), 10).await.expect("the store works").len(), 1);
}
