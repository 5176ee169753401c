//! The behaviours. Nothing here knows which store it runs on.

pub use super::adoption::*;
pub use super::aliases::*;
pub use super::lanes::*;
pub use super::over::*;
pub use super::settled::*;
pub use super::slots::*;

use super::support::*;
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{Doubt, TargetId, Token};
use oncegate::store::{
    AttemptEnd, ClaimRequest, Claimed, Completion, EndIntents, Held, Listing, Settle, Settled,
};
use oncegate::store::{Store, StoreError, Waiter};
use std::time::Duration;

async fn in_flight(store: &Store, request: ClaimRequest) -> Waiter {
    match store.claim(request).await.expect("the store works") {
        Claimed::InFlight(waiter) => waiter,
        other => panic!("an attempt was in flight, but: {other:?}"),
    }
}

pub async fn of_many_claims_at_once_one_is_granted(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let claims = (1..=100).map(|token| store.claim(claim(&store, 1, token)));
    let claimed = futures_util::future::join_all(claims).await;
    let count = |wanted: fn(&Claimed) -> bool| {
        claimed.iter().filter(|claimed| wanted(claimed.as_ref().expect("the store works"))).count()
    };
    assert_eq!(count(|claimed| matches!(claimed, Claimed::Granted)), 1);
    assert_eq!(count(|claimed| matches!(claimed, Claimed::InFlight(_))), 99);
}

pub async fn a_copy_of_a_finished_write_gets_its_answer_byte_for_byte(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let original = answer(201, "{\"id\":822}");
    assert_eq!(complete(&store, completion(1, 1, original.clone())).await, Held::Yes);
    for token in 2..5 {
        let copy = replayed(store.claim(claim(&store, 1, token)).await.expect("the store works"));
        assert_eq!(copy, original.as_bytes());
    }
    let stored = store.answer(id(1)).await.expect("the answer is there");
    assert_eq!(stored.as_bytes(), original.as_bytes());
    // The reply to the completion was lost, and it is repeated.
    assert_eq!(complete(&store, completion(1, 1, original)).await, Held::Yes);
}

pub async fn a_copy_that_waits_gets_the_answer_when_it_is_there(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let mut waiters = Vec::new();
    for token in 2..12 {
        waiters.push(in_flight(&store, claim(&store, 1, token)).await);
    }
    let original = answer(201, "made");
    let (ends, held) = tokio::join!(
        futures_util::future::join_all(waiters.into_iter().map(|waiter| waiter.ended(PATIENCE))),
        complete(&store, completion(1, 1, original.clone())),
    );
    assert_eq!(held, Held::Yes);
    for end in ends {
        let Some(AttemptEnd::Answered(got)) = end else { panic!("an answer was due, not {end:?}") };
        assert_eq!(got.as_bytes(), original.as_bytes());
    }
}

pub async fn a_copy_that_waits_on_a_refused_write_gets_the_refusal_and_the_next_one_executes(
    backend: &impl Backend,
) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let waiter = in_flight(&store, claim(&store, 1, 2)).await;
    let refusal = answer(409, "conflict, confirm?");
    let held = store.abandon(id(1), Token(1), Some(refusal.clone())).await.expect("the store works");
    assert_eq!(held, Held::Yes);
    let Some(AttemptEnd::Answered(got)) = waiter.ended(PATIENCE).await else { panic!("the refusal was due") };
    assert_eq!(got.as_bytes(), refusal.as_bytes());
    granted(&store, claim(&store, 1, 3)).await;
}

pub async fn a_copy_that_waits_on_an_attempt_without_an_answer_claims_anew(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let waiter = in_flight(&store, claim(&store, 1, 2)).await;
    assert_eq!(store.abandon(id(1), Token(1), None).await, Ok(Held::Yes));
    assert!(matches!(waiter.ended(PATIENCE).await, Some(AttemptEnd::NotExecuted)));
    granted(&store, claim(&store, 1, 2)).await;
}

pub async fn a_copy_waits_no_longer_than_its_patience(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let waiter = in_flight(&store, claim(&store, 1, 2)).await;
    assert!(waiter.ended(Duration::from_millis(5)).await.is_none());
}

pub async fn a_sent_lease_that_ends_leaves_a_doubt_and_tells_the_waiting_copies(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let mut request = claim(&store, 1, 1);
    request.claim.lease = SHORT;
    granted(&store, request).await;
    let waiter = in_flight(&store, claim(&store, 1, 2)).await;
    let before = store.now();
    let end = waiter.ended(PATIENCE).await;
    let Some(AttemptEnd::InDoubt { since, until, why: Doubt::LeaseEnded }) = end else {
        panic!("a doubt was due, not {end:?}")
    };
    assert!(store.now() >= since && store.now().since(before) < PATIENCE / 2, "told soon after the lease");
    assert_eq!(until, since.after(60 * MINUTE));
    // Never a second attempt.
    let copy = store.claim(claim(&store, 1, 3)).await;
    assert!(matches!(copy, Ok(Claimed::InDoubt { since: again, .. }) if again == since), "{copy:?}");
}

pub async fn a_queued_lease_that_ends_leaves_nothing(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let mut request = claim(&store, 1, 1);
    (request.claim.lease, request.claim.sent) = (SHORT, false);
    granted(&store, request).await;
    let waiter = in_flight(&store, claim(&store, 1, 2)).await;
    assert!(matches!(waiter.ended(PATIENCE).await, Some(AttemptEnd::NotExecuted)));
    granted(&store, claim(&store, 1, 2)).await;
    assert_eq!(store.mark_sent(id(1), Token(1)).await, Ok(Held::No), "the first one must not send any more");
}

pub async fn a_renewed_lease_does_not_end(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let mut request = claim(&store, 1, 1);
    (request.claim.lease, request.claim.sent) = (SHORT, false);
    granted(&store, request).await;
    assert_eq!(store.renew(id(1), Token(1), MINUTE).await, Ok(Held::Yes));
    // Another lease that began no earlier than this one has ended: it would have ended too.
    let mut other = claim(&store, 2, 2);
    other.claim.lease = SHORT;
    granted(&store, other).await;
    let waiter = in_flight(&store, claim(&store, 2, 3)).await;
    assert!(matches!(waiter.ended(PATIENCE).await, Some(AttemptEnd::InDoubt { .. })));
    assert_eq!(store.mark_sent(id(1), Token(1)).await, Ok(Held::Yes));
}

pub async fn a_late_answer_under_the_same_token_settles_the_doubt(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let waiter = in_flight(&store, claim(&store, 1, 2)).await;
    assert_eq!(store.doubt(id(1), Token(1), Doubt::TimedOut).await, Ok(Held::Yes));
    let end = waiter.ended(PATIENCE).await;
    assert!(matches!(end, Some(AttemptEnd::InDoubt { why: Doubt::TimedOut, .. })), "{end:?}");
    assert_eq!(complete(&store, completion(1, 2, answer(200, "foreign"))).await, Held::No);
    assert_eq!(complete(&store, completion(1, 1, answer(200, "late"))).await, Held::Yes);
    let copy = replayed(store.claim(claim(&store, 1, 3)).await.expect("the store works"));
    assert_eq!(&copy, answer(200, "late").as_bytes());
}

pub async fn a_foreign_token_changes_nothing(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let (id, foreign) = (id(1), Token(2));
    assert_eq!(store.mark_sent(id, foreign).await, Ok(Held::No));
    assert_eq!(store.renew(id, foreign, MINUTE).await, Ok(Held::No));
    assert_eq!(store.abandon(id, foreign, None).await, Ok(Held::No));
    assert_eq!(store.doubt(id, foreign, Doubt::TimedOut).await, Ok(Held::No));
    assert_eq!(complete(&store, completion(1, 2, answer(200, ""))).await, Held::No);
    assert_eq!(store.show(id).await.expect("the store works").expect("it is there").phase, "sent");
}

pub async fn a_key_with_another_meaning_is_refused_in_every_phase(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let keyed = |token| {
        let mut request = claim(&store, 1, token);
        request.claim.keyed = true;
        request
    };
    let other = |token| {
        let mut request = keyed(token);
        request.claim.fingerprint = Fingerprint([9; 32]);
        request
    };
    granted(&store, keyed(1)).await;
    assert!(matches!(store.claim(other(2)).await, Ok(Claimed::OtherMeaning)), "in flight");
    assert_eq!(store.doubt(id(1), Token(1), Doubt::TimedOut).await, Ok(Held::Yes));
    assert!(matches!(store.claim(other(2)).await, Ok(Claimed::OtherMeaning)), "in doubt");
    assert_eq!(complete(&store, completion(1, 1, answer(201, "")),).await, Held::Yes);
    assert!(matches!(store.claim(other(2)).await, Ok(Claimed::OtherMeaning)), "done");
}

pub async fn a_window_that_ends_makes_the_intent_new(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let done = Completion { keep: SHORT, ..completion(1, 1, answer(201, "")) };
    let before = store.now();
    assert_eq!(complete(&store, done).await, Held::Yes);
    let again =
        claim_until(&store, || claim(&store, 1, 2), |claimed| !matches!(claimed, Claimed::Done(_))).await;
    assert!(matches!(again, Claimed::Granted), "{again:?}");
    assert!(store.now().since(before) >= SHORT, "not before the window's end");
}

pub async fn a_scope_over_its_quota_is_refused_and_others_are_not(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let request = |n, token| ClaimRequest { quota: 2, ..claim(&store, n, token) };
    granted(&store, request(1, 1)).await;
    granted(&store, request(2, 2)).await;
    assert_eq!(complete(&store, completion(2, 2, answer(201, "")),).await, Held::Yes);
    assert!(matches!(store.claim(request(3, 3)).await, Ok(Claimed::OverQuota)), "in flight and done count");
    let copy = store.claim(request(2, 4)).await;
    assert!(matches!(copy, Ok(Claimed::Done(_))), "a copy is no new record: {copy:?}");
    let mut other = request(3, 3);
    other.claim.scope = ScopeId([2; 16]);
    granted(&store, other).await;
    assert_eq!(store.abandon(id(1), Token(1), None).await, Ok(Held::Yes));
    granted(&store, request(4, 5)).await;
}

pub async fn a_full_store_refuses_new_records_and_nothing_else(backend: &impl Backend) {
    let store = backend.open(Limits { records_max: 2, ..Limits::default() });
    granted(&store, claim(&store, 1, 1)).await;
    granted(&store, claim(&store, 2, 2)).await;
    let third = store.claim(claim(&store, 3, 3)).await;
    assert!(matches!(third, Err(StoreError::Full(_))), "{third:?}");
    assert_eq!(complete(&store, completion(1, 1, answer(201, "kept"))).await, Held::Yes);
    assert!(matches!(store.claim(claim(&store, 1, 4)).await, Ok(Claimed::Done(_))));
    assert_eq!(store.abandon(id(2), Token(2), None).await, Ok(Held::Yes));
    granted(&store, claim(&store, 3, 3)).await;
}

pub async fn an_unsafe_success_ends_keyless_intents_on_its_target_and_no_others(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let (here, there) = (TargetId([1; 16]), TargetId([2; 16]));
    let on = |n: u8, keyed, target| {
        let mut request = claim(&store, n, u128::from(n));
        (request.claim.keyed, request.claim.target) = (keyed, target);
        request
    };
    for (n, keyed, target) in [(1, false, here), (2, true, here), (3, false, there), (4, false, here)] {
        granted(&store, on(n, keyed, target)).await;
        let done = completion(n, u128::from(n), answer(201, "first"));
        assert_eq!(complete(&store, done).await, Held::Yes);
    }
    // The request that succeeded means what record 4 means: that one is its own record.
    let ends = EndIntents { by: Some(Fingerprint([4; 32])), ..change_of(here) };
    assert_eq!(store.end_intents(ends.clone()).await, Ok(1));
    assert_eq!(store.end_intents(ends).await, Ok(0));
    granted(&store, on(1, false, here)).await;
    for (n, keyed, target) in [(2, true, here), (3, false, there), (4, false, here)] {
        replayed(store.claim(on(n, keyed, target)).await.expect("the store works"));
    }
}

pub async fn an_unsafe_success_ends_the_intent_whose_answer_names_its_target(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let booking = TargetId([7; 16]);
    granted(&store, claim(&store, 1, 1)).await;
    let done = Completion { names: Some(booking), ..completion(1, 1, answer(201, "")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    assert_eq!(store.end_intents(change_of(booking)).await, Ok(1));
    granted(&store, claim(&store, 1, 2)).await;
}

pub async fn a_change_of_another_member_ends_only_what_cannot_be_told_from_it(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let (collection, made, other) = (TargetId([1; 16]), TargetId([7; 16]), TargetId([8; 16]));
    let change = |target, scope| EndIntents {
        parents: vec![collection],
        scope: ScopeId([scope; 16]),
        ..change_of(target)
    };
    // Record 1 says what it made, record 2 does not, record 3 is still being made.
    granted(&store, claim(&store, 1, 1)).await;
    let done = Completion { names: Some(made), ..completion(1, 1, answer(201, "made")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    granted(&store, claim(&store, 2, 2)).await;
    assert_eq!(complete(&store, completion(2, 2, answer(201, "unnamed"))).await, Held::Yes);
    granted(&store, claim(&store, 3, 3)).await;
    assert_eq!(store.end_intents(change(other, 9)).await, Ok(1), "the one that cannot be told from it");
    replayed(store.claim(claim(&store, 1, 4)).await.expect("the store works"));
    granted(&store, claim(&store, 2, 5)).await;
    assert_eq!(store.end_intents(change(made, 9)).await, Ok(1), "whoever changes it");
    granted(&store, claim(&store, 1, 6)).await;
    assert_eq!(complete(&store, completion(3, 3, answer(201, "late"))).await, Held::Yes);
    replayed(store.claim(claim(&store, 3, 7)).await.expect("the store works"));
}

pub async fn a_members_maker_ends_it_by_changing_anything_below(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let done = Completion { names: Some(TargetId([7; 16])), ..completion(1, 1, answer(201, "made")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    let change = EndIntents { parents: vec![TargetId([1; 16])], ..change_of(TargetId([8; 16])) };
    assert_eq!(store.end_intents(change).await, Ok(1));
    granted(&store, claim(&store, 1, 2)).await;
}

pub async fn a_doubt_whose_target_was_changed_leaves_no_answer_and_one_below_it_does(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let on = |n: u8, token: u8| {
        let mut request = claim(&store, n, token.into());
        request.claim.target = TargetId([n; 16]);
        request
    };
    let above = EndIntents { parents: vec![TargetId([2; 16])], ..change_of(TargetId([99; 16])) };
    for (n, ends, changed) in [(1, change_of(TargetId([1; 16])), 1), (2, above, 0)] {
        granted(&store, on(n, n)).await;
        assert_eq!(store.doubt(id(n), Token(n.into()), Doubt::TimedOut).await, Ok(Held::Yes));
        assert_eq!(store.end_intents(ends).await, Ok(changed));
        assert!(matches!(store.claim(on(n, 90)).await, Ok(Claimed::InDoubt { .. })), "it stands");
        assert_eq!(complete(&store, completion(n, n.into(), answer(201, "late"))).await, Held::Yes);
    }
    granted(&store, on(1, 91)).await;
    replayed(store.claim(on(2, 92)).await.expect("the store works"));
}

pub async fn an_intent_that_ends_in_flight_answers_its_copies_and_is_new_for_later_ones(
    backend: &impl Backend,
) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    let earlier = in_flight(&store, claim(&store, 1, 2)).await;
    let ends = change_of(TargetId([1; 16]));
    assert_eq!(store.end_intents(ends).await, Ok(1));
    let later = in_flight(&store, claim(&store, 1, 3)).await;
    assert_eq!(complete(&store, completion(1, 1, answer(201, "made"))).await, Held::Yes);
    assert!(matches!(earlier.ended(PATIENCE).await, Some(AttemptEnd::Answered(_))));
    assert!(matches!(later.ended(PATIENCE).await, Some(AttemptEnd::NotExecuted)), "it claims anew");
    granted(&store, claim(&store, 1, 3)).await;
}

pub async fn a_completion_ends_other_intents_in_the_same_step(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    // PUT A, PUT B, PUT A: the third is a new intent.
    granted(&store, claim(&store, 1, 1)).await;
    let ends = |n| Some(EndIntents { by: Some(Fingerprint([n; 32])), ..change_of(TargetId([1; 16])) });
    let done = Completion { ends: ends(1), ..completion(1, 1, answer(200, "A")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    replayed(store.claim(claim(&store, 1, 2)).await.expect("the store works"));
    granted(&store, claim(&store, 2, 3)).await;
    let done = Completion { ends: ends(2), ..completion(2, 3, answer(200, "B")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    granted(&store, claim(&store, 1, 4)).await;
}

pub async fn an_operator_settles_a_doubt_either_way(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    assert_eq!(store.settle(id(1), Settle::NotExecuted).await, Ok(Settled::NotFound));
    for n in 1..=2 {
        granted(&store, claim(&store, n, u128::from(n))).await;
        assert_eq!(store.settle(id(n), Settle::NotExecuted).await, Ok(Settled::NotInDoubt));
        assert_eq!(store.doubt(id(n), Token(u128::from(n)), Doubt::ConnectionLost).await, Ok(Held::Yes));
    }
    let executed = Settle::Executed { answer: answer(200, "it was there"), keep: MINUTE, follows: None };
    assert_eq!(store.settle(id(1), executed).await, Ok(Settled::Yes));
    let copy = replayed(store.claim(claim(&store, 1, 8)).await.expect("the store works"));
    assert_eq!(&copy, answer(200, "it was there").as_bytes());
    assert_eq!(store.settle(id(2), Settle::NotExecuted).await, Ok(Settled::Yes));
    granted(&store, claim(&store, 2, 9)).await;
}

pub async fn an_operator_deletes_what_is_not_in_flight(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    granted(&store, claim(&store, 1, 1)).await;
    assert_ne!(
        store.settle(id(1), Settle::Delete).await,
        Ok(Settled::Yes),
        "a second attempt would run beside it"
    );
    assert_eq!(complete(&store, completion(1, 1, answer(201, "")),).await, Held::Yes);
    assert_eq!(store.settle(id(1), Settle::Delete).await, Ok(Settled::Yes));
    assert!(store.show(id(1)).await.expect("the store works").is_none());
    granted(&store, claim(&store, 1, 2)).await;
}

pub async fn listings_are_ordered_and_paged_and_filtered(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    for n in [9, 3, 7, 1, 5] {
        granted(&store, claim(&store, n, u128::from(n))).await;
    }
    assert_eq!(store.doubt(id(7), Token(7), Doubt::TimedOut).await, Ok(Held::Yes));
    let list = async |listing| store.list(listing).await.expect("the store works");
    let page = list(Listing { limit: 3, ..Listing::default() }).await;
    let ids: Vec<&str> = page.iter().map(|view| view.id.as_str()).collect();
    assert_eq!(ids, [1, 3, 5].map(|n| id(n).to_string()));
    let rest = list(Listing { after: Some(id(5)), limit: 10, ..Listing::default() }).await;
    assert_eq!(rest.len(), 2);
    let doubts = list(Listing { phase: Some("in-doubt".into()), limit: 10, ..Listing::default() }).await;
    let [doubt] = doubts.as_slice() else { panic!("one doubt, not {doubts:?}") };
    assert_eq!((doubt.id.clone(), doubt.why), (id(7).to_string(), Some(Doubt::TimedOut)));
    assert_eq!((doubt.about.request.as_str(), doubt.about.request_id.as_str()), ("POST /bookings/7", "r-7"));
}

pub async fn figures_count_records_by_phase(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let mut queued = claim(&store, 1, 1);
    queued.claim.sent = false;
    granted(&store, queued).await;
    for n in 2..=5 {
        granted(&store, claim(&store, n, u128::from(n))).await;
    }
    assert_eq!(complete(&store, completion(3, 3, answer(201, ""))).await, Held::Yes);
    assert_eq!(store.doubt(id(4), Token(4), Doubt::TimedOut).await, Ok(Held::Yes));
    assert_eq!(store.abandon(id(5), Token(5), None).await, Ok(Held::Yes));
    let figures = store.figures().await;
    assert_eq!((figures.queued, figures.sent, figures.done, figures.in_doubt), (1, 1, 1, 1));
    assert_eq!(figures.refusing, None);
}

pub async fn an_answer_larger_than_the_memory_is_never_executed_again(backend: &impl Backend) {
    let store = backend.open(Limits { memory_max: 1_000, ..Limits::default() });
    granted(&store, claim(&store, 1, 1)).await;
    let waiter = in_flight(&store, claim(&store, 1, 2)).await;
    let large = answer(201, &"x".repeat(2_000));
    assert_eq!(complete(&store, completion(1, 1, large.clone())).await, Held::Yes);
    let Some(AttemptEnd::Answered(got)) = waiter.ended(PATIENCE).await else { panic!("an answer was due") };
    assert_eq!(got.as_bytes(), large.as_bytes(), "who waited gets all of it");
    match store.claim(claim(&store, 1, 3)).await {
        Ok(Claimed::Done(stone)) if stone.is_tombstone() => assert_eq!(stone.headers(), large.headers()),
        Ok(Claimed::Done(whole)) => assert_eq!(whole.as_bytes(), large.as_bytes()),
        other => panic!("a replay was due, not {other:?}"),
    }
}

/// Waits for the next millisecond of the store: what happens in one is not told apart.
async fn a_moment(store: &Store) {
    let now = store.now();
    while store.now() <= now {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub async fn what_lies_below_an_ended_resource_is_a_new_intent_and_what_came_after_is_none(
    backend: &impl Backend,
) {
    let store = backend.open(Limits::default());
    let (above, elsewhere, root) = (TargetId([21; 16]), TargetId([22; 16]), TargetId([20; 16]));
    // Each on a target of its own: what ends them is what they lie below.
    let below = |n: u8, token, parent: TargetId| {
        let mut request = ClaimRequest { above: Some([parent, root].into()), ..claim(&store, n, token) };
        (request.claim.target, request.claim.keyed) = (TargetId([100 + n; 16]), n == 3);
        request
    };
    let parent = |n| if n == 2 { elsewhere } else { above };
    for n in 1..=5 {
        granted(&store, below(n, n.into(), parent(n))).await;
        let names = (n >= 4).then_some(TargetId([200 + n; 16]));
        let done = Completion { names, ..completion(n, n.into(), answer(201, "first")) };
        assert_eq!(complete(&store, done).await, Held::Yes);
    }
    a_moment(&store).await;
    let change =
        |scope| EndIntents { scope: ScopeId([scope; 16]), subtree_for: 60 * MINUTE, ..change_of(above) };
    assert_eq!(store.end_intents(change(9)).await, Ok(0), "none of them is on its target");
    assert!(store.may_have_ended_subtrees());
    granted(&store, below(1, 11, above)).await;
    replayed(store.claim(below(2, 12, elsewhere)).await.expect("the store works"));
    replayed(store.claim(below(3, 13, above)).await.expect("a key names its intent whatever happens"));
    replayed(store.claim(below(4, 14, above)).await.expect("it says what it made, and it was somebody else"));
    assert_eq!(store.end_intents(change(1)).await, Ok(0));
    granted(&store, below(4, 15, above)).await;
    // What is done behind it is kept, and so is what was in flight.
    a_moment(&store).await;
    assert_eq!(complete(&store, completion(1, 11, answer(201, "second"))).await, Held::Yes);
    replayed(store.claim(below(1, 16, above)).await.expect("the store works"));
    // A completion ends what lies below, too, and further above it all the same.
    a_moment(&store).await;
    granted(&store, claim(&store, 6, 17)).await;
    let ends = EndIntents { subtree_for: 60 * MINUTE, ..change_of(root) };
    let done = Completion { ends: Some(ends), ..completion(6, 17, answer(204, "")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    granted(&store, below(1, 18, above)).await;
    granted(&store, below(2, 19, elsewhere)).await;
    replayed(store.claim(below(3, 20, above)).await.expect("the store works"));
}
