//! A backend that answers as a test says, and tells how often it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// Which one it is, from 1.
    pub number: usize,
}

/// What goes back: a head without framing, and a body.
pub struct Said {
    pub head: String,
    pub body: Vec<u8>,
    /// Sent instead of the body, by whoever wants to do it piece by piece.
    pub by_hand: Option<fn(&mut TcpStream)>,
}

type Script = dyn Fn(&Asked) -> Said + Send + Sync;

/// The listener; it serves until the test's process ends.
pub struct Scripted {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Asked>>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

// === impl Scripted ===

impl Scripted {
    /// Answers every request with what `script` makes of it.
    pub fn start(script: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let script: Arc<Script> = Arc::new(script);
        let shared = (asked.clone(), seen.clone(), gate.clone());
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (script, (asked, seen, gate)) = (script.clone(), shared.clone());
                thread::spawn(move || serve(connection, &*script, &asked, &seen, &gate));
            }
        });
        Scripted { address, asked, seen, gate }
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The requests that have arrived.
    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    /// From now on requests arrive and are not answered.
    pub fn hold(&self) {
        *self.gate.0.lock().unwrap() = false;
    }

    /// Those that wait are answered, and all later ones.
    pub fn release(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

// === impl Asked ===

impl Asked {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

// === impl Said ===

impl Said {
    /// 200 with these header lines (each ends with `\r\n`) and this body.
    pub fn ok(headers: &str, body: impl Into<Vec<u8>>) -> Said {
        Said::status(200, headers, body)
    }

    /// The same with another status.
    pub fn status(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Said {
        Said { head: format!("HTTP/1.1 {status} X\r\n{headers}"), body: body.into(), by_hand: None }
    }
}

fn serve(
    stream: TcpStream,
    script: &Script,
    asked: &AtomicUsize,
    seen: &Mutex<Vec<Asked>>,
    gate: &(Mutex<bool>, Condvar),
) {
    let _ = stream.set_nodelay(true);
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut reader) {
        request.number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        {
            let mut seen = seen.lock().unwrap();
            // A campaign is not kept whole.
            if seen.len() < 10_000 {
                seen.push(request.clone());
            }
        }
        let mut open = gate.0.lock().unwrap();
        while !*open {
            let (again, waited) = gate.1.wait_timeout(open, Duration::from_secs(20)).unwrap();
            open = again;
            if waited.timed_out() {
                return;
            }
        }
        drop(open);
        let said = script(&request);
        if let Some(by_hand) = said.by_hand {
            let _ = writer.write_all(said.head.as_bytes());
            by_hand(&mut writer);
            return;
        }
        let bodiless = request.method == "HEAD" || said.head.starts_with("HTTP/1.1 304");
        let length = if said.head.starts_with("HTTP/1.1 304") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", said.body.len())
        };
        let mut answer = format!("{}{length}\r\n", said.head).into_bytes();
        if !bodiless {
            answer.extend_from_slice(&said.body);
        }
        if writer.write_all(&answer).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let request = Asked { method, target, headers, number: 0 };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(request)
}
