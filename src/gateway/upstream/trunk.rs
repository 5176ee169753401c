//! HTTP/2 connections to a server, each with many exchanges: never more of them at once than the server allows.

use super::connect::{Trying, open};
use super::pool::Pool;
use super::sending::{Number, Place, Places, Sending, Takings, Tasks};
use super::traffic::{Traffic, TrunkStream};
use crate::gateway::body::RequestBody;
use crate::gateway::clock;
use crate::gateway::scan::Limits;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// One worker's HTTP/2 connections to one upstream.
pub struct Trunks {
    /// A list a server.
    servers: Vec<Server>,
}

#[derive(Default)]
pub(super) struct Server {
    trunks: RefCell<Vec<Rc<Trunk>>>,
    /// A connection is being made, and whoever wants one waits for it.
    connecting: Cell<bool>,
    connected: Notify,
    /// How many attempts to connect have failed, and what the last one said.
    failures: Cell<u64>,
    failure: RefCell<String>,
}

/// One connection.
struct Trunk {
    sender: SendRequest<Sending>,
    io: Rc<RefCell<Io>>,
    traffic: Rc<Traffic>,
    places: Rc<Places>,
    takings: Rc<Takings>,
    /// What had come when an exchange was given up after a silence. Until more comes, no other one begins.
    silent: Cell<Option<u64>>,
    /// When its last exchange ended.
    used: Cell<Instant>,
}

/// The half of a connection that a task drives. It knows how many streams the server allows.
enum Io {
    Open(Box<Connection<TokioIo<TrunkStream>, Sending, Tasks>>),
    /// It has ended; why, where that is known.
    Ended(Option<String>),
}

/// One exchange's place on a connection; given up when dropped.
pub(super) struct Stream {
    trunk: Rc<Trunk>,
    place: Rc<Place>,
    asked: Option<Asked>,
}

/// A request that hyper was given, and whose answer has not come.
struct Asked {
    number: Number,
    at: Instant,
    /// What had come until then.
    came: u64,
    /// It must not leave once its exchange is over.
    stays: bool,
}

/// An exchange without an answer.
pub(super) enum Unanswered {
    /// Nothing of it left, or ever will: it was not to be sent any more.
    Late,
    /// Nothing of it left, or ever will: why; and the request, where it came back.
    Unsent(String, Option<Box<Request<RequestBody>>>),
    /// Something of it may have left.
    Broken(hyper::Error),
}

/// Marks that a connection is being made.
struct Connecting<'a>(&'a Server);

/// Exchanges at once on one connection, where the server allows as many; for more of them another one is made.
const STREAMS_MOST: usize = 100;
/// What a backend may send of an answer before its client reads it.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same of all answers of a connection: clients that read slowly hold up nobody else's.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MOST as u32;
/// So many streams that were reset are remembered for a while, because something of their answers may still be on its way.
const RESETS_REMEMBERED: usize = 10 * STREAMS_MOST;
/// After so long a silence the server is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(10);
/// The least time that it has to say so; `timeout` where that is longer, because some backends hear nothing while they work.
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// An upload that has not moved for so long behind its answer gives its place to others, where they have none.
const UPLOAD_STILL: Duration = Duration::from_secs(1);
/// A connection on which an exchange was given up after less is not suspected of being dead.
const SILENCE: Duration = Duration::from_secs(1);

// === impl Trunks ===

impl Trunks {
    /// None yet.
    pub fn new(servers: usize) -> Trunks {
        Trunks { servers: (0..servers).map(|_| Server::default()).collect() }
    }

    pub(super) fn of(&self, server: usize) -> &Server {
        &self.servers[server]
    }

    /// Lets go of what has ended and of what was unused for longer than `most`; hyper says GOAWAY for it.
    pub fn sweep(&self, now: Instant, most: Duration) {
        for server in &self.servers {
            server.trunks.borrow_mut().retain(|trunk| {
                let rested = now.saturating_duration_since(trunk.used.get());
                trunk.is_open() && (trunk.places.taken() > 0 || rested < most)
            });
        }
    }
}

// === impl Server ===

impl Server {
    /// A place on a connection that has room and is in use, or rested no longer than `most`; on a new one otherwise. With it
    /// how long the connection rested; `None` where it was just made.
    pub(super) async fn stream(
        &self,
        pool: &Pool,
        server: usize,
        most: Duration,
        fresh: bool,
    ) -> Result<(Stream, Option<Duration>), String> {
        loop {
            if let Some(found) = self.find(most).filter(|_| !fresh) {
                return Ok(found);
            }
            if !fresh && self.give_up_uploads() {
                tokio::task::yield_now().await;
                continue;
            }
            if !fresh && self.connecting.get() {
                let failures = self.failures.get();
                self.connected.notified().await;
                if self.failures.get() != failures {
                    return Err(self.failure.borrow().clone());
                }
                continue;
            }
            let connecting = Connecting::new(self);
            match connect(pool, server).await {
                Ok(trunk) => {
                    let trunk = Rc::new(trunk);
                    self.trunks.borrow_mut().push(trunk.clone());
                    drop(connecting);
                    return Ok((Stream::new(trunk), None));
                }
                Err(why) => {
                    self.failures.set(self.failures.get() + 1);
                    self.failure.borrow_mut().clone_from(&why);
                    drop(connecting);
                    return Err(why);
                }
            }
        }
    }

    fn find(&self, most: Duration) -> Option<(Stream, Option<Duration>)> {
        let now = clock::recent();
        self.trunks.borrow().iter().find_map(|trunk| {
            let (taken, rested) = (trunk.places.taken(), now.saturating_duration_since(trunk.used.get()));
            let usable = trunk.is_open()
                && !trunk.is_silent()
                && (taken > 0 || rested <= most)
                && taken < trunk.streams_most();
            usable.then(|| {
                let rested = if taken > 0 { Duration::ZERO } else { rested };
                (Stream::new(trunk.clone()), Some(rested))
            })
        })
    }

    /// Before another connection is made: what stands still behind its answer gives way to what waits for a stream. Whether
    /// there was any.
    fn give_up_uploads(&self) -> bool {
        let Some(then) = clock::recent().checked_sub(UPLOAD_STILL) else { return false };
        let trunks = self.trunks.borrow();
        let given_up = trunks.iter().filter(|trunk| trunk.is_open() && trunk.places.give_up_since(then));
        given_up.count() > 0
    }
}

/// A connection whose server has said how many streams it allows: until then nothing is sent.
async fn connect(pool: &Pool, server: usize) -> Result<Trunk, String> {
    let trying = Trying::new(&pool.upstream, server);
    let connected = begin(pool, server).await;
    trying.ended(&connected);
    connected
}

async fn begin(pool: &Pool, server: usize) -> Result<Trunk, String> {
    let socket = open(pool, server).await?;
    let config = &pool.upstream.config;
    let authority = &config.urls[server].authority;
    let traffic = Rc::new(Traffic::default());
    let io = TokioIo::new(TrunkStream::new(socket, traffic.clone()));
    let takings = Rc::<Takings>::default();
    let starting = async {
        let (sender, connection) = settings(Tasks::new(takings.clone(), config.stall))
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(config.timeout.max(PONG_WITHIN))
            .keep_alive_while_idle(true)
            .handshake(io)
            .await
            .map_err(|error| error.to_string())?;
        let trunk = Trunk::new(sender, connection, traffic, takings);
        trunk.settled().await.map(|()| trunk)
    };
    let late = |_| format!("no HTTP/2 with {authority} within {:?}", config.connect_timeout);
    let started = timeout(config.connect_timeout, starting).await.map_err(late)?;
    started.map_err(|error| format!("cannot start HTTP/2 with {authority}: {error}"))
}

/// What every connection says, and bears.
fn settings(tasks: Tasks) -> Builder<Tasks> {
    let mut builder = Builder::new(tasks);
    builder
        .initial_max_send_streams(0)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(Limits::DEFAULT.head_bytes).unwrap_or(u32::MAX))
        // An answer may cross our RST_STREAM. That is nobody's fault and no attack: a backend is the operator's own. By
        // default hyper counts such answers over the connection's life, and ends it after 1024 of them, with everything that
        // is in flight on it.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(RESETS_REMEMBERED);
    builder
}

// === impl Trunk ===

impl Trunk {
    fn new(
        sender: SendRequest<Sending>,
        connection: Connection<TokioIo<TrunkStream>, Sending, Tasks>,
        traffic: Rc<Traffic>,
        takings: Rc<Takings>,
    ) -> Trunk {
        let io = Rc::new(RefCell::new(Io::Open(Box::new(connection))));
        tokio::task::spawn_local(drive(io.clone(), traffic.clone()));
        let (places, silent, used) = (Rc::default(), Cell::new(None), Cell::new(clock::recent()));
        Trunk { sender, io, traffic, places, takings, silent, used }
    }

    /// Waits for the server's first settings.
    async fn settled(&self) -> Result<(), String> {
        while self.streams_most() == 0 {
            if let Io::Ended(why) = &*self.io.borrow() {
                return Err(why.clone().unwrap_or_else(|| "the server closed the connection".into()));
            }
            self.traffic.news().await;
        }
        Ok(())
    }

    /// How many streams there may be at this moment.
    fn streams_most(&self) -> usize {
        match self.io.try_borrow().as_deref() {
            Ok(Io::Open(connection)) => connection.current_max_send_streams().min(STREAMS_MOST),
            _ => 0,
        }
    }

    /// Whether further exchanges may begin on it at all.
    fn is_open(&self) -> bool {
        !self.traffic.is_sealed() && !self.sender.is_closed()
    }

    fn is_silent(&self) -> bool {
        self.silent.get() == Some(self.traffic.came())
    }
}

/// Runs a connection to its end. Each exchange on it sees the same error and classifies it.
async fn drive(io: Rc<RefCell<Io>>, traffic: Rc<Traffic>) {
    let ended = poll_fn(|cx| match &mut *io.borrow_mut() {
        Io::Open(connection) => Pin::new(&mut **connection).poll(cx),
        Io::Ended(_) => Poll::Ready(Ok(())),
    });
    let why = ended.await.err().map(|error| super::send::describe(&error));
    io.replace(Io::Ended(why));
    traffic.tell();
}

// === impl Connecting ===

impl Connecting<'_> {
    fn new(server: &Server) -> Connecting<'_> {
        server.connecting.set(true);
        Connecting(server)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

// === impl Stream ===

impl Stream {
    fn new(trunk: Rc<Trunk>) -> Stream {
        let place = Rc::new(Place::new(trunk.places.clone()));
        Stream { trunk, place, asked: None }
    }

    /// Sends `request` and waits for its answer's head. `may_send` is asked for as long as nothing has left. Where it `stays`,
    /// nothing of it leaves any more once this is over.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        may_send: &dyn Fn(Instant) -> bool,
        stays: bool,
    ) -> Result<Response<Incoming>, Unanswered> {
        let (trunk, place, number) = (self.trunk.clone(), self.place.clone(), Number::default());
        let (at, came) = (clock::recent(), trunk.traffic.came());
        self.asked = Some(Asked { number: number.clone(), at, came, stays });
        let request = request.map(|body| Sending::new(body, number, trunk.takings.clone(), place));
        let mut answer = Box::pin(trunk.sender.clone().try_send_request(request));
        let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if !self.has_begun() && !may_send(clock::recent()) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        match answer {
            Some(Ok(answer)) => {
                self.asked = None;
                Ok(answer)
            }
            Some(Err(mut error)) => {
                let back = error.take_message().map(|back| back.map(Sending::into_body));
                self.keep_back();
                let error = error.into_error();
                match back.is_some() || self.is_kept_back() {
                    true => Err(Unanswered::Unsent(super::send::describe(&error), back.map(Box::new))),
                    false => Err(Unanswered::Broken(error)),
                }
            }
            None => {
                self.keep_back();
                Err(Unanswered::Late)
            }
        }
    }

    /// Whether something of the request may have left.
    fn has_begun(&self) -> bool {
        let number = self.asked.as_ref().and_then(|asked| asked.number.get());
        number.is_some_and(|number| self.trunk.traffic.begun() >= number)
    }

    /// Whether hyper has a request that has not left, and never will.
    fn is_kept_back(&self) -> bool {
        self.trunk.traffic.is_sealed() && !self.has_begun()
    }

    /// The exchange is over. hyper may keep what it has taken until there is room for it, and would send it then: where it
    /// must not, no stream begins on this connection any more. What it has not taken it never takes; and what may leave is
    /// followed by its RST_STREAM, which harms nobody. Sealing does: it ends the exchanges of others.
    fn keep_back(&self) {
        let Some(Asked { number, stays: true, .. }) = &self.asked else { return };
        if number.get().is_some() && !self.has_begun() {
            self.trunk.traffic.seal();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.keep_back();
        self.place.exchange_ends();
        let (trunk, now) = (&self.trunk, clock::recent());
        trunk.used.set(now);
        let Some(asked) = &self.asked else { return };
        if now.saturating_duration_since(asked.at) >= SILENCE && trunk.traffic.came() == asked.came {
            trunk.silent.set(Some(asked.came));
        }
    }
}

#[cfg(test)]
mod tests;
