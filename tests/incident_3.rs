//! Incident 3, the polling flood: a page that fetches again as soon as it is answered, on one connection or six, with a
//! token that changes between polls. The loop is closed: it runs as fast as answers come.
//!
//! `ONCEGATE_INCIDENT_SECONDS=60` plays it at its full length; the normal run plays some seconds of it.

use crate::harness::{Backend, Call, Config, Reply, Stand, assert_problem, curl, eventually};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

mod fleet;
mod flood;
mod limits;
mod loops;

/// The page of the incident.
const PAGE: &str = "/professionals/7f3d9c1e-5b1a-4f8e-9a53-6c1f2f0b7a11";
/// How long its backend takes.
const BACKEND: Duration = Duration::from_millis(120);

/// How long the loop is played.
fn length() -> Duration {
    let seconds = std::env::var("ONCEGATE_INCIDENT_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// A route for the page, with these lines in its `[route.throttle]`.
fn throttled(lines: &str) -> Config {
    routed("header:X-Api-Key", &format!("[route.throttle]\n{lines}"))
}

fn routed(identify_by: &'static str, rules: &str) -> Config {
    let clients = match identify_by {
        "ip" => "identify_by = [\"ip\"]",
        "jwt:sub" => "identify_by = [\"jwt:sub\", \"ip\"]",
        _ => "identify_by = [\"header:X-Api-Key\", \"ip\"]",
    };
    let routes = format!(
        "[[route]]\nname = \"profile\"\nmatch = \"GET /professionals/**\"\nupstream = \"scheduler\"\n{rules}\n"
    );
    Config { clients, routes: routes.leak(), ..Config::default() }
}

/// The incident's own limits.
const LIMITS: &str =
    "limits = [\"1/2s burst 3\", \"10/min\"]\nper = \"client+resource\"\nhold_at_most = \"8s\"\n";

/// One connection that polls as fast as it is answered.
struct Poller {
    stream: TcpStream,
    address: SocketAddr,
    polls: u64,
    call: Call,
}

impl Poller {
    fn new(address: SocketAddr, call: Call) -> Poller {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Poller { stream, address, polls: 0, call }
    }

    /// The next poll, under a new token.
    fn poll(&mut self) -> Reply {
        use std::io::Write;
        self.polls += 1;
        let call = self.call.clone().header("Authorization", &format!("Bearer token-{}", self.polls));
        self.stream.write_all(&call.bytes(self.address)).unwrap();
        Reply::read(&mut self.stream, false, Instant::now() + Duration::from_secs(30)).expect("an answer")
    }

    /// Polls for so long; every answer's status and how long it took.
    fn run(mut self, length: Duration) -> Vec<(u16, Duration)> {
        let began = Instant::now();
        let mut answers = Vec::new();
        while began.elapsed() < length {
            let asked = Instant::now();
            let reply = self.poll();
            answers.push((reply.status, asked.elapsed()));
        }
        answers
    }
}

fn page(key: &str) -> Call {
    Call::new("GET", PAGE).header("X-Api-Key", key).within(Duration::from_secs(30))
}

fn log(stand: &Stand) -> String {
    std::fs::read_to_string(&stand.gate.log).unwrap()
}

/// The lines of one event.
fn events(stand: &Stand, event: &str) -> Vec<serde_json::Value> {
    let text = log(stand);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

fn metric(stand: &Stand, series: &str) -> u64 {
    let text = Call::new("GET", "/metrics").send(stand.gate.admin).unwrap().text();
    let line = text.lines().find(|line| line.starts_with(series) && line[series.len()..].starts_with(' '));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64)
}
