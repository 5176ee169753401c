//! A connection to one server: made, looked at, and used by one thread. It is a pair of multiplexed connections, the
//! second for large bodies, so that no short command waits behind one.

use super::callers::Failed;
use super::company::Company;
use super::direct::Direct;
use super::place::{Address, Shared, Tls};
use super::script::{Call, Lane, Script};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use redis::{Pipeline, RedisError, RedisResult, TlsCertificates, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// Commands that may be on their way on one connection; one more waits for its place within its own deadline.
pub(super) const IN_FLIGHT_MOST: usize = 1_024;

/// A connection that is silent for so long is asked by the system whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The oldest version whose commands are enough (`PXAT`, script effects with a clock).
const VERSION_LEAST: (u32, u32) = (6, 2);

/// A live connection to one server.
pub(super) struct Node {
    way: Way,
    bodies: OnceCell<MultiplexedConnection>,
    client: Client,
    timeout: Duration,
    /// The server's own name for its present life.
    pub(super) life: Arc<str>,
    /// Whether it takes writes: a master.
    pub(super) is_master: bool,
}

/// How short commands go.
enum Way {
    /// The library has made the connection and logged in, and then left it to this gateway.
    Direct(Direct),
    /// Encrypted: through the library, which keeps the connection.
    Library(MultiplexedConnection, Company),
}

/// What a server says of itself.
struct Identity {
    life: Arc<str>,
    is_master: bool,
}

// === impl Node ===

impl Node {
    /// Connects, and asks the server who it is.
    pub(super) async fn connect(place: &Shared, address: &Address) -> RedisResult<Node> {
        let client = client(place, address, Login::Data)?;
        let timeout = place.timeout;
        let (way, Identity { life, is_master }) = match place.tls {
            Some(_) => {
                let commands = open(&client, timeout).await?;
                let identity = identify(commands.clone()).await?;
                let company = Company::new(commands.clone());
                (Way::Library(commands, company), identity)
            }
            None => {
                let (stream, identity) = log_in(&client, address).await?;
                (Way::Direct(Direct::new(stream)), identity)
            }
        };
        Ok(Node { way, bodies: OnceCell::new(), client, timeout, life, is_master })
    }

    /// The connection for short commands, where this gateway drives it itself.
    pub(super) fn direct(&self) -> Option<&Direct> {
        match &self.way {
            Way::Direct(direct) => Some(direct),
            Way::Library(..) => None,
        }
    }

    /// Sends one call, with what the gateways agreed on where it says that.
    pub(super) async fn send(&self, call: &Call, agreement: Option<Arc<[u8]>>) -> RedisResult<Value> {
        let told = match (call.lane, &self.way) {
            (Lane::Commands, Way::Direct(direct)) => {
                return direct.ask(call.asked(agreement), None).await.map_err(lost)?.extract_error();
            }
            (Lane::Commands, Way::Library(_, company)) => company.send(call.cmd(agreement)).await?,
            (Lane::Bodies, _) => self.for_bodies().await?.req_packed_command(&call.cmd(agreement)).await?,
        };
        call.told(told)
    }

    /// Loads a script on the connection where it was not known.
    pub(super) async fn load(&self, script: Script, lane: Lane) -> RedisResult<()> {
        let load = script.load();
        let told = match (lane, &self.way) {
            (Lane::Commands, Way::Direct(direct)) => {
                direct.ask(load.get_packed_command(), None).await.map_err(lost)?
            }
            (Lane::Commands, Way::Library(_, company)) => company.send(load).await?,
            (Lane::Bodies, _) => self.for_bodies().await?.req_packed_command(&load).await?,
        };
        told.extract_error().map(drop)
    }

    /// Sends several commands at once; replies and errors in their order.
    pub(super) async fn send_all(&self, commands: &Pipeline, count: usize) -> RedisResult<Vec<Value>> {
        match &self.way {
            Way::Direct(direct) => {
                let commands = commands.cmd_iter().map(redis::Cmd::get_packed_command).collect();
                direct.ask_all(commands).await.map_err(lost)
            }
            Way::Library(connection, _) => connection.clone().req_packed_commands(commands, 0, count).await,
        }
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

/// Asks a server who it is, and gives a master all scripts.
async fn identify(mut commands: MultiplexedConnection) -> RedisResult<Identity> {
    let mut ask = redis::pipe();
    ask.cmd("INFO").arg("server").cmd("ROLE");
    let told = commands.req_packed_commands(&ask, 0, 2).await?;
    let info: String = redis::from_redis_value(told.first().cloned().unwrap_or(Value::Nil).extract_error()?)?;
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
    Ok(Identity { life, is_master })
}

/// Connects and has the library log in, which gives the connection up once every reply is there. Both hold the same
/// socket under a number of their own until then.
async fn log_in(client: &Client, address: &Address) -> RedisResult<(TcpStream, Identity)> {
    let stream = TcpStream::connect((address.host(), address.port)).await?;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
    let stream = stream.into_std()?;
    let socket = TcpStream::from_std(stream.try_clone()?)?;
    let settings = client.get_connection_info().redis_settings();
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(settings, socket, config).await?;
    // Ends with this attempt, also where nobody waits for it any more.
    let mut lent = JoinSet::new();
    lent.spawn(driver);
    let identity = identify(connection.clone()).await;
    // Ended before its last user leaves: it would close the socket for both.
    lent.shutdown().await;
    drop(connection);
    Ok((TcpStream::from_std(stream)?, identity?))
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
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keep_alive());
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

fn keep_alive() -> socket2::TcpKeepalive {
    socket2::TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 3)
}

/// Whoever sends without an end to their patience is never late.
fn lost(failed: Failed) -> RedisError {
    match failed {
        Failed::Lost(error) => error,
        Failed::Late => RedisError::from((redis::ErrorKind::Io, "it does not answer in time")),
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
