//! A connection to one server: made, looked at, and used by one thread. It is a pair of multiplexed connections, the
//! second for large bodies, so that no short command waits behind one.

use super::company::Company;
use super::place::{Address, Shared, Tls};
use super::script::{Lane, Script};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use redis::{Cmd, Pipeline, RedisError, RedisResult, TlsCertificates, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Commands that may be on their way on one connection; one more waits for its place within its own deadline.
pub(super) const IN_FLIGHT_MOST: usize = 1_024;

/// A connection that is silent for so long is asked by the system whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The oldest version whose commands are enough (`PXAT`, script effects with a clock).
const VERSION_LEAST: (u32, u32) = (6, 2);

/// A live connection to one server.
pub(super) struct Node {
    commands: MultiplexedConnection,
    company: Company,
    bodies: OnceCell<MultiplexedConnection>,
    client: Client,
    timeout: Duration,
    /// The server's own name for its present life.
    pub(super) life: Arc<str>,
    /// Whether it takes writes: a master.
    pub(super) is_master: bool,
}

// === impl Node ===

impl Node {
    /// Connects, and asks the server who it is.
    pub(super) async fn connect(place: &Shared, address: &Address) -> RedisResult<Node> {
        let client = client(place, address, Login::Data)?;
        let timeout = place.timeout;
        let mut commands = open(&client, timeout).await?;
        let mut ask = redis::pipe();
        ask.cmd("INFO").arg("server").cmd("ROLE");
        let told = commands.req_packed_commands(&ask, 0, 2).await?;
        let info: String =
            redis::from_redis_value(told.first().cloned().unwrap_or(Value::Nil).extract_error()?)?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        // Valkey says its own version beside the one that it is compatible with.
        let version = field("valkey_version").or(field("redis_version")).unwrap_or_default();
        if version_of(version).is_none_or(|version| version < VERSION_LEAST) {
            let why = "the server is too old: Redis 6.2 or later, or Valkey, is needed";
            return Err(RedisError::from((redis::ErrorKind::Client, why, version.to_owned())));
        }
        let life = field("run_id").unwrap_or_default().trim().into();
        let role = told.into_iter().nth(1).unwrap_or(Value::Nil).extract_error()?;
        let is_master = matches!(&role, Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master"));
        if is_master {
            commands.req_packed_commands(&Script::load_all(), 0, Script::count()).await?;
        }
        let company = Company::new(commands.clone());
        Ok(Node { commands, company, bodies: OnceCell::new(), client, timeout, life, is_master })
    }

    /// Sends one command.
    pub(super) async fn send(&self, command: Cmd, lane: Lane) -> RedisResult<Value> {
        match lane {
            Lane::Commands => self.company.send(command).await,
            Lane::Bodies => self.for_bodies().await?.req_packed_command(&command).await?.extract_error(),
        }
    }

    /// Sends several commands at once; replies and errors in their order.
    pub(super) async fn send_all(&self, commands: &Pipeline, count: usize) -> RedisResult<Vec<Value>> {
        self.commands.clone().req_packed_commands(commands, 0, count).await
    }

    /// A connection of its own to the same server.
    pub(super) async fn another(&self) -> RedisResult<MultiplexedConnection> {
        open(&self.client, self.timeout).await
    }

    /// A connection of its own on which messages arrive.
    pub(super) async fn subscription(&self) -> RedisResult<redis::aio::PubSub> {
        self.client.get_async_pubsub().await
    }

    async fn for_bodies(&self) -> RedisResult<MultiplexedConnection> {
        self.bodies.get_or_try_init(|| open(&self.client, self.timeout)).await.cloned()
    }
}

async fn open(client: &Client, timeout: Duration) -> RedisResult<MultiplexedConnection> {
    // Deadlines are the caller's; one here would end a command without ending the connection that is to blame.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(IN_FLIGHT_MOST)
        .set_concurrency_limit(IN_FLIGHT_MOST);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// What a connection logs in to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    /// A server that holds records.
    Data,
    /// A Sentinel, which has no databases; with the same user and password.
    Sentinel,
    /// A Sentinel that knows no users, as most.
    Nobody,
}

/// How `address` is reached.
pub(super) fn client(place: &Shared, address: &Address, login: Login) -> RedisResult<Client> {
    let (host, port) = (address.host().to_owned(), address.port);
    let at = match place.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if login == Login::Data {
        settings = settings.set_db(place.database);
    }
    if let Some(user) = place.user.as_ref().filter(|_| login != Login::Nobody) {
        settings = settings.set_username(user);
    }
    if let Some(password) = place.password.as_ref().filter(|_| login != Login::Nobody) {
        settings = settings.set_password(password);
    }
    let alive = socket2::TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(alive);
    let info = at.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp);
    match &place.tls {
        Some(tls) => {
            // Where the process has chosen a provider already, that one stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let root_cert = match tls {
                Tls::System => None,
                Tls::Authority(pem) => Some(pem.clone()),
            };
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        }
        None => Client::open(info),
    }
}

fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version_of("6.2.14") >= Some(VERSION_LEAST) && version_of("10.0.1") > Some(VERSION_LEAST));
        assert!(version_of("6.0.20") < Some(VERSION_LEAST) && version_of("").is_none());
    }
}
