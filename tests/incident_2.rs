//! Incident 2: the generator that ran again. Blueprints created twice, minutes apart; sessions inserted again and again.

use crate::harness::{Backend, Call, Config, Reply, Stand, assert_problem};

/// `remember_fingerprint = "0s"`: the copies of this incident come minutes apart, when no answer is kept any more.
const ROUTES: &str = r#"
[[route]]
name = "series"
match = "POST /api/class-series"
upstream = "scheduler"
[route.idempotency]
remember_fingerprint = "0s"
[[route.slot]]
name = "class-series"
by = ["$.branch | header:X-Branch | 'main'", "$.teacher", "$.student", "$.start_time", "$.end_time", "sorted:$.days_of_week"]
hold = "90d"
id = "$.id"

[[route]]
name = "sessions"
match = "POST /api/class-sessions"
upstream = "scheduler"
[route.idempotency]
remember_fingerprint = "0s"
[[route.slot]]
name = "class-session"
by = ["$.date", "$.start", "$.end", "$.teacher", "$.student"]
hold = "90d"
id = "$.id"

[[route]]
name = "group-sessions"
match = "POST /api/group-sessions"
upstream = "scheduler"
[route.idempotency]
remember_fingerprint = "0s"
[[route.slot]]
name = "group"
by = ["$.date", "$.start"]
capacity = 10
hold = "until $.end"
id = "$.id"

[[route]]
name = "extend"
match = "POST /api/class-series/{id}/extend"
upstream = "scheduler"
[route.idempotency]
remember_fingerprint = "0s"
[[route.slot]]
name = "extension"
by = ["path:id"]
hold = "55m"

[[route]]
name = "cancel-session"
match = "DELETE /api/class-sessions/{id}"
upstream = "scheduler"
release = { slot = "class-session", id = "path:id" }

[[route]]
name = "change-series"
match = "PATCH /api/class-series/{id}"
upstream = "scheduler"
release = { slot = "class-series", id = "path:id", when = { "$.status" = ["CANCELLED", "PAUSED"] } }
"#;

fn stand() -> Stand {
    Stand::with(Config { routes: ROUTES, ..Config::default() })
}

fn by_office(call: Call) -> Call {
    call.header("Cookie", "session=office")
}

fn session(number: usize) -> Call {
    let (day, hour) = (1 + number % 28, 9 + number / 28);
    let body = format!(
        r#"{{"date":"2025-09-{day:02}","start":"{hour:02}:00","end":"{hour:02}:50","teacher":"T1","student":"S{number}"}}"#
    );
    by_office(Call::post("/api/class-sessions", body))
}

fn series(branch: &str, days: &str) -> Call {
    let body = format!(
        r#"{{{branch}"teacher":"T1","student":"S1","start_time":"09:00","end_time":"09:50","days_of_week":{days}}}"#
    );
    by_office(Call::post("/api/class-series", body))
}

/// 93 requests: 62 sessions once, one of them 18 times, and one 13 times, cancelled once in between.
fn the_incident(send: impl Fn(&Call) -> Reply) -> Vec<Reply> {
    let mut replies: Vec<Reply> = (0..62).map(|number| send(&session(number))).collect();
    replies.extend((0..18).map(|_| send(&session(100))));
    let first = send(&session(101));
    let cancelled = send(&Call::new("DELETE", &format!("/api/class-sessions/{}", first.json()["id"])));
    assert_eq!(cancelled.status, 200);
    replies.push(first);
    replies.extend((0..12).map(|_| send(&session(101))));
    replies
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

fn created(backend: &Backend) -> usize {
    backend.effects().iter().filter(|row| row["kind"] != "change").count()
}

#[test]
fn without_the_gate_there_are_93_rows_and_a_generator_that_runs_twice_doubles_its_sessions() {
    let backend = Backend::start();
    let replies = the_incident(|call| call.send(backend.address).expect("an answer"));
    assert_eq!((replies.len(), count(&replies, 201), created(&backend)), (93, 93, 93));
    for _ in 0..2 {
        assert_eq!(
            Call::new("POST", "/api/class-series/1/extend").send(backend.address).unwrap().status,
            200
        );
    }
    assert_eq!(created(&backend), 93 + 8);
}

#[test]
fn through_the_gate_there_are_65_rows_and_28_refusals() {
    let stand = stand();
    let replies = the_incident(|call| stand.send(call));
    assert_eq!((replies.len(), count(&replies, 201), count(&replies, 409)), (93, 65, 28));
    assert_eq!(created(&stand.backend), 65);
    for reply in replies.iter().filter(|reply| reply.status == 409) {
        assert_problem(reply, 409, "slot-taken");
        assert!(reply.json()["id"].is_string(), "the original is named to its own scope: {}", reply.text());
    }
    let metrics = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    for line in [
        r#"oncegate_slots_refused_total{slot="class-session"} 28"#,
        r#"oncegate_slots_held_total{slot="class-session"} 65"#,
        r#"oncegate_slots{slot="class-session",state="held"} 64"#,
        r#"oncegate_events_total{event="slot-taken"} 28"#,
        r#"oncegate_requests_total{route="sessions",decision="slot-taken"} 28"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
}

#[test]
fn the_order_of_the_days_and_a_branch_that_comes_from_elsewhere_make_no_other_series() {
    let stand = stand();
    let first = stand.send(&series(r#""branch":"main","#, r#"["Mon","Wed","Fri"]"#));
    assert_eq!(first.status, 201);
    for copy in [
        series(r#""branch":"main","#, r#"["Fri","Mon","Wed"]"#),
        series("", r#"["Wed","Fri","Mon"]"#),
        series(r#""branch":null,"#, r#"["Mon","Wed","Fri"]"#),
        series(r#""branch":"","#, r#"["Mon","Fri","Wed"]"#).header("X-Branch", "main"),
    ] {
        let refused = stand.send(&copy);
        assert_problem(&refused, 409, "slot-taken");
        assert_eq!(refused.json()["id"], first.json()["id"].to_string(), "the original is named");
    }
    assert_eq!(stand.send(&series("", r#"["Mon","Wed"]"#)).status, 201, "other days are another series");
    assert_eq!(stand.send(&series("", r#"["Mon","Wed","Fri"]"#).header("X-Branch", "west")).status, 201);
    assert_eq!(created(&stand.backend), 3);
}

#[test]
fn the_original_is_named_to_nobody_else() {
    let stand = stand();
    stand.send(&session(1));
    let mut stranger = session(1);
    stranger.headers.retain(|(name, _)| name != "Cookie");
    for call in [stranger.clone(), stranger.header("Cookie", "session=somebody-else")] {
        let refused = stand.send(&call);
        assert_problem(&refused, 409, "slot-taken");
        assert!(refused.json()["id"].is_null(), "{}", refused.text());
        assert!(!refused.text().contains("office"), "{}", refused.text());
    }
}

#[test]
fn extending_a_series_again_within_its_window_is_refused() {
    let stand = stand();
    let extend = |id| by_office(Call::new("POST", &format!("/api/class-series/{id}/extend")));
    assert_eq!(stand.send(&extend(1)).status, 200);
    assert_problem(&stand.send(&extend(1)), 409, "slot-taken");
    assert_eq!(stand.send(&extend(2)).status, 200, "another series");
    assert_eq!(created(&stand.backend), 8);
}

#[test]
fn a_paused_series_frees_its_place_and_a_resumed_one_takes_it_again() {
    let stand = stand();
    let days = r#"["Mon"]"#;
    let first = stand.send(&series("", days)).json()["id"].clone();
    let status = |id: &serde_json::Value, status: &str| {
        let call =
            Call::new("PATCH", &format!("/api/class-series/{id}")).header("Content-Type", "application/json");
        by_office(call.body(format!(r#"{{"status":"{status}"}}"#)))
    };
    assert_eq!(stand.send(&status(&first, "PAUSED")).status, 200);
    let second = stand.send(&series("", days));
    assert_eq!(second.status, 201);
    assert_problem(&stand.send(&status(&first, "ACTIVE")), 409, "slot-taken");
    assert_eq!(stand.send(&status(&second.json()["id"], "CANCELLED")).status, 200);
    assert_eq!(stand.send(&status(&first, "ACTIVE")).status, 200);
    assert_problem(&stand.send(&series("", days)), 409, "slot-taken");
}

#[test]
fn a_group_of_ten_admits_exactly_ten_until_its_class_is_over() {
    let stand = stand();
    let join = |student: usize, end: &str| {
        let body = format!(r#"{{"date":"2099-01-01","start":"09:00","end":"{end}","student":"S{student}"}}"#);
        Call::post("/api/group-sessions", body)
            .header("Authorization", &format!("Bearer {student}"))
            .header("X-Demo-Fault", "status-after=201")
    };
    let calls: Vec<Call> = (0..50).map(|student| join(student, "2099-01-01T09:50:00Z")).collect();
    let replies = crate::harness::at_once(stand.gate.address, &calls);
    assert_eq!((count(&replies, 201), count(&replies, 409)), (10, 40));
    assert_problem(&stand.send(&join(60, "when it is over")), 422, "slot-unnamed");
}
