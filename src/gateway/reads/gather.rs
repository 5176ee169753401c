//! Reading an answer to its end for those who wait for all of it, while the client that asked first gets it as it comes.

use super::flight::Gathering;
use super::pipe::{Outlet, pipe};
use crate::gateway::body::BodyError;
use crate::gateway::deadline::Deadlines;
use crate::gateway::upstream::UpstreamBody;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use tokio::time::Instant;

/// How reading a body ended.
pub enum Read {
    /// All of it is there, and the client has not been told; with the room that it has.
    Whole(Bytes, Gathering),
    /// All of it is there, and the client reads it.
    Piped(Bytes),
    /// It is for the client alone, which reads it: too large, too slow, or with trailers.
    Alone,
    /// The backend broke off before anybody was told.
    Broken(BodyError),
    /// The backend broke off while the client read, or nobody wants it any more.
    Ended,
}

/// How far an answer is gathered.
pub struct Bounds<'a> {
    /// Bytes of one answer.
    pub limit: u64,
    /// Bytes of all of them.
    pub room: Gathering,
    /// Until when it has to be there.
    pub deadline: Instant,
    /// The worker's.
    pub deadlines: &'a Deadlines,
}

struct Pieces {
    list: Vec<Bytes>,
    length: u64,
    limit: u64,
    room: Gathering,
}

/// Reads `body`. Where it does not come at once, `open` gives the client its end of a pipe, once; it may leave, and the
/// reading goes on as long as the answer `is_wanted`.
pub async fn gather(
    mut body: UpstreamBody,
    bounds: Bounds<'_>,
    open: impl FnOnce(Outlet),
    is_wanted: impl Fn() -> bool,
) -> Read {
    let Bounds { limit, room, deadline, deadlines } = bounds;
    let mut pieces = Pieces { list: Vec::new(), length: 0, limit, room };
    // What is there with the head, as most answers are, needs no pipe.
    while let Some(frame) = at_once(&mut body).await {
        match frame {
            None => {
                let (body, room) = pieces.joined();
                return Read::Whole(body, room);
            }
            Some(Err(error)) => return Read::Broken(error),
            Some(Ok(frame)) => {
                if let Err(frame) = pieces.take(frame) {
                    let (inlet, outlet) = pipe(pieces.list.into_iter());
                    open(outlet);
                    inlet.push(frame);
                    inlet.hand_over(body, pieces.room);
                    return Read::Alone;
                }
            }
        }
    }
    let (inlet, outlet) = pipe(pieces.list.iter().cloned());
    open(outlet);
    loop {
        match deadlines.within(deadline, body.frame()).await {
            // Too slow to be waited for. The client that reads it may have patience.
            None => {
                inlet.hand_over(body, pieces.room);
                return Read::Alone;
            }
            Some(None) => {
                let (body, room) = pieces.joined();
                inlet.finish(room);
                return Read::Piped(body);
            }
            Some(Some(Err(error))) => {
                inlet.broke(error, pieces.room);
                return Read::Ended;
            }
            Some(Some(Ok(frame))) => match pieces.take(frame) {
                Ok(data) => inlet.push(Frame::data(data)),
                Err(frame) => {
                    inlet.push(frame);
                    inlet.hand_over(body, pieces.room);
                    return Read::Alone;
                }
            },
        }
        if inlet.is_left() && !is_wanted() {
            return Read::Ended;
        }
    }
}

/// The next frame, where it is there already.
async fn at_once(body: &mut UpstreamBody) -> Option<Option<Result<Frame<Bytes>, BodyError>>> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        })
    })
    .await
}

// === impl Pieces ===

impl Pieces {
    /// Adds a frame where it is data and fits; gives it back otherwise. Trailers are for the client they were made for.
    fn take(&mut self, frame: Frame<Bytes>) -> Result<Bytes, Frame<Bytes>> {
        let Some(data) = frame.data_ref() else { return Err(frame) };
        let length = data.len() as u64;
        if self.length + length > self.limit || !self.room.takes(length) {
            return Err(frame);
        }
        self.length += length;
        self.list.push(data.clone());
        Ok(data.clone())
    }

    /// The body, and the room that it has taken.
    fn joined(mut self) -> (Bytes, Gathering) {
        if self.list.len() <= 1 {
            return (self.list.pop().unwrap_or_default(), self.room);
        }
        let mut joined = BytesMut::with_capacity(usize::try_from(self.length).unwrap_or_default());
        self.list.iter().for_each(|piece| joined.extend_from_slice(piece));
        (joined.freeze(), self.room)
    }
}
