//! One direction of a tunnel.

use super::frames::Frames;
use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes from one side to the other. Holds nothing while the other side takes what comes.
pub struct Pipe {
    /// Came, and not yet taken.
    pending: Vec<u8>,
    /// Where frames end, of a WebSocket.
    frames: Option<Frames>,
    state: State,
}

/// How far one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// What comes goes out.
    Open,
    /// A close frame was put behind the last whole frame; what still comes is thrown away.
    Closing,
    /// Nothing more comes; the other side has to be told.
    Ended,
    /// The other side was told.
    Shut,
}

/// So much is read at a time.
const READ: usize = 16 << 10;
/// Reads of one poll, so that one busy tunnel does not keep the others of its worker waiting.
const ROUNDS_MOST: u32 = 8;

// === impl Pipe ===

impl Pipe {
    /// With what came early.
    pub fn new(early: Vec<u8>, is_websocket: bool) -> Pipe {
        let mut frames = is_websocket.then(Frames::default);
        frames.iter_mut().for_each(|frames| frames.came(&early));
        Pipe { pending: early, frames, state: State::Open }
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether everything that came went out and the other side knows that it was all.
    pub fn is_shut(&self) -> bool {
        self.state == State::Shut
    }

    /// Whether the side that sends has said goodbye in its own protocol.
    pub fn has_closed(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::is_closed)
            || matches!(self.state, State::Ended | State::Shut)
    }

    /// Puts `close` between two frames, as soon as there is a place; whether it has been put.
    pub fn close_politely(&mut self, close: &[u8]) -> bool {
        let between = self.frames.as_ref().is_some_and(Frames::is_between);
        if self.state == State::Open && between {
            let closed = self.frames.as_ref().is_some_and(Frames::is_closed);
            if !closed {
                self.pending.extend_from_slice(close);
            }
            self.state = State::Closing;
        }
        self.state != State::Open
    }

    /// Ends this direction behind what is pending.
    pub fn end(&mut self) {
        if self.state != State::Shut {
            self.state = State::Ended;
        }
    }

    /// Moves what can be moved; how much was. An error ends the whole tunnel.
    pub fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Result<usize>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        let mut moved = 0;
        for round in 0.. {
            while !self.pending.is_empty() {
                match to.as_mut().poll_write(cx, &self.pending)? {
                    Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                    Poll::Ready(count) => drop(self.pending.drain(..count)),
                    Poll::Pending => return Ok(moved),
                }
            }
            match self.state {
                State::Shut => return Ok(moved),
                State::Ended => {
                    if to.as_mut().poll_shutdown(cx)?.is_ready() {
                        self.state = State::Shut;
                    }
                    return Ok(moved);
                }
                State::Open | State::Closing => {}
            }
            if round == ROUNDS_MOST {
                cx.waker().wake_by_ref();
                return Ok(moved);
            }
            let mut bytes = [0; READ];
            let mut buf = ReadBuf::new(&mut bytes);
            if from.as_mut().poll_read(cx, &mut buf)?.is_pending() {
                // Under TLS, what was written may not have gone out.
                let _under_way = to.as_mut().poll_flush(cx)?;
                return Ok(moved);
            }
            let came = buf.filled();
            moved += came.len();
            if came.is_empty() {
                self.end();
                continue;
            }
            if let Some(frames) = &mut self.frames {
                frames.came(came);
            }
            if self.state == State::Open {
                // Most of it goes out at once; only what does not is kept.
                let count = match to.as_mut().poll_write(cx, came)? {
                    Poll::Ready(count) => count,
                    Poll::Pending => 0,
                };
                self.pending.extend_from_slice(&came[count..]);
                if count < came.len() {
                    self.pending.shrink_to_fit();
                }
            }
        }
        Ok(moved)
    }
}
