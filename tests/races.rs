//! Retries, recovery and detection in their details, through a real gateway: what proves that nothing was executed, what does
//! not, and what is asked of whom.

use crate::harness::{Call, Config, Handed, Reply, Stand, assert_problem, at_once, eventually};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const RETRY: &str =
    "[route.retry]\nstatus = [409, 503]\nbody = \"as ordered: nothing\"\nbackoff = [\"100ms\", \"200ms\"]";
const RECOVER: &str = "in_doubt = \"recover\"\n[route.recover]\nget = \"/api/enrolments?patient={$.patient}\"\n\
    found = \"$.items[0]\"\nattempts = 2\napart = \"100ms\"";
const FREE: &str = "in_doubt = \"recover\"\n[route.recover]\nget = \"/api/enrolments?patient={$.patient}\"\n\
    found = \"$.items[0]\"\nattempts = 2\napart = \"50ms\"\nabsent = \"free\"";

fn stand(idempotency: &'static str) -> Stand {
    let upstream = "timeout = \"700ms\"\npause = \"700ms\"";
    Stand::with(Config { idempotency, upstream, ..Config::default() })
}

fn post(path: &str, patient: &str) -> Call {
    Call::post(path, format!(r#"{{"patient":"{patient}"}}"#)).header("Authorization", "Bearer user")
}

fn enrol(patient: &str) -> Call {
    post("/api/enrolments", patient)
}

fn book(patient: &str) -> Call {
    post("/api/bookings", patient)
}

fn events(stand: &Stand, event: &str) -> u64 {
    let text = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    let series = format!("oncegate_events_total{{event=\"{event}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |value| value.parse().unwrap())
}

fn rows(stand: &Stand) -> usize {
    stand.backend.effects().len()
}

#[test]
fn an_answer_that_proves_that_nothing_was_executed_is_followed_by_another_attempt() {
    let stand = stand(RETRY);
    stand.backend.order("/api", 2, "status=503");
    let started = Instant::now();
    let reply = stand.send(&book("1"));
    assert_eq!((reply.status, reply.is_replay()), (201, false));
    assert!(started.elapsed() >= Duration::from_millis(150), "it waited: {:?}", started.elapsed());
    assert_eq!((stand.backend.requests(), rows(&stand), events(&stand, "retry")), (3, 1, 2));
    let copy = stand.send(&book("1"));
    assert_eq!((copy.status, copy.is_replay(), copy.body), (201, true, reply.body));
}

#[test]
fn when_the_retries_are_used_up_the_last_answer_goes_out_and_the_next_request_is_executed() {
    let stand = stand(RETRY);
    stand.backend.order("/api", 3, "status=409");
    let (first, copy) = thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&book("1")));
        stand.wait_for_requests(1);
        let copy = scope.spawn(|| stand.send(&book("1")));
        (first.join().unwrap(), copy.join().unwrap())
    });
    assert_eq!((first.status, first.is_replay()), (409, false));
    assert_eq!(
        (copy.status, copy.is_replay(), &copy.body),
        (409, true, &first.body),
        "copies waited all along"
    );
    assert_eq!((stand.backend.requests(), rows(&stand)), (3, 0));
    let next = stand.send(&book("1"));
    assert_eq!((next.status, next.is_replay()), (201, false));
}

#[test]
fn an_answer_without_the_proof_is_final() {
    let stand = stand(RETRY);
    stand.backend.order("/api", 1, "status-after=503");
    let failed = stand.send(&book("1"));
    assert_eq!(failed.status, 503, "{}", failed.text());
    let copy = stand.send(&book("1"));
    assert_eq!((copy.status, copy.is_replay()), (503, true), "it may have been executed, and it was");
    assert_eq!((stand.backend.requests(), rows(&stand), events(&stand, "retry")), (1, 1, 0));
    // A status that is not listed, with the very text.
    stand.backend.order("/api", 1, "status=500");
    assert_eq!(stand.send(&book("2")).status, 500);
    assert_eq!(stand.backend.requests(), 2);
}

#[test]
fn a_doubt_among_the_attempts_ends_them() {
    let stand = stand(RETRY);
    stand.backend.order("/api", 1, "status=503");
    stand.backend.order("/api", 1, "reset-after=0");
    assert_problem(&stand.send(&book("1")), 502, "outcome-unknown");
    assert_problem(&stand.send(&book("1")), 409, "outcome-unknown");
    assert_eq!((stand.backend.requests(), rows(&stand)), (2, 1));
}

#[test]
fn a_client_that_leaves_between_two_attempts_changes_nothing() {
    let stand = stand(RETRY);
    stand.backend.order("/api", 1, "status=503");
    let mut leaving = TcpStream::connect(stand.gate.address).unwrap();
    leaving.write_all(&book("1").bytes(stand.gate.address)).unwrap();
    stand.wait_for_requests(1);
    drop(leaving);
    eventually("it is executed all the same", || (rows(&stand) == 1).then_some(()));
    let copy = stand.send(&book("1"));
    assert_eq!((copy.status, copy.is_replay()), (201, true));
}

#[test]
fn a_lease_shorter_than_all_attempts_is_renewed_between_them() {
    let stand = Stand::with(Config {
        store: "lease = \"1s\"",
        idempotency: "[route.retry]\nstatus = [503]\nbackoff = [\"2s\"]",
        ..Config::default()
    });
    stand.backend.order("/api", 1, "status=503");
    let reply = stand.send(&book("1"));
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!((stand.backend.requests(), rows(&stand)), (2, 1));
}

#[test]
fn a_lane_is_kept_for_a_retry_however_long_it_waits() {
    let stand = Stand::with(Config {
        upstream: "timeout = \"400ms\"\npause = \"100ms\"",
        idempotency: "[route.lane]\nby = [\"'all'\"]\n[route.retry]\nstatus = [503]\nbackoff = [\"1500ms\"]",
        ..Config::default()
    });
    stand.backend.order("/api", 1, "status=503");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&book("1")));
        stand.wait_for_requests(1);
        let second = scope.spawn(|| stand.send(&book("2")));
        assert_eq!((first.join().unwrap().status, second.join().unwrap().status), (201, 201));
    });
    let order: Vec<_> = stand.backend.effects().iter().map(|effect| effect["detail"].to_string()).collect();
    assert!(order.len() == 2 && order[0].contains("\\\"1\\\""), "nobody came in between: {order:?}");
}

#[test]
fn an_outcome_in_doubt_is_settled_by_asking_before_the_client_is_told() {
    let stand = stand(RECOVER);
    stand.backend.order("/api/enrolments", 1, "reset-after=0");
    let reply = stand.send(&enrol("Wang Fang"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!((reply.json()["patient"].as_str(), rows(&stand)), (Some("Wang Fang"), 1));
    let copy = stand.send(&enrol("Wang Fang"));
    assert_eq!((copy.status, copy.is_replay(), copy.body), (200, true, reply.body));
    assert_eq!(events(&stand, "in-doubt"), 0);
}

#[test]
fn an_answer_that_comes_too_late_is_asked_about_too() {
    let stand = stand(RECOVER);
    // Ordered for the write alone: the question has the write's own headers.
    stand.backend.order("/api/enrolments", 1, "delay-after=5000");
    let reply = stand.send(&enrol("1"));
    assert_eq!((reply.status, reply.json()["patient"].as_str()), (200, Some("1")), "{}", reply.text());
    assert_eq!(rows(&stand), 1);
}

#[test]
fn what_is_not_found_stays_in_doubt_unless_the_route_says_otherwise() {
    let stand = stand(RECOVER);
    stand.backend.order("/api/enrolments", 1, "reset-before");
    assert_problem(&stand.send(&enrol("1")), 502, "outcome-unknown");
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1800) {
        assert_problem(&stand.send(&enrol("1")), 409, "outcome-unknown");
    }
    assert_eq!(rows(&stand), 0);
    // Somebody enters it by hand: the next copy finds it.
    assert_eq!(enrol("1").send(stand.backend.address).unwrap().status, 201);
    let found = stand.send(&enrol("1"));
    assert_eq!((found.status, found.is_replay()), (200, true), "{}", found.text());
}

#[test]
fn what_is_surely_absent_is_freed_when_its_time_is_over_and_not_before() {
    let stand = stand(FREE);
    stand.backend.order("/api/enrolments", 1, "reset-before");
    let since = Instant::now();
    assert_problem(&stand.send(&enrol("1")), 502, "outcome-unknown");
    assert_problem(&stand.send(&enrol("1")), 409, "outcome-unknown");
    let reply: Reply = eventually("it is freed", || {
        let reply = stand.send(&enrol("1"));
        (reply.status != 409).then_some(reply)
    });
    // Timeout and pause together.
    assert!(since.elapsed() >= Duration::from_millis(1400), "{:?}", since.elapsed());
    assert_eq!((reply.status, rows(&stand)), (201, 1));
    assert_eq!(events(&stand, "recovered"), 1);
}

#[test]
fn a_backend_that_cannot_be_asked_frees_nothing() {
    let stand = stand(FREE);
    stand.backend.order("/api/enrolments", 1, "reset-before");
    assert_problem(&stand.send(&enrol("1")), 502, "outcome-unknown");
    stand.backend.order("/api/enrolments", 1000, "status=500");
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1800) {
        assert_problem(&stand.send(&enrol("1")), 409, "outcome-unknown");
    }
    assert_eq!(rows(&stand), 0);
}

#[test]
fn a_doubt_that_a_killed_gate_left_is_settled_by_the_first_copy() {
    let mut stand = stand(RECOVER);
    let orphan = enrol("1").header("X-Demo-Fault", "delay-after=3000");
    thread::scope(|scope| {
        let address = stand.gate.address;
        scope.spawn(move || orphan.send(address));
        stand.wait_for_requests(1);
        eventually("the backend has executed it", || (rows(&stand) == 1).then_some(()));
        stand.gate.kill();
    });
    stand.start();
    // The fault belongs to the request's head, which is no part of its meaning.
    let copy = stand.send(&enrol("1"));
    assert_eq!((copy.status, copy.is_replay(), rows(&stand)), (200, true, 1), "{}", copy.text());
}

#[test]
fn a_crowd_of_copies_asks_once_at_a_time() {
    let stand = stand(RECOVER);
    stand.backend.order("/api/enrolments", 1, "reset-before");
    assert_problem(&stand.send(&enrol("1")), 502, "outcome-unknown");
    let before = stand.backend.requests();
    let replies = at_once(stand.gate.address, &vec![enrol("1"); 20]);
    assert!(replies.iter().all(|reply| reply.status == 409));
    let asked = stand.backend.requests() - before;
    assert!(asked <= 8, "20 copies asked {asked} times");
}

#[test]
fn what_exists_already_and_is_shown_once_more_is_no_duplicate() {
    const DETECT: &str = "[route.recover]\nget = \"/api/enrolments?patient={$.patient}\"\nfound = \"$.items[0]\"\n\
        [route.detect]\nunique = \"answer:$.id\"\nwithin = [\"$.patient\"]";
    // With one worker, what an answer leaves to be done is done before the next request.
    let stand = Stand::with(Config { idempotency: DETECT, server: "workers = 1", ..Config::default() });
    let first = stand.send(&enrol("7"));
    assert_eq!(first.status, 201);
    stand.backend.order("/api/enrolments", 1, "status=409");
    let other = Call::post("/api/enrolments", r#"{"patient":"7"}"#).header("Authorization", "Bearer other");
    let existing = stand.send(&other);
    assert_eq!((existing.status, existing.json()["id"].clone()), (200, first.json()["id"].clone()));
    assert_eq!(stand.send(&enrol("8")).status, 201);
    assert_eq!((events(&stand, "recovered"), events(&stand, "duplicate-answer")), (1, 0));
}

#[test]
fn a_recovered_creation_ends_when_it_is_changed() {
    let stand = stand(
        "in_doubt = \"recover\"\n[route.recover]\nget = \"/api/bookings/{'1'}\"\nfound = \"$\"\nattempts = 1",
    );
    stand.backend.order("/api/bookings", 1, "reset-after=0");
    let booked = stand.send(&book("1"));
    assert_eq!((booked.status, booked.json()["id"].as_i64()), (200, Some(1)));
    let cancel = Call::new("DELETE", "/api/bookings/1").header("Authorization", "Bearer user");
    assert_eq!(stand.send(&cancel).status, 200);
    let again = stand.send(&book("1"));
    assert_eq!((again.status, again.is_replay(), again.json()["id"].as_i64()), (201, false, Some(2)));
}

/// Starts a write whose backend answers nothing in time, and gives the write and the question about it to `backend`; what
/// the client is told, and how the log goes.
fn asked_meanwhile(backend: impl FnOnce(&Handed, &Stand, TcpStream, TcpStream)) -> (Reply, String) {
    const BOTH: &str = "in_doubt = \"recover\"\n[route.recover]\nget = \"/api/enrolments?patient={$.patient}\"\n\
        found = \"$.items[0]\"\nattempts = 1\n[route.retry]\nstatus = [500]\nbody = \"duplicate key\"";
    let handed = Handed::start();
    // With one worker, what an attempt does behind its answer is done before the client has that.
    let (server, upstream) = ("workers = 1", "timeout = \"700ms\"");
    let stand = Stand::with(Config { idempotency: BOTH, server, upstream, ..handed.config() });
    let reply = thread::scope(|scope| {
        let client = scope.spawn(|| stand.send(&enrol("1")));
        let (write, question) = (handed.next(), handed.next());
        assert!(write.0.starts_with("POST ") && question.0.starts_with("GET "), "{write:?} {question:?}");
        backend(&handed, &stand, write.1, question.1);
        client.join().unwrap()
    });
    (reply, std::fs::read_to_string(&stand.gate.log).unwrap())
}

fn answer(connection: &mut TcpStream, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
}

#[test]
fn a_backend_that_breaks_off_while_it_is_asked_is_asked_anew_and_waited_for_no_more() {
    let (told, log) = asked_meanwhile(|handed, _, write, question| {
        drop(write);
        let (head, mut anew) = handed.next();
        assert!(head.starts_with("GET "), "{head}");
        answer(&mut anew, 200, r#"{"items":[]}"#);
        drop(question);
    });
    assert_problem(&told, 504, "outcome-unknown");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn an_answer_that_comes_while_the_backend_is_asked_proves_as_much_as_any_other() {
    let (told, _) = asked_meanwhile(|handed, stand, mut write, question| {
        answer(&mut write, 500, "duplicate key");
        // What it ran into may be there already, and is looked for.
        let (head, mut existing) = handed.next();
        assert!(head.starts_with("GET "), "{head}");
        answer(&mut existing, 200, r#"{"items":[]}"#);
        drop(question);
        // Nothing was executed, so the next copy executes.
        thread::scope(|scope| {
            let again = scope.spawn(|| stand.send(&enrol("1")));
            let (head, mut executes) = handed.next();
            assert!(head.starts_with("POST "), "{head}");
            answer(&mut executes, 201, r#"{"id":1}"#);
            let again = again.join().unwrap();
            assert_eq!((again.status, again.is_replay()), (201, false));
        });
    });
    assert_eq!((told.status, told.text().as_str(), told.is_replay()), (500, "duplicate key", false));
}
