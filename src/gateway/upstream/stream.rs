//! The bytes of a connection to a server, below hyper.

use crate::gateway::socket::Socket;
use crate::gateway::spelling::{Spelling, Watch};
use std::cell::Cell;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A server's socket that notes how names are spelled in the heads that come in.
pub struct ServerStream {
    socket: Socket,
    heads: Rc<Heads>,
    watch: Watch,
}

/// What a connection and its stream tell each other.
#[derive(Default)]
pub struct Heads {
    expected: Cell<bool>,
    spelling: Cell<Option<Spelling>>,
}

// === impl ServerStream ===

impl ServerStream {
    /// Wraps `socket`.
    pub fn new(socket: Socket, heads: Rc<Heads>) -> ServerStream {
        ServerStream { socket, heads, watch: Watch::default() }
    }
}

// === impl Heads ===

impl Heads {
    /// What comes next begins with an answer's head.
    pub fn expect(&self) {
        self.expected.set(true);
        self.spelling.set(None);
    }

    /// How names are spelled in the head that came.
    pub fn spelling(&self) -> Option<Spelling> {
        self.spelling.take()
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let ServerStream { socket, heads, watch } = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(socket).poll_read(cx, buf))?;
        if heads.expected.take() {
            watch.begin();
        }
        if let Some(spelling) = watch.came(&buf.filled()[before..]) {
            heads.spelling.set(Some(spelling));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
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
