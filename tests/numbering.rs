//! Incident 5 in full: numbers that are counted and then inserted, against a real PostgreSQL with a real unique constraint.
//! First the bug without the gate; then its end by a lane, by retries alone, and by fetching what exists.

use crate::harness::{Call, Config, Numbering, Reply, Stand, assert_one_answer, at_once};
use std::time::Duration;

/// One lane for all numbers.
const LANE: &str = "[route.lane]\nby = [\"'numbers'\"]\nqueue = 100\nwait = \"20s\"";
/// The incident's own repair: three more attempts, and what the database says of a duplicate.
const RETRY: &str = "[route.retry]\nstatus = [409, 500]\nbody = \"23505|duplicate key\"\nbackoff = [\"100ms\", \"200ms\", \"400ms\"]";
const LONG_RETRY: &str = "[route.retry]\nstatus = [500]\nbody = \"23505|duplicate key\"\n\
    backoff = [\"50ms\", \"100ms\", \"200ms\", \"300ms\", \"400ms\", \"400ms\", \"400ms\", \"400ms\", \"400ms\", \"400ms\", \"400ms\", \"400ms\"]";
const RECOVER: &str =
    "[route.recover]\nget = \"/api/enrolments?patient={$.patient}\"\nfound = \"$.items[0]\"";

fn gate(backend: &Numbering, idempotency: &'static str) -> Stand {
    Stand::with(Config { idempotency, backend: Some(backend.address), ..Config::default() })
}

fn create(user: usize) -> Call {
    Call::post("/api/assessments", format!(r#"{{"patient":"{user}"}}"#))
        .header("Authorization", &format!("Bearer user-{user}"))
        .within(Duration::from_secs(30))
}

fn load(user: usize) -> Call {
    Call::new("GET", &format!("/assessments/new?patient={user}"))
        .header("Authorization", &format!("Bearer user-{user}"))
        .within(Duration::from_secs(30))
}

fn users(count: usize) -> Vec<Call> {
    (0..count).map(create).collect()
}

fn statuses(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

/// `ASM-2025-001` to the last, each once.
fn without_a_gap(mut numbers: Vec<String>, count: usize) {
    numbers.sort();
    let wanted: Vec<String> = (1..=count).map(|n| format!("ASM-2025-{n:03}")).collect();
    assert_eq!(numbers, wanted);
}

fn told(replies: &[Reply]) -> Vec<String> {
    replies.iter().map(|reply| reply.json()["number"].as_str().unwrap_or("?").to_owned()).collect()
}

/// A figure of the gateway's.
fn figure(stand: &Stand, series: &str) -> f64 {
    let text = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit_once(' ')).map_or(0.0, |(_, value)| value.parse().unwrap())
}

#[test]
fn without_the_gate_users_fail_with_the_databases_own_words_and_a_refresh_makes_two() {
    let backend = Numbering::start();
    let replies = at_once(backend.address, &users(50));
    let failed: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 500).collect();
    assert!(failed.len() >= 25, "only {} of 50 failed", failed.len());
    for reply in failed {
        let (problem, words) = (reply.json(), "duplicate key value violates unique constraint");
        assert!(problem["error"].as_str().is_some_and(|error| error.starts_with(words)), "{problem}");
        assert_eq!(problem["code"], "23505");
    }
    // One after the other nothing stops the same user from being assessed twice.
    let rows = backend.numbers().len();
    for call in [create(99), create(99), load(99)] {
        assert_eq!(call.send(backend.address).unwrap().status, 201);
    }
    assert_eq!(backend.numbers().len(), rows + 3);
}

#[test]
fn with_a_lane_fifty_users_at_once_get_fifty_rows_and_no_error() {
    let backend = Numbering::start();
    let stand = gate(&backend, LANE);
    let replies = at_once(stand.gate.address, &users(50));
    assert_eq!(statuses(&replies, 201), 50, "{:?}", replies.iter().map(|r| r.status).collect::<Vec<_>>());
    without_a_gap(told(&replies), 50);
    without_a_gap(backend.numbers(), 50);
    assert_eq!(backend.requests(), 50, "no write was sent twice");
}

#[test]
fn with_retries_alone_eight_users_get_eight_rows_by_the_incidents_waits() {
    let backend = Numbering::start();
    let stand = gate(&backend, RETRY);
    let replies = at_once(stand.gate.address, &users(8));
    assert_eq!(statuses(&replies, 201), 8, "{:?}", replies.iter().map(Reply::text).collect::<Vec<_>>());
    without_a_gap(told(&replies), 8);
    without_a_gap(backend.numbers(), 8);
    let retries = figure(&stand, "oncegate_retries_total{route=\"guarded\"}");
    assert_eq!(retries, (backend.requests() - 8) as f64);
    assert!(retries >= 4.0, "they raced: {retries}");
    assert_eq!(figure(&stand, "oncegate_events_total{event=\"retry\"}"), retries);
}

#[test]
fn with_a_longer_list_retries_alone_serve_fifty() {
    let backend = Numbering::start();
    let stand = gate(&backend, LONG_RETRY);
    let replies = at_once(stand.gate.address, &users(50));
    assert_eq!(statuses(&replies, 201), 50, "{:?}", replies.iter().map(|r| r.status).collect::<Vec<_>>());
    without_a_gap(told(&replies), 50);
    without_a_gap(backend.numbers(), 50);
}

#[test]
fn double_clicks_and_refreshes_make_one_row_also_while_others_race() {
    let backend = Numbering::start();
    let stand = gate(&backend, RETRY);
    let mut calls = vec![create(1), create(1), load(2), load(2), load(2)];
    calls.extend((3..7).map(create));
    let replies = at_once(stand.gate.address, &calls);
    assert_one_answer(&replies[..2]);
    assert_one_answer(&replies[2..5]);
    assert!(replies.iter().all(|reply| reply.status == 201));
    assert!(stand.send(&load(2)).is_replay(), "a refresh after it was created");
    without_a_gap(backend.numbers(), 6);
    let mut patients = backend.patients();
    patients.sort();
    assert_eq!(patients, ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn what_exists_already_is_answered_with_what_exists() {
    let backend = Numbering::start();
    let stand = gate(&backend, RECOVER);
    let enrol = |caller: &str| {
        Call::post("/api/enrolments", r#"{"patient":"Wang Fang & Söhne"}"#)
            .header("Authorization", &format!("Bearer {caller}"))
    };
    let first = stand.send(&enrol("reception-1"));
    assert_eq!(first.status, 201);
    let without = enrol("reception-2").send(backend.address).unwrap();
    assert_eq!(
        (without.status, without.json()["error"].as_str()),
        (409, Some("this patient is enrolled already"))
    );
    let second = stand.send(&enrol("reception-2"));
    assert_eq!((second.status, second.is_replay()), (200, false), "{}", second.text());
    assert_eq!(second.json()["id"], first.json()["id"]);
    assert_eq!(second.json()["patient"], "Wang Fang & Söhne");
    let again = stand.send(&enrol("reception-2"));
    assert_eq!((again.status, &again.body, again.is_replay()), (200, &second.body, true));
    assert_eq!(backend.enrolments(), 1);
    assert_eq!(figure(&stand, "oncegate_events_total{event=\"recovered\"}"), 1.0);
}

#[test]
fn a_backend_that_repeats_a_token_is_told_of_and_a_lane_ends_it() {
    let backend = Numbering::start();
    const DETECT: &str = "[route.detect]\nunique = \"answer:$.tokenNumber\"\nwithin = [\"$.clinic\"]";
    let token = |caller: usize, clinic: &str| {
        Call::post("/api/tokens", format!(r#"{{"clinic":"{clinic}"}}"#))
            .header("Authorization", &format!("Bearer user-{caller}"))
    };
    let tokens = |replies: &[Reply]| {
        let mut tokens: Vec<String> =
            replies.iter().map(|reply| reply.json()["tokenNumber"].as_str().unwrap_or("?").into()).collect();
        tokens.sort();
        tokens
    };
    let stand = gate(&backend, DETECT);
    let replies = at_once(stand.gate.address, &[token(1, "north"), token(2, "north"), token(3, "north")]);
    assert_eq!(tokens(&replies), ["A001", "A001", "A001"], "nothing is stopped");
    stand.send(&token(4, "south"));
    crate::harness::eventually("both duplicates are told", || {
        (figure(&stand, "oncegate_events_total{event=\"duplicate-answer\"}") == 2.0).then_some(())
    });
    let log = std::fs::read_to_string(&stand.gate.log).unwrap();
    let line = log.lines().find(|line| line.contains("duplicate-answer")).expect("a line");
    assert!(line.contains(r#""value":"A001","within":"north""#) && line.contains("WARN"), "{line}");
    let stand = gate(&backend, "[route.lane]\nby = [\"$.clinic\"]");
    let replies = at_once(stand.gate.address, &[token(1, "north"), token(2, "north"), token(3, "north")]);
    assert_eq!(tokens(&replies), ["A004", "A005", "A006"]);
}
