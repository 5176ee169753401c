//! A backend, a gate before it, and the directory that both live in.

use super::{Backend, Call, Config, Reply, Signal, eventually, program, signal};
use oncegate::cli::demo::gate::Gate;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Both processes; dropping it ends them.
pub struct Stand {
    /// The gate; it may be killed and started again.
    pub gate: Gate,
    /// The backend.
    pub backend: Backend,
    _directory: TempDir,
}

// === impl Stand ===

impl Stand {
    /// With the usual configuration.
    pub fn new() -> Stand {
        Stand::with(Config::default())
    }

    /// With another one.
    pub fn with(config: Config) -> Stand {
        // A port that was free a moment ago may be another test's by now.
        for _ in 0..5 {
            let mut stand = Stand::stopped(config.clone());
            match stand.gate.start() {
                Ok(()) => return stand,
                Err(error) if error.to_string().contains("Address already in use") => {}
                Err(error) => panic!("the gate starts: {error}"),
            }
        }
        panic!("five times a port was taken that had been free");
    }

    /// The same, with the gate not yet started.
    pub fn stopped(config: Config) -> Stand {
        let (backend, directory) = (Backend::start(), tempfile::tempdir().unwrap());
        let gate = Gate::new(program(), directory.path(), &config.text(backend.address)).unwrap();
        Stand { gate, backend, _directory: directory }
    }

    /// Starts the gate, on the store that it left.
    #[track_caller]
    pub fn start(&mut self) {
        self.gate.start().expect("the gate starts");
    }

    /// Sends through the gate.
    #[track_caller]
    pub fn send(&self, call: &Call) -> Reply {
        call.send(self.gate.address).expect("an answer")
    }

    /// Waits until so many requests have reached the backend.
    #[track_caller]
    pub fn wait_for_requests(&self, count: u64) {
        eventually("the backend has the request", || (self.backend.requests() >= count).then_some(()));
    }

    /// Asks the gate to end.
    pub fn terminate(&self) {
        signal(self.gate.pid().expect("the gate runs"), Signal::TERM);
    }

    /// Runs `oncegate claims …` against this gate.
    pub fn claims(&self, arguments: &[&str]) -> Output {
        claims(&self.gate, arguments)
    }

    /// The ids of the records in doubt, as `oncegate claims list` tells them.
    pub fn in_doubt(&self) -> Vec<String> {
        let output = self.claims(&["list", "--phase", "in-doubt", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
        words.filter(|word| word.len() == 64).map(str::to_owned).collect()
    }
}

/// Runs `oncegate claims …` against a gate.
pub fn claims(gate: &Gate, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("claims").args(arguments).arg("--config").arg(&gate.config).output().unwrap()
}
