//! One connection to a server, driven by whoever uses it.
//!
//! hyper gives a connection in two halves: a sender, and a future that does the I/O. In a task of its own that future
//! would cost every exchange three polls and as many wake-ups more, only so that two tasks of one thread can tell each
//! other of each step. So here the exchange that waits for an answer drives the connection in the same poll, and a
//! connection at rest is looked after by the worker's sweep.
//!
//! Owned by an exchange, then by its answer's body, then by the pool. What hyper's two halves wake each other for is
//! done in the same poll; [`Relay`] keeps those wake-ups from reaching the task, which would run once more for nothing.

use super::hearing::Hearing;
use super::stream::{Heads, ServerStream};
use crate::gateway::body::RequestBody;
use crate::gateway::clock;
use crate::gateway::head_writer::Written;
use crate::gateway::own_lines::OwnLines;
use crate::gateway::scan::{Asked, Problem};
use crate::gateway::socket::Socket;
use crate::gateway::spelling::Spelling;
use crate::gateway::upload::Upload;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, Parts, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The I/O half of a connection.
pub(super) type Io = Connection<TokioIo<ServerStream>, RequestBody>;

/// A connection.
pub(super) struct Link {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    heads: Rc<Heads>,
    relay: Arc<Relay>,
    /// `relay`, as the connection's own polls see it.
    waker: Waker,
    /// The task that `relay` passes wake-ups on to.
    task: Option<Waker>,
    left: Rc<Left>,
    /// So long a request's body may stand still behind its exchange's end.
    stall: Duration,
}

/// A request's body that its exchange may leave behind in the task that drives the connection: a server need not take it.
#[derive(Default)]
struct Left {
    upload: RefCell<Weak<Upload>>,
    /// Its exchange is over.
    over: Cell<bool>,
    told: Notify,
}

/// Who drives the I/O half.
enum Driver {
    /// Whoever uses the connection.
    User(Box<Io>),
    /// A task, from now on until the connection ends.
    Task,
    /// Nobody: it has ended, and what it had not taken has been handed back.
    Ended,
    /// Nobody: the server switched to another protocol.
    Switched(Box<Switched>),
}

/// The server's side of a connection that speaks another protocol.
pub struct Switched {
    /// What it goes on with.
    pub socket: Socket,
    /// What had come of it already.
    pub early: Vec<u8>,
}

/// Passes wake-ups on to the task that uses the connection, except those that it causes itself while it drives it.
#[derive(Default)]
pub(super) struct Relay {
    driven: AtomicBool,
    woken: AtomicBool,
    /// Since its last reading nothing woke the connection: whoever reads again finds nothing.
    rests: AtomicBool,
    task: Mutex<Option<Waker>>,
}

/// Rounds of one poll in which the two halves wake each other; more than a few means that the runtime wants to see
/// other tasks, and the rest is left to the next poll.
const ROUNDS_MOST: u32 = 4;

// === impl Link ===

impl Link {
    /// A connection that was just made.
    pub fn new(sender: SendRequest<RequestBody>, io: Io, heads: Rc<Heads>, stall: Duration) -> Box<Link> {
        let relay = Arc::new(Relay::default());
        heads.woken_by(Some(relay.clone()));
        let waker = Waker::from(relay.clone());
        let (driver, left) = (Driver::User(Box::new(io)), Rc::default());
        Box::new(Link { sender, driver, heads, relay, waker, task: None, left, stall })
    }

    /// Sends `request` and waits for its answer's head.
    pub fn exchange(
        &mut self,
        request: Request<RequestBody>,
        lines: Option<OwnLines>,
        asked: Asked,
        hearing: Option<Hearing>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> {
        let upload = request.body().upload();
        self.left.begins(upload);
        if upload.is_some() {
            self.detach();
        }
        let spelling = request.extensions().get::<Spelling>().cloned();
        self.heads.expect(asked, Written { spelling, lines, own_version: false }, hearing);
        // What the sender wakes now is polled below.
        self.relay.driven.store(true, Ordering::Release);
        let answer = self.sender.try_send_request(request);
        async move {
            let mut answer = pin!(answer);
            let mut answer = poll_fn(|cx| {
                // Put down here by what is polled rather than handed up by it: it is large, and each step would copy it.
                let mut came = None;
                let _waits =
                    self.poll(cx, true, |cx| answer.as_mut().poll(cx).map(|answer| came = Some(answer)));
                came.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            if let (Ok(answer), Some(spelling)) = (&mut answer, self.heads.spelling()) {
                answer.extensions_mut().insert(spelling);
            }
            answer
        }
    }

    /// Polls `step`, which waits for something that this connection brings, and drives the connection: before `step`
    /// where it is `due`, otherwise only where `step` has to wait.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut due: bool,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.listen(cx.waker());
        self.relay.driven.store(true, Ordering::Release);
        let mut rounds = 0;
        let polled = loop {
            self.relay.woken.store(false, Ordering::Release);
            if due {
                self.drive();
            }
            let polled = step(&mut Context::from_waker(&self.waker));
            if polled.is_ready() || (due && !self.relay.woken.load(Ordering::Acquire)) {
                break polled;
            }
            due = true;
            rounds += 1;
            if rounds > ROUNDS_MOST {
                cx.waker().wake_by_ref();
                break Poll::Pending;
            }
        };
        self.relay.driven.store(false, Ordering::Release);
        polled
    }

    /// Gives the I/O half a task of its own. For a request whose body streams: it has to move even while nobody reads the
    /// answer.
    pub fn detach(&mut self) {
        if let Driver::User(io) = std::mem::replace(&mut self.driver, Driver::Task) {
            self.heads.woken_by(None);
            let (left, stall) = (self.left.clone(), self.stall);
            tokio::task::spawn_local(async move {
                tokio::select! {
                    biased;
                    // The exchange on this connection sees the same error and classifies it.
                    _ = io => {}
                    () = left.stalls(stall) => {}
                }
            });
        }
    }

    /// Looks after a connection that nobody uses: notices that the server closed it, and forgets who used it last.
    pub fn look_after(&mut self) {
        self.task = None;
        *self.relay.task() = None;
        self.drive();
    }

    /// Whether it can take a request now.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.heads.is_spent()
    }

    /// Whether it will never take one again.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.heads.is_spent()
    }

    /// What is wrong with the answer that came.
    pub fn problem(&self) -> Option<Problem> {
        self.heads.problem()
    }

    /// Its exchange is over: nobody listens to it any more.
    pub fn rests(&self) {
        self.heads.forget();
        self.left.exchange_ends();
    }

    fn drive(&mut self) {
        if let Driver::User(io) = &mut self.driver {
            // An error of it is told to the exchange too, which classifies it. With the half goes the request that it
            // had not begun to send; the exchange gets it back.
            if Pin::new(&mut **io).poll(&mut Context::from_waker(&self.waker)).is_ready() {
                let ended = std::mem::replace(&mut self.driver, Driver::Ended);
                if self.heads.has_switched() {
                    self.keep(ended);
                }
            }
        }
    }

    #[cold]
    fn keep(&mut self, ended: Driver) {
        if let Driver::User(io) = ended {
            let Parts { io, read_buf, .. } = io.into_parts();
            let (socket, held) = io.into_inner().into_parts();
            let early = [&read_buf[..], &held].concat();
            self.driver = Driver::Switched(Box::new(Switched { socket, early }));
        }
    }

    /// Whether the server switched to another protocol.
    pub fn has_switched(&self) -> bool {
        self.heads.has_switched()
    }

    /// What the server goes on with, where it switched to another protocol.
    pub fn switched(&mut self) -> Option<Switched> {
        self.drive();
        match std::mem::replace(&mut self.driver, Driver::Ended) {
            Driver::Switched(switched) => Some(*switched),
            _ => None,
        }
    }

    fn listen(&mut self, task: &Waker) {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            self.task = Some(task.clone());
            *self.relay.task() = Some(task.clone());
        }
    }
}

// === impl Left ===

impl Left {
    fn begins(&self, upload: Option<&Rc<Upload>>) {
        self.over.set(false);
        *self.upload.borrow_mut() = upload.map(Rc::downgrade).unwrap_or_default();
    }

    fn exchange_ends(&self) {
        self.over.set(true);
        if self.upload.borrow().strong_count() > 0 {
            self.told.notify_one();
        }
    }

    /// When the body last moved, at the earliest at `since`; nothing where it has ended, or its exchange goes on.
    fn moved_at(&self, since: Instant) -> Option<Instant> {
        let upload = self.upload.borrow().upgrade().filter(|_| self.over.get())?;
        Some(upload.moved_at().map_or(since, |moved| moved.max(since)))
    }

    /// Resolves when the exchange is over and the body has not moved for as long as `stall` since.
    async fn stalls(&self, stall: Duration) {
        loop {
            self.told.notified().await;
            let since = clock::now();
            while let Some(moved) = self.moved_at(since) {
                sleep_until(moved + stall).await;
                if self.moved_at(since) == Some(moved) {
                    return;
                }
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A body that was held back keeps the other half's task alive until it is told that nobody wants it.
        self.rests();
    }
}

// === impl Relay ===

impl Relay {
    /// The socket is read now, and wakes this when there is more.
    pub(super) fn reads(&self) {
        self.rests.store(true, Ordering::Release);
    }

    /// Whether nothing has woken it since it was read.
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    /// Held for a move only, never while waking or waiting.
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Relay>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Relay>) {
        self.woken.store(true, Ordering::Release);
        self.rests.store(false, Ordering::Release);
        // Only this worker's thread drives, and only its reactor and its tasks wake, so the two cannot miss each other.
        if !self.driven.load(Ordering::Acquire) {
            let task = self.task().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}
