//! Equal reads that wait for their turn together: it is one call to the backend, whatever the answer.

use super::Stand;
use super::backend::{Asked, Said, Scripted};
use crate::harness::{Call, at_once};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A call each half a second.
const ROUTE: &str =
    "coalesce = true\n[route.throttle]\nlimits = \"2/s burst 1\"\nper = \"route\"\nhold_at_most = \"20s\"";
/// What turns are apart.
const TURN: Duration = Duration::from_millis(500);
/// The limiter's clock may be a sweep of its worker old, so a turn may come so much late, and the next one on time.
const LATE: Duration = Duration::from_millis(300);

type Times = Arc<Mutex<Vec<Instant>>>;

/// A backend that notes when it is asked.
fn timed(script: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> (Scripted, Times) {
    let times = Times::default();
    let noted = times.clone();
    let backend = Scripted::start(move |asked| {
        noted.lock().unwrap().push(Instant::now());
        script(asked)
    });
    (backend, times)
}

#[track_caller]
fn assert_paced(times: &Times, what: &str) {
    let times = times.lock().unwrap();
    for (turns, last) in times.iter().enumerate() {
        let took = *last - times[0];
        assert!(took + LATE >= TURN * u32::try_from(turns).unwrap(), "{what}: call {turns} after {took:?}");
    }
}

fn get() -> Call {
    Call::new("GET", "/a").header("Host", "h").within(Duration::from_secs(30))
}

#[test]
fn equal_reads_whose_answers_are_not_for_each_other_have_a_turn_each() {
    let answers: [fn(&Asked) -> Said; 3] = [
        |asked| Said::ok("Cache-Control: no-store\r\n", format!("nonce {}", asked.number)),
        |asked| Said::ok("Set-Cookie: s=1\r\n", format!("nonce {}", asked.number)),
        |asked| Said::status(500, "", format!("nonce {}", asked.number)),
    ];
    for answer in answers {
        let (backend, times) = timed(answer);
        let stand = Stand::new(backend.address, ROUTE, "");
        stand.send(&get());
        let replies = at_once(stand.gate.address, &vec![get(); 4]);
        let mut bodies: Vec<String> = replies.iter().map(|reply| reply.text()).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!((bodies.len(), backend.count()), (4, 5));
        assert_paced(&times, &replies[0].status.to_string());
    }
}

#[test]
fn reads_that_never_share_an_answer_have_a_turn_each() {
    let calls = [
        Call::new("HEAD", "/a").header("Host", "h"),
        get().header("Cache-Control", "no-store"),
        get().header("Content-Length", "2").body("ab"),
        get().header("Range", "bytes=0-1"),
    ];
    for call in calls {
        let (backend, times) = timed(|_| Said::ok("", "page"));
        let stand = Stand::new(backend.address, ROUTE, "");
        stand.send(&get());
        at_once(stand.gate.address, &vec![call.within(Duration::from_secs(30)); 3]);
        assert_eq!(backend.count(), 4);
        assert_paced(&times, "each by itself");
    }
}

#[test]
fn whoever_comes_late_to_a_turn_that_it_shares_has_its_answer() {
    // Answers at once, so that some come when the call is over.
    let (backend, times) = timed(|asked| Said::ok("", format!("nonce {}", asked.number)));
    let stand = Stand::new(backend.address, ROUTE, "");
    stand.send(&get());
    for round in 1..=8 {
        let replies = at_once(stand.gate.address, &vec![get(); 12]);
        assert!(replies.iter().all(|reply| reply.body == replies[0].body), "{replies:?}");
        assert_eq!(backend.count(), 1 + round, "one call a turn");
    }
    assert_paced(&times, "turns");
}

#[test]
fn after_a_call_that_failed_the_others_wait_for_one_more_turn_together() {
    let (backend, times) = timed(|asked| match asked.number {
        // Not on a connection that was used before: there it would be asked again.
        1 => Said::ok("Connection: close\r\n", "nonce 1"),
        2 => Said {
            by_hand: Some(|stream| drop(stream.shutdown(std::net::Shutdown::Both))),
            ..Said::ok("", "")
        },
        _ => Said::ok("", format!("nonce {}", asked.number)),
    });
    let stand = Stand::new(backend.address, ROUTE, "");
    stand.send(&get());
    let replies = at_once(stand.gate.address, &vec![get(); 6]);
    let failed = replies.iter().filter(|reply| reply.status == 502).count();
    let answered = replies.iter().filter(|reply| reply.text() == "nonce 3").count();
    assert_eq!((failed, answered, backend.count()), (1, 5, 3));
    assert_paced(&times, "turns");
}

#[test]
fn a_wait_for_two_turns_is_no_longer_than_one_may_be() {
    let (backend, _) = timed(|_| Said::ok("Cache-Control: no-store\r\n", "page"));
    let route = "coalesce = true\n[route.throttle]\nlimits = \"1/2s burst 1\"\nhold_at_most = \"3s\"";
    let stand = Stand::new(backend.address, route, "");
    stand.send(&get());
    let began = Instant::now();
    let replies = at_once(stand.gate.address, &vec![get(); 3]);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses, backend.count()), (vec![200, 429, 429], 2));
}

#[test]
fn a_read_that_goes_by_itself_has_no_copy_either_while_it_waits() {
    let backend = Scripted::start(|asked| Said::ok("", format!("nonce {}", asked.number)));
    let route = "cache = { ttl = \"60s\", stale_if_throttled = \"60s\" }\n[route.throttle]\nlimits = \"1/min\"\nhold_at_most = \"100ms\"";
    let stand = Stand::new(backend.address, route, "");
    assert_eq!([stand.send(&get()).text(), stand.send(&get()).text()], ["nonce 1", "nonce 1"]);
    assert_eq!(stand.send(&get().header("Content-Length", "2").body("ab")).status, 429);
    assert_eq!(stand.send(&get().header("Cache-Control", "no-store")).status, 429);
    assert_eq!((stand.send(&get()).text(), backend.count()), ("nonce 1".into(), 1));
}
