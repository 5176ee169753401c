//! HTTP/2 by hand: frames as bytes, so that a test can send and see what no library would. Header blocks are written as
//! literals without any table, which every decoder reads.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The preface of a client.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection that speaks frames.
pub struct Wire {
    pub socket: TcpStream,
    came: Vec<u8>,
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![high, middle, low, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn said(settings: &[(u16, u32)]) -> Vec<u8> {
    let one = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    settings.iter().flat_map(one).collect()
}

/// A header block.
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, value);
    }
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).unwrap());
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    bytes.extend_from_slice(text);
}

/// The block of an ordinary request.
pub fn request(method: &str, path: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let fields = [
        (":method", method.as_bytes()),
        (":scheme", b"http"),
        (":authority", b"a"),
        (":path", path.as_bytes()),
    ];
    block(&[&fields[..], more].concat())
}

// === impl Frame ===

impl Frame {
    /// The status of an answer's head, where that is written as hyper writes it.
    pub fn status(&self) -> Option<u16> {
        match self.payload.first()? {
            0x88 => Some(200),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            _ => None,
        }
    }

    /// The error code of RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

// === impl Wire ===

impl Wire {
    /// Connects, and says what a client says first.
    pub fn connect(address: SocketAddr) -> Wire {
        Wire::with_settings(address, &[])
    }

    /// The same with settings of its own.
    pub fn with_settings(address: SocketAddr, settings: &[(u16, u32)]) -> Wire {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut wire = Wire { socket, came: Vec::new() };
        let settings = frame(SETTINGS, 0, 0, &said(settings));
        wire.send(&[PREFACE, &settings, &frame(SETTINGS, ACK, 0, &[])].concat()).unwrap();
        wire
    }

    /// The server's side of an accepted connection: reads the preface, and says its settings.
    pub fn accepted(mut socket: TcpStream, settings: &[(u16, u32)]) -> Result<Wire> {
        socket.set_nodelay(true)?;
        let mut preface = [0; PREFACE.len()];
        socket.read_exact(&mut preface)?;
        socket.write_all(&[frame(SETTINGS, 0, 0, &said(settings)), frame(SETTINGS, ACK, 0, &[])].concat())?;
        Ok(Wire { socket, came: Vec::new() })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next frame; `None` at the end, after an error, and where nothing comes within `patience`.
    pub fn next(&mut self, patience: Duration) -> Option<Frame> {
        let until = Instant::now() + patience;
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 16 << 10];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.came.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next frame that `wanted` wants; others are passed over.
    pub fn until(&mut self, patience: Duration, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let until = Instant::now() + patience;
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            let frame = self.next(left)?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Whether the other side ends the connection within `patience`; what still comes is passed over.
    pub fn ends(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.next(until.saturating_duration_since(Instant::now())).is_some() {}
        Instant::now() < until
    }

    fn parse(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.came.get(..9)?.try_into().unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if self.came.len() < 9 + length {
            return None;
        }
        let payload = self.came[9..9 + length].to_vec();
        self.came.drain(..9 + length);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}
