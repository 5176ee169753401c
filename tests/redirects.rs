//! What a redirect says of a write: one that repeats the request did nothing, and any other may only lead to a login.

use crate::harness::{Call, Config, Reply, Stand, assert_problem};

const ROUTES: &str = r#"
[[route]]
name = "book"
match = ["POST /api/bookings", "POST /api/desk"]
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.doctor", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "cancel"
match = "DELETE /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }

[[route]]
name = "change"
match = "PUT /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id", when = { "$.status" = ["CANCELLED"] } }

[[route]]
name = "cancel-by-form"
match = ["POST /api/bookings/{id}/cancel", "POST /api/bookings/{id}/void"]
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }
release_on_redirect = true
"#;

fn stand() -> Stand {
    Stand::with(Config { routes: ROUTES, ..Config::default() })
}

fn book(patient: &str, slot: usize) -> Call {
    let body = format!(r#"{{"doctor":"Rao","slotIndex":{slot}}}"#);
    Call::post("/api/bookings", body).header("Authorization", &format!("Bearer {patient}"))
}

/// A change of a booking that the backend answers with `status`, without doing anything.
fn answered(status: u16, method: &str, path: &str, body: &str) -> Call {
    let call = Call::new(method, path).header("Content-Type", "application/json");
    call.header("X-Demo-Fault", &format!("status={status}")).body(body.to_owned())
}

#[track_caller]
fn state(reply: &Reply) -> String {
    assert_problem(reply, 409, "slot-taken");
    reply.json()["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_redirect_gives_back_no_slot() {
    let stand = stand();
    for (status, slot) in [(301, 1), (302, 2), (304, 3), (307, 4), (308, 5)] {
        let id = stand.send(&book("ann", slot)).json()["id"].clone();
        let place = format!("/api/bookings/{id}");
        let cancelled = r#"{"status":"CANCELLED"}"#;
        for call in [answered(status, "DELETE", &place, ""), answered(status, "PUT", &place, cancelled)] {
            assert_eq!(stand.send(&call).status, status);
            assert_eq!(state(&stand.send(&book("eve", slot))), "held", "{status} {}", call.method);
        }
    }
}

#[test]
fn a_redirect_in_answer_to_a_move_leaves_both_slots_taken() {
    let stand = stand();
    let id = stand.send(&book("ann", 1)).json()["id"].clone();
    let path = format!("/api/bookings/{id}");
    assert_eq!(stand.send(&answered(302, "PUT", &path, r#"{"slotIndex":2}"#)).status, 302);
    assert_eq!(state(&stand.send(&book("eve", 1))), "held");
    assert_eq!(state(&stand.send(&book("eve", 2))), "unsettled");
}

#[test]
fn a_route_may_say_that_its_redirects_give_slots_back() {
    let stand = stand();
    for (status, given_back) in [(302, true), (303, true), (307, false)] {
        let slot = usize::from(status);
        let id = stand.send(&book("ann", slot)).json()["id"].clone();
        let cancel = answered(status, "POST", &format!("/api/bookings/{id}/cancel"), "");
        assert_eq!(stand.send(&cancel).status, status);
        let again = stand.send(&book("eve", slot));
        assert_eq!(again.status, if given_back { 201 } else { 409 }, "{status}: {}", again.text());
    }
}

#[test]
fn a_booking_that_is_answered_with_a_redirect_holds_its_slot_unless_the_redirect_repeats_it() {
    let stand = stand();
    for (status, holds) in [(301, true), (302, true), (303, true), (304, false), (307, false), (308, false)] {
        let slot = usize::from(status);
        let call = book("ann", slot).header("X-Demo-Fault", &format!("status={status}"));
        assert_eq!(stand.send(&call).status, status);
        let again = stand.send(&book("eve", slot));
        assert_eq!(again.status, if holds { 409 } else { 201 }, "{status}: {}", again.text());
    }
}

#[test]
fn whoever_follows_a_redirect_that_repeats_the_request_is_no_copy() {
    let stand = stand();
    for (status, key) in
        [(307, "c0a1de55-6f2b-4e0c-8f8e-3b1f0d7c9a10"), (308, "another-key-that-is-long-enough")]
    {
        let mut desk = book("ann", usize::from(status)).header("Idempotency-Key", key);
        let booking = desk.clone();
        desk.target = "/api/desk".to_owned();
        let sent = stand.send(&desk.header("X-Demo-Fault", &format!("status={status}")));
        assert_eq!((sent.status, sent.is_replay()), (status, false));
        let followed = stand.send(&booking);
        assert_eq!((followed.status, followed.is_replay()), (201, false), "{}", followed.text());
    }
    // To the same place, by way of TLS or with a cookie: the same request, and no answer is there for it.
    let same = book("ann", 1);
    let redirected = stand.send(&same.clone().header("X-Demo-Fault", "status=307"));
    assert_eq!((redirected.status, redirected.is_replay()), (307, false));
    let followed = stand.send(&same);
    assert_eq!((followed.status, followed.is_replay()), (201, false), "{}", followed.text());
}
