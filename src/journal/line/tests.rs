use super::*;
use crate::domain::client::ScopeId;
use crate::domain::event::Decision;
use crate::domain::ledger::{Doubt, RecordId};
use crate::domain::poll::Storm;
use crate::domain::refusal::Reason;
use std::time::UNIX_EPOCH;

const NOW: Stamp = Stamp(UNIX_EPOCH);

fn exchange() -> Exchange {
    Exchange {
        request_id: "r-1".into(),
        route: Some(0),
        route_name: Some("book".into()),
        method: http::Method::POST,
        path: "/api/bookings".into(),
        client: "192.0.2.7".into(),
        scope: Some(ScopeId([0xab; 16])),
        status: 201,
        decision: Decision::Executed,
        upstream: Some(Duration::from_micros(20_005)),
        held: None,
        total: Duration::from_millis(21),
    }
}

fn written(line: &Line, style: Style) -> String {
    let mut out = Vec::new();
    line.write(style, NOW, &mut out);
    String::from_utf8(out).expect("lines are UTF-8")
}

#[test]
fn an_access_line_is_one_json_object_with_every_field() {
    assert_eq!(
        written(&Line::Exchange(exchange()), Style::Json),
        concat!(
            r#"{"timestamp":"1970-01-01T00:00:00.000Z","level":"INFO","target":"access","method":"POST","#,
            r#""path":"/api/bookings","status":201,"decision":"executed","route":"book","client":"192.0.2.7","#,
            r#""scope":"abababababababab","upstream_ms":20.005,"total_ms":21.000,"request_id":"r-1"}"#,
            "\n"
        )
    );
}

#[test]
fn what_an_exchange_did_not_have_is_left_out_of_its_line() {
    let refused = Exchange {
        route: None,
        route_name: None,
        scope: None,
        upstream: None,
        status: 404,
        decision: Decision::Refused(Reason::NoRoute),
        ..exchange()
    };
    let line = written(&Line::Exchange(refused), Style::Json);
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&line).expect("one JSON object");
    assert_eq!(fields["decision"], "no-route");
    for absent in ["route", "scope", "upstream_ms"] {
        assert!(!fields.contains_key(absent), "{absent} in {line}");
    }
}

#[test]
fn an_access_line_for_eyes_leads_with_what_happened() {
    assert_eq!(
        written(&Line::Exchange(exchange()), Style::Pretty { colour: false }),
        "1970-01-01T00:00:00.000Z  INFO access: POST /api/bookings 201 executed route=book client=192.0.2.7 \
         scope=abababababababab upstream_ms=20.005 total_ms=21.000 request_id=r-1\n"
    );
}

#[test]
fn a_path_can_neither_forge_a_line_nor_break_out_of_its_json() {
    let path = "/a\"}\n{\"level\":\"FAKE\x1b[2J".to_owned();
    let line = Line::Exchange(Exchange { path: path.clone(), ..exchange() });
    let json = written(&line, Style::Json);
    let fields: serde_json::Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!(fields["path"], path);
    for text in [json, written(&line, Style::Pretty { colour: false })] {
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}

#[test]
fn every_event_is_valid_json_that_names_itself() {
    let id = RecordId([1; 32]);
    let events = [
        Event::Duplicate {
            route: "book".into(),
            id,
            request_id: "copy".into(),
            original_request_id: Some("original".into()),
            scope: ScopeId([2; 16]),
            client: "192.0.2.7".into(),
        },
        Event::InDoubt { route: "book".into(), id, request_id: "r".into(), why: Doubt::TimedOut },
        Event::StoreOutage { up: false, detail: "disk \"full\"\n".into() },
        Event::UpstreamHealth {
            upstream: "u".into(),
            authority: "h:1".into(),
            up: true,
            detail: String::new(),
        },
        Event::Settled { id, verdict: crate::domain::event::OperatorVerdict::NotExecuted },
        Event::Retry {
            route: "book".into(),
            id,
            request_id: "r".into(),
            attempt: 1,
            status: 500,
            wait: Duration::from_millis(117),
        },
        Event::Recovered {
            route: "book".into(),
            id,
            request_id: "r".into(),
            how: crate::domain::event::Recovery::Existing,
        },
        Event::DuplicateAnswer {
            route: "book".into(),
            id,
            request_id: "r".into(),
            first_request_id: "s".into(),
            value: "A005".into(),
            within: "north, \"王\"".into(),
        },
        Event::SlotTaken {
            route: "book".into(),
            slot: "doctor-slot".into(),
            slot_id: crate::domain::slot::SlotId([3; 16]),
            state: crate::domain::slot::HoldState::Held,
            since: crate::domain::time::Millis(1),
            request_id: "r".into(),
            scope: ScopeId([2; 16]),
            client: "192.0.2.7".into(),
        },
        Event::SlotVacated {
            route: "book".into(),
            slot: "doctor-slot".into(),
            slot_id: crate::domain::slot::SlotId([3; 16]),
            since: crate::domain::time::Millis(1),
            held_by: "\"x".into(),
            request_id: "r".into(),
            client: "192.0.2.7".into(),
        },
        Event::Throttled {
            route: "profile".into(),
            path: "/a\"".into(),
            client: "192.0.2.7".into(),
            limit: "10/min".into(),
            wait: Duration::from_secs(6),
            request_id: "r".into(),
        },
        Event::PollStorm {
            route: "profile".into(),
            template: "GET /a/{id}".into(),
            path: "/a/1".into(),
            client: "192.0.2.7".into(),
            storm: Storm { reads: 60, within: Duration::from_secs(6), ports: 2, absorbed: 30 },
        },
    ];
    let levels =
        ["INFO", "WARN", "WARN", "INFO", "INFO", "INFO", "INFO", "WARN", "INFO", "INFO", "INFO", "WARN"];
    assert_eq!([events.len(), levels.len()], [Event::WORDS.len(); 2]);
    for (event, level) in events.into_iter().zip(levels) {
        let word = event.word();
        let line = written(&Line::Event(event), Style::Json);
        let fields: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!((&fields["event"], &fields["level"]), (&word.into(), &level.into()), "{line}");
        assert!(fields["message"].is_string(), "{line}");
    }
}

#[test]
fn a_duplicate_names_the_original_and_the_copy() {
    let event = Event::Duplicate {
        route: "book".into(),
        id: RecordId([1; 32]),
        request_id: "copy".into(),
        original_request_id: Some("original".into()),
        scope: ScopeId([2; 16]),
        client: "192.0.2.7".into(),
    };
    let line = written(&Line::Event(event), Style::Pretty { colour: false });
    assert!(line.contains("request_id=copy original_request_id=original"), "{line}");
}

#[test]
fn a_doubt_has_the_same_word_in_the_log_and_in_the_api() {
    for why in [
        Doubt::ConnectionLost,
        Doubt::TimedOut,
        Doubt::AnswerTruncated,
        Doubt::AnswerAmbiguous,
        Doubt::LeaseEnded,
        Doubt::OwnerDied,
    ] {
        assert_eq!(serde_json::json!(why), why_word(&why).to_string());
    }
}
