//! The validated configuration: every value is in range and refers to things that exist; words are config.toml's.

use crate::config::certificates::{ServerTls, UpstreamTls};
use crate::config::race::{Detect, Lane, Recover, Retry};
use crate::config::redis_url::{RedisUrl, SharedStore};
use crate::config::secret::Secret;
use crate::config::slots::RouteSlots;
use crate::config::throttle::{Concurrency, RouteThrottle};
use crate::domain::canon::{GraphqlRule, JsonPath};
use crate::domain::client::Identity;
use crate::domain::route::{Pattern, is_safe};
use crate::domain::selector::Zone;
use crate::domain::throttle::Limit;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The whole file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `mode`; a route may have its own.
    pub mode: Mode,
    /// `time_zone`: of dates and times that bring no offset.
    pub time_zone: Zone,
    /// `[server]`
    pub server: Server,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[store]`
    pub store: StoreConfig,
    /// `[clients]`
    pub clients: Clients,
    /// `[cache]`
    pub cache: CacheMemory,
    /// `[[upstream]]`
    pub upstreams: Vec<Upstream>,
    /// `[[route]]`, in the order of the file: the first match wins.
    pub routes: Vec<Route>,
}

/// Whether decisions bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Decisions bind.
    Enforce,
    /// Everything is forwarded; what would have happened is recorded.
    Observe,
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct Server {
    /// `listen`: one address or several.
    pub listen: Vec<SocketAddr>,
    /// `workers`: one thread each, never 0 here; 0 in the file means one per core.
    pub workers: usize,
    /// `lame_duck`: unready, still serving, before the drain.
    pub lame_duck: Duration,
    /// `drain`: how long requests in flight may take to end.
    pub drain: Duration,
    /// `body_limit`: bytes of a body that has to be read whole.
    pub body_limit: u64,
    /// `body_memory`: bytes that bodies which are read whole may take together.
    pub body_memory: u64,
    /// `header_timeout`: for a request's head to arrive.
    pub header_timeout: Duration,
    /// `idle`: how long a client's connection may rest between requests.
    pub idle: Duration,
    /// `body_timeout`: for a body that has to be read whole to arrive.
    pub body_timeout: Duration,
    /// `body_rate`: bytes a second that a client sends of a body at least; 0: any.
    pub body_rate: u64,
    /// `write_timeout`: how long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// `target_limit`: bytes of a request's target.
    pub target_limit: usize,
    /// `head_limit`: bytes of a request's head.
    pub head_limit: usize,
    /// `headers_max`: headers of a request.
    pub headers_max: usize,
    /// `connections_max`: open client connections in all.
    pub connections_max: usize,
    /// `connections_per_address`: of one address that is no trusted proxy; 0: any number.
    pub connections_per_address: usize,
    /// `upgrades_max`: connections that speak another protocol after an upgrade.
    pub upgrades_max: usize,
    /// `upgrade_idle`: how long one of them may be silent.
    pub upgrade_idle: Duration,
    /// `[server.flood]`
    pub flood: Option<Flood>,
    /// `forwarded`: which headers tell the backend about the client.
    pub forwarded: ForwardedStyle,
    /// `via`: whether a `Via` header is added on both ways.
    pub via: bool,
    /// `request_id_header`: kept where a request brings a usable one, made otherwise.
    pub request_id_header: http::HeaderName,
    /// `http2`: whether clients may speak it.
    pub http2: bool,
    /// `proxy_protocol`: whether trusted proxies may say with it whose connection they pass on.
    pub proxy_protocol: bool,
    /// `[server.tls]`: where it is there, every address speaks TLS.
    pub tls: Option<ServerTls>,
}

/// `[server.flood]`: how many requests one address may send before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// `requests_per_second`: on average.
    pub requests_per_second: u32,
    /// `burst`: at once.
    pub burst: u32,
}

/// How the backend learns who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedStyle {
    /// `X-Forwarded-For`, `-Proto`, `-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Both.
    Both,
    /// Neither; what came is passed on from trusted peers and removed from others.
    Off,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    /// `listen`
    pub listen: SocketAddr,
    /// `token`: required when `listen` is not loopback.
    pub token: Option<Secret>,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// `level`: error, warn, info, debug or trace.
    pub level: tracing::Level,
    /// `format`
    pub format: LogFormat,
    /// `access`: one line a request.
    pub access: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For eyes.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[store]`
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `url`
    pub url: StoreUrl,
    /// `on_outage`
    pub on_outage: OnOutage,
    /// `secret`
    pub secret: Option<Secret>,
    /// `lease`
    pub lease: Duration,
    /// `answer_limit`: bytes of an answer's body that are kept; larger ones leave a tombstone.
    pub answer_limit: u64,
    /// `memory`: bytes of answers held in memory.
    pub memory: u64,
    /// `records_max`: records in all.
    pub records_max: usize,
    /// `records_per_scope`: live records that one scope may hold.
    pub records_per_scope: u32,
    /// How a shared store is reached and trusted.
    pub shared: SharedStore,
}

/// Where records live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`
    Memory,
    /// `file:DIR`
    File(PathBuf),
    /// `redis:` and its kin: shared by a fleet.
    Redis(RedisUrl),
}

/// What guarded writes do while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOutage {
    /// 503.
    Refuse,
    /// Forward unguarded, and say so in the answer.
    Forward,
}

/// `[clients]`
#[derive(Clone, Debug)]
pub struct Clients {
    /// `trusted_proxies`: who may say for whom they ask.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// `identify_by`: whom limits count; the first one present.
    pub identify_by: Vec<Identity>,
    /// `scope_by`: what proves the caller for replays. Empty: a digest of Authorization, Cookie and X-Api-Key.
    pub scope_by: Vec<Identity>,
    /// `umbrella`: how many times a route's limits all clients of one address have together that prove nothing.
    pub umbrella: u64,
    /// `limit_memory`: bytes of what limits remember exactly; what finds no room there is counted too much, never too
    /// little.
    pub limit_memory: u64,
    /// `held_max`: requests that wait for their turn, in all.
    pub held_max: usize,
    /// `held_per_client`: of one client.
    pub held_per_client: usize,
    /// `poll_storm`: so many equal reads of one client are a storm; `None` for `"off"`.
    pub poll_storm: Option<Limit>,
    /// `[clients.jwt]`
    pub jwt: Option<JwtConfig>,
}

/// `[clients.jwt]`: how a bearer token is verified.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// `jwks` (a file) or `secret`.
    pub keys: JwtKeys,
    /// `issuer`, where it has to match.
    pub issuer: Option<String>,
    /// `audience`, where it has to match.
    pub audience: Option<String>,
}

/// Whose signature counts.
#[derive(Clone, Debug)]
pub enum JwtKeys {
    /// `jwks`: the text of a JWK set, read and checked when the configuration was loaded.
    Jwks(Arc<str>),
    /// `secret`: HS256, HS384 or HS512.
    Secret(Secret),
}

/// `[[upstream]]`
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `name`
    pub name: Arc<str>,
    /// `url`: one base or several, equal in rank.
    pub urls: Vec<Base>,
    /// `timeout`: to the response head; for guarded writes to the answer's last byte.
    pub timeout: Duration,
    /// `connect_timeout`
    pub connect_timeout: Duration,
    /// `pause`: for so long after `timeout` what was sent may still take effect.
    pub pause: Duration,
    /// `idle`: how long an unused connection is kept; below the backend's own keep-alive.
    pub idle: Duration,
    /// `stall`: the longest silence within a streamed body.
    pub stall: Duration,
    /// `total`: for a whole exchange, where one is set.
    pub total: Option<Duration>,
    /// `max_in_flight`: requests at once, per gateway.
    pub max_in_flight: usize,
    /// `queue`: requests that wait for a place among them.
    pub queue: usize,
    /// `queue_wait`: how long each of them waits at most.
    pub queue_wait: Duration,
    /// `adaptive`: whether fewer are in flight while the backend is slower than usual.
    pub adaptive: bool,
    /// `host`
    pub host: HostPolicy,
    /// `http2`: whether it is spoken to the backend.
    pub http2: bool,
    /// `[upstream.tls]`: for the bases with `https`.
    pub tls: UpstreamTls,
    /// `target`
    pub target: TargetSpelling,
    /// `bare_lf`: whether lines of its answers' heads may end with a bare LF.
    pub bare_lf: bool,
}

/// One base URL of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `https`
    pub secure: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `host:port` as it goes into a `Host` header (no port where it is the scheme's own).
    pub authority: String,
    /// Path prefix put before every target; empty or `/prefix` without a slash at its end.
    pub prefix: String,
}

/// Which `Host` the backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// The client's.
    Preserve,
    /// The base URL's authority.
    Rewrite,
}

/// How a request's target is spelled to the backend. Matching and fingerprint use the normal form in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSpelling {
    /// In its normal form.
    Normal,
    /// As the client spelled it.
    Original,
}

/// `[[route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// `name`
    pub name: Arc<str>,
    /// `match`: one or several.
    pub patterns: Vec<Pattern>,
    /// `upstream`, as an index into [`Config::upstreams`].
    pub upstream: usize,
    /// `mode`, where the route has its own.
    pub mode: Option<Mode>,
    /// `body_limit`, where the route has its own; otherwise the server's.
    pub body_limit: Option<u64>,
    /// `timeout`, where the route has its own; otherwise the upstream's.
    pub timeout: Option<Duration>,
    /// `coalesce`: equal reads at one moment are one call.
    pub coalesce: bool,
    /// `[route.cache]`
    pub cache: Option<RouteCache>,
    /// `upgrade`: protocols, in lower case, to which an unguarded request may switch its connection.
    pub upgrade: Vec<String>,
    /// `[route.idempotency]`: present on guarded routes.
    pub idempotency: Option<Idempotency>,
    /// `[[route.slot]]`, `[[route.release]]`, `[route.ask]`
    pub slots: RouteSlots,
    /// `[route.lane]`
    pub lane: Option<Lane>,
    /// `[route.retry]`
    pub retry: Option<Retry>,
    /// `[route.recover]`
    pub recover: Option<Recover>,
    /// `[route.detect]`
    pub detect: Option<Detect>,
    /// `[route.throttle]`: present where clients are throttled.
    pub throttle: Option<RouteThrottle>,
    /// `[route.concurrency]`: present where a client's requests in flight are limited.
    pub concurrency: Option<Concurrency>,
}

/// `[cache]`: room for the answers of all routes.
#[derive(Clone, Debug)]
pub struct CacheMemory {
    /// `memory`: bytes of all kept answers.
    pub memory: u64,
    /// `answer_limit`: bytes of the largest body that is kept or shared.
    pub answer_limit: u64,
}

/// `[route.cache]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteCache {
    /// `ttl`: how long an answer is fresh whose backend says nothing about it.
    pub ttl: Duration,
    /// `override`: `ttl` counts whatever the backend says.
    pub overrides: bool,
    /// `stale_if_error`: how long after that a copy stands in for a failing backend.
    pub stale_if_error: Duration,
    /// `stale_while_revalidate`: how long after that a copy is given while it is asked for anew.
    pub stale_while_revalidate: Duration,
    /// `stale_if_throttled`: up to which age a copy is given to a client that would have to wait for its turn too long.
    pub stale_if_throttled: Duration,
    /// `share`
    pub share: Share,
    /// `key`
    pub key: CacheKey,
}

/// Who may get a kept answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The scope that asked for it.
    Scope,
    /// Everyone: public pages.
    Everyone,
}

/// What tells the reads of one target apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKey {
    /// Every header but noise.
    Headers,
    /// Credentials, and what the backend names in `Vary`.
    Vary,
}

/// `[route.idempotency]`
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// `key`
    pub key: KeyRule,
    /// `ignore`: fields that differ on every retry.
    pub ignore: Vec<JsonPath>,
    /// `unordered`: arrays whose order means nothing.
    pub unordered: Vec<JsonPath>,
    /// `remember`: for an Idempotency-Key.
    pub remember: Duration,
    /// `remember_fingerprint`: without a key.
    pub remember_fingerprint: Duration,
    /// `not_executed`: by these statuses the backend says that it did nothing.
    pub not_executed: StatusSet,
    /// `wait`: how long copies of one in flight wait.
    pub wait: Duration,
    /// `in_doubt`
    pub in_doubt: InDoubtRule,
    /// `in_doubt_for`
    pub in_doubt_for: Duration,
    /// `on_outage`, where the route has its own.
    pub on_outage: Option<OnOutage>,
    /// `graphql`
    pub graphql: GraphqlRule,
}

/// What names an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// `header`: the key; 400 when it is missing.
    Header,
    /// `fingerprint`: the meaning alone; a key is only passed on.
    Fingerprint,
    /// `header-or-fingerprint`: the key where there is one.
    HeaderOrFingerprint,
}

/// What copies of an outcome in doubt get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubtRule {
    /// 409 `outcome-unknown` until it is settled.
    Refuse,
    /// The backend is asked (`[route.recover]`); 409 as long as that settles nothing.
    Recover,
    /// Executed again: voids the promise, for writes that may happen twice.
    Forward,
}

/// A set of status codes, `"4xx"` and single ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet {
    /// Sorted, inclusive ranges.
    pub ranges: Vec<(u16, u16)>,
}

// === impl Route ===

impl Route {
    /// How long a request of this route may take at its upstream.
    pub fn timeout_at(&self, upstream: &Upstream) -> Duration {
        self.timeout.unwrap_or(upstream.timeout)
    }

    /// Whether writes that no earlier route names pass through here unguarded: an open pattern (`**`) that takes a
    /// method that writes, without `[route.idempotency]`. The start names them.
    pub fn lets_writes_through(&self) -> bool {
        let writes = |pattern: &Pattern| pattern.method.as_ref().is_none_or(|method| !is_safe(method));
        self.idempotency.is_none() && self.patterns.iter().any(|pattern| pattern.open && writes(pattern))
    }
}

// === impl StatusSet ===

impl StatusSet {
    /// Whether `status` is in the set.
    pub fn contains(&self, status: http::StatusCode) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&status.as_u16()))
    }
}
