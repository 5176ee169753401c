//! Bodies on their way: whole where they were read whole, streamed otherwise.

use super::clock;
use super::connection::Busy;
use super::upstream::UpstreamBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// What goes to the backend.
pub enum RequestBody {
    /// A body that was read whole; `None` once it was handed over, or where there was none.
    Whole(Option<Bytes>),
    /// Streamed from the client, with its own back-pressure.
    Stream(Incoming, Rc<Upload>),
    /// The beginning of a body that turned out too large to read whole, and the rest behind it.
    Prefixed(Option<Bytes>, Incoming, Rc<Upload>),
}

/// How far a streamed request body is, for whoever waits for the answer behind it.
#[derive(Default)]
pub struct Upload {
    moved_at: Cell<Option<Instant>>,
}

/// What goes to the client. While it lives, its connection is busy.
pub struct ResponseBody {
    kind: Kind,
    _busy: Option<Busy>,
}

enum Kind {
    Whole(Option<Bytes>),
    Stream(UpstreamBody),
    /// The beginning of an answer that turned out too large to keep, and the rest behind it.
    Prefixed(Option<Bytes>, UpstreamBody),
}

/// Why a body ended early. The connection is closed; there is nobody to explain it to.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

// === impl RequestBody ===

impl RequestBody {
    /// No body.
    pub fn empty() -> RequestBody {
        RequestBody::Whole(None)
    }

    /// A body as it comes; one that is empty already needs no streaming.
    pub fn stream(incoming: Incoming) -> (RequestBody, Option<Rc<Upload>>) {
        if incoming.is_end_stream() {
            return (RequestBody::empty(), None);
        }
        let upload = Rc::new(Upload::default());
        (RequestBody::Stream(incoming, upload.clone()), Some(upload))
    }

    /// A body that was read whole.
    pub fn whole(bytes: Bytes) -> RequestBody {
        RequestBody::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            RequestBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            RequestBody::Prefixed(prefix, ..) if prefix.is_some() => {
                Poll::Ready(prefix.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            RequestBody::Stream(incoming, upload) | RequestBody::Prefixed(_, incoming, upload) => {
                let polled = Pin::new(incoming).poll_frame(cx);
                if polled.is_ready() {
                    upload.note();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Whole(bytes) => bytes.is_none(),
            RequestBody::Stream(incoming, _) => incoming.is_end_stream(),
            RequestBody::Prefixed(prefix, incoming, _) => prefix.is_none() && incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Whole(bytes) => exact(bytes),
            RequestBody::Stream(incoming, _) => incoming.size_hint(),
            RequestBody::Prefixed(..) => SizeHint::default(),
        }
    }
}

// === impl Upload ===

impl Upload {
    fn note(&self) {
        self.moved_at.set(Some(clock::now()));
    }

    /// When the body last moved; its end is a movement, too.
    pub fn moved_at(&self) -> Option<Instant> {
        self.moved_at.get()
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// A whole body.
    pub fn whole(bytes: Bytes) -> ResponseBody {
        ResponseBody { kind: Kind::Whole((!bytes.is_empty()).then_some(bytes)), _busy: None }
    }

    /// A body that streams from the backend.
    pub fn stream(body: UpstreamBody) -> ResponseBody {
        ResponseBody { kind: Kind::Stream(body), _busy: None }
    }

    /// What was read already, then the rest as it comes.
    pub fn prefixed(prefix: Bytes, rest: UpstreamBody) -> ResponseBody {
        ResponseBody { kind: Kind::Prefixed((!prefix.is_empty()).then_some(prefix), rest), _busy: None }
    }

    /// The same body; the connection counts as busy until it is gone.
    pub fn holding(self, busy: Busy) -> ResponseBody {
        ResponseBody { _busy: Some(busy), ..self }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(body) => Pin::new(body).poll_frame(cx),
            Kind::Prefixed(prefix, rest) => match prefix.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Stream(body) => body.is_end_stream(),
            Kind::Prefixed(prefix, rest) => prefix.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => exact(bytes),
            Kind::Stream(body) => body.size_hint(),
            Kind::Prefixed(..) => SizeHint::default(),
        }
    }
}

fn exact(bytes: &Option<Bytes>) -> SizeHint {
    SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
}
