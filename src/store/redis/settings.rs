//! What a server's settings mean for the promise: refused or warned about by name, at the start and in `check`.

use super::node::Node;
use super::place::{Address, Layout, Shared};
use redis::{RedisResult, Value};

/// One setting that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the store must not be used with it.
    pub fatal: bool,
    /// What it is, what it means, what to do.
    pub text: String,
}

/// What was read of a server.
pub(super) struct Settings {
    info: String,
    appendfsync: Option<String>,
    save: Option<String>,
    min_replicas: Option<u64>,
}

// === impl Settings ===

impl Settings {
    /// Asks a server. `CONFIG` may be forbidden: what only it knows is then left out.
    pub(super) async fn read(node: &Node) -> RedisResult<Settings> {
        let mut ask = redis::pipe();
        for section in ["memory", "persistence", "replication"] {
            ask.cmd("INFO").arg(section);
        }
        for name in ["appendfsync", "save", "min-replicas-to-write"] {
            ask.cmd("CONFIG").arg("GET").arg(name);
        }
        let mut told = node.send_all(&ask, 6).await?.into_iter();
        let mut info = String::new();
        for section in told.by_ref().take(3) {
            info += &redis::from_redis_value::<String>(section.extract_error()?)?;
        }
        let mut configured = || match told.next() {
            Some(Value::Array(pair)) => {
                pair.into_iter().nth(1).and_then(|value| redis::from_redis_value(value).ok())
            }
            _ => None,
        };
        let (appendfsync, save, min_replicas): (Option<String>, Option<String>, Option<String>) =
            (configured(), configured(), configured());
        let min_replicas = min_replicas.and_then(|count| count.parse().ok());
        Ok(Settings { info, appendfsync, save, min_replicas })
    }

    /// A field of `INFO`.
    fn field(&self, name: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Bytes that the server uses, and those that it may use (0: no limit).
    pub(super) fn memory(&self) -> (u64, u64) {
        (self.number("used_memory"), self.number("maxmemory"))
    }

    /// What does not fit.
    pub(super) fn findings(&self, place: &Shared, server: &Address) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut say = |fatal, text: String| found.push(Finding { fatal, text: format!("{server}: {text}") });
        let policy = self.field("maxmemory_policy").unwrap_or("noeviction");
        if policy != "noeviction" {
            let limited = self.number("maxmemory") > 0;
            say(
                limited,
                format!(
                    "maxmemory-policy is {policy}: a server that evicts forgets claims, and a copy of a forgotten write is \
                     executed again; set maxmemory-policy noeviction{}",
                    if limited { "" } else { " before you set maxmemory" }
                ),
            );
        }
        let appends = self.field("aof_enabled") == Some("1");
        match (appends, self.appendfsync.as_deref(), self.save.as_deref()) {
            (true, Some("everysec" | "no"), _) => say(
                false,
                "appendfsync is not always: a power cut forgets up to a second and more of claims, of which only those \
                 are said again whose gateways live on; set appendfsync always"
                    .into(),
            ),
            (true, _, _) => {}
            (false, _, Some("")) => say(
                false,
                "nothing is written to disk: a restart forgets every claim, and only those are said again whose gateways \
                 live on; set appendonly yes and appendfsync always"
                    .into(),
            ),
            (false, _, _) => say(
                false,
                "only snapshots are written: a restart forgets what came after the last one; set appendonly yes and \
                 appendfsync always"
                    .into(),
            ),
        }
        let replicas = self.number("connected_slaves");
        if replicas > 0 && self.min_replicas == Some(0) {
            say(
                false,
                "it has replicas, and min-replicas-to-write is 0: a master that a partition cuts off goes on taking \
                 writes that will be lost; set min-replicas-to-write 1 and min-replicas-max-lag 10"
                    .into(),
            );
        }
        let wanted = u64::from(place.wait_replicas);
        if replicas < wanted {
            say(
                false,
                format!(
                    "it has {replicas} replicas, and wait_replicas is {wanted}: every guarded write is refused until there \
                     are as many"
                ),
            );
        }
        if place.layout != Layout::Single && wanted == 0 {
            say(
                false,
                "wait_replicas is 0: a failover may forget claims that were granted, and their copies are executed again; \
                 leave it at 1"
                    .into(),
            );
        }
        found
    }
}
