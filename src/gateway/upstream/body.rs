//! An answer's body as it streams from the backend. It owns the connection until the body has ended, and gives it back
//! as early as it can: at the last frame, not at the end-of-stream poll behind it, which may never come.

use super::health::Permit;
use super::link::{Link, Switched};
use super::pool::Pool;
use super::trunk::Stream;
use crate::gateway::body::BodyError;
use crate::gateway::clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A streaming answer body.
pub struct UpstreamBody {
    incoming: Incoming,
    /// Gone once the connection was given back, or the body broke off.
    connection: Option<Connection>,
    /// For the whole exchange, where one is set.
    total: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    progressed: bool,
}

/// The connection under an answer.
pub(super) struct Connection {
    /// Of HTTP/1.1, which is this exchange's alone.
    pub link: Option<Box<Link>>,
    /// Of HTTP/2, which others use, too.
    pub stream: Option<Stream>,
    pub pool: Rc<Pool>,
    pub server: usize,
    pub permit: Permit,
}

// === impl Connection ===

impl Connection {
    fn has_switched(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.has_switched())
    }
}

// === impl UpstreamBody ===

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, connection: Connection, total: Option<Instant>) -> UpstreamBody {
        let connection = Some(connection);
        let mut body = UpstreamBody { incoming, connection, total, timer: None, progressed: false };
        body.give_back_at_end();
        body
    }

    /// What the server goes on with, where it switched to another protocol. The place at the upstream is given up.
    pub fn into_switched(mut self) -> Option<Switched> {
        self.connection.take()?.link?.switched()
    }

    /// Whether an answer of HTTP/2 that goes no further has no end.
    fn is_cut(&self) -> bool {
        let over_http2 = self.connection.as_ref().is_some_and(|connection| connection.stream.is_some());
        over_http2 && !self.incoming.is_end_stream()
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && !self.connection.as_ref().is_some_and(Connection::has_switched)
            && let Some(Connection { link, stream, pool, server, permit }) = self.connection.take()
        {
            drop(permit);
            drop(stream);
            if let Some(link) = link {
                pool.give_back(server, link, clock::recent());
            }
        }
    }

    /// The longest silence; looked at only while nothing comes.
    fn stall(&self) -> Duration {
        self.connection.as_ref().map_or(Duration::ZERO, |connection| connection.pool.upstream.config.stall)
    }

    /// Nothing came: watch the silence. The timer is armed once and moved only when it fires, so a body that flows
    /// costs no timer at all; a silence is noticed after one to two times `stall`.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let next = clock::now() + self.stall();
            let next = self.total.map_or(next, |total| next.min(total));
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let over = self.total.is_some_and(|total| total <= clock::now());
            if over || !std::mem::take(&mut self.progressed) {
                self.connection = None;
                return Poll::Ready(Some(Err("the backend stopped in the middle of its answer".into())));
            }
            self.timer = None;
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let UpstreamBody { incoming, connection, .. } = this;
        let polled = match connection {
            Some(Connection { link: Some(link), .. }) => {
                link.poll(cx, false, |cx| Pin::new(&mut *incoming).poll_frame(cx))
            }
            _ => Pin::new(incoming).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.progressed = true;
                this.give_back_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.connection = None;
                Poll::Ready(Some(Err(error.into())))
            }
            // hyper takes a RST_STREAM with NO_ERROR for an end. It is one only behind END_STREAM; otherwise what came is a
            // part of an answer, and nobody may take it for the whole.
            Poll::Ready(None) if this.is_cut() => {
                this.connection = None;
                Poll::Ready(Some(Err("the backend broke off its answer".into())))
            }
            Poll::Ready(None) => {
                this.give_back_at_end();
                Poll::Ready(None)
            }
            Poll::Pending => this.poll_silence(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        self.give_back_at_end();
    }
}
