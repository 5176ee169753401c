//! Before a slot is refused: a booking that was cancelled where no gate sees it is asked for, and only what is surely gone
//! gives its slot back.

use crate::harness::{Backend, Call, Config, Reply, Stand, assert_problem, at_once, eventually};
use oncegate::cli::demo::gate::Gate;
use std::thread;
use std::time::{Duration, Instant};

mod fleet;

const ROUTES: &str = r#"
[[route]]
name = "book"
match = ["POST /api/bookings", "POST /api/walk-ins"]
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"
recover = { get = "/api/bookings/{id}", found = "$", gone = { "$.status" = "CANCELLED" }, apart = "50ms" }

[[route]]
name = "note"
match = "POST /api/notes"
upstream = "scheduler"
[[route.slot]]
name = "room"
by = ["$.room"]
hold = "90d"
recover = { get = "/api/nothing?room={$.room}", found = "$", attempts = 2, apart = "50ms" }

[[route]]
name = "class"
match = "POST /api/class-sessions"
upstream = "scheduler"
[[route.slot]]
name = "class"
by = ["$.date"]
capacity = 3
hold = "90d"
id = "$.id"
recover = { get = "/api/bookings/{id}", found = "$", apart = "50ms" }

[[route]]
name = "cancel"
match = "DELETE /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }
"#;

/// A hold is that old before it is asked about: the backend's `timeout` and `pause`.
const QUIET: Duration = Duration::from_millis(1100);
const UPSTREAM: &str = "timeout = \"1s\"\npause = \"100ms\"";

fn stand() -> Stand {
    Stand::with(Config { routes: ROUTES, upstream: UPSTREAM, ..Config::default() })
}

fn book(patient: &str, slot: usize) -> Call {
    let body = format!(r#"{{"clinicId":"c1","doctor":"Rao","date":"2026-11-25","slotIndex":{slot}}}"#);
    Call::post("/api/bookings", body)
        .header("Authorization", &format!("Bearer {patient}"))
        .header("Host", "bookings.example")
}

fn note(who: usize, room: usize) -> Call {
    Call::post("/api/notes", format!(r#"{{"room":{room}}}"#))
        .header("Authorization", &format!("Bearer {who}"))
}

/// Books through the gate, and waits until the hold is old enough to be asked about.
#[track_caller]
fn booked(stand: &Stand, slot: usize) -> String {
    let made = stand.send(&book("ann", slot));
    assert_eq!(made.status, 201, "{}", made.text());
    thread::sleep(QUIET);
    made.json()["id"].to_string()
}

/// What somebody does in the backend's own page.
fn cancel_behind(backend: &Backend, id: &str) {
    let cancelled = Call::new("DELETE", &format!("/api/bookings/{id}")).send(backend.address).unwrap();
    assert_eq!(cancelled.status, 200);
}

#[track_caller]
fn assert_taken(reply: &Reply) {
    assert_problem(reply, 409, "slot-taken");
}

fn metric(gate: &Gate, series: &str) -> u64 {
    let text = Call::new("GET", "/metrics").send(gate.admin).unwrap().text();
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

fn probed(gate: &Gate, slot: &str, shown: &str) -> u64 {
    metric(gate, &format!(r#"oncegate_slots_probed_total{{slot="{slot}",shown="{shown}"}}"#))
}

fn vacated(gate: &Gate) -> u64 {
    metric(gate, r#"oncegate_events_total{event="slot-vacated"}"#)
}

#[test]
fn a_booking_that_was_cancelled_where_the_gate_does_not_see_it_gives_its_slot_back() {
    let mut stand = stand();
    let id = booked(&stand, 7);
    cancel_behind(&stand.backend, &id);
    let eve = stand.send(&book("eve", 7));
    assert_eq!((eve.status, eve.is_replay()), (201, false), "{}", eve.text());
    assert_eq!((probed(&stand.gate, "doctor-slot", "freed"), vacated(&stand.gate)), (1, 1));
    let log = std::fs::read_to_string(stand.gate.config.with_file_name("gate.log")).unwrap();
    let line = log.lines().find(|line| line.contains(r#""event":"slot-vacated""#)).expect("it is said");
    assert!(line.contains(r#""slot":"doctor-slot""#) && line.contains(r#""held_by":""#), "{line}");
    assert!(!line.contains("Rao") && !line.contains("Bearer"), "neither values nor a credential: {line}");
    // Whoever had it is one of many now: the same words again are a new intent, and the slot is eve's.
    assert_taken(&stand.send(&book("ann", 7)));
    stand.gate.kill();
    stand.start();
    assert_taken(&stand.send(&book("bob", 7)));
    assert_eq!(stand.backend.effects().len(), 3, "a booking, its cancellation, a booking");
}

#[test]
fn a_booking_that_is_there_is_asked_for_once_in_a_while_however_many_want_its_slot() {
    let stand = stand();
    booked(&stand, 7);
    let (started, before) = (Instant::now(), stand.backend.requests());
    let calls: Vec<Call> = (0..40).map(|n| book(&format!("p{n}"), 7)).collect();
    for _ in 0..5 {
        at_once(stand.gate.address, &calls).iter().for_each(assert_taken);
    }
    let asked = stand.backend.requests() - before;
    assert!(asked >= 1 && asked <= 1 + started.elapsed().as_secs() / 5, "{asked} in {:?}", started.elapsed());
    assert_eq!(probed(&stand.gate, "doctor-slot", "there"), asked);
    assert_eq!(vacated(&stand.gate), 0);
    // It may be asked about again, after a rest.
    eventually("it is asked again", || {
        assert_taken(&stand.send(&book("eve", 7)));
        (stand.backend.requests() > before + asked).then_some(())
    });
}

#[test]
fn only_a_backend_that_says_so_each_time_has_lost_a_booking() {
    let stand = stand();
    for (slot, faults, shown) in [
        // Two answers say that there is none, the third has it.
        (1, &["status=404", "status=404"][..], "there"),
        (2, &["status=500"], "nothing"),
        (3, &["status=403"], "nothing"),
        (4, &["status=404", "reset-before"], "nothing"),
        (5, &["status=404", "status=404", "delay=3000"], "nothing"),
        (6, &["status=404", "status=410", "truncate=30"], "nothing"),
    ] {
        let id = booked(&stand, slot);
        let before = probed(&stand.gate, "doctor-slot", shown);
        for fault in faults {
            stand.backend.order(&format!("/api/bookings/{id}"), 1, fault);
        }
        assert_taken(&stand.send(&book("eve", slot)));
        assert_eq!(probed(&stand.gate, "doctor-slot", shown), before + 1, "{faults:?}");
    }
    let id = booked(&stand, 7);
    stand.backend.order(&format!("/api/bookings/{id}"), 3, "status=404");
    let freed = stand.send(&book("eve", 7));
    assert_eq!((freed.status, vacated(&stand.gate)), (409, 1), "the backend's own check: {}", freed.text());
    assert!(freed.text().contains("taken by booking"), "{}", freed.text());
}

#[test]
fn what_is_new_is_not_asked_about_yet_and_what_is_unsettled_never() {
    let stand = stand();
    let (made, before) = (Instant::now(), stand.backend.requests());
    assert_eq!(stand.send(&note(1, 5)).status, 201);
    let refused = stand.send(&note(2, 5));
    let asked = stand.backend.requests() - before - 1;
    assert!(asked == 0 || made.elapsed() > QUIET, "{asked} questions after {:?}", made.elapsed());
    if asked == 0 {
        assert_taken(&refused);
    }
    let unsettled = stand.send(&note(3, 6).header("X-Demo-Fault", "status=500"));
    assert_eq!(unsettled.status, 500);
    thread::sleep(QUIET);
    let before = stand.backend.requests();
    for who in 4..8 {
        let refused = stand.send(&note(who, 6));
        assert_taken(&refused);
        assert_eq!(refused.json()["state"], "unsettled");
    }
    assert_eq!((stand.backend.requests(), vacated(&stand.gate)), (before, 0));
    // A hold that nobody has named is known by its values; this backend has no such page at all.
    let mut notes = 9..;
    eventually("the slot rests no more", || {
        (stand.send(&note(notes.next().unwrap(), 5)).status == 201).then_some(())
    });
    assert_eq!(vacated(&stand.gate), 1);
}

#[test]
fn of_fifty_who_want_what_is_gone_one_gets_it_and_one_question_was_asked() {
    let stand = stand();
    let id = booked(&stand, 7);
    cancel_behind(&stand.backend, &id);
    stand.backend.order(&format!("/api/bookings/{id}"), 1, "delay=300");
    let (requests, effects) = (stand.backend.requests(), stand.backend.effects().len());
    let calls: Vec<Call> = (0..50).map(|n| book(&format!("p{n}"), 7)).collect();
    let replies = at_once(stand.gate.address, &calls);
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    replies.iter().filter(|reply| reply.status != 201).for_each(assert_taken);
    assert_eq!(stand.backend.requests() - requests, 3 + 1, "three times one question, and one booking");
    assert_eq!((stand.backend.effects().len() - effects, vacated(&stand.gate)), (1, 1));
}

#[test]
fn a_slot_that_somebody_else_took_while_the_backend_was_asked_stays_theirs() {
    let stand = stand();
    let id = booked(&stand, 7);
    cancel_behind(&stand.backend, &id);
    stand.backend.order(&format!("/api/bookings/{id}"), 1, "delay=800");
    let before = stand.backend.requests();
    let asking = thread::scope(|scope| {
        let asking = scope.spawn(|| stand.send(&book("eve", 7)));
        stand.wait_for_requests(before + 1);
        // Ann's page knows nothing of it either, and cancels through the gate; then bob is faster.
        stand.send(&Call::new("DELETE", &format!("/api/bookings/{id}")));
        let operator =
            Call::post("/api/slots/release", format!(r#"{{"slot":"doctor-slot","booking":"{id}"}}"#));
        let operator = operator.send(stand.gate.admin).unwrap();
        assert!(matches!(operator.status, 200 | 404), "{}", operator.text());
        assert_eq!(stand.send(&book("bob", 7)).status, 201);
        asking.join().unwrap()
    });
    assert_taken(&asking);
    assert_eq!((probed(&stand.gate, "doctor-slot", "changed"), vacated(&stand.gate)), (1, 0));
    assert_taken(&stand.send(&book("carol", 7)));
}

#[test]
fn of_several_holders_the_one_that_is_gone_is_found() {
    let stand = stand();
    let join = |who: &str| {
        Call::post("/api/class-sessions", r#"{"date":"2026-11-25"}"#)
            .header("Authorization", &format!("Bearer {who}"))
    };
    let ids: Vec<String> =
        ["a", "b", "c"].iter().map(|who| stand.send(&join(who)).json()["id"].to_string()).collect();
    thread::sleep(QUIET);
    // The backend shows classes elsewhere: under this path two of them are there, one is not.
    let shown = [0, 2].map(|at| format!("/api/bookings/{}", ids[at]));
    shown.iter().for_each(|path| stand.backend.order(path, 9, "status-after=200"));
    let late: Vec<u16> = (0..6).map(|n| stand.send(&join(&format!("late-{n}"))).status).collect();
    assert_eq!(late.iter().filter(|status| **status == 201).count(), 1, "{late:?}");
    assert!(late[..3].contains(&201), "each of them is asked about in turn: {late:?}");
    assert_eq!(vacated(&stand.gate), 1);
}

#[test]
fn a_client_that_leaves_while_it_asks_holds_nobody_up() {
    use std::io::Write;
    let stand = stand();
    let id = booked(&stand, 7);
    cancel_behind(&stand.backend, &id);
    stand.backend.order(&format!("/api/bookings/{id}"), 1, "delay=900");
    let before = stand.backend.requests();
    let mut leaving = std::net::TcpStream::connect(stand.gate.address).unwrap();
    leaving.write_all(&book("eve", 7).bytes(stand.gate.address)).unwrap();
    stand.wait_for_requests(before + 1);
    drop(leaving);
    let mut patients = 0..;
    eventually("somebody else gets it", || {
        let patient = format!("p{}", patients.next().unwrap());
        (stand.send(&book(&patient, 7)).status == 201).then_some(())
    });
}
