//! Slots: reserved with the claim, settled with the record, given back, moved.

use super::support::*;
use oncegate::domain::client::ScopeId;
use oncegate::domain::ledger::{Doubt, TargetId, Token};
use oncegate::domain::slot::{
    Booking, BookingId, End, Hold, HoldKey, HoldState, Keep, Known, Part, SlotId, Taken, Wanted,
};
use oncegate::domain::time::Millis;
use oncegate::store::slots::{Follows, HoldListing, Released, Which};
use oncegate::store::{ClaimRequest, Claimed, Completion, Free, Held, Settle, Settled, Settlement, Store};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(120);

pub(super) fn slot(n: u8) -> SlotId {
    SlotId([n; 16])
}

pub(super) fn key(n: u8, token: u128) -> HoldKey {
    HoldKey { slot: slot(n), token: Token(token) }
}

pub(super) fn booking(n: u8) -> Booking {
    Booking::new(BookingId([n; 16]), &n.to_string())
}

/// A place of slot `n`, for one, of the caller that [`claim`] speaks for.
pub(super) fn place(n: u8) -> Wanted {
    Wanted {
        slot: slot(n),
        capacity: 1,
        keep: Keep::For(60 * MINUTE),
        witness: ScopeId([1; 16]),
        asleep: false,
        booking: None,
        instead_of: None,
        was_released: false,
        looks: false,
        name: "doctor-slot".into(),
        label: format!("clinic | {n}").into(),
        parts: [Part([n; 16])].as_slice().into(),
    }
}

/// A claim of intent `n` that asks for `places`.
pub(super) fn wanting(store: &Store, n: u8, token: u128, places: &[Wanted]) -> ClaimRequest {
    ClaimRequest { slots: places.to_vec(), ..claim(store, n, token) }
}

/// The completion of intent `n`, by which slot `n` is held by booking `n`.
pub(super) fn booked(n: u8, token: u128) -> Completion {
    let slots = Settlement { end: End::Held, bookings: vec![(slot(n), booking(n))] };
    Completion { slots, ..completion(n, token, answer(201, "booked")) }
}

async fn ask(store: &Store, request: ClaimRequest) -> Claimed {
    store.claim(request).await.expect("the store works")
}

pub(super) async fn taken(store: &Store, request: ClaimRequest) -> Taken {
    match ask(store, request).await {
        Claimed::SlotTaken(taken) => taken,
        other => panic!("the slot is taken, but: {other:?}"),
    }
}

async fn complete(store: &Store, completion: Completion) {
    assert_eq!(store.complete(completion).await, Ok(Held::Yes));
}

/// Intent `n` books slot `n`.
pub(super) async fn book(store: &Store, n: u8, token: u128) {
    granted(store, wanting(store, n, token, &[place(n)])).await;
    complete(store, booked(n, token)).await;
}

pub(super) async fn holds(store: &Store) -> Vec<(String, HoldState)> {
    let views = store.holds(HoldListing { limit: 100, ..Default::default() }).await.expect("the store works");
    views.iter().map(|view| (view.slot_id[..2].to_owned(), view.state)).collect()
}

pub async fn of_fifty_claims_of_one_slot_one_is_granted(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let claims = (1..=50_u8).map(|n| ask(&store, wanting(&store, n, u128::from(n), &[place(1)])));
    let claimed = futures_util::future::join_all(claims).await;
    assert_eq!(claimed.iter().filter(|claimed| matches!(claimed, Claimed::Granted)).count(), 1);
    assert_eq!(claimed.iter().filter(|claimed| matches!(claimed, Claimed::SlotTaken(_))).count(), 49);
    assert_eq!(
        store
            .list(oncegate::store::Listing { limit: 100, ..Default::default() })
            .await
            .expect("the store works")
            .len(),
        1
    );
}

pub async fn a_slot_for_ten_takes_exactly_ten(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let ten = [Wanted { capacity: 10, ..place(1) }];
    let claims = (1..=50_u8).map(|n| ask(&store, wanting(&store, n, u128::from(n), &ten)));
    let claimed = futures_util::future::join_all(claims).await;
    assert_eq!(claimed.iter().filter(|claimed| matches!(claimed, Claimed::Granted)).count(), 10);
    let some = claimed.iter().position(|claimed| matches!(claimed, Claimed::Granted)).expect("ten of them")
        as u8
        + 1;
    assert_eq!(store.abandon(id(some), Token(u128::from(some)), None).await, Ok(Held::Yes));
    granted(&store, wanting(&store, 60, 60, &ten)).await;
    taken(&store, wanting(&store, 61, 61, &ten)).await;
}

pub async fn several_slots_are_taken_together_or_not_at_all(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 2, 1).await;
    assert_eq!(taken(&store, wanting(&store, 1, 2, &[place(1), place(2)])).await.slot, slot(2));
    assert!(store.show(id(1)).await.expect("the store works").is_none(), "nothing was claimed");
    granted(&store, wanting(&store, 3, 3, &[place(1), place(3)])).await;
    taken(&store, wanting(&store, 4, 4, &[place(3)])).await;
    assert_eq!(store.abandon(id(3), Token(3), None).await, Ok(Held::Yes));
    granted(&store, wanting(&store, 4, 5, &[place(3), place(1)])).await;
}

pub async fn what_was_not_executed_frees_at_once(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, wanting(&store, 1, 1, &[place(1)])).await;
    let refused = taken(&store, wanting(&store, 2, 2, &[place(1)])).await;
    assert_eq!((refused.state, refused.until), (HoldState::Reserved, None));
    assert_eq!(store.abandon(id(1), Token(1), Some(answer(409, "no"))).await, Ok(Held::Yes));
    assert_eq!(holds(&store).await, []);
    granted(&store, wanting(&store, 2, 3, &[place(1)])).await;
}

pub async fn a_success_holds_for_its_time_and_no_longer(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, wanting(&store, 1, 1, &[Wanted { keep: Keep::For(3 * SHORT), ..place(1) }])).await;
    let window_ends_first = Completion { keep: SHORT / 2, ..booked(1, 1) };
    complete(&store, window_ends_first).await;
    tokio::time::sleep(SHORT).await;
    let refused = taken(&store, wanting(&store, 1, 2, &[place(1)])).await;
    assert_eq!(refused.state, HoldState::Held, "a slot's lifetime is not the replay window");
    assert!(refused.until.is_some_and(|until| until > refused.since));
    tokio::time::sleep(3 * SHORT).await;
    granted(&store, wanting(&store, 2, 3, &[place(1)])).await;
    let until = Keep::Until(store.now().after(SHORT));
    granted(&store, wanting(&store, 5, 5, &[Wanted { keep: until, ..place(5) }])).await;
    complete(&store, booked(5, 5)).await;
    taken(&store, wanting(&store, 6, 6, &[place(5)])).await;
    tokio::time::sleep(2 * SHORT).await;
    granted(&store, wanting(&store, 6, 7, &[place(5)])).await;
}

pub async fn what_may_have_been_executed_keeps_its_place(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    // A 5xx.
    granted(&store, wanting(&store, 1, 1, &[place(1)])).await;
    complete(&store, completion(1, 1, answer(500, "?"))).await;
    assert_eq!(taken(&store, wanting(&store, 2, 2, &[place(1)])).await.state, HoldState::Unsettled);
    // A doubt, then a late answer either way.
    for (n, status) in [(3, 201), (4, 500)] {
        granted(&store, wanting(&store, n, u128::from(n), &[place(n)])).await;
        assert_eq!(store.doubt(id(n), Token(u128::from(n)), Doubt::TimedOut).await, Ok(Held::Yes));
        assert_eq!(taken(&store, wanting(&store, 9, 9, &[place(n)])).await.state, HoldState::Unsettled);
        let end = if status == 201 { End::Held } else { End::Unsettled };
        let slots = Settlement { end, bookings: Vec::new() };
        complete(&store, Completion { slots, ..completion(n, u128::from(n), answer(status, "")) }).await;
    }
    assert_eq!(taken(&store, wanting(&store, 9, 10, &[place(3)])).await.state, HoldState::Held);
    assert_eq!(taken(&store, wanting(&store, 9, 11, &[place(4)])).await.state, HoldState::Unsettled);
}

pub async fn an_operator_settles_a_slot_with_its_record(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    for n in 1..=4_u8 {
        granted(&store, wanting(&store, n, u128::from(n), &[place(n)])).await;
        assert_eq!(store.doubt(id(n), Token(u128::from(n)), Doubt::TimedOut).await, Ok(Held::Yes));
    }
    let executed = |status| Settle::Executed { answer: answer(status, ""), keep: MINUTE, follows: None };
    assert_eq!(store.settle(id(1), Settle::NotExecuted).await, Ok(Settled::Yes));
    assert_eq!(store.settle(id(2), executed(201)).await, Ok(Settled::Yes));
    assert_eq!(store.settle(id(3), executed(500)).await, Ok(Settled::Yes));
    assert_eq!(store.settle(id(4), Settle::Delete).await, Ok(Settled::Yes));
    use HoldState::{Held as Firm, Unsettled};
    let expected = [("02", Firm), ("03", Unsettled), ("04", Unsettled)];
    assert_eq!(holds(&store).await, expected.map(|(slot, state)| (slot.to_owned(), state)));
}

pub async fn what_follows_from_a_success_follows_when_an_operator_settles_it(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 1, 1).await;
    let settled = |n: u8, target, parents| {
        let frees = vec![Free { booking: BookingId([1; 16]), remember: false }];
        let ends = Some((parents, Duration::ZERO));
        let follows = Some(Follows { target, ends, frees, bookings: Vec::new() });
        let store = &store;
        async move {
            let mut change = claim(store, n, u128::from(n));
            change.claim.target = TargetId([n; 16]);
            granted(store, change).await;
            assert_eq!(store.doubt(id(n), Token(u128::from(n)), Doubt::TimedOut).await, Ok(Held::Yes));
            let how = Settle::Executed { answer: answer(204, ""), keep: MINUTE, follows };
            assert_eq!(store.settle(id(n), how).await, Ok(Settled::Yes));
        }
    };
    // A booking without a slot, in the same collection.
    granted(&store, claim(&store, 9, 9)).await;
    complete(&store, completion(9, 9, answer(201, "made"))).await;
    settled(5, TargetId([7; 16]), vec![TargetId([1; 16])]).await;
    assert_eq!(holds(&store).await, [("01".to_owned(), HoldState::Held)], "it was another resource");
    assert!(matches!(ask(&store, claim(&store, 9, 10)).await, Claimed::Done(_)));
    settled(6, TargetId([6; 16]), vec![TargetId([1; 16])]).await;
    assert_eq!(holds(&store).await, []);
    granted(&store, claim(&store, 9, 11)).await;
    granted(&store, wanting(&store, 1, 12, &[place(1)])).await;
    let mut copy = claim(&store, 6, 13);
    copy.claim.target = TargetId([6; 16]);
    assert!(matches!(ask(&store, copy).await, Claimed::Done(_)), "its own answer stays");
}

pub async fn a_lease_that_ends_frees_what_was_queued_and_keeps_what_was_sent(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    for (n, sent) in [(1, false), (2, true)] {
        let mut request = wanting(&store, n, u128::from(n), &[place(n)]);
        (request.claim.sent, request.claim.lease) = (sent, SHORT);
        granted(&store, request).await;
    }
    tokio::time::sleep(2 * SHORT).await;
    granted(&store, wanting(&store, 3, 3, &[place(1)])).await;
    assert_eq!(taken(&store, wanting(&store, 4, 4, &[place(2)])).await.state, HoldState::Unsettled);
}

pub async fn a_queued_attempt_that_is_sent_keeps_its_place(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let mut request = wanting(&store, 1, 1, &[place(1)]);
    request.claim.sent = false;
    granted(&store, request).await;
    taken(&store, wanting(&store, 2, 2, &[place(1)])).await;
    assert_eq!(store.mark_sent(id(1), Token(1)).await, Ok(Held::Yes));
    complete(&store, booked(1, 1)).await;
    assert_eq!(taken(&store, wanting(&store, 2, 3, &[place(1)])).await.state, HoldState::Held);
}

pub async fn a_copy_gets_its_answer_before_it_is_told_that_the_slot_is_taken(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let request = |token| wanting(&store, 1, token, &[place(1)]);
    granted(&store, request(1)).await;
    granted(&store, request(1)).await;
    assert!(
        matches!(ask(&store, request(2)).await, Claimed::InFlight(_)),
        "and a repeated claim finds its own"
    );
    complete(&store, booked(1, 1)).await;
    assert!(matches!(ask(&store, request(3)).await, Claimed::Done(_)));
}

pub async fn a_booking_is_named_to_whoever_made_it_and_nobody_else(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 1, 1).await;
    assert_eq!(taken(&store, wanting(&store, 2, 2, &[place(1)])).await.id.as_deref(), Some("1"));
    let stranger = Wanted { witness: ScopeId([2; 16]), ..place(1) };
    assert_eq!(taken(&store, wanting(&store, 3, 3, std::slice::from_ref(&stranger))).await.id, None);
    let looked = store.look(&stranger).await.expect("the store works").expect("taken");
    assert_eq!((looked.id, looked.state), (None, HoldState::Held));
    assert_eq!(store.look(&place(2)).await, Ok(None));
}

pub async fn a_release_frees_its_own_booking_and_makes_booking_again_a_new_intent(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 1, 1).await;
    let free = |n| vec![Free { booking: BookingId([n; 16]), remember: false }];
    assert_eq!(store.release(free(7), None).await, Ok(0), "another's cancellation frees nothing");
    assert!(matches!(ask(&store, wanting(&store, 1, 2, &[place(1)])).await, Claimed::Done(_)));
    assert_eq!(store.release(free(1), None).await, Ok(1));
    granted(&store, wanting(&store, 1, 3, &[place(1)])).await;
    complete(&store, booked(1, 3)).await;
    // The same as part of another write's completion.
    granted(&store, claim(&store, 5, 5)).await;
    complete(&store, Completion { frees: free(1), ..completion(5, 5, answer(200, "cancelled")) }).await;
    granted(&store, wanting(&store, 1, 6, &[place(1)])).await;
}

pub async fn a_paused_booking_takes_no_place_and_may_come_back(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 1, 1).await;
    let pause = vec![Free { booking: BookingId([1; 16]), remember: true }];
    assert_eq!(store.release(pause.clone(), None).await, Ok(1));
    assert_eq!(store.release(pause, None).await, Ok(0), "once");
    let known = store.holds_of(BookingId([1; 16])).await.expect("the store works");
    let [Known { hold, .. }] = known.as_slice() else { panic!("remembered: {known:?}") };
    assert_eq!((hold.state, &*hold.parts), (HoldState::Released, &[Part([1; 16])][..]));
    let back =
        Wanted { booking: Some(booking(1)), instead_of: Some(key(1, 1)), was_released: true, ..place(1) };
    let unseen = Wanted { was_released: false, ..back.clone() };
    assert!(
        matches!(ask(&store, wanting(&store, 9, 9, &[unseen])).await, Claimed::SlotChanged),
        "it was paused meanwhile"
    );
    // Somebody else has it meanwhile.
    granted(&store, wanting(&store, 2, 2, &[place(1)])).await;
    taken(&store, wanting(&store, 3, 3, std::slice::from_ref(&back))).await;
    assert_eq!(store.abandon(id(2), Token(2), None).await, Ok(Held::Yes));
    granted(&store, wanting(&store, 3, 4, std::slice::from_ref(&back))).await;
    let slots = Settlement { end: End::Held, bookings: Vec::new() };
    complete(&store, Completion { slots, ..completion(3, 4, answer(200, "resumed")) }).await;
    assert_eq!(holds(&store).await, [("01".to_owned(), HoldState::Held)]);
    // Whoever relies on what a booking has is told where it has it no more.
    let looks = Wanted { looks: true, booking: Some(booking(1)), instead_of: Some(key(1, 4)), ..place(1) };
    granted(&store, wanting(&store, 10, 10, std::slice::from_ref(&looks))).await;
    let late = Wanted { instead_of: Some(key(1, 1)), ..looks.clone() };
    assert!(matches!(ask(&store, wanting(&store, 11, 11, &[late])).await, Claimed::SlotChanged));
    assert!(
        matches!(ask(&store, wanting(&store, 11, 12, &[looks])).await, Claimed::SlotChanged),
        "one at a time"
    );
    taken(&store, wanting(&store, 12, 13, &[place(1)])).await;
    granted(&store, wanting(&store, 12, 14, &[Wanted { capacity: 2, ..place(1) }])).await;
    assert_eq!(store.abandon(id(12), Token(14), None).await, Ok(Held::Yes));
    let pause = vec![Free { booking: BookingId([1; 16]), remember: true }];
    assert_eq!(store.release(pause, None).await, Ok(0), "which of two changes came last nobody knows");
    complete(&store, completion(10, 10, answer(500, "no"))).await;
    assert_eq!(holds(&store).await, [("01".to_owned(), HoldState::Held)], "and it leaves nothing behind");
    let gone = vec![Free { booking: BookingId([1; 16]), remember: false }];
    assert_eq!(store.release(gone, None).await, Ok(1), "it is still that booking");
}

pub async fn a_move_frees_the_old_slot_and_takes_the_new_one_or_changes_nothing(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 1, 1).await;
    let to = |n, token| Wanted { booking: Some(booking(1)), instead_of: Some(key(1, token)), ..place(n) };
    // Taken by another: nothing changes.
    granted(&store, wanting(&store, 5, 5, &[place(2)])).await;
    taken(&store, wanting(&store, 6, 6, &[to(2, 1)])).await;
    assert_eq!(store.abandon(id(5), Token(5), None).await, Ok(Held::Yes));
    // Refused by the backend: nothing changes.
    granted(&store, wanting(&store, 6, 7, &[to(2, 1)])).await;
    taken(&store, wanting(&store, 8, 8, &[place(1)])).await;
    taken(&store, wanting(&store, 8, 9, &[place(2)])).await;
    assert_eq!(store.abandon(id(6), Token(7), None).await, Ok(Held::Yes));
    assert_eq!(holds(&store).await, [("01".to_owned(), HoldState::Held)]);
    // Nobody knows: both are kept, until somebody does.
    granted(&store, wanting(&store, 6, 10, &[to(2, 1)])).await;
    assert_eq!(store.doubt(id(6), Token(10), Doubt::ConnectionLost).await, Ok(Held::Yes));
    taken(&store, wanting(&store, 8, 11, &[place(1)])).await;
    taken(&store, wanting(&store, 8, 12, &[place(2)])).await;
    let slots = Settlement { end: End::Held, bookings: Vec::new() };
    complete(&store, Completion { slots, ..completion(6, 10, answer(200, "moved")) }).await;
    assert_eq!(holds(&store).await, [("02".to_owned(), HoldState::Held)]);
    granted(&store, wanting(&store, 8, 13, &[place(1)])).await;
}

pub async fn of_two_changes_of_one_booking_one_is_told_to_look_again(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 1, 1).await;
    let to = |n| Wanted { booking: Some(booking(1)), instead_of: Some(key(1, 1)), ..place(n) };
    granted(&store, wanting(&store, 2, 2, &[to(2)])).await;
    assert!(matches!(ask(&store, wanting(&store, 3, 3, &[to(3)])).await, Claimed::SlotChanged));
    let unseen = Wanted { booking: Some(booking(1)), ..place(3) };
    assert!(matches!(ask(&store, wanting(&store, 3, 4, &[unseen])).await, Claimed::SlotChanged));
    let slots = Settlement { end: End::Held, bookings: Vec::new() };
    complete(&store, Completion { slots, ..completion(2, 2, answer(200, "")) }).await;
    assert!(
        matches!(ask(&store, wanting(&store, 3, 5, &[to(3)])).await, Claimed::SlotChanged),
        "it moved on"
    );
}

pub async fn an_operator_lists_places_and_gives_them_back(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    for n in 1..=4_u8 {
        book(&store, n, u128::from(n)).await;
    }
    granted(&store, wanting(&store, 5, 5, &[Wanted { name: "room".into(), ..place(5) }])).await;
    let list = |listing: HoldListing| async { store.holds(listing).await.expect("the store works") };
    let first = list(HoldListing { limit: 3, ..Default::default() }).await;
    assert_eq!(
        first.iter().map(|view| &*view.key).collect::<Vec<_>>(),
        ["clinic | 1", "clinic | 2", "clinic | 3"]
    );
    let rest = list(HoldListing { limit: 3, after: Some(key(3, 3)), ..Default::default() }).await;
    assert_eq!(rest.iter().map(|view| &*view.slot).collect::<Vec<_>>(), ["doctor-slot", "room"]);
    let rooms = list(HoldListing { limit: 9, name: Some("room".into()), ..Default::default() }).await;
    assert_eq!((rooms.len(), rooms[0].state, rooms[0].until), (1, HoldState::Reserved, None));
    let held = list(HoldListing {
        limit: 9,
        state: Some(HoldState::Held),
        slot: Some(slot(2)),
        ..Default::default()
    });
    assert_eq!(held.await.iter().map(|view| view.booking.as_deref()).collect::<Vec<_>>(), [Some("2")]);
    let figures = store.figures().await.slots;
    assert_eq!(figures.iter().map(|figures| figures.holds).collect::<Vec<_>>(), [[0, 4, 0, 0], [1, 0, 0, 0]]);

    assert_eq!(store.release_hold(Which::Hold(key(5, 5))).await, Ok(Released::AtWork));
    assert_eq!(store.release_hold(Which::Hold(key(9, 9))).await, Ok(Released::NotFound));
    assert_eq!(store.release_hold(Which::Booking(BookingId([2; 16]))).await, Ok(Released::Yes(1)));
    assert_eq!(store.release_hold(Which::Hold(key(1, 1))).await, Ok(Released::Yes(1)));
    granted(&store, wanting(&store, 1, 11, &[place(1)])).await;
    granted(&store, wanting(&store, 2, 12, &[place(2)])).await;
}

pub async fn a_store_full_of_places_refuses_more_and_nothing_else(backend: &impl Backend) {
    let store = backend.open(Limits { records_max: 3, ..Limits::default() });
    granted(&store, wanting(&store, 1, 1, &[place(1), place(2), place(3)])).await;
    assert!(store.claim(wanting(&store, 4, 4, &[place(4)])).await.is_err());
    granted(&store, claim(&store, 5, 5)).await;
    assert_eq!(store.abandon(id(1), Token(1), None).await, Ok(Held::Yes));
    granted(&store, wanting(&store, 4, 6, &[place(4)])).await;
}

/// The one hold of slot `n`.
async fn holder(store: &Store, n: u8) -> Known {
    let mut holders = store.holders(slot(n), 10).await.expect("the store works");
    assert_eq!(holders.len(), 1, "{holders:?}");
    holders.remove(0)
}

pub async fn what_the_backend_has_no_more_is_given_back_only_while_it_is_as_it_was_seen(
    backend: &impl Backend,
) {
    let store = backend.open(Limits::default());
    let store = &store;
    let vacate = |seen: Known| async move { store.vacate(&seen).await };
    // As it was seen: its place is free, and booking again is a new intent.
    book(store, 1, 1).await;
    assert_eq!(vacate(holder(store, 1).await).await, Ok(Held::Yes));
    assert_eq!(holds(store).await, []);
    granted(store, wanting(store, 1, 2, &[place(1)])).await;
    // Cancelled and taken by somebody else in between.
    book(store, 2, 3).await;
    let seen = holder(store, 2).await;
    let free = |remember| vec![Free { booking: BookingId([2; 16]), remember }];
    assert_eq!(store.release(free(false), None).await, Ok(1));
    granted(store, wanting(store, 3, 4, &[place(2)])).await;
    assert_eq!(vacate(seen.clone()).await, Ok(Held::No), "the other one is at work");
    assert_eq!(
        vacate(holder(store, 2).await).await,
        Ok(Held::No),
        "what is at work is nobody's to give back"
    );
    complete(store, Completion { id: id(3), ..booked(2, 4) }).await;
    assert_eq!(vacate(seen).await, Ok(Held::No));
    assert_eq!(taken(store, wanting(store, 9, 9, &[place(2)])).await.state, HoldState::Held);
    // Seen with another booking, or at another time.
    let seen = holder(store, 2).await;
    let other = Hold { booking: Some(booking(7)), ..seen.hold.clone() };
    assert_eq!(vacate(Known { hold: other, ..seen.clone() }).await, Ok(Held::No));
    let other = Hold { since: Millis(seen.hold.since.0 - 1), ..seen.hold.clone() };
    assert_eq!(vacate(Known { hold: other, ..seen }).await, Ok(Held::No));
    // Paused.
    let seen = holder(store, 2).await;
    assert_eq!(store.release(free(true), None).await, Ok(1));
    assert_eq!(vacate(seen).await, Ok(Held::No));
    assert_eq!(holder(store, 2).await.hold.state, HoldState::Released);
}

pub async fn what_nobody_has_settled_is_not_given_back_because_it_is_not_seen(backend: &impl Backend) {
    let store = &backend.open(Limits::default());
    granted(store, wanting(store, 1, 1, &[place(1)])).await;
    complete(store, completion(1, 1, answer(500, "?"))).await;
    assert_eq!(store.vacate(&holder(store, 1).await).await, Ok(Held::No));
    assert_eq!(taken(store, wanting(store, 9, 9, &[place(1)])).await.state, HoldState::Unsettled);
    // Another change of the booking is under way, and relies on what it has.
    book(store, 2, 2).await;
    let seen = holder(store, 2).await;
    let looks = Wanted { looks: true, instead_of: Some(key(2, 2)), booking: Some(booking(2)), ..place(2) };
    granted(store, wanting(store, 3, 3, &[looks])).await;
    assert_eq!(store.vacate(&seen).await, Ok(Held::No));
    assert_eq!(store.abandon(id(3), Token(3), None).await, Ok(Held::Yes));
    assert_eq!(store.vacate(&seen).await, Ok(Held::Yes));
    // Its time ended in between.
    granted(store, wanting(store, 4, 4, &[Wanted { keep: Keep::For(SHORT), ..place(4) }])).await;
    complete(store, booked(4, 4)).await;
    let seen = holder(store, 4).await;
    tokio::time::sleep(2 * SHORT).await;
    assert_eq!(store.vacate(&seen).await, Ok(Held::No));
    // A hold whose booking nobody has named.
    granted(store, wanting(store, 5, 5, &[place(5)])).await;
    let slots = Settlement { end: End::Held, bookings: Vec::new() };
    complete(store, Completion { slots, ..completion(5, 5, answer(201, "")) }).await;
    assert_eq!(store.vacate(&holder(store, 5).await).await, Ok(Held::Yes));
    granted(store, wanting(store, 6, 6, &[place(5)])).await;
}
