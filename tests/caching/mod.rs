//! Kept and shared answers: what is saved, and above all what never reaches anybody else.

mod backend;
mod coalescing;
mod fleet;
mod keeping;
mod rules;
mod strangers;
mod turns;
mod writes;

use crate::harness::{Call, Reply, program};
use backend::Scripted;
use oncegate::cli::demo::gate::Gate;
use std::net::SocketAddr;
use tempfile::TempDir;

/// A gate before a scripted backend.
struct Stand {
    gate: Gate,
    _directory: TempDir,
}

impl Stand {
    /// With these lines in the reading route, and `more` before the routes.
    fn new(backend: SocketAddr, route: &str, more: &str) -> Stand {
        let text = format!(
            r#"
[server]
listen = "{{listen}}"
lame_duck = "0s"
drain = "1s"
workers = 2
[admin]
listen = "{{admin}}"
[log]
format = "json"
[store]
url = "memory:"
{more}
[[upstream]]
name = "backend"
url = "http://{backend}"
timeout = "5s"
max_in_flight = 4096
[[route]]
name = "guarded"
match = "POST /guarded/**"
upstream = "backend"
[route.idempotency]
[[route]]
name = "page"
match = "* /**"
upstream = "backend"
{route}
"#
        );
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            let mut gate = Gate::new(program(), directory.path(), &text).unwrap();
            match gate.start() {
                Ok(()) => return Stand { gate, _directory: directory },
                Err(error) if error.to_string().contains("Address already in use") => {}
                Err(error) => panic!("the gate starts: {error}"),
            }
        }
        panic!("five times a port was taken that had been free");
    }

    #[track_caller]
    fn send(&self, call: &Call) -> Reply {
        call.send(self.gate.address).expect("an answer")
    }

    #[track_caller]
    fn get(&self, target: &str) -> Reply {
        self.send(&Call::new("GET", target))
    }

    /// A figure of the page's route.
    fn decided(&self, decision: &str) -> u64 {
        self.figure(&format!("oncegate_requests_total{{route=\"page\",decision=\"{decision}\"}}"))
    }

    fn figure(&self, series: &str) -> u64 {
        let text = Call::new("GET", "/metrics").send(self.gate.admin).unwrap().text();
        let line = text.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }
}

fn counted(backend: &Scripted, before: usize) -> usize {
    backend.count() - before
}
