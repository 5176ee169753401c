//! A request on its way over an HTTP/2 connection: whether hyper has taken it, and the place that it keeps until the server
//! counts its stream no longer.

use crate::gateway::body::{BodyError, RequestBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The places of one connection.
#[derive(Default)]
pub(super) struct Places {
    taken: Cell<usize>,
}

/// A stream as the server counts it: it ends with the exchange and with the request's body, whichever takes longer.
pub(super) struct Place(Rc<Places>);

/// The requests of one connection that hyper has taken to send, in its order: the how-manieth stream each will be.
#[derive(Default)]
pub(super) struct Takings(Cell<u64>);

/// The how-manieth stream of its connection a request is; nothing as long as hyper has not taken it. One that is given up
/// until then never leaves.
pub(super) type Number = Rc<Cell<Option<u64>>>;

/// A request's body that keeps its stream's place.
pub(super) struct Sending {
    body: RequestBody,
    number: Number,
    takings: Rc<Takings>,
    _place: Rc<Place>,
}

// === impl Places ===

impl Places {
    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }
}

// === impl Place ===

impl Place {
    pub fn new(places: Rc<Places>) -> Place {
        places.taken.set(places.taken.get() + 1);
        Place(places)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

// === impl Sending ===

impl Sending {
    pub fn new(body: RequestBody, number: Number, takings: Rc<Takings>, place: Rc<Place>) -> Sending {
        Sending { body, number, takings, _place: place }
    }

    /// The body alone; its stream's place is free.
    pub fn into_body(self) -> RequestBody {
        self.body
    }

    /// hyper has looked whether the exchange was given up, and makes a stream of it now.
    fn taken(&self) {
        if self.number.get().is_none() {
            let Takings(last) = &*self.takings;
            last.set(last.get() + 1);
            self.number.set(Some(last.get()));
        }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// What hyper asks for first of a request that it takes, and no sooner; so too [`Body::size_hint`].
    fn is_end_stream(&self) -> bool {
        self.taken();
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.taken();
        self.body.size_hint()
    }
}
