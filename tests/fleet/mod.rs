//! Several gateways, one truth: a fleet over one Redis. Whichever gateway a copy reaches, the backend executes once, and
//! every client gets the one answer or a refusal that says why.

mod clocks;
mod copies;
mod doubts;
mod lanes;
mod leaving;
mod losses;
mod restarts;
mod waiting;

use crate::harness::redis::{Cluster, DURABLE, Server, Watched};
use crate::harness::{
    Authority, Backend, Call, Config, RawBackend, Reply, Signal, at_once, eventually, free_address, gates,
    ok, program, signal, within,
};
use oncegate::cli::demo::gate::Gate;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Gateways before one backend and one store, `R`.
struct Fleet<R> {
    gates: Vec<Gate>,
    backend: Backend,
    redis: R,
    _directories: Vec<TempDir>,
}

// === impl Fleet ===

impl<R> Fleet<R> {
    fn start(count: usize, redis: R, url: &str) -> Fleet<R> {
        Fleet::with(count, redis, url, SECRET)
    }

    fn with(count: usize, redis: R, url: &str, store: &'static str) -> Fleet<R> {
        Fleet::of(count, redis, url, Config { store, ..Config::default() })
    }

    fn of(count: usize, redis: R, url: &str, config: Config) -> Fleet<R> {
        let backend = Backend::start();
        let text = config.text(backend.address).replace("{store}", url);
        let (gates, _directories) = gates(count, &text);
        Fleet { gates, backend, redis, _directories }
    }

    /// Sends through one of the gateways.
    fn send(&self, gate: usize, call: &Call) -> Reply {
        call.send(self.gates[gate].address).expect("an answer")
    }
}

/// Over one server.
fn usual(count: usize) -> Fleet<Server> {
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    Fleet::start(count, redis, &url)
}

/// Sends until it is executed or replayed; meanwhile every answer is a stated refusal. Sentinels need up to twenty
/// seconds to make a replica of a master that came back, and until then no second server confirms a claim.
fn until_made<R>(fleet: &Fleet<R>, gate: usize, call: &Call) -> Reply {
    within(Duration::from_secs(60), "the write is made or replayed", || {
        let reply = call.send(fleet.gates[gate].address).ok()?;
        if reply.status == 201 {
            return Some(reply);
        }
        assert!(matches!(reply.status, 409 | 503), "{} {}", reply.status, reply.text());
        None
    })
}

const SECRET: &str = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"";

fn booking(n: u32) -> Call {
    // One name for the whole fleet, as clients behind a load balancer see it.
    Call::new("POST", "/api/bookings")
        .header("Host", "bookings.example")
        .header("Idempotency-Key", &format!("fleet-{n}-0123456789abcdef"))
        .header("Content-Type", "application/json")
        .body(format!("{{\"slot\":{n}}}"))
}

#[test]
fn a_hundred_copies_over_three_gateways_are_one_effect_and_one_answer() {
    let fleet = usual(3);
    let call = booking(1).header("X-Demo-Fault", "delay=300");
    let replies: Vec<(Reply, Instant)> = std::thread::scope(|scope| {
        let copies: Vec<_> = (0..100)
            .map(|n| {
                let (call, address) = (&call, fleet.gates[n % 3].address);
                scope.spawn(move || (call.send(address).expect("an answer"), Instant::now()))
            })
            .collect();
        copies.into_iter().map(|copy| copy.join().unwrap()).collect()
    });
    let first = replies.iter().find(|(reply, _)| !reply.is_replay()).expect("one is the original").1;
    let mut late: Vec<Duration> = replies.iter().map(|(_, at)| at.saturating_duration_since(first)).collect();
    late.sort_unstable();
    println!("a waiting copy's answer after the first: p50 {:?}, p99 {:?}", late[50], late[98]);
    let replies: Vec<Reply> = replies.into_iter().map(|(reply, _)| reply).collect();
    crate::harness::assert_one_answer(&replies);
    assert_eq!(fleet.backend.effects().len(), 1);
    // 100 client threads share the machine with all processes; the bound of 20 ms is measured where it is quiet.
    assert!(late[98] < Duration::from_millis(250), "{late:?}");
}

#[test]
fn a_copy_that_comes_later_to_another_gateway_gets_the_recorded_answer() {
    let fleet = usual(2);
    let original = fleet.send(0, &booking(1));
    let copy = fleet.send(1, &booking(1));
    assert_eq!((original.status, &original.body), (copy.status, &copy.body));
    assert!(copy.is_replay() && fleet.backend.effects().len() == 1);
}

#[test]
fn a_store_that_forgot_its_scripts_is_given_them_again_in_the_same_write() {
    let fleet = usual(1);
    for n in 1..=3 {
        assert_eq!(fleet.redis.cli(&["SCRIPT", "FLUSH"]).trim(), "OK");
        assert_eq!(fleet.send(0, &booking(n)).status, 201);
        assert!(fleet.send(0, &booking(n)).is_replay());
    }
    assert_eq!(fleet.backend.effects().len(), 3);
}

#[test]
fn a_collection_that_ends_at_one_gateway_ends_what_the_other_remembers_below_it() {
    let raw = RawBackend::start(ok);
    let redis = Server::start(&DURABLE);
    let idempotency = "remember_fingerprint = \"60s\"";
    let config = Config { store: SECRET, idempotency, ..Config::default() };
    let (gates, _directories) = gates(2, &config.text(raw.address).replace("{store}", &redis.url()));
    let executed = |gate: usize, method: &str, path: &str| {
        raw.take();
        // One name for the whole fleet, as clients behind a load balancer see it.
        let call = Call::new(method, path).header("Host", "cal.example").body("same");
        let reply = call.send(gates[gate].address).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        raw.waiting() == 1
    };
    for path in ["/api/cal/a", "/api/cal/b/c", "/api/calendar"] {
        assert!(executed(0, "PUT", path) && !executed(1, "PUT", path));
    }
    assert!(executed(1, "DELETE", "/api/cal"));
    assert!(executed(0, "PUT", "/api/cal/a") && executed(1, "PUT", "/api/cal/b/c"));
    assert!(!executed(1, "PUT", "/api/cal/a") && !executed(0, "PUT", "/api/calendar"));
    // Unguarded, and one that takes it elsewhere.
    assert!(executed(1, "MOVE", "/api/cal/"));
    assert!(executed(0, "PUT", "/api/cal/a") && executed(1, "PUT", "/api/cal/b/c"));
}

#[test]
fn a_write_whose_gateway_is_killed_is_in_doubt_for_all_as_soon_as_that_gateway_is_back() {
    let mut fleet = usual(2);
    let address = fleet.gates[0].address;
    let call = booking(1).header("X-Demo-Fault", "delay-after=3000");
    let writer = std::thread::spawn(move || call.send(address));
    eventually("the backend has executed it", || (fleet.backend.effects().len() == 1).then_some(()));
    fleet.gates[0].kill();
    assert!(writer.join().unwrap().is_err(), "its client saw the connection break");
    fleet.gates[0].start().expect("it starts again");
    // Far below the lease of 30 s: the successor knows that its earlier life is over.
    let copy = eventually("the copy is told", || {
        let copy = booking(1).send(fleet.gates[1].address).ok()?;
        (copy.status == 409 && copy.text().contains("outcome-unknown")).then_some(copy)
    });
    assert!(copy.text().contains("was stopped"), "{}", copy.text());
    assert_eq!(fleet.backend.effects().len(), 1);
}

#[test]
fn a_redis_that_is_killed_and_comes_back_forgets_nothing_and_refuses_meanwhile() {
    let mut fleet = usual(2);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    fleet.redis.kill();
    let refused = eventually("the outage is told", || {
        let refused = booking(2).send(fleet.gates[0].address).ok()?;
        (refused.status == 503).then_some(refused)
    });
    assert!(refused.text().contains("store-unavailable"), "{}", refused.text());
    let read = Call::new("GET", "/api/bookings").send(fleet.gates[0].address).expect("reads go on");
    assert!(read.status < 500, "{}", read.status);
    let ready = Call::new("GET", "/readyz").send(fleet.gates[0].admin).expect("it is alive");
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
    fleet.redis.run();
    let made = eventually("guarded writes go on", || {
        let made = booking(2).send(fleet.gates[1].address).ok()?;
        (made.status == 201).then_some(made)
    });
    assert!(!made.is_replay());
    let copy = eventually("the other gateway is back too", || {
        let copy = booking(1).send(fleet.gates[1].address).ok()?;
        (copy.status == 201).then_some(copy)
    });
    assert!(copy.is_replay());
    assert_eq!(fleet.backend.effects().len(), 2);
}

#[test]
fn a_redis_that_loses_everything_is_told_again_before_anything_is_granted() {
    let mut fleet = usual(2);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    assert_eq!(fleet.send(1, &booking(2)).status, 201);
    fleet.redis.kill();
    fleet.redis.forget();
    fleet.redis.run();
    for n in [1, 2] {
        for gate in [1, 0] {
            let copy = eventually("the fleet agrees again", || {
                let copy = booking(n).send(fleet.gates[gate].address).ok()?;
                (copy.status == 201).then_some(copy)
            });
            assert!(copy.is_replay(), "executed again after the store forgot it");
        }
    }
    // The same without a restart: nobody's connection breaks.
    fleet.redis.cli(&["flushall"]);
    let copies = at_once(fleet.gates[1].address, &[booking(1), booking(2), booking(1)]);
    assert!(copies.iter().all(|copy| copy.status == 503 || copy.is_replay()), "{copies:?}");
    for n in [1, 2] {
        let copy = eventually("the fleet agrees again", || {
            let copy = booking(n).send(fleet.gates[0].address).ok()?;
            (copy.status == 201).then_some(copy)
        });
        assert!(copy.is_replay());
    }
    assert_eq!(fleet.backend.effects().len(), 2);
}

#[test]
fn a_gateway_that_was_away_while_the_others_agreed_says_what_it_knows_before_it_is_granted_anything() {
    let fleet = usual(2);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    assert_eq!(fleet.send(1, &booking(2)).status, 201);
    let pid = fleet.gates[0].pid().expect("it runs");
    signal(pid, Signal::STOP);
    fleet.redis.cli(&["flushall"]);
    assert!(until_made(&fleet, 1, &booking(2)).is_replay(), "told again by the one that is there");
    assert!(!until_made(&fleet, 1, &booking(3)).is_replay(), "it went on without the other one");
    signal(pid, Signal::CONT);
    assert!(until_made(&fleet, 0, &booking(1)).is_replay(), "executed again after the store forgot it");
    assert!(until_made(&fleet, 1, &booking(1)).is_replay());
    assert_eq!(fleet.backend.effects().len(), 3);
}

/// Writes before, during and after `fail` takes a master away, over both gateways in turn; then each once more.
fn survives<R>(mut fleet: Fleet<R>, fail: impl FnOnce(&mut R)) {
    for n in 0..10 {
        assert_eq!(until_made(&fleet, n as usize % 2, &booking(n)).status, 201);
    }
    fail(&mut fleet.redis);
    for n in 10..20 {
        until_made(&fleet, n as usize % 2, &booking(n));
    }
    for n in 0..20 {
        let copy = until_made(&fleet, (n as usize + 1) % 2, &booking(n));
        assert!(copy.is_replay(), "booking {n} was executed again");
    }
    assert_eq!(fleet.backend.effects().len(), 20);
}

#[test]
fn a_failover_by_sentinels_loses_no_claim_and_is_followed() {
    let redis = Watched::start();
    let url = redis.url();
    survives(Fleet::start(2, redis, &url), |redis| {
        let master = redis.servers[0].address.port().to_string();
        redis.servers[0].kill();
        eventually("the Sentinels name another master", || {
            let told = redis.sentinels[0].cli(&["sentinel", "get-master-addr-by-name", "main"]);
            (!told.contains(&master)).then_some(())
        });
        // One replica has every claim, by configuration: with the only other server away, nothing would be granted.
        redis.servers[0].run();
    });
}

#[test]
fn a_failover_in_a_cluster_loses_no_claim_and_is_followed() {
    let redis = Cluster::start();
    let url = redis.url();
    survives(Fleet::start(2, redis, &url), |redis| {
        let master = redis.nodes[0].address.port().to_string();
        redis.nodes[0].kill();
        eventually("its replica is a master now", || {
            let told = redis.nodes[1].cli(&["cluster", "nodes"]);
            let masters = told.lines().filter(|line| line.contains("master") && !line.contains("fail"));
            (masters.count() == 3 && told.lines().any(|line| line.contains("fail") && line.contains(&master)))
                .then_some(())
        });
        redis.nodes[0].run();
    });
}

#[test]
fn a_gateway_that_stands_still_beyond_its_lease_leaves_a_doubt_and_no_second_execution() {
    let redis = Server::start(&DURABLE);
    let url = redis.url();
    let store = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nlease = \"2s\"\ntimeout = \"500ms\"";
    let fleet = Fleet::with(2, redis, &url, store);
    let pid = fleet.gates[0].pid().expect("it runs");
    let address = fleet.gates[0].address;
    let call = booking(1).header("X-Demo-Fault", "delay-after=300");
    let writer = std::thread::spawn(move || call.send(address));
    eventually("the backend has executed it", || (fleet.backend.effects().len() == 1).then_some(()));
    signal(pid, Signal::STOP);
    // The copy waits for the attempt until the lease is over, and learns then that nobody knows.
    let copy = eventually("the copy is told", || {
        let copy = booking(1).send(fleet.gates[1].address).ok()?;
        (copy.status == 409 && copy.text().contains("outcome-unknown")).then_some(copy)
    });
    assert!(copy.text().contains("stopped watching"), "{}", copy.text());
    signal(pid, Signal::CONT);
    let original = writer.join().unwrap().expect("its client gets an answer all the same");
    let settled = until_made(&fleet, 1, &booking(1));
    assert!(settled.is_replay());
    assert_eq!((original.status, original.body), (settled.status, settled.body));
    assert_eq!(fleet.backend.effects().len(), 1);
}

/// What `oncegate check` says of a configuration over this server.
fn checked(redis: &Server) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let text = Config { store: SECRET, ..Config::default() }
        .text("127.0.0.1:9".parse().unwrap())
        .replace("{store}", &redis.url())
        .replace("{listen}", "127.0.0.1:0")
        .replace("{admin}", "127.0.0.1:0");
    let file = directory.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let output =
        std::process::Command::new(program()).args(["check", "--config"]).arg(&file).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_server_that_would_forget_is_refused_or_warned_about_by_name() {
    let (code, said) = checked(&Server::start(&DURABLE));
    assert_eq!((code, said.contains("the store")), (Some(0), false), "{said}");
    let (code, said) = checked(&Server::start(&[]));
    assert!(code == Some(0) && said.contains("nothing is written to disk"), "{said}");
    let (code, said) = checked(&Server::start(&["--appendonly", "yes", "--appendfsync", "everysec"]));
    assert!(code == Some(0) && said.contains("appendfsync is not always"), "{said}");
    let evicting = Server::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let (code, said) = checked(&evicting);
    assert!(code == Some(2) && said.contains("maxmemory-policy is allkeys-lru"), "{said}");
    // `run` refuses it too, and says the same.
    let (backend, directory) = (Backend::start(), tempfile::tempdir().unwrap());
    let text = Config { store: SECRET, ..Config::default() }.text(backend.address);
    let mut gate = Gate::new(program(), directory.path(), &text.replace("{store}", &evicting.url())).unwrap();
    let refused = gate.start().expect_err("it must not start").to_string();
    assert!(refused.contains("allkeys-lru"), "{refused}");
}

#[test]
fn a_gateway_with_another_secret_does_not_start() {
    let fleet = usual(1);
    let directory = tempfile::tempdir().unwrap();
    let text = Config {
        store: "secret = \"another secret, which is just as long as the first\"",
        ..Config::default()
    };
    let text = text.text(fleet.backend.address).replace("{store}", &fleet.redis.url());
    let mut gate = Gate::new(program(), directory.path(), &text).unwrap();
    let refused = gate.start().expect_err("it must not start").to_string();
    assert!(refused.contains("store.secret"), "{refused}");
}

#[test]
fn a_user_who_may_do_no_more_than_the_documentation_says_is_enough() {
    let redis = Server::start(&DURABLE);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let rights =
        page.split_once("`prefix:ends`, and `").and_then(|(_, rest)| rest.split_once('`')).unwrap().0;
    let mut rule = vec!["acl", "setuser", "gate", "on", ">only-a-password", "~{oncegate}*", "&oncegate:ends"];
    rule.extend(rights.split_whitespace());
    assert_eq!(redis.cli(&rule).trim(), "OK");
    let url = format!("redis://gate:only-a-password@{}", redis.address);
    let fleet = Fleet::start(2, redis, &url);
    let original = fleet.send(0, &booking(1));
    let copy = fleet.send(1, &booking(1));
    assert!(original.status == 201 && copy.is_replay(), "{} {}", original.text(), copy.text());
    assert_eq!(
        fleet.redis.cli(&["--user", "gate", "--pass", "wrong", "ping"]).matches("WRONGPASS").count(),
        1
    );
}

#[test]
fn an_encrypted_store_is_used_where_its_certificate_is_the_authoritys_and_only_there() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new("the fleet's authority"));
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    authority.write(&path("ca.pem"));
    Authority::new("somebody else's").write(&path("other.pem"));
    authority.issue(&["127.0.0.1"], "redis", &path("cert.pem"), &path("key.pem"));
    let secure = free_address().unwrap().port();
    let (port, ca, cert, key) = (secure.to_string(), text("ca.pem"), text("cert.pem"), text("key.pem"));
    let settings =
        ["--tls-port", &port, "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let redis = Server::start(&[&settings[..], &["--tls-auth-clients", "no"]].concat());
    let backend = Backend::start();
    let start = |authority: &str| {
        let config = Config { store: SECRET, ..Config::default() }.text(backend.address);
        let config = config.replace("{store}", &format!("rediss://127.0.0.1:{secure}"));
        let config =
            config.replace("state = \"lives\"", &format!("state = \"lives\"\nca = \"{}\"", text(authority)));
        let directory = tempfile::tempdir().unwrap();
        let mut gate = Gate::new(program(), directory.path(), &config).unwrap();
        gate.start().expect("it starts, with or without its store");
        (gate, directory)
    };
    let (gate, _kept) = start("ca.pem");
    assert_eq!(booking(1).send(gate.address).unwrap().status, 201);
    assert!(booking(1).send(gate.address).unwrap().is_replay());
    let (stranger, _kept) = start("other.pem");
    let refused = booking(1).send(stranger.address).unwrap();
    assert!(refused.status == 503 && refused.text().contains("certificate"), "{}", refused.text());
    drop(redis);
}

#[test]
fn a_claim_that_no_replica_confirms_is_not_forwarded_and_leaves_nothing_behind() {
    let redis = Server::start(&DURABLE);
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", redis.address.port())]);
    eventually("the replica is in step", || {
        redis.cli(&["info", "replication"]).contains("state=online").then_some(())
    });
    let store = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nwait_replicas = 1";
    let url = redis.url();
    let fleet = Fleet::with(1, redis, &url, store);
    // A replica that is online may still take a second until it confirms for the first time.
    assert_eq!(until_made(&fleet, 0, &booking(1)).status, 201);
    let pid = replica.pid();
    signal(pid, Signal::STOP);
    let refused = fleet.send(0, &booking(2));
    assert!(refused.status == 503 && refused.text().contains("replicas"), "{}", refused.text());
    assert_eq!(fleet.backend.effects().len(), 1, "short of its replicas nothing was forwarded");
    assert!(fleet.send(0, &booking(1)).is_replay(), "what is known is told without replicas");
    signal(pid, Signal::CONT);
    let made = until_made(&fleet, 0, &booking(2));
    assert!(!made.is_replay(), "the claim that was given up is gone");
    assert_eq!(fleet.backend.effects().len(), 2);
}
