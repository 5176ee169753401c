//! Which server is the master of which part, as far as is known. Asked anew by the keeper whenever somebody found that it
//! is not so.

use super::node::{Login, client};
use super::part::{Part, Parts};
use super::place::{Address, Layout, Shared};
use super::reply::{self, Reply};
use redis::aio::ConnectionLike;
use redis::{AsyncConnectionConfig, Cmd, RedisError, RedisResult, Value};
use std::sync::{Arc, PoisonError, RwLock};

/// The masters, one for each part. `None`: not known yet.
pub(super) struct Map {
    masters: RwLock<Arc<[Option<Address>]>>,
}

// === impl Map ===

impl Map {
    /// What can be known without asking: a single server.
    pub(super) fn new(place: &Shared, parts: &Parts) -> Map {
        let known = match place.layout {
            Layout::Single => place.nodes.first().cloned(),
            Layout::Sentinel(_) | Layout::Cluster => None,
        };
        Map { masters: RwLock::new(parts.all().map(|_| known.clone()).collect()) }
    }

    /// The master of a part.
    pub(super) fn master(&self, part: Part) -> Option<Address> {
        self.all().get(usize::from(part.0)).cloned().flatten()
    }

    /// The masters of all parts.
    pub(super) fn all(&self) -> Arc<[Option<Address>]> {
        self.masters.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A server said that another one is the master of a part.
    pub(super) fn moved(&self, part: Part, to: Address) {
        let mut masters = self.masters.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = masters.to_vec();
        if let Some(master) = changed.get_mut(usize::from(part.0)) {
            *master = Some(to);
        }
        *masters = changed.into();
    }

    /// Asks who is who. Says whether anything is different from before.
    pub(super) async fn ask(&self, place: &Shared, parts: &Parts) -> Result<bool, String> {
        let found: Vec<Option<Address>> = match &place.layout {
            Layout::Single => return Ok(false),
            Layout::Sentinel(name) => {
                let master = ask_sentinels(place, name).await?;
                parts.all().map(|_| Some(master.clone())).collect()
            }
            Layout::Cluster => ask_cluster(place, parts, &self.all()).await?,
        };
        let mut masters = self.masters.write().unwrap_or_else(PoisonError::into_inner);
        let changed = **masters != found[..];
        *masters = found.into();
        Ok(changed)
    }
}

/// The master that the Sentinels name. All are asked: one that a partition has cut off may still name an old one, and the
/// latest decision (the highest epoch) counts.
async fn ask_sentinels(place: &Shared, name: &str) -> Result<Address, String> {
    let asked = place.nodes.iter().map(|sentinel| ask_sentinel(place, sentinel, name));
    let told = futures_util::future::join_all(asked).await;
    let mut why = Vec::new();
    let mut latest: Option<(u64, Address)> = None;
    for (sentinel, told) in place.nodes.iter().zip(told) {
        match told {
            Ok((epoch, master)) if latest.as_ref().is_none_or(|(known, _)| epoch > *known) => {
                latest = Some((epoch, master));
            }
            Ok(_) => {}
            Err(error) => why.push(format!("{sentinel}: {error}")),
        }
    }
    match latest {
        Some((_, master)) => Ok(master),
        None => Err(format!("no Sentinel names the master \"{name}\": {}", why.join("; "))),
    }
}

/// The master that one Sentinel knows, and the epoch of that decision.
async fn ask_sentinel(place: &Shared, sentinel: &Address, name: &str) -> Result<(u64, Address), String> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("MASTER").arg(name);
    let mut told = once(place, sentinel, Login::Nobody, &command).await;
    if told.as_ref().is_err_and(|error| error.code() == Some("NOAUTH")) {
        told = once(place, sentinel, Login::Sentinel, &command).await;
    }
    let told = told.map_err(|error| super::link::reason(&error))?;
    master_of(told).ok_or_else(|| "it does not answer as a Sentinel".into())
}

/// Reads `SENTINEL MASTER`: names and values in turn.
fn master_of(value: Value) -> Option<(u64, Address)> {
    let mut told = Reply::array(value).ok()?;
    let (mut host, mut port, mut epoch) = (None, None, 0);
    while let Ok(name) = told.text() {
        match name.as_str() {
            "ip" => host = told.text().ok(),
            "port" => port = told.number().ok().and_then(|port| u16::try_from(port).ok()),
            "config-epoch" => epoch = told.number().ok()?,
            _ => drop(told.next()),
        }
    }
    Some((epoch, Address::new(&host?, port?)))
}

/// The masters of all parts, as the first node that answers says: one that is known as a master, or one that the
/// configuration names.
async fn ask_cluster(
    place: &Shared,
    parts: &Parts,
    known: &[Option<Address>],
) -> Result<Vec<Option<Address>>, String> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let mut nodes: Vec<&Address> = known.iter().flatten().chain(&place.nodes).collect();
    nodes.dedup();
    let mut why = Vec::new();
    for node in nodes {
        match once(place, node, Login::Data, &command).await {
            Ok(value) => match masters(value, parts, node) {
                Some(found) => return Ok(found),
                None => why.push(format!("{node} does not cover all hash slots")),
            },
            Err(error) => why.push(format!("{node}: {}", super::link::reason(&error))),
        }
    }
    Err(format!("no node says who is who in the cluster: {}", why.join("; ")))
}

/// Reads `CLUSTER SLOTS`. `None` where a part has no master.
fn masters(value: Value, parts: &Parts, asked: &Address) -> Option<Vec<Option<Address>>> {
    let mut ranges = Vec::new();
    for range in Reply::array(value).ok()? {
        let mut range = Reply::array(range).ok()?;
        let (from, to) = (range.number().ok()?, range.number().ok()?);
        let mut node = Reply::array(range.next()?).ok()?;
        // Without a host it is the node that was asked.
        let host = node.maybe_bytes().ok()?.unwrap_or_default();
        let host = String::from_utf8_lossy(&host).into_owned();
        let port = u16::try_from(reply::number(&node.next()?).ok()?).ok()?;
        let host = if host.is_empty() || host == "?" { asked.host() } else { &host };
        ranges.push((from..=to, Address::new(host, port)));
    }
    let found: Vec<Option<Address>> = parts
        .all()
        .map(|part| {
            let slot = u64::from(parts.slot(part));
            ranges.iter().find(|(range, _)| range.contains(&slot)).map(|(_, master)| master.clone())
        })
        .collect();
    found.iter().all(Option::is_some).then_some(found)
}

/// One command on a connection of its own.
async fn once(place: &Shared, address: &Address, login: Login, command: &Cmd) -> RedisResult<Value> {
    let ask = async {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(place.timeout))
            .set_response_timeout(Some(place.timeout));
        let client = client(place, address, login)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.req_packed_command(command).await?.extract_error()
    };
    let silent = || RedisError::from((redis::ErrorKind::Io, "it does not answer"));
    tokio::time::timeout(place.timeout, ask).await.unwrap_or_else(|_| Err(silent()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_slots_say_the_master_of_every_part() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |from, to, host: &str, port| {
            let node = Value::Array(vec![text(host), Value::Int(port), text("id")]);
            Value::Array(vec![Value::Int(from), Value::Int(to), node])
        };
        let (parts, asked) = (Parts::spread("p"), Address::new("10.0.0.9", 7000));
        let whole = Value::Array(vec![range(0, 8_000, "10.0.0.1", 7001), range(8_001, 16_383, "", 7002)]);
        let found = masters(whole, &parts, &asked).expect("all slots are covered");
        for part in parts.all() {
            let other = parts.slot(part) > 8_000;
            let expected =
                if other { Address::new("10.0.0.9", 7002) } else { Address::new("10.0.0.1", 7001) };
            assert_eq!(found[usize::from(part.0)], Some(expected));
        }
        let torn = Value::Array(vec![range(0, 8_000, "10.0.0.1", 7001)]);
        assert_eq!(masters(torn, &parts, &asked), None);
    }
}
