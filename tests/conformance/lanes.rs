//! Lanes, as every store keeps them. Nothing here knows which store it runs on, but for the last test.

use super::support::*;
use oncegate::domain::lane::{Join, LaneId};
use oncegate::domain::ledger::{Doubt, Token};
use oncegate::store::{
    AttemptEnd, ClaimRequest, Claimed, GivenUp, Held, JoinLane, Joined, LaneAbout, LanePlace, Place, Store,
};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(150);
const LANE: LaneId = LaneId([7; 16]);

fn queued(store: &Store, n: u8, token: u128) -> ClaimRequest {
    let mut request = claim(store, n, token);
    request.claim.sent = false;
    request
}

fn ticket(store: &Store, token: u128) -> JoinLane {
    let join = Join { token: Token(token), owner: store.owner(), lease: MINUTE, queue_max: 5 };
    JoinLane { lane: LANE, join, about: LaneAbout { name: "book".into(), key: "clinic 7".into() } }
}

async fn claimed(store: &Store, n: u8, token: u128) {
    let claimed = store.claim(queued(store, n, token)).await.expect("the store works");
    assert!(matches!(claimed, Claimed::Granted), "{claimed:?}");
}

async fn join(store: &Store, token: u128) -> Joined {
    store.join_lane(ticket(store, token)).await.expect("the store works")
}

/// Claims record `n` under the same token and joins, as the one whose turn it is.
async fn first(store: &Store, n: u8) {
    claimed(store, n, u128::from(n)).await;
    let joined = join(store, u128::from(n)).await;
    assert!(matches!(joined, Joined::Yours), "{joined:?}");
}

/// The same behind others.
async fn behind(store: &Store, n: u8) -> LanePlace {
    claimed(store, n, u128::from(n)).await;
    match join(store, u128::from(n)).await {
        Joined::Waiting { place, .. } => place,
        other => panic!("somebody else has the turn, but: {other:?}"),
    }
}

async fn comes(place: &LanePlace) {
    tokio::time::timeout(PATIENCE, place.turn()).await.expect("the turn comes");
}

async fn is_far(place: &LanePlace) -> bool {
    tokio::time::timeout(Duration::from_millis(5), place.turn()).await.is_err()
}

async fn send(store: &Store, n: u8, hold: Duration) -> Held {
    store.send_in_turn(id(n), Token(u128::from(n)), LANE, hold).await.expect("the store works")
}

async fn leave(store: &Store, n: u8) -> Held {
    store.leave_lane(LANE, Token(u128::from(n))).await.expect("the store works")
}

pub async fn turns_come_in_the_order_of_joining(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    first(&store, 1).await;
    let places = [behind(&store, 2).await, behind(&store, 3).await, behind(&store, 4).await];
    for (n, place) in (2..).zip(&places) {
        assert_eq!(send(&store, n, MINUTE).await, Held::No, "not before its turn");
        assert!(is_far(place).await);
        assert_eq!(send(&store, n - 1, MINUTE).await, Held::Yes);
        assert_eq!(leave(&store, n - 1).await, Held::Yes);
        comes(place).await;
    }
    assert_eq!(send(&store, 4, MINUTE).await, Held::Yes);
    assert_eq!(leave(&store, 4).await, Held::Yes);
    assert_eq!(store.lane_figures().await, Default::default(), "nothing is left of it");
}

pub async fn a_full_lane_takes_nobody_and_other_lanes_do(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    first(&store, 1).await;
    let mut places = Vec::new();
    for n in 2..7 {
        places.push(behind(&store, n).await);
    }
    assert!(matches!(join(&store, 7).await, Joined::Full { .. }));
    let other = JoinLane { lane: LaneId([8; 16]), ..ticket(&store, 8) };
    assert!(matches!(store.join_lane(other).await, Ok(Joined::Yours)));
    let figures = store.lane_figures().await;
    assert_eq!((figures.lanes, figures.waiting, figures.longest), (2, 5, 5));
    let views = store.lanes(10).await.expect("the store works");
    assert_eq!((views.len(), views[0].waiting, &*views[0].about.key), (2, 5, "clinic 7"));
    leave(&store, 3).await;
    assert!(matches!(join(&store, 7).await, Joined::Waiting { ahead: 5, .. }), "a place was given up");
}

pub async fn joining_again_finds_its_place_or_its_turn(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    first(&store, 1).await;
    let place = behind(&store, 2).await;
    behind(&store, 3).await;
    assert!(matches!(join(&store, 2).await, Joined::Waiting { ahead: 1, .. }));
    leave(&store, 1).await;
    comes(&place).await;
    assert!(matches!(join(&store, 2).await, Joined::Yours));
}

pub async fn a_turn_in_which_nothing_was_sent_ends_with_its_lease(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let mut request = queued(&store, 1, 1);
    request.claim.lease = SHORT;
    assert!(matches!(store.claim(request).await, Ok(Claimed::Granted)));
    let mut short = ticket(&store, 1);
    short.join.lease = SHORT;
    assert!(matches!(store.join_lane(short).await, Ok(Joined::Yours)));
    let place = behind(&store, 2).await;
    comes(&place).await;
    assert_eq!(send(&store, 1, MINUTE).await, Held::No, "it hung, and must not send any more");
    assert_eq!(send(&store, 2, MINUTE).await, Held::Yes);
}

pub async fn a_renewed_claim_keeps_its_place(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    first(&store, 1).await;
    let mut request = queued(&store, 2, 2);
    request.claim.lease = SHORT;
    assert!(matches!(store.claim(request).await, Ok(Claimed::Granted)));
    let mut short = ticket(&store, 2);
    short.join.lease = SHORT;
    let Ok(Joined::Waiting { place, .. }) = store.join_lane(short).await else { panic!("it waits") };
    let renewed = store.renew_in_lane(id(2), Token(2), LANE, MINUTE).await;
    assert_eq!(renewed, Ok(Held::Yes));
    // Another place that began no earlier and was not renewed has lapsed: this one would have, too.
    let mut other = ticket(&store, 3);
    other.join.lease = SHORT;
    assert!(matches!(store.join_lane(other).await, Ok(Joined::Waiting { .. })));
    let until = store.now().after(SHORT);
    while store.now() < until {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(store.renew_in_lane(id(3), Token(3), LANE, MINUTE).await, Ok(Held::No));
    leave(&store, 1).await;
    comes(&place).await;
    assert_eq!(send(&store, 2, MINUTE).await, Held::Yes);
}

pub async fn what_was_sent_and_never_answered_keeps_the_lane_for_its_time_and_no_longer(
    backend: &impl Backend,
) {
    let store = backend.open(Limits::default());
    first(&store, 1).await;
    let place = behind(&store, 2).await;
    let sent = store.now();
    assert_eq!(send(&store, 1, SHORT).await, Held::Yes);
    assert_eq!(store.doubt(id(1), Token(1), Doubt::TimedOut).await, Ok(Held::Yes));
    comes(&place).await;
    assert!(store.now().since(sent) >= SHORT, "the backend may have been at it until then");
    assert_eq!(send(&store, 2, MINUTE).await, Held::Yes);
}

pub async fn a_further_attempt_holds_the_lane_anew(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    first(&store, 1).await;
    let place = behind(&store, 2).await;
    assert_eq!(send(&store, 1, SHORT).await, Held::Yes);
    assert_eq!(send(&store, 1, MINUTE).await, Held::Yes);
    let until = store.now().after(SHORT * 2);
    while store.now() < until {
        assert!(is_far(&place).await);
    }
    assert_eq!(leave(&store, 1).await, Held::Yes);
    comes(&place).await;
}

pub async fn a_place_that_copies_wait_for_is_kept_and_another_is_given_up(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    first(&store, 1).await;
    let awaited = behind(&store, 2).await;
    let alone = behind(&store, 3).await;
    let copy = match store.claim(queued(&store, 2, 12)).await {
        Ok(Claimed::InFlight(waiter)) => waiter,
        other => panic!("it is in flight, but: {other:?}"),
    };
    let give_up = |n: u8| store.give_up_unless_awaited(id(n), Token(u128::from(n)), LANE);
    assert_eq!(give_up(2).await, Ok(GivenUp::Awaited));
    assert_eq!(give_up(3).await, Ok(GivenUp::Yes));
    assert_eq!(give_up(3).await, Ok(GivenUp::Gone));
    assert!(is_far(&alone).await);
    leave(&store, 1).await;
    comes(&awaited).await;
    assert_eq!(send(&store, 2, MINUTE).await, Held::Yes);
    let made = answer(201, "made");
    let (end, held) = tokio::join!(copy.ended(PATIENCE), store.complete(completion(2, 2, made.clone())));
    assert_eq!(held, Ok(Held::Yes));
    let Some(AttemptEnd::Answered(got)) = end else { panic!("an answer was due, not {end:?}") };
    assert_eq!(got.as_bytes(), made.as_bytes());
    // Whoever was given up is a new intent, at the end of the queue.
    leave(&store, 2).await;
    first(&store, 3).await;
}

pub async fn waiters_of_many_lanes_and_threads_are_woken_in_order(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let order = std::sync::Mutex::new(Vec::new());
    first(&store, 1).await;
    let joined = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for n in 2..6 {
            let (store, order, joined) = (&store, &order, &joined);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let place = behind(store, n).await;
                    joined.wait();
                    comes(&place).await;
                    assert_eq!(send(store, n, MINUTE).await, Held::Yes);
                    order.lock().expect("nobody panicked").push(n);
                    assert_eq!(leave(store, n).await, Held::Yes);
                });
            });
            joined.wait();
        }
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async { assert_eq!(leave(&store, 1).await, Held::Yes) });
        });
    });
    assert_eq!(*order.lock().expect("nobody panicked"), [2, 3, 4, 5]);
}

#[tokio::test]
async fn a_restart_keeps_a_lane_closed_behind_what_was_sent_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Store::open(Limits::default().options(Place::Directory(dir.path().join("store"))));
    let hold = Duration::from_secs(2);
    let sent = {
        let store = open().expect("it opens");
        // Sent, answered, and the lane was given on: nothing of it stays.
        first(&store, 1).await;
        assert_eq!(send(&store, 1, MINUTE).await, Held::Yes);
        assert_eq!(store.complete(completion(1, 1, answer(201, "made"))).await, Ok(Held::Yes));
        // In another lane an attempt is at work when the process ends, and somebody waits behind it.
        claimed(&store, 2, 2).await;
        let busy = JoinLane { lane: LaneId([8; 16]), ..ticket(&store, 2) };
        assert!(matches!(store.join_lane(busy).await, Ok(Joined::Yours)));
        let sent = store.now();
        let held = store.send_in_turn(id(2), Token(2), LaneId([8; 16]), hold).await;
        assert_eq!(held, Ok(Held::Yes));
        sent
    };
    let store = open().expect("it opens again");
    let doubt = store.claim(claim(&store, 2, 20)).await;
    assert!(matches!(doubt, Ok(Claimed::InDoubt { why: Doubt::OwnerDied, .. })), "{doubt:?}");
    first(&store, 3).await;
    claimed(&store, 4, 4).await;
    let behind = JoinLane { lane: LaneId([8; 16]), ..ticket(&store, 4) };
    let Ok(Joined::Waiting { place, .. }) = store.join_lane(behind).await else {
        panic!("the backend may still be at it")
    };
    comes(&place).await;
    assert!(store.now().since(sent) >= hold);
}
