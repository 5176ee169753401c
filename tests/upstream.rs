//! How long a backend is waited for, who is to blame for it, and the queue before it.

use crate::harness::{Call, Config, RawBackend, Reply, Stand, assert_problem, eventually, ok};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// One place, and room for those who wait for it.
const ONE_PLACE: &str = "max_in_flight = 1\nqueue = 10\nqueue_wait = \"8s\"";

fn figure(stand: &Stand, series: &str) -> f64 {
    let page = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

fn book(number: u32) -> Call {
    Call::post("/api/bookings", format!("{{\"n\":{number}}}"))
}

#[test]
fn the_time_for_a_whole_exchange_counts_from_its_beginning() {
    let stand = Stand::with(Config { upstream: "total = \"700ms\"", ..Config::default() });
    let started = Instant::now();
    let slow = |call: Call| stand.send(&call.header("X-Demo-Fault", "delay=4000"));
    let read = slow(Call::new("GET", "/api/enrolments?patient=1"));
    assert_problem(&read, 504, "upstream-timeout");
    assert!(read.text().contains("within 700ms"), "{}", read.text());
    assert_problem(&slow(book(1)), 504, "outcome-unknown");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_client_that_pauses_in_its_upload_is_told_that_it_was_too_slow_and_not_the_backend() {
    let server = RawBackend::start(ok);
    let stand = Stand::with(Config {
        backend: Some(server.address),
        upstream: "timeout = \"1s\"",
        ..Config::default()
    });
    let mut client = TcpStream::connect(stand.gate.address).unwrap();
    client.write_all(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n").unwrap();
    client.write_all(&[b'x'; 30_000]).unwrap();
    let reply = Reply::read(&mut client, false, Instant::now() + PATIENCE).expect("an answer");
    assert_problem(&reply, 408, "body-timeout");
}

#[test]
fn a_retry_waits_for_its_place_at_the_backend_and_counts_once_it_is_sent() {
    let stand = Stand::with(Config {
        upstream: ONE_PLACE,
        idempotency: "[route.retry]\nstatus = [503]\nbody = \"as ordered: nothing\"\nbackoff = [\"700ms\"]",
        ..Config::default()
    });
    stand.backend.order("/api", 1, "status=503");
    thread::scope(|scope| {
        let write = scope.spawn(|| stand.send(&book(1)));
        stand.wait_for_requests(1);
        // Takes the place in the pause.
        let other = Call::new("GET", "/api/enrolments?patient=1").header("X-Demo-Fault", "delay=1500");
        assert_eq!(stand.send(&other).status, 200);
        let reply = write.join().unwrap();
        assert_eq!(reply.status, 201, "{}", reply.text());
    });
    assert_eq!(figure(&stand, "oncegate_retries_total{route=\"guarded\"}") as u64, 1);
}

#[test]
fn a_retry_that_is_never_sent_is_not_counted() {
    let stand = Stand::with(Config {
        upstream: "max_in_flight = 1",
        idempotency: "[route.retry]\nstatus = [503]\nbody = \"as ordered: nothing\"\nbackoff = [\"1s\"]",
        ..Config::default()
    });
    stand.backend.order("/api", 1, "status=503");
    thread::scope(|scope| {
        let write = scope.spawn(|| stand.send(&book(1)));
        stand.wait_for_requests(1);
        let other = Call::new("GET", "/api/enrolments?patient=1").header("X-Demo-Fault", "delay=2500");
        eventually("it gets the place", || (stand.send(&other).status == 200).then_some(()));
        assert_eq!(write.join().unwrap().status, 503);
    });
    assert_eq!(figure(&stand, "oncegate_retries_total{route=\"guarded\"}") as u64, 0);
}

#[test]
fn a_write_whose_turn_has_come_waits_for_its_place_at_the_backend() {
    let stand = Stand::with(Config {
        upstream: ONE_PLACE,
        idempotency: "[route.lane]\nby = [\"'all'\"]",
        ..Config::default()
    });
    let slow =
        || stand.send(&Call::new("GET", "/api/enrolments?patient=1").header("X-Demo-Fault", "delay=800"));
    thread::scope(|scope| {
        let waiting = |count: f64| {
            eventually("they wait for the place", || {
                (figure(&stand, "oncegate_upstream_waiting{upstream=\"scheduler\"}") >= count).then_some(())
            });
        };
        let first = scope.spawn(slow);
        stand.wait_for_requests(1);
        let write = scope.spawn(|| stand.send(&book(1)));
        waiting(1.0);
        // Gets the place that the write gives up while it waits for its turn.
        let other = scope.spawn(slow);
        waiting(2.0);
        for (call, status) in [(first, 200), (write, 201), (other, 200)] {
            let reply = call.join().unwrap();
            assert_eq!(reply.status, status, "{}", reply.text());
        }
    });
}

#[test]
fn what_is_only_observed_waits_for_its_place_as_everything_does() {
    let stand = Stand::with(Config { top: "mode = \"observe\"", upstream: ONE_PLACE, ..Config::default() });
    let calls: Vec<Call> = (0..3).map(|number| book(number).header("X-Demo-Fault", "delay=300")).collect();
    for reply in crate::harness::at_once(stand.gate.address, &calls) {
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
}

#[test]
fn what_is_only_observed_is_read_whole_only_where_there_is_memory_for_it() {
    let stand = Stand::with(Config {
        top: "mode = \"observe\"",
        server: "body_memory = \"1MiB\"\nbody_limit = \"1MiB\"",
        ..Config::default()
    });
    let (mut held, mut number) = (Vec::new(), 0);
    eventually("there is no room for another one, which goes on all the same", || {
        let mut client = TcpStream::connect(stand.gate.address).unwrap();
        client
            .write_all(b"POST /api/bookings HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{")
            .unwrap();
        held.push(client);
        number += 1;
        let reply = stand.send(&Call::post(
            "/api/bookings",
            format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(900_000)),
        ));
        assert_eq!(reply.status, 201, "{}", reply.text());
        let series = "oncegate_requests_total{route=\"guarded\",decision=\"would-refuse\"}";
        (figure(&stand, series) > 0.0).then_some(())
    });
}

#[test]
fn a_server_that_takes_connections_and_ends_them_without_a_word_leaves_the_rotation() {
    let mute = RawBackend::start(|_| {});
    let fine = RawBackend::start(ok);
    let routes = format!(
        "[[upstream]]\nname = \"pair\"\nurl = [\"http://{}\", \"http://{}\"]\ntimeout = \"5s\"\n\
         [[route]]\nname = \"pair\"\nmatch = \"POST /pair\"\nupstream = \"pair\"\n[route.idempotency]\n",
        mute.address, fine.address
    );
    let stand = Stand::with(Config { routes: routes.leak(), ..Config::default() });
    let write = |number: u32| stand.send(&Call::post("/pair", format!("{{\"n\":{number}}}"))).status;
    // One write finds out, and not every other one.
    let lost = (1..=20).filter(|number| write(*number) == 502).count();
    assert_eq!((lost, mute.waiting()), (1, 1));
    let down = format!("oncegate_upstream_up{{upstream=\"pair\",server=\"{}\"}}", mute.address);
    assert!(
        figure(&stand, &down) < 0.5,
        "{}",
        Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text()
    );
}
