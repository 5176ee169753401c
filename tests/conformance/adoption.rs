//! What the backend had given away before: adopted as it is there, and nowhere else.

use super::slots::{book, booked, booking, holds, key, place, slot, taken, wanting};
use super::support::*;
use oncegate::domain::ledger::Token;
use oncegate::domain::slot::{BookingId, End, HoldState, Keep, Known, Wanted};
use oncegate::domain::time::Millis;
use oncegate::store::slots::{Adopted, Adoption};
use oncegate::store::{Claimed, Completion, Free, Held, Settlement};

pub async fn adopted_places_count_and_a_second_time_changes_nothing(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let adopted = |n: u8, token| {
        let wanted = Wanted { booking: Some(booking(n)), ..place(1) };
        Adopted { wanted, token: Token(token), all: Some([slot(1)].into()) }
    };
    let ended = Wanted { keep: Keep::Until(store.now()), ..place(3) };
    let ended = Adopted { wanted: ended, token: Token(103), all: None };
    let done = store.adopt(vec![adopted(1, 101), adopted(2, 102), ended]).await;
    assert_eq!(done, Ok(vec![Adoption::Added, Adoption::Over, Adoption::Ended]));
    assert_eq!(store.adopt(vec![adopted(1, 104)]).await, Ok(vec![Adoption::Known]));
    let refused = taken(&store, wanting(&store, 1, 1, &[place(1)])).await;
    assert_eq!((refused.state, refused.id), (HoldState::Held, None), "whose it is, nobody knows");
    let both = |n| Free { booking: BookingId([n; 16]), remember: false };
    assert_eq!(store.release(vec![both(1), both(2)], None).await, Ok(2));
    granted(&store, wanting(&store, 1, 2, &[place(1)])).await;
}

/// Booking `of` as it is adopted in slot `n`, alone.
fn adopting(of: u8, n: u8, token: u128) -> Adopted {
    let wanted = Wanted { booking: Some(booking(of)), ..place(n) };
    Adopted { wanted, token: Token(token), all: Some([slot(n)].into()) }
}

pub async fn an_adopted_booking_has_its_place_there_and_nowhere_else(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    use HoldState::{Held as Firm, Released as Paused};
    book(&store, 1, 1).await;
    // It was moved past the gateway.
    assert_eq!(store.adopt(vec![adopting(1, 2, 102)]).await, Ok(vec![Adoption::Added]));
    assert_eq!(holds(&store).await, [("02".to_owned(), Firm)]);
    granted(&store, wanting(&store, 1, 2, &[place(1)])).await;
    // It is paused, and comes back past the gateway; the second time under the token that it had.
    for token in [103, 102, 102] {
        let pause = vec![Free { booking: BookingId([1; 16]), remember: true }];
        assert_eq!(store.release(pause, None).await, Ok(1));
        assert_eq!(holds(&store).await[1], ("02".to_owned(), Paused));
        assert_eq!(store.adopt(vec![adopting(1, 2, token)]).await, Ok(vec![Adoption::Added]));
        assert_eq!(holds(&store).await[1], ("02".to_owned(), Firm));
        taken(&store, wanting(&store, 9, 9, &[place(2)])).await;
    }
    // Its next change is like any other.
    let looks = Wanted { looks: true, booking: Some(booking(1)), instead_of: Some(key(2, 102)), ..place(2) };
    granted(&store, wanting(&store, 10, 10, &[looks])).await;
    // Of one that has two slots, neither ends the other.
    let two = |n: u8| Adopted { all: Some([slot(5), slot(6)].into()), ..adopting(5, n, 200 + u128::from(n)) };
    let both = vec![two(5), two(6)];
    assert_eq!(store.adopt(both.clone()).await, Ok(vec![Adoption::Added; 2]));
    assert_eq!(store.adopt(both).await, Ok(vec![Adoption::Known; 2]));
    // Its end is what the backend says now.
    let later = Keep::Until(Millis(store.now().0 + 600_000));
    let mut prolonged = two(5);
    prolonged.wanted.keep = later;
    assert_eq!(store.adopt(vec![prolonged]).await, Ok(vec![Adoption::Known]));
    let known = store.holds_of(BookingId([5; 16])).await.expect("the store works");
    let keeps: Vec<_> = known.iter().map(|known| (known.slot, known.hold.keep == later)).collect();
    assert!(keeps.contains(&(slot(5), true)) && keeps.contains(&(slot(6), false)), "{keeps:?}");
    let until = |known: &&Known| known.slot == slot(5) && later.end(Millis(0)) == known.hold.until;
    assert_eq!(known.iter().filter(until).count(), 1, "{known:?}");
    // What is over says nothing.
    let mut over = adopting(5, 7, 207);
    // The store's clock as its gateway knows it may be a little ahead.
    over.wanted.keep = Keep::Until(Millis(store.now().0 - 1_000));
    assert_eq!(store.adopt(vec![over]).await, Ok(vec![Adoption::Ended]));
    assert_eq!(store.holds_of(BookingId([5; 16])).await.expect("the store works").len(), 2);
}

pub async fn what_may_be_moving_keeps_its_places_when_its_booking_is_adopted(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    book(&store, 1, 1).await;
    let moves = Wanted { booking: Some(booking(1)), instead_of: Some(key(1, 1)), ..place(2) };
    granted(&store, wanting(&store, 2, 2, &[moves])).await;
    assert_eq!(store.adopt(vec![adopting(1, 3, 103)]).await, Ok(vec![Adoption::Added]));
    assert_eq!(store.adopt(vec![adopting(1, 2, 102)]).await, Ok(vec![Adoption::Known]));
    use HoldState::{Held as Firm, Reserved};
    let expected = [("01", Firm), ("02", Reserved), ("03", Firm)];
    assert_eq!(holds(&store).await, expected.map(|(slot, state)| (slot.to_owned(), state)));
}

pub async fn bookings_without_an_id_are_adopted_as_often_as_they_are_told(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let three = Wanted { capacity: 3, ..place(1) };
    let nameless = |token| Adopted { wanted: three.clone(), token: Token(token), all: None };
    let all: Vec<Adopted> = (1..=4).map(nameless).collect();
    use Adoption::{Added, Known as Before, Over};
    assert_eq!(store.adopt(all.clone()).await, Ok(vec![Added, Added, Added, Over]));
    assert_eq!(store.adopt(all).await, Ok(vec![Before; 4]));
    assert_eq!(holds(&store).await.len(), 4);
}

pub async fn a_booking_with_several_places_is_changed_as_it_was_seen_or_not_at_all(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let both = [5, 6]
        .map(|n| Adopted { all: Some([slot(5), slot(6)].into()), ..adopting(5, n, 200 + u128::from(n)) });
    assert_eq!(store.adopt(both.into()).await, Ok(vec![Adoption::Added; 2]));
    let relies = |n: u8| {
        let own = Some(key(n, 200 + u128::from(n)));
        Wanted { looks: true, booking: Some(booking(5)), instead_of: own, ..place(n) }
    };
    let asks = |n, token, places: &[Wanted]| store.claim(wanting(&store, n, token, places));
    let changed = |claimed: Result<Claimed, _>| matches!(claimed, Ok(Claimed::SlotChanged));
    assert!(changed(asks(1, 1, &[relies(5)]).await), "one of its places was not seen");
    granted(&store, wanting(&store, 1, 2, &[relies(5), relies(6)])).await;
    assert!(changed(asks(2, 3, &[relies(5), relies(6)]).await), "one change at a time");
    let pauses = Completion {
        slots: Settlement { end: End::Held, bookings: Vec::new() },
        frees: vec![Free { booking: BookingId([5; 16]), remember: true }],
        ..completion(1, 2, answer(200, "paused"))
    };
    assert_eq!(store.complete(pauses).await, Ok(Held::Yes));
    let paused = |n: &str| (n.to_owned(), HoldState::Released);
    assert_eq!(holds(&store).await, [paused("05"), paused("06")]);
    // It comes back and is given back again by one answer: that answer is remembered all the same.
    let back = |n| Wanted { looks: false, was_released: true, ..relies(n) };
    granted(&store, wanting(&store, 3, 4, &[back(5), back(6)])).await;
    taken(&store, wanting(&store, 9, 9, &[place(6)])).await;
    let again = Completion {
        slots: Settlement { end: End::Held, bookings: Vec::new() },
        frees: vec![Free { booking: BookingId([5; 16]), remember: true }],
        ..completion(3, 4, answer(200, "still paused"))
    };
    assert_eq!(store.complete(again).await, Ok(Held::Yes));
    assert_eq!(holds(&store).await, [paused("05"), paused("06")]);
    assert!(matches!(store.claim(claim(&store, 3, 5)).await, Ok(Claimed::Done(_))));
}

pub async fn what_is_adopted_while_its_booking_is_being_made_is_the_same_place(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, wanting(&store, 1, 1, &[place(1)])).await;
    assert_eq!(store.adopt(vec![adopting(1, 1, 101)]).await, Ok(vec![Adoption::Over]));
    assert_eq!(store.complete(booked(1, 1)).await, Ok(Held::Yes));
    assert_eq!(holds(&store).await, [("01".to_owned(), HoldState::Held)]);
    let gone = vec![Free { booking: BookingId([1; 16]), remember: false }];
    assert_eq!(store.release(gone, None).await, Ok(1));
    granted(&store, wanting(&store, 2, 2, &[place(1)])).await;
}
