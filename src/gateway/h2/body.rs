//! Answers on their way to an HTTP/2 client, which decides by its windows how fast they go. One that takes nothing for too
//! long is cut off, because behind its answer a place at the backend is held.

use crate::gateway::body::{BodyError, ResponseBody};
use crate::gateway::clock;
use crate::journal::Journal;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// An answer's body in pieces of one frame each: what is handed over stays in memory until the client's window opens.
pub struct StreamBody {
    streams: Rc<Streams>,
    index: usize,
    held: Rc<Held>,
    /// Of a piece that was larger than a frame.
    rest: Bytes,
}

/// The answers of one connection.
pub struct Streams {
    held: RefCell<Slab<Rc<Held>>>,
    /// Since when the client has been told that the connection ends.
    farewell: Cell<Option<Instant>>,
    journal: Arc<Journal>,
}

/// One answer, as the connection's sweep sees it.
struct Held {
    /// Gone once it was cut off.
    body: RefCell<Option<ResponseBody>>,
    /// When its last piece was handed over, while nobody has asked for the next.
    handed: Cell<Option<Instant>>,
}

/// The size of a frame that every client accepts.
const FRAME_BYTES: usize = 16 << 10;

// === impl Streams ===

impl Streams {
    /// None yet.
    pub fn new(journal: Arc<Journal>) -> Streams {
        Streams { held: RefCell::default(), farewell: Cell::new(None), journal }
    }

    /// Takes an answer under watch.
    pub(super) fn watch(self: &Rc<Streams>, body: ResponseBody) -> StreamBody {
        let handed = Cell::new((!body.is_end_stream()).then(clock::recent));
        let held = Rc::new(Held { body: RefCell::new(Some(body)), handed });
        let index = self.held.borrow_mut().insert(held.clone());
        StreamBody { streams: self.clone(), index, held, rest: Bytes::new() }
    }

    /// Cuts off the answers whose client has taken nothing for longer than `stall`.
    pub fn sweep(&self, now: Instant, stall: Duration) {
        let overdue = |held: &&Rc<Held>| {
            held.handed.get().is_some_and(|handed| now.saturating_duration_since(handed) > stall)
        };
        let overdue: Vec<_> =
            self.held.borrow().iter().map(|(_, held)| held).filter(overdue).cloned().collect();
        for held in overdue {
            held.handed.set(None);
            if held.body.borrow_mut().take().is_some() {
                self.journal.metrics().doors.http2_cut();
            }
        }
    }

    /// The client is told that the connection ends.
    pub fn farewell(&self) {
        if self.farewell.get().is_none() {
            self.farewell.set(Some(clock::recent()));
        }
    }

    /// Whether it was told so longer than `patience` ago.
    pub fn farewell_is_over(&self, now: Instant, patience: Duration) -> bool {
        self.farewell.get().is_some_and(|since| now.saturating_duration_since(since) > patience)
    }
}

// === impl StreamBody ===

impl StreamBody {
    /// The front of what there is, at most a frame.
    fn piece(&mut self) -> Bytes {
        let length = self.rest.len().min(FRAME_BYTES);
        self.rest.split_to(length)
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let held = this.held.clone();
        let mut body = held.body.borrow_mut();
        let Some(body) = body.as_mut() else {
            return Poll::Ready(Some(Err("the client took nothing of the answer for too long".into())));
        };
        if this.rest.is_empty() {
            // What the backend is slow with is no fault of the client's.
            held.handed.set(None);
            match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        held.handed.set(Some(clock::recent()));
        Poll::Ready(Some(Ok(Frame::data(this.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.held.body.borrow().as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&*self.held.body.borrow(), self.rest.len() as u64) {
            (Some(body), 0) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.streams.held.borrow_mut().try_remove(self.index);
    }
}
