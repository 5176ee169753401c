//! Sessions that a backend renews: the same caller goes on under another cookie, and nobody else does.

use crate::harness::{Call, Config, Reply, Stand, eventually};

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";
const FIRST: &str = "session=0000000000000000000001";
const SECOND: &str = "session=0000000000000000000002";

fn book(cookies: &str, body: &str) -> Call {
    Call::post("/api/bookings", body).header("Cookie", cookies)
}

/// The backend's answer sets this cookie.
fn setting(call: Call, cookie: &str) -> Call {
    call.header("X-Demo-Fault", &format!("cookie={cookie}"))
}

#[track_caller]
fn executed(reply: &Reply) {
    assert!(reply.status == 201 && !reply.is_replay(), "{} {}", reply.status, reply.text());
}

#[test]
fn a_renewed_session_finds_its_writes_as_long_as_they_are_remembered() {
    let idempotency = "remember = \"60s\"\nremember_fingerprint = \"1s\"";
    let stand = Stand::with(Config { idempotency, ..Config::default() });
    let keyed = |cookies, n: u32| {
        book(cookies, &format!("{{\"n\":{n}}}")).header("Idempotency-Key", &format!("{KEY}-{n}"))
    };
    executed(&stand.send(&keyed(FIRST, 1)));
    executed(&stand.send(&setting(book(FIRST, "{}"), SECOND)));
    executed(&stand.send(&keyed(SECOND, 2)));
    // What renewed the session is forgotten by now.
    eventually("its window is over", || (!stand.send(&book(FIRST, "{}")).is_replay()).then_some(()));
    assert!(stand.send(&keyed(SECOND, 2)).is_replay(), "made under the new cookie");
    assert!(stand.send(&keyed(SECOND, 1)).is_replay(), "made under the old one");
    assert_eq!(stand.backend.effects().len(), 4);
}

#[test]
fn whoever_logs_in_with_what_everybody_shows_stays_apart() {
    let stand = Stand::new();
    executed(&stand.send(&book("lang=en", "{}")));
    for session in [FIRST, SECOND] {
        let login = Call::new("GET", "/login").header("Cookie", "lang=en");
        assert!(stand.send(&setting(login, session)).header("set-cookie").is_some());
    }
    for session in [FIRST, SECOND] {
        executed(&stand.send(&book(&format!("lang=en; {session}"), r#"{"slot":5}"#)));
    }
    // A write that logs in, too.
    let third = "session=0000000000000000000003";
    executed(&stand.send(&setting(book("lang=en", r#"{"user":"third"}"#), third)));
    executed(&stand.send(&book(&format!("lang=en; {third}"), "{}")));
}

#[test]
fn a_logout_leaves_what_others_have_made_where_they_find_it() {
    let stand = Stand::new();
    let visitor = |n: u32| book("theme=dark", &format!("{{\"visitor\":{n}}}")).header("Idempotency-Key", KEY);
    executed(&stand.send(&visitor(1)));
    let session = format!("theme=dark; {FIRST}");
    executed(&stand.send(&book(&session, "{}")));
    let logout = Call::new("GET", "/logout").header("Cookie", &session);
    assert_eq!(stand.send(&setting(logout, "session=")).header("set-cookie"), Some("session="));
    assert!(stand.send(&visitor(1)).is_replay(), "hidden by somebody's logout");
    executed(&stand.send(&book("theme=dark", "{}")));
}
