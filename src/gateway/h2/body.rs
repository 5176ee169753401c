//! Answers on their way to an HTTP/2 client, which decides by its windows how fast they go. One that takes nothing for too
//! long is cut off, because behind its answer a place at the backend is held.

use super::streams::Streams;
use crate::gateway::body::{BodyError, ResponseBody};
use crate::gateway::clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
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

/// One answer, as the connection's sweep sees it.
pub struct Held {
    /// Gone once it was cut off.
    body: RefCell<Option<ResponseBody>>,
    /// When its last piece was handed over, while nobody has asked for the next.
    handed: Cell<Option<Instant>>,
}

/// The size of a frame that every client accepts.
const FRAME_BYTES: usize = 16 << 10;

// === impl Held ===

impl Held {
    /// An answer of which nothing was handed over.
    pub fn new(body: ResponseBody) -> Rc<Held> {
        let handed = Cell::new((!body.is_end_stream()).then(clock::recent));
        Rc::new(Held { body: RefCell::new(Some(body)), handed })
    }

    /// Whether its client takes nothing of it for longer than `patience`.
    pub fn is_overdue(&self, now: Instant, patience: Duration) -> bool {
        self.handed.get().is_some_and(|handed| now.saturating_duration_since(handed) > patience)
    }

    /// Lets go of the backend; whether there was anything to let go of.
    pub fn cut_off(&self) -> bool {
        self.handed.set(None);
        self.body.borrow_mut().take().is_some()
    }
}

// === impl StreamBody ===

impl StreamBody {
    /// Of an answer that `streams` knows by `index`.
    pub fn new(streams: Rc<Streams>, index: usize, held: Rc<Held>) -> StreamBody {
        StreamBody { streams, index, held, rest: Bytes::new() }
    }

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
        self.streams.forget_answer(self.index);
    }
}
