use super::backend::{Asked, Said, Scripted};
use super::{Stand, counted};
use crate::harness::{Call, Reply, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const ROUTE: &str = "coalesce = true";

/// A nonce a call, so that a shared answer is seen to be one.
fn nonce(asked: &Asked) -> Said {
    Said::ok("X-Nonce: 1\r\n", format!("nonce {}", asked.number))
}

fn calls(stand: &Stand, count: usize, call: &Call) -> Vec<thread::JoinHandle<std::io::Result<Reply>>> {
    let address = stand.gate.address;
    let spawn = |_| {
        let call = call.clone();
        thread::Builder::new().stack_size(128 << 10).spawn(move || call.send(address)).unwrap()
    };
    (0..count).map(spawn).collect()
}

fn waiting(stand: &Stand) -> u64 {
    stand.figure("oncegate_coalesce_waiting ")
}

#[test]
fn a_thousand_equal_reads_at_once_are_one_call() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, ROUTE, "");
    backend.hold();
    let clients =
        calls(&stand, 1000, &Call::new("GET", "/a").header("Host", "h").within(Duration::from_secs(30)));
    eventually("all but one wait", || (waiting(&stand) == 999).then_some(()));
    assert_eq!(backend.count(), 1);
    backend.release();
    for client in clients {
        let reply = client.join().unwrap().unwrap();
        assert_eq!((reply.status, reply.text()), (200, "nonce 1".into()));
    }
    assert_eq!(backend.count(), 1);
    assert_eq!(stand.decided("coalesced"), 999);
}

#[test]
fn those_who_wait_get_the_whole_answer_although_the_first_client_has_left() {
    let backend = Scripted::start(|asked| match asked.number {
        1 => Said {
            by_hand: Some(|stream| {
                for _ in 0..20 {
                    let _ = stream.write_all(b"5\r\nabcde\r\n");
                    thread::sleep(Duration::from_millis(20));
                }
                let _ = stream.write_all(b"0\r\n\r\n");
            }),
            ..Said::ok("Transfer-Encoding: chunked\r\n\r\n", "")
        },
        _ => nonce(asked),
    });
    let stand = Stand::new(backend.address, ROUTE, "");
    backend.hold();
    let mut first = TcpStream::connect(stand.gate.address).unwrap();
    first.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    eventually("the first call is under way", || (backend.count() == 1).then_some(()));
    let clients = calls(&stand, 3, &Call::new("GET", "/a").header("Host", "h"));
    eventually("the others wait", || (waiting(&stand) == 3).then_some(()));
    backend.release();
    let mut begun = [0; 16];
    first.read_exact(&mut begun).unwrap();
    drop(first);
    for client in clients {
        let reply = client.join().unwrap().unwrap();
        assert_eq!((reply.status, reply.text()), (200, "abcde".repeat(20)));
    }
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_first_client_that_leaves_before_the_answer_began_takes_nothing_along() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, ROUTE, "");
    backend.hold();
    let mut first = TcpStream::connect(stand.gate.address).unwrap();
    first.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    eventually("the first call is under way", || (backend.count() == 1).then_some(()));
    let clients = calls(&stand, 2, &Call::new("GET", "/a").header("Host", "h"));
    eventually("the others wait", || (waiting(&stand) == 2).then_some(()));
    drop(first);
    eventually("the gateway has noticed", || (stand.decided("client-left") == 1).then_some(()));
    backend.release();
    for client in clients {
        assert_eq!(client.join().unwrap().unwrap().text(), "nonce 1");
    }
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_leaders_failure_reaches_nobody_else() {
    let backend = Scripted::start(|asked| match asked.number {
        1 => Said {
            by_hand: Some(|stream| drop(stream.shutdown(std::net::Shutdown::Both))),
            ..Said::ok("", "")
        },
        _ => {
            // Slow, so that all of the others are back before it ends.
            thread::sleep(Duration::from_millis(500));
            nonce(asked)
        }
    });
    let stand = Stand::new(backend.address, ROUTE, "");
    backend.hold();
    let clients = calls(&stand, 20, &Call::new("GET", "/a").header("Host", "h"));
    eventually("all but one wait", || (waiting(&stand) == 19).then_some(()));
    backend.release();
    let replies: Vec<Reply> = clients.into_iter().map(|client| client.join().unwrap().unwrap()).collect();
    let failed = replies.iter().filter(|reply| reply.status == 502).count();
    let answered = replies.iter().filter(|reply| reply.status == 200 && reply.text() == "nonce 2").count();
    assert_eq!((failed, answered), (1, 19), "one of them leads anew for all the others");
    assert_eq!(backend.count(), 2);
}

#[test]
fn answers_that_cannot_be_shared_are_asked_for_by_each() {
    for headers in [
        "Set-Cookie: s=1\r\n",
        "Cache-Control: no-store\r\n",
        "Vary: *\r\n",
        "Content-Type: text/event-stream\r\n",
    ] {
        let backend = Scripted::start(move |asked| Said::ok(headers, format!("nonce {}", asked.number)));
        let stand = Stand::new(backend.address, ROUTE, "");
        backend.hold();
        let clients = calls(&stand, 10, &Call::new("GET", "/a").header("Host", "h"));
        eventually("all but one wait", || (waiting(&stand) == 9).then_some(()));
        backend.release();
        let mut bodies: Vec<String> =
            clients.into_iter().map(|client| client.join().unwrap().unwrap().text()).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!((bodies.len(), backend.count()), (10, 10), "{headers}");
        // For a while nobody waits: a second call begins although the first is not answered.
        backend.hold();
        let clients = calls(&stand, 3, &Call::new("GET", "/a").header("Host", "h"));
        eventually("each goes by itself", || (backend.count() == 13).then_some(()));
        assert_eq!(waiting(&stand), 0);
        backend.release();
        clients.into_iter().for_each(|client| drop(client.join().unwrap().unwrap()));
    }
}

#[test]
fn an_answer_larger_than_the_limit_streams_to_its_client_and_the_others_go_themselves() {
    let backend = Scripted::start(|asked| {
        let fill = char::from(b'a' + u8::try_from(asked.number).unwrap());
        match asked.target.as_str() {
            "/sized" => Said::ok("", vec![fill as u8; 100_000]),
            _ => Said {
                by_hand: Some(|stream| {
                    for _ in 0..100 {
                        let _ = stream.write_all(b"3e8\r\n");
                        let _ = stream.write_all(&[b'x'; 1000]);
                        let _ = stream.write_all(b"\r\n");
                    }
                    let _ = stream.write_all(b"0\r\n\r\n");
                }),
                ..Said::ok("Transfer-Encoding: chunked\r\n\r\n", "")
            },
        }
    });
    let stand = Stand::new(backend.address, ROUTE, "[cache]\nanswer_limit = \"50KB\"");
    for target in ["/sized", "/chunked"] {
        let before = backend.count();
        backend.hold();
        let clients = calls(&stand, 4, &Call::new("GET", target).header("Host", "h"));
        eventually("all but one wait", || (waiting(&stand) == 3).then_some(()));
        backend.release();
        for client in clients {
            assert_eq!(client.join().unwrap().unwrap().body.len(), 100_000, "{target}");
        }
        assert_eq!(counted(&backend, before), 4, "{target}");
    }
}

#[test]
fn those_who_wait_go_themselves_where_the_answer_takes_longer_than_they_wait() {
    let backend = Scripted::start(|asked| match asked.number {
        1 => Said {
            by_hand: Some(|stream| {
                for _ in 0..25 {
                    let _ = stream.write_all(b"1\r\nx\r\n");
                    thread::sleep(Duration::from_millis(100));
                }
                let _ = stream.write_all(b"0\r\n\r\n");
            }),
            ..Said::ok("Transfer-Encoding: chunked\r\n\r\n", "")
        },
        _ => nonce(asked),
    });
    let stand = Stand::new(backend.address, "coalesce = true\ntimeout = \"1s\"", "");
    backend.hold();
    let clients = calls(&stand, 4, &Call::new("GET", "/a").header("Host", "h"));
    eventually("all but one wait", || (waiting(&stand) == 3).then_some(()));
    backend.release();
    let replies: Vec<Reply> = clients.into_iter().map(|client| client.join().unwrap().unwrap()).collect();
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    let own = replies.iter().filter(|reply| reply.text().starts_with("nonce ")).count();
    assert_eq!((own, backend.count()), (3, 4));
    assert!(replies.iter().any(|reply| reply.text() == "x".repeat(25)));
}

#[test]
fn the_first_client_gets_its_answer_as_it_comes() {
    let backend = Scripted::start(|_| Said {
        by_hand: Some(|stream| {
            let _ = stream.write_all(b"5\r\nfirst\r\n");
            thread::sleep(Duration::from_secs(2));
            let _ = stream.write_all(b"4\r\nlast\r\n0\r\n\r\n");
        }),
        ..Said::ok("Transfer-Encoding: chunked\r\n\r\n", "")
    });
    let stand = Stand::new(backend.address, ROUTE, "");
    let mut client = TcpStream::connect(stand.gate.address).unwrap();
    let began = Instant::now();
    client.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("first") {
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0);
        text += &String::from_utf8_lossy(&buffer[..count]);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    client.read_to_string(&mut text).unwrap();
    assert!(text.contains("last"), "{text}");
}

#[test]
fn reads_that_differ_in_anything_are_calls_of_their_own() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, ROUTE, "");
    backend.hold();
    let plain = Call::new("GET", "/a").header("Host", "h");
    let mut each = vec![
        plain.clone(),
        Call::new("GET", "/a?x").header("Host", "h"),
        Call::new("GET", "/a").header("Host", "g"),
    ];
    for (name, value) in [
        ("Authorization", "Bearer 1"),
        ("Authorization", "Bearer 2"),
        ("Cookie", "s=1"),
        ("X-Api-Key", "1"),
        ("Accept-Language", "de"),
        ("User-Agent", "x"),
        ("X-Anything", "1"),
    ] {
        each.push(plain.clone().header(name, value));
    }
    let clients: Vec<_> = each.iter().flat_map(|call| calls(&stand, 1, call)).collect();
    eventually("each has arrived", || (backend.count() == each.len()).then_some(()));
    assert_eq!(waiting(&stand), 0);
    backend.release();
    let mut bodies: Vec<String> =
        clients.into_iter().map(|client| client.join().unwrap().unwrap().text()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), each.len());
}
