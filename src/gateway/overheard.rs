//! An answer's body that goes to its client as it comes, and whose bytes somebody else reads when it has ended.

use super::body::BodyError;
use super::upstream::UpstreamBody;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// What is kept of a body at most; of a larger one nothing is told.
const KEPT_MAX: usize = 64 * 1024;

/// See the module.
pub struct Overheard {
    body: UpstreamBody,
    /// `None`: it is too large.
    kept: Option<BytesMut>,
    /// Dropped untold where the body does not come to its end.
    tell: Option<oneshot::Sender<Bytes>>,
}

// === impl Overheard ===

impl Overheard {
    /// Of this body, and where it is told.
    pub fn new(body: UpstreamBody) -> (Overheard, oneshot::Receiver<Bytes>) {
        let (tell, told) = oneshot::channel();
        let mut overheard = Overheard { body, kept: Some(BytesMut::new()), tell: Some(tell) };
        overheard.tell_at_end();
        (overheard, told)
    }

    /// The next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.kept = self.kept.take().filter(|kept| kept.len() + data.len() <= KEPT_MAX);
                    self.kept.iter_mut().for_each(|kept| kept.extend_from_slice(data));
                }
                // Whoever sends it may not ask again.
                self.tell_at_end();
            }
            Poll::Ready(None) => self.tell(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    /// Whether it has come to its end.
    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// How much is still to come.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn tell_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.tell();
        }
    }

    fn tell(&mut self) {
        if let (Some(tell), Some(kept)) = (self.tell.take(), self.kept.take()) {
            // Nobody listens any more: then nobody is told.
            let _ = tell.send(kept.freeze());
        }
    }
}
