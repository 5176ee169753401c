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

/// Why `wanted` cannot be had by the attempt `by`, if it cannot: its slot's other holders at `now` leave no place.
pub fn refusal<'h>(
    holds: impl IntoIterator<Item = &'h Hold>,
    wanted: &Wanted,
    by: Token,
    now: Millis,
) -> Option<Taken> {
    if wanted.asleep {
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
        capacity: wanted.capacity,
        since: others.iter().map(|hold| hold.since).max().unwrap_or(now),
        until: if in_flight { None } else { ends.min() },
        state: others.iter().map(|hold| hold.state).min().unwrap_or(HoldState::Held),
        id: own.max_by_key(|(since, _)| *since).map(|(_, id)| id),
    })
}

/// What `step`, the ledger's answer to `command` on the record `before`, means for the places that the attempt of
/// `before` reserved. `None` for a command: only time passed.
///
/// A window's end, `End` and `Delete` change nothing: a slot's lifetime is not the replay window, and an answer that is
/// forgotten was given all the same.
pub fn fate<A>(before: &Record<A>, command: Option<&Command<A>>, step: &Step<A>) -> Fate {
    if matches!(step.outcome, Outcome::Applied)
        && let Some(command) = command
    {
        match command {
            Command::Complete { .. } if matches!(before.phase, Phase::Done { .. }) => return Fate::Stay,
            Command::Complete { .. } => return Fate::Answered,
            Command::Resolve { verdict: Verdict::Executed { .. }, .. } => return Fate::Answered,
            Command::Resolve { verdict: Verdict::NotExecuted, .. } | Command::Abandon { .. } => return Fate::Free,
            _ => {}
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
        Phase::Queued { token, .. } | Phase::Sent { token, .. } | Phase::InDoubt { token, .. } => Some(*token),
        Phase::Done { by, .. } => *by,
    }
}
