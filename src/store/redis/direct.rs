//! A connection that this gateway drives itself. What a worker's requests ask while replies are outstanding waits for them
//! and is then sent in one piece: under load the way to the server and back, which the kernel charges far more for than
//! anything that is done here, is shared by all of them; a command that is alone goes at once. Nobody waits longer than the commands
//! before it take, whose turn at the server comes first anyway.
//!
//! One task writes, reads, tells callers and minds their patience with one timer; a caller that is told is all that wakes.

#![allow(clippy::disallowed_methods, reason = "deadlines of commands")]

use super::callers::{Asked, Callers, Failed};
use super::frames::Frames;
use super::node::IN_FLIGHT_MOST;
use redis::{ErrorKind, RedisError, Value};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

/// What is kept of the room for a piece.
const PIECE_KEPT: usize = 1 << 20;

/// See the module. Dropping it ends what is under way.
pub(super) struct Direct {
    callers: Arc<Callers>,
    driver: AbortHandle,
}

/// The task's part. With it, whoever waits is told that it has ended: also where its runtime has.
struct Driver<S> {
    callers: Arc<Callers>,
    stream: S,
    /// The piece that is being written, and how much of it is.
    piece: Vec<u8>,
    written: usize,
    frames: Frames,
    /// Set where somebody's patience has an end.
    timer: Option<Pin<Box<Sleep>>>,
    /// Who was told, and is woken behind the lock.
    woken: Vec<Waker>,
}

// === impl Direct ===

impl Direct {
    /// On a connection that is logged in; driven by the runtime of the caller.
    pub(super) fn new<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Direct {
        Direct::with(stream, IN_FLIGHT_MOST)
    }

    fn with<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, most: usize) -> Direct {
        let callers = Arc::new(Callers::new(most));
        let driver = Driver {
            callers: callers.clone(),
            stream,
            piece: Vec::new(),
            written: 0,
            frames: Frames::new(),
            timer: None,
            woken: Vec::new(),
        };
        Direct { callers, driver: tokio::spawn(driver).abort_handle() }
    }

    /// Sends one command, with whatever else is to be sent, and waits until `until` for its reply.
    pub(super) async fn ask(&self, asked: impl Into<Asked>, until: Option<Instant>) -> Result<Value, Failed> {
        self.callers.ask(asked.into(), until).await
    }

    /// Sends several, which nothing comes between; replies and errors in their order.
    pub(super) async fn ask_all(&self, commands: Vec<Vec<u8>>) -> Result<Vec<Value>, Failed> {
        self.callers.ask_all(commands).await
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

// === impl Driver ===

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = &mut *self;
        driver.callers.driven(cx.waker());
        if let Poll::Ready(error) = driver.exchange(cx) {
            driver.callers.end(error, &mut driver.woken);
            driver.wake();
            return Poll::Ready(());
        }
        driver.mind_the_time(cx);
        driver.wake();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Writes and reads as far as it goes. Ready: the connection is of no more use.
    fn exchange(&mut self, cx: &mut Context<'_>) -> Poll<RedisError> {
        loop {
            if self.piece.is_empty() {
                self.callers.next_piece(&mut self.piece);
            }
            // What cannot be written yet does not keep replies from being read.
            if let Poll::Ready(Err(error)) = self.write(cx) {
                return Poll::Ready(error);
            }
            if let Err(error) = ready!(self.read(cx)) {
                return Poll::Ready(error);
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RedisError>> {
        while self.written < self.piece.len() {
            let wrote = Pin::new(&mut self.stream).poll_write(cx, &self.piece[self.written..]);
            match ready!(wrote) {
                Ok(0) => return Poll::Ready(Err(closed())),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.written = 0;
        self.piece.clear();
        self.piece.shrink_to(PIECE_KEPT);
        Poll::Ready(Ok(()))
    }

    /// Reads once, and tells everybody whose reply came.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RedisError>> {
        let mut space = ReadBuf::new(self.frames.space());
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space)) {
            return Poll::Ready(Err(error.into()));
        }
        let count = space.filled().len();
        if count == 0 {
            return Poll::Ready(Err(closed()));
        }
        self.frames.read(count);
        loop {
            match self.frames.next() {
                Ok(Some(value)) => {
                    if !self.callers.told(value, &mut self.woken) {
                        let why = "the server answers what nobody asked";
                        return Poll::Ready(Err(RedisError::from((ErrorKind::Parse, why))));
                    }
                }
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Tells those whose patience is over, and sleeps no longer than until that of the next one is.
    fn mind_the_time(&mut self, cx: &mut Context<'_>) {
        loop {
            let Some(until) = self.callers.expire(Instant::now(), &mut self.woken) else { return };
            match &mut self.timer {
                // It fires early at worst, and is set anew then.
                Some(timer) if timer.deadline() <= until && !timer.is_elapsed() => return,
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(sleep_until(until))),
            }
            let Some(timer) = &mut self.timer else { return };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }
}

impl<S> Driver<S> {
    fn wake(&mut self) {
        self.woken.drain(..).for_each(Waker::wake);
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        let error = RedisError::from((ErrorKind::Io, "the connection was given up"));
        self.callers.end(error, &mut self.woken);
        self.wake();
    }
}

fn closed() -> RedisError {
    RedisError::from((ErrorKind::Io, "the server closed the connection"))
}

#[cfg(test)]
mod tests;
