//! What becomes of a booking's slots when it changes in ways that its request alone does not tell.

use crate::harness::{Call, Config, Handed, RawBackend, Reply, Stand, assert_problem, eventually, program};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

const ROUTES: &str = r#"
[[route]]
name = "book"
match = "POST /api/bookings"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "change"
match = ["PATCH /api/bookings/{id}", "DELETE /api/bookings/{id}"]
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id", when = { "$.status" = ["CANCELLED"] } }
"#;

fn stand(routes: &'static str) -> Stand {
    Stand::with(Config { routes, ..Config::default() })
}

fn place(slot: usize) -> Value {
    json!({"clinicId": "c1", "doctor": "Rao", "date": "2026-11-25", "slotIndex": slot})
}

fn book(patient: &str, slot: usize) -> Call {
    Call::post("/api/bookings", place(slot).to_string()).header("Authorization", &format!("Bearer {patient}"))
}

fn patch(id: &Value, body: &Value) -> Call {
    let call = Call::new("PATCH", &format!("/api/bookings/{id}")).header("Content-Type", "application/json");
    call.header("Authorization", "Bearer ann").body(body.to_string())
}

fn delete(id: &Value) -> Call {
    Call::new("DELETE", &format!("/api/bookings/{id}")).header("Authorization", "Bearer ann")
}

/// Tells the gate which slots the booking `id` has.
fn import(stand: &Stand, id: &Value, slots: impl IntoIterator<Item = usize>) -> Output {
    let line = |slot| {
        let mut line = place(slot);
        line["id"] = id.clone();
        format!("{line}\n")
    };
    let file = stand.gate.config.with_file_name("bookings.ndjson");
    std::fs::write(&file, slots.into_iter().map(line).collect::<String>()).unwrap();
    let mut command = Command::new(program());
    command.args(["slots", "import", "--slot", "doctor-slot"]).arg(file).arg("--config");
    command.arg(&stand.gate.config).output().unwrap()
}

/// The states of the holds.
fn holds(stand: &Stand) -> Vec<String> {
    let page = Call::new("GET", "/api/slots?limit=1000").send(stand.gate.admin).unwrap().json();
    let states = page["holds"].as_array().unwrap().iter().map(|hold| hold["state"].as_str().unwrap().into());
    states.collect()
}

#[track_caller]
fn assert_taken(reply: &Reply, state: &str) {
    assert_problem(reply, 409, "slot-taken");
    assert_eq!(reply.json()["state"], state);
}

#[test]
fn a_booking_of_which_only_the_answer_says_that_it_is_back_has_its_slot_again() {
    let stand = stand(ROUTES.replace("\"$.status\"", "\"answer:$.changed.status\"").leak());
    let id = stand.send(&book("ann", 1)).json()["id"].clone();
    let change = |status: &str, note: u32| stand.send(&patch(&id, &json!({"status": status, "note": note})));
    assert_eq!(change("CANCELLED", 1).status, 200);
    assert_eq!(holds(&stand), ["released"]);
    assert_eq!(change("BOOKED", 2).status, 200);
    assert_taken(&stand.send(&book("eve", 1)), "held");
    // Cancelled twice, and what was said the second time is a write as any other: its copy is answered, not sent.
    for note in [3, 4] {
        assert_eq!(change("CANCELLED", note).status, 200);
        let before = stand.backend.effects().len();
        assert!(change("CANCELLED", note).is_replay());
        assert_eq!((stand.backend.effects().len(), holds(&stand)), (before, vec!["released".to_owned()]));
    }
    // Somebody else has it by now, and the booking cannot come back; it can still go for good.
    assert_eq!(stand.send(&book("eve", 1)).status, 201);
    assert_taken(&change("BOOKED", 5), "held");
    assert_eq!(stand.send(&delete(&id)).status, 404, "the backend's own word");
}

#[test]
fn a_booking_with_several_places_of_one_slot_is_changed_and_cancelled_as_one() {
    let stand = stand(ROUTES);
    let id = book("ann", 1).send(stand.backend.address).unwrap().json()["id"].clone();
    assert!(import(&stand, &id, [1, 2, 3]).status.success());
    assert_eq!(stand.send(&patch(&id, &json!({"note": "x"}))).status, 200);
    assert_problem(&stand.send(&patch(&id, &json!({"slotIndex": 9}))), 422, "slot-unnamed");
    assert_eq!(stand.send(&patch(&id, &place(2))).status, 200, "it names one that it has");
    assert_eq!(holds(&stand), ["held"; 3]);
    assert_eq!(stand.send(&patch(&id, &json!({"status": "CANCELLED"}))).status, 200);
    assert_eq!(holds(&stand), ["released"; 3]);
    assert_eq!(stand.send(&patch(&id, &json!({"status": "BOOKED"}))).status, 200);
    for slot in 1..=3 {
        assert_taken(&stand.send(&book("eve", slot)), "held");
    }
    // It comes back with all of them or not at all.
    assert_eq!(stand.send(&patch(&id, &json!({"status": "CANCELLED", "note": 2}))).status, 200);
    assert_eq!(stand.send(&book("eve", 3)).status, 201);
    assert_taken(&stand.send(&patch(&id, &json!({"status": "BOOKED", "note": 2}))), "held");
    assert_eq!(stand.send(&book("eve", 1)).status, 201);
    assert_eq!(stand.send(&delete(&id)).status, 404, "the backend's own word");
}

#[test]
fn of_two_changes_of_a_booking_with_several_places_one_goes_first() {
    let stand = stand(ROUTES);
    let id = book("ann", 1).send(stand.backend.address).unwrap().json()["id"].clone();
    assert!(import(&stand, &id, [1, 2]).status.success());
    let slowly = |status: &str| patch(&id, &json!({"status": status})).header("X-Demo-Fault", "delay=300");
    let replies = crate::harness::at_once(stand.gate.address, &[slowly("CANCELLED"), slowly("NO_SHOW")]);
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[test]
fn every_line_of_a_booking_is_held_or_none_of_it_is_adopted() {
    let stand = stand(ROUTES);
    let told = import(&stand, &json!(7), 1..=300);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(holds(&stand).len(), 300);
    assert_taken(&stand.send(&book("eve", 1)), "held");
    // What no line names any more is free.
    assert!(import(&stand, &json!(7), 2..=300).status.success());
    assert_eq!(stand.send(&book("eve", 1)).status, 201);
    let told = import(&stand, &json!(7), 2..=502);
    let why = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && why.contains("more than 500 lines; nothing was adopted"), "{why}");
    assert_eq!(holds(&stand).len(), 300);
}

#[test]
fn a_part_of_a_larger_import_ends_nothing_that_another_part_may_have_named() {
    let stand = stand(ROUTES);
    let part = |slot: usize| {
        let mut line = place(slot);
        line["id"] = json!(7);
        let path = "/api/slots/import?slot=doctor-slot&part=true";
        Call::post(path, line.to_string()).send(stand.gate.admin).unwrap().status
    };
    assert_eq!((part(1), part(2)), (200, 200));
    assert_eq!(holds(&stand), ["held"; 2]);
}

#[test]
fn a_cancellation_for_good_goes_on_where_nobody_knows_what_became_of_a_change() {
    let stand = stand(ROUTES);
    let id = stand.send(&book("ann", 1)).json()["id"].clone();
    let moved = patch(&id, &json!({"slotIndex": 2})).header("X-Demo-Fault", "reset-after");
    assert_problem(&stand.send(&moved), 502, "outcome-unknown");
    assert_eq!(holds(&stand).len(), 2);
    assert_problem(&stand.send(&patch(&id, &json!({"status": "CANCELLED"}))), 409, "in-flight");
    assert_eq!(stand.send(&delete(&id)).status, 200);
    assert_eq!(holds(&stand), [""; 0]);
    for slot in [1, 2] {
        assert_eq!(stand.send(&book("eve", slot)).status, 201);
    }
}

#[test]
fn a_cancellation_for_good_waits_for_a_change_that_is_at_work() {
    let stand = stand(ROUTES);
    let id = stand.send(&book("ann", 1)).json()["id"].clone();
    let moved = patch(&id, &json!({"slotIndex": 2})).header("X-Demo-Fault", "delay=500");
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| stand.send(&moved).status);
        eventually("it is at work", || holds(&stand).contains(&"reserved".to_owned()).then_some(()));
        assert_problem(&stand.send(&delete(&id)), 409, "in-flight");
        assert_eq!(moving.join().unwrap(), 200);
    });
    assert_eq!(stand.send(&delete(&id)).status, 200);
    assert_eq!(holds(&stand), [""; 0]);
}

#[test]
fn an_import_while_its_booking_is_being_made_means_the_same_place() {
    let stand = stand(ROUTES);
    let slowly = book("ann", 1).header("X-Demo-Fault", "delay-after=700");
    let id = std::thread::scope(|scope| {
        let booking = scope.spawn(|| stand.send(&slowly));
        eventually("the backend has it", || stand.backend.effects().first().cloned());
        let told = String::from_utf8(import(&stand, &json!(1), [1]).stdout).unwrap();
        assert!(told.contains("line 1: the slot has no place left"), "{told}");
        assert_eq!(holds(&stand).len(), 2);
        booking.join().unwrap().json()["id"].clone()
    });
    assert_eq!((id.clone(), holds(&stand)), (json!(1), vec!["held".to_owned()]));
    assert_eq!(stand.send(&delete(&id)).status, 200);
    assert_eq!(holds(&stand), [""; 0]);
}

#[test]
fn a_cancellation_whose_record_does_not_say_of_what_leaves_a_word_to_the_operator() {
    let stand = stand(ROUTES);
    let long = json!(10_u64.pow(18)).to_string().repeat(14);
    let cancel = Call::new("DELETE", &format!("/api/bookings/{long}")).header("X-Demo-Fault", "reset-before");
    assert_problem(&stand.send(&cancel), 502, "outcome-unknown");
    let [id] = stand.in_doubt().try_into().unwrap();
    let told = stand.claims(&["resolve", &id, "--executed", "--status", "204"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("whether it gave back its doctor-slot"), "{told}");
}

#[test]
fn what_is_only_observed_is_known_as_well_once_it_is_enforced() {
    let mut stand = Stand::with(Config { routes: ROUTES, top: "mode = \"observe\"", ..Config::default() });
    // Its id is only in the answer's body.
    let id = stand.send(&book("ann", 1)).json()["id"].clone();
    // Nobody knows what became of this one; of that one a copy of it does.
    for slot in [2, 3] {
        assert_eq!(stand.send(&book("ann", slot).header("X-Demo-Fault", "reset-before")).status, 502);
    }
    let copied = stand.send(&book("ann", 3)).json()["id"].clone();
    // Nothing was sent of it, or it was refused.
    assert_eq!(stand.send(&book("ann", 4).header("X-Demo-Fault", "status=422")).status, 422);
    eventually("all is noted", || {
        (holds(&stand).iter().filter(|state| *state == "held").count() == 2).then_some(())
    });
    assert_eq!(stand.in_doubt().len(), 1);
    stand.gate.kill();
    let text = std::fs::read_to_string(&stand.gate.config).unwrap();
    std::fs::write(&stand.gate.config, text.replace("mode = \"observe\"", "mode = \"enforce\"")).unwrap();
    stand.start();
    for (slot, state) in [(1, "held"), (2, "unsettled"), (3, "held")] {
        assert_taken(&stand.send(&book("eve", slot)), state);
    }
    assert_eq!(stand.send(&book("eve", 4)).status, 201);
    for id in [id, copied] {
        assert_eq!(stand.send(&delete(&id)).status, 200);
    }
    for slot in [1, 3] {
        assert_eq!(stand.send(&book("eve", slot)).status, 201);
    }
}

#[test]
fn an_answer_that_does_not_say_whether_a_booking_is_back_leaves_it_given_back() {
    let raw = RawBackend::start(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    });
    let cancel = ROUTES[ROUTES.rfind("[[route]]").unwrap()..].replace("PATCH /api", "PUT /api");
    let answered =
        ROUTES.replace("\"$.status\"", "\"answer:$.status\"").replace(", \"DELETE /api/bookings/{id}\"", "");
    let routes = (answered + &cancel.replace("\"change\"", "\"cancel\"")).leak();
    let stand = Stand::with(Config { routes, backend: Some(raw.address), ..Config::default() });
    assert!(import(&stand, &json!(7), [1]).status.success());
    let cancel = Call::new("PUT", "/api/bookings/7").header("Content-Type", "application/json");
    assert_eq!(stand.send(&cancel.body(r#"{"status":"CANCELLED"}"#)).status, 204);
    assert_eq!(stand.send(&patch(&json!(7), &json!({"note": 1}))).status, 204);
    assert_eq!(holds(&stand), ["released"]);
}

#[test]
fn a_change_waits_for_a_cancellation_for_good_that_is_at_work() {
    let stand = stand(ROUTES);
    let id = stand.send(&book("ann", 1)).json()["id"].clone();
    std::thread::scope(|scope| {
        let cancels = scope.spawn(|| stand.send(&delete(&id).header("X-Demo-Fault", "delay=500")).status);
        eventually("it is at work", || holds(&stand).contains(&"reserved".to_owned()).then_some(()));
        assert_problem(&stand.send(&patch(&id, &json!({"slotIndex": 2}))), 409, "in-flight");
        assert_eq!(cancels.join().unwrap(), 200);
    });
    assert_eq!(holds(&stand), [""; 0]);
}

#[test]
fn a_booking_of_five_hundred_places_is_cancelled_without_holding_anybody_up() {
    let stand = stand(ROUTES);
    let id = book("ann", 1).send(stand.backend.address).unwrap().json()["id"].clone();
    assert!(import(&stand, &id, 1..=500).status.success());
    let started = Instant::now();
    assert_eq!(stand.send(&patch(&id, &json!({"status": "CANCELLED"}))).status, 200);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(holds(&stand), ["released"; 500]);
}

/// Sends `call`, and answers it as the backend with `status`; with 0, by breaking off.
fn served(stand: &Stand, handed: &Handed, call: &Call, status: u16) -> u16 {
    thread::scope(|scope| {
        let client = scope.spawn(|| stand.send(call));
        answer(&mut handed.next().1, status);
        client.join().unwrap().status
    })
}

fn answer(connection: &mut TcpStream, status: u16) {
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 8\r\n\r\n{{\"id\":7}}");
    connection.write_all(if status == 0 { b"" } else { head.as_bytes() }).unwrap();
}

/// The requests that the gate serves at this moment.
fn in_flight(stand: &Stand) -> bool {
    let text = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    !text.contains("\noncegate_in_flight 0\n")
}

#[test]
fn a_cancellation_without_a_claim_counts_although_its_client_has_left() {
    const FORWARDED: &str = r#"
[[route]]
name = "book"
match = "POST /api/bookings"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "cancel"
match = ["DELETE /api/bookings/{id}", "POST /api/bookings/{id}/cancel"]
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }
[route.idempotency]
in_doubt = "forward"

[[route]]
name = "plain"
match = "POST /cancel/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }
"#;
    // Nobody knows of the first, so the second is sent without a claim; or it is sent because nothing is enforced; or its
    // route guards nothing.
    for (mode, first, method, target) in [
        ("", Some((0, 502)), "DELETE", "/api/bookings/7"),
        ("", Some((0, 502)), "POST", "/api/bookings/7/cancel"),
        ("mode = \"observe\"", Some((500, 500)), "DELETE", "/api/bookings/7"),
        ("", None, "POST", "/cancel/7"),
    ] {
        let handed = Handed::start();
        let stand = Stand::with(Config { routes: FORWARDED, top: mode, ..handed.config() });
        assert_eq!(served(&stand, &handed, &book("ann", 1), 201), 201);
        let cancel = Call::new(method, target).header("Authorization", "Bearer ann");
        if let Some((answers, told)) = first {
            assert_eq!(served(&stand, &handed, &cancel, answers), told);
        }
        let mut leaving = TcpStream::connect(stand.gate.address).unwrap();
        leaving.write_all(&cancel.bytes(stand.gate.address)).unwrap();
        let (_, mut connection) = handed.next();
        assert!(in_flight(&stand), "{method} {target}");
        drop(leaving);
        eventually("the gate sees that it has left", || (!in_flight(&stand)).then_some(()));
        answer(&mut connection, 200);
        eventually("its slot is given back", || holds(&stand).is_empty().then_some(()));
    }
}
