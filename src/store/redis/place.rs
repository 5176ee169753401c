//! Where a shared store is, as the configuration says it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that is needed to reach a shared store and to trust it.
#[derive(Clone)]
pub struct Shared {
    /// How its servers stand together.
    pub layout: Layout,
    /// The servers that are known; for Sentinel, the Sentinels.
    pub nodes: Vec<Address>,
    /// The ACL user; `None` for the default one.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The database; 0 on a cluster.
    pub database: i64,
    /// Whether connections are encrypted, and against which certificates servers are verified.
    pub tls: Option<Tls>,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// How many replicas have a claim before it is granted.
    pub wait_replicas: u32,
    /// How long a command may take.
    pub timeout: Duration,
    /// How long one about limits may take; past it the gateway decides by itself.
    pub limit_timeout: Duration,
    /// Where this gateway keeps who it is.
    pub state: PathBuf,
}

/// How the servers stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One server.
    Single,
    /// A master that Sentinels watch under this name.
    Sentinel(String),
    /// A cluster.
    Cluster,
}

/// How a server proves who it is.
#[derive(Clone)]
pub enum Tls {
    /// By a certificate that the system trusts.
    System,
    /// By a certificate of this authority (PEM).
    Authority(Vec<u8>),
}

/// Where one server listens. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: Arc<str>,
    /// Port.
    pub port: u16,
}

// === impl Address ===

impl Address {
    /// A name or an address without brackets, and a port.
    pub fn new(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    /// `host:port`, as redirections and configurations write it; the host may be an IPv6 address without brackets.
    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        // A node of a cluster says its bus port behind an `@`, and its name behind a comma.
        let port = port.split(['@', ',']).next()?.parse().ok()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Address::new(host, port))
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

// === impl Shared ===

impl std::fmt::Debug for Shared {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.layout, self.nodes)
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Shared) -> bool {
        (&self.layout, &self.nodes, &self.prefix) == (&other.layout, &other.nodes, &other.prefix)
    }
}

impl Eq for Shared {}

impl std::fmt::Display for Shared {
    /// As an operator knows it, without credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match (&self.layout, &self.tls) {
            (Layout::Single, None) => "redis",
            (Layout::Single, Some(_)) => "rediss",
            (Layout::Sentinel(_), _) => "redis-sentinel",
            (Layout::Cluster, _) => "redis-cluster",
        };
        let nodes: Vec<String> = self.nodes.iter().map(Address::to_string).collect();
        write!(f, "{scheme}://{}", nodes.join(","))?;
        if let Layout::Sentinel(master) = &self.layout {
            write!(f, "#{master}")?;
        }
        Ok(())
    }
}
