//! Planted bugs: step functions and gateways that are wrong in one way each. The simulation has to see every one.

use super::oracle::Violation::*;
use super::oracle::{Body, Violation};
use oncegate::domain::ledger::{self, Change, Command, Outcome, Phase, Record, Step, Verdict};
use oncegate::domain::time::Millis;

/// The ledger's step function.
type Apply = fn(Option<&Record<Body>>, Command<Body>, Millis) -> Step<Body>;

/// What a history runs on: a step function, and the habits of the gateways around it.
#[derive(Clone, Copy)]
pub struct Machine {
    /// The step function.
    pub apply: Apply,
    /// Takes a 5xx for "not executed".
    pub frees_on_5xx: bool,
    /// Takes a lost connection for "not executed".
    pub frees_on_reset: bool,
    /// Sends once more after a 5xx that proves nothing.
    pub retries_on_5xx: bool,
    /// Sends once more although the claim has ended.
    pub retries_when_refused: bool,
    /// Sends although the store refused to mark it sent.
    pub sends_when_refused: bool,
    /// Sends without marking it sent.
    pub sends_unmarked: bool,
    /// Hands out its own answer although the store refused to record it.
    pub answers_when_refused: bool,
    /// Ends the target's other intents again when a completion is repeated.
    pub ends_again: bool,
}

// === impl Machine ===

impl Machine {
    /// The ledger as it is, and gateways that keep its rules.
    pub const REAL: Machine = Machine {
        apply: ledger::apply,
        frees_on_5xx: false,
        frees_on_reset: false,
        retries_on_5xx: false,
        retries_when_refused: false,
        sends_when_refused: false,
        sends_unmarked: false,
        answers_when_refused: false,
        ends_again: false,
    };

    const fn with(apply: Apply) -> Machine {
        Machine { apply, ..Machine::REAL }
    }
}

/// Every planted bug: what it does wrong, and as what it has to be caught.
pub const ALL: &[(&str, Machine, Violation)] = &[
    ("a lease's end frees the record", Machine::with(lease_end_frees), SecondAttempt),
    (
        "a lease's end is a doubt since it was noticed",
        Machine::with(doubt_dated_by_discovery),
        IntentSwallowed,
    ),
    ("commands go before time", Machine::with(commands_go_before_time), SentAfterLease),
    ("a claim on a doubt is granted", Machine::with(claim_on_doubt_grants), SecondAttempt),
    (
        "another meaning gets the recorded answer",
        Machine::with(other_meaning_gets_the_answer),
        MeaningMixedUp,
    ),
    ("another meaning waits for the one in flight", Machine::with(other_meaning_waits), MeaningMixedUp),
    ("meanings are compared across policies", Machine::with(compares_across_policies), MeaningMixedUp),
    ("a repeated claim waits for itself", Machine::with(repeated_claim_waits), HolderRefused),
    ("any repeated claim is granted", Machine::with(any_claim_in_flight_is_granted), SecondAttempt),
    ("mark-sent succeeds after the lease", Machine::with(mark_sent_after_lease), SentAfterLease),
    ("mark-sent ignores the token", Machine::with(mark_sent_ignores_token), SentAfterLease),
    ("renew brings a doubt back to life", Machine::with(renew_revives), StrangerObeyed),
    ("renew shortens", Machine::with(renew_shortens), HolderRefused),
    ("complete ignores the token", Machine::with(complete_ignores_token), StrangerObeyed),
    ("a late answer is refused", Machine::with(late_answer_refused), HolderRefused),
    ("a later answer overwrites", Machine::with(later_answer_overwrites), StrangerObeyed),
    ("a repeated completion is refused", Machine::with(repeated_completion_refused), HolderRefused),
    ("the window counts from the claim", Machine::with(window_from_claim), SecondAttempt),
    ("a completed intent stays although it was ended", Machine::with(ended_is_forgotten), IntentSwallowed),
    ("abandon ignores the token", Machine::with(abandon_ignores_token), StrangerObeyed),
    ("doubt frees", Machine::with(doubt_frees), DoubtLost),
    ("resolve ignores which attempt was looked at", Machine::with(resolve_ignores_token), StrangerObeyed),
    ("resolve settles an attempt at work", Machine::with(resolve_in_flight), LiveAttemptTouched),
    (
        "a late attempt takes an operator's answer for its own",
        Machine::with(resolved_as_if_completed),
        StrangerObeyed,
    ),
    ("end ends a key", Machine::with(end_ends_keyed), AnswerLost),
    ("end ends what was queued", Machine::with(end_ends_queued), WrongState),
    ("end frees what is in flight", Machine::with(end_frees_in_flight), DoubtLost),
    ("end frees a doubt", Machine::with(end_frees_doubt), DoubtLost),
    ("end passes a doubt by", Machine::with(end_passes_a_doubt_by), IntentSwallowed),
    ("end does nothing", Machine::with(end_does_nothing), IntentSwallowed),
    ("a dead owner's sent record is freed", Machine::with(owners_died_frees_sent), DoubtLost),
    ("a dead owner's sent record waits for its lease", Machine::with(owners_died_waits), WaitForNobody),
    ("delete frees an attempt at work", Machine::with(delete_in_flight), LiveAttemptTouched),
    ("gateway: a 5xx counts as not executed", Machine { frees_on_5xx: true, ..Machine::REAL }, DoubtLost),
    ("gateway: a reset counts as not executed", Machine { frees_on_reset: true, ..Machine::REAL }, DoubtLost),
    ("gateway: retries a 5xx", Machine { retries_on_5xx: true, ..Machine::REAL }, TwoEffects),
    (
        "gateway: retries although refused",
        Machine { retries_when_refused: true, ..Machine::REAL },
        ByteWithoutRight,
    ),
    (
        "gateway: sends although refused",
        Machine { sends_when_refused: true, ..Machine::REAL },
        ByteWithoutRight,
    ),
    ("gateway: sends without marking", Machine { sends_unmarked: true, ..Machine::REAL }, ByteWithoutRight),
    (
        "gateway: answers although refused",
        Machine { answers_when_refused: true, ..Machine::REAL },
        AnswerChanged,
    ),
    ("store: a repeated completion ends again", Machine { ends_again: true, ..Machine::REAL }, AnswerLost),
];

// Short names for what every bug works with.
type Stored<'r> = Option<&'r Record<Body>>;

/// The record as time has left it, for bugs that look at its phase.
fn aged(record: Stored<'_>, now: Millis) -> Option<Record<Body>> {
    let record = record?;
    match ledger::settle(record, now) {
        Change::Keep => Some(record.clone()),
        Change::Put(record) => Some(record),
        Change::Remove => None,
    }
}

fn outcome(outcome: Outcome<Body>) -> Step<Body> {
    Step { change: Change::Keep, outcome }
}

fn removed() -> Step<Body> {
    Step { change: Change::Remove, outcome: Outcome::Applied }
}

fn put(record: &Record<Body>, phase: Phase<Body>) -> Step<Body> {
    Step { change: Change::Put(Record { phase, ..record.clone() }), outcome: Outcome::Applied }
}

fn lease_end_frees(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let lapsed = |record: &&Record<Body>| record.in_flight() && now >= record.next_deadline();
    let stays = record.filter(|record| !lapsed(record));
    match ledger::apply(stays, command, now) {
        Step { change: Change::Keep, outcome } if stays.is_none() => Step { change: Change::Remove, outcome },
        step => step,
    }
}

fn doubt_dated_by_discovery(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match record.map(|record| (record, &record.phase)) {
        Some((record, Phase::Sent { lease_until, .. })) if now >= *lease_until => {
            let mut late = record.clone();
            if let Phase::Sent { lease_until, .. } = &mut late.phase {
                *lease_until = now;
            }
            ledger::apply(Some(&late), command, now)
        }
        _ => ledger::apply(record, command, now),
    }
}

fn commands_go_before_time(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let before = record.map_or(now, |record| Millis(record.next_deadline().0.saturating_sub(1)).min(now));
    ledger::apply(record, command, before)
}

fn claim_on_doubt_grants(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let aged = aged(record, now);
    match (&command, aged.as_ref().map(|record| &record.phase)) {
        (Command::Claim(_), Some(Phase::InDoubt { .. })) => ledger::apply(None, command, now),
        _ => ledger::apply(record, command, now),
    }
}

/// Claims as if their meaning were the record's, in the phases that `forgets` picks.
fn forget_meaning(
    record: Stored<'_>,
    mut command: Command<Body>,
    now: Millis,
    forgets: fn(&Phase<Body>) -> bool,
) -> Step<Body> {
    if let (Command::Claim(claim), Some(record)) = (&mut command, aged(record, now))
        && forgets(&record.phase)
    {
        claim.fingerprint = record.fingerprint;
    }
    ledger::apply(record, command, now)
}

fn other_meaning_gets_the_answer(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    forget_meaning(record, command, now, |phase| matches!(phase, Phase::Done { .. }))
}

fn other_meaning_waits(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    forget_meaning(record, command, now, |phase| matches!(phase, Phase::Queued { .. } | Phase::Sent { .. }))
}

fn compares_across_policies(record: Stored<'_>, mut command: Command<Body>, now: Millis) -> Step<Body> {
    if let (Command::Claim(claim), Some(record)) = (&mut command, aged(record, now)) {
        claim.policy = record.policy;
    }
    ledger::apply(record, command, now)
}

fn repeated_claim_waits(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let step = ledger::apply(record, command.clone(), now);
    match (command, aged(record, now)) {
        (Command::Claim(claim), Some(record)) if step.outcome == Outcome::Granted => {
            outcome(Outcome::InFlight { token: claim.token, since: record.claimed_at, ended: record.ended })
        }
        _ => step,
    }
}

fn any_claim_in_flight_is_granted(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let step = ledger::apply(record, command, now);
    match step.outcome {
        Outcome::InFlight { .. } => Step { outcome: Outcome::Granted, ..step },
        _ => step,
    }
}

fn mark_sent_after_lease(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match (&command, record.map(|record| &record.phase)) {
        (Command::MarkSent { .. }, Some(Phase::Queued { lease_until, .. })) => {
            ledger::apply(record, command, now.min(Millis(lease_until.0 - 1)))
        }
        _ => ledger::apply(record, command, now),
    }
}

/// The token of whoever holds the record, in any phase.
fn holder(record: Stored<'_>) -> Option<ledger::Token> {
    match record?.phase {
        Phase::Queued { token, .. } | Phase::Sent { token, .. } | Phase::InDoubt { token, .. } => Some(token),
        Phase::Done { by, .. } => by,
    }
}

fn mark_sent_ignores_token(record: Stored<'_>, mut command: Command<Body>, now: Millis) -> Step<Body> {
    if let (Command::MarkSent { token }, Some(holder)) = (&mut command, holder(record)) {
        *token = holder;
    }
    ledger::apply(record, command, now)
}

fn renew_revives(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    if let (Command::Renew { token, lease }, Some(aged)) = (&command, aged(record, now))
        && let Phase::InDoubt { token: holder, since, .. } = aged.phase
        && holder == *token
    {
        let phase = Phase::Sent {
            token: holder,
            owner: ledger::Owner(0),
            lease_until: now.after(*lease),
            sent_at: since,
        };
        return put(&aged, phase);
    }
    ledger::apply(record, command, now)
}

fn renew_shortens(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let mut step = ledger::apply(record, command.clone(), now);
    if let (Command::Renew { lease, .. }, Change::Put(record)) = (command, &mut step.change)
        && let Phase::Queued { lease_until, .. } | Phase::Sent { lease_until, .. } = &mut record.phase
    {
        *lease_until = now.after(lease);
    }
    step
}

fn complete_ignores_token(record: Stored<'_>, mut command: Command<Body>, now: Millis) -> Step<Body> {
    if let (Command::Complete { token, .. }, Some(holder)) = (&mut command, holder(record)) {
        *token = holder;
    }
    ledger::apply(record, command, now)
}

fn late_answer_refused(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let aged = aged(record, now);
    match (&command, aged.as_ref().map(|record| &record.phase)) {
        (Command::Complete { .. }, Some(Phase::InDoubt { .. })) => outcome(Outcome::Refused),
        _ => ledger::apply(record, command, now),
    }
}

fn later_answer_overwrites(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    if let (Command::Complete { token, answer, .. }, Some(aged)) = (&command, aged(record, now))
        && let Phase::Done { done_at, until, .. } = aged.phase
    {
        return put(&aged, Phase::Done { answer: *answer, by: Some(*token), done_at, until });
    }
    ledger::apply(record, command, now)
}

fn repeated_completion_refused(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let aged = aged(record, now);
    match (&command, aged.as_ref().map(|record| &record.phase)) {
        (Command::Complete { .. }, Some(Phase::Done { .. })) => outcome(Outcome::Refused),
        _ => ledger::apply(record, command, now),
    }
}

fn window_from_claim(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let mut step = ledger::apply(record, command.clone(), now);
    if let (Command::Complete { keep, .. }, Change::Put(record)) = (command, &mut step.change) {
        let from_claim = record.claimed_at.after(keep);
        if let Phase::Done { until, .. } = &mut record.phase {
            *until = from_claim;
        }
    }
    step
}

fn ended_is_forgotten(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let unended = record.map(|record| Record { ended: false, ..record.clone() });
    match command {
        Command::Complete { .. } => ledger::apply(unended.as_ref(), command, now),
        _ => ledger::apply(record, command, now),
    }
}

fn abandon_ignores_token(record: Stored<'_>, mut command: Command<Body>, now: Millis) -> Step<Body> {
    if let (Command::Abandon { token }, Some(holder)) = (&mut command, holder(record)) {
        *token = holder;
    }
    ledger::apply(record, command, now)
}

fn doubt_frees(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match command {
        Command::Doubt { token, .. } => ledger::apply(record, Command::Abandon { token }, now),
        _ => ledger::apply(record, command, now),
    }
}

fn resolve_ignores_token(record: Stored<'_>, mut command: Command<Body>, now: Millis) -> Step<Body> {
    if let Command::Resolve { token, .. } = &mut command {
        *token = None;
    }
    ledger::apply(record, command, now)
}

fn resolve_in_flight(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match (&command, record.map(|record| &record.phase)) {
        (Command::Resolve { verdict: Verdict::NotExecuted, .. }, Some(Phase::Sent { .. })) => removed(),
        _ => ledger::apply(record, command, now),
    }
}

fn resolved_as_if_completed(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let holder = holder(record);
    let mut step = ledger::apply(record, command.clone(), now);
    if let (Command::Resolve { .. }, Change::Put(record)) = (command, &mut step.change)
        && let Phase::Done { by, .. } = &mut record.phase
    {
        *by = holder;
    }
    step
}

/// Handles `End` as if the record were another one, then gives it back its own marks.
fn end_ends_keyed(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    let Command::End { .. } = command else { return ledger::apply(record, command, now) };
    let keyless = record.map(|record| Record { keyed: false, ..record.clone() });
    ledger::apply(keyless.as_ref(), command, now)
}

fn end_ends_queued(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match (&command, aged(record, now)) {
        (Command::End { by }, Some(record))
            if !record.keyed
                && *by != Some(record.fingerprint)
                && matches!(record.phase, Phase::Queued { .. }) =>
        {
            Step { change: Change::Put(Record { ended: true, ..record }), outcome: Outcome::Applied }
        }
        _ => ledger::apply(record, command, now),
    }
}

fn end_frees_in_flight(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match (&command, aged(record, now)) {
        (Command::End { .. }, Some(record)) if !record.keyed && record.in_flight() => removed(),
        _ => ledger::apply(record, command, now),
    }
}

fn end_frees_doubt(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match (&command, aged(record, now)) {
        (Command::End { .. }, Some(Record { keyed: false, phase: Phase::InDoubt { .. }, .. })) => removed(),
        _ => ledger::apply(record, command, now),
    }
}

fn end_passes_a_doubt_by(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match (&command, aged(record, now)) {
        (Command::End { .. }, Some(Record { phase: Phase::InDoubt { .. }, .. })) => outcome(Outcome::Applied),
        _ => ledger::apply(record, command, now),
    }
}

fn end_does_nothing(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match command {
        Command::End { .. } => outcome(Outcome::Applied),
        _ => ledger::apply(record, command, now),
    }
}

fn owners_died_frees_sent(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match (&command, aged(record, now).map(|record| record.phase)) {
        (Command::OwnersDied { alive }, Some(Phase::Sent { owner, .. })) if owner != *alive => removed(),
        _ => ledger::apply(record, command, now),
    }
}

fn owners_died_waits(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match command {
        Command::OwnersDied { .. } => outcome(Outcome::Applied),
        _ => ledger::apply(record, command, now),
    }
}

fn delete_in_flight(record: Stored<'_>, command: Command<Body>, now: Millis) -> Step<Body> {
    match command {
        Command::Delete if record.is_some() => removed(),
        _ => ledger::apply(record, command, now),
    }
}
