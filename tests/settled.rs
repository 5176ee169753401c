//! What follows from a write that an operator settles as executed: as far as its record says what it was, the same as from its
//! own answer.

use crate::harness::{Call, Config, Stand, assert_problem, program};
use std::process::Command;

const ROUTES: &str = r#"
[[route]]
name = "book"
match = "POST /api/bookings"
upstream = "scheduler"
idempotency = { remember_fingerprint = "1h" }
[[route.slot]]
name = "doctor-slot"
by = ["$.doctor", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "change"
match = ["PUT /api/bookings/{id}", "DELETE /api/bookings/{id}"]
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id", when = { "$.status" = ["CANCELLED"] } }
"#;

fn book(patient: &str) -> Call {
    let call = Call::post("/api/bookings", r#"{"doctor":"Rao","slotIndex":1}"#);
    call.header("Authorization", &format!("Bearer {patient}"))
}

/// A booking of ann's whose change by `method` is in doubt, and what the command says when that is settled as executed.
fn settled(stand: &Stand, method: &str, body: &str) -> String {
    let json = |path: String| Call::new(method, &path).header("Content-Type", "application/json");
    settled_change(stand, |id| json(format!("/api/bookings/{id}")).body(body.to_owned()))
}

/// The same of the change that `change` makes of the booking's id.
fn settled_change(stand: &Stand, change: impl Fn(serde_json::Value) -> Call) -> String {
    let id = stand.send(&book("ann")).json()["id"].clone();
    let change = change(id).header("Authorization", "Bearer ann");
    assert_problem(&stand.send(&change.header("X-Demo-Fault", "reset-after")), 502, "outcome-unknown");
    let [record] = stand.in_doubt().try_into().unwrap();
    let output = stand.claims(&["resolve", &record, "--executed", "--status", "200"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_cancellation_that_is_settled_as_executed_gives_its_slot_back_and_makes_booking_again_an_intent() {
    let stand = Stand::with(Config { routes: ROUTES, ..Config::default() });
    let told = settled(&stand, "DELETE", "");
    assert!(told.ends_with(" is settled: executed\n"), "{told}");
    let again = stand.send(&book("ann"));
    assert_eq!((again.status, again.is_replay()), (201, false), "{}", again.text());
}

#[test]
fn a_cancellation_in_another_spelling_or_by_another_method_is_settled_like_one() {
    let spellings: [fn(serde_json::Value) -> Call; 3] = [
        |id| Call::new("DELETE", &format!("/api/bookings;jsessionid=1/{id}")),
        |id| Call::new("DELETE", &format!("/api/bookings/{id}/;v=2")),
        |id| Call::new("POST", &format!("/api/bookings/{id}")).header("X-HTTP-Method-Override", "DELETE"),
    ];
    for spelling in spellings {
        let stand = Stand::with(Config { routes: ROUTES, ..Config::default() });
        let told = settled_change(&stand, spelling);
        assert!(told.ends_with(" is settled: executed\n"), "{told}");
        let again = stand.send(&book("eve"));
        assert_eq!(again.status, 201, "{}", again.text());
    }
}

#[test]
fn a_cancellation_by_its_body_is_settled_without_its_slot_and_the_operator_is_told() {
    let stand = Stand::with(Config { routes: ROUTES, ..Config::default() });
    let told = settled(&stand, "PUT", r#"{"status":"CANCELLED"}"#);
    assert!(told.contains("oncegate slots release --slot doctor-slot --booking"), "{told}");
    assert_problem(&stand.send(&book("eve")), 409, "slot-taken");
}

/// A booking by ann that the backend executed and whose answer was lost, settled with an answer of this body.
fn settled_booking(stand: &Stand, body: &str) -> String {
    assert_problem(&stand.send(&book("ann").header("X-Demo-Fault", "reset-after")), 502, "outcome-unknown");
    let [record] = stand.in_doubt().try_into().unwrap();
    let arguments = ["resolve", &record, "--executed", "--status", "201", "--body", body];
    let output = stand.claims(&[&arguments[..], &["--header", "Content-Type: application/json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_booking_that_is_settled_as_executed_frees_its_slot_when_it_is_cancelled() {
    let stand = Stand::with(Config { routes: ROUTES, ..Config::default() });
    // The demo's backend counts from 1.
    let told = settled_booking(&stand, r#"{"id":1}"#);
    assert!(told.ends_with(" is settled: executed\n"), "{told}");
    assert_problem(&stand.send(&book("eve")), 409, "slot-taken");
    let cancel = Call::new("DELETE", "/api/bookings/1").header("Authorization", "Bearer ann");
    assert_eq!(stand.send(&cancel).status / 100, 2);
    let again = stand.send(&book("eve"));
    assert_eq!(again.status, 201, "{}", again.text());
}

#[test]
fn an_answer_that_names_no_booking_leaves_a_slot_and_the_operator_is_told_which() {
    let stand = Stand::with(Config { routes: ROUTES, ..Config::default() });
    let told = settled_booking(&stand, r#"{"number":1}"#);
    let release = told.split_once("oncegate slots release --hold ").expect(&told).1;
    let (slot, hold) = release.trim_end().split_once('/').expect(release);
    assert_eq!((slot.len(), hold.len()), (32, 32), "{told}");
    let mut command = Command::new(program());
    let release = command.args(["slots", "release", "--hold", release.trim_end(), "--config"]);
    assert!(release.arg(&stand.gate.config).status().unwrap().success());
    assert_eq!(stand.send(&book("eve")).status, 201);
}
