//! A request's body on its way from the client: what is left of it when nobody reads on, and whether the backend wants it.

use super::body::BodyError;
use super::clock;
use super::connection::Connection;
use super::h2::{UploadWatch, Watched};
use super::quiet::quietly;
use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A request's body as the client sends it. What nobody has read when it is dropped is left to the connection, which
/// reads it away within bounds: the bytes behind it must never be taken for anything but the next request.
pub struct ClientBody {
    incoming: Option<Incoming>,
    connection: Rc<Connection>,
    /// Whether the client sends it fast enough, where HTTP/2 carries several at once.
    watch: Option<Box<UploadWatch>>,
    /// The client waits for `100 Continue`, which goes out when the body is first asked for.
    expects: bool,
    /// What was taken of it already. Boxed: a body is handed down through many futures, and most have none.
    front: Option<Box<Front>>,
}

/// What was taken of a body before it goes on its way.
#[derive(Default)]
struct Front {
    /// Its beginning.
    bytes: Option<Bytes>,
    /// What stands behind that and is no data.
    behind: Option<Result<Frame<Bytes>, BodyError>>,
    /// It has ended there.
    ended: bool,
}

/// How far a streamed request body is, for whoever waits for the answer behind it.
#[derive(Default)]
pub struct Upload {
    moved_at: Cell<Option<Instant>>,
    /// Whoever sends it on has asked for more, and the client has not sent it.
    waits_for_client: Cell<bool>,
    /// Present while the backend has not said that it wants the body.
    held: RefCell<Option<Held>>,
}

/// A body that the client offers and nobody has asked for.
#[derive(Default)]
struct Held {
    refused: bool,
    waker: Option<Waker>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// What is left of a body that nobody reads on.
pub struct Leftover {
    incoming: Incoming,
    bytes: usize,
    until: Instant,
}

/// How long a backend may take to say that it wants a body that its client holds back. Many never say so; then it is sent
/// all the same (RFC 9110, 10.1.1).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);
/// So much of a body that nobody wants is read to keep its connection; beyond it the connection is closed.
const LEFTOVER_BYTES_MAX: usize = 256 << 10;
/// So long that may take.
const LEFTOVER_LONGEST: Duration = Duration::from_secs(2);
/// So much of a body at most leaves together with its head.
const FRONT_BYTES_MAX: usize = 16 << 10;
/// So often at most its connection is asked for more of what came.
const FRONT_ROUNDS_MAX: u32 = 8;

/// The next part of a body. Its connection is woken where hyper has more to do for it: that is not the one who asks where a
/// backend's connection takes it.
fn poll_part(
    incoming: &mut Incoming,
    connection: &Connection,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let (polled, woken) = quietly(|| Pin::new(&mut *incoming).poll_frame(cx));
    if woken && !incoming.is_end_stream() {
        connection.wake();
    }
    polled
}

/// Whether a body of HTTP/2 that goes no further has no end. hyper takes a RST_STREAM with NO_ERROR for one, but what came
/// before it is a part of the body, and the client has left.
fn is_cut(incoming: &Incoming, connection: &Connection) -> bool {
    connection.streams().is_some() && !incoming.is_end_stream()
}

// === impl ClientBody ===

impl ClientBody {
    /// The body of a request that came over `connection`; `expects` where it said `Expect: 100-continue`.
    pub fn new(
        incoming: Incoming,
        connection: &Rc<Connection>,
        version: Version,
        expects: bool,
    ) -> ClientBody {
        let comes = !incoming.is_end_stream();
        // In HTTP/2 nobody can be told to go on; such a client does so after a while.
        let expects = expects && version == Version::HTTP_11 && comes;
        let watch = connection.streams().filter(|_| comes).map(|streams| Box::new(streams.watch_upload()));
        let front = None;
        ClientBody { incoming: Some(incoming), connection: connection.clone(), watch, expects, front }
    }

    /// Takes what of it has come already, so that it leaves together with the head, as it came: there are backends that
    /// look for a small body there. Waits for nothing that is still on its way.
    pub async fn take_what_came(&mut self) {
        let is_large = self.size_hint().lower() > FRONT_BYTES_MAX as u64;
        if self.is_end_stream() || self.expects || is_large || self.connection.streams().is_some() {
            return;
        }
        let (mut front, mut taken, mut rounds, mut asked) = (Front::default(), Vec::new(), 0, false);
        poll_fn(|cx| self.poll_what_came(cx, &mut front, &mut taken, &mut rounds, &mut asked)).await;
        front.bytes = match taken.len() {
            0 => None,
            1 => taken.pop(),
            _ => Some(taken.concat().into()),
        };
        self.front = Some(Box::new(front));
    }

    /// hyper hands over one part when it is asked, the next time that its connection's task runs, which is this one.
    fn poll_what_came(
        &mut self,
        cx: &mut Context<'_>,
        front: &mut Front,
        taken: &mut Vec<Bytes>,
        rounds: &mut u32,
        asked: &mut bool,
    ) -> Poll<()> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(()) };
        while taken.iter().map(Bytes::len).sum::<usize>() < FRONT_BYTES_MAX && !incoming.is_end_stream() {
            match poll_part(incoming, &self.connection, cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    *asked = false;
                    match frame.into_data() {
                        Ok(bytes) => taken.push(bytes),
                        Err(trailers) => {
                            front.behind = Some(Ok(trailers));
                            break;
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    front.behind = Some(Err(error.into()));
                    break;
                }
                Poll::Ready(None) => {
                    front.ended = true;
                    break;
                }
                Poll::Pending if *asked || *rounds == FRONT_ROUNDS_MAX => break,
                Poll::Pending => {
                    (*asked, *rounds) = (true, *rounds + 1);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    /// All of it, where all was taken and something is there.
    pub fn whole(&mut self) -> Option<Bytes> {
        let front = self.front.as_mut()?;
        let ended = front.ended || self.incoming.as_ref().is_none_or(Incoming::is_end_stream);
        if ended && front.behind.is_none() { front.bytes.take() } else { None }
    }

    /// What was taken of it.
    pub fn front(&mut self) -> Option<Bytes> {
        self.front.as_mut()?.bytes.take()
    }

    /// What its connection sees of it, where that carries several.
    pub fn watched(&self) -> Option<Rc<Watched>> {
        Some(self.watch.as_ref()?.watched())
    }

    /// Whether the client waits to be told that its body is wanted.
    pub fn expects(&self) -> bool {
        self.expects
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.expects = false;
        if let Some(front) = &mut this.front {
            if let Some(behind) = front.behind.take() {
                return Poll::Ready(Some(behind));
            }
            if front.ended {
                return Poll::Ready(None);
            }
        }
        let Some(incoming) = this.incoming.as_mut() else { return Poll::Ready(None) };
        let mut polled = poll_part(incoming, &this.connection, cx).map_err(BodyError::from);
        if matches!(polled, Poll::Ready(None)) && is_cut(incoming, &this.connection) {
            polled = Poll::Ready(Some(Err("the client gave it up".into())));
        }
        match &this.watch {
            None => polled,
            Some(watch) => watch.judge(cx, polled),
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_more = self.front.as_ref().is_some_and(|front| front.behind.is_some());
        !has_more && self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        // A stream of HTTP/2 is reset, and says nothing of those beside it.
        if self.connection.streams().is_some() {
            return;
        }
        // A client that still waits for its `100 Continue` sends nothing that would have to be read.
        if let Some(incoming) =
            self.incoming.take().filter(|incoming| !self.expects && !incoming.is_end_stream())
            && incoming.size_hint().lower() <= LEFTOVER_BYTES_MAX as u64
        {
            let until = clock::now() + LEFTOVER_LONGEST;
            self.connection.leave(Leftover { incoming, bytes: 0, until });
        }
    }
}

// === impl Upload ===

impl Upload {
    /// Of a body that is about to be streamed.
    pub fn of(body: &ClientBody) -> Upload {
        Upload { held: RefCell::new(body.expects().then(Held::default)), ..Upload::default() }
    }

    /// More of it was asked for; whether something moved.
    pub fn note(&self, moved: bool) {
        self.waits_for_client.set(!moved);
        if moved {
            self.moved_at.set(Some(clock::now()));
        }
    }

    /// Whether it is the client that has to go on.
    pub fn waits_for_client(&self) -> bool {
        self.waits_for_client.get()
    }

    /// When the body last moved; its end is a movement, too.
    pub fn moved_at(&self) -> Option<Instant> {
        self.moved_at.get()
    }

    /// Whether the backend has not asked for it.
    pub fn is_held(&self) -> bool {
        self.held.borrow().is_some()
    }

    /// The backend wants it.
    pub fn open(&self) {
        if let Some(held) = self.held.take() {
            held.waker.into_iter().for_each(Waker::wake);
        }
    }

    /// The exchange ended without anybody wanting it.
    pub fn refuse(&self) {
        if let Some(held) = &mut *self.held.borrow_mut() {
            held.refused = true;
            held.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until the backend wants the body; an error where it does not.
    pub fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let mut slot = self.held.borrow_mut();
        let Some(held) = &mut *slot else { return Poll::Ready(Ok(())) };
        if held.refused {
            return Poll::Ready(Err("the backend answered without asking for the body".into()));
        }
        let patience =
            held.patience.get_or_insert_with(|| Box::pin(sleep_until(clock::now() + CONTINUE_PATIENCE)));
        if patience.as_mut().poll(cx).is_ready() {
            *slot = None;
            return Poll::Ready(Ok(()));
        }
        held.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

// === impl Leftover ===

impl Leftover {
    /// Whether it took too long at `now`.
    pub fn is_overdue(&self, now: Instant) -> bool {
        now > self.until
    }

    /// Reads it away; ready when it has ended, broke off, or was too much.
    pub fn poll_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.bytes += frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            if self.bytes > LEFTOVER_BYTES_MAX {
                return Poll::Ready(());
            }
        }
    }
}
