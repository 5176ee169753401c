//! An answer's body that goes to its client as it comes, and whose bytes somebody else reads when it has ended.

use super::body::BodyError;
use super::upstream::UpstreamBody;
use super::whole::Gathered;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// The next frame of a body; `None` behind its last one.
type Next = Option<Result<Frame<Bytes>, BodyError>>;

/// See the module.
pub struct Overheard {
    /// Gone only with itself.
    heard: Option<Heard>,
    /// `None` once it is told.
    tell: Option<oneshot::Sender<Told>>,
}

/// What is told of a body.
pub enum Told {
    /// All of it.
    Whole(Bytes),
    /// It is more than is kept.
    TooLarge,
    /// The backend broke it off.
    Broken,
    /// Nobody takes it any more: what is still to come is there to be read.
    Left(Box<Heard>),
}

/// A body, and what came of it so far.
pub struct Heard {
    body: UpstreamBody,
    kept: Gathered,
    /// Bytes that are kept at most.
    limit: u64,
}

// === impl Overheard ===

impl Overheard {
    /// Of this body, and where it is told if it has at most `limit` bytes.
    pub fn new(body: UpstreamBody, limit: u64) -> (Overheard, oneshot::Receiver<Told>) {
        let (tell, told) = oneshot::channel();
        let mut heard = Heard { body, kept: Gathered::default(), limit };
        let ended = heard.ended();
        let mut overheard = Overheard { heard: Some(heard), tell: Some(tell) };
        overheard.tell(ended);
        (overheard, told)
    }

    /// The next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(heard) = &mut self.heard else { return Poll::Ready(None) };
        if self.tell.is_none() {
            return Pin::new(&mut heard.body).poll_frame(cx);
        }
        let (frame, ended) = ready!(heard.poll_frame(cx));
        self.tell(ended);
        Poll::Ready(frame)
    }

    /// Whether it has come to its end.
    pub fn is_end_stream(&self) -> bool {
        self.heard.as_ref().is_none_or(|heard| heard.body.is_end_stream())
    }

    /// How much is still to come.
    pub fn size_hint(&self) -> SizeHint {
        self.heard.as_ref().map(|heard| heard.body.size_hint()).unwrap_or_default()
    }

    fn tell(&mut self, ended: Option<Told>) {
        if let Some(ended) = ended
            && let Some(tell) = self.tell.take()
        {
            // Nobody listens any more: then nobody is told.
            let _ = tell.send(ended);
        }
    }
}

impl Drop for Overheard {
    fn drop(&mut self) {
        let left = self.heard.take().map(|heard| Told::Left(Box::new(heard)));
        self.tell(left);
    }
}

// === impl Heard ===

impl Heard {
    /// Reads what is still to come of it. Dropped before that, it breaks the exchange off.
    pub async fn rest(mut self) -> Told {
        poll_fn(|cx| {
            loop {
                if let (_, Some(ended)) = ready!(self.poll_frame(cx)) {
                    return Poll::Ready(ended);
                }
            }
        })
        .await
    }

    /// The next frame, and what is to be told with it.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<(Next, Option<Told>)> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ended = match &frame {
            Some(Ok(frame)) => {
                frame.data_ref().into_iter().for_each(|data| self.kept.push(data.clone()));
                // Whoever sends it may not ask again.
                self.ended()
            }
            None => Some(self.whole()),
            Some(Err(_)) => Some(Told::Broken),
        };
        Poll::Ready((frame, ended))
    }

    fn ended(&mut self) -> Option<Told> {
        if self.kept.len() as u64 > self.limit {
            self.kept = Gathered::default();
            return Some(Told::TooLarge);
        }
        self.body.is_end_stream().then(|| self.whole())
    }

    fn whole(&mut self) -> Told {
        Told::Whole(std::mem::take(&mut self.kept).into_bytes())
    }
}
