//! The admin address from outside: a real listener, a store in memory, and requests byte by byte.

use super::*;
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::ledger::{Claim, Doubt, PolicyVersion, RecordId, TargetId, Token};
use crate::store::{About, ClaimRequest, Claimed, Completion, Options, Place};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// A running admin address, and what is behind it.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<Store>,
    journal: Arc<Journal>,
    readiness: watch::Sender<Readiness>,
    _admin: Admin,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

/// Two slots of one route, and what a success there changes.
fn catalogues() -> (Arc<SlotCatalogue>, Arc<Successes>) {
    let text = r#"
[[upstream]]
name = "a"
url = "http://127.0.0.1:1"
[[route]]
name = "book"
match = "POST /{clinic}/a"
upstream = "a"
[[route.slot]]
name = "doctor-slot"
by = ["path:clinic", "$.doctor.name", "datetime:$.start"]
hold = "90d"
id = "$.id"
"#;
    let loaded = crate::config::parse(text, std::path::Path::new(""), &|_| None).expect("a configuration");
    (Arc::new(SlotCatalogue::new(&loaded.config)), Arc::new(Successes::new(&loaded.config)))
}

impl Door {
    pub(crate) fn open(token: Option<&str>) -> Door {
        let (place, secret) = (Place::Memory, Some(b"a test".to_vec()));
        let options = Options { place, secret, memory_max: 1 << 20, records_max: 10_000 };
        let store = Arc::new(Store::open(options).expect("a store in memory"));
        let journal = Journal::new(vec!["book".into()], vec!["scheduler".into()], false);
        let (readiness, watched) = watch::channel(Readiness::Starting);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (slots, successes) = catalogues();
        let state = AdminState {
            store: store.clone(),
            journal: journal.clone(),
            slots,
            successes,
            readiness: watched,
            token: token.map(Secret::new),
        };
        let admin = serve(listener, state).expect("a thread");
        Door { address: admin.address(), store, journal, readiness, _admin: admin }
    }

    /// Sends one request with these further header lines and reads the answer to its end.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let (address, length) = (self.address, body.len());
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    fn send(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).expect("the listener accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer, then the end");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head[9..12].parse().expect("a status");
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "")
    }

    fn resolve(&self, id: RecordId, body: &str) -> Reply {
        let json = "Content-Type: application/json\r\n";
        self.ask("POST", &format!("/api/claims/{id}/resolve"), json, body)
    }

    /// Claims `id` as the gateway does for the first request.
    pub(crate) fn claim(&self, id: RecordId) -> Claimed {
        self.claim_with(id, Token(u128::from(id.0[0])))
    }

    fn claim_with(&self, id: RecordId, token: Token) -> Claimed {
        let claim = Claim {
            fingerprint: Fingerprint([1; 32]),
            keyed: true,
            policy: PolicyVersion(1),
            scope: ScopeId([2; 16]),
            target: TargetId([3; 16]),
            token,
            owner: self.store.owner(),
            lease: HOUR,
            sent: true,
            in_doubt_for: HOUR,
        };
        let about =
            About { route: "book".into(), request: "POST /api/bookings".into(), request_id: "r-1".into() };
        wait(self.store.claim(ClaimRequest {
            id,
            claim,
            quota: 1_000,
            about,
            slots: Vec::new(),
            above: None,
        }))
        .expect("the store works")
    }

    /// Leaves `id` in doubt.
    pub(crate) fn doubt(&self, id: RecordId) {
        assert!(matches!(self.claim(id), Claimed::Granted));
        wait(self.store.doubt(id, Token(u128::from(id.0[0])), Doubt::TimedOut)).expect("the store works");
    }
}

impl Reply {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// The last part of the problem's type, where it is one.
    fn problem(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let kind = problem["type"].as_str().expect("a type");
        kind.rsplit(':').next().unwrap_or_default().to_owned()
    }
}

fn wait<T>(command: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(command)
}

pub(crate) fn id(byte: u8) -> RecordId {
    RecordId([byte; 32])
}

#[test]
fn after_an_operator_says_executed_the_next_copy_gets_that_answer() {
    let door = Door::open(None);
    door.doubt(id(7));
    let resolution =
        r#"{"verdict":"executed","status":201,"headers":{"Content-Type":"text/plain"},"body":"id 822"}"#;
    let reply = door.resolve(id(7), resolution);
    assert_eq!((reply.status, &reply.json()["settled"]), (200, &"executed".into()));
    let Claimed::Done(answer) = door.claim(id(7)) else { panic!("the copy did not get the answer") };
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (201, &b"id 822"[..]));
    assert_eq!(answer.headers()["content-type"], "text/plain");
    let figures = door.journal.metrics_text(Vec::new());
    assert!(figures.contains(r#"oncegate_events_total{event="settled"} 1"#), "{figures}");
}

#[test]
fn after_an_operator_says_not_executed_the_next_copy_executes() {
    let door = Door::open(None);
    door.doubt(id(7));
    assert!(matches!(door.claim(id(7)), Claimed::InDoubt { .. }));
    assert_eq!(door.resolve(id(7), r#"{"verdict":"not-executed"}"#).status, 200);
    assert!(matches!(door.claim(id(7)), Claimed::Granted));
}

#[test]
fn only_what_is_in_doubt_can_be_settled() {
    let door = Door::open(None);
    assert!(matches!(door.claim(id(7)), Claimed::Granted));
    let in_flight = door.resolve(id(7), r#"{"verdict":"not-executed"}"#);
    assert_eq!((in_flight.status, in_flight.problem().as_str()), (409, "not-in-doubt"));
    assert!(
        matches!(door.claim_with(id(7), Token(99)), Claimed::InFlight(_)),
        "a refused verdict changes nothing"
    );
    let deleted = door.ask("DELETE", &format!("/api/claims/{}", id(7)), "", "");
    assert_eq!((deleted.status, deleted.problem().as_str()), (409, "at-work"));
    let unknown = door.resolve(id(8), r#"{"verdict":"not-executed"}"#);
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "not-found"));
    let figures = door.journal.metrics_text(Vec::new());
    assert!(figures.contains(r#"oncegate_events_total{event="settled"} 0"#), "{figures}");
}

#[test]
fn a_deleted_record_is_absent() {
    let door = Door::open(None);
    door.doubt(id(7));
    assert_eq!(door.ask("DELETE", &format!("/api/claims/{}", id(7)), "", "").status, 200);
    assert_eq!(door.get(&format!("/api/claims/{}", id(7))).problem(), "not-found");
    assert!(matches!(door.claim(id(7)), Claimed::Granted));
}

#[test]
fn records_are_listed_by_phase_page_by_page_and_shown_singly() {
    let door = Door::open(None);
    (1..=5).for_each(|byte| door.doubt(id(byte)));
    assert!(matches!(door.claim(id(9)), Claimed::Granted));
    let (mut path, mut seen) = ("/api/claims?phase=in-doubt&limit=2".to_owned(), Vec::new());
    for _ in 0..4 {
        let page: ClaimsPage = serde_json::from_str(&door.get(&path).body).expect("a page");
        seen.extend(page.claims.iter().map(|claim| claim.id.clone()));
        let Some(next) = page.next else { break };
        path = format!("/api/claims?phase=in-doubt&limit=2&after={next}");
    }
    assert_eq!(seen, (1..=5).map(|byte| id(byte).to_string()).collect::<Vec<_>>());
    let shown = door.get(&format!("/api/claims/{}", id(3))).json();
    assert_eq!(
        (&shown["phase"], &shown["why"], &shown["route"]),
        (&"in-doubt".into(), &"timed-out".into(), &"book".into())
    );
    assert_eq!(door.get("/api/claims?phase=sent").json()["claims"][0]["id"], id(9).to_string());
}

#[test]
fn what_cannot_be_understood_is_said() {
    let door = Door::open(None);
    door.doubt(id(7));
    for path in [
        "/api/claims?phase=lost",
        "/api/claims?limit=0",
        "/api/claims?limit=1001",
        "/api/claims?fase=sent",
        "/api/claims/xyz",
    ] {
        let reply = door.get(path);
        assert_eq!((reply.status, reply.problem().as_str()), (400, "bad-request"), "{path}");
    }
    let typo = door.resolve(id(7), r#"{"verdict":"executed","status":201,"bdoy":""}"#);
    assert!((400..500).contains(&typo.status) && typo.body.contains("bdoy"), "{}", typo.body);
    let form =
        door.ask("POST", &format!("/api/claims/{}/resolve", id(7)), "Content-Type: text/plain\r\n", "{}");
    assert_eq!((form.status, form.problem().as_str()), (415, "not-json"));
    let post = door.ask("POST", "/api/claims", "", "");
    assert_eq!((post.status, post.problem().as_str()), (405, "method-not-allowed"));
    assert_eq!(door.get("/nothing").problem(), "not-found");
    assert!(matches!(door.claim(id(7)), Claimed::InDoubt { .. }), "none of these changed the record");
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let door = Door::open(None);
    let (address, id) = (door.address, id(7));
    let head = format!(
        "POST /api/claims/{id}/resolve HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
    );
    let reply = door.send(&format!("{head}Content-Length: 1000000000\r\n\r\n{{"));
    assert_eq!((reply.status, reply.problem().as_str()), (413, "body-too-large"));
}

#[test]
fn a_body_that_does_not_say_its_length_is_cut_off_at_the_limit() {
    use hyper::service::Service;
    let door = Door::open(None);
    let (_, readiness) = watch::channel(Readiness::Ready);
    let (store, journal) = (door.store.clone(), door.journal.clone());
    let (slots, successes) = catalogues();
    let service = hyper_util::service::TowerToHyperService::new(router(AdminState {
        store,
        journal,
        slots,
        successes,
        readiness,
        token: None,
    }));
    let request = |bytes: usize| {
        http::Request::post(format!("/api/claims/{}/resolve", id(7)))
            .header("content-type", "application/json")
            .body(axum::body::Body::from(" ".repeat(bytes)))
            .expect("a request")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let status =
        |bytes| runtime.block_on(service.call(request(bytes))).expect("infallible").status().as_u16();
    assert_eq!((status(BODY_BYTES_MAX + 1), status(BODY_BYTES_MAX)), (413, 400));
}

#[test]
fn with_a_token_everything_but_health_requires_it() {
    let door = Door::open(Some("a long secret"));
    door.doubt(id(7));
    let resolve = format!("/api/claims/{}/resolve", id(7));
    let one = format!("/api/claims/{}", id(7));
    for (method, path) in
        [("GET", "/metrics"), ("GET", "/api/claims"), ("GET", &one), ("POST", &resolve), ("DELETE", &one)]
    {
        for shown in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic a long secret\r\n"] {
            let reply = door.ask(method, path, shown, "");
            assert_eq!((reply.status, reply.problem().as_str()), (401, "token-required"), "{method} {path}");
            assert!(reply.head.contains("www-authenticate: bearer"), "{}", reply.head);
        }
    }
    assert!(matches!(door.claim(id(7)), Claimed::InDoubt { .. }), "nothing was changed without the token");
    assert_eq!(door.ask("GET", "/api/claims", "Authorization: Bearer a long secret\r\n", "").status, 200);
    assert_eq!((door.get("/healthz").status, door.get("/readyz").status), (200, 503));
}

#[test]
fn a_page_of_another_site_cannot_settle_anything() {
    let door = Door::open(None);
    door.doubt(id(7));
    let (path, json) = (format!("/api/claims/{}/resolve", id(7)), "Content-Type: application/json\r\n");
    let body = r#"{"verdict":"not-executed"}"#;
    for foreign in ["Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n", "Origin: null\r\n"]
    {
        let reply = door.ask("POST", &path, &format!("{json}{foreign}"), body);
        assert_eq!((reply.status, reply.problem().as_str()), (403, "cross-site"), "{foreign}");
    }
    let rebound = format!(
        "POST {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {}\r\n{json}\r\n{body}",
        body.len()
    );
    assert_eq!(door.send(&rebound).problem(), "cross-site");
    assert!(matches!(door.claim(id(7)), Claimed::InDoubt { .. }), "the record is still in doubt");
}

#[test]
fn readiness_follows_the_process() {
    let door = Door::open(None);
    for (phase, status) in [(Readiness::Ready, 200), (Readiness::LameDuck, 503), (Readiness::Draining, 503)] {
        door.readiness.send_replace(phase);
        let reply = door.get("/readyz");
        assert_eq!((reply.status, &reply.json()["phase"]), (status, &phase.word().into()));
        assert_eq!(door.get("/healthz").status, 200);
    }
}

#[test]
fn the_stores_figures_are_among_the_metrics_and_in_the_operators_table() {
    let door = Door::open(None);
    door.doubt(id(1));
    assert!(matches!(door.claim(id(2)), Claimed::Granted));
    let answer = Answer::new(http::StatusCode::CREATED, &http::HeaderMap::new(), Some(b"body"));
    let (token, keep) = (Token(2), HOUR);
    wait(door.store.complete(Completion {
        id: id(2),
        token,
        answer,
        keep,
        ends: None,
        names: None,
        alias: None,
        slots: Default::default(),
        frees: Vec::new(),
    }))
    .expect("the store works");
    let reply = door.get("/metrics");
    assert!(reply.head.contains("content-type: application/openmetrics-text"), "{}", reply.head);
    for line in [
        r#"oncegate_store_records{phase="in-doubt"} 1"#,
        r#"oncegate_store_records{phase="done"} 1"#,
        r#"oncegate_store_records{phase="sent"} 0"#,
        "oncegate_store_up 1",
    ] {
        assert!(reply.body.lines().any(|found| found == line), "{line} is missing in\n{}", reply.body);
    }
    crate::journal::tests::assert_documented(&reply.body);
}

#[test]
fn answers_are_kept_out_of_caches() {
    let door = Door::open(None);
    for path in ["/healthz", "/readyz", "/metrics", "/api/claims", "/nothing"] {
        let head = door.get(path).head;
        assert!(head.contains("cache-control: no-store") && head.contains("nosniff"), "{path}: {head}");
    }
}

#[test]
fn an_address_that_others_reach_is_not_served_without_a_token() {
    let door = Door::open(None);
    let open = |token: Option<&str>| {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let (_, readiness) = watch::channel(Readiness::Ready);
        let (store, journal, token) = (door.store.clone(), door.journal.clone(), token.map(Secret::new));
        let (slots, successes) = catalogues();
        serve(listener, AdminState { store, journal, slots, successes, readiness, token })
    };
    let refused = open(None).expect_err("anybody could settle records");
    assert!(refused.to_string().contains("requires a token"), "{refused}");
    assert!(open(Some("secret")).is_ok());
}

#[test]
fn those_who_say_nothing_keep_nobody_from_asking_how_the_process_is() {
    let door = Door::open(None);
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(door.address).expect("a connection")).collect();
    let mut stream = TcpStream::connect(door.address).expect("a connection");
    // Below the time after which those who say nothing are sent away.
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the request is taken");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200");
    drop(silent);
}

#[test]
fn a_stopped_admin_address_is_closed() {
    let door = Door::open(None);
    let address = door.address;
    assert_eq!(door.get("/healthz").status, 200);
    drop(door);
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err());
}
