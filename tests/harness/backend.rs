//! The racy scheduling backend as a process.

use super::{Call, program};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The process; dropping it ends it.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

// === impl Backend ===

impl Backend {
    /// Starts one over a SQLite file of its own.
    pub fn start() -> Backend {
        Backend::start_at("127.0.0.1:0".parse().unwrap())
    }

    /// The same at a fixed address.
    pub fn start_at(listen: SocketAddr) -> Backend {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.args(["demo-backend", "--until-eof", "--listen", &listen.to_string(), "--db"]);
        command.arg(directory.path().join("backend.db")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let address = first.trim().parse().expect("the backend names its address first");
        Backend { address, child, _directory: directory }
    }

    /// The rows that were really created, in order.
    pub fn effects(&self) -> Vec<Value> {
        self.ask()["rows"].as_array().expect("a list of effects").clone()
    }

    /// How many requests have reached its pages.
    pub fn requests(&self) -> u64 {
        self.ask()["requests"].as_u64().expect("a number of requests")
    }

    fn ask(&self) -> Value {
        Call::new("GET", "/_effects").send(self.address).expect("the backend answers").json()
    }

    /// Orders a fault for the next `count` requests whose path begins with `path`.
    pub fn order(&self, path: &str, count: u32, fault: &str) {
        let call = Call::new("POST", &format!("/_faults?path={path}&count={count}")).body(fault);
        assert_eq!(call.send(self.address).unwrap().status, 200, "not a fault: {fault}");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
