//! Planted bugs: a store of slots that is wrong in one way each.

use super::Violation::{self, *};
use super::store::Machine;
use oncegate::domain::ledger::{Phase, Record, Step};
use oncegate::domain::slot::{self, End, Fate, Hold, HoldState, Saw};

const REAL: Machine = Machine::REAL;

/// Every planted bug, and as what it has to be caught.
pub const ALL: &[(&str, Machine, Violation)] = &[
    (
        "one place more than the capacity",
        Machine {
            refusal: |holds, wanted, by, now| {
                let one_more = slot::Wanted { capacity: wanted.capacity + 1, ..wanted.clone() };
                slot::refusal(holds.iter().copied(), &one_more, by, now)
            },
            ..REAL
        },
        BookedTooOften,
    ),
    (
        "what is reserved takes no place",
        Machine {
            refusal: |holds, wanted, by, now| {
                let firm = holds.iter().copied().filter(|hold| hold.state != HoldState::Reserved);
                slot::refusal(firm, wanted, by, now)
            },
            ..REAL
        },
        BookedTooOften,
    ),
    (
        "what is unsettled takes no place",
        Machine {
            refusal: |holds, wanted, by, now| {
                let firm = holds.iter().copied().filter(|hold| hold.state != HoldState::Unsettled);
                slot::refusal(firm, wanted, by, now)
            },
            ..REAL
        },
        BookedTooOften,
    ),
    (
        "what is released takes a place",
        Machine {
            refusal: |holds, wanted, by, now| {
                let awake: Vec<Hold> = holds
                    .iter()
                    .map(|hold| match hold.state {
                        HoldState::Released => Hold { state: HoldState::Held, ..(*hold).clone() },
                        _ => (*hold).clone(),
                    })
                    .collect();
                slot::refusal(&awake, wanted, by, now)
            },
            ..REAL
        },
        RefusedForNothing,
    ),
    (
        "a booking is named to everybody",
        Machine {
            refusal: |holds, wanted, by, now| {
                let own: Vec<Hold> =
                    holds.iter().map(|hold| Hold { witness: wanted.witness, ..(*hold).clone() }).collect();
                slot::refusal(&own, wanted, by, now)
            },
            ..REAL
        },
        ToldAStranger,
    ),
    ("a doubt frees", Machine { fate: doubt_frees, ..REAL }, BookedTooOften),
    ("what was not executed stays", Machine { fate: never_frees, ..REAL }, RefusedForNothing),
    ("what was queued stays when its lease ends", Machine { fate: queued_stays, ..REAL }, RefusedForNothing),
    (
        "a 5xx counts as nothing",
        Machine {
            settled: |hold, end, booking, now| match end {
                End::Held => hold.settled(end, booking, now),
                End::Unsettled => hold.released(now),
            },
            ..REAL
        },
        BookedTooOften,
    ),
    (
        "a success forgets which booking it is",
        Machine {
            settled: |hold, end, _, now| Hold { booking: None, ..hold.settled(end, None, now) },
            ..REAL
        },
        NotHeld,
    ),
    ("some of several slots are taken", Machine { takes_some: true, ..REAL }, BookedTooOften),
    (
        "the old slot is free before the new one is had",
        Machine { frees_before_it_moves: true, ..REAL },
        NotHeld,
    ),
    (
        "a change does not look whether the booking is as it was seen",
        Machine { moves_blindly: true, ..REAL },
        HeldForNothing,
    ),
    ("the old slot stays after a move", Machine { keeps_the_old: true, ..REAL }, HeldForNothing),
    (
        "a change that leaves the slot as it is lets others change it",
        Machine { lets_others_change: true, ..REAL },
        BookedTooOften,
    ),
    ("a release frees the slot and not the booking", Machine { frees_the_slot: true, ..REAL }, NotHeld),
    (
        "whatever holds the slot of a booking that is gone is given back",
        Machine { vacates_the_slot: true, ..REAL },
        NotHeld,
    ),
    (
        "what the backend does not know yet is given back",
        Machine { vacates_the_unsettled: true, ..REAL },
        BookedTooOften,
    ),
    ("the window's end frees the slot", Machine { window_frees: true, ..REAL }, NotHeld),
];

fn doubt_frees(before: &Record<u16>, saw: Saw, step: &Step<u16>) -> Fate {
    match slot::fate(before, saw, step) {
        Fate::Doubt(_) => Fate::Free,
        fate => fate,
    }
}

fn never_frees(before: &Record<u16>, saw: Saw, step: &Step<u16>) -> Fate {
    match slot::fate(before, saw, step) {
        Fate::Free => Fate::Stay,
        fate => fate,
    }
}

fn queued_stays(before: &Record<u16>, saw: Saw, step: &Step<u16>) -> Fate {
    match slot::fate(before, saw, step) {
        Fate::Free if saw == Saw::Time && matches!(before.phase, Phase::Queued { .. }) => Fate::Stay,
        fate => fate,
    }
}
