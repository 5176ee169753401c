//! The gateway end to end, in one process on loopback: one client connection, one request at a time. The time is that of
//! client, gateway and backend together, so it compares ways through the gateway with each other and with the backend
//! asked directly; against other proxies see `benches/side_by_side/run`.

use criterion::{Criterion, criterion_group, criterion_main};
use oncegate::config::{Policy, parse};
use oncegate::gateway::Gateway;
use oncegate::journal::Journal;
use oncegate::store::{Options, Place, Store};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const ANSWER: &str = r#"{"id":822,"status":"CONFIRMED","doctor":"d-17","date":"2025-06-02","slotIndex":5}"#;

/// A backend that answers every request at once; a thread a connection.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let answer = format!(
                    "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ANSWER}",
                    ANSWER.len()
                );
                let mut client = Client::of(connection);
                while client.read_message().is_some() && client.socket.write_all(answer.as_bytes()).is_ok() {}
            });
        }
    });
    address
}

/// One connection, with just enough HTTP/1.1.
struct Client {
    socket: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn of(socket: TcpStream) -> Client {
        socket.set_nodelay(true).expect("a socket");
        let reader = BufReader::new(socket.try_clone().expect("a socket"));
        Client { socket, reader }
    }

    fn to(address: SocketAddr) -> Client {
        Client::of(TcpStream::connect(address).expect("somebody listens"))
    }

    /// Reads a head and its body; `None` at the end of the connection.
    fn read_message(&mut self) -> Option<String> {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let begin = head.len();
            if self.reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
            let line = &head[begin..];
            if line == "\r\n" {
                break;
            }
            if let Some(("content-length", value)) = line.to_ascii_lowercase().split_once(": ") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).ok()?;
        Some(head)
    }

    fn ask(&mut self, request: &str) -> String {
        self.socket.write_all(request.as_bytes()).expect("the gateway reads");
        self.read_message().expect("an answer")
    }
}

fn post(note: u64) -> String {
    let body = format!(
        r#"{{"clinicId":"c-4","doctor":"d-17","date":"2025-06-02","slotIndex":5,"patient":{{"name":"王小明"}},"note":{note}}}"#
    );
    format!(
        "POST /api/bookings HTTP/1.1\r\nHost: clinic\r\nAuthorization: Bearer abc\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A gateway before `backend`, on a store at `place`.
fn gateway(backend: SocketAddr, place: Place) -> Gateway {
    let text = format!(
        "upstream = [{{ name = \"s\", url = \"http://{backend}\" }}]\n[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
         [[route]]\nname = \"book\"\nmatch = \"POST /api/bookings\"\nupstream = \"s\"\n\
         idempotency = {{ remember = \"1m\", remember_fingerprint = \"1m\" }}\n\
         [[route]]\nname = \"rest\"\nmatch = \"* /**\"\nupstream = \"s\"\n[store]\nrecords_per_scope = 100000000\n"
    );
    let loaded = parse(&text, Path::new("."), &|_| None).expect("a valid configuration");
    let options = Options { place, secret: None, memory_max: 256 << 20, records_max: 100_000_000 };
    let store = Arc::new(Store::open(options).expect("a store"));
    let journal = Journal::new(vec!["book".into(), "rest".into()], vec!["s".into()], false);
    Gateway::start(Arc::new(Policy::compile(loaded.config)), store, journal).expect("a gateway")
}

fn exchanges(criterion: &mut Criterion) {
    let backend = backend();
    let get = "GET /api/things/17 HTTP/1.1\r\nHost: clinic\r\nAccept: */*\r\n\r\n";
    let mut group = criterion.benchmark_group("gateway");
    let mut direct = Client::to(backend);
    group.bench_function("GET, backend alone", |bench| bench.iter(|| direct.ask(get)));
    let directory = tempfile::tempdir().expect("a directory");
    let places = [("memory", Place::Memory), ("file", Place::Directory(directory.path().to_owned()))];
    for (name, place) in places {
        let gateway = gateway(backend, place);
        let mut client = Client::to(gateway.addresses()[0]);
        if name == "memory" {
            group.bench_function("GET, passed on", |bench| bench.iter(|| client.ask(get)));
        }
        let mut note = 0;
        group.bench_function(format!("POST, executed, {name}"), |bench| {
            bench.iter(|| {
                note += 1;
                client.ask(&post(note))
            });
        });
        let copy = post(0);
        client.ask(&copy);
        group.bench_function(format!("POST, replayed, {name}"), |bench| {
            bench.iter(|| {
                let head = client.ask(&copy);
                assert!(head.contains("Idempotent-Replayed: true"), "{head}");
            });
        });
        drop(client);
        gateway.drain(Duration::from_secs(1));
    }
    group.finish();
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
