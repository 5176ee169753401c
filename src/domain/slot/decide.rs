//! Whether a slot can be had, and what becomes of the places that an attempt reserved.

use super::hold::{Hold, HoldState, Taken, Wanted};
use crate::domain::ledger::{Change, Command, Outcome, Phase, Record, Step, Token, Verdict};
use crate::domain::time::Millis;

/// What a step of an attempt's record means for the places that the attempt reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing changes.
    Stay,
    /// It is known that nothing was executed.
    Free,
    /// Since this instant nobody knows.
    Doubt(Millis),
    /// There is an answer; whether by it the places are held, its status says.
    Answered,
}

/// What a command says of its attempt's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    /// There is an answer.
    Answer,
    /// Nothing was executed.
    NotExecuted,
    /// Neither: only time may have passed.
    Time,
}

/// Why `wanted` cannot be had by the attempt `by`, if it cannot: its slot's other holders at `now` leave no place.
pub fn refusal<'h>(
    holds: impl IntoIterator<Item = &'h Hold>,
    wanted: &Wanted,
    by: Token,
    now: Millis,
) -> Option<Taken> {
    if wanted.asleep || wanted.looks {
        return None;
    }
    let replaced = wanted.instead_of.filter(|old| old.slot == wanted.slot).map(|old| old.token);
    let others: Vec<&Hold> = holds
        .into_iter()
        .filter(|hold| hold.token != by && Some(hold.token) != replaced && hold.occupies(now))
        .collect();
    if (others.len() as u64) < u64::from(wanted.capacity) {
        return None;
    }
    let own = others.iter().filter(|hold| hold.witness == wanted.witness);
    let own = own.filter_map(|hold| Some((hold.since, hold.booking.as_ref()?.id.clone())));
    let ends = others.iter().filter(|hold| hold.state != HoldState::Reserved).map(|hold| hold.until);
    let in_flight = others.iter().any(|hold| hold.state == HoldState::Reserved);
    Some(Taken {
        name: wanted.name.clone(),
        slot: wanted.slot,
        label: wanted.label.clone(),
        capacity: wanted.capacity,
        since: others.iter().map(|hold| hold.since).max().unwrap_or(now),
        until: if in_flight { None } else { ends.min() },
        state: others.iter().map(|hold| hold.state).min().unwrap_or(HoldState::Held),
        id: own.max_by_key(|(since, _)| *since).map(|(_, id)| id),
    })
}

/// What `step`, the ledger's answer to the command of which this was seen, on the record `before`, means for the places
/// that the attempt of `before` reserved.
///
/// A window's end, `End` and `Delete` change nothing: a slot's lifetime is not the replay window, and an answer that is
/// forgotten was given all the same.
pub fn fate<A>(before: &Record<A>, saw: Saw, step: &Step<A>) -> Fate {
    if matches!(step.outcome, Outcome::Applied) {
        match saw {
            // Repeated: what it did then is done.
            Saw::Answer if matches!(before.phase, Phase::Done { .. }) => return Fate::Stay,
            Saw::Answer => return Fate::Answered,
            Saw::NotExecuted => return Fate::Free,
            Saw::Time => {}
        }
    }
    let goes = match &step.change {
        Change::Keep => false,
        Change::Remove => true,
        // A claim that came after time had removed it.
        Change::Put(after) => attempt(&after.phase) != attempt(&before.phase),
    };
    match (&before.phase, &step.change) {
        (Phase::Queued { .. }, _) if goes => Fate::Free,
        (Phase::Sent { lease_until, .. }, _) if goes => Fate::Doubt(*lease_until),
        (Phase::Sent { .. }, Change::Put(Record { phase: Phase::InDoubt { since, .. }, .. })) => {
            Fate::Doubt(*since)
        }
        _ => Fate::Stay,
    }
}

/// The attempt that a record is about.
fn attempt<A>(phase: &Phase<A>) -> Option<Token> {
    match phase {
        Phase::Queued { token, .. } | Phase::Sent { token, .. } | Phase::InDoubt { token, .. } => {
            Some(*token)
        }
        Phase::Done { by, .. } => *by,
    }
}

// === impl Saw ===

impl<A> From<&Command<A>> for Saw {
    fn from(command: &Command<A>) -> Saw {
        match command {
            Command::Complete { .. } | Command::Resolve { verdict: Verdict::Executed { .. }, .. } => {
                Saw::Answer
            }
            Command::Abandon { .. } | Command::Resolve { verdict: Verdict::NotExecuted, .. } => {
                Saw::NotExecuted
            }
            Command::Claim(_)
            | Command::MarkSent { .. }
            | Command::Renew { .. }
            | Command::Doubt { .. }
            | Command::End { .. }
            | Command::OwnersDied { .. }
            | Command::Delete => Saw::Time,
        }
    }
}
