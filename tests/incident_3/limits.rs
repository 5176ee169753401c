//! Limits from outside: what passes in a window, what a refused client is told, and who counts as whom.

use super::*;
use crate::harness::{Handed, RawBackend};
use std::io::{Read, Write};
use std::net::TcpStream;

/// What passed, as seconds from the first.
fn passed(stand: &Stand, call: &Call, length: Duration) -> Vec<f64> {
    let began = Instant::now();
    let mut poller = Poller::new(stand.gate.address, call.clone());
    let mut passed = Vec::new();
    while began.elapsed() < length {
        match poller.poll().status {
            429 => thread::sleep(Duration::from_millis(2)),
            status => {
                assert_ne!(status / 100, 5);
                passed.push(began.elapsed().as_secs_f64());
            }
        }
    }
    passed
}

fn quick(key: &str) -> Call {
    // A path that the backend answers without thinking.
    Call::new("GET", "/professionals").header("X-Api-Key", key)
}

#[test]
fn what_passes_in_any_window_is_burst_and_rate_and_not_less_by_more_than_one() {
    let stand = Stand::with(throttled("limits = \"10/s burst 5\"\nover = \"reject\""));
    let length = Duration::from_secs(4);
    let times = passed(&stand, &quick("k"), length);
    let (burst, interval) = (5.0, 0.1);
    // Times are taken when answers arrive, so each may be late by what the way back took.
    let late = 0.03;
    for (first, from) in times.iter().enumerate() {
        for (count, to) in times[first..].iter().enumerate() {
            let most = burst + ((to - from + late) / interval).floor();
            assert!((count + 1) as f64 <= most, "{} in {} s", count + 1, to - from);
        }
    }
    let least = burst + (length.as_secs_f64() / interval).floor() - 1.0;
    assert!(times.len() as f64 >= least - 1.0, "{} of {least}", times.len());
}

#[test]
fn a_client_that_obeys_is_never_refused_again() {
    let stand = Stand::with(throttled("limits = [\"2/s burst 3\", \"2/3s burst 5\"]\nover = \"reject\""));
    let until = Instant::now() + Duration::from_secs(8);
    let mut refused = 0;
    while Instant::now() < until {
        let reply = stand.send(&quick("k"));
        if reply.status == 429 {
            refused += 1;
            let seconds =
                reply.header("retry-after").and_then(|text| text.parse().ok()).expect("whole seconds");
            assert!((1..=4).contains(&seconds), "{seconds}");
            thread::sleep(Duration::from_secs(seconds));
            assert_ne!(stand.send(&quick("k")).status, 429, "it waited as it was told");
        }
    }
    assert!(refused >= 2, "{refused}");
}

#[test]
fn the_refusal_names_the_policy_and_the_wait_and_a_page_can_read_it() {
    let stand = Stand::with(throttled(
        "limits = [\"1/2s burst 2\", \"2/min\"]\nover = \"reject\"\nx_ratelimit = true",
    ));
    let call = quick("k").header("Origin", "https://app.example");
    let first = stand.send(&call);
    assert_eq!(first.header("ratelimit"), Some("\"profile:2/min\";r=1;t=30"));
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"profile:1/2s burst 2\";q=2;w=4, \"profile:2/min\";q=2;w=60")
    );
    stand.send(&call);
    let refused = stand.send(&call);
    assert_problem(&refused, 429, "throttled");
    let problem = refused.json();
    assert_eq!(problem["policy"], "profile");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("2/min")), "{problem}");
    let wait = refused.header("retry-after").expect("when to come back").parse::<u64>().unwrap();
    assert!((30..=39).contains(&wait), "{wait}");
    assert_eq!(problem["retry_after"], wait);
    assert_eq!(refused.header("ratelimit"), Some("\"profile:2/min\";r=0;t=30"));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    let exposed = refused.header("access-control-expose-headers").expect("exposed");
    assert!(
        ["RateLimit", "RateLimit-Policy", "Retry-After"].iter().all(|name| exposed.contains(name)),
        "{exposed}"
    );
    let told = eventually("it is told", || events(&stand, "throttled").into_iter().next());
    assert_eq!((told["limit"].as_str(), told["route"].as_str()), (Some("2/min"), Some("profile")));
}

#[test]
fn a_refusal_says_the_same_in_every_version_and_to_head() {
    let stand = Stand::with(throttled("limits = \"1/min\"\nover = \"reject\""));
    assert_ne!(stand.send(&quick("k")).status, 429);
    let url = format!("http://{}/professionals", stand.gate.address);
    // The names in a refusal's head, and what its body says but for the seconds and the request's id.
    let refused = |how: &[&str]| {
        let answer =
            curl(&[how, &["--header", "X-Api-Key: k", "--header", "X-Request-Id: a-1", &url]].concat());
        assert_eq!(answer.status, 429, "{answer:?}");
        let (head, body) = answer.text.split_once("\r\n\r\n").expect("a head");
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let lines = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let lines: BTreeMap<String, String> = lines.collect();
        assert_eq!(lines["x-request-id"], "a-1", "{head}");
        assert_eq!(lines["cache-control"], "no-store", "{head}");
        assert_eq!(lines["content-type"], "application/problem+json", "{head}");
        assert!(lines["content-length"].parse::<usize>().is_ok_and(|length| length > 100), "{head}");
        if let Ok(problem) = serde_json::from_str::<serde_json::Value>(body) {
            assert_eq!(lines["content-length"], body.len().to_string());
            assert_eq!((&problem["request_id"], &problem["policy"]), (&"a-1".into(), &"profile".into()));
            assert_eq!(lines["retry-after"], problem["retry_after"].to_string());
        } else {
            assert_eq!((how, body), (&["--head"][..], ""));
        }
        lines.into_keys().filter(|name| !["date", "connection"].contains(&&**name)).collect::<Vec<_>>()
    };
    let expected = refused(&["--http1.1"]);
    assert!(expected.contains(&"ratelimit-policy".to_owned()) && expected.contains(&"via".to_owned()));
    for how in ["--http2-prior-knowledge", "--http1.0", "--head"] {
        assert_eq!(refused(&[how]), expected, "{how}");
    }
}

#[test]
fn a_preflight_and_whoever_is_allowed_never_count() {
    let rules = "[route.throttle]\nlimits = \"1/min\"\nover = \"reject\"";
    let routes = format!(
        "[[route]]\nname = \"all\"\nmatch = \"* /professionals/**\"\nupstream = \"scheduler\"\n{rules}\n"
    );
    let stand = Stand::with(Config { routes: routes.leak(), ..Config::default() });
    for _ in 0..20 {
        assert_ne!(stand.send(&Call::new("OPTIONS", PAGE).header("Origin", "https://a.example")).status, 429);
    }
    assert_eq!(stand.send(&page("k")).status, 200);
    assert_problem(&stand.send(&page("k")), 429, "throttled");

    let stand = Stand::with(throttled("limits = \"1/min\"\nover = \"reject\"\nallow = [\"127.0.0.0/8\"]"));
    assert!((0..20).all(|_| stand.send(&quick("k")).status != 429));
}

#[test]
fn above_the_hard_limit_nobody_waits() {
    let stand = Stand::with(throttled("limits = \"1/2s\"\nhold_at_most = \"9s\"\nhard = \"3/min\""));
    assert_eq!(stand.send(&page("k")).status, 200);
    let replies = thread::scope(|scope| {
        let asked: Vec<_> =
            (0..6).map(|_| scope.spawn(|| (stand.send(&page("k")).status, Instant::now()))).collect();
        asked.into_iter().map(|reply| reply.join().unwrap().0).collect::<Vec<_>>()
    });
    let refused = replies.iter().filter(|status| **status == 429).count();
    assert_eq!((refused, replies.len()), (4, 6), "three came within the hard limit: {replies:?}");
}

#[test]
fn paths_count_in_their_normal_form_and_without_query_and_parameters() {
    let stand = Stand::with(throttled("limits = \"2/min\"\nper = \"client+resource\"\nover = \"reject\""));
    let ask = |target: &str| stand.send(&Call::new("GET", target).header("X-Api-Key", "k")).status;
    assert_ne!((ask("/professionals/1"), ask("/professionals//1/?_=1")), (429, 429));
    for target in [
        "/professionals/1?_=2",
        "/professionals/x/../1",
        "/professionals/%31",
        "/professionals/1/",
        "/professionals/1;a=1",
        "/professionals/1;a=2/",
    ] {
        assert_eq!(ask(target), 429, "{target}");
    }
    assert_eq!(ask("/professionals/2"), 200, "another resource");
}

#[test]
fn a_spoofed_address_changes_nothing() {
    let stand = Stand::with(routed("ip", "[route.throttle]\nlimits = \"3/min\"\nover = \"reject\""));
    let statuses: Vec<u16> = (0..12)
        .map(|n| {
            let call = Call::new("GET", "/professionals").header("X-Forwarded-For", &format!("192.0.2.{n}"));
            let call =
                call.header("Forwarded", &format!("for=198.51.100.{n}")).header("X-Real-IP", "10.0.0.1");
            stand.send(&call).status
        })
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status != 429).count(), 3, "{statuses:?}");
}

#[test]
fn behind_a_trusted_proxy_spellings_of_one_address_are_one_client() {
    let config = routed("ip", "[route.throttle]\nlimits = \"3/min\"\nover = \"reject\"");
    let clients = "identify_by = [\"ip\"]\ntrusted_proxies = [\"127.0.0.1\"]";
    let stand = Stand::with(Config { clients, ..config });
    let ask = |hops: &str| {
        stand.send(&Call::new("GET", "/professionals").header("X-Forwarded-For", hops)).status != 429
    };
    let spellings =
        ["192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7:4711", "[::ffff:192.0.2.7]:80", "10.9.9.9, 192.0.2.7"];
    assert_eq!(spellings.map(ask), [true, true, true, false, false]);
    let household =
        ["2001:db8:1:2::1", "[2001:db8:1:2:aaaa::2]:443", "2001:db8:1:2:3:4:5:6%eth0", "2001:db8:1:2::ffff"];
    assert_eq!(household.map(ask), [true, true, true, false]);
    assert!(ask("2001:db8:1:3::1") && ask("192.0.2.8"));
}

#[test]
fn invented_keys_meet_the_umbrella_of_their_address() {
    let clients = "identify_by = [\"header:X-Api-Key\", \"ip\"]\numbrella = 4";
    let stand = Stand::with(Config { clients, ..throttled("limits = \"2/min\"\nover = \"reject\"") });
    let statuses: Vec<u16> = (0..20).map(|n| stand.send(&quick(&format!("invented-{n}"))).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status != 429).count(), 8, "{statuses:?}");
    let refused = stand.send(&quick("one-more"));
    let left = refused.header("ratelimit").unwrap_or_default();
    assert!(left.contains(";r=0;t="), "a key that was never used has nothing left either: {left}");
    let refused = refused.json();
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("address")), "{refused}");
}

#[test]
fn a_client_has_so_many_in_flight_and_its_neighbours_are_not_behind_it() {
    let stand = Stand::with(routed(
        "header:X-Api-Key",
        "[route.concurrency]\nper_client = 2\nqueue = 3\nwait = \"5s\"",
    ));
    let (busy, other) = thread::scope(|scope| {
        let busy: Vec<_> = (0..8).map(|_| scope.spawn(|| stand.send(&page("busy")))).collect();
        eventually("it is busy", || {
            (metric(&stand, "oncegate_upstream_in_flight{upstream=\"scheduler\"}") >= 2).then_some(())
        });
        let asked = Instant::now();
        assert_eq!(stand.send(&page("other")).status, 200);
        let other = asked.elapsed();
        (busy.into_iter().map(|reply| reply.join().unwrap()).collect::<Vec<_>>(), other)
    });
    assert!(other < BACKEND * 5, "{other:?}");
    let refused: Vec<_> = busy.iter().filter(|reply| reply.status != 200).collect();
    assert_eq!(refused.len(), 3, "two fly, three wait");
    refused.iter().for_each(|reply| assert_problem(reply, 429, "too-many-in-flight"));
}

#[test]
fn what_goes_on_at_the_backend_after_its_client_has_left_is_in_flight() {
    const ONE: &str = "concurrency = { per_client = 1, queue = 0 }";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let routes: &str = Box::leak(Box::new(format!(
        "[[route]]\nname = \"kept\"\nmatch = \"GET /kept/**\"\nupstream = \"scheduler\"\ncache = {{ ttl = \"1s\" }}\n{ONE}\n
[[route]]\nname = \"shared\"\nmatch = \"GET /shared/**\"\nupstream = \"scheduler\"\ncoalesce = true\n{ONE}\n
[[route]]\nname = \"writes\"\nmatch = \"POST /writes/**\"\nupstream = \"scheduler\"\nidempotency = {{}}\n{ONE}\n
[[route]]\nname = \"plain\"\nmatch = \"DELETE /plain/**\"\nupstream = \"scheduler\"\n{ONE}\n"
    )));
    let backend = Handed::start();
    let stand = Stand::with(Config { routes, ..backend.config() });
    for (method, route) in [("GET", "kept"), ("GET", "shared"), ("POST", "writes"), ("DELETE", "plain")] {
        let call = |n: u32| Call::new(method, &format!("/{route}/{n}"));
        let mut client = TcpStream::connect(stand.gate.address).unwrap();
        client.write_all(&call(1).bytes(stand.gate.address)).unwrap();
        let (_, mut asked) = backend.next();
        drop(client);
        let left = format!("oncegate_requests_total{{route=\"{route}\",decision=\"client-left\"}}");
        eventually("the gateway has noticed", || (metric(&stand, &left) == 1).then_some(()));
        assert_problem(&stand.send(&call(2)), 429, "too-many-in-flight");
        assert!(backend.connections.try_recv().is_err(), "{route}: one at a time");

        asked.write_all(OK).unwrap();
        drop(asked);
        thread::scope(|scope| {
            let next = scope.spawn(|| {
                eventually("the place is free", || {
                    Some(stand.send(&call(3))).filter(|reply| reply.status != 429)
                })
            });
            backend.next().1.write_all(OK).unwrap();
            assert_eq!(next.join().unwrap().status, 200, "{route}");
        });
    }
}

#[test]
fn an_upstreams_queue_is_fair_among_clients() {
    let upstream = "max_in_flight = 1\nqueue = 50\nqueue_wait = \"20s\"";
    let stand = Stand::with(Config { upstream, ..routed("header:X-Api-Key", "") });
    thread::scope(|scope| {
        let greedy: Vec<_> = (0..20).map(|_| scope.spawn(|| stand.send(&page("greedy")).status)).collect();
        let waiting = "oncegate_upstream_waiting{upstream=\"scheduler\"}";
        eventually("many wait", || (metric(&stand, waiting) >= 15).then_some(()));
        let asked = Instant::now();
        assert_eq!(stand.send(&page("modest")).status, 200);
        assert!(asked.elapsed() < BACKEND * 8, "waited {:?} behind somebody else's twenty", asked.elapsed());
        assert!(greedy.into_iter().all(|reply| reply.join().unwrap() == 200));
    });
}

#[test]
fn observing_refuses_nobody_and_says_what_it_would_have_done() {
    let config = routed("ip", "mode = \"observe\"\n[route.throttle]\nlimits = \"2/min\"");
    let stand = Stand::with(config);
    let asked = Instant::now();
    assert!((0..5).all(|_| stand.send(&Call::new("GET", PAGE)).status == 200));
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(metric(&stand, "oncegate_requests_total{route=\"profile\",decision=\"would-hold\"}"), 3);
    assert_eq!(metric(&stand, "oncegate_requests_total{route=\"profile\",decision=\"passed\"}"), 2);
}

#[test]
fn observing_tells_clients_nothing_and_leaves_what_the_backend_says() {
    let backend = RawBackend::start(|connection| {
        let answer =
            "HTTP/1.1 200 OK\r\nConnection: close\r\nRateLimit: \"own\";r=5\r\nContent-Length: 2\r\n\r\nok";
        let _ = connection.write_all(answer.as_bytes());
    });
    let config = routed("ip", "mode = \"observe\"\n[route.throttle]\nlimits = \"1/min\"\nx_ratelimit = true");
    let stand = Stand::with(Config { backend: Some(backend.address), ..config });
    for _ in 0..2 {
        let reply = stand.send(&Call::new("GET", PAGE));
        assert_eq!((reply.status, reply.header("ratelimit")), (200, Some("\"own\";r=5")));
        assert_eq!((reply.header("ratelimit-policy"), reply.header("x-ratelimit-limit")), (None, None));
    }
}

/// A refusal is decided as soon as its request was read. That may be while the end of the answer before it still waits for its
/// client: where a backend answered before it had the whole upload.
#[test]
fn a_refusal_stands_whole_behind_an_answer_that_waits_for_its_client() {
    // More than the two sockets take of it, less than the gate does.
    const LARGE: usize = 300 << 10;
    let backend = RawBackend::reading(1, |connection| {
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n");
        let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&vec![b'x'; LARGE]));
        // Whoever closes with something unread resets the connection.
        let _ = connection.read_to_end(&mut Vec::new());
    });
    let limits = throttled("limits = \"1/min\"\nover = \"reject\"");
    let stand = Stand::with(Config { backend: Some(backend.address), ..limits });
    assert_eq!(stand.send(&quick("k")).status, 200);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    socket.connect(&stand.gate.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n012345678").unwrap();
    // By then the gate has all of the answer; where it has not, nothing is shown, and nothing fails.
    thread::sleep(Duration::from_millis(300));
    let behind = quick("k").header("Connection", "close").bytes(stand.gate.address);
    stream.write_all(&[b"9", &behind[..]].concat()).unwrap();
    thread::sleep(Duration::from_millis(300));
    let mut came = Vec::new();
    let ended = stream.read_to_end(&mut came);
    assert!(
        ended.is_ok(),
        "{ended:?} after {} bytes: {}",
        came.len(),
        String::from_utf8_lossy(&came[came.len().saturating_sub(600)..])
    );
    let text = String::from_utf8(came).expect("text");
    let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.to_lowercase().contains("x-request-id: "), "{head}");
    assert!(rest.len() > LARGE && rest.bytes().take(LARGE).all(|byte| byte == b'x'), "{} bytes", rest.len());
    let (head, body) = rest[LARGE..].split_once("\r\n\r\n").expect("another head");
    let names = head.to_lowercase();
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert!(names.contains("retry-after: ") && names.contains("x-request-id: "), "{head}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON")["status"], 429);
}

#[test]
fn clients_that_one_address_invents_have_one_turn_before_a_full_backend() {
    let upstream = "max_in_flight = 1\nqueue = 50\nqueue_wait = \"20s\"";
    let clients = "identify_by = [\"header:X-Api-Key\", \"ip\"]\ntrusted_proxies = [\"127.0.0.1\"]";
    let stand = Stand::with(Config { upstream, clients, ..routed("header:X-Api-Key", "") });
    let asks = |key: &str, address: &str| stand.send(&page(key).header("X-Forwarded-For", address)).status;
    let asks = &asks;
    thread::scope(|scope| {
        let invented: Vec<_> =
            (0..20).map(|n| scope.spawn(move || asks(&format!("invented-{n}"), "192.0.2.1"))).collect();
        let waiting = "oncegate_upstream_waiting{upstream=\"scheduler\"}";
        eventually("many wait", || (metric(&stand, waiting) >= 15).then_some(()));
        let asked = Instant::now();
        assert_eq!(asks("modest", "192.0.2.2"), 200);
        assert!(asked.elapsed() < BACKEND * 8, "waited {:?} behind somebody else's twenty", asked.elapsed());
        assert!(invented.into_iter().all(|reply| reply.join().unwrap() == 200));
    });
}
