//! `mode = "observe"`: what is noted of writes whose outcome comes late, in pieces, or to nobody.

use crate::harness::{Call, Config, Handed, Stand, eventually};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

const ROUTES: &str = r#"
[[route]]
name = "book"
match = "POST /api/bookings"
upstream = "scheduler"
timeout = "20s"
[[route.slot]]
name = "doctor-slot"
by = ["$.slotIndex"]
hold = "90d"
id = "$.id"

[[route]]
name = "quick"
match = "POST /quick/bookings"
upstream = "scheduler"
timeout = "1s"
[[route.slot]]
name = "doctor-slot"
by = ["$.slotIndex"]
hold = "90d"
id = "$.id"
"#;

const BODY: &str = "{\"id\":7}";

fn stand(handed: &Handed, store: &'static str) -> Stand {
    Stand::with(Config { routes: ROUTES, top: "mode = \"observe\"", store, ..handed.config() })
}

fn book(slot: usize) -> Call {
    let body = json!({ "slotIndex": slot }).to_string();
    Call::post("/api/bookings", body).header("Authorization", "Bearer ann")
}

/// A client that has sent `call`, and reads nothing by itself.
fn sent(stand: &Stand, call: &Call) -> TcpStream {
    let mut client = TcpStream::connect(stand.gate.address).unwrap();
    client.write_all(&call.bytes(stand.gate.address)).unwrap();
    client
}

/// What the backend says, up to its body, which has `length` bytes.
fn say_head(backend: &mut TcpStream, status: u16, length: usize) {
    let lines = "Content-Type: application/json\r\nLocation: /api/bookings/7\r\nConnection: close";
    write!(backend, "HTTP/1.1 {status} X\r\n{lines}\r\nContent-Length: {length}\r\n\r\n").unwrap();
}

fn say(backend: &mut TcpStream, status: u16, body: &str) {
    say_head(backend, status, body.len());
    backend.write_all(body.as_bytes()).unwrap();
}

/// The client reads until `text` has come.
fn read_up_to(client: &mut TcpStream, text: &str) {
    let mut came = Vec::new();
    while !came.ends_with(text.as_bytes()) {
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap(), 1);
        came.extend(byte);
    }
}

/// The holds: the state of each, and what its booking is called.
fn holds(stand: &Stand) -> Vec<(String, Option<String>)> {
    let page = Call::new("GET", "/api/slots?limit=1000").send(stand.gate.admin).unwrap().json();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let hold = |hold: &serde_json::Value| (text(&hold["state"]).unwrap(), text(&hold["booking"]));
    page["holds"].as_array().unwrap().iter().map(hold).collect()
}

fn named() -> (String, Option<String>) {
    ("held".to_owned(), Some("7".to_owned()))
}

#[track_caller]
fn assert_soon(stand: &Stand, wanted: &[(String, Option<String>)]) {
    let mut last = Vec::new();
    let ask = || {
        last = holds(stand);
        (last == wanted).then_some(())
    };
    eventually(&format!("the holds are {wanted:?}"), ask);
}

/// The client leaves, and the gate sees it.
fn leave(stand: &Stand, client: TcpStream) {
    drop(client);
    eventually("the gate sees that it has left", || {
        let text = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
        text.contains("\noncegate_in_flight 0\n").then_some(())
    });
}

#[test]
fn a_booking_whose_client_leaves_before_it_is_answered_has_its_name() {
    let handed = Handed::start();
    let stand = stand(&handed, "");
    let client = sent(&stand, &book(1));
    let (_, mut backend) = handed.next();
    leave(&stand, client);
    say_head(&mut backend, 201, BODY.len());
    assert_soon(&stand, &[("reserved".to_owned(), None)]);
    backend.write_all(BODY.as_bytes()).unwrap();
    assert_soon(&stand, &[named()]);
}

#[test]
fn a_booking_whose_client_leaves_in_the_middle_of_its_answer_has_its_name() {
    let handed = Handed::start();
    let stand = stand(&handed, "");
    let mut client = sent(&stand, &book(1));
    let (_, mut backend) = handed.next();
    let (begins, ends) = BODY.split_at(4);
    say_head(&mut backend, 201, BODY.len());
    backend.write_all(begins.as_bytes()).unwrap();
    read_up_to(&mut client, begins);
    leave(&stand, client);
    backend.write_all(ends.as_bytes()).unwrap();
    assert_soon(&stand, &[named()]);
}

#[test]
fn an_answer_whose_client_has_left_is_waited_for_as_long_as_its_route_waits() {
    let handed = Handed::start();
    let stand = stand(&handed, "");
    let call = Call::post("/quick/bookings", json!({ "slotIndex": 1 }).to_string());
    let mut client = sent(&stand, &call);
    let (_, mut backend) = handed.next();
    say_head(&mut backend, 201, BODY.len());
    read_up_to(&mut client, "\r\n\r\n");
    leave(&stand, client);
    assert_soon(&stand, &[("unsettled".to_owned(), None)]);
    assert_eq!(stand.in_doubt().len(), 1);
}

#[test]
fn the_name_of_a_booking_is_read_in_an_answer_as_large_as_what_enforcing_keeps() {
    let handed = Handed::start();
    let stand = stand(&handed, "answer_limit = \"256KiB\"");
    for (padded, wanted) in [(200 << 10, named()), (300 << 10, ("held".to_owned(), None))] {
        let body = json!({ "a": "x".repeat(padded), "id": 7 }).to_string();
        thread::scope(|scope| {
            let client = scope.spawn(|| stand.send(&book(padded)).body.len());
            let (_, mut backend) = handed.next();
            say(&mut backend, 201, &body);
            assert_eq!(client.join().unwrap(), body.len());
        });
        eventually("it is noted", || holds(&stand).contains(&wanted).then_some(()));
    }
}

#[test]
fn a_write_that_takes_longer_than_its_lease_is_at_work() {
    let handed = Handed::start();
    let stand = stand(&handed, "lease = \"3s\"");
    // One has no answer yet, of the other a part.
    let _client = sent(&stand, &book(1));
    let (_, mut without) = handed.next();
    let _other = sent(&stand, &book(2));
    let (_, mut begun) = handed.next();
    say_head(&mut begun, 201, BODY.len());
    // The lease passes.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(holds(&stand), [("reserved".to_owned(), None), ("reserved".to_owned(), None)]);
    assert_eq!(stand.in_doubt(), [""; 0]);
    begun.write_all(BODY.as_bytes()).unwrap();
    say(&mut without, 201, BODY);
    assert_soon(&stand, &[named(), named()]);
}

#[test]
fn an_answer_that_breaks_off_leaves_its_write_in_doubt() {
    let handed = Handed::start();
    let stand = stand(&handed, "");
    let mut client = sent(&stand, &book(1));
    let (_, mut backend) = handed.next();
    say_head(&mut backend, 201, BODY.len() + 1);
    backend.write_all(BODY.as_bytes()).unwrap();
    read_up_to(&mut client, BODY);
    drop(backend);
    assert_soon(&stand, &[("unsettled".to_owned(), None)]);
    assert_eq!(stand.in_doubt().len(), 1);
}

#[test]
fn a_copy_that_is_answered_303_settles_a_doubt_and_one_that_is_answered_302_does_not() {
    let handed = Handed::start();
    let stand = stand(&handed, "");
    let answered = |answer: Option<u16>, told: u16| {
        thread::scope(|scope| {
            let client = scope.spawn(|| stand.send(&book(1)).status);
            let (_, mut backend) = handed.next();
            match answer {
                Some(status) => say(&mut backend, status, BODY),
                None => backend.shutdown(Shutdown::Both).unwrap(),
            }
            assert_eq!(client.join().unwrap(), told);
        });
    };
    answered(None, 502);
    assert_soon(&stand, &[("unsettled".to_owned(), None)]);
    answered(Some(302), 302);
    assert_eq!(stand.in_doubt().len(), 1);
    answered(Some(303), 303);
    assert_soon(&stand, &[named()]);
    assert_eq!(stand.in_doubt(), [""; 0]);
}
