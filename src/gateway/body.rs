//! Bodies on their way: whole where they were read whole, streamed otherwise.

use super::connection::Busy;
use super::overheard::{Overheard, Told};
use super::reads::{Outlet, Writing};
use super::throttle::Flight;
use super::upload::{ClientBody, Upload};
use super::upstream::UpstreamBody;
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// What goes to the backend. Small, because a request is handed through many futures and each copies it.
pub struct RequestBody(Option<Box<Source>>);

/// A request on its way to the backend. Boxed: it is handed down through many futures, and each would copy it.
pub type Outgoing = Box<Request<RequestBody>>;

enum Source {
    /// A body that was read whole; `None` once it was handed over.
    Whole(Option<Bytes>),
    /// Streamed from the client, with its own back-pressure, behind the beginning of it that was read already.
    Stream(Option<Bytes>, ClientBody, Rc<Upload>),
}

/// What goes to the client. While it lives, its connection is busy.
pub struct ResponseBody {
    kind: Kind,
    /// How the backend broke it off, while what came before goes out.
    broken: Option<BodyError>,
    _busy: Option<Busy>,
    /// What a backend does while it answers is part of the write.
    _writing: Option<Box<Writing>>,
    /// Its place among the client's requests in flight.
    _flight: Option<Rc<Flight>>,
}

enum Kind {
    Whole(Option<Bytes>),
    Stream(UpstreamBody),
    /// The beginning of an answer that turned out too large to keep, and the rest behind it.
    Prefixed(Option<Bytes>, UpstreamBody),
    /// Gathered for others while it goes out.
    Piped(Outlet),
    /// Read beside while it goes out.
    Overheard(Box<Overheard>),
}

/// Why a body ended early. The connection is closed; there is nobody to explain it to.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

// === impl RequestBody ===

impl RequestBody {
    /// No body.
    pub fn empty() -> RequestBody {
        RequestBody(None)
    }

    /// A body as it comes; one that is empty already, or has come already, needs no streaming.
    pub fn stream(mut incoming: ClientBody) -> (RequestBody, Option<Rc<Upload>>) {
        if let Some(bytes) = incoming.whole() {
            return (RequestBody::whole(bytes), None);
        }
        let front = incoming.front();
        if front.is_none() && incoming.is_end_stream() {
            return (RequestBody::empty(), None);
        }
        let upload = Rc::new(Upload::of(&incoming));
        (RequestBody(Some(Box::new(Source::Stream(front, incoming, upload.clone())))), Some(upload))
    }

    /// The beginning of a body that turned out too large to read whole, and the rest behind it.
    pub fn prefixed(prefix: Option<Bytes>, rest: ClientBody) -> (RequestBody, Rc<Upload>) {
        let upload = Rc::new(Upload::default());
        (RequestBody(Some(Box::new(Source::Stream(prefix, rest, upload.clone())))), upload)
    }

    /// A body that was read whole.
    pub fn whole(bytes: Bytes) -> RequestBody {
        RequestBody((!bytes.is_empty()).then(|| Box::new(Source::Whole(Some(bytes)))))
    }

    /// How far it is, where it is still coming from the client.
    pub fn upload(&self) -> Option<&Rc<Upload>> {
        match self.0.as_deref() {
            Some(Source::Stream(_, _, upload)) => Some(upload),
            _ => None,
        }
    }

    /// The same body once more; `None` where it is coming from the client, and for one that was handed over.
    pub fn again(&self) -> Option<RequestBody> {
        match self.0.as_deref() {
            None => Some(RequestBody::empty()),
            Some(Source::Whole(Some(bytes))) => Some(RequestBody::whole(bytes.clone())),
            Some(Source::Whole(None) | Source::Stream(..)) => None,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let read = match self.get_mut().0.as_deref_mut() {
            None => return Poll::Ready(None),
            Some(Source::Whole(bytes)) => bytes.take(),
            Some(Source::Stream(prefix, ..)) if prefix.is_some() => prefix.take(),
            Some(Source::Stream(_, incoming, upload)) => {
                if let Err(refused) = ready!(upload.poll_wanted(cx)) {
                    return Poll::Ready(Some(Err(refused)));
                }
                let polled = Pin::new(incoming).poll_frame(cx);
                upload.note(polled.is_ready());
                return polled;
            }
        };
        Poll::Ready(read.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self.0.as_deref() {
            None => true,
            Some(Source::Whole(bytes)) => bytes.is_none(),
            Some(Source::Stream(prefix, incoming, _)) => prefix.is_none() && incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_deref() {
            None => SizeHint::with_exact(0),
            Some(Source::Whole(bytes)) => exact(bytes),
            Some(Source::Stream(None, incoming, _)) => incoming.size_hint(),
            Some(Source::Stream(Some(prefix), incoming, _)) => {
                let mut hint = SizeHint::default();
                let rest = incoming.size_hint();
                hint.set_lower(rest.lower().saturating_add(prefix.len() as u64));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(prefix.len() as u64));
                }
                hint
            }
        }
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// A whole body.
    pub fn whole(bytes: Bytes) -> ResponseBody {
        ResponseBody::of(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    /// A body that streams from the backend.
    pub fn stream(body: UpstreamBody) -> ResponseBody {
        ResponseBody::of(Kind::Stream(body))
    }

    /// What was read already, then the rest as it comes.
    pub fn prefixed(prefix: Bytes, rest: UpstreamBody) -> ResponseBody {
        ResponseBody::of(Kind::Prefixed((!prefix.is_empty()).then_some(prefix), rest))
    }

    /// A body that is gathered for others too.
    pub fn piped(outlet: Outlet) -> ResponseBody {
        ResponseBody::of(Kind::Piped(outlet))
    }

    /// Goes out as it comes, and is told to whoever asks here once it has ended, or goes out no further; only what streams
    /// from the backend is. Of more than `limit` bytes nothing is kept.
    pub fn overhear(&mut self, limit: u64) -> Option<oneshot::Receiver<Told>> {
        match std::mem::replace(&mut self.kind, Kind::Whole(None)) {
            Kind::Stream(body) => {
                let (overheard, told) = Overheard::new(body, limit);
                self.kind = Kind::Overheard(Box::new(overheard));
                Some(told)
            }
            other => {
                self.kind = other;
                None
            }
        }
    }

    fn of(kind: Kind) -> ResponseBody {
        ResponseBody { kind, broken: None, _busy: None, _writing: None, _flight: None }
    }

    /// The write lasts until the body is gone.
    pub fn end_with(&mut self, writing: Option<Box<Writing>>) {
        self._writing = writing;
    }

    /// The connection counts as busy, and its client's request as in flight, until the body is gone.
    pub fn hold(&mut self, busy: Busy, flight: Option<Rc<Flight>>) {
        (self._busy, self._flight) = (Some(busy), flight);
    }
}

impl Kind {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(body) => Pin::new(body).poll_frame(cx),
            Kind::Piped(outlet) => outlet.poll_frame(cx),
            Kind::Overheard(body) => body.poll_frame(cx),
            Kind::Prefixed(prefix, rest) => match prefix.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match this.kind.poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                // hyper gives up a connection at once, with all that it holds for it: the head, and what came of the body.
                // One turn later that has gone out, as far as the client takes it.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Stream(body) => body.is_end_stream(),
            Kind::Piped(outlet) => outlet.is_end_stream(),
            Kind::Overheard(body) => body.is_end_stream(),
            Kind::Prefixed(prefix, rest) => prefix.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => exact(bytes),
            Kind::Stream(body) => body.size_hint(),
            Kind::Overheard(body) => body.size_hint(),
            Kind::Prefixed(..) | Kind::Piped(_) => SizeHint::default(),
        }
    }
}

fn exact(bytes: &Option<Bytes>) -> SizeHint {
    SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
}
