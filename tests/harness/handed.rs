//! A backend that does nothing by itself: it hands each connection, with the head that came on it, to the test.

use super::Config;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// The backend, as long as the test lives.
pub struct Handed {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections with their first heads.
    pub connections: Receiver<(String, TcpStream)>,
}

// === impl Handed ===

impl Handed {
    /// Starts it.
    pub fn start() -> Handed {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, connections): (SyncSender<_>, _) = sync_channel(64);
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                connection.set_read_timeout(Some(PATIENCE)).unwrap();
                connection.set_nodelay(true).unwrap();
                let head = head(&mut connection);
                if tell.send((head, connection)).is_err() {
                    return;
                }
            }
        });
        Handed { address, connections }
    }

    /// The usual configuration, before this backend.
    pub fn config(&self) -> Config {
        Config { backend: Some(self.address), ..Config::default() }
    }

    /// The next connection.
    #[track_caller]
    pub fn next(&self) -> (String, TcpStream) {
        self.connections.recv_timeout(PATIENCE).expect("a request arrives")
    }
}

/// Reads up to the end of a head, byte by byte, so that nothing behind it is lost.
pub fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}
