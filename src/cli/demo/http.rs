//! A blocking HTTP/1.1 client of one request a connection. The demo and the tests look at the gateway from outside
//! with it, so it is deliberately none of the gateway's own code, never sends anything twice, and tells an answer that
//! ended early from a whole one.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Request method.
    pub method: String,
    /// Origin-form target.
    pub target: String,
    /// Headers in their order and spelling. `Host` and `Content-Length` are added where they are missing.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// How long the whole exchange may take.
    pub deadline: Duration,
}

/// One whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers in their order and spelling.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

// === impl Call ===

impl Call {
    /// A request without headers and body, with ten seconds to end.
    pub fn new(method: &str, target: &str) -> Call {
        let deadline = Duration::from_secs(10);
        Call {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            deadline,
        }
    }

    /// A `POST` of a JSON text.
    pub fn post(target: &str, json: impl Into<Vec<u8>>) -> Call {
        Call::new("POST", target).header("Content-Type", "application/json").body(json)
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        self
    }

    /// The same with another deadline.
    pub fn within(self, deadline: Duration) -> Call {
        Call { deadline, ..self }
    }

    /// The bytes that go over the wire.
    pub fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let has = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !has("host") {
            head += &format!("Host: {address}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !has("content-length")
            && !has("transfer-encoding")
            && (!self.body.is_empty() || self.method == "POST")
        {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        head += "\r\n";
        [head.into_bytes(), self.body.clone()].concat()
    }

    /// Sends the request to `address` on a connection of its own and reads the whole answer.
    ///
    /// # Errors
    /// The connection's; `TimedOut` past the deadline; `UnexpectedEof` for an answer that ended early or never began.
    pub fn send(&self, address: SocketAddr) -> Result<Reply> {
        let until = Instant::now() + self.deadline;
        let mut stream = TcpStream::connect_timeout(&address, self.deadline)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.deadline))?;
        // A gateway may answer, and even close, before it has read everything: its answer counts.
        let written = stream.write_all(&self.bytes(address));
        match Reply::read(&mut stream, self.method == "HEAD", until) {
            Err(unread) => Err(written.err().unwrap_or(unread)),
            read => read,
        }
    }
}

// === impl Reply ===

impl Reply {
    /// Reads one answer from `stream`.
    ///
    /// # Errors
    /// As [`Call::send`].
    pub fn read(stream: &mut TcpStream, bodiless: bool, until: Instant) -> Result<Reply> {
        let mut source = Source { stream, read: Vec::new(), until };
        loop {
            let end = source.position(b"\r\n\r\n")?;
            let head = String::from_utf8_lossy(&source.take(end + 4)?).into_owned();
            let mut lines = head.trim_end().split("\r\n");
            let status =
                lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
            let status = status.ok_or_else(|| malformed("status line"))?;
            let headers = lines.filter_map(|line| line.split_once(':'));
            let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
            let mut reply = Reply { status, headers, body: Vec::new() };
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            if !bodiless && !matches!(status, 101 | 204 | 304) {
                reply.body = source.body(&reply)?;
            }
            return Ok(reply);
        }
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether the gateway marked the answer as a copy of a recorded one.
    pub fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What has been read of a connection and not been used yet.
struct Source<'a> {
    stream: &'a mut TcpStream,
    read: Vec<u8>,
    until: Instant,
}

impl Source<'_> {
    fn body(&mut self, reply: &Reply) -> Result<Vec<u8>> {
        if reply.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        match reply.header("content-length") {
            Some(length) => self.take(length.parse().map_err(|_| malformed("Content-Length"))?),
            None => {
                while self.more()? {}
                Ok(std::mem::take(&mut self.read))
            }
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.position(b"\r\n")?;
            let line = String::from_utf8_lossy(&self.take(end + 2)?).into_owned();
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed("chunk size"))?;
            if size == 0 {
                while self.position(b"\r\n")? != 0 {
                    let end = self.position(b"\r\n")?;
                    self.take(end + 2)?;
                }
                self.take(2)?;
                return Ok(body);
            }
            body.extend(self.take(size)?);
            self.take(2)?;
        }
    }

    fn position(&mut self, pattern: &[u8]) -> Result<usize> {
        loop {
            if let Some(at) = self.read.windows(pattern.len()).position(|window| window == pattern) {
                return Ok(at);
            }
            self.must_read()?;
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.read.len() < count {
            self.must_read()?;
        }
        let rest = self.read.split_off(count);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    fn must_read(&mut self) -> Result<()> {
        match self.more()? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::UnexpectedEof, "the answer ended early")),
        }
    }

    /// Reads once; false at the end of the connection.
    fn more(&mut self) -> Result<bool> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::TimedOut, "no whole answer before the deadline"));
        }
        if self.read.len() > ANSWER_BYTES_MAX {
            return Err(malformed("answer: too large"));
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Error::from(ErrorKind::TimedOut)),
            Err(error) => Err(error),
        }
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("malformed {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What the client makes of `bytes` followed by the end of the connection.
    fn read(bytes: &'static [u8]) -> Result<Reply> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("one connection");
            let mut head = [0; 4096];
            let _ = peer.read(&mut head).expect("a request");
            peer.write_all(bytes).expect("the answer");
        });
        let reply = Call::new("GET", "/").send(address);
        server.join().expect("server");
        reply
    }

    #[test]
    fn both_framings_give_the_same_body() {
        let sized = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").expect("whole");
        let chunked =
            read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: 1\r\n\r\n").expect("whole");
        assert_eq!((sized.body, chunked.body), (b"hello".to_vec(), b"hello".to_vec()));
    }

    #[test]
    fn interim_answers_are_passed_over() {
        assert_eq!(
            read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").expect("whole").status,
            204
        );
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        let cuts: [&[u8]; 4] = [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ];
        for cut in cuts {
            assert_eq!(read(cut).expect_err("cut off").kind(), ErrorKind::UnexpectedEof);
        }
    }
}
