//! Planted bugs: lanes and gateways that are wrong in one way each.

use super::oracle::Violation::{self, *};
use super::world::{PAUSE, TIMEOUT};
use oncegate::domain::lane::{Command, Ends, Join, Lane, Outcome, Step};
use oncegate::domain::time::Millis;
use std::time::Duration;

type Apply = fn(&mut Lane, Command, Millis) -> Step;

/// What a history runs on.
#[derive(Clone, Copy)]
pub struct Machine {
    /// The lane's step function.
    pub apply: Apply,
    /// How long a turn is held for what was sent in it.
    pub hold: Duration,
    /// Sends although the store refused.
    pub sends_when_refused: bool,
    /// Sends however long ago it was allowed to.
    pub sends_late: bool,
    /// Gives the turn on although the backend may still be at it.
    pub leaves_in_doubt: bool,
    /// Makes a further attempt without holding the turn anew.
    pub again_without_marking: bool,
}

impl Machine {
    /// The lane as it is, and gateways that keep its rules.
    pub const REAL: Machine = Machine {
        apply: Lane::apply,
        hold: TIMEOUT.saturating_add(PAUSE),
        sends_when_refused: false,
        sends_late: false,
        leaves_in_doubt: false,
        again_without_marking: false,
    };

    const fn with(apply: Apply) -> Machine {
        Machine { apply, ..Machine::REAL }
    }
}

/// Every planted bug: what it does wrong, and as what it has to be caught.
pub const ALL: &[(&str, Machine, Violation)] = &[
    ("a sent turn ends with its lease", Machine::with(sent_ends_with_lease), Overtaken),
    ("anybody may send", Machine::with(anybody_sends), Overlap),
    ("anybody's leaving gives the turn on", Machine::with(anybody_gives_on), Overtaken),
    ("the last comes first", Machine::with(last_comes_first), Overtaken),
    ("a newcomer goes to the front", Machine::with(front), Overtaken),
    ("the dead get turns", Machine::with(dead_get_turns), Overtaken),
    ("the turn is not given on", Machine::with(not_given_on), TurnLost),
    ("a turn ends only by leaving", Machine::with(never_ends), Overtaken),
    ("the queue has no bound", Machine::with(unbounded), QueueOverflow),
    ("lapsed places count", Machine::with(lapsed_count), RoomDenied),
    ("renew shortens", Machine::with(renew_shortens), Overtaken),
    ("renew forgets the turn", Machine::with(renew_forgets_turn), PlaceLost),
    ("a further send holds no longer", Machine::with(send_shortens), Overtaken),
    ("hold forgets the pause", Machine { hold: TIMEOUT, ..Machine::REAL }, Overlap),
    ("gateway: sends although refused", Machine { sends_when_refused: true, ..Machine::REAL }, Overlap),
    ("gateway: sends late", Machine { sends_late: true, ..Machine::REAL }, Overlap),
    ("gateway: leaves while in doubt", Machine { leaves_in_doubt: true, ..Machine::REAL }, Overlap),
    (
        "gateway: once more without holding the turn",
        Machine { again_without_marking: true, ..Machine::REAL },
        Overlap,
    ),
];

fn sent_ends_with_lease(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let step = lane.apply(command, now);
    if let (Command::Send { .. }, Some(turn)) = (command, &mut lane.turn) {
        turn.ends = Ends::At(now.after(Duration::from_millis(100)));
    }
    step
}

fn anybody_sends(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let step = lane.apply(command, now);
    match command {
        Command::Send { .. } => Step { outcome: Outcome::Applied, ..step },
        _ => step,
    }
}

fn anybody_gives_on(lane: &mut Lane, command: Command, now: Millis) -> Step {
    match (command, lane.turn) {
        (Command::Leave { token }, Some(turn)) if turn.token != token => {
            lane.apply(command, now);
            lane.apply(Command::Leave { token: turn.token }, now)
        }
        _ => lane.apply(command, now),
    }
}

fn last_comes_first(lane: &mut Lane, command: Command, now: Millis) -> Step {
    if matches!(command, Command::Join(_)) {
        return lane.apply(command, now);
    }
    lane.waiting.make_contiguous().reverse();
    let step = lane.apply(command, now);
    lane.waiting.make_contiguous().reverse();
    step
}

fn front(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let before = lane.waiting.len();
    let step = lane.apply(command, now);
    if matches!(command, Command::Join(_)) && lane.waiting.len() > before {
        lane.waiting.rotate_right(1);
    }
    step
}

fn dead_get_turns(lane: &mut Lane, command: Command, now: Millis) -> Step {
    for place in &mut lane.waiting {
        place.lease_until = place.lease_until.max(Millis(now.0 + 1));
    }
    lane.apply(command, now)
}

fn not_given_on(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let holder = lane.turn.map(|turn| turn.token);
    let step = lane.apply(command, now);
    if matches!(command, Command::Leave { token } if Some(token) == holder)
        && let Some(turn) = lane.turn.take()
    {
        lane.waiting.push_front(oncegate::domain::lane::Place {
            token: turn.token,
            owner: turn.owner,
            joined_at: now,
            lease_until: turn.deadline(),
        });
    }
    step
}

fn never_ends(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let before = lane.turn.map_or(now, |turn| now.min(Millis(turn.deadline().0.saturating_sub(1))));
    lane.apply(command, before)
}

fn unbounded(lane: &mut Lane, command: Command, now: Millis) -> Step {
    match command {
        Command::Join(join) => lane.apply(Command::Join(Join { queue_max: u32::MAX, ..join }), now),
        _ => lane.apply(command, now),
    }
}

fn lapsed_count(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let waiting = lane.waiting.len();
    match command {
        Command::Join(join)
            if lane.turn.is_some_and(|turn| now < turn.deadline() && turn.token != join.token)
                && waiting >= join.queue_max as usize
                && lane.waiting.iter().all(|place| place.token != join.token) =>
        {
            Step { outcome: Outcome::Full { last_wait: lane.last_wait }, next: None }
        }
        _ => lane.apply(command, now),
    }
}

fn renew_shortens(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let step = lane.apply(command, now);
    if let Command::Renew { token, lease } = command {
        let until = now.after(lease / 4);
        for place in lane.waiting.iter_mut().filter(|place| place.token == token) {
            place.lease_until = until;
        }
    }
    step
}

fn renew_forgets_turn(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let step = lane.apply(command, now);
    match (command, lane.turn) {
        (Command::Renew { token, .. }, Some(turn)) if turn.token == token => {
            Step { outcome: Outcome::Refused, ..step }
        }
        _ => step,
    }
}

fn send_shortens(lane: &mut Lane, command: Command, now: Millis) -> Step {
    let further = lane.turn.is_some_and(|turn| matches!(turn.ends, Ends::At(_)));
    let before = lane.turn.map(|turn| turn.ends);
    let step = lane.apply(command, now);
    if let (Command::Send { .. }, true, Some(ends), Some(turn)) = (command, further, before, &mut lane.turn) {
        turn.ends = ends;
    }
    step
}
