//! Limits over three gateways on one Redis: counted together, by one clock, and kept by each gateway's share while the
//! store is away.

use super::*;
use crate::harness::gates;
use crate::harness::redis::Server;
use oncegate::cli::demo::gate::Gate;
use rustix::process::{Pid, Signal, kill_process};
use std::sync::Mutex;
use tempfile::TempDir;

/// More patient than usual: what the store decides is tested, not how busy the machine is.
const STORE: &str =
    "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"\nlimit_timeout = \"400ms\"";
/// As patient as usual.
const HASTY: &str = "secret = \"one secret of a whole fleet, long enough\"\nstate = \"lives\"";

/// Gateways that share their limits.
struct Fleet {
    gates: Vec<Gate>,
    backend: Backend,
    redis: Server,
    _directories: Vec<TempDir>,
}

// === impl Fleet ===

impl Fleet {
    /// With these lines in the route's `[route.throttle]`.
    fn start(count: usize, throttle: &str) -> Fleet {
        Fleet::with(count, throttle, STORE)
    }

    fn with(count: usize, throttle: &str, store: &'static str) -> Fleet {
        let (redis, backend) = (Server::start(&[]), Backend::start());
        let config = Config { store, ..throttled(throttle) };
        let text = config.text(backend.address).replace("{store}", &redis.url());
        let (gates, _directories) = gates(count, &text);
        let fleet = Fleet { gates, backend, redis, _directories };
        for at in 0..count {
            let known = || (fleet.metric(at, "oncegate_gateways") == count as u64).then_some(());
            eventually("the gateways know of each other", known);
        }
        fleet
    }

    fn send(&self, gate: usize, key: &str) -> Reply {
        quick(key).send(self.gates[gate].address).expect("an answer")
    }

    fn metric(&self, gate: usize, series: &str) -> u64 {
        let page = Call::new("GET", "/metrics").send(self.gates[gate].admin).unwrap().text();
        let line = page.lines().find(|line| line.split(' ').next() == Some(series));
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64)
    }

    /// Scripts that the store has run.
    fn scripts(&self) -> u64 {
        let told = self.redis.cli(&["info", "commandstats"]);
        let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    fn lines(&self, gate: usize, text: &str) -> usize {
        std::fs::read_to_string(&self.gates[gate].log).unwrap().matches(text).count()
    }
}

fn quick(key: &str) -> Call {
    Call::new("GET", "/professionals").header("X-Api-Key", key)
}

/// When each request that passed was sent and answered, in seconds; asked of all gateways at once, as fast as it goes.
fn flood(fleet: &Fleet, length: Duration) -> Vec<(f64, f64)> {
    let (began, passed) = (Instant::now(), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for gate in &fleet.gates {
            let (passed, mut poller) = (&passed, Poller::new(gate.address, quick("k")));
            scope.spawn(move || {
                while began.elapsed() < length {
                    let sent = began.elapsed().as_secs_f64();
                    let status = poller.poll().status;
                    if status == 429 {
                        thread::sleep(Duration::from_millis(2));
                    } else {
                        assert_ne!(status / 100, 5);
                        passed.lock().unwrap().push((sent, began.elapsed().as_secs_f64()));
                    }
                }
            });
        }
    });
    passed.into_inner().unwrap()
}

#[test]
fn what_passes_in_any_window_is_burst_and_rate_over_one_gateway_and_over_three() {
    for count in [1, 3] {
        let fleet = Fleet::start(count, "limits = \"10/s burst 5\"\nover = \"reject\"");
        let (burst, interval, length) = (5.0, 0.1, 5.0);
        let passed = flood(&fleet, Duration::from_secs_f64(length));
        for (from, _) in &passed {
            for (_, to) in passed.iter().filter(|(sent, _)| sent >= from) {
                let within = passed.iter().filter(|(sent, answered)| sent >= from && answered <= to).count();
                // Between a request's sending and its answer it was decided, so the window is no longer than this.
                let most = burst + ((to - from) / interval).floor();
                assert!(within as f64 <= most, "{count} gateways: {within} in {} s", to - from);
            }
        }
        let least = burst + (length / interval).floor() - 1.0;
        println!("{count} gateways: {} passed in {length} s, at least {least} wanted", passed.len());
        // The last step of a client that asks every few milliseconds may come a moment too late.
        assert!(passed.len() as f64 >= least - 1.0, "{count} gateways: {} of {least}", passed.len());
        assert_eq!(fleet.lines(0, "does not decide limits"), 0);
    }
}

#[test]
fn a_client_that_obeys_is_never_refused_again_by_any_gateway() {
    let fleet = Fleet::start(3, "limits = [\"2/s burst 3\", \"2/3s burst 5\"]\nover = \"reject\"");
    let until = Instant::now() + Duration::from_secs(12);
    let obedient = |key: &str, mut gate: usize| {
        let mut refused = 0;
        while Instant::now() < until {
            gate = (gate + 1) % 3;
            let reply = fleet.send(gate, key);
            if reply.status == 429 {
                refused += 1;
                let told = reply.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
                thread::sleep(Duration::from_secs(told));
                let again = fleet.send((gate + 1) % 3, key);
                assert_ne!(again.status, 429, "{key} waited {told} s as it was told");
            }
        }
        refused
    };
    let refused: Vec<i32> = thread::scope(|scope| {
        let clients = ["a", "b", "c", "d", "e", "f"].iter().enumerate();
        let clients: Vec<_> = clients.map(|(at, key)| scope.spawn(move || obedient(key, at))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    println!("refused and never again: {refused:?}");
    assert!(refused.iter().all(|count| *count >= 2), "{refused:?}");
}

#[test]
fn a_flood_that_is_refused_costs_the_store_nearly_nothing() {
    let fleet = Fleet::start(3, "limits = [\"1/s burst 3\", \"10/h\"]\nover = \"reject\"");
    while fleet.send(0, "k").status != 429
        || fleet.send(1, "k").status != 429
        || fleet.send(2, "k").status != 429
    {}
    let (began, before) = (Instant::now(), fleet.scripts());
    let mut refused = 0;
    let mut pollers: Vec<_> = fleet.gates.iter().map(|gate| Poller::new(gate.address, quick("k"))).collect();
    while refused < 3_000 {
        for poller in &mut pollers {
            refused += u64::from(poller.poll().status == 429);
        }
    }
    // Every gateway says twice a second and more that it is there; that has nothing to do with the flood.
    let took = began.elapsed();
    let idle = {
        let before = fleet.scripts();
        thread::sleep(took);
        fleet.scripts() - before
    };
    let scripts = (fleet.scripts() - before).saturating_sub(2 * idle);
    println!("{scripts} commands for {refused} refused requests in {took:?} ({idle} without them)");
    assert!(scripts <= 30, "{scripts} for {refused}");
}

#[test]
fn while_the_store_is_away_each_gateway_keeps_its_share_and_says_so_once() {
    let mut fleet = Fleet::start(3, "limits = \"30/h\"\nover = \"reject\"");
    // Known to be used up: an outage is no fresh bucket.
    while fleet.send(0, "used").status != 429 {}
    fleet.redis.kill();
    let passed = |key: &str, gate: usize| (0..40).filter(|_| fleet.send(gate, key).status != 429).count();
    let counts = [0, 1, 2].map(|gate| passed("k", gate));
    assert_eq!(counts, [10; 3], "a third of the limit each");
    assert_eq!(passed("used", 0), 0);
    for gate in 0..3 {
        eventually("the gauge says so", || (fleet.metric(gate, "oncegate_limits_alone") == 1).then_some(()));
        assert_eq!(fleet.lines(gate, "the store does not decide limits"), 1);
    }
    fleet.redis.run();
    for gate in 0..3 {
        eventually("the store is used again", || {
            (fleet.metric(gate, "oncegate_limits_alone") == 0).then_some(())
        });
        assert_eq!(fleet.lines(gate, "the store decides limits again"), 1);
    }
    // What each knows of itself still counts.
    assert_eq!(fleet.send(0, "used").status, 429);
    let together: usize =
        (0..3).map(|gate| (0..40).filter(|_| fleet.send(gate, "new").status != 429).count()).sum();
    assert_eq!(together, 30);
}

#[test]
fn nobody_waits_long_for_a_store_that_stands_still() {
    let fleet = Fleet::with(1, "limits = \"1000/s\"\nover = \"reject\"", HASTY);
    assert_ne!(fleet.send(0, "k").status, 429);
    let pid = Pid::from_raw(fleet.redis.pid().cast_signed()).expect("a process");
    kill_process(pid, Signal::STOP).expect("ours");
    let asked = Instant::now();
    for n in 0..50 {
        assert_ne!(fleet.send(0, &format!("k{n}")).status, 429);
    }
    let took = asked.elapsed();
    kill_process(pid, Signal::CONT).expect("ours");
    assert!(took < Duration::from_secs(2), "{took:?} for fifty requests");
    eventually("the store is used again", || (fleet.metric(0, "oncegate_limits_alone") == 0).then_some(()));
}

#[test]
fn a_loop_over_three_gateways_is_held_to_one_pace() {
    let fleet = Fleet::start(3, "limits = \"2/s burst 2\"\nhold_at_most = \"8s\"");
    let length = Duration::from_secs(8);
    let answers: Vec<(u16, Duration)> = thread::scope(|scope| {
        let loops: Vec<_> = fleet
            .gates
            .iter()
            .map(|gate| {
                let poller = Poller::new(gate.address, quick("loop"));
                scope.spawn(move || poller.run(length))
            })
            .collect();
        loops.into_iter().flat_map(|answers| answers.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|(status, _)| *status / 100 != 5 && *status != 429), "{answers:?}");
    // Two at once, then two a second, until the last of them is answered.
    let most = 2 + 2 * (length.as_secs() + 3);
    println!("{} answers, {most} allowed", answers.len());
    assert!(answers.len() as u64 <= most && answers.len() >= 14, "{}", answers.len());
    assert_eq!(fleet.backend.requests(), answers.len() as u64);
}
