//! What the backend had given away before: adopted as it is there, and nowhere else.

use super::slots::{book, booking, holds, key, place, slot, taken, wanting};
use super::support::*;
use oncegate::domain::ledger::Token;
use oncegate::domain::slot::{BookingId, HoldState, Keep, Known, Wanted};
use oncegate::domain::time::Millis;
use oncegate::store::Free;
use oncegate::store::slots::{Adopted, Adoption};

pub async fn adopted_places_count_and_a_second_time_changes_nothing(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let adopted = |n: u8, token| {
        let wanted = Wanted { booking: Some(booking(n)), ..place(1) };
        Adopted { wanted, token: Token(token), beside: Vec::new() }
    };
    let ended = Wanted { keep: Keep::Until(store.now()), ..place(3) };
    let ended = Adopted { wanted: ended, token: Token(103), beside: Vec::new() };
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
    Adopted { wanted, token: Token(token), beside: Vec::new() }
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
    let two = |n: u8, other: u8| Adopted { beside: vec![slot(other)], ..adopting(5, n, 200 + u128::from(n)) };
    let both = vec![two(5, 6), two(6, 5)];
    assert_eq!(store.adopt(both.clone()).await, Ok(vec![Adoption::Added; 2]));
    assert_eq!(store.adopt(both).await, Ok(vec![Adoption::Known; 2]));
    // Its end is what the backend says now.
    let later = Keep::Until(Millis(store.now().0 + 600_000));
    let mut prolonged = two(5, 6);
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
    let nameless = |token| Adopted { wanted: three.clone(), token: Token(token), beside: Vec::new() };
    let all: Vec<Adopted> = (1..=4).map(nameless).collect();
    use Adoption::{Added, Known as Before, Over};
    assert_eq!(store.adopt(all.clone()).await, Ok(vec![Added, Added, Added, Over]));
    assert_eq!(store.adopt(all).await, Ok(vec![Before; 4]));
    assert_eq!(holds(&store).await.len(), 4);
}
