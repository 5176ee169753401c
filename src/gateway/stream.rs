//! The bytes of a client connection, below hyper.

use super::connection::Connection;
use super::intake::Intake;
use super::linger::Linger;
use super::scan::Stop;
use super::socket::Socket;
use super::spelling::Watch;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's socket that tells its connection when bytes come in and how names are spelled in the heads among them, and
/// lets only those bytes through that have one meaning.
pub struct ClientStream {
    socket: Socket,
    connection: Rc<Connection>,
    watch: Watch,
    intake: Intake,
    /// The end of a connection that was refused.
    linger: Option<Box<Linger>>,
}

impl ClientStream {
    /// Wraps `socket` for `connection`; `http2` where it may begin with the preface of HTTP/2.
    pub fn new(socket: Socket, connection: Rc<Connection>, http2: bool) -> ClientStream {
        ClientStream { socket, connection, watch: Watch::default(), intake: Intake::new(http2), linger: None }
    }

    /// The socket and everything that was read of it, where that began with the preface of HTTP/2.
    pub fn into_preface(self) -> Option<(Socket, Vec<u8>)> {
        Some((self.socket, self.intake.into_preface()?))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let ClientStream { socket, connection, intake, watch, .. } = self.get_mut();
        // Goes round only while parts of one head trickle in, which is bounded by the head's limit.
        loop {
            let before = buf.filled().len();
            if intake.hand_over(buf) {
                if let Some(spelling) = watch.came(&buf.filled()[before..]) {
                    connection.spelled(spelling);
                }
                return Poll::Ready(Ok(()));
            }
            match intake.stop() {
                None => {}
                // The end of the bytes would make hyper give up the exchanges before it. Its stand-in's answer ends
                // the connection, so nobody has to be woken here.
                Some(Stop::Message(_)) => return Poll::Pending,
                Some(Stop::Body(problem)) => {
                    return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, problem)));
                }
            }
            ready!(Pin::new(&mut *socket).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            if connection.bytes_came() {
                watch.begin();
            }
            if let Some(problem) = intake.came(buf, before) {
                if intake.is_preface() {
                    connection.turn();
                    return Poll::Pending;
                }
                connection.malformed(problem);
            }
            if buf.filled().len() > before {
                if let Some(spelling) = watch.came(&buf.filled()[before..]) {
                    connection.spelled(spelling);
                }
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ClientStream {
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let ClientStream { socket, intake, linger, .. } = self.get_mut();
        if intake.stop().is_none() {
            return Pin::new(socket).poll_shutdown(cx);
        }
        let linger = match linger {
            Some(linger) => linger,
            None => {
                ready!(Pin::new(&mut *socket).poll_shutdown(cx))?;
                linger.insert(Box::new(Linger::new()))
            }
        };
        linger.poll(socket, cx).map(Ok)
    }
}
