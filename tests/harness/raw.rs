//! A backend of exact bytes: it keeps what arrived and answers what it was told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How long a connection waits for the rest of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listener; it serves one request a connection until the test ends.
pub struct RawBackend {
    /// Where it listens.
    pub address: SocketAddr,
    arrived: Receiver<Vec<u8>>,
}

/// What happens with a connection after its request was read.
pub type Script = fn(&mut TcpStream);

// === impl RawBackend ===

impl RawBackend {
    /// Reads each connection's request and hands the connection to `script`.
    pub fn start(script: Script) -> RawBackend {
        RawBackend::reading(usize::MAX, script)
    }

    /// The same, but reads no more than `limit` bytes before it runs `script`.
    pub fn reading(limit: usize, script: Script) -> RawBackend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, arrived) = sync_channel(1024);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let tell: SyncSender<Vec<u8>> = tell.clone();
                thread::spawn(move || serve(connection, limit, script, &tell));
            }
        });
        RawBackend { address, arrived }
    }

    /// The next request that arrived, in bytes.
    #[track_caller]
    pub fn next(&self) -> String {
        String::from_utf8_lossy(&self.arrived.recv_timeout(PATIENCE).expect("a request arrives")).into_owned()
    }

    /// What arrived that nobody has asked for.
    pub fn take(&self) -> Vec<Vec<u8>> {
        self.arrived.try_iter().collect()
    }

    /// How many requests arrived that nobody has asked for.
    pub fn waiting(&self) -> usize {
        self.arrived.try_iter().count()
    }
}

fn serve(mut connection: TcpStream, limit: usize, script: Script, tell: &SyncSender<Vec<u8>>) {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while request.len() < limit && !is_whole(&request) {
        let wanted = buffer.len().min(limit - request.len());
        match connection.read(&mut buffer[..wanted]) {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    // The test may be over: then nobody listens any more.
    if !request.is_empty() || limit == 0 {
        let _ = tell.send(request);
        script(&mut connection);
    }
}

/// Whether the head is there, and as much of a body as it announces.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    if head.lines().any(|line| line == "transfer-encoding: chunked") {
        return request.ends_with(b"0\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    request.len() >= end + 4 + length
}

/// Answers `200 OK` with a short body and closes.
pub fn ok(connection: &mut TcpStream) {
    let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
}

/// Bytes of the body of [`large`].
pub const LARGE: usize = 600_000;

/// Answers with more than what lies between the backend and a slow client.
pub fn large(connection: &mut TcpStream) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&[b'x'; LARGE]));
}

/// Resets the connection.
pub fn reset(connection: &mut TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO));
}
