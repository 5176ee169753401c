//! The bytes of an HTTP/2 connection to a server, below hyper: how many requests have begun to leave, and whether anything
//! comes. hyper takes a request that the server has no room for and keeps it, also after its exchange was given up; only here
//! can be seen whether it has left, and only here can it be kept back.

use crate::gateway::socket::Socket;
use std::cell::Cell;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// What a connection's bytes and its exchanges tell each other.
#[derive(Default)]
pub(super) struct Traffic {
    begun: Cell<u64>,
    came: Cell<u64>,
    sealed: Cell<bool>,
    news: Notify,
}

/// A server's socket whose frames are followed.
pub(super) struct TrunkStream {
    socket: Socket,
    leaving: Leaving,
    traffic: Rc<Traffic>,
}

/// Where the bytes that leave are in their frames.
#[derive(Clone, Debug)]
struct Leaving {
    state: State,
    /// The last stream that began.
    last: u32,
}

#[derive(Clone, Debug)]
enum State {
    /// So many bytes of the preface or of a frame are still to leave.
    Passing(usize),
    /// So many bytes of a frame's head have left.
    Head([u8; HEAD_BYTES], usize),
}

/// What a client says first.
const PREFACE_BYTES: usize = 24;
/// A frame's own head.
const HEAD_BYTES: usize = 9;
/// The type of a frame that begins a stream.
const HEADERS: u8 = 1;

// === impl Traffic ===

impl Traffic {
    /// How many streams have begun: something of their requests' heads has left. One that was passed over counts as well,
    /// because it can begin no more.
    pub fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// Grows whenever something comes.
    pub fn came(&self) -> u64 {
        self.came.get()
    }

    /// From now on no further stream may begin. A request that hyper still keeps never leaves: its head ends the connection
    /// in its place.
    pub fn seal(&self) {
        self.sealed.set(true);
    }

    /// See [`Traffic::seal`].
    pub fn is_sealed(&self) -> bool {
        self.sealed.get()
    }

    /// Resolves when something has come, or the connection has ended.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// See [`Traffic::news`].
    pub fn tell(&self) {
        self.news.notify_one();
    }
}

// === impl TrunkStream ===

impl TrunkStream {
    /// Wraps the socket of a connection that begins.
    pub fn new(socket: Socket, traffic: Rc<Traffic>) -> TrunkStream {
        TrunkStream { socket, leaving: Leaving::new(), traffic }
    }

    /// Whether a stream would begin that must not.
    fn is_barred(&self, slices: &[IoSlice<'_>]) -> bool {
        self.traffic.is_sealed() && {
            let mut ahead = self.leaving.clone();
            slices.iter().any(|slice| ahead.follow(slice) > 0)
        }
    }

    fn left(&mut self, slices: &[IoSlice<'_>], mut count: usize) {
        for slice in slices {
            let part = count.min(slice.len());
            self.leaving.follow(&slice[..part]);
            count -= part;
        }
        // A client's streams have odd numbers, and begin in their order.
        self.traffic.begun.set(u64::from(self.leaving.last).div_ceil(2));
    }
}

impl AsyncRead for TrunkStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.traffic.came.set(this.traffic.came() + 1);
            this.traffic.tell();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TrunkStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        if this.is_barred(slices) {
            let why = "a request that was given up is kept back";
            return Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, why)));
        }
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, slices))?;
        this.left(slices, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

// === impl Leaving ===

impl Leaving {
    fn new() -> Leaving {
        Leaving { state: State::Passing(PREFACE_BYTES), last: 0 }
    }

    /// Bytes leave; how many streams begin in them.
    fn follow(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Passing(left) => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.state = State::Head([0; HEAD_BYTES], 0);
                    }
                    taken
                }
                State::Head(head, have) => {
                    let taken = bytes.len().min(HEAD_BYTES - *have);
                    head[*have..*have + taken].copy_from_slice(&bytes[..taken]);
                    *have += taken;
                    if *have == HEAD_BYTES {
                        let head = *head;
                        begun += u64::from(self.frame(head));
                    }
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        begun
    }

    /// A frame leaves; whether it begins a stream. Trailers are HEADERS too, of a stream that has begun.
    fn frame(&mut self, head: [u8; HEAD_BYTES]) -> bool {
        let [high, middle, low, kind, _, stream @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.state = match length {
            0 => State::Head([0; HEAD_BYTES], 0),
            length => State::Passing(length),
        };
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let begins = kind == HEADERS && stream > self.last;
        if begins {
            self.last = stream;
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        [&[high, middle, low, kind, 0][..], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn streams_are_counted_wherever_the_bytes_are_cut() {
        let bytes = [
            vec![b'P'; PREFACE_BYTES],
            frame(4, 0, &[]),
            frame(HEADERS, 1, &[1; 30]),
            frame(9, 1, &[1; 9]),
            frame(0, 1, &[1; 300]),
            frame(HEADERS, 3, &[]),
            // Trailers.
            frame(HEADERS, 1, &[1]),
            frame(3, 3, &[0; 4]),
            frame(HEADERS, 5, &[2]),
        ]
        .concat();
        for step in 1..bytes.len() {
            let mut leaving = Leaving::new();
            assert_eq!(bytes.chunks(step).map(|part| leaving.follow(part)).sum::<u64>(), 3, "{step}");
        }
    }

    #[tokio::test]
    async fn what_is_sealed_begins_no_further_stream_and_ends_those_that_it_has() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let socket = tokio::net::TcpStream::connect(address).await.expect("a socket");
        let traffic = Rc::new(Traffic::default());
        let mut stream = TrunkStream::new(Socket::Plain(socket), traffic.clone());
        let mut write = async |bytes: Vec<u8>| tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await;
        write([vec![b'P'; PREFACE_BYTES], frame(HEADERS, 1, &[1; 30])].concat()).await.expect("it leaves");
        assert_eq!(traffic.begun(), 1);
        traffic.seal();
        write([frame(0, 1, &[1; 30]), frame(HEADERS, 1, &[1])].concat()).await.expect("it leaves");
        assert!(write([frame(0, 1, &[]), frame(HEADERS, 3, &[1])].concat()).await.is_err());
        assert_eq!(traffic.begun(), 1);
    }
}
