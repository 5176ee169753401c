//! The bytes of a client connection, below hyper.

use super::connection::Connection;
use super::head_writer::HeadWriter;
use super::intake::Intake;
use super::linger::Linger;
use super::scan::{Limits, Scanner, Stop};
use super::socket::Socket;
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
    intake: Intake<Scanner>,
    writer: HeadWriter,
    /// The part of interim answers that is still to go out.
    interims: Vec<u8>,
    /// The end of a connection that was refused.
    linger: Option<Box<Linger>>,
}

impl ClientStream {
    /// Wraps `socket` for `connection`; `http2` where it may begin with the preface of HTTP/2.
    pub fn new(socket: Socket, connection: Rc<Connection>, limits: Limits, http2: bool) -> ClientStream {
        let intake = Intake::of_requests(limits, http2);
        let writer = HeadWriter::new();
        ClientStream { socket, connection, intake, writer, interims: Vec::new(), linger: None }
    }

    /// The socket, once it speaks another protocol, and what had come of it that hyper has not read.
    pub fn into_parts(self) -> (Socket, Vec<u8>) {
        (self.socket, self.intake.into_held())
    }

    /// Notes whether the client takes what it is given.
    fn note<T>(&mut self, written: &Poll<Result<T>>) {
        match written {
            Poll::Pending => {
                self.connection.stall.blocked();
                if self.connection.stall.is_given_up() {
                    self.socket.abort();
                }
            }
            Poll::Ready(_) => self.connection.stall.took(),
        }
    }

    /// Sends the interim answers that came for the client, if it is their turn.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let came = self.connection.interims();
        // Between two messages only.
        if !came.is_empty() && self.writer.is_flushed() {
            self.interims.extend_from_slice(&came);
        }
        while !self.interims.is_empty() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.interims);
            self.note(&written);
            let count = ready!(written)?;
            self.interims.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let ClientStream { socket, connection, intake, .. } = self.get_mut();
        // Goes round only while parts of one head trickle in, which is bounded by the head's limit.
        loop {
            let before = buf.filled().len();
            if intake.hand_over(buf) {
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
            if connection.switching.is_agreed() {
                // What comes now is no request. It is left in the socket for whom the connection is joined with.
                return Poll::Pending;
            }
            if intake.scanner().is_undecided() {
                if connection.answered.has_come_to(intake.scanner().heads()) {
                    if intake.holds() {
                        connection.bytes_came();
                    }
                    intake.resume();
                    connection.malformed(intake.stop());
                    if let Some(spelling) = intake.spelling() {
                        connection.spelled(spelling);
                    }
                    continue;
                } else if intake.holds() {
                    return Poll::Pending;
                }
            }
            let in_body = !intake.scanner().is_between_messages();
            if in_body && connection.is_starved() {
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
            let read = Pin::new(&mut *socket).poll_read(cx, buf);
            if in_body {
                match &read {
                    Poll::Pending => connection.stall.waits(),
                    Poll::Ready(_) => connection.stall.came(buf.filled().len() - before),
                }
            }
            ready!(read)?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            // The rest of a body that nobody wanted begins no request.
            if !in_body {
                connection.bytes_came();
            }
            if intake.came(buf, before).is_some() {
                if intake.is_preface() {
                    connection.turn();
                    return Poll::Pending;
                }
                connection.malformed(intake.stop());
            }
            if in_body && intake.scanner().is_between_messages() {
                connection.stall.rests();
            }
            if let Some(spelling) = intake.spelling() {
                connection.spelled(spelling);
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        ready!(self.poll_interims(cx))?;
        let ClientStream { socket, connection, writer, .. } = &mut *self;
        if let Some(answer) = connection.begins_answer() {
            writer.begin(slices, &answer)?;
        }
        let written = writer.poll_write(socket, cx, slices);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let ClientStream { socket, writer, .. } = &mut *self;
        let flushed = writer.poll_flush(socket, cx);
        if flushed.is_pending() {
            self.note(&flushed);
        }
        ready!(flushed)?;
        // Under TLS the last bytes wait below what was written, and only a flush knows that the client has taken them.
        self.connection.stall.caught_up();
        if self.connection.answered.is_unasked() {
            // hyper asks for no answer while something waits to go out, and does not come back to it by itself.
            self.connection.wake();
        }
        self.poll_interims(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let ClientStream { socket, intake, linger, .. } = self.get_mut();
        if intake.stop().is_none() && intake.scanner().is_between_messages() && !intake.holds() {
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
