//! The bytes of an HTTP/2 connection, below hyper: counted by `frames`, and ended where they are a flood.

use super::frames::{Frames, Verdict};
use crate::gateway::clock;
use crate::gateway::connection::Connection;
use crate::gateway::socket::Socket;
use crate::journal::Journal;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's socket whose frames are watched.
pub struct H2Stream {
    socket: Socket,
    /// What goes to hyper before anything else.
    front: Vec<u8>,
    handed: usize,
    frames: Frames,
    connection: Rc<Connection>,
    journal: Arc<Journal>,
    flooded: bool,
}

/// A frame that nobody may send: DATA on no stream. Put in the place of a flood, it makes hyper say GOAWAY and close, which
/// is the simplest way to end a connection politely from below.
const STAND_IN: [u8; 9] = [0; 9];

// === impl H2Stream ===

impl H2Stream {
    /// Notes whether the client takes what it is given, and what that is.
    fn note(&mut self, written: &Poll<Result<usize>>, slices: &[IoSlice<'_>]) {
        match written {
            Poll::Pending => {
                self.connection.stall.blocked();
                if self.connection.stall.is_given_up() {
                    self.socket.abort();
                }
            }
            Poll::Ready(written) => {
                self.connection.stall.took();
                let mut left = written.as_ref().copied().unwrap_or_default();
                for slice in slices {
                    let taken = left.min(slice.len());
                    self.frames.sent(&slice[..taken], clock::recent());
                    left -= taken;
                }
            }
        }
    }

    /// Wraps `socket` for `connection`; `begun` was read of it already.
    pub fn new(
        socket: Socket,
        begun: Vec<u8>,
        connection: Rc<Connection>,
        journal: Arc<Journal>,
    ) -> H2Stream {
        let frames = Frames::new(clock::recent());
        let mut stream =
            H2Stream { socket, front: Vec::new(), handed: 0, frames, connection, journal, flooded: false };
        let passed = stream.came(&begun);
        stream.front.splice(0..0, begun[..passed].iter().copied());
        stream
    }

    /// Bytes came; how many of them go on.
    fn came(&mut self, bytes: &[u8]) -> usize {
        match self.frames.came(bytes, clock::recent()) {
            Verdict::Pass { head } => {
                self.connection.head_comes(head);
                bytes.len()
            }
            Verdict::Flood(passed) => {
                self.flooded = true;
                self.front = STAND_IN.to_vec();
                self.handed = 0;
                self.journal.metrics().doors.http2_ended();
                tracing::warn!(peer = %self.connection.peer, "an HTTP/2 connection is ended: it floods the gateway with frames that bring nothing");
                passed
            }
        }
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let ready = &self.front[self.handed..];
        let count = ready.len().min(buf.remaining());
        buf.put_slice(&ready[..count]);
        self.handed += count;
        if self.handed == self.front.len() {
            (self.front, self.handed) = (Vec::new(), 0);
        }
        count > 0
    }
}

impl AsyncRead for H2Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.hand_over(buf) {
            return Poll::Ready(Ok(()));
        }
        if this.flooded {
            // Nothing of what still comes is read. The end of the bytes ends a connection whose stand-in fell into the
            // middle of a frame.
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let passed = this.came(&buf.filled()[before..]);
        if this.flooded {
            buf.set_filled(before + passed);
            if passed == 0 {
                this.hand_over(buf);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(&written, &[IoSlice::new(bytes)]);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note(&written, slices);
        written
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
