//! Real Redis servers on free ports: one, a master with a replica and Sentinels, a cluster. They end with the test.

use super::{eventually, free_address};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// One `redis-server` process; dropping it ends it.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    arguments: Vec<String>,
    program: &'static str,
    child: Option<Child>,
    directory: TempDir,
}

// === impl Server ===

impl Server {
    /// Starts one with these settings beside the usual ones, and waits until it answers.
    pub fn start(settings: &[&str]) -> Server {
        let mut server = Server::prepare("redis-server", settings);
        server.run();
        server
    }

    /// The same, not yet running.
    pub fn prepare(program: &'static str, settings: &[&str]) -> Server {
        let (address, directory) = (free_address().unwrap(), tempfile::tempdir().unwrap());
        let mut arguments: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let port = address.port().to_string();
        for (name, value) in [("--port", &*port), ("--bind", "127.0.0.1"), ("--loglevel", "notice")] {
            if !settings.contains(&name) {
                arguments.extend([name.to_owned(), value.to_owned()]);
            }
        }
        if program == "redis-server" && !settings.contains(&"--save") {
            arguments.extend(["--save".to_owned(), String::new()]);
        }
        Server { address, arguments, program, child: None, directory }
    }

    /// Starts it, on the files that it left, and waits until it answers.
    pub fn run(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(self.program);
        command.args(&self.arguments).arg("--dir").arg(self.directory.path());
        command.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| {
            panic!(
                "{} cannot be started ({error}): apt-get install redis-server redis-sentinel",
                self.program
            )
        });
        self.child = Some(child);
        let answers = || self.cli(&["ping"]).contains("PONG").then_some(());
        eventually("the server answers", answers);
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Removes what it wrote.
    pub fn forget(&self) {
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            let _ = std::fs::remove_dir_all(&path);
            let _ = std::fs::remove_file(&path);
        }
    }

    /// The address for a configuration.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// What a command answers, as `redis-cli` shows it.
    pub fn cli(&self, command: &[&str]) -> String {
        let port = self.address.port().to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(command).output();
        let output = output
            .unwrap_or_else(|error| panic!("redis-cli cannot be run ({error}): apt-get install redis-tools"));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
