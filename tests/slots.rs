//! Slots beyond the incidents: what was there before the gate came, and an operator's word.

use crate::harness::{Call, Config, RawBackend, Reply, Stand, assert_problem, eventually, program};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const ROUTES: &str = r#"
[[route]]
name = "book"
match = "POST /api/bookings"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId | header:X-Clinic", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "cancel"
match = "DELETE /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "doctor-slot", id = "path:id" }

[[route]]
name = "explicit-change"
match = "PUT /api/bookings/{id}"
upstream = "scheduler"
[[route.slot]]
name = "doctor-slot"
by = ["$.clinicId", "$.doctor", "$.date", "$.slotIndex"]
hold = "90d"
id = "path:id"

[[route]]
name = "room"
match = "POST /api/notes"
upstream = "scheduler"
[[route.slot]]
name = "room"
by = ["$.room", "datetime(Asia/Kolkata):$.start"]
hold = "until $.end"
missing = "skip"
"#;

fn stand() -> Stand {
    Stand::with(Config { routes: ROUTES, ..Config::default() })
}

fn book(patient: &str, slot: usize) -> Call {
    let body = format!(r#"{{"clinicId":"c1","doctor":"Rao","date":"2026-11-25","slotIndex":{slot}}}"#);
    Call::post("/api/bookings", body).header("Authorization", &format!("Bearer {patient}"))
}

/// Runs `oncegate slots …` against the stand's gate.
fn slots(stand: &Stand, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("slots").args(arguments).arg("--config").arg(&stand.gate.config).output().unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn write(stand: &Stand, name: &str, text: &str) -> String {
    let file = stand.gate.config.with_file_name(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn state(reply: &Reply) -> String {
    assert_problem(reply, 409, "slot-taken");
    reply.json()["state"].as_str().unwrap().to_owned()
}

#[test]
fn what_the_backend_gave_away_before_is_known_after_an_import() {
    let mut stand = stand();
    // The backend has bookings that no gate has seen.
    let before: Vec<Reply> =
        (1..=3).map(|slot| book("early", slot).send(stand.backend.address).unwrap()).collect();
    let id = |at: usize| before[at].json()["id"].clone();
    let row = |id: &serde_json::Value, slot: usize| {
        format!(r#"{{"id":{id},"clinicId":"c1","doctor":"Rao ","date":"2026-11-25","slotIndex":"{slot}"}}"#)
    };
    let text =
        [row(&id(0), 1), String::new(), row(&id(1), 2), row(&id(2), 2), "{\"id\":9}".to_owned()].join("\n");
    let file = write(&stand, "bookings.ndjson", &text);
    let output = slots(&stand, &["import", "--slot", "doctor-slot", &file]);
    assert_eq!(output.status.code(), Some(1), "one line cannot be read");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.starts_with("3 adopted, 0 known already, 0 ended already, 1 not read\n"), "{told}");
    assert!(
        told.contains("line 4: the slot has no place left") && told.contains("line 5: $.clinicId"),
        "{told}"
    );
    // The same as a table, with a clinic that comes from elsewhere, changes nothing.
    let csv = format!("id,header:X-Clinic,doctor,date,slotIndex\n{},c1,Rao,2026-11-25,1\n", id(0));
    let file = write(&stand, "bookings.csv", &csv);
    assert_eq!(
        said(&slots(&stand, &["import", "--slot", "doctor-slot", &file])),
        "0 adopted, 1 known already, 0 ended already, 0 not read\n"
    );

    assert_eq!(state(&stand.send(&book("late", 1))), "held");
    stand.gate.kill();
    stand.start();
    assert_eq!(state(&stand.send(&book("late", 1))), "held", "it survives a kill");
    let cancel = Call::new("DELETE", &format!("/api/bookings/{}", id(0)));
    assert_eq!(stand.send(&cancel).status, 200);
    assert_eq!(stand.send(&book("late", 1)).status, 201);
}

#[test]
fn equal_bookings_without_an_id_are_as_many_places_and_the_same_ones_again() {
    let routes = r#"
[[route]]
name = "join"
match = "POST /api/notes"
upstream = "scheduler"
[[route.slot]]
name = "class"
by = ["$.class"]
capacity = 3
hold = "90d"
"#;
    let stand = Stand::with(Config { routes, ..Config::default() });
    let import = |rows: usize| {
        let file = write(&stand, "class.ndjson", &"{\"class\":\"yoga\"}\n".repeat(rows));
        slots(&stand, &["import", "--slot", "class", &file])
    };
    assert_eq!(said(&import(2)), "2 adopted, 0 known already, 0 ended already, 0 not read\n");
    assert_eq!(said(&import(3)), "1 adopted, 2 known already, 0 ended already, 0 not read\n");
    let join = |who: &str| Call::post("/api/notes", format!(r#"{{"class":"yoga","who":"{who}"}}"#));
    assert_eq!(state(&stand.send(&join("ann"))), "held");
    // Which of them one is cannot be said across several requests.
    let many = import(5_001);
    let told = String::from_utf8_lossy(&many.stdout).into_owned();
    assert!(told.starts_with("0 adopted, 0 known already, 0 ended already, 5001 not read\n"), "{told}");
    assert!(told.contains("the slot has no `id`"), "{told}");
    assert_eq!(
        said(&import(5_000)),
        "4997 adopted, 3 known already, 0 ended already, 0 not read\n".to_owned() + &over()
    );

    fn over() -> String {
        let line = |n| format!("line {n}: the slot has no place left: the backend gave it away too often\n");
        (4..=5_000).map(line).collect()
    }
}

#[test]
fn an_operator_sees_who_holds_what_and_gives_back_what_the_gate_cannot_see() {
    let stand = stand();
    let id = stand.send(&book("ann", 7)).json()["id"].to_string();
    stand.send(&book("bob", 8).header("X-Demo-Fault", "status=500"));
    let table = said(&slots(&stand, &["list", "--slot", "doctor-slot"]));
    let line = |words: &[&str]| table.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(&["c1 | Rao | 2026-11-25 | 7", "held", &id]), "{table}");
    assert!(line(&["c1 | Rao | 2026-11-25 | 8", "unsettled"]), "{table}");
    assert!(!table.contains("ann"), "{table}");
    let fields = ["clinicId=c1", "doctor=Rao", "date=2026-11-25"];
    let ask = |slot: &str| {
        let mut arguments = vec!["ask", "--slot", "doctor-slot"];
        arguments.extend(fields);
        arguments.push(slot);
        said(&slots(&stand, &arguments))
    };
    assert!(ask("slotIndex=7").contains(": held for "), "{}", ask("slotIndex=7"));
    assert!(ask("slotIndex=9").ends_with(": free\n"));

    // Cancelled past the gate.
    assert_eq!(
        Call::new("DELETE", &format!("/api/bookings/{id}")).send(stand.backend.address).unwrap().status,
        200
    );
    assert_eq!(state(&stand.send(&book("eve", 7))), "held");
    let wrong = slots(&stand, &["release", "--slot", "doctor-slot", "--booking", "999"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(
        said(&slots(&stand, &["release", "--slot", "doctor-slot", "--booking", &id])),
        "1 given back\n"
    );
    assert_eq!(stand.send(&book("eve", 7)).status, 201);
    let unsettled = said(&slots(&stand, &["list", "--state", "unsettled"]));
    let hold = unsettled.lines().nth(1).and_then(|line| line.split_whitespace().last()).unwrap();
    assert_eq!(said(&slots(&stand, &["release", "--hold", hold])), "1 given back\n");
    assert_eq!(stand.send(&book("eve", 8)).status, 201);
    let unknown = slots(&stand, &["list", "--slot", "nothing", "--json"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("there are: doctor-slot, room"), "{said}");
    assert_eq!(slots(&stand, &["ask", "--slot", "nothing", "a=1"]).status.code(), Some(1));
}

#[test]
fn fields_called_slot_and_elements_of_lists_are_asked_about_and_adopted() {
    let routes = r#"
[[route]]
name = "order"
match = "POST /api/orders"
upstream = "scheduler"
[[route.slot]]
name = "table"
by = ["$.slot", "$.items[0].id"]
hold = "1d"
"#;
    let stand = Stand::with(Config { routes, ..Config::default() });
    let ask = |slot: &str, item: &str| said(&slots(&stand, &["ask", "--slot", "table", slot, item]));
    assert!(ask("slot=3", "items[0].id=9").ends_with(": free\n"));
    let file = write(&stand, "tables.csv", "slot,items[0].id\n3,9\n");
    said(&slots(&stand, &["import", "--slot", "table", &file]));
    assert!(ask("slot=3", "items[0].id=9").contains(": held for "));
    assert!(ask("slot=3", "$.items[0].id=8").ends_with(": free\n"));
    let twice = slots(&stand, &["ask", "--slot", "table", "slot=3", "slot=4"]);
    assert_eq!(twice.status.code(), Some(1));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is() {
    let stand = stand();
    let list = |out: Stdio| {
        let mut command = Command::new(program());
        command.args(["slots", "list", "--config"]).arg(&stand.gate.config).stdout(out);
        command.stderr(Stdio::piped()).output().unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(list(writer.into()).status.code(), Some(0));
    let full = list(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
    let told = String::from_utf8_lossy(&full.stderr).into_owned();
    assert_eq!((full.status.code(), told.contains("could not be written")), (Some(1), true), "{told}");
}

#[test]
fn an_outcome_that_an_operator_settles_settles_its_slot() {
    let stand = stand();
    for (slot, how) in [(1, &["--executed", "--status", "201"][..]), (2, &["--not-executed"])] {
        stand.send(&book("ann", slot).header("X-Demo-Fault", "reset-before"));
        assert_eq!(state(&stand.send(&book("eve", slot))), "unsettled");
        let [id] = stand.in_doubt().try_into().unwrap();
        let mut arguments = vec!["resolve", &id];
        arguments.extend(how);
        assert!(stand.claims(&arguments).status.success());
    }
    assert_eq!(state(&stand.send(&book("eve", 1))), "held");
    assert_eq!(stand.send(&book("eve", 2)).status, 201);
}

#[test]
fn a_put_moves_a_booking_that_nobody_has_told_the_gate_of_where_it_says_everything() {
    let stand = stand();
    let id = book("early", 1).send(stand.backend.address).unwrap().json()["id"].clone();
    let put = |body: &str| {
        Call::new("PUT", &format!("/api/bookings/{id}")).header("Content-Type", "application/json").body(body)
    };
    assert_problem(&stand.send(&put(r#"{"slotIndex":5}"#)), 422, "slot-unnamed");
    let whole = r#"{"clinicId":"c1","doctor":"Rao","date":"2026-11-25","slotIndex":5}"#;
    assert_eq!(stand.send(&put(whole)).status, 200);
    assert_eq!(state(&stand.send(&book("eve", 5))), "held");
    // From here on it is known, and a part is enough.
    assert_eq!(stand.send(&put(r#"{"slotIndex":6}"#)).status, 200);
    assert_eq!(stand.send(&book("eve", 5)).status, 201);
    let mut patch = put("[]");
    patch.headers = vec![("Content-Type".to_owned(), "application/json-patch+json".to_owned())];
    assert_problem(&stand.send(&patch), 422, "slot-unnamed");
}

#[test]
fn a_copy_of_a_move_gets_its_answer_after_the_booking_is_gone() {
    let stand = stand();
    let place = format!("/api/bookings/{}", stand.send(&book("ann", 1)).json()["id"]);
    let put = |key: &str| {
        let call = Call::new("PUT", &place).header("Content-Type", "application/json");
        call.header("Idempotency-Key", key).body(r#"{"slotIndex":2}"#)
    };
    let moved = stand.send(&put("3f0c7d52-7a1e-4c3b-9d43-52d1f6f3a8aa"));
    assert_eq!(stand.send(&Call::new("DELETE", &place)).status, 200);
    let copy = stand.send(&put("3f0c7d52-7a1e-4c3b-9d43-52d1f6f3a8aa"));
    assert_eq!((copy.status, copy.is_replay(), copy.body), (200, true, moved.body));
    assert_problem(&stand.send(&put("8b1f6a70-0c55-4f0e-8a53-0f7a1d3c2b19")), 422, "slot-unnamed");
}

#[test]
fn of_two_changes_of_one_booking_at_once_one_goes_first_and_no_slot_is_lost() {
    let stand = stand();
    let id = stand.send(&book("ann", 1)).json()["id"].clone();
    let put = |slot: usize| {
        let call =
            Call::new("PUT", &format!("/api/bookings/{id}")).header("Content-Type", "application/json");
        call.header("X-Demo-Fault", "delay=200").body(format!(r#"{{"slotIndex":{slot}}}"#))
    };
    let replies = crate::harness::at_once(stand.gate.address, &[put(2), put(3)]);
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let moved = if replies[0].status == 200 { 2 } else { 3 };
    assert_eq!(state(&stand.send(&book("eve", moved))), "held");
    assert_eq!(stand.send(&book("eve", 5 - moved)).status, 201, "what the other one asked for is free");
    assert_eq!(stand.send(&book("eve", 1)).status, 201);
}

#[test]
fn an_end_that_the_request_names_counts_and_what_is_missing_may_take_no_slot() {
    let stand = stand();
    let note =
        |n: usize, body: &str| Call::post("/api/notes", body).header("Authorization", &format!("Bearer {n}"));
    let room = r#"{"room":1,"start":"2099-01-01T10:00","end":"2099-01-01T11:00"}"#;
    assert_eq!(stand.send(&note(1, room)).status, 201);
    let elsewhere = r#"{"room":"1","start":"2099-01-01T04:30:00Z","end":"2099-01-01T11:00"}"#;
    assert_eq!(state(&stand.send(&note(2, elsewhere))), "held");
    let over = r#"{"room":2,"start":"2020-01-01T10:00","end":"2020-01-01T11:00"}"#;
    assert_eq!(stand.send(&note(3, over)).status, 201);
    assert_eq!(stand.send(&note(4, over)).status, 201, "its time is over");
    assert_eq!(stand.send(&note(5, r#"{"room":1}"#)).status, 201, "`missing = \"skip\"`");
    assert_eq!(stand.send(&note(6, r#"{"room":1}"#)).status, 201);
    assert_problem(
        &stand.send(&note(7, r#"{"room":1,"start":"soon","end":"2099-01-01"}"#)),
        422,
        "slot-unnamed",
    );
}

#[test]
fn a_cancellation_that_a_post_asks_for_gives_its_slot_back() {
    // A backend that acts on such methods, and has one booking.
    let raw = RawBackend::start(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\nConnection: close\r\n\r\n{\"id\":7}");
    });
    let cancel = |name: &str, path: &str, guard: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nmatch = \"DELETE {path}/{{id}}\"\nupstream = \"scheduler\"\n\
             release = {{ slot = \"doctor-slot\", id = \"path:id\" }}\n{guard}\n"
        )
    };
    // Of the POST itself the first is guarded by a later route, and of the others nothing is.
    let guard = "[route.idempotency]";
    let routes =
        [cancel("a", "/api/strict", guard), cancel("b", "/strict", guard), cancel("c", "/plain", "")]
            .concat();
    let routes = (routes + ROUTES).leak();
    let stand = Stand::with(Config { backend: Some(raw.address), routes, ..Config::default() });
    let overridden = ("X-HTTP-Method-Override", "DELETE");
    for (cancel, (name, value)) in [
        (Call::new("POST", "/plain/7"), overridden),
        (Call::new("POST", "/plain/7?%5Fmethod=DELETE"), ("X-A", "b")),
        (Call::new("POST", "/api/strict/7"), overridden),
        (Call::new("POST", "/strict/7"), overridden),
        (Call::new("PATCH", "/strict/7"), overridden),
    ] {
        let what = format!("{} {}", cancel.method, cancel.target);
        assert_eq!(stand.send(&book("ann", 1)).status, 200, "before {what}");
        assert_eq!(state(&stand.send(&book("eve", 1))), "held", "before {what}");
        assert_eq!(stand.send(&cancel.header(name, value)).status, 200, "{what}");
        assert_eq!(stand.send(&book("eve", 1)).status, 200, "after {what}");
        assert_eq!(stand.send(&Call::new("DELETE", "/api/bookings/7")).status, 200);
    }
    // What asks for nothing cancels nothing.
    assert_eq!(stand.send(&book("ann", 1)).status, 200);
    assert_eq!(stand.send(&Call::new("POST", "/plain/7?method=DELETE")).status, 200);
    assert_eq!(state(&stand.send(&book("eve", 1))), "held");
}

#[test]
fn observing_tells_of_taken_slots_and_gives_them_away() {
    let stand = Stand::with(Config { routes: ROUTES, top: "mode = \"observe\"", ..Config::default() });
    assert_eq!(stand.send(&book("ann", 1)).status, 201);
    let second = stand.send(&book("bob", 1));
    assert_eq!(second.status, 409, "the backend's own check");
    let metrics = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    assert!(metrics.contains(r#"oncegate_slots_refused_total{slot="doctor-slot"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"decision="would-refuse"} 1"#));
}

#[test]
fn a_slot_that_a_5xx_left_unsettled_is_found_by_its_request_id_and_becomes_the_bookings_own() {
    let stand = stand();
    let failed = stand.send(&book("bob", 8).header("X-Demo-Fault", "status-after=500"));
    assert_eq!(failed.status, 500);
    let table = said(&slots(&stand, &["list", "--state", "unsettled"]));
    let request_id = failed.header("x-request-id").unwrap();
    assert!(table.lines().next().unwrap().contains("REQUEST ID"), "{table}");
    assert!(table.lines().nth(1).unwrap().contains(request_id), "{table}");
    // Its record is not in doubt, and whoever tries to settle it is told what to do.
    let records = stand.claims(&["list", "--phase", "done"]);
    let records = String::from_utf8(records.stdout).unwrap();
    let record = records.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap();
    let refused = stand.claims(&["resolve", record, "--executed", "--status", "201"]);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("this record is done, answered 500") && why.contains(request_id), "{why}");
    let hold = table.lines().nth(1).and_then(|line| line.split_whitespace().last()).unwrap();
    assert!(why.contains(&format!("oncegate slots release --hold {hold}")), "{why}");
    // The backend has it: that is told first, and then the hold that nobody knows goes.
    let line = r#"{"id":1,"clinicId":"c1","doctor":"Rao","date":"2026-11-25","slotIndex":8}"#;
    let file = write(&stand, "one.ndjson", &format!("{line}\n"));
    let told = said(&slots(&stand, &["import", "--slot", "doctor-slot", &file]));
    assert!(told.starts_with("1 adopted, "), "{told}");
    assert_eq!(said(&slots(&stand, &["release", "--hold", hold])), "1 given back\n");
    assert_eq!(state(&stand.send(&book("eve", 8))), "held");
    assert_eq!(stand.send(&Call::new("DELETE", "/api/bookings/1")).status / 100, 2);
    assert_eq!(stand.send(&book("eve", 8)).status, 201);
}

#[test]
fn a_page_that_may_read_the_backends_answers_may_read_that_its_slot_is_taken() {
    let raw = RawBackend::start(|connection| {
        let _ = connection.write_all(
            b"HTTP/1.1 201 Created\r\nAccess-Control-Allow-Origin: https://app.example\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        );
    });
    let stand = Stand::with(Config { routes: ROUTES, backend: Some(raw.address), ..Config::default() });
    let send = |patient: &str, origin: &str| stand.send(&book(patient, 1).header("Origin", origin));
    assert_eq!(send("ann", "https://app.example").status, 201);
    let allowed = |reply: &Reply| reply.header("access-control-allow-origin").map(str::to_owned);
    let taken = send("eve", "https://app.example");
    assert_eq!((taken.status, allowed(&taken).as_deref()), (409, Some("https://app.example")));
    let taken = send("eve", "https://other.example");
    assert_eq!((taken.status, allowed(&taken)), (409, None));
}

#[test]
fn a_booking_that_is_extended_keeps_its_slot_until_the_new_end() {
    const LOANS: &str = r#"
[[route]]
name = "lend"
match = "POST /api/bookings"
upstream = "scheduler"
[[route.slot]]
name = "room"
by = ["$.room"]
hold = "until $.end"
id = "$.id"

[[route]]
name = "extend"
match = "PUT /api/bookings/{id}"
upstream = "scheduler"
release = { slot = "room", id = "path:id", when = { "$.status" = ["CANCELLED"] } }
"#;
    let stand = Stand::with(Config { routes: LOANS, ..Config::default() });
    let seconds = |from_now: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() + from_now
    };
    let lend = |patient: &str, room: u32, end: u64| {
        let body = format!(r#"{{"room":{room},"end":{end},"patient":"{patient}"}}"#);
        stand.send(&Call::post("/api/bookings", body).header("Authorization", &format!("Bearer {patient}")))
    };
    let first_end = seconds(4);
    for (room, change) in
        [(1, format!(r#"{{"end":{}}}"#, seconds(90))), (2, format!(r#"{{"room":2,"end":{}}}"#, seconds(90)))]
    {
        let lent = lend("ann", room, first_end);
        assert_eq!(lent.status, 201, "{}", lent.text());
        let path = format!("/api/bookings/{}", lent.json()["id"]);
        let change = Call::new("PUT", &path).header("Content-Type", "application/json").body(change);
        let extended = stand.send(&change.header("Authorization", "Bearer ann"));
        assert_eq!(extended.status, 200, "{}", extended.text());
    }
    eventually("the first end has come", || (seconds(0) > first_end).then_some(()));
    for room in [1, 2] {
        assert_problem(&lend("bob", room, seconds(60)), 409, "slot-taken");
    }
}
