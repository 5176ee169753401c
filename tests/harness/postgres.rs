//! A real PostgreSQL server, in a directory and on a port of its own, that ends with the test.

use super::{eventually, free_address};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Connections that the server takes.
pub const CONNECTIONS: usize = 40;

/// The server; dropping it ends it.
pub struct Postgres {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

// === impl Postgres ===

impl Postgres {
    /// Starts one over an empty database.
    pub fn start() -> Postgres {
        let (programs, directory) = (programs(), tempfile::tempdir().unwrap());
        // It refuses to run as root, and whoever it runs as has to own its directory.
        let owner = rustix::process::getuid().is_root().then_some("postgres");
        if let Some(owner) = owner {
            succeed(Command::new("chown").arg(owner).arg(directory.path()));
        }
        let data = directory.path().join("data");
        let mut init = as_user(owner, &programs.join("initdb"));
        init.args(["--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C", "-D"]);
        succeed(init.arg(&data));
        let address = free_address().unwrap();
        let mut command = as_user(owner, &programs.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(directory.path());
        command.args(["-p", &address.port().to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "fsync=off", "-c", &format!("max_connections={CONNECTIONS}")]);
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut server = Postgres { address, child, _directory: directory };
        eventually("the database listens", || {
            assert!(server.child.try_wait().unwrap().is_none(), "it ended: {}", server.log());
            std::net::TcpStream::connect(address).ok()
        });
        server
    }

    /// How clients connect.
    pub fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=test dbname=postgres", self.address.port())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self._directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, and without a trace: SIGQUIT is its immediate shutdown, which ends its children too.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// Where Debian puts the server's programs, or where `PATH` has them.
fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    versions.extend(std::env::split_paths(&paths));
    let found = versions.into_iter().find(|directory| directory.join("initdb").is_file());
    found.expect("PostgreSQL is installed: apt-get install postgresql (scripts/test does)")
}

/// `program` under the unprivileged user, where there is one to change to; it dies with the thread that starts it.
fn as_user(owner: Option<&str>, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if let Some(owner) = owner {
        command.args(["--reuid", owner, "--regid", owner, "--clear-groups"]);
    }
    command.arg(program).env("LC_ALL", "C");
    command
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}
