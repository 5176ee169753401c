//! The bytes of a connection to a server, below hyper.

use super::hearing::Hearing;
use super::link::Relay;
use crate::gateway::head_writer::{HeadWriter, Written};
use crate::gateway::intake::Intake;
use crate::gateway::scan::{AnswerScanner, Asked, Limits, News, Problem};
use crate::gateway::socket::Socket;
use crate::gateway::spelling::Spelling;
use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A server's socket that notes how names are spelled in the heads that come in, and lets only answers through that have
/// one reading.
pub struct ServerStream {
    socket: Socket,
    heads: Rc<Heads>,
    intake: Intake<AnswerScanner>,
    writer: HeadWriter,
    /// The last reading found nothing.
    dry: bool,
    /// The server's kernel took something of the present request: what comes from now on may answer it.
    heard: bool,
    /// The server takes nothing more of a request that it has heard of. It may have said why: a server that does not want a
    /// body answers and closes, and where it leaves bytes unread, that resets the connection. So nothing is written any more,
    /// and what came is read (RFC 9112, 9.5); where nothing came, reading fails as well.
    is_deaf: bool,
}

/// What a connection and its stream tell each other.
#[derive(Default)]
pub struct Heads {
    /// What is asked next; taken when its first byte goes out, because an answer that came before was none.
    asks: Cell<Option<Asked>>,
    /// How the head that asks is written.
    asks_as: Cell<Written>,
    /// How names are spelled in the head that came.
    spelling: Cell<Option<Spelling>>,
    spent: Cell<bool>,
    switched: Cell<bool>,
    problem: Cell<Option<Problem>>,
    hearing: RefCell<Option<Hearing>>,
    /// What the socket wakes, as long as that is not a task.
    relay: RefCell<Option<Arc<Relay>>>,
}

// === impl ServerStream ===

impl ServerStream {
    /// Wraps `socket`; `bare_lf` where the lines of the server's heads may end so.
    pub fn new(socket: Socket, heads: Rc<Heads>, bare_lf: bool) -> ServerStream {
        let scanner = if bare_lf { AnswerScanner::of_bare_lf } else { AnswerScanner::new };
        let intake = Intake::of_answers(scanner(Limits::DEFAULT));
        ServerStream {
            socket,
            heads,
            intake,
            writer: HeadWriter::new(),
            dry: false,
            heard: false,
            is_deaf: false,
        }
    }

    /// Whether the server has just been found to take nothing more; the connection carries no further request.
    fn turns_deaf<T>(&mut self, written: &Poll<Result<T>>) -> bool {
        let Poll::Ready(Err(error)) = written else { return false };
        let closed = self.heard && matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        if closed {
            self.is_deaf = true;
            self.heads.spent.set(true);
        }
        closed
    }

    /// Bytes came from the socket, and stand in `buf` behind `before`.
    fn came(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let problem = self.intake.came(buf, before);
        let scanner = self.intake.scanner();
        if problem.is_some() || scanner.is_spent() {
            self.heads.spent.set(true);
            self.heads.problem.set(problem);
            self.heads.switched.set(scanner.has_switched());
        }
        if let Some(news) = scanner.news() {
            self.heads.hear(&news);
        }
        if let Some(spelling) = self.intake.spelling() {
            self.heads.spelling.set(Some(spelling));
        }
    }

    /// Reads the socket. hyper does so several times a round, in case that something has come; where nothing has woken it
    /// since it found nothing, it is not asked again.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let relay = self.heads.relay.borrow();
        if self.dry && relay.as_ref().is_some_and(|relay| relay.rests()) {
            return Poll::Pending;
        }
        // Before it is read, so that no wake-up is missed.
        relay.iter().for_each(|relay| relay.reads());
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.dry = read.is_pending();
        read
    }

    /// The socket, once it speaks another protocol, and what had come of it that hyper has not read.
    pub fn into_parts(self) -> (Socket, Vec<u8>) {
        (self.socket, self.intake.into_held())
    }
}

// === impl Heads ===

impl Heads {
    /// What comes next is a request, and then its answer.
    pub fn expect(&self, asked: Asked, written: Written, hearing: Option<Hearing>) {
        self.asks.set(Some(asked));
        self.asks_as.set(written);
        self.spelling.set(None);
        *self.hearing.borrow_mut() = hearing;
    }

    /// Its connection is polled with the waker of `relay`, or by a task of its own.
    pub(super) fn woken_by(&self, relay: Option<Arc<Relay>>) {
        *self.relay.borrow_mut() = relay;
    }

    /// How names are spelled in the head that came.
    pub fn spelling(&self) -> Option<Spelling> {
        self.spelling.take()
    }

    /// Whether no further request may go out on this connection.
    pub fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// Whether the server switched to another protocol.
    pub fn has_switched(&self) -> bool {
        self.switched.get()
    }

    /// What is wrong with the answer that came.
    pub fn problem(&self) -> Option<Problem> {
        self.problem.get()
    }

    /// Nobody waits for this connection any more.
    pub fn forget(&self) {
        if let Some(hearing) = self.hearing.take() {
            hearing.ends();
        }
    }

    #[cold]
    fn hear(&self, news: &News) {
        if let Some(hearing) = &*self.hearing.borrow() {
            hearing.hear(news);
        }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        // Goes round only while parts of one head trickle in, which is bounded by the head's limit.
        loop {
            let before = buf.filled().len();
            if this.intake.hand_over(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(stop) = this.intake.stop() {
                return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, stop.problem())));
            }
            ready!(this.poll_socket(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.came(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        if let Some(asked) = this.heads.asks.take() {
            this.intake.scanner().asks(asked);
            this.writer.begin(slices, &this.heads.asks_as.take())?;
            this.heard = false;
        }
        if !this.is_deaf {
            let written = this.writer.poll_write(&mut this.socket, cx, slices);
            if !this.turns_deaf(&written) {
                this.heard |= written.is_ready();
                return written;
            }
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if !this.is_deaf {
            let flushed = this.writer.poll_flush(&mut this.socket, cx);
            if !this.turns_deaf(&flushed) {
                return flushed;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
