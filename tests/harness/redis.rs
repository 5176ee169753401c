//! Real Redis servers on free ports: one, a master with a replica and Sentinels, a cluster. They end with the test.

use super::{EVENTUALLY, eventually, free_address};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Durable to the last write, as docs/redis.md asks for.
pub const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

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

    /// Puts `text` into a file that is the program's first argument.
    fn configure(&mut self, text: &str) {
        let file = self.directory.path().join("server.conf");
        std::fs::write(&file, text).unwrap();
        self.arguments.insert(0, file.to_str().unwrap().to_owned());
    }

    /// Starts it, on the files that it left, and waits until it answers.
    pub fn run(&mut self) {
        self.try_run().unwrap_or_else(|log| panic!("{} does not answer; its log:\n{log}", self.program));
    }

    /// The same; gives back its log where it does not come up.
    fn try_run(&mut self) -> Result<(), String> {
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
        let until = Instant::now() + EVENTUALLY;
        while !self.cli(&["ping"]).contains("PONG") {
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            if ended || Instant::now() > until {
                self.kill();
                return Err(std::fs::read_to_string(self.directory.path().join("log")).unwrap());
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
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

impl Server {
    /// A Sentinel that watches the master at `master` under the name `main`, with two others.
    pub fn sentinel(master: SocketAddr, settings: &[&str]) -> Server {
        let mut sentinel = Server::prepare("redis-sentinel", settings);
        sentinel.configure(&format!(
            "sentinel monitor main {} {} 2\nsentinel down-after-milliseconds main 800\n\
             sentinel failover-timeout main 4000\n",
            master.ip(),
            master.port()
        ));
        sentinel.run();
        // They look at a server that came back every ten seconds, and believe no other before eight. A Sentinel before
        // version 7 does not know the command, and takes its time.
        sentinel.cli(&["sentinel", "debug", "info-period", "1000", "publish-period", "250"]);
        sentinel
    }

    /// Whether this Sentinel knows two others and so many replicas.
    pub fn knows(&self, replicas: usize) -> bool {
        let told = self.cli(&["sentinel", "master", "main"]).replace('\n', " ");
        told.contains("num-other-sentinels 2 ") && told.contains(&format!("num-slaves {replicas} "))
    }

    /// The port of the master that this Sentinel names.
    pub fn master(&self) -> Option<u16> {
        self.cli(&["sentinel", "get-master-addr-by-name", "main"]).lines().nth(1)?.trim().parse().ok()
    }

    /// Whether so many replicas of this master are in step.
    pub fn leads(&self, replicas: usize) -> bool {
        self.cli(&["info", "replication"]).matches("state=online").count() == replicas
    }
}

/// A master with replicas, and three Sentinels that watch it under the name `main`.
pub struct Watched {
    /// The master that the test started with, then its replicas.
    pub servers: Vec<Server>,
    /// The Sentinels.
    pub sentinels: Vec<Server>,
}

// === impl Watched ===

impl Watched {
    /// Starts them with one replica and nothing on disk.
    pub fn start() -> Watched {
        Watched::with(1, &[])
    }

    /// Starts them, and waits until the Sentinels know each other and the replicas are in step.
    pub fn with(replicas: usize, settings: &[&str]) -> Watched {
        let master = Server::start(settings);
        let of = format!("127.0.0.1 {}", master.address.port());
        let replica = |_| Server::start(&[settings, &["--replicaof", &of]].concat());
        let others: Vec<Server> = (0..replicas).map(replica).collect();
        let sentinels = (0..3).map(|_| Server::sentinel(master.address, &[])).collect();
        let servers = std::iter::once(master).chain(others).collect();
        let watched = Watched { servers, sentinels };
        eventually("the replicas are in step", || watched.servers[0].leads(replicas).then_some(()));
        eventually("the Sentinels know each other and the replicas", || {
            watched.sentinels.iter().all(|sentinel| sentinel.knows(replicas)).then_some(())
        });
        watched
    }

    /// The address for a configuration.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.sentinels.iter().map(|node| node.address.to_string()).collect();
        format!("redis-sentinel://{}/0#main", nodes.join(","))
    }
}

/// Three masters with a replica each.
pub struct Cluster {
    /// All of them.
    pub nodes: Vec<Server>,
}

// === impl Cluster ===

impl Cluster {
    /// Starts them with nothing on disk.
    pub fn start() -> Cluster {
        Cluster::with(&[])
    }

    /// Starts them, and waits until the cluster is whole.
    pub fn with(settings: &[&str]) -> Cluster {
        let settings = [settings, &["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"]].concat();
        // The bus listens 10,000 above, on a port that nobody reserved: a node that finds it taken tries another.
        let node = || {
            for _ in 0..20 {
                let mut node = Server::prepare("redis-server", &settings);
                if node.address.port() > 55_000 {
                    continue;
                }
                match node.try_run() {
                    Ok(()) => return node,
                    Err(log) => assert!(log.contains("Address already in use"), "{log}"),
                }
            }
            panic!("no node of a cluster found two free ports");
        };
        let nodes: Vec<Server> = (0..6).map(|_| node()).collect();
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(nodes.iter().map(|node| node.address.to_string()));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"].map(str::to_owned));
        let create: Vec<&str> = create.iter().map(String::as_str).collect();
        let told = nodes[0].cli(&create);
        assert!(told.contains("[OK] All 16384 slots covered"), "{told}");
        let cluster = Cluster { nodes };
        cluster.until_whole();
        cluster
    }

    /// Waits until every master has its replica in step, and all of them say that the cluster works.
    pub fn until_whole(&self) {
        eventually("the cluster is whole", || {
            let whole = |node: &Server| {
                let replication = node.cli(&["info", "replication"]);
                node.cli(&["cluster", "info"]).contains("cluster_state:ok")
                    && (replication.contains("state=online") || replication.contains("master_link_status:up"))
            };
            self.nodes.iter().all(whole).then_some(())
        });
    }

    /// The present masters.
    pub fn masters(&self) -> Vec<usize> {
        let leads = |n: &usize| self.nodes[*n].cli(&["info", "replication"]).contains("role:master");
        (0..self.nodes.len()).filter(leads).collect()
    }

    /// The address for a configuration.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().take(3).map(|node| node.address.to_string()).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }
}
