//! What a request is promised: which answers a later attempt gets past, whose answers they are, and what is refused.

use crate::harness::{
    Backend, Call, Config, Stand, assert_one_answer, assert_problem, at_once, eventually, free_address,
};
use std::thread;

fn book(body: &str) -> Call {
    Call::post("/api/bookings", body).header("Authorization", "Bearer receptionist-1")
}

/// Every answer by which the backend said that it did nothing lets the next attempt through.
fn next_attempt_executes_after(status: u16, config: Config) {
    let stand = Stand::with(config);
    for key in [None, Some("c0a1de55-6f2b-4e0c-8f8e-3b1f0d7c9a10")] {
        let before = stand.backend.effects().len();
        let mut call = book(&format!(r#"{{"patient":7,"keyed":{}}}"#, key.is_some()));
        call = key.iter().fold(call, |call, key| call.header("Idempotency-Key", key));
        let refused = stand.send(&call.clone().header("X-Demo-Fault", &format!("status={status}")));
        assert_eq!((refused.status, refused.is_replay()), (status, false));
        let booked = stand.send(&call);
        assert_eq!((booked.status, booked.is_replay()), (201, false), "after {status}, key {key:?}");
        assert_eq!(stand.backend.effects().len(), before + 1);
    }
}

#[test]
fn after_a_4xx_the_next_attempt_reaches_the_backend() {
    next_attempt_executes_after(422, Config::default());
}

#[test]
fn after_a_409_conflict_the_next_attempt_reaches_the_backend() {
    next_attempt_executes_after(409, Config::default());
}

#[test]
fn after_a_503_that_the_route_lists_the_next_attempt_reaches_the_backend() {
    next_attempt_executes_after(
        503,
        Config { idempotency: "not_executed = [\"4xx\", 503]", ..Config::default() },
    );
}

#[test]
fn a_503_that_the_route_does_not_list_may_have_executed_and_is_replayed() {
    let stand = Stand::new();
    let first = stand.send(&book("{}").header("X-Demo-Fault", "status-after=503"));
    assert_one_answer(&[first, stand.send(&book("{}"))]);
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn a_500_is_recorded_and_replayed() {
    let stand = Stand::new();
    for fault in ["status-after=500", "status=500"] {
        let call = book(&format!(r#"{{"fault":"{fault}"}}"#));
        let before = stand.backend.requests();
        let first = stand.send(&call.clone().header("X-Demo-Fault", fault));
        assert_eq!((first.status, first.is_replay()), (500, false));
        assert_one_answer(&[first, stand.send(&call), stand.send(&call)]);
        assert_eq!(stand.backend.requests(), before + 1, "{fault}");
    }
}

#[test]
fn after_a_refused_connection_the_next_attempt_reaches_the_backend() {
    let address = free_address().unwrap();
    let stand = Stand::with(Config { backend: Some(address), ..Config::default() });
    assert_problem(&stand.send(&book("{}")), 502, "upstream-unreachable");
    let backend = Backend::start_at(address);
    // A gateway may leave an upstream that refused alone for a moment, and says so in the same way.
    let booked = crate::harness::eventually("the upstream is tried again", || {
        let reply = stand.send(&book("{}"));
        (reply.status < 500).then_some(reply)
    });
    assert_eq!((booked.status, booked.is_replay()), (201, false));
    assert_eq!(backend.effects().len(), 1);
}

#[test]
fn a_copy_that_waits_on_an_attempt_which_ends_4xx_gets_it_and_the_next_one_executes() {
    let stand = Stand::new();
    let address = stand.gate.address;
    let first = thread::spawn(move || {
        book("{}").header("X-Demo-Fault", "delay=1500,status=422").send(address).unwrap()
    });
    stand.wait_for_requests(1);
    let copy = stand.send(&book("{}"));
    let first = first.join().unwrap();
    assert_eq!((first.status, copy.status), (422, 422));
    assert_eq!(first.body, copy.body);
    assert_eq!(stand.backend.requests(), 1);
    assert_eq!(stand.send(&book("{}")).status, 201);
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn two_credentials_behind_one_address_never_share_an_answer() {
    let stand = Stand::new();
    let key = "4f0c2a6e-95a7-4c39-8d5e-0c6e3f6a9b21";
    for (index, (name, prefix)) in
        [("X-Api-Key", ""), ("Authorization", "Bearer "), ("Cookie", "session=")].into_iter().enumerate()
    {
        for key in [None, Some(key)] {
            let call = |who: &str| {
                let call =
                    Call::post("/api/bookings", format!(r#"{{"index":{index},"keyed":{}}}"#, key.is_some()));
                key.iter().fold(call.header(name, &format!("{prefix}{who}")), |call, key| {
                    call.header("Idempotency-Key", key)
                })
            };
            let before = stand.backend.effects().len();
            let replies = at_once(stand.gate.address, &[call("alice-0001"), call("bob-00002")]);
            assert!(
                replies.iter().all(|reply| reply.status == 201 && !reply.is_replay()),
                "{name}, key {key:?}"
            );
            assert_ne!(replies[0].body, replies[1].body, "{name}, key {key:?}");
            assert_one_answer(&[replies[0].clone(), stand.send(&call("alice-0001"))]);
            assert_one_answer(&[replies[1].clone(), stand.send(&call("bob-00002"))]);
            assert_eq!(stand.backend.effects().len(), before + 2, "{name}, key {key:?}");
        }
    }
}

#[test]
fn book_cancel_book_is_three_intents() {
    let stand = Stand::new();
    let first = stand.send(&book(r#"{"slot":3}"#));
    let place = first.header("location").expect("a Location").to_owned();
    let cancel = Call::new("DELETE", &place).header("Authorization", "Bearer receptionist-1");
    assert_eq!(stand.send(&cancel).status, 200);
    let second = stand.send(&book(r#"{"slot":3}"#));
    assert_eq!((second.status, second.is_replay()), (201, false));
    assert_ne!(second.body, first.body);
    assert_eq!(stand.backend.effects().len(), 3);
}

#[test]
fn a_cancellation_sent_twice_is_one_effect() {
    let stand = Stand::new();
    let place = stand.send(&book("{}")).header("location").expect("a Location").to_owned();
    let cancel = Call::new("DELETE", &place).header("Authorization", "Bearer receptionist-1");
    assert_one_answer(&[stand.send(&cancel), stand.send(&cancel)]);
    assert_eq!(stand.backend.effects().len(), 2);
}

#[test]
fn put_a_then_b_then_a_ends_at_a() {
    let stand = Stand::new();
    let put = |value: &str| {
        let call = Call::new("PUT", "/api/profiles/7").header("Content-Type", "application/json");
        stand.send(&call.header("Cookie", "session=5f2d0a").body(format!(r#"{{"name":"{value}"}}"#)))
    };
    let replies = [put("A"), put("A"), put("B"), put("A")];
    assert_eq!(
        replies.each_ref().map(|reply| (reply.status, reply.is_replay())),
        [(200, false), (200, true), (200, false), (200, false)]
    );
    let saved = stand.send(&Call::new("GET", "/api/profiles/7")).json();
    assert_eq!(saved["saved"], r#"{"name":"A"}"#);
    assert_eq!(stand.backend.effects().len(), 3);
}

#[test]
fn a_missing_key_is_a_400_where_the_route_requires_one() {
    let stand = Stand::with(Config { idempotency: "key = \"header\"", ..Config::default() });
    assert_problem(&stand.send(&book("{}")), 400, "key-missing");
    assert_eq!(stand.send(&book("{}").header("Idempotency-Key", "k-1")).status, 201);
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn malformed_keys_are_a_400_and_the_longest_one_is_none() {
    let stand = Stand::new();
    let longest = "k".repeat(255);
    let malformed = ["", "\"open", "\"\"", "a b", "a,b", "\"a\\x\"", &format!("{longest}k"), "clé"];
    for key in malformed {
        assert_problem(&stand.send(&book("{}").header("Idempotency-Key", key)), 400, "key-malformed");
    }
    let twice = book("{}").header("Idempotency-Key", "k-1").header("Idempotency-Key", "k-2");
    assert_problem(&stand.send(&twice), 400, "key-malformed");
    assert_eq!(stand.backend.requests(), 0);
    assert_eq!(stand.send(&book("{}").header("Idempotency-Key", &longest)).status, 201);
}

#[test]
fn the_same_key_with_another_meaning_is_a_422_also_while_the_first_is_in_flight() {
    let stand = Stand::new();
    let key = "19f3a7c2-77aa-4d55-bb0e-5d2c8e1f0a64";
    let slow = book(r#"{"slot":1}"#).header("Idempotency-Key", key).header("X-Demo-Fault", "delay=1000");
    let other = book(r#"{"slot":2}"#).header("Idempotency-Key", key);
    let address = stand.gate.address;
    let first = thread::spawn(move || slow.send(address).unwrap());
    stand.wait_for_requests(1);
    assert_problem(&stand.send(&other), 422, "key-reused");
    assert_eq!(stand.backend.effects().len(), 0, "the first was still in flight");
    assert_eq!(first.join().unwrap().status, 201);
    assert_problem(&stand.send(&other), 422, "key-reused");
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn a_body_over_the_limit_is_a_413_and_claims_nothing() {
    let stand = Stand::with(Config { server: "body_limit = \"4KiB\"", ..Config::default() });
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(5000));
    assert_problem(&stand.send(&book(&large)), 413, "body-too-large");
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    assert_problem(
        &stand.send(&book(&chunked).header("Transfer-Encoding", "chunked")),
        413,
        "body-too-large",
    );
    assert_eq!(stand.backend.requests(), 0);
    assert_eq!(stand.send(&book("{}")).status, 201);
}

#[test]
fn set_cookie_goes_to_copies_that_waited_and_not_to_later_ones() {
    let stand = Stand::new();
    let call = book("{}").header("X-Demo-Fault", "delay=700,cookie=session=renewed");
    let replies = at_once(stand.gate.address, &[call.clone(), call.clone()]);
    assert_one_answer(&replies);
    assert!(replies.iter().all(|reply| reply.header("set-cookie") == Some("session=renewed")));
    let later = stand.send(&call);
    assert!(later.is_replay());
    assert_eq!(later.header("set-cookie"), None);
}

#[test]
fn a_replay_has_the_recorded_end_to_end_headers() {
    let stand = Stand::new();
    let replies = [stand.send(&book("{}")), stand.send(&book("{}"))];
    for name in ["location", "content-type", "content-length"] {
        assert_eq!(replies[0].header(name), replies[1].header(name), "{name}");
    }
    assert_eq!(
        replies.each_ref().map(|reply| reply
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("date"))
            .count()),
        [1, 1]
    );
}

#[test]
fn an_answer_too_large_to_keep_is_still_never_executed_again() {
    let stand = Stand::with(Config { store: "answer_limit = \"16KiB\"", ..Config::default() });
    let first = stand.send(&book("{}").header("X-Demo-Fault", "pad=100000"));
    assert!(first.status == 201 && first.body.len() > 100_000, "{} B", first.body.len());
    let copy = stand.send(&book("{}"));
    assert!(copy.is_replay(), "{}", copy.text());
    assert_eq!((copy.status, copy.header("location")), (201, first.header("location")));
    assert_problem(&copy, 201, "answer-not-kept");
    let told = (copy.json()["request_id"].clone(), copy.json()["policy"].clone());
    assert_eq!(told, (copy.header("x-request-id").into(), "guarded".into()));
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn observe_mode_forwards_everything() {
    let stand = Stand::with(Config { top: "mode = \"observe\"", ..Config::default() });
    let key = "b5e4b0de-0001-4d6f-a1a3-52f1a3b7d0c8";
    let replies = [book(r#"{"slot":1}"#), book(r#"{"slot":1}"#), book(r#"{"slot":2}"#)]
        .map(|call| stand.send(&call.header("Idempotency-Key", key)));
    assert!(replies.iter().all(|reply| reply.status == 201 && !reply.is_replay()));
    assert_eq!(stand.backend.effects().len(), 3);
}

#[test]
fn a_fault_of_the_backend_is_not_the_next_requests_fault() {
    let stand = Stand::new();
    stand.backend.order("/api/bookings", 2, "status-after=500");
    let replies = ["a", "b", "c"].map(|name| stand.send(&book(&format!(r#"{{"name":"{name}"}}"#))).status);
    assert_eq!(replies, [500, 500, 201]);
}

#[test]
fn what_a_colleague_cancels_ends_nothing_but_what_it_made() {
    let stand = Stand::new();
    let by = |who: &str, slot: u32| {
        let call = Call::post("/api/bookings", format!(r#"{{"slot":{slot}}}"#));
        stand.send(&call.header("Authorization", &format!("Bearer {who}")))
    };
    let cancel = |who: &str, place: &str| {
        let call = Call::new("DELETE", place).header("Authorization", &format!("Bearer {who}"));
        assert_eq!(stand.send(&call).status, 200);
    };
    let (mine, hers) = (by("ann", 1), by("bea", 2));
    cancel("bea", hers.header("location").expect("a Location"));
    assert!(by("ann", 1).is_replay(), "a double click is one booking, whatever colleagues do meanwhile");
    cancel("bea", mine.header("location").expect("a Location"));
    assert!(!by("ann", 1).is_replay(), "her booking was cancelled, by whomever: this is a new one");
    assert_eq!(stand.backend.effects().len(), 5);
}

#[test]
fn copies_that_wait_take_no_place_at_the_backend() {
    let stand = Stand::with(Config { upstream: "max_in_flight = 2", ..Config::default() });
    let before = stand.backend.requests();
    let slow = book("{}");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow.clone().header("X-Demo-Fault", "delay=3000")));
        stand.wait_for_requests(before + 1);
        let copies: Vec<_> = (0..10).map(|_| scope.spawn(|| stand.send(&slow))).collect();
        // A copy needs a place for the moment of its claim. While they wait, the second place serves everybody else.
        eventually("others are served, five in a row", || {
            let served = (0..5).all(|_| stand.send(&Call::new("GET", "/_effects")).status == 200);
            served.then_some(())
        });
        assert!(!first.is_finished(), "the places were free only after the original had ended");
        let first = first.join().unwrap();
        for copy in copies {
            assert_eq!(copy.join().unwrap().body, first.body);
        }
    });
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn observe_mode_keeps_nobody_waiting() {
    let stand = Stand::with(Config { top: "mode = \"observe\"", ..Config::default() });
    let slow = book("{}").header("X-Demo-Fault", "delay=3000");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| stand.send(&slow));
        stand.wait_for_requests(1);
        let copy = stand.send(&book("{}").within(std::time::Duration::from_millis(1500)));
        assert_eq!((copy.status, copy.is_replay()), (201, false));
        assert_eq!(first.join().unwrap().status, 201);
    });
    assert_eq!(stand.backend.effects().len(), 2);
}
