//! A request on its way over an HTTP/2 connection: whether hyper has taken it, and the place that it keeps until the server
//! counts its stream no longer.
//!
//! A server may answer before it has a request's body, and give that no window any more. hyper waits for one, for as long as
//! the connection lasts, and asks the body nothing meanwhile; so what hyper goes on with in a task is ended from without. The
//! stream is reset then, because nobody has a hand on it any more.

use crate::gateway::body::{BodyError, RequestBody};
use crate::gateway::clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

/// The places of one connection.
#[derive(Default)]
pub(super) struct Places {
    taken: Cell<usize>,
    /// Those that nothing but a request's body keeps.
    left: RefCell<Vec<Weak<Place>>>,
}

/// A stream as the server counts it: it ends with the exchange and with the request's body, whichever takes longer.
pub(super) struct Place {
    places: Rc<Places>,
    /// When the request's body last went on; its exchange's end is a movement, too.
    moved: Cell<Instant>,
    /// The exchange is over, and nothing is left of it but the body; told once more, that is given up too.
    over: Notify,
}

/// The requests of one connection that hyper has taken to send, in its order: the how-manieth stream each will be.
#[derive(Default)]
pub(super) struct Takings {
    last: Cell<u64>,
    /// Whose body hyper has just begun with. If it does not get to its end at once, it goes on with it in a task, and that is
    /// the next one that it asks for.
    begins: RefCell<Option<Rc<Place>>>,
}

/// Runs what hyper wants to have run for one connection.
#[derive(Clone)]
pub(super) struct Tasks {
    takings: Rc<Takings>,
    /// So long a body may stand still behind its exchange's end.
    stall: Duration,
}

/// The how-manieth stream of its connection a request is; nothing as long as hyper has not taken it. One that is given up
/// until then never leaves.
pub(super) type Number = Rc<Cell<Option<u64>>>;

/// A request's body that keeps its stream's place.
pub(super) struct Sending {
    body: RequestBody,
    number: Number,
    takings: Rc<Takings>,
    place: Rc<Place>,
    /// hyper has asked for the first piece.
    has_begun: bool,
    /// How much of it hyper has got.
    sent: usize,
    /// What is left of a piece.
    rest: Bytes,
}

/// hyper gets a body in parts of a frame each, so that it shows whether it moves.
///
/// It hands over a part as soon as there is a window for its first byte, and has no hand on it any more; where that was the
/// body's last one, the stream is out of reach. So what may be the last one is a single byte: for that there is a window only
/// where there is one for all before it. A body of one part is left whole: every server has a window for that.
const PART_BYTES: usize = 16 << 10;

// === impl Places ===

impl Places {
    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Gives up the bodies that have not moved since `then`, and that nobody waits for; whether there were any. Their places
    /// are free when their tasks have run.
    pub fn give_up_since(&self, then: Instant) -> bool {
        let mut left = self.left.borrow_mut();
        let before = left.len();
        left.retain(|place| {
            let still = place.upgrade().filter(|place| place.moved.get() <= then);
            if let Some(still) = &still {
                still.over.notify_one();
            }
            still.is_none() && place.strong_count() > 0
        });
        left.len() < before
    }
}

// === impl Place ===

impl Place {
    pub fn new(places: Rc<Places>) -> Place {
        places.taken.set(places.taken.get() + 1);
        Place { places, moved: Cell::new(clock::recent()), over: Notify::new() }
    }

    /// Its exchange is over: there is an answer with its end, or nobody waits for one.
    pub fn exchange_ends(self: &Rc<Place>) {
        self.moved.set(clock::recent());
        self.over.notify_one();
        // What hyper has sent to its end, as it has nearly always, keeps nothing.
        if Rc::strong_count(self) > 1 {
            let mut left = self.places.left.borrow_mut();
            left.retain(|place| place.strong_count() > 0);
            left.push(Rc::downgrade(self));
        }
    }

    /// Resolves when its exchange is over, and the request's body was given up or has not moved for as long as `stall` since.
    async fn stalls(&self, stall: Duration) {
        self.over.notified().await;
        loop {
            let moved = self.moved.get();
            let given_up = timeout_at(moved + stall, self.over.notified()).await.is_ok();
            if given_up || self.moved.get() == moved {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.set(self.places.taken.get() - 1);
    }
}

// === impl Tasks ===

impl Tasks {
    pub fn new(takings: Rc<Takings>, stall: Duration) -> Tasks {
        Tasks { takings, stall }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let Some(place) = self.takings.begins.take() else {
            spawn_local(task);
            return;
        };
        let stall = self.stall;
        spawn_local(async move {
            tokio::select! {
                biased;
                () = task => {}
                () = place.stalls(stall) => {}
            }
        });
    }
}

// === impl Sending ===

impl Sending {
    pub fn new(body: RequestBody, number: Number, takings: Rc<Takings>, place: Rc<Place>) -> Sending {
        Sending { body, number, takings, place, has_begun: false, sent: 0, rest: Bytes::new() }
    }

    /// The body alone; its stream's place is free.
    pub fn into_body(mut self) -> RequestBody {
        std::mem::replace(&mut self.body, RequestBody::empty())
    }

    /// hyper has looked whether the exchange was given up, and makes a stream of it now.
    fn taken(&self) {
        if self.number.get().is_none() {
            let last = &self.takings.last;
            last.set(last.get() + 1);
            self.number.set(Some(last.get()));
        }
    }

    /// The next part of what is left of a piece.
    fn part(&mut self) -> Bytes {
        let length = match self.rest.len() {
            left if self.sent + left <= PART_BYTES => left,
            left => PART_BYTES.min(left - 1).max(1),
        };
        self.sent += length;
        self.rest.split_to(length)
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.has_begun, true) {
            this.takings.begins.replace(Some(this.place.clone()));
        }
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => this.rest = piece,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        this.place.moved.set(clock::recent());
        Poll::Ready(Some(Ok(Frame::data(this.part()))))
    }

    /// What hyper asks for first of a request that it takes, and no sooner; so too [`Body::size_hint`].
    fn is_end_stream(&self) -> bool {
        self.taken();
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// Asked for before anything was handed over, and never behind that.
    fn size_hint(&self) -> SizeHint {
        self.taken();
        self.body.size_hint()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // hyper got to its end at once.
        let begins = &mut *self.takings.begins.borrow_mut();
        if begins.as_ref().is_some_and(|place| Rc::ptr_eq(place, &self.place)) {
            *begins = None;
        }
    }
}
