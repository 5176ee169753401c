//! What a store costs: the same table for every backend. `cargo bench --bench store`.
//!
//! One thread, as one worker of the gateway has, with 1, 64 or 256 callers at once. Criterion watches the mean; the table
//! at the end gives operations a second, how long a caller waits, and the CPU time of all threads for one operation.
//! `STORE_ONLY=redis,cluster` leaves the others out. `STORE_RECORDS=1000000 cargo bench --bench store` measures what a million records take instead.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, HeaderValue, StatusCode};
use oncegate::domain::answer::Answer;
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{Claim, PolicyVersion, RecordId, TargetId, Token};
use oncegate::store::{About, ClaimRequest, Claimed, Completion, Held, Options, Place, Store};
use oncegate::store::{Address, Layout, Shared};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[allow(dead_code, clippy::unwrap_used, reason = "it belongs to the tests, which use more of it")]
#[path = "../tests/harness/redis.rs"]
mod redis;

const CALLERS: [u64; 3] = [1, 64, 256];

/// Bytes of an answer's body: a JSON object with a handful of fields.
const BODY: usize = 300;

/// Operations whose waits are kept for the table.
const WAITS_MAX: usize = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Claim,
    ClaimAndComplete,
    Replay,
}

/// A backend, with what has to live as long.
struct Backend {
    name: &'static str,
    store: Store,
    _dir: Option<tempfile::TempDir>,
    _servers: Option<Servers>,
    next: AtomicU64,
    answer: Answer,
    keep: Duration,
}

/// The servers of a shared store; dropping them ends them.
enum Servers {
    One(redis::Server),
    Watched(redis::Watched),
    Cluster(redis::Cluster),
}

/// What was measured of one line of the table.
#[derive(Default)]
struct Line {
    operations: u64,
    time: Duration,
    /// Of all threads of this process.
    cpu: Duration,
    waits: Vec<u32>,
}

type Table = BTreeMap<(&'static str, Work, u64), Line>;

// === impl Work ===

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Claim => "claim",
            Work::ClaimAndComplete => "claim+complete",
            Work::Replay => "replay",
        }
    }
}

// === impl Servers ===

impl Servers {
    /// `None`: the store has none.
    fn start(name: &str) -> Option<Servers> {
        match name {
            "redis" => Some(Servers::One(redis::Server::start(&[]))),
            "redis-aof" => Some(Servers::One(redis::Server::start(&redis::DURABLE))),
            "sentinel" => Some(Servers::Watched(redis::Watched::start())),
            "cluster" => Some(Servers::Cluster(redis::Cluster::start())),
            _ => None,
        }
    }

    /// As the configuration has it by default: behind Sentinel and on a cluster, a replica confirms every claim.
    fn place(&self, dir: &std::path::Path) -> Shared {
        let (layout, nodes, wait_replicas) = match self {
            Servers::One(server) => (Layout::Single, std::slice::from_ref(server), 0),
            Servers::Watched(watched) => (Layout::Sentinel("main".into()), &watched.sentinels[..], 1),
            Servers::Cluster(cluster) => (Layout::Cluster, &cluster.nodes[..3], 1),
        };
        Shared {
            layout,
            nodes: nodes.iter().map(|node| Address::new("127.0.0.1", node.address.port())).collect(),
            user: None,
            password: None,
            database: 0,
            tls: None,
            prefix: "bench".into(),
            wait_replicas,
            timeout: Duration::from_secs(5),
            limit_timeout: Duration::from_millis(50),
            state: dir.join("state"),
        }
    }
}

// === impl Backend ===

impl Backend {
    fn with(store: Store) -> Backend {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("location", HeaderValue::from_static("/api/bookings/823"));
        let answer = Answer::new(StatusCode::CREATED, &headers, Some(&[b'x'; BODY]));
        let keep = Duration::from_secs(2);
        Backend { name: "", store, _dir: None, _servers: None, next: AtomicU64::new(0), answer, keep }
    }

    fn open(name: &'static str) -> Backend {
        // On the disk that the working directory is on: a temporary directory may be in memory.
        let dir = (name != "memory").then(|| tempfile::tempdir_in(".").expect("a directory"));
        let servers = Servers::start(name);
        let place = match (&dir, &servers) {
            (Some(dir), Some(servers)) => Place::Shared(servers.place(dir.path())),
            (Some(dir), None) => Place::Directory(dir.path().to_owned()),
            (None, _) => Place::Memory,
        };
        let secret = servers.is_some().then(|| vec![7; 32]);
        let options = Options { place, secret, memory_max: 64 << 20, records_max: 100_000_000 };
        let store = Store::open(options).expect("the store opens");
        Backend { name, _dir: dir, _servers: servers, ..Backend::with(store) }
    }

    fn request(&self, n: u64) -> ClaimRequest {
        // Digests are spread evenly; so are these.
        let mut digest = [0; 32];
        for (index, part) in digest.chunks_mut(8).enumerate() {
            let mixed =
                (n ^ (index as u64) << 60).wrapping_add(0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            part.copy_from_slice(&(mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb).to_be_bytes());
        }
        ClaimRequest {
            id: RecordId(digest),
            claim: Claim {
                fingerprint: Fingerprint(digest),
                keyed: false,
                policy: PolicyVersion(1),
                scope: ScopeId([digest[9]; 16]),
                target: TargetId([digest[10]; 16]),
                token: Token(u128::from(n) + 1),
                owner: self.store.owner(),
                lease: Duration::from_secs(30),
                sent: true,
                in_doubt_for: Duration::from_secs(86_400),
            },
            quota: u32::MAX,
            about: About {
                route: "book".into(),
                request: "POST /api/bookings".into(),
                request_id: format!("{n:032x}"),
            },
            slots: Vec::new(),
            above: None,
        }
    }

    async fn claim(&self, n: u64) {
        let claimed = self.store.claim(self.request(n)).await;
        assert!(matches!(claimed, Ok(Claimed::Granted)), "{claimed:?}");
    }

    async fn complete(&self, n: u64) {
        let request = self.request(n);
        let held = self.store.complete(Completion {
            id: request.id,
            token: request.claim.token,
            answer: self.answer.clone(),
            keep: self.keep,
            ends: None,
            names: Some(TargetId([request.id.0[11]; 16])),
            alias: None,
            slots: Default::default(),
            frees: Vec::new(),
        });
        assert_eq!(held.await, Ok(Held::Yes));
    }

    async fn work(&self, work: Work) {
        match work {
            Work::Claim => self.claim(self.next.fetch_add(1, Ordering::Relaxed)).await,
            Work::ClaimAndComplete => {
                let n = self.next.fetch_add(1, Ordering::Relaxed);
                self.claim(n).await;
                self.complete(n).await;
            }
            Work::Replay => {
                let claimed = self.store.claim(self.request(u64::MAX)).await;
                assert!(matches!(claimed, Ok(Claimed::Done(_))), "{claimed:?}");
            }
        }
    }

    /// Does `operations` in all with `callers` at once.
    async fn run(self: &Arc<Self>, work: Work, callers: u64, operations: u64, line: &mut Line) -> Duration {
        let left = Rc::new(Cell::new(operations));
        let (start, cpu) = (Instant::now(), cpu_time());
        let local = tokio::task::LocalSet::new();
        let callers: Vec<_> = (0..callers.min(operations))
            .map(|_| {
                let (backend, left) = (Arc::clone(self), Rc::clone(&left));
                local.spawn_local(async move {
                    let mut waits = Vec::new();
                    while left.get() > 0 {
                        left.set(left.get() - 1);
                        let began = Instant::now();
                        backend.work(work).await;
                        waits.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
                        if waits.len() % 64 == 0 {
                            // In memory nothing ever waits; let the others have their turn.
                            tokio::task::yield_now().await;
                        }
                    }
                    waits
                })
            })
            .collect();
        let waits = local.run_until(futures_util::future::join_all(callers)).await;
        let time = start.elapsed();
        line.operations += operations;
        line.time += time;
        line.cpu += cpu_time().saturating_sub(cpu);
        for waits in waits {
            let room = WAITS_MAX.saturating_sub(line.waits.len());
            line.waits.extend(waits.expect("no caller panics").into_iter().take(room));
        }
        time
    }
}

fn measure(criterion: &mut Criterion, name: &'static str, table: &mut Table) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for work in [Work::Claim, Work::ClaimAndComplete, Work::Replay] {
        let mut group = criterion.benchmark_group(format!("store/{name}/{}", work.name()));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(3));
        for callers in CALLERS {
            let backend = Arc::new(Backend::open(name));
            if work == Work::Replay {
                runtime.block_on(async {
                    let mut request = backend.request(u64::MAX);
                    request.claim.token = Token(7);
                    assert!(matches!(backend.store.claim(request.clone()).await, Ok(Claimed::Granted)));
                    let keep = Duration::from_secs(86_400);
                    let (id, token) = (request.id, Token(7));
                    let answer = backend.answer.clone();
                    let done = Completion {
                        id,
                        token,
                        answer,
                        keep,
                        ends: None,
                        names: None,
                        alias: None,
                        slots: Default::default(),
                        frees: Vec::new(),
                    };
                    assert_eq!(backend.store.complete(done).await, Ok(Held::Yes));
                });
            }
            let line = table.entry((backend.name, work, callers)).or_default();
            group.bench_function(BenchmarkId::from_parameter(callers), |bencher| {
                bencher.iter_custom(|operations| {
                    runtime
                        .block_on(backend.run(work, callers, operations.max(callers), line))
                        .mul_f64(operations as f64 / operations.max(callers) as f64)
                });
            });
            backend.store.close();
        }
        group.finish();
    }
}

fn print(table: &mut Table) {
    println!(
        "\n{:<9} {:<15} {:>7} {:>12} {:>10} {:>10} {:>9}",
        "store", "work", "callers", "a second", "p50 us", "p99 us", "cpu us"
    );
    for ((name, work, callers), line) in table {
        line.waits.sort_unstable();
        let at = |part: f64| {
            let index = (line.waits.len() as f64 * part) as usize;
            line.waits.get(index).map_or(0.0, |wait| f64::from(*wait) / 1e3)
        };
        let rate = line.operations as f64 / line.time.as_secs_f64().max(1e-9);
        if line.operations == 0 {
            continue;
        }
        let cpu = line.cpu.as_secs_f64() * 1e6 / line.operations as f64;
        println!(
            "{name:<9} {:<15} {callers:>7} {rate:>12.0} {:>10.1} {:>10.1} {cpu:>9.1}",
            work.name(),
            at(0.5),
            at(0.99)
        );
    }
}

/// What a million records take: on disk, in memory, and to open again. Runs with `STORE_RECORDS=1000000`.
fn measure_records(records: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let open = || {
        let place = Place::Directory(dir.path().to_owned());
        Store::open(Options { place, secret: None, memory_max: 64 << 20, records_max: 100_000_000 })
    };
    let before = resident_bytes();
    let backend =
        Arc::new(Backend { keep: Duration::from_secs(86_400), ..Backend::with(open().expect("it opens")) });
    runtime.block_on(backend.run(Work::ClaimAndComplete, 256, records, &mut Line::default()));
    let figures = runtime.block_on(backend.store.figures());
    let resident = resident_bytes() - before;
    backend.store.close();
    drop(backend);
    let start = Instant::now();
    let store = open().expect("it opens again");
    let opened = start.elapsed();
    assert_eq!(runtime.block_on(store.figures()).done, records);
    println!("\n{records} records with answers of {BODY} B and their headers:");
    println!("  {} B a record on disk", figures.disk_bytes / records);
    println!(
        "  {} B a record in memory, of them {} B answers",
        resident / records,
        figures.memory_bytes / records
    );
    println!("  {opened:.2?} to open again (files in the page cache)");
}

/// How long the servers may take to come up.
const EVENTUALLY: Duration = Duration::from_secs(30);

/// What `ask` gives, as soon as it gives something.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + EVENTUALLY;
    loop {
        if let Some(given) = ask() {
            return given;
        }
        assert!(Instant::now() < until, "not within {EVENTUALLY:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_address() -> std::io::Result<std::net::SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// User and system time of this process, to a hundredth of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or("").split(' ');
    let ticks: u64 = fields.skip(12).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn main() {
    if let Some(records) = std::env::var("STORE_RECORDS").ok().and_then(|records| records.parse().ok()) {
        return measure_records(records);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::new();
    let only = std::env::var("STORE_ONLY").unwrap_or_default();
    let names = ["memory", "file", "redis", "redis-aof", "sentinel", "cluster"];
    for name in names.into_iter().filter(|name| only.is_empty() || only.split(',').any(|one| one == *name)) {
        measure(&mut criterion, name, &mut table);
    }
    print(&mut table);
    criterion.final_summary();
}
