//! A shared store: its address (`redis://`, `rediss://`, `redis-sentinel://`, `redis-cluster://`) and the keys of `[store]`
//! that are about it alone.

use crate::config::secret::Secret;
use crate::config::values::{Read, Wrong, host_and_port};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The keys of `[store]` that are about a shared one alone.
#[derive(Clone, Debug)]
pub struct SharedStore {
    /// `wait_replicas`: so many have a claim before it is granted. 1 for Sentinel and cluster where nothing is written.
    pub wait_replicas: u32,
    /// `prefix`: what the names of all keys begin with.
    pub prefix: String,
    /// `timeout`: for one command.
    pub timeout: Duration,
    /// `limit_timeout`: for a command about limits; past it the gateway decides by itself.
    pub limit_timeout: Duration,
    /// `password`, where the address does not hold it.
    pub password: Option<Secret>,
    /// `tls`, or the scheme `rediss`.
    pub tls: bool,
    /// `ca`: the text of the certificates (PEM) that servers are verified against, instead of the system's.
    pub ca: Option<Arc<str>>,
    /// `state`: where this gateway keeps which lives it had.
    pub state: PathBuf,
}

/// The address of a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// How its servers stand together.
    pub layout: RedisLayout,
    /// Hosts, without brackets, and ports; for Sentinel, the Sentinels'.
    pub nodes: Vec<(String, u16)>,
    /// The ACL user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The database.
    pub database: i64,
    /// Whether the scheme says that connections are encrypted.
    pub tls: bool,
}

/// How the servers of a shared store stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisLayout {
    /// `redis:` and `rediss:`
    Single,
    /// `redis-sentinel:`, with the master's name.
    Sentinel(String),
    /// `redis-cluster:`
    Cluster,
}

/// What a server listens on where the address does not say; and a Sentinel.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The most servers that an address may name.
const NODES_MOST: usize = 64;

/// Reads an address whose scheme is one of the four. Messages never quote it: it may hold a password.
pub(super) fn redis_url(scheme: &str, rest: &str) -> Read<RedisUrl> {
    let example = match scheme {
        "redis-sentinel" => "write \"redis-sentinel://host1:26379,host2:26379/0#name-of-the-master\"",
        "redis-cluster" => "write \"redis-cluster://host1:6379,host2:6379\"",
        "rediss" => "write \"rediss://user:password@host:6379/0\"",
        _ => "write \"redis://user:password@host:6379/0\"",
    };
    let wrong = |why: &str| Wrong::new(format!("the `{scheme}:` address {why}")).help(example);
    let rest = rest.strip_prefix("//").ok_or_else(|| wrong("has no `//` behind its scheme"))?;
    let (rest, master) = match rest.split_once('#') {
        Some((rest, master)) => (rest, Some(master)),
        None => (rest, None),
    };
    if rest.contains('?') {
        return Err(wrong("has a query, and there is nothing to say in one"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let default = if scheme == "redis-sentinel" { SENTINEL_PORT } else { PORT };
    let nodes: Option<Vec<(String, u16)>> =
        hosts.split(',').map(|host| host_and_port(host.trim(), default)).collect();
    let nodes = nodes.ok_or_else(|| wrong("has a host or port that is malformed"))?;
    if nodes.len() > NODES_MOST {
        return Err(wrong("names more than 64 servers; a few are enough, the others are asked for"));
    }
    let database = match path.trim_end_matches('/') {
        "" => 0,
        digits => digits
            .parse()
            .ok()
            .filter(|&number: &i64| (0..=65_535).contains(&number))
            .ok_or_else(|| wrong("has a database that is no number"))?,
    };
    let layout = match (scheme, master) {
        ("redis-sentinel", Some(name)) if !name.is_empty() => RedisLayout::Sentinel(name.to_owned()),
        ("redis-sentinel", _) => return Err(wrong("does not name the master behind a `#`")),
        (_, Some(_)) => return Err(wrong("has a `#`, which only `redis-sentinel:` has")),
        ("redis-cluster", None) if database != 0 => {
            return Err(wrong("names a database, and a cluster has only 0"));
        }
        ("redis-cluster", None) => RedisLayout::Cluster,
        (_, None) if nodes.len() > 1 => {
            return Err(wrong("names several servers, which `redis-sentinel:` and `redis-cluster:` do"));
        }
        (_, None) => RedisLayout::Single,
    };
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| wrong("has a user or password that is not UTF-8"))
    };
    let (user, password) = match credentials.map(|credentials| credentials.split_once(':')) {
        None => (None, None),
        Some(Some((user, password))) => (Some(decoded(user)?), Some(Secret::new(decoded(password)?))),
        Some(None) => (credentials.map(decoded).transpose()?, None),
    };
    let user = user.filter(|user| !user.is_empty());
    Ok(RedisUrl { layout, nodes, user, password, database, tls: scheme == "rediss" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedisUrl {
        let (scheme, rest) = text.split_once(':').expect("a scheme");
        redis_url(scheme, rest).unwrap_or_else(|_| panic!("{text} is an address"))
    }

    #[test]
    fn addresses_are_taken_apart() {
        let single = read("redis://h");
        assert_eq!((&single.nodes[..], single.database, single.tls), (&[("h".into(), 6379)][..], 0, false));
        let secure = read("rediss://ann:p%40ss@10.0.0.1:1/3");
        assert_eq!((secure.user.as_deref(), secure.database, secure.tls), (Some("ann"), 3, true));
        assert_eq!(secure.password.as_ref().map(Secret::expose), Some("p@ss"));
        let nameless = read("redis://:word@h");
        assert_eq!((nameless.user, nameless.password.is_some()), (None, true));
        let watched = read("redis-sentinel://h1:1,h2,[::1]:3/2#main");
        assert_eq!(watched.layout, RedisLayout::Sentinel("main".into()));
        assert_eq!(watched.nodes, [("h1".into(), 1), ("h2".into(), 26379), ("::1".into(), 3)]);
        assert_eq!(read("redis-cluster://a:1,b:2").layout, RedisLayout::Cluster);
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_quoted() {
        for text in [
            "redis:h",
            "redis://",
            "redis://h:x",
            "redis://h:0",
            "redis://a,b",
            "redis://h/x",
            "redis://h/-1",
            "redis://h#m",
            "redis://h?db=1",
            "redis-sentinel://h",
            "redis-sentinel://h#",
            "redis-cluster://h/1",
            "redis://u:hunter2@",
        ] {
            let (scheme, rest) = text.split_once(':').expect("a scheme");
            match redis_url(scheme, rest) {
                Ok(_) => panic!("{text} is no address"),
                Err(wrong) => assert!(!format!("{wrong:?}").contains("hunter2"), "{wrong:?}"),
            }
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert!(!format!("{:?}", read("redis://ann:hunter2@h")).contains("hunter2"));
    }
}
