//! How backends are opened, and short ways to say what tests say often.

use crate::harness::redis::{Cluster, Server, Watched};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use oncegate::domain::answer::Answer;
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{Claim, PolicyVersion, RecordId, TargetId, Token};
use oncegate::store::{About, ClaimRequest, Claimed, Completion, EndIntents, Held, Options, Place, Store};
use oncegate::store::{Address, Layout, Shared};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const MINUTE: Duration = Duration::from_secs(60);

/// How long a test waits for something that has to happen; only a failing one waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A kind of store.
pub trait Backend {
    /// An empty store with these limits.
    fn open(&self, limits: Limits) -> Opened;
}

/// Limits that tests set.
#[derive(Clone, Copy)]
pub struct Limits {
    pub memory_max: u64,
    pub records_max: usize,
}

/// A store, with what has to live as long.
pub struct Opened {
    store: Store,
    _dir: Option<tempfile::TempDir>,
    _server: Option<Server>,
}

pub struct Memory;

pub struct File;

/// One Redis server.
pub struct Single;

impl Default for Limits {
    fn default() -> Limits {
        Limits { memory_max: 64 << 20, records_max: 10_000 }
    }
}

impl Limits {
    pub fn options(self, place: Place) -> Options {
        Options { place, secret: None, memory_max: self.memory_max, records_max: self.records_max }
    }
}

impl Deref for Opened {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Backend for Memory {
    fn open(&self, limits: Limits) -> Opened {
        let store = Store::open(limits.options(Place::Memory)).expect("memory opens");
        Opened { store, _dir: None, _server: None }
    }
}

impl Backend for File {
    fn open(&self, limits: Limits) -> Opened {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::Directory(dir.path().join("store"));
        let store = Store::open(limits.options(place)).expect("an empty directory opens");
        Opened { store, _dir: Some(dir), _server: None }
    }
}

impl Backend for Single {
    fn open(&self, limits: Limits) -> Opened {
        let server = Server::start(&[]);
        let opened = on_with(&server, limits, Duration::from_secs(2));
        Opened { _server: Some(server), ..opened }
    }
}

/// A store on a server of its own, with so much patience for limits.
pub fn patient(limit_timeout: Duration) -> Opened {
    let server = Server::start(&[]);
    let opened = on(&server, limit_timeout);
    Opened { _server: Some(server), ..opened }
}

/// The same on a server that the test keeps.
pub fn on(server: &Server, limit_timeout: Duration) -> Opened {
    on_with(server, Limits::default(), limit_timeout)
}

fn on_with(server: &Server, limits: Limits, limit_timeout: Duration) -> Opened {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Address::new("127.0.0.1", server.address.port());
    let place = Shared { limit_timeout, ..shared(Layout::Single, vec![node], dir.path()) };
    let options = Options { secret: Some(vec![7; 32]), ..limits.options(Place::Shared(place)) };
    let store = Store::open(options).expect("an empty server opens");
    Opened { store, _dir: Some(dir), _server: None }
}

/// A master that Sentinels watch; each behaviour under a prefix of its own.
pub struct Sentinel {
    pub watched: Watched,
    opened: AtomicU32,
}

/// A cluster; each behaviour under a prefix of its own.
pub struct Spread {
    pub cluster: Cluster,
    opened: AtomicU32,
}

impl Sentinel {
    pub fn start() -> Sentinel {
        Sentinel { watched: Watched::start(), opened: AtomicU32::new(0) }
    }
}

impl Spread {
    pub fn start() -> Spread {
        Spread { cluster: Cluster::start(), opened: AtomicU32::new(0) }
    }
}

impl Backend for Sentinel {
    fn open(&self, limits: Limits) -> Opened {
        let nodes = addresses(&self.watched.sentinels);
        one_of_several(Layout::Sentinel("main".into()), nodes, limits, &self.opened)
    }
}

impl Backend for Spread {
    fn open(&self, limits: Limits) -> Opened {
        one_of_several(Layout::Cluster, addresses(&self.cluster.nodes[..2]), limits, &self.opened)
    }
}

fn addresses(servers: &[Server]) -> Vec<Address> {
    servers.iter().map(|server| Address::new("127.0.0.1", server.address.port())).collect()
}

fn one_of_several(layout: Layout, nodes: Vec<Address>, limits: Limits, opened: &AtomicU32) -> Opened {
    let dir = tempfile::tempdir().expect("a directory");
    let prefix = format!("behaviour-{}", opened.fetch_add(1, Ordering::Relaxed));
    let place = Shared { prefix, wait_replicas: 1, ..shared(layout, nodes, dir.path()) };
    let options = Options { secret: Some(vec![7; 32]), ..limits.options(Place::Shared(place)) };
    let store = Store::open(options).expect("a whole fleet of servers opens");
    Opened { store, _dir: Some(dir), _server: None }
}

/// A shared store as tests reach it.
pub fn shared(layout: Layout, nodes: Vec<Address>, state: &std::path::Path) -> Shared {
    Shared {
        layout,
        nodes,
        user: None,
        password: None,
        database: 0,
        tls: None,
        prefix: "oncegate".into(),
        wait_replicas: 0,
        timeout: Duration::from_secs(2),
        limit_timeout: Duration::from_secs(2),
        state: state.to_owned(),
    }
}

/// A claim of intent `n` under token `token`: keyless, sent at once, in scope 1, on target 1.
pub fn claim(store: &Store, n: u8, token: u128) -> ClaimRequest {
    ClaimRequest {
        id: id(n),
        claim: Claim {
            fingerprint: Fingerprint([n; 32]),
            keyed: false,
            policy: PolicyVersion(1),
            scope: ScopeId([1; 16]),
            target: TargetId([1; 16]),
            token: Token(token),
            owner: store.owner(),
            lease: MINUTE,
            sent: true,
            in_doubt_for: 60 * MINUTE,
        },
        quota: 1_000,
        about: About {
            route: "book".into(),
            request: format!("POST /bookings/{n}"),
            request_id: format!("r-{token}"),
        },
        slots: Vec::new(),
        above: None,
    }
}

/// A change of `target` by the caller whose records [`claim`] makes.
pub fn change_of(target: TargetId) -> EndIntents {
    EndIntents { target, parents: Vec::new(), scope: ScopeId([1; 16]), by: None, subtree_for: Duration::ZERO }
}

/// The id of intent `n`. All begin alike: on a cluster, as the ids of routes with slots and lanes do.
pub fn id(n: u8) -> RecordId {
    let mut id = [n; 32];
    id[0] = 16;
    RecordId(id)
}

/// An answer that `body` tells apart from others.
pub fn answer(status: u16, body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("text/plain"));
    headers.append("x-twice", HeaderValue::from_static("a"));
    headers.append("x-twice", HeaderValue::from_static("b"));
    Answer::new(StatusCode::from_u16(status).expect("a status"), &headers, Some(body.as_bytes()))
}

pub fn completion(n: u8, token: u128, answer: Answer) -> Completion {
    Completion {
        id: id(n),
        token: Token(token),
        answer,
        keep: MINUTE,
        ends: None,
        names: None,
        alias: None,
        slots: Default::default(),
        frees: Vec::new(),
    }
}

/// The bytes of the answer that a copy got.
pub fn replayed(claimed: Claimed) -> Bytes {
    match claimed {
        Claimed::Done(answer) => answer.as_bytes().clone(),
        other => panic!("a replay was due, not {other:?}"),
    }
}

/// Claims until `wanted` says yes, letting others run in between; for what only time brings about.
pub async fn claim_until(
    store: &Store,
    make: impl Fn() -> ClaimRequest,
    wanted: impl Fn(&Claimed) -> bool,
) -> Claimed {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let claimed = store.claim(make()).await.expect("the store works");
        if wanted(&claimed) {
            return claimed;
        }
        assert!(tokio::time::Instant::now() < end, "still {claimed:?} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Long enough to be seen, short enough to be waited for.
pub const SHORT: Duration = Duration::from_millis(120);

pub async fn granted(store: &Store, request: ClaimRequest) {
    let claimed = store.claim(request).await.expect("the store works");
    assert!(matches!(claimed, Claimed::Granted), "a grant was due, not {claimed:?}");
}

pub async fn complete(store: &Store, completion: Completion) -> Held {
    store.complete(completion).await.expect("the store works")
}
