//! The incidents as acts: each plays the same requests against an address, and says what has to come of it.

use super::http::{Call, Reply};
use serde_json::Value;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// The second click of incident 1 came so much later.
const SECOND_CLICK: Duration = Duration::from_millis(31);
const SESSION: &str = "session=6f1ed002ab5595859014ebf0951522d9";

/// One incident, or one half of it.
pub struct Act {
    /// What happens.
    pub name: &'static str,
    /// Sends the act's requests to an address; answers in the order of the requests.
    play: fn(SocketAddr) -> Vec<Result<Reply>>,
    /// What has to come of it through the gate.
    expected: Expected,
}

/// What an act's requests have to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Rows created.
    pub effects: usize,
    /// Status of each answer.
    pub statuses: &'static [u16],
    /// Answers marked as replays.
    pub replays: usize,
}

/// What really came of an act.
#[derive(Debug)]
pub struct Tally {
    /// Rows created, as the backend says.
    pub effects: usize,
    /// The answers.
    pub answers: Vec<Result<Reply>>,
}

/// Every act, in the order of the incidents.
pub const ACTS: &[Act] = &[
    Act {
        name: "1 double click, 31 ms apart",
        play: double_click,
        expected: Expected { effects: 1, statuses: &[201, 201], replays: 1 },
    },
    Act {
        name: "1 conflict dialog, then a confirmed double click",
        play: confirmed,
        expected: Expected { effects: 1, statuses: &[409, 201, 201], replays: 1 },
    },
    Act {
        name: "2 a class series again, its generator again",
        play: series,
        expected: Expected { effects: 5, statuses: &[201, 409, 200, 409], replays: 0 },
    },
    Act {
        name: "4 two patients, one slot, two routes",
        play: patients,
        expected: Expected { effects: 1, statuses: &[201, 409], replays: 0 },
    },
    Act {
        name: "5 assessment number, double click",
        play: assessment,
        expected: Expected { effects: 1, statuses: &[201, 201], replays: 1 },
    },
    Act {
        name: "5 assessment created by a page load, refreshed",
        play: refresh,
        expected: Expected { effects: 1, statuses: &[201, 201], replays: 1 },
    },
];

// === impl Act ===

impl Act {
    /// Plays the act against `address` and asks `backend` what came of it.
    ///
    /// # Errors
    /// The backend could not be asked.
    pub fn run(&self, address: SocketAddr, backend: SocketAddr) -> Result<Tally> {
        let before = count_effects(backend)?;
        let answers = (self.play)(address);
        Ok(Tally { effects: count_effects(backend)? - before, answers })
    }

    /// Whether the gate did its job: the expected effects, statuses and replays, and one body for one meaning.
    pub fn kept(&self, tally: &Tally) -> bool {
        let statuses = tally.answers.iter().map(|answer| answer.as_ref().map_or(0, |reply| reply.status));
        let last = self.expected.replays + 1;
        let copies: Vec<&Reply> = tally.answers.iter().flatten().rev().take(last).collect();
        tally.effects == self.expected.effects
            && statuses.eq(self.expected.statuses.iter().copied())
            && tally.replays() == self.expected.replays
            && copies.iter().all(|copy| copy.body == copies[0].body)
    }
}

// === impl Tally ===

impl Tally {
    /// Answers that were marked as replays.
    pub fn replays(&self) -> usize {
        self.answers.iter().flatten().filter(|reply| reply.is_replay()).count()
    }

    /// Each answer in a few words.
    pub fn answers(&self) -> String {
        let words = |answer: &Result<Reply>| match answer {
            Ok(reply) => format!("{} {}", reply.status, summary(&reply.json())),
            Err(error) => format!("no answer ({})", error.kind()),
        };
        self.answers.iter().map(|answer| words(answer).trim_end().to_owned()).collect::<Vec<_>>().join(" | ")
    }
}

/// How many rows the backend has really created.
fn count_effects(backend: SocketAddr) -> Result<usize> {
    let effects = Call::new("GET", "/_effects").send(backend)?.json();
    effects["rows"]
        .as_array()
        .map(Vec::len)
        .ok_or_else(|| Error::other("the backend does not say what it did"))
}

fn summary(body: &Value) -> String {
    let number = body["number"].as_str().map(str::to_owned);
    let id = body["id"].as_i64().map(|id| format!("id {id}"));
    let error = body["error"].as_str().or(body["title"].as_str());
    let error = error.map(|text| text.split([';', '"']).next().unwrap_or_default().trim_end().to_owned());
    number.or(id).or(error).unwrap_or_default()
}

fn exception(start: &str, end: &str, confirm: bool) -> Call {
    let confirm = if confirm { r#","confirm":true"# } else { "" };
    let body = format!(
        r#"{{"date":"2025-11-24","startTime":"{start}","endTime":"{end}","practitionerId":"王医生"{confirm}}}"#
    );
    Call::post("/api/availability-exceptions", body).header("Cookie", SESSION)
}

/// Two clicks on one button.
fn twice(address: SocketAddr, call: &Call) -> Vec<Result<Reply>> {
    thread::scope(|scope| {
        let first = scope.spawn(|| call.send(address));
        thread::sleep(SECOND_CLICK);
        let second = scope.spawn(|| call.send(address));
        [first, second]
            .map(|click| click.join().unwrap_or_else(|_| Err(Error::other("the client failed"))))
            .into()
    })
}

fn double_click(address: SocketAddr) -> Vec<Result<Reply>> {
    twice(address, &exception("09:00", "12:00", false))
}

fn confirmed(address: SocketAddr) -> Vec<Result<Reply>> {
    let mut answers = vec![exception("11:00", "13:00", false).send(address)];
    answers.extend(twice(address, &exception("11:00", "13:00", true)));
    answers
}

/// Two clicks so close that both count the same rows.
fn at_once(address: SocketAddr, call: &Call) -> Vec<Result<Reply>> {
    thread::scope(|scope| {
        let clicks = [scope.spawn(|| call.send(address)), scope.spawn(|| call.send(address))];
        clicks.map(|click| click.join().unwrap_or_else(|_| Err(Error::other("the client failed")))).into()
    })
}

/// The blueprint comes twice, with its days in another order and without the branch; then the generator runs twice.
fn series(address: SocketAddr) -> Vec<Result<Reply>> {
    let blueprint = |branch: &str, days: &str| {
        // Each address has a student of its own, so that one performance leaves nothing to the next.
        let body = format!(
            r#"{{{branch}"teacher":"Chen","student":"S{}","start_time":"09:00","end_time":"09:50","days_of_week":{days}}}"#,
            address.port()
        );
        Call::post("/api/class-series", body).header("Cookie", SESSION).send(address)
    };
    let first = blueprint(r#""branch":"main","#, r#"["Mon","Wed","Fri"]"#);
    let again = blueprint("", r#"["Fri","Mon","Wed"]"#);
    let id = first.as_ref().map(|reply| reply.json()["id"].clone()).unwrap_or_default();
    let extend = || {
        Call::post(&format!("/api/class-series/{id}/extend"), "{}").header("Cookie", SESSION).send(address)
    };
    vec![first, again, extend(), extend()]
}

/// Two patients book one slot in the same moment, one of them at the counter. Whoever gets it comes first.
fn patients(address: SocketAddr) -> Vec<Result<Reply>> {
    let slot = address.port();
    let book = |path: &str, patient: &str| {
        let body = format!(
            r#"{{"clinicId":"c1","doctor":"Rao","date":"2026-11-25","slotIndex":{slot},"patient":"{patient}"}}"#
        );
        Call::post(path, body).header("Authorization", &format!("Bearer {patient}"))
    };
    let calls = [book("/api/appointments", "ann"), book("/api/walk-ins", "bob")];
    let mut answers: Vec<Result<Reply>> = thread::scope(|scope| {
        let patients = calls.each_ref().map(|call| scope.spawn(|| call.send(address)));
        patients
            .map(|patient| patient.join().unwrap_or_else(|_| Err(Error::other("the client failed"))))
            .into()
    });
    answers.sort_by_key(|answer| answer.as_ref().map_or(0, |reply| reply.status));
    answers
}

fn assessment(address: SocketAddr) -> Vec<Result<Reply>> {
    at_once(address, &Call::post("/api/assessments", r#"{"patient":"7"}"#).header("Cookie", SESSION))
}

fn refresh(address: SocketAddr) -> Vec<Result<Reply>> {
    at_once(address, &Call::new("GET", "/assessments/new?patient=7").header("Cookie", SESSION))
}
