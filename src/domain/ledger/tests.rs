//! Every row of LIFECYCLE.md; the laws for all records, commands and instants are in `laws`.

mod laws;

use super::*;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::time::Millis;
use std::time::Duration;

type Command = super::Command<u32>;
type Outcome = super::Outcome<u32>;

const T0: Millis = Millis(1_000);
const LEASE: Duration = Duration::from_millis(100);
const KEEP: Duration = Duration::from_millis(400);
const DOUBT: Duration = Duration::from_millis(1_000);
const MINE: Token = Token(1);
const OTHER: Token = Token(2);
const LEASE_END: Millis = Millis(1_100);

fn at(millis: u64) -> Millis {
    Millis(T0.0 + millis)
}

fn claim(token: Token, sent: bool) -> Claim {
    Claim {
        fingerprint: Fingerprint([7; 32]),
        keyed: true,
        policy: PolicyVersion(1),
        scope: ScopeId([0; 16]),
        target: TargetId([0; 16]),
        token,
        owner: Owner(1),
        lease: LEASE,
        sent,
        in_doubt_for: DOUBT,
    }
}

fn keyless(token: Token, sent: bool) -> Claim {
    Claim { keyed: false, ..claim(token, sent) }
}

/// One record through several commands, as a store holds it.
struct Held(Option<Record<u32>>);

impl Held {
    fn by(claim: Claim) -> Held {
        let mut held = Held(None);
        assert_eq!(held.take(T0, Command::Claim(claim)), Outcome::Granted);
        held
    }

    fn take(&mut self, now: Millis, command: Command) -> Outcome {
        let step = apply(self.0.as_ref(), command, now);
        match step.change {
            Change::Keep => {}
            Change::Put(record) => self.0 = Some(record),
            Change::Remove => self.0 = None,
        }
        step.outcome
    }

    /// Asserts that the command is refused and leaves the record exactly as it is.
    fn refuses(&mut self, now: Millis, command: Command) {
        let before = self.0.clone();
        assert_eq!(self.take(now, command.clone()), Outcome::Refused, "{command:?} on {before:?}");
        assert_eq!(self.0, before, "a refused {command:?} changed the record");
    }

    fn phase(&self) -> &'static str {
        match self.0.as_ref().map(|record| &record.phase) {
            None => "absent",
            Some(Phase::Queued { .. }) => "queued",
            Some(Phase::Sent { .. }) => "sent",
            Some(Phase::Done { .. }) => "done",
            Some(Phase::InDoubt { .. }) => "in doubt",
        }
    }
}

fn queued() -> Held {
    Held::by(claim(MINE, false))
}

fn sent() -> Held {
    Held::by(claim(MINE, true))
}

fn done() -> Held {
    let mut held = sent();
    assert_eq!(held.take(at(10), complete(MINE, 42)), Outcome::Applied);
    held
}

fn in_doubt() -> Held {
    let mut held = sent();
    assert_eq!(held.take(at(10), doubt(MINE)), Outcome::Applied);
    held
}

fn mark_sent(token: Token) -> Command {
    Command::MarkSent { token }
}

fn renew(token: Token, lease: Duration) -> Command {
    Command::Renew { token, lease }
}

fn complete(token: Token, answer: u32) -> Command {
    Command::Complete { token, answer, keep: KEEP }
}

fn abandon(token: Token) -> Command {
    Command::Abandon { token }
}

fn doubt(token: Token) -> Command {
    Command::Doubt { token, why: Doubt::TimedOut }
}

fn executed(token: Option<Token>, answer: u32) -> Command {
    Command::Resolve { token, verdict: Verdict::Executed { answer, keep: KEEP } }
}

fn not_executed(token: Option<Token>) -> Command {
    Command::Resolve { token, verdict: Verdict::NotExecuted }
}

fn told_in_doubt(since: Millis, why: Doubt) -> Outcome {
    Outcome::InDoubt { token: MINE, since, until: since.after(DOUBT), why }
}

// === claims ===

#[test]
fn first_claim_is_granted_queued_or_sent_as_it_asks() {
    assert_eq!((queued().phase(), sent().phase()), ("queued", "sent"));
}

#[test]
fn copy_of_one_in_flight_learns_who_and_since_when() {
    for mut held in [queued(), sent()] {
        let told = held.take(at(5), Command::Claim(claim(OTHER, true)));
        assert_eq!(told, Outcome::InFlight { token: MINE, since: T0, ended: false });
    }
}

#[test]
fn claim_repeated_after_a_lost_reply_is_granted_without_change() {
    for sent in [false, true] {
        let mut held = Held::by(claim(MINE, sent));
        let before = held.0.clone();
        assert_eq!(held.take(at(5), Command::Claim(claim(MINE, sent))), Outcome::Granted);
        assert_eq!(held.0, before);
    }
}

#[test]
fn claim_that_will_send_at_once_never_finds_itself_queued() {
    let mut held = queued();
    assert_eq!(held.take(at(5), Command::Claim(claim(MINE, true))), Outcome::Granted);
    assert_eq!(held.phase(), "sent");
}

#[test]
fn claim_repeated_after_its_outcome_gets_that_outcome() {
    assert_eq!(
        done().take(at(20), Command::Claim(claim(MINE, true))),
        Outcome::Done { answer: 42, done_at: at(10) }
    );
    let told = in_doubt().take(at(20), Command::Claim(claim(MINE, true)));
    assert_eq!(told, told_in_doubt(at(10), Doubt::TimedOut));
}

#[test]
fn copy_of_a_done_one_gets_its_answer() {
    let told = done().take(at(20), Command::Claim(claim(OTHER, true)));
    assert_eq!(told, Outcome::Done { answer: 42, done_at: at(10) });
}

#[test]
fn copy_of_one_in_doubt_learns_since_when_until_when_and_why() {
    let told = in_doubt().take(at(20), Command::Claim(claim(OTHER, true)));
    assert_eq!(told, told_in_doubt(at(10), Doubt::TimedOut));
}

#[test]
fn other_meaning_under_one_key_is_told_so_in_every_phase() {
    for mut held in [queued(), sent(), done(), in_doubt()] {
        let other = Claim { fingerprint: Fingerprint([8; 32]), ..claim(OTHER, true) };
        let before = held.0.clone();
        assert_eq!(held.take(at(20), Command::Claim(other)), Outcome::OtherMeaning);
        assert_eq!(held.0, before);
    }
}

#[test]
fn across_policies_the_key_alone_decides() {
    let other = Claim { fingerprint: Fingerprint([8; 32]), policy: PolicyVersion(2), ..claim(OTHER, true) };
    let told = done().take(at(20), Command::Claim(other));
    assert_eq!(told, Outcome::Done { answer: 42, done_at: at(10) });
}

// === time ===

#[test]
fn queued_lease_end_frees_and_the_owner_may_not_send_any_more() {
    let mut held = queued();
    held.0 = match apply(held.0.as_ref(), mark_sent(MINE), LEASE_END).change {
        Change::Remove => None,
        change => panic!("a queued lease that ended leaves nothing, not {change:?}"),
    };
    held.refuses(LEASE_END, mark_sent(MINE));
    assert_eq!(queued().take(LEASE_END, Command::Claim(claim(OTHER, false))), Outcome::Granted);
}

#[test]
fn sent_lease_end_is_in_doubt_since_then_and_grants_nothing() {
    let mut held = sent();
    assert_eq!(
        held.take(at(300), Command::Claim(claim(OTHER, true))),
        told_in_doubt(LEASE_END, Doubt::LeaseEnded)
    );
    assert_eq!(held.phase(), "in doubt", "what a caller was told is what the record holds");
}

#[test]
fn lease_holds_up_to_its_last_instant() {
    let before = Millis(LEASE_END.0 - 1);
    assert_eq!(queued().take(before, mark_sent(MINE)), Outcome::Applied);
    assert!(matches!(sent().take(before, Command::Claim(claim(OTHER, true))), Outcome::InFlight { .. }));
}

#[test]
fn windows_end_at_their_instant_and_the_next_claim_is_granted() {
    for (mut held, end) in [(done(), at(410)), (in_doubt(), at(1_010)), (sent(), at(1_100))] {
        let before = Millis(end.0 - 1);
        assert_ne!(held.take(before, Command::Claim(claim(OTHER, true))), Outcome::Granted);
        assert_eq!(held.take(end, Command::Claim(claim(OTHER, true))), Outcome::Granted);
    }
}

#[test]
fn window_starts_at_completion_however_long_the_backend_took() {
    let mut held = sent();
    for step in 1..=20 {
        assert_eq!(held.take(at(step * 90), renew(MINE, LEASE)), Outcome::Applied);
    }
    assert_eq!(held.take(at(1_850), complete(MINE, 42)), Outcome::Applied);
    let told = held.take(at(2_249), Command::Claim(claim(OTHER, true)));
    assert_eq!(told, Outcome::Done { answer: 42, done_at: at(1_850) });
}

#[test]
fn next_deadline_is_when_settle_first_changes_something() {
    for held in [queued(), sent(), done(), in_doubt()] {
        let record = held.0.expect("each of them is present");
        let deadline = record.next_deadline();
        assert_eq!(settle(&record, Millis(deadline.0 - 1)), Change::Keep);
        assert_ne!(settle(&record, deadline), Change::Keep);
    }
}

// === the owner's commands ===

#[test]
fn mark_sent_needs_the_own_token_and_may_be_repeated() {
    let mut held = queued();
    held.refuses(at(5), mark_sent(OTHER));
    assert_eq!(held.take(at(5), mark_sent(MINE)), Outcome::Applied);
    let after = held.0.clone();
    assert_eq!(held.take(at(6), mark_sent(MINE)), Outcome::Applied);
    assert_eq!(held.0, after);
    for mut held in [done(), in_doubt()] {
        held.refuses(at(20), mark_sent(MINE));
    }
}

#[test]
fn renewal_moves_the_lease_and_never_shortens_it() {
    for mut held in [queued(), sent()] {
        assert_eq!(held.take(at(50), renew(MINE, LEASE)), Outcome::Applied);
        assert_eq!(held.take(at(60), renew(MINE, LEASE / 10)), Outcome::Applied);
        assert_eq!(held.0.as_ref().map(Record::next_deadline), Some(at(150)));
        held.refuses(at(60), renew(OTHER, LEASE));
    }
}

#[test]
fn renewal_brings_nothing_back() {
    for mut held in [done(), in_doubt()] {
        held.refuses(at(20), renew(MINE, LEASE));
    }
    let mut held = sent();
    assert_eq!(held.take(LEASE_END, renew(MINE, LEASE)), Outcome::Refused);
    assert_eq!(held.phase(), "in doubt");
}

#[test]
fn completion_needs_the_own_token_and_a_byte_that_left() {
    queued().refuses(at(5), complete(MINE, 42));
    for mut held in [queued(), sent(), done(), in_doubt()] {
        held.refuses(at(20), complete(OTHER, 43));
    }
    assert_eq!(done().phase(), "done");
}

#[test]
fn late_answer_counts_after_a_doubt_and_after_the_lease() {
    let mut held = in_doubt();
    assert_eq!(held.take(at(900), complete(MINE, 42)), Outcome::Applied);
    assert_eq!(
        held.take(at(1_299), Command::Claim(claim(OTHER, true))),
        Outcome::Done { answer: 42, done_at: at(900) }
    );
    let mut held = sent();
    assert_eq!(held.take(at(900), complete(MINE, 42)), Outcome::Applied);
    assert_eq!(held.phase(), "done");
}

#[test]
fn completion_repeated_after_a_lost_reply_changes_nothing() {
    let mut held = done();
    let before = held.0.clone();
    assert_eq!(held.take(at(30), complete(MINE, 43)), Outcome::Applied);
    assert_eq!(held.0, before);
}

#[test]
fn known_not_executed_frees_under_the_own_token_only() {
    for mut held in [queued(), sent(), in_doubt()] {
        held.refuses(at(20), abandon(OTHER));
        assert_eq!(held.take(at(20), abandon(MINE)), Outcome::Applied);
        assert_eq!(held.take(at(20), Command::Claim(claim(OTHER, true))), Outcome::Granted);
    }
    done().refuses(at(20), abandon(MINE));
}

#[test]
fn doubt_needs_the_own_token_and_keeps_its_first_reason() {
    queued().refuses(at(5), doubt(MINE));
    sent().refuses(at(5), doubt(OTHER));
    done().refuses(at(20), doubt(MINE));
    let mut held = sent();
    assert_eq!(held.take(at(300), doubt(MINE)), Outcome::Applied);
    let told = held.take(at(301), Command::Claim(claim(OTHER, true)));
    assert_eq!(told, told_in_doubt(LEASE_END, Doubt::LeaseEnded));
}

// === the others' commands ===

#[test]
fn only_a_doubt_can_be_resolved() {
    for mut held in [queued(), sent(), done()] {
        held.refuses(at(20), not_executed(None));
        held.refuses(at(20), executed(Some(MINE), 43));
    }
    let mut held = in_doubt();
    assert_eq!(held.take(at(20), executed(None, 43)), Outcome::Applied);
    let told = held.take(at(21), Command::Claim(claim(OTHER, true)));
    assert_eq!(told, Outcome::Done { answer: 43, done_at: at(20) });
    let mut held = in_doubt();
    assert_eq!(held.take(at(20), not_executed(Some(MINE))), Outcome::Applied);
    assert_eq!(held.take(at(21), Command::Claim(claim(OTHER, true))), Outcome::Granted);
}

#[test]
fn slow_probe_does_not_settle_a_later_attempt() {
    let mut held = in_doubt();
    assert_eq!(held.take(at(20), not_executed(Some(MINE))), Outcome::Applied);
    assert_eq!(held.take(at(21), Command::Claim(claim(OTHER, true))), Outcome::Granted);
    assert_eq!(held.take(at(22), doubt(OTHER)), Outcome::Applied);
    held.refuses(at(23), not_executed(Some(MINE)));
}

#[test]
fn late_answer_after_an_operators_word_is_refused() {
    let mut held = in_doubt();
    assert_eq!(held.take(at(20), executed(None, 43)), Outcome::Applied);
    held.refuses(at(30), complete(MINE, 42));
}

#[test]
fn success_on_the_target_ends_a_keyless_answer_with_another_meaning() {
    let other = Command::End { by: Some(Fingerprint([8; 32])) };
    for by in [other.clone(), Command::End { by: None }] {
        let mut held = Held::by(keyless(MINE, true));
        assert_eq!(held.take(at(10), complete(MINE, 42)), Outcome::Applied);
        assert_eq!(held.take(at(20), by), Outcome::Applied);
        assert_eq!(held.take(at(21), Command::Claim(keyless(OTHER, true))), Outcome::Granted);
    }
    let mut held = done();
    assert_eq!(held.take(at(20), other), Outcome::Applied);
    assert_eq!(held.phase(), "done", "a key names its intent");
}

#[test]
fn success_with_the_same_meaning_ends_nothing() {
    let mut held = Held::by(keyless(MINE, true));
    assert_eq!(held.take(at(10), complete(MINE, 42)), Outcome::Applied);
    assert_eq!(held.take(at(20), Command::End { by: Some(Fingerprint([7; 32])) }), Outcome::Applied);
    assert_eq!(held.phase(), "done");
}

#[test]
fn success_while_it_is_sent_lets_it_finish_and_keeps_nothing() {
    let mut held = Held::by(keyless(MINE, true));
    assert_eq!(held.take(at(5), Command::End { by: None }), Outcome::Applied);
    let told = held.take(at(6), Command::Claim(keyless(OTHER, true)));
    assert_eq!(told, Outcome::InFlight { token: MINE, since: T0, ended: true });
    assert_eq!(held.take(at(7), renew(MINE, LEASE)), Outcome::Applied);
    assert_eq!(held.take(at(10), complete(MINE, 42)), Outcome::Applied);
    assert_eq!(held.phase(), "absent");
}

#[test]
fn success_before_it_is_sent_does_not_concern_it() {
    let mut held = Held::by(keyless(MINE, false));
    assert_eq!(held.take(at(5), Command::End { by: None }), Outcome::Applied);
    assert_eq!(held.take(at(6), mark_sent(MINE)), Outcome::Applied);
    assert_eq!(held.take(at(10), complete(MINE, 42)), Outcome::Applied);
    assert_eq!(held.phase(), "done");
}

#[test]
fn success_on_the_target_of_a_doubt_leaves_no_answer_of_it() {
    for answers in [complete(MINE, 42), executed(None, 42)] {
        let mut held = Held::by(keyless(MINE, true));
        let ends =
            [doubt(MINE), Command::End { by: None }, answers].map(|command| held.take(at(10), command));
        assert!(ends.iter().all(|end| *end == Outcome::Applied) && held.phase() == "absent");
    }
}

#[test]
fn success_on_the_target_leaves_a_doubt_standing() {
    let mut held = Held::by(keyless(MINE, true));
    let ends = [Command::End { by: None }, doubt(MINE), Command::End { by: None }];
    assert!(ends.map(|command| held.take(at(10), command)).iter().all(|end| *end == Outcome::Applied));
    let told = held.take(at(21), Command::Claim(keyless(OTHER, true)));
    assert_eq!(told, told_in_doubt(at(10), Doubt::TimedOut));
    assert_eq!(held.take(at(22), executed(None, 43)), Outcome::Applied);
    assert_eq!(held.phase(), "absent", "settled, and ended before that");
}

#[test]
fn dead_owners_leave_doubt_at_once_and_queued_claims_nothing() {
    let alive = |owner| Command::OwnersDied { alive: Owner(owner) };
    let mut held = sent();
    assert_eq!(held.take(at(5), alive(2)), Outcome::Applied);
    let told = held.take(at(6), Command::Claim(claim(OTHER, true)));
    assert_eq!(told, told_in_doubt(at(5), Doubt::OwnerDied));
    let mut held = queued();
    assert_eq!(held.take(at(5), alive(2)), Outcome::Applied);
    assert_eq!(held.phase(), "absent");
    for mut held in [queued(), sent(), done(), in_doubt()] {
        let before = held.0.clone();
        assert_eq!(held.take(at(20), alive(1)), Outcome::Applied);
        assert_eq!(held.0, before);
    }
    for mut held in [done(), in_doubt()] {
        let before = held.0.clone();
        assert_eq!(held.take(at(20), alive(2)), Outcome::Applied);
        assert_eq!(held.0, before);
    }
}

#[test]
fn operator_deletes_what_is_over_but_not_what_is_in_flight() {
    for mut held in [queued(), sent()] {
        held.refuses(at(20), Command::Delete);
    }
    for mut held in [done(), in_doubt()] {
        assert_eq!(held.take(at(20), Command::Delete), Outcome::Applied);
        assert_eq!(held.phase(), "absent");
    }
}

#[test]
fn on_an_absent_record_only_a_claim_does_anything() {
    let commands = [
        mark_sent(MINE),
        renew(MINE, LEASE),
        complete(MINE, 42),
        abandon(MINE),
        doubt(MINE),
        executed(None, 43),
        not_executed(None),
        Command::Delete,
    ];
    for command in commands {
        Held(None).refuses(T0, command);
    }
    for fact in [Command::End { by: None }, Command::OwnersDied { alive: Owner(1) }] {
        let step = apply(None, fact, T0);
        assert_eq!((step.change, step.outcome), (Change::Keep, Outcome::Applied));
    }
}
