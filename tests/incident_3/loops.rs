//! The loop itself: without the gate it floods, through it it is paced.

use super::*;

#[test]
fn without_the_gate_the_loop_asks_as_fast_as_the_backend_answers() {
    let backend = Backend::start();
    let length = length().min(Duration::from_secs(5));
    let answers = Poller::new(backend.address, page("loop")).run(length);
    let most = length.as_millis() / BACKEND.as_millis();
    assert!(answers.len() as u128 > most / 2, "{} of {most}", answers.len());
    assert_eq!(backend.requests(), answers.len() as u64);
}

#[test]
fn through_the_gate_the_loop_is_paced_without_an_error_and_a_neighbour_is_not() {
    let stand = Stand::with(throttled(LIMITS));
    let length = length();
    let neighbour = || {
        // Behind the same address, with another key, at a human's pace.
        let until = Instant::now() + length;
        let mut worst = Duration::ZERO;
        while Instant::now() + Duration::from_secs(3) < until {
            let asked = Instant::now();
            assert_eq!(stand.send(&page("neighbour")).status, 200);
            worst = worst.max(asked.elapsed());
            // Slower than the limits, so that nothing but its neighbour could hold it up.
            thread::sleep(Duration::from_millis(if length > Duration::from_secs(30) {
                6_500
            } else {
                2_500
            }));
        }
        worst
    };
    let (answers, worst) = thread::scope(|scope| {
        let neighbour = scope.spawn(neighbour);
        let answers = Poller::new(stand.gate.address, page("loop")).run(length);
        (answers, neighbour.join().unwrap())
    });
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert!(worst < Duration::from_secs(1), "a neighbour waited {worst:?}");
    // Three at once, then one every two seconds; over a minute ten, and one every six seconds.
    let seconds = length.as_secs() + 8;
    let most = (3 + seconds / 2).min(10 + seconds / 6) + 1;
    assert!(answers.len() as u64 <= most, "{} answers, {most} allowed", answers.len());
    let held = answers.iter().filter(|(_, took)| *took > Duration::from_millis(900)).count();
    assert!(held >= answers.len() - 4, "every poll past the burst waits for its turn: {answers:?}");
    let flood = length.as_millis() / BACKEND.as_millis();
    let less = 100 - 100 * answers.len() as u128 / flood;
    println!("{} backend requests in {length:?} instead of {flood}: {less}% less", answers.len());
    if length >= Duration::from_secs(60) {
        assert!(less >= 95, "{less}%");
        let storms = events(&stand, "poll-storm");
        assert_eq!(storms.len(), 1, "{storms:?}");
    }
}

#[test]
fn six_connections_share_each_turn_where_the_page_is_shared_with_everyone() {
    let shared =
        "coalesce = true\ncache = { ttl = \"2s\", stale_if_throttled = \"30s\", share = \"everyone\" }\n";
    let stand = Stand::with(routed("header:X-Api-Key", &format!("{shared}[route.throttle]\n{LIMITS}")));
    let length = length();
    let loops = thread::scope(|scope| {
        let start = |_| {
            let poller = Poller::new(stand.gate.address, page("loop"));
            scope.spawn(move || poller.run(length))
        };
        let pollers: Vec<_> = (0..6).map(start).collect();
        pollers.into_iter().map(|poller| poller.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(loops.iter().flatten().all(|(status, _)| *status == 200), "{loops:?}");
    let (answers, seconds) = (loops.iter().map(Vec::len).sum::<usize>(), length.as_secs() + 8);
    let turns = (3 + seconds / 2).min(10 + seconds / 6) + 1;
    for answers in &loops {
        assert!(answers.len() as u64 <= turns, "{} answers in {turns} turns: {answers:?}", answers.len());
    }
    let asked = stand.backend.requests();
    let flood = 6 * length.as_millis() / BACKEND.as_millis();
    let less = 100 - 100 * u128::from(asked) / flood;
    println!(
        "{asked} backend requests in {length:?} instead of {flood} ({less}% less) for {answers} answers"
    );
    assert!(asked <= turns, "{asked}");
    assert!(less >= 95, "{less}%");
    if length >= Duration::from_secs(60) {
        assert_eq!(events(&stand, "poll-storm").len(), 1);
    }
}

#[test]
fn equal_reads_in_hold_are_one_turn_and_one_call() {
    let stand =
        Stand::with(routed("header:X-Api-Key", "coalesce = true\n[route.throttle]\nlimits = \"1/2s\""));
    assert_eq!(stand.send(&page("k")).status, 200);
    let replies = crate::harness::at_once(stand.gate.address, &vec![page("k"); 8]);
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == replies[0].body), "{replies:?}");
    assert_eq!(stand.backend.requests(), 2);
    assert_eq!(metric(&stand, "oncegate_holds_total{end=\"turn\"}"), 1);
    assert_eq!(metric(&stand, "oncegate_holds_total{end=\"shared\"}"), 7);
}

#[test]
fn who_waits_in_vain_gets_the_copy_while_it_is_young_and_then_a_429() {
    let rules = "cache = { ttl = \"1ms\", stale_if_throttled = \"3s\" }\n[route.throttle]\nlimits = \"1/min\"\nhold_at_most = \"2s\"";
    let stand = Stand::with(routed("header:X-Api-Key", rules));
    let first = stand.send(&page("k"));
    let asked = Instant::now();
    let copy = stand.send(&page("k"));
    assert_eq!((copy.status, &copy.body), (200, &first.body));
    assert!(
        asked.elapsed() >= Duration::from_millis(1_900),
        "a copy at once would make the loop spin faster"
    );
    assert!(copy.header("cache-status").is_some_and(|status| status.contains("stale-if-throttled")));
    assert_problem(&stand.send(&page("k")), 429, "throttled");
    assert_eq!(stand.backend.requests(), 1);
}

#[test]
fn the_storm_is_told_once_and_names_who_what_and_how_often() {
    let stand = Stand::with(throttled("limits = \"2/s\"\nstorm = 5"));
    let pollers: Vec<_> = (0..3).map(|_| Poller::new(stand.gate.address, page("loop"))).collect();
    thread::scope(|scope| {
        for poller in pollers {
            scope.spawn(move || poller.run(Duration::from_secs(3)));
        }
    });
    let storms =
        eventually("the storm is told", || Some(events(&stand, "poll-storm")).filter(|it| !it.is_empty()));
    assert_eq!(storms.len(), 1, "{storms:?}");
    let storm = &storms[0];
    assert_eq!(
        (storm["template"].as_str(), storm["path"].as_str()),
        (Some("GET /professionals/**"), Some(PAGE))
    );
    assert_eq!((storm["route"].as_str(), storm["level"].as_str()), (Some("profile"), Some("WARN")));
    assert!(
        storm["client"].as_str().is_some_and(|client| client.starts_with("header:x-api-key:")),
        "{storm}"
    );
    assert!(!log(&stand).contains("\"loop\""), "no key in the log");
    assert_eq!(storm["source_ports"], 3);
    assert!(storm["reads_per_minute"].as_u64().is_some_and(|rate| rate > 60), "{storm}");
    assert!(storm["absorbed_percent"].is_u64(), "{storm}");
    assert_eq!(metric(&stand, "oncegate_events_total{event=\"poll-storm\"}"), 1);
}

#[test]
fn a_storm_on_a_route_without_limits_is_told_too() {
    let stand = Stand::with(Config { clients: "poll_storm = \"20/10s\"", ..Config::default() });
    for _ in 0..30 {
        assert_eq!(stand.send(&Call::new("GET", "/api/profiles/7")).status, 404);
    }
    let storms =
        eventually("the storm is told", || Some(events(&stand, "poll-storm")).filter(|it| !it.is_empty()));
    assert_eq!((storms.len(), storms[0]["reads"].as_u64()), (1, Some(20)), "{storms:?}");
    assert_eq!(storms[0]["client"], "127.0.0.1");
}

#[test]
fn a_client_that_leaves_its_turn_leaves_it_to_the_next() {
    let stand = Stand::with(throttled("limits = \"1/2s\"\nhold_at_most = \"9s\""));
    assert_eq!(stand.send(&page("k")).status, 200);
    // A page that gives up and asks again, as an effect with an AbortController does.
    for _ in 0..5 {
        let left = page("k").within(Duration::from_millis(100)).send(stand.gate.address);
        assert!(left.is_err(), "it is held");
    }
    let asked = Instant::now();
    assert_eq!(stand.send(&page("k")).status, 200);
    assert!(asked.elapsed() < Duration::from_millis(2_500), "{:?}", asked.elapsed());
    eventually("those who left are told", || {
        (metric(&stand, "oncegate_holds_total{end=\"client-left\"}") == 5).then_some(())
    });
    assert_eq!(stand.backend.requests(), 2, "nobody asked for those who left");
}

#[test]
fn a_drain_ends_every_hold() {
    let stand = Stand::with(Config {
        server: "drain = \"20s\"",
        ..throttled("limits = \"1/min\"\nhold_at_most = \"60s\"")
    });
    assert_eq!(stand.send(&page("k")).status, 200);
    let reply = thread::scope(|scope| {
        let held = scope.spawn(|| stand.send(&page("k")));
        eventually("it is held", || (metric(&stand, "oncegate_held") == 1).then_some(()));
        stand.terminate();
        held.join().unwrap()
    });
    assert_problem(&reply, 503, "draining");
}

#[test]
fn as_many_wait_as_may_and_the_next_is_told_at_once() {
    // Each at an address of its own: one address never has all that may wait.
    let clients = "identify_by = [\"header:X-Api-Key\"]\nheld_per_client = 2\nheld_max = 4\ntrusted_proxies = [\"127.0.0.1\"]";
    let page = |key: &str| page(key).header("X-Forwarded-For", &format!("192.0.2.{}", key.as_bytes()[0]));
    let stand = Stand::with(Config { clients, ..throttled("limits = \"1/min\"\nhold_at_most = \"4s\"") });
    for key in ["a", "b", "c", "d"] {
        assert_eq!(stand.send(&page(key)).status, 200);
    }
    let refused = |key: &str| {
        let asked = Instant::now();
        assert_problem(&stand.send(&page(key)), 429, "throttled");
        assert!(asked.elapsed() < Duration::from_secs(2), "{key} waited");
    };
    let held = |count: u64| {
        eventually("they are held", || (metric(&stand, "oncegate_held") == count).then_some(()));
    };
    thread::scope(|scope| {
        let stand = &stand;
        let hold = |key: &'static str| scope.spawn(move || stand.send(&page(key)));
        let mut waiting: Vec<_> = ["a", "a", "b"].map(hold).into();
        held(3);
        // There is room for one more, but not of this client.
        refused("a");
        waiting.push(hold("c"));
        held(4);
        refused("d");
        for reply in waiting {
            // Waited in vain: the limit gives a turn a minute.
            assert_problem(&reply.join().unwrap(), 429, "throttled");
        }
    });
    assert_eq!(metric(&stand, "oncegate_holds_total{end=\"full\"}"), 2);
    assert_eq!(metric(&stand, "oncegate_holds_total{end=\"over\"}"), 4);
}

#[test]
fn whoever_waited_in_vain_is_told_of_the_whole_line_at_its_cost() {
    let route = |name: &str, at_most: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nmatch = \"GET /{name}/**\"\nupstream = \"scheduler\"\n[route.throttle]\n\
             limits = \"1/2s burst 2\"\nbucket = \"pages\"\ncost = 2\nhold_at_most = \"{at_most}\"\n"
        )
    };
    let (routes, clients) = (route("long", "60s") + &route("short", "300ms"), "identify_by = [\"ip\"]");
    let stand = Stand::with(Config { routes: routes.leak(), clients, ..Config::default() });
    let get = |path: &str| Call::new("GET", path);
    assert_eq!(stand.send(&get("/long/0")).status, 404, "it is at the backend");
    let address = stand.gate.address;
    let told = thread::scope(|scope| {
        for path in ["/long/1", "/long/2"] {
            scope.spawn(move || Call::new("GET", path).within(Duration::from_secs(30)).send(address));
        }
        eventually("they are held", || (metric(&stand, "oncegate_held") == 2).then_some(()));
        let told = stand.send(&get("/short/3"));
        stand.terminate();
        told
    });
    assert_problem(&told, 429, "throttled");
    let seconds: u64 = told.header("retry-after").unwrap().parse().unwrap();
    assert!(
        (11..=15).contains(&seconds),
        "three turns of four seconds and the spread of refusals: {seconds}"
    );
}
