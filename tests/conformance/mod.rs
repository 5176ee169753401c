//! What every store does, whatever it is made of: each behaviour is written once, as an async function over a store,
//! and stamped over all backends.

mod adoption;
mod aliases;
mod behaviours;
mod bench;
mod differential;
mod differential_slots;
mod killed;
mod lanes;
mod limits;
mod over;
mod replicas;
mod settled;
mod slots;
mod support;

/// One test per behaviour and backend. A backend says how to open a store with given limits.
macro_rules! stamp {
    ($($behaviour:ident,)*) => {
        stamp! { @ memory, Memory, $($behaviour,)* }
        stamp! { @ file, File, $($behaviour,)* }
        stamp! { @ single, Single, $($behaviour,)* }
        stamp! { @@ sentinel, Sentinel, $($behaviour,)* }
        stamp! { @@ cluster, Spread, $($behaviour,)* }
    };
    // Many processes: started once, and all behaviours one after the other. The name of the last one is that which failed.
    (@@ $backend:ident, $starts:ident, $($behaviour:ident,)*) => {
        #[tokio::test]
        async fn $backend() {
            let backend = support::$starts::start();
            $(
                println!("{}", stringify!($behaviour));
                behaviours::$behaviour(&backend).await;
            )*
        }
    };
    (@ $backend:ident, $opens:ident, $($behaviour:ident,)*) => {
        mod $backend {
            $(#[tokio::test]
            async fn $behaviour() {
                super::behaviours::$behaviour(&super::support::$opens).await;
            })*
        }
    };
}

stamp! {
    of_many_claims_at_once_one_is_granted,
    a_copy_of_a_finished_write_gets_its_answer_byte_for_byte,
    a_copy_that_waits_gets_the_answer_when_it_is_there,
    a_copy_that_waits_on_a_refused_write_gets_the_refusal_and_the_next_one_executes,
    a_copy_that_waits_on_an_attempt_without_an_answer_claims_anew,
    a_copy_waits_no_longer_than_its_patience,
    a_sent_lease_that_ends_leaves_a_doubt_and_tells_the_waiting_copies,
    a_queued_lease_that_ends_leaves_nothing,
    a_renewed_lease_does_not_end,
    a_late_answer_under_the_same_token_settles_the_doubt,
    a_foreign_token_changes_nothing,
    a_key_with_another_meaning_is_refused_in_every_phase,
    a_window_that_ends_makes_the_intent_new,
    a_scope_over_its_quota_is_refused_and_others_are_not,
    a_full_store_refuses_new_records_and_nothing_else,
    an_unsafe_success_ends_keyless_intents_on_its_target_and_no_others,
    an_unsafe_success_ends_the_intent_whose_answer_names_its_target,
    a_change_ends_what_counts_among_what_is_over,
    a_change_of_another_member_ends_only_what_cannot_be_told_from_it,
    a_members_maker_ends_it_by_changing_anything_below,
    what_lies_below_an_ended_resource_is_a_new_intent_and_what_came_after_is_none,
    a_doubt_whose_target_was_changed_leaves_no_answer_and_one_below_it_does,
    an_intent_that_ends_in_flight_answers_its_copies_and_is_new_for_later_ones,
    a_completion_ends_other_intents_in_the_same_step,
    an_alias_stands_for_its_scope_while_it_lasts,
    an_alias_to_a_scope_without_records_is_not_kept,
    an_alias_that_is_asked_for_again_lasts_longer,
    a_scope_with_records_of_its_own_or_of_another_comes_to_stand_for_no_third,
    an_operator_settles_a_doubt_either_way,
    an_operator_deletes_what_is_not_in_flight,
    listings_are_ordered_and_paged_and_filtered,
    figures_count_records_by_phase,
    an_answer_larger_than_the_memory_is_never_executed_again,
    turns_come_in_the_order_of_joining,
    a_full_lane_takes_nobody_and_other_lanes_do,
    joining_again_finds_its_place_or_its_turn,
    a_turn_in_which_nothing_was_sent_ends_with_its_lease,
    a_renewed_claim_keeps_its_place,
    what_was_sent_and_never_answered_keeps_the_lane_for_its_time_and_no_longer,
    a_further_attempt_holds_the_lane_anew,
    a_place_that_copies_wait_for_is_kept_and_another_is_given_up,
    waiters_of_many_lanes_and_threads_are_woken_in_order,
    of_fifty_claims_of_one_slot_one_is_granted,
    a_slot_for_ten_takes_exactly_ten,
    several_slots_are_taken_together_or_not_at_all,
    what_was_not_executed_frees_at_once,
    a_success_holds_for_its_time_and_no_longer,
    what_may_have_been_executed_keeps_its_place,
    an_operator_settles_a_slot_with_its_record,
    what_follows_from_a_success_follows_when_an_operator_settles_it,
    a_booking_that_an_operators_answer_names_holds_its_slot_and_frees_it,
    a_lease_that_ends_frees_what_was_queued_and_keeps_what_was_sent,
    a_queued_attempt_that_is_sent_keeps_its_place,
    a_copy_gets_its_answer_before_it_is_told_that_the_slot_is_taken,
    a_booking_is_named_to_whoever_made_it_and_nobody_else,
    a_release_frees_its_own_booking_and_makes_booking_again_a_new_intent,
    a_paused_booking_takes_no_place_and_may_come_back,
    a_move_frees_the_old_slot_and_takes_the_new_one_or_changes_nothing,
    of_two_changes_of_one_booking_one_is_told_to_look_again,
    adopted_places_count_and_a_second_time_changes_nothing,
    an_adopted_booking_has_its_place_there_and_nowhere_else,
    what_may_be_moving_keeps_its_places_when_its_booking_is_adopted,
    bookings_without_an_id_are_adopted_as_often_as_they_are_told,
    a_booking_with_several_places_is_changed_as_it_was_seen_or_not_at_all,
    what_is_adopted_while_its_booking_is_being_made_is_the_same_place,
    an_operator_lists_places_and_gives_them_back,
    what_the_backend_has_no_more_is_given_back_only_while_it_is_as_it_was_seen,
    what_nobody_has_settled_is_not_given_back_because_it_is_not_seen,
    a_store_full_of_places_refuses_more_and_nothing_else,
}
