//! A gateway as a child process: this program's own `run`, on loopback ports of its own, over a directory that outlives
//! it, so that it can be killed and started again on the same store.

use super::http::Call;
use std::fs::File;
use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a gateway may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Ports are taken from below the kernel's ephemeral range, where no outgoing connection can take one while a gateway
/// is down.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// The gateway; dropping it kills it.
pub struct Gate {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Health, metrics, claims.
    pub admin: SocketAddr,
    /// The file that it runs with.
    pub config: PathBuf,
    /// What it said, over all its lives.
    pub log: PathBuf,
    command: Vec<PathBuf>,
    child: Option<Child>,
}

// === impl Gate ===

impl Gate {
    /// Writes `config` (with `{listen}`, `{admin}` and `{store}` filled in) into `directory`; nothing runs yet.
    ///
    /// # Errors
    /// The directory's.
    pub fn new(program: &Path, directory: &Path, config: &str) -> Result<Gate> {
        let (address, admin) = (free_address()?, free_address()?);
        let file = directory.join("config.toml");
        let filled = config
            .replace("{listen}", &address.to_string())
            .replace("{admin}", &admin.to_string())
            .replace("{store}", &format!("file:{}", directory.join("store").display()));
        std::fs::write(&file, filled)?;
        let command = vec![program.to_owned()];
        Ok(Gate { address, admin, config: file, log: directory.join("gate.log"), command, child: None })
    }

    /// Puts a program with its arguments before the gateway's own command line (a tracer).
    pub fn under(&mut self, tracer: &[&str]) {
        self.command.splice(..0, tracer.iter().map(PathBuf::from));
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// Its log, where it ended or was not ready in time.
    pub fn start(&mut self) -> Result<()> {
        self.kill();
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(["run", "--config"]).arg(&self.config);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.child = Some(child);
        let until = Instant::now() + READY_WITHIN;
        let ready = Call::new("GET", "/readyz").within(Duration::from_secs(1));
        while !ready.send(self.admin).is_ok_and(|reply| reply.status == 200) {
            if let Some(status) = self.exit_status()? {
                return Err(self.failure(&format!("the gate ended: {status}")));
            }
            if Instant::now() > until {
                return Err(self.failure("the gate was not ready in time"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The operating system's.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only where it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn failure(&self, what: &str) -> Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        Error::other(format!("{what}\n{log}"))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback address that nobody listens on at this moment, and that this process was not given before.
///
/// # Errors
/// None is free.
pub fn free_address() -> Result<SocketAddr> {
    /// The next port, counted from a random one so that processes beside this one find others.
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(Error::other)?;
    let next = NEXT.get_or_init(|| AtomicU16::new(u16::from_ne_bytes(random)));
    for _ in 0..PORTS.len() {
        let port = PORTS.start + next.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Error::other("no free port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_address_is_given_twice() {
        let given: HashSet<SocketAddr> = (0..500).map(|_| free_address().unwrap()).collect();
        assert_eq!(given.len(), 500);
    }
}
