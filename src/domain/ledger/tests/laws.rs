//! What holds for every record, every command and every instant, also such as no gateway would send.

use super::*;
use proptest::prelude::*;

fn instants() -> impl Strategy<Value = Millis> {
    prop_oneof![8 => 0u64..400, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)].prop_map(Millis)
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![8 => (0u64..200).prop_map(Duration::from_millis), 1 => Just(Duration::MAX)]
}

fn tokens() -> impl Strategy<Value = Token> {
    (0u128..3).prop_map(Token)
}

fn claims() -> impl Strategy<Value = Claim> {
    let marks = (any::<bool>(), any::<bool>(), 0u8..2, 0u64..2, 0u64..2);
    (tokens(), durations(), durations(), marks).prop_map(|(token, lease, in_doubt_for, marks)| {
        let (keyed, sent, meaning, policy, owner) = marks;
        Claim {
            fingerprint: Fingerprint([meaning; 32]),
            keyed,
            policy: PolicyVersion(policy),
            owner: Owner(owner),
            lease,
            in_doubt_for,
            ..claim(token, sent)
        }
    })
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => claims().prop_map(Command::Claim),
        2 => tokens().prop_map(mark_sent),
        1 => (tokens(), durations()).prop_map(|(token, lease)| renew(token, lease)),
        2 => (tokens(), any::<u32>(), durations())
            .prop_map(|(token, answer, keep)| Command::Complete { token, answer, keep }),
        1 => tokens().prop_map(abandon),
        2 => tokens().prop_map(doubt),
        1 => (proptest::option::of(tokens()), any::<u32>()).prop_map(|(token, answer)| executed(token, answer)),
        1 => proptest::option::of(tokens()).prop_map(not_executed),
        1 => proptest::option::of(0u8..2).prop_map(|by| Command::End { by: by.map(|by| Fingerprint([by; 32])) }),
        1 => (0u64..2).prop_map(|alive| Command::OwnersDied { alive: Owner(alive) }),
        1 => Just(Command::Delete),
    ]
}

/// Records as commands make them, at instants in any order; and such that no command makes.
fn records() -> impl Strategy<Value = Option<Record<u32>>> {
    proptest::collection::vec((instants(), commands()), 0..6).prop_map(|history| {
        let mut held = Held(None);
        for (now, command) in history {
            held.take(now, command);
        }
        held.0
    })
}

fn later(change: Change<u32>, before: &Record<u32>) -> Option<Record<u32>> {
    match change {
        Change::Keep => Some(before.clone()),
        Change::Put(record) => Some(record),
        Change::Remove => None,
    }
}

proptest! {
    #[test]
    fn settling_in_steps_ends_where_settling_at_once_does(
        record in records(), first in instants(), second in instants(),
    ) {
        let Some(record) = record else { return Ok(()) };
        let (first, second) = (first.min(second), first.max(second));
        let at_once = later(settle(&record, second), &record);
        let in_steps = later(settle(&record, first), &record)
            .and_then(|record| later(settle(&record, second), &record));
        prop_assert_eq!(in_steps, at_once);
    }

    /// Time goes one way: sent, in doubt, absent. Without a command nothing is ever granted, answered or brought back.
    #[test]
    fn time_alone_only_moves_a_record_towards_absence(record in records(), now in instants()) {
        let Some(record) = record else { return Ok(()) };
        match settle(&record, now) {
            Change::Keep => prop_assert!(now < record.next_deadline()),
            Change::Remove => prop_assert!(now >= record.next_deadline()),
            Change::Put(aged) => {
                let was_sent = matches!(record.phase, Phase::Sent { .. });
                let is_in_doubt = matches!(aged.phase, Phase::InDoubt { .. });
                prop_assert!(was_sent && is_in_doubt);
                prop_assert!(aged.next_deadline() >= record.next_deadline());
            }
        }
    }

    #[test]
    fn whatever_the_record_a_command_sees_it_as_time_has_left_it(
        record in records(), command in commands(), now in instants(),
    ) {
        let directly = apply(record.as_ref(), command.clone(), now);
        let settled = record.as_ref().and_then(|record| later(settle(record, now), record));
        let after_settling = apply(settled.as_ref(), command, now);
        prop_assert_eq!(&directly.outcome, &after_settling.outcome);
        let end = |step: Change<u32>, from: Option<Record<u32>>| match step {
            Change::Keep => from,
            Change::Put(record) => Some(record),
            Change::Remove => None,
        };
        prop_assert_eq!(end(directly.change, record), end(after_settling.change, settled));
    }

    /// Commands are carried out again after a lost reply. (One whose result is over at the same instant, by a lease or
    /// window of no length, begins anew.)
    #[test]
    fn command_that_arrives_twice_changes_nothing_the_second_time(
        record in records(), command in commands(), now in instants(),
    ) {
        let mut held = Held(record);
        held.take(now, command.clone());
        let once = held.0.clone();
        prop_assume!(once.as_ref().is_none_or(|record| now < record.next_deadline()));
        held.take(now, command);
        prop_assert_eq!(held.0, once);
    }

    /// The one rule, for any history: what was sent and is not settled by its token, an operator or its window is never
    /// granted to another claim, however late the claim comes within the window.
    #[test]
    fn sent_attempt_is_never_granted_again_within_its_window(
        record in records(), claim in claims(), now in instants(),
    ) {
        let Some(record) = record else { return Ok(()) };
        let Phase::Sent { token, lease_until, .. } = record.phase else { return Ok(()) };
        prop_assume!(token != claim.token && now < lease_until.after(record.in_doubt_for));
        let outcome = apply(Some(&record), Command::Claim(claim), now).outcome;
        prop_assert!(outcome != Outcome::Granted);
    }

    #[test]
    fn refused_command_leaves_what_time_leaves(record in records(), command in commands(), now in instants()) {
        let settled = record.as_ref().and_then(|record| later(settle(record, now), record));
        let mut held = Held(record);
        if held.take(now, command) == Outcome::Refused {
            prop_assert_eq!(held.0, settled);
        }
    }
}
