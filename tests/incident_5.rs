//! The double-click half of incident 5: numbers that are counted and then inserted, also inside a page load.

use crate::harness::{Backend, Call, Stand, assert_one_answer, at_once};

fn create() -> Call {
    Call::post("/api/assessments", r#"{"patient":7}"#).header("Authorization", "Bearer receptionist-1")
}

fn load() -> Call {
    Call::new("GET", "/assessments/new?patient=7").header("Authorization", "Bearer receptionist-1")
}

#[test]
fn without_the_gate_one_of_two_clicks_fails_with_a_duplicate_key() {
    let backend = Backend::start();
    for call in [create(), load()] {
        let replies = at_once(backend.address, &[call.clone(), call]);
        let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 500]);
        let failed = replies.iter().find(|reply| reply.status == 500).expect("one failed");
        assert!(
            failed.text().contains("duplicate key value violates unique constraint"),
            "{}",
            failed.text()
        );
        assert!(failed.text().contains("23505"), "{}", failed.text());
    }
}

#[test]
fn through_the_gate_both_clicks_get_the_one_number() {
    let stand = Stand::new();
    let replies = at_once(stand.gate.address, &[create(), create()]);
    assert_one_answer(&replies);
    assert_eq!((replies[0].status, replies[0].json()["number"].as_str()), (201, Some("ASM-2025-001")));
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn a_refresh_of_the_page_load_that_creates_shows_the_same_assessment() {
    let stand = Stand::new();
    let replies = at_once(stand.gate.address, &[load(), load(), load()]);
    assert_one_answer(&replies);
    assert_eq!(replies[0].status, 201);
    let later = stand.send(&load());
    assert_eq!((later.is_replay(), later.body), (true, replies[0].body.clone()));
    assert_eq!(stand.backend.effects().len(), 1);
}

#[test]
fn another_patient_is_another_assessment() {
    let stand = Stand::new();
    stand.send(&load());
    let other =
        Call::new("GET", "/assessments/new?patient=8").header("Authorization", "Bearer receptionist-1");
    assert_eq!(stand.send(&other).json()["number"].as_str(), Some("ASM-2025-002"));
    assert_eq!(stand.backend.effects().len(), 2);
}
