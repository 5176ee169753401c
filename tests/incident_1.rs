//! Incident 1, the double click: two identical saves 31 ms apart on one session, and a conflict dialog.

use crate::harness::{Backend, Call, Stand, assert_one_answer, at_once, eventually};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

const SECOND_CLICK: Duration = Duration::from_millis(31);

fn save(start: &str, end: &str, more: &str) -> Call {
    let body = format!(
        r#"{{"date":"2025-11-24","startTime":"{start}","endTime":"{end}","practitionerId":17,"practitionerName":"王 芳"{more}}}"#
    );
    Call::post("/api/availability-exceptions", body).header("Cookie", "session=5f2d0a")
}

/// The two clicks; their answers in order.
fn double_click(address: SocketAddr, call: &Call) -> Vec<crate::harness::Reply> {
    thread::scope(|scope| {
        let first = scope.spawn(|| call.send(address).expect("an answer"));
        thread::sleep(SECOND_CLICK);
        let second = call.send(address).expect("an answer");
        vec![first.join().unwrap(), second]
    })
}

#[test]
fn without_the_gate_a_double_click_creates_two_rows() {
    let backend = Backend::start();
    let replies = double_click(backend.address, &save("09:00", "12:00", ""));
    let ids: Vec<_> = replies.iter().map(|reply| reply.json()["id"].as_i64()).collect();
    assert_eq!(ids, [Some(822), Some(823)]);
    assert_eq!(backend.effects().len(), 2);
}

#[test]
fn through_the_gate_a_double_click_creates_one_row_and_both_clients_get_it() {
    let stand = Stand::new();
    let replies = double_click(stand.gate.address, &save("09:00", "12:00", ""));
    assert_one_answer(&replies);
    assert_eq!((replies[0].status, replies[0].json()["id"].as_i64()), (201, Some(822)));
    assert_eq!((replies[0].is_replay(), replies[1].is_replay()), (false, true));
    assert_eq!(stand.backend.effects().len(), 1);
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn a_copy_after_the_answer_gets_it_too() {
    let stand = Stand::new();
    let call = save("09:00", "12:00", "");
    assert_one_answer(&[stand.send(&call), stand.send(&call), stand.send(&call)]);
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn the_line_of_a_copy_names_its_original() {
    let stand = Stand::new();
    let named = |id| save("09:00", "12:00", "").header("X-Request-Id", id);
    stand.send(&named("the-original"));
    stand.send(&named("the-copy"));
    let line = eventually("the copy's line is in the log", || {
        let log = std::fs::read_to_string(&stand.gate.log).unwrap();
        log.lines().find(|line| line.contains(r#""event":"duplicate""#)).map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["request_id"], "the-copy");
    assert_eq!(line["original_request_id"], "the-original");
}

#[test]
fn two_ten_and_a_hundred_clicks_at_once_create_one_row_each_time() {
    let stand = Stand::new();
    for (number, count) in [2, 10, 100].into_iter().enumerate() {
        let call = save("09:00", &format!("1{number}:00"), r#","confirm":true"#);
        assert_one_answer(&at_once(stand.gate.address, &vec![call; count]));
        assert_eq!(stand.backend.effects().len(), number + 1, "{count} copies");
    }
}

#[test]
fn the_confirmed_request_goes_through_and_is_itself_guarded() {
    let stand = Stand::new();
    stand.send(&save("09:00", "12:00", ""));
    let conflict = stand.send(&save("11:00", "13:00", ""));
    assert_eq!(conflict.status, 409);
    assert!(conflict.text().contains("conflicts with exception 822"), "{}", conflict.text());

    let confirmed = double_click(stand.gate.address, &save("11:00", "13:00", r#","confirm":true"#));
    assert_one_answer(&confirmed);
    assert_eq!(confirmed[0].status, 201);
    assert_eq!(stand.backend.effects().len(), 2);
}

#[test]
fn a_conflict_is_asked_anew_by_every_later_attempt() {
    let stand = Stand::new();
    stand.send(&save("09:00", "12:00", ""));
    let before = stand.backend.requests();
    for _ in 0..3 {
        let reply = stand.send(&save("11:00", "13:00", ""));
        assert_eq!((reply.status, reply.is_replay()), (409, false));
    }
    assert_eq!(stand.backend.requests(), before + 3);
}

#[test]
fn other_windows_and_other_sessions_are_other_intents() {
    let stand = Stand::new();
    let confirm = r#","confirm":true"#;
    stand.send(&save("09:00", "12:00", confirm));
    stand.send(&save("09:00", "12:30", confirm));
    let mut other = save("09:00", "12:00", confirm);
    other.headers.retain(|(name, _)| name != "Cookie");
    stand.send(&other.header("Cookie", "session=e81b77"));
    assert_eq!(stand.backend.effects().len(), 3);
}
