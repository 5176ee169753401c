//! What a lane does, step by step; and what holds for every command at every instant.

use super::*;
use proptest::prelude::*;

const LEASE: Duration = Duration::from_millis(100);
const HOLD: Duration = Duration::from_millis(500);

fn join(token: u128) -> Command {
    Command::Join(Join { token: Token(token), owner: Owner(1), lease: LEASE, queue_max: 3 })
}

fn send(token: u128) -> Command {
    Command::Send { token: Token(token), hold: HOLD }
}

fn leave(token: u128) -> Command {
    Command::Leave { token: Token(token) }
}

fn renew(token: u128) -> Command {
    Command::Renew { token: Token(token), lease: LEASE }
}

/// Carries out `command` at `now` milliseconds.
fn at(lane: &mut Lane, now: u64, command: Command) -> (Outcome, Option<u128>) {
    let step = lane.apply(command, Millis(now));
    (step.outcome, step.next.map(|token| token.0))
}

#[test]
fn turns_are_given_in_the_order_of_joining() {
    let mut lane = Lane::default();
    assert_eq!(at(&mut lane, 0, join(1)), (Outcome::Yours, None));
    assert_eq!(at(&mut lane, 1, join(2)), (Outcome::Waiting { ahead: 1 }, None));
    assert_eq!(at(&mut lane, 2, join(3)), (Outcome::Waiting { ahead: 2 }, None));
    assert_eq!(at(&mut lane, 3, leave(1)), (Outcome::Applied, Some(2)));
    assert_eq!(lane.last_wait, Duration::from_millis(2));
    assert_eq!(at(&mut lane, 4, leave(2)), (Outcome::Applied, Some(3)));
    assert_eq!(at(&mut lane, 5, leave(3)), (Outcome::Applied, None));
    assert!(lane.is_empty());
}

#[test]
fn the_queue_is_bounded_and_places_that_lapsed_keep_nobody_out() {
    let mut lane = Lane::default();
    for token in 1..=4 {
        at(&mut lane, 0, join(token));
    }
    assert_eq!(at(&mut lane, 1, send(1)), (Outcome::Applied, None));
    assert!(matches!(at(&mut lane, 2, join(5)), (Outcome::Full { .. }, None)));
    assert_eq!(at(&mut lane, 50, renew(3)), (Outcome::Applied, None));
    assert_eq!(at(&mut lane, 100, join(5)), (Outcome::Waiting { ahead: 2 }, None), "2 and 4 lapsed");
    assert_eq!(at(&mut lane, 101, renew(2)), (Outcome::Refused, None));
}

#[test]
fn a_turn_in_which_nothing_was_sent_ends_with_its_lease() {
    let mut lane = Lane::default();
    at(&mut lane, 0, join(1));
    at(&mut lane, 10, join(2));
    assert_eq!(at(&mut lane, 99, Command::Settle), (Outcome::Applied, None));
    assert_eq!(at(&mut lane, 100, Command::Settle), (Outcome::Applied, Some(2)));
    assert_eq!(at(&mut lane, 101, send(1)), (Outcome::Refused, None), "it hung, and must not send any more");
    assert_eq!(at(&mut lane, 102, send(2)), (Outcome::Applied, None));
}

#[test]
fn a_turn_in_which_something_was_sent_outlives_its_lease() {
    let mut lane = Lane::default();
    at(&mut lane, 0, join(1));
    at(&mut lane, 10, send(1));
    at(&mut lane, 20, join(2));
    at(&mut lane, 60, renew(2));
    for now in (100..510).step_by(50) {
        assert_eq!(at(&mut lane, now, renew(2)), (Outcome::Applied, None));
    }
    assert_eq!(at(&mut lane, 509, Command::Settle), (Outcome::Applied, None));
    assert_eq!(at(&mut lane, 510, Command::Settle), (Outcome::Applied, Some(2)));
}

#[test]
fn each_further_attempt_of_a_turn_holds_it_anew() {
    let mut lane = Lane::default();
    at(&mut lane, 0, join(1));
    at(&mut lane, 10, send(1));
    assert_eq!(at(&mut lane, 300, send(1)), (Outcome::Applied, None));
    assert_eq!(lane.next_deadline(), Some(Millis(800)));
}

#[test]
fn a_dead_waiter_is_passed_over() {
    let mut lane = Lane::default();
    at(&mut lane, 0, join(1));
    at(&mut lane, 0, join(2));
    at(&mut lane, 0, join(3));
    at(&mut lane, 50, send(1));
    at(&mut lane, 60, renew(3));
    assert_eq!(at(&mut lane, 120, leave(1)), (Outcome::Applied, Some(3)));
    assert_eq!(at(&mut lane, 121, join(2)), (Outcome::Waiting { ahead: 1 }, None), "back, and behind");
}

#[test]
fn commands_that_arrive_twice_or_late_change_nothing() {
    let mut lane = Lane::default();
    at(&mut lane, 0, join(1));
    at(&mut lane, 0, join(2));
    assert_eq!(at(&mut lane, 1, join(2)), (Outcome::Waiting { ahead: 1 }, None));
    assert_eq!(at(&mut lane, 2, join(1)), (Outcome::Yours, None));
    at(&mut lane, 3, leave(1));
    let settled = lane.clone();
    for late in [leave(1), send(1), renew(1)] {
        assert_eq!(at(&mut lane, 4, late), (Outcome::Refused, None));
    }
    assert_eq!(lane, settled);
    assert_eq!(at(&mut lane, 5, join(2)), (Outcome::Yours, None), "the reply to its turn was lost");
}

#[test]
fn who_got_the_turn_by_time_and_leaves_at_once_gives_it_on() {
    let mut lane = Lane::default();
    at(&mut lane, 0, join(1));
    at(&mut lane, 50, join(2));
    at(&mut lane, 60, join(3));
    assert_eq!(at(&mut lane, 110, leave(2)), (Outcome::Applied, Some(3)));
}

// === laws ===

fn commands() -> impl Strategy<Value = Command> {
    let token = (0u128..5).prop_map(Token);
    let time = (0u64..200).prop_map(Duration::from_millis);
    prop_oneof![
        4 => (token.clone(), time.clone(), 0u32..4).prop_map(|(token, lease, queue_max)| {
            Command::Join(Join { token, owner: Owner(1), lease, queue_max })
        }),
        2 => (token.clone(), time.clone()).prop_map(|(token, lease)| Command::Renew { token, lease }),
        2 => (token.clone(), time).prop_map(|(token, hold)| Command::Send { token, hold }),
        3 => token.prop_map(|token| Command::Leave { token }),
        1 => Just(Command::Settle),
    ]
}

proptest! {
    #[test]
    fn the_turn_is_one_and_is_never_lost(history in proptest::collection::vec((0u64..60, commands()), 1..40)) {
        let (mut lane, mut now) = (Lane::default(), Millis(1_000));
        for (pause, command) in history {
            now = now.after(Duration::from_millis(pause));
            let before = lane.clone();
            let step = lane.apply(command, now);
            // Nobody who still waits is left without somebody before them.
            let waits = lane.waiting.iter().any(|place| now < place.lease_until);
            prop_assert!(lane.turn.is_some() || !waits);
            // A turn ends by its holder or by time, never by anybody else.
            if let Some(turn) = before.turn {
                let kept = lane.turn.is_some_and(|now| now.token == turn.token);
                let left = command == Command::Leave { token: turn.token };
                prop_assert!(kept || left || now >= turn.deadline());
            }
            // Whoever got it is told, or is the caller.
            let changed = lane.turn.map(|turn| turn.token) != before.turn.map(|turn| turn.token);
            if let (true, Some(turn)) = (changed, lane.turn) {
                prop_assert!(step.outcome == Outcome::Yours || step.next == Some(turn.token));
            }
            // Nobody waits twice, or waits for themselves.
            for (at, place) in lane.waiting.iter().enumerate() {
                prop_assert!(lane.waiting.iter().skip(at + 1).all(|other| other.token != place.token));
                prop_assert!(lane.turn.is_none_or(|turn| turn.token != place.token));
            }
            // Those who stay keep their order.
            let stayed: Vec<_> = before.waiting.iter().map(|place| place.token)
                .filter(|token| lane.waiting.iter().any(|place| place.token == *token)).collect();
            let now_waiting: Vec<_> = lane.waiting.iter().map(|place| place.token)
                .filter(|token| stayed.contains(token)).collect();
            let requeued = matches!(command, Command::Join(_));
            prop_assert!(requeued || stayed == now_waiting);
        }
    }
}
