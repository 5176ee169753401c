//! The way of an answer from the task that gathers it to the client that asked first. Both are on one worker. The task
//! goes on without the client, and the client gets the bytes as they come.

use super::flight::Gathering;
use crate::gateway::body::BodyError;
use crate::gateway::upstream::UpstreamBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The task's end.
pub struct Inlet(Rc<RefCell<Shared>>);

/// The client's end.
pub struct Outlet(Rc<RefCell<Shared>>);

/// What lies between them; bounded by what the task may gather, and counted there until the client has taken it.
#[derive(Default)]
struct Shared {
    frames: VecDeque<Frame<Bytes>>,
    end: Option<End>,
    /// What the frames hold, once the task does not count them any more.
    room: Option<Gathering>,
    waker: Option<Waker>,
    client_left: bool,
}

enum End {
    /// All of it is there.
    Whole,
    /// The backend broke off.
    Broken(BodyError),
    /// It is not gathered any further: the rest comes from the backend itself.
    Rest(UpstreamBody),
}

/// A pipe with `first` in it.
pub fn pipe(first: impl Iterator<Item = Bytes>) -> (Inlet, Outlet) {
    let frames = first.map(Frame::data).collect();
    let shared = Rc::new(RefCell::new(Shared { frames, ..Shared::default() }));
    (Inlet(shared.clone()), Outlet(shared))
}

// === impl Inlet ===

impl Inlet {
    /// Hands on what came.
    pub fn push(&self, frame: Frame<Bytes>) {
        let mut shared = self.0.borrow_mut();
        if !shared.client_left {
            shared.frames.push_back(frame);
            shared.wake();
        }
    }

    /// It was all. What the client has not taken yet keeps its `room`.
    pub fn finish(self, room: Gathering) {
        self.end(End::Whole, Some(room));
    }

    /// The backend broke off.
    pub fn broke(self, error: BodyError, room: Gathering) {
        self.end(End::Broken(error), Some(room));
    }

    /// The client takes the rest from the backend.
    pub fn hand_over(self, rest: UpstreamBody, room: Gathering) {
        self.end(End::Rest(rest), Some(room));
    }

    /// Whether nobody reads any more.
    pub fn is_left(&self) -> bool {
        self.0.borrow().client_left
    }

    fn end(&self, end: End, room: Option<Gathering>) {
        let mut shared = self.0.borrow_mut();
        // Where the client has left, what ends here ends for good: a connection goes back, or is closed.
        if !shared.client_left {
            shared.end = Some(end);
            shared.room = room;
            let left = shared.frames.iter().map(length).sum();
            shared.room.iter_mut().for_each(|room| room.shrinks_to(left));
            shared.wake();
        }
    }
}

impl Drop for Inlet {
    /// A task that ends without a word has broken off.
    fn drop(&mut self) {
        if self.0.borrow().end.is_none() {
            self.end(End::Broken("the gateway failed while it read the answer".into()), None);
        }
    }
}

// === impl Outlet ===

impl Outlet {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = self.0.borrow_mut();
        if let Some(frame) = shared.frames.pop_front() {
            shared.room.iter_mut().for_each(|room| room.gives_back(length(&frame)));
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut shared.end {
            None => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Rest(rest)) => Pin::new(rest).poll_frame(cx),
            Some(End::Broken(_)) => match shared.end.replace(End::Whole) {
                Some(End::Broken(error)) => Poll::Ready(Some(Err(error))),
                _ => Poll::Ready(None),
            },
        }
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        let shared = self.0.borrow();
        shared.frames.is_empty()
            && match &shared.end {
                Some(End::Whole) => true,
                Some(End::Rest(rest)) => rest.is_end_stream(),
                _ => false,
            }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.client_left = true;
        shared.frames.clear();
        shared.end = None;
        shared.room = None;
    }
}

// === impl Shared ===

impl Shared {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::flight::Flights;
    use super::*;
    use std::sync::Arc;
    use std::task::Waker;

    fn poll(outlet: &mut Outlet) -> Poll<Option<Result<Bytes, String>>> {
        let polled = outlet.poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(|error| error.to_string())
            })
        })
    }

    #[test]
    fn pieces_come_in_their_order_and_then_the_end() {
        let (inlet, mut outlet) = pipe([Bytes::from_static(b"a")].into_iter());
        inlet.push(Frame::data(Bytes::from_static(b"b")));
        assert_eq!(poll(&mut outlet), Poll::Ready(Some(Ok(Bytes::from_static(b"a")))));
        assert_eq!(poll(&mut outlet), Poll::Ready(Some(Ok(Bytes::from_static(b"b")))));
        assert_eq!(poll(&mut outlet), Poll::Pending);
        assert!(!outlet.is_end_stream());
        inlet.finish(Arc::new(Flights::new(0)).gather());
        assert!(outlet.is_end_stream());
        assert_eq!(poll(&mut outlet), Poll::Ready(None));
    }

    #[test]
    fn a_task_that_dies_breaks_the_answer_and_does_not_end_it() {
        let (inlet, mut outlet) = pipe(std::iter::empty());
        drop(inlet);
        assert!(!outlet.is_end_stream());
        assert!(matches!(poll(&mut outlet), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn a_client_that_left_holds_nothing() {
        let (inlet, outlet) = pipe([Bytes::from_static(b"a")].into_iter());
        drop(outlet);
        inlet.push(Frame::data(Bytes::from_static(b"b")));
        assert!(inlet.is_left() && inlet.0.borrow().frames.is_empty());
    }
    #[test]
    fn what_a_slow_client_has_not_taken_yet_counts_as_gathered() {
        let flights = Arc::new(Flights::new(100));
        let ends: [fn(Inlet, Gathering); 2] =
            [|inlet, room| inlet.finish(room), |inlet, room| inlet.broke("it broke off".into(), room)];
        for end in ends {
            let mut room = flights.gather();
            assert!(room.takes(60));
            let (inlet, mut outlet) = pipe([Bytes::from_static(&[1; 10])].into_iter());
            inlet.push(Frame::data(Bytes::from_static(&[2; 30])));
            inlet.push(Frame::data(Bytes::from_static(&[3; 20])));
            assert!(poll(&mut outlet).is_ready());
            end(inlet, room);
            assert_eq!(flights.gathered(), 50);
            assert!(!flights.gather().takes(51), "nobody else has that room");
            assert!(poll(&mut outlet).is_ready());
            assert_eq!(flights.gathered(), 20);
            drop(outlet);
            assert_eq!(flights.gathered(), 0);
        }
        let mut room = flights.gather();
        assert!(room.takes(60));
        let (inlet, outlet) = pipe([Bytes::from_static(&[1; 60])].into_iter());
        drop(outlet);
        inlet.finish(room);
        assert_eq!(flights.gathered(), 0, "a client that left");
    }
}
