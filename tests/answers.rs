//! Answers with two readings: no byte of them reaches the client, nothing they bring is taken for another answer, and a
//! guarded write that gets one is in doubt.

use crate::harness::{Call, Config, Reply, Stand, assert_problem, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// Stands in every answer that must not come through.
const MARK: &str = "poisoned";

/// A backend that answers each path with the bytes of a list, and keeps its connections open.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Request lines, each with the number of its connection.
    seen: Arc<Mutex<Vec<(usize, String)>>>,
}

/// What is written for one request, in pieces.
type Answer = Vec<Vec<u8>>;

impl Server {
    fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, tell, answer) = (connections.clone(), seen.clone(), Arc::new(answer));
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (tell, answer) = (tell.clone(), answer.clone());
                thread::spawn(move || {
                    connection.set_nodelay(true).unwrap();
                    while let Some(line) = request(&mut connection) {
                        tell.lock().unwrap().push((number, line.clone()));
                        for (at, piece) in
                            answer(line.split(' ').nth(1).unwrap_or_default()).iter().enumerate()
                        {
                            if at > 0 {
                                thread::sleep(Duration::from_millis(40));
                            }
                            if connection.write_all(piece).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Server { address, connections, seen }
    }

    fn before(&self) -> Stand {
        Stand::with(Config { backend: Some(self.address), server: "workers = 1", ..Config::default() })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Vec<(usize, String)> {
        self.seen.lock().unwrap().clone()
    }
}

/// Reads one request with its body; its first line.
fn request(connection: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if connection.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let length = text.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    connection.read_exact(&mut vec![0; length.unwrap_or(0)]).ok()?;
    text.lines().next().map(str::to_owned)
}

fn good() -> Answer {
    vec![b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood".to_vec()]
}

/// Heads and bodies that are read in two ways.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<String> = Vec::new();
    let lines = [
        "Content-Length: 8\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 8",
        "Content-Length: 8\r\nContent-Length: 8",
        "Content-Length: 8\r\nContent-Length: 0",
        "Content-Length: 0\r\ncontent-length: 8",
        "Content-Length: 8, 8",
        "Content-Length: +8",
        "Content-Length: 08",
        "Content-Length: 8 8",
        "Content-Length: 0x8",
        "Content-Length: 99999999999999999999",
        "Content-Length:",
        "Content-Length : 8",
        "Content-Length\t: 8",
        "Content_Length: 8",
        "Content-Length: 8\0",
        "Content-Length: \x0b8",
        "Content-Length:\r\n 8",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: \x0bchunked",
        "A: b\r\n c\r\nContent-Length: 8",
        "A: b\nContent-Length: 8",
        "A: b\rContent-Length: 8",
        "A: b\0\r\nContent-Length: 8",
        "A: \x01\r\nContent-Length: 8",
        "A b: c\r\nContent-Length: 8",
        ": b\r\nContent-Length: 8",
        "no colon\r\nContent-Length: 8",
        " A: b\r\nContent-Length: 8",
    ];
    corpus.extend(lines.iter().map(|lines| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{MARK}")));
    let bodies = [
        "8 \r\npoisoned\r\n0\r\n\r\n",
        "0x8\r\npoisoned\r\n0\r\n\r\n",
        "8;\r\npoisoned\r\n0\r\n\r\n",
        "8\npoisoned\n0\n\n",
        "7\r\npoisoned\r\n0\r\n\r\n",
        "9\r\npoisoned\r\n0\r\n\r\n",
        "-8\r\npoisoned\r\n0\r\n\r\n",
        "g\r\npoisoned\r\n0\r\n\r\n",
        "8\r\npoisoned\r\n0\r\nContent-Length: 8\r\n\r\n",
    ];
    corpus.extend(
        bodies.iter().map(|body| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")),
    );
    corpus.push(format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{MARK}\r\n0\r\n\r\n"));
    corpus.push(format!("<html>{MARK}</html>"));
    corpus.push(format!("\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{MARK}"));
    corpus.push(format!("HTTP/1.1 200 OK\nContent-Length: 8\n\n{MARK}"));
    corpus.push(format!("HTTP/2 200 OK\r\nContent-Length: 8\r\n\r\n{MARK}"));
    corpus.push(format!("HTTP/1.1 2000 OK\r\nContent-Length: 8\r\n\r\n{MARK}"));
    corpus.push(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n{MARK}"
    ));
    corpus.push(format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 8\r\n\r\n{MARK}"));
    corpus.push(format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX: {}\r\n\r\n{MARK}", "x".repeat(70_000)));
    corpus.push(format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n{}\r\n{MARK}", "X: y\r\n".repeat(101)));
    corpus.into_iter().map(String::into_bytes).collect()
}

/// A backend that answers `/bad/N` with the corpus, in pieces of `size`.
fn ambiguous(size: usize) -> Server {
    let corpus = corpus();
    Server::start(move |path| {
        match path.strip_prefix("/bad/").and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => {
                corpus[number].chunks(size.min(corpus[number].len())).map(<[u8]>::to_vec).collect()
            }
            None => good(),
        }
    })
}

#[test]
fn no_byte_of_an_answer_with_two_readings_reaches_the_client() {
    let server = ambiguous(usize::MAX);
    let stand = server.before();
    for number in 0..corpus().len() {
        let reply = stand.send(&Call::new("GET", &format!("/bad/{number}")));
        let shown = String::from_utf8_lossy(&corpus()[number]).chars().take(120).collect::<String>();
        assert_eq!(reply.status, 502, "{shown:?}: {}", reply.text());
        assert_problem(&reply, 502, "upstream-ambiguous");
        assert!(!reply.text().contains(MARK), "{shown:?}");
        let next = stand.send(&Call::new("GET", "/next"));
        assert_eq!((next.status, &*next.text()), (200, "good"), "after {shown:?}");
    }
    let seen = server.seen();
    for (connection, line) in seen.iter().filter(|(_, line)| line.contains("/bad/")) {
        let last = seen.iter().rfind(|(other, _)| other == connection).map(|(_, line)| line);
        assert_eq!(last, Some(line), "its connection is not used again");
    }
}

#[test]
fn nor_does_one_that_comes_in_pieces_beyond_a_head_that_is_sound() {
    // Heads that are sound by themselves pass when the body comes later; such an answer breaks off in the middle.
    let server = ambiguous(37);
    let stand = server.before();
    let corpus = corpus();
    for (number, answer) in corpus.iter().enumerate().filter(|(_, answer)| answer.len() < 200) {
        let mut stream = TcpStream::connect(stand.gate.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /bad/{number} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let reply = Reply::read(&mut stream, false, Instant::now() + PATIENCE);
        if let Ok(reply) = reply {
            assert_eq!(reply.status, 502, "{:?}: {}", String::from_utf8_lossy(answer), reply.text());
        }
        let next = stand.send(&Call::new("GET", "/next"));
        assert_eq!(next.text(), "good", "after {:?}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn bytes_that_nobody_asked_for_close_their_connection_before_they_are_taken_for_an_answer() {
    let poison = format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{MARK}").into_bytes();
    let half = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    let server = Server::start(move |path| match path {
        "/together" => vec![[good().concat(), poison.clone()].concat()],
        "/later" => vec![good().concat(), poison.clone()],
        "/half" => vec![[good().concat(), half.clone()].concat()],
        "/half-later" => vec![good().concat(), half.clone()],
        "/line" => vec![[good().concat(), b"\r\n".to_vec()].concat()],
        "/head" => vec![poison.clone()],
        "/no-content" => {
            vec![format!("HTTP/1.1 204 No Content\r\nContent-Length: 8\r\n\r\n{MARK}").into_bytes()]
        }
        "/not-modified" => {
            vec![b"HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n".to_vec(), MARK.into()]
        }
        _ => good(),
    });
    let stand = server.before();
    let cases =
        ["/together", "/later", "/half", "/half-later", "/line", "/head", "/no-content", "/not-modified"];
    for path in cases {
        let method = if path == "/head" { "HEAD" } else { "GET" };
        let before = server.connections();
        let reply = stand.send(&Call::new(method, path));
        assert!(matches!(reply.status, 200 | 204 | 304), "{path}: {}", reply.text());
        assert!(!reply.text().contains(MARK), "{path}: {}", reply.text());
        if path.ends_with("later") {
            thread::sleep(Duration::from_millis(150));
        }
        for _ in 0..3 {
            let next = stand.send(&Call::new("GET", "/next"));
            assert_eq!((next.status, &*next.text()), (200, "good"), "after {path}");
        }
        assert!(server.connections() > before || before == 0, "after {path} a fresh connection is used");
    }
}

#[test]
fn a_guarded_write_with_an_ambiguous_answer_is_in_doubt_and_not_sent_again() {
    let answer =
        format!("HTTP/1.1 201 Created\r\nContent-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n{MARK}");
    let server =
        Server::start(move |path| if path == "/api/book" { vec![answer.clone().into()] } else { good() });
    let stand = server.before();
    let call = Call::post("/api/book", "{}").header("Idempotency-Key", "a-key-of-its-own-and-long-enough");
    let first = stand.send(&call);
    assert_problem(&first, 502, "outcome-unknown");
    assert_eq!(first.json()["why"], "answer-ambiguous");
    assert_problem(&stand.send(&call), 409, "outcome-unknown");
    assert_eq!(server.seen().iter().filter(|(_, line)| line.contains("/api/book")).count(), 1);
    assert_eq!(stand.in_doubt().len(), 1);
}

#[test]
fn a_chunk_that_turns_out_bad_breaks_the_answer_off() {
    let server = Server::start(|path| match path {
        "/broken" => vec![
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n".to_vec(),
            format!("8 \r\n{MARK}\r\n0\r\n\r\n").into_bytes(),
        ],
        _ => good(),
    });
    let stand = server.before();
    let mut stream = TcpStream::connect(stand.gate.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /broken HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("good") && !text.contains(MARK) && !text.contains("\r\n0\r\n"), "{text}");
    assert_eq!(stand.send(&Call::new("GET", "/next")).text(), "good");
}

#[test]
fn interim_answers_come_through_to_clients_that_know_them() {
    let server = Server::start(|path| match path {
        "/hints" => vec![
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\n".to_vec(),
            b"HTTP/1.1 102 Processing\r\n\r\n".to_vec(),
            good().concat(),
        ],
        "/flood" => vec!["HTTP/1.1 102 Processing\r\n\r\n".repeat(40).into_bytes(), good().concat()],
        _ => good(),
    });
    let stand = server.before();
    let ask = |version: &str, path: &str| {
        let mut stream = TcpStream::connect(stand.gate.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.{version}\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = ask("1", "/hints");
    let heads: Vec<&str> = text.split("\r\n\r\n").collect();
    assert!(
        heads[0].starts_with("HTTP/1.1 103 ") && heads[0].contains("Link: </a.css>; rel=preload"),
        "{text}"
    );
    assert!(!heads[0].contains("Connection"), "{text}");
    assert!(heads[1].starts_with("HTTP/1.1 102 ") && heads[2].starts_with("HTTP/1.1 200 OK"), "{text}");
    assert_eq!(heads[3], "good");
    let old = ask("0", "/hints");
    assert!(old.contains(" 200 OK") && !old.contains(" 103 "), "{old}");
    assert!(ask("1", "/flood").contains("upstream-ambiguous"));
}

#[test]
fn what_only_looks_odd_passes() {
    let server = Server::start(|path| match path {
        "/reason" => vec![b"HTTP/1.1 299 As we say here\r\nContent-Length: 4\r\n\r\ngood".to_vec()],
        "/no-reason" => vec![b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\ngood".to_vec()],
        "/old" => vec![b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood".to_vec()],
        "/chunks" => vec![
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4;a=\"b\"\r\ngood\r\n0\r\n\r\n".to_vec(),
        ],
        "/head" => vec![b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n".to_vec()],
        "/none" => vec![b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()],
        "/same" => vec![b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec()],
        _ => good(),
    });
    let stand = server.before();
    for path in ["/reason", "/no-reason", "/old", "/chunks"] {
        let reply = stand.send(&Call::new("GET", path));
        assert_eq!(reply.text(), "good", "{path}");
    }
    let head = stand.send(&Call::new("HEAD", "/head"));
    assert_eq!((head.status, head.header("content-length")), (200, Some("44")));
    let none = stand.send(&Call::new("GET", "/none"));
    assert_eq!(
        (none.status, none.header("content-length"), none.header("transfer-encoding")),
        (204, None, None)
    );
    let same = stand.send(&Call::new("GET", "/same"));
    assert_eq!((same.status, same.header("etag")), (304, Some("\"a\"")));
    eventually("the server has seen all of them", || (server.seen().len() == 7).then_some(()));
}
