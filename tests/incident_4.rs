//! Incident 4: two patients, one slot. Walk-in and advance bookings compete; both check, both find the slot free, both get
//! the same token.

use crate::harness::{Backend, Call, Config, Reply, Stand, assert_problem, at_once};
use std::collections::BTreeSet;

/// Two routes, one space.
const ROUTES: &str = r#"
[[route]]
name = "advance"
match = "POST /api/bookings"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "walk-in"
match = "POST /api/walk-ins"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "cancel"
match = "DELETE /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }

[[route]]
name = "change"
match = "PATCH /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id", when = { "$.status" = ["CANCELLED"] } }

[[route]]
name = "is-it-free"
match = "GET /api/slots/free"
upstream = "scheduler"
ask = { slot = "doctor-slot", by = ["query:clinic", "query:doctor", "query:date", "query:slot"] }
"#;

/// Patient `n` books slot `slot`; every other one walks in. Patients spell the same thing differently.
fn book(n: usize, slot: usize) -> Call {
    let path = if n.is_multiple_of(2) { "/api/bookings" } else { "/api/walk-ins" };
    let slot = if n.is_multiple_of(3) { format!("\"{slot}\"") } else { slot.to_string() };
    let body = format!(
        r#"{{"patient":"p{n}","clinicId":"c1","doctor":"Dr. Rao","date":"2026-11-25","slotIndex":{slot}}}"#
    );
    Call::post(path, body).header("Authorization", &format!("Bearer patient-{n}"))
}

fn fifty(slot: usize) -> Vec<Call> {
    (0..50).map(|n| book(n, slot)).collect()
}

fn by_status(replies: &[Reply], status: u16) -> Vec<&Reply> {
    replies.iter().filter(|reply| reply.status == status).collect()
}

fn stand() -> Stand {
    Stand::with(Config { routes: ROUTES, ..Config::default() })
}

#[test]
fn without_the_gate_patients_who_book_at_once_share_a_slot_and_a_token() {
    let backend = Backend::start();
    let replies = at_once(backend.address, &[book(1, 5), book(2, 5)]);
    assert_eq!(by_status(&replies, 201).len(), 2, "both found it free");
    assert_eq!(replies[0].json()["tokenNumber"], replies[1].json()["tokenNumber"]);
    assert_eq!(backend.effects().len(), 2);
}

#[test]
fn of_fifty_patients_on_two_routes_one_gets_the_slot() {
    let stand = stand();
    let replies = at_once(stand.gate.address, &fifty(5));
    assert_eq!(by_status(&replies, 201).len(), 1);
    let refused = by_status(&replies, 409);
    assert_eq!(refused.len(), 49);
    for reply in refused {
        assert_problem(reply, 409, "slot-taken");
        let problem = reply.json();
        assert_eq!(problem["slot"], "doctor-slot");
        assert_eq!(problem["key"], "c1 | Dr. Rao | 2026-11-25 | 5");
        assert!(problem["since"].is_string() && problem["id"].is_null(), "{problem}");
    }
    assert_eq!(stand.backend.effects().len(), 1);
    assert_eq!(stand.backend.requests(), 1, "nobody else was even sent");
}

#[test]
fn ten_slots_and_five_hundred_requests_make_ten_bookings() {
    let stand = stand();
    let calls: Vec<Call> = (0..10).flat_map(fifty).collect();
    let mut replies = Vec::new();
    for some in calls.chunks(100) {
        replies.extend(at_once(stand.gate.address, some));
    }
    assert_eq!(by_status(&replies, 201).len(), 10);
    assert_eq!(by_status(&replies, 409).len(), 490);
    assert_eq!(stand.backend.effects().len(), 10);
}

#[test]
fn a_cancelled_slot_can_be_booked_again_and_cancelling_another_frees_nothing() {
    let stand = stand();
    let first = stand.send(&book(1, 5));
    let other = stand.send(&book(1, 6));
    assert_eq!((first.status, other.status), (201, 201));
    let cancel = |reply: &Reply| Call::new("DELETE", &format!("/api/bookings/{}", reply.json()["id"]));
    assert_eq!(stand.send(&cancel(&other)).status, 200);
    assert_problem(&stand.send(&book(2, 5)), 409, "slot-taken");
    assert_eq!(stand.send(&book(2, 6)).status, 201, "that one is free");
    assert_eq!(stand.send(&Call::new("DELETE", "/api/bookings/999")).status, 404);
    assert_problem(&stand.send(&book(2, 5)), 409, "slot-taken");
    assert_eq!(stand.send(&cancel(&first)).status, 200);
    // The very same request as the first one, from the same patient: a new intent after the cancellation.
    let again = stand.send(&book(1, 5));
    assert_eq!((again.status, again.is_replay()), (201, false));
}

#[test]
fn a_patient_who_repeats_the_booking_gets_its_answer_and_not_a_refusal() {
    let stand = stand();
    let (first, copy) = (stand.send(&book(1, 5)), stand.send(&book(1, 5)));
    assert_eq!((copy.status, &copy.body, copy.is_replay()), (201, &first.body, true));
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn a_booking_that_moves_frees_its_old_slot_and_takes_the_new_one_or_changes_nothing() {
    let stand = stand();
    let id = stand.send(&book(1, 5)).json()["id"].clone();
    assert_eq!(stand.send(&book(2, 6)).status, 201);
    let change = |body: &str| {
        let call =
            Call::new("PATCH", &format!("/api/bookings/{id}")).header("Content-Type", "application/json");
        call.header("Authorization", "Bearer receptionist").body(body)
    };
    let refused = stand.send(&change(r#"{"slotIndex":6}"#));
    assert_problem(&refused, 409, "slot-taken");
    assert_problem(&stand.send(&book(3, 5)), 409, "slot-taken");
    // The backend says no: nothing has changed either.
    let no = stand.send(&change(r#"{"slotIndex":7}"#).header("X-Demo-Fault", "status=422"));
    assert_eq!(no.status, 422);
    assert_problem(&stand.send(&book(3, 5)), 409, "slot-taken");
    assert_eq!(stand.send(&book(4, 7)).status, 201, "and what it asked for is free again");
    // A note changes nothing.
    assert_eq!(stand.send(&change(r#"{"note":"brings a friend"}"#)).status, 200);
    assert_problem(&stand.send(&book(3, 5)), 409, "slot-taken");
    let moved = stand.send(&change(r#"{"slotIndex":"8"}"#));
    assert_eq!(moved.status, 200, "{}", moved.text());
    assert_problem(&stand.send(&book(5, 8)), 409, "slot-taken");
    assert_eq!(stand.send(&book(3, 5)).status, 201);
}

#[test]
fn a_booking_that_is_paused_frees_its_slot_and_comes_back_only_while_that_is_free() {
    let stand = stand();
    let id = stand.send(&book(1, 5)).json()["id"].clone();
    let status = |status: &str| {
        let body = format!(r#"{{"status":"{status}"}}"#);
        Call::new("PATCH", &format!("/api/bookings/{id}"))
            .header("Content-Type", "application/json")
            .body(body)
    };
    assert_eq!(stand.send(&status("CANCELLED")).status, 200);
    let other = stand.send(&book(2, 5));
    assert_eq!(other.status, 201);
    assert_problem(&stand.send(&status("BOOKED")), 409, "slot-taken");
    assert_eq!(
        stand.send(&Call::new("DELETE", &format!("/api/bookings/{}", other.json()["id"]))).status,
        200
    );
    assert_eq!(stand.send(&status("BOOKED")).status, 200);
    assert_problem(&stand.send(&book(3, 5)), 409, "slot-taken");
}

#[test]
fn whoever_asks_before_confirming_is_told_whether_it_is_free() {
    let stand = stand();
    let ask = Call::new("GET", "/api/slots/free?clinic=c1&doctor=Dr.+Rao&date=2026-11-25&slot=5");
    let free = stand.send(&ask).json();
    assert_eq!((free["free"].as_bool(), &free["since"]), (Some(true), &serde_json::Value::Null));
    assert_eq!(stand.send(&book(1, 5)).status, 201);
    let taken = stand.send(&ask).json();
    assert_eq!((taken["free"].as_bool(), taken["state"].as_str()), (Some(false), Some("held")));
    assert!(taken["since"].is_string() && taken["until"].is_string() && taken["id"].is_null(), "{taken}");
    assert_problem(&stand.send(&Call::new("GET", "/api/slots/free?clinic=c1")), 422, "slot-unnamed");
    assert_eq!(stand.backend.requests(), 1, "the backend is not asked");
}

#[test]
fn an_outcome_that_nobody_knows_keeps_the_slot_until_it_is_settled() {
    let stand = stand();
    let lost = stand.send(&book(1, 5).header("X-Demo-Fault", "reset-after"));
    assert_problem(&lost, 502, "outcome-unknown");
    let refused = stand.send(&book(2, 5));
    assert_problem(&refused, 409, "slot-taken");
    assert_eq!(refused.json()["state"], "unsettled");
    let failed = stand.send(&book(3, 6).header("X-Demo-Fault", "status=500"));
    assert_eq!(failed.status, 500);
    assert_eq!(stand.send(&book(4, 6)).json()["state"], "unsettled", "a 5xx may have booked");
    for id in stand.in_doubt() {
        let output = stand.claims(&["resolve", &id, "--not-executed"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(stand.send(&book(2, 5)).status, 409, "the backend's own check: it was booked after all");
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn a_gate_that_is_killed_in_the_middle_gives_no_slot_away() {
    let mut stand = stand();
    assert_eq!(stand.send(&book(1, 5)).status, 201);
    std::thread::scope(|scope| {
        let address = stand.gate.address;
        scope.spawn(move || book(2, 6).header("X-Demo-Fault", "delay-after=2000").send(address));
        stand.wait_for_requests(2);
        stand.gate.kill();
    });
    stand.start();
    assert_eq!(stand.send(&book(3, 5)).json()["state"], "held");
    assert_eq!(stand.send(&book(3, 6)).json()["state"], "unsettled");
    assert_eq!(stand.send(&book(3, 7)).status, 201);
}

#[test]
fn a_request_that_does_not_say_which_slot_it_is_about_is_refused() {
    let stand = stand();
    for body in [
        r#"{"clinicId":"c1","doctor":"Dr. Rao","date":"2026-11-25"}"#,
        r#"{"clinicId":"c1","slotIndex":5,"SlotIndex":6}"#,
    ] {
        assert_problem(&stand.send(&Call::post("/api/bookings", body)), 422, "slot-unnamed");
    }
    assert_eq!(stand.backend.requests(), 0);
}

#[test]
fn three_patients_who_ask_for_a_token_at_once_get_three_slots() {
    let stand = stand();
    let replies = at_once(stand.gate.address, &[book(1, 1), book(2, 2), book(3, 3)]);
    assert_eq!(by_status(&replies, 201).len(), 3);
    let slots: BTreeSet<String> =
        stand.backend.effects().iter().map(|row| row["detail"].to_string()).collect();
    assert_eq!(slots.len(), 3);
}
