//! Incident 3 as an act: a page that fetches again as soon as it is answered, under a token that changes with every poll.
//! The loop is closed, so it runs as fast as answers come; what is shown was counted, on both sides of the gate.

use super::http::Call;
use super::table::Table;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The page of the incident.
const PAGE: &str = "/professionals/7f3d9c1e-5b1a-4f8e-9a53-6c1f2f0b7a11";
/// Who polls: what stays the same while the token changes.
const SESSION: &str = "session=1f0c3be2a7d94be0b1b7a86c0d4e5f63";
/// How long the loop runs, each time.
const LENGTH: Duration = Duration::from_secs(8);
/// What `demo.toml` allows at once, and the time to the next turn.
const BURST: u64 = 3;
const TURN: Duration = Duration::from_secs(2);

/// What a loop came to.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Requests of the page.
    pub requests: u64,
    /// Requests that reached the backend, as the backend says.
    pub reached: u64,
    /// Answers that were none, or not 2xx.
    pub errors: u64,
    /// How long it took, until the last answer.
    pub took: Duration,
}

// === impl Flood ===

impl Flood {
    /// Lets the loop run against `address`, before a backend that does nothing else meanwhile.
    ///
    /// # Errors
    /// The backend could not be asked.
    pub fn play(address: SocketAddr, backend: SocketAddr) -> Result<Flood> {
        let (before, began) = (reached(backend)?, Instant::now());
        let (mut requests, mut errors) = (0, 0);
        while began.elapsed() < LENGTH {
            requests += 1;
            let token = format!("Bearer token-{requests}");
            let call = Call::new("GET", PAGE).header("Cookie", SESSION).header("Authorization", &token);
            let answer = call.within(Duration::from_secs(30)).send(address);
            errors += u64::from(!answer.is_ok_and(|reply| reply.status / 100 == 2));
        }
        let took = began.elapsed();
        Ok(Flood { requests, reached: reached(backend)? - before, errors, took })
    }

    /// Whether the gate did its job: the page saw no error, and loop and backend went at the route's pace.
    pub fn kept(&self) -> bool {
        let most = BURST + u64::try_from(self.took.as_millis() / TURN.as_millis()).unwrap_or(u64::MAX);
        self.errors == 0 && self.reached <= most && self.requests <= most
    }

    /// The act's part of the demo's output.
    pub fn table(without: &Flood, with: &Flood) -> Table {
        let headings = ["incident", "gate", "client requests", "backend requests", "errors", "in"];
        let mut table = Table::new(&headings);
        let less = 100 - 100 * with.reached / without.reached.max(1);
        let verdict = if with.kept() { format!(" ({less} % less)") } else { "  <- not promised".to_owned() };
        table.row(without.cells("3 a page that polls as fast as it is answered", "without", ""));
        table.row(with.cells("", "with", &verdict));
        table
    }

    fn cells(&self, name: &str, gate: &str, verdict: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            gate.to_owned(),
            self.requests.to_string(),
            format!("{}{verdict}", self.reached),
            self.errors.to_string(),
            format!("{:.1} s", self.took.as_secs_f64()),
        ]
    }
}

/// Requests that have reached the backend's pages.
fn reached(backend: SocketAddr) -> Result<u64> {
    let told = Call::new("GET", "/_effects").send(backend)?.json();
    told["requests"].as_u64().ok_or_else(|| Error::other("the backend does not say what reached it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_floods_or_sees_an_error_is_not_what_was_promised() {
        let paced = Flood { requests: 7, reached: 7, errors: 0, took: Duration::from_millis(8_100) };
        assert!(paced.kept());
        assert!(!Flood { errors: 1, ..paced }.kept());
        assert!(!Flood { reached: 8, ..paced }.kept());
        assert!(!Flood { requests: 60, ..paced }.kept(), "quick answers from a copy make the loop spin");
        let flooded = Flood { requests: 64, reached: 64, ..paced };
        let shown = Flood::table(&flooded, &paced).to_string();
        assert!(shown.contains("64") && shown.contains("7 (90 % less)"), "{shown}");
    }
}
