//! Bodies of requests on their way from an HTTP/2 client, each judged by itself.

use super::streams::Streams;
use crate::gateway::body::BodyError;
use crate::gateway::stall::{Patience, Slow, Stall};
use bytes::Bytes;
use http_body::Frame;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::time::Instant;

/// One body, for whoever reads it.
pub struct UploadWatch {
    streams: Rc<Streams>,
    index: usize,
    watched: Rc<Watched>,
}

/// One body, as the connection's sweep sees it.
#[derive(Default)]
pub struct Watched {
    stall: Stall,
    starved: Cell<bool>,
    reader: RefCell<Option<Waker>>,
}

// === impl UploadWatch ===

impl UploadWatch {
    pub(super) fn new(streams: Rc<Streams>, index: usize, watched: Rc<Watched>) -> UploadWatch {
        UploadWatch { streams, index, watched }
    }

    /// The body that it watches.
    pub fn watched(&self) -> Rc<Watched> {
        self.watched.clone()
    }

    /// Notes what came of asking for more of the body; an error where it comes too slowly.
    pub fn judge(
        &self,
        cx: &Context<'_>,
        polled: Poll<Option<Result<Frame<Bytes>, BodyError>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let watched = &self.watched;
        match &polled {
            // Whoever tells the client knows why by [`Watched::is_starved`].
            Poll::Pending if watched.starved.get() => {
                return Poll::Ready(Some(Err(
                    "it came more slowly than the gateway wants (server.body_rate)".into(),
                )));
            }
            Poll::Pending => {
                watched.stall.waits();
                *watched.reader.borrow_mut() = Some(cx.waker().clone());
            }
            Poll::Ready(Some(Ok(frame))) => watched.stall.came(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(_) => watched.stall.rests(),
        }
        polled
    }
}

impl Drop for UploadWatch {
    fn drop(&mut self) {
        self.streams.forget_upload(self.index);
    }
}

// === impl Watched ===

impl Watched {
    /// Whether it came too slowly, so that nothing more of it was read.
    pub fn is_starved(&self) -> bool {
        self.starved.get()
    }

    /// Lets the reader find out that the body comes too slowly.
    pub fn sweep(&self, now: Instant, patience: Patience) {
        if self.stall.judge(now, patience) == Some(Slow::Sending) {
            self.starved.set(true);
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}
