//! HTTP/2 connections to a server, each with many exchanges: never more of them at once than the server allows.

use super::connect::{Trying, open};
use super::pool::Pool;
use super::traffic::{Traffic, TrunkStream};
use crate::gateway::body::{BodyError, RequestBody};
use crate::gateway::clock;
use crate::gateway::h2::LocalExecutor;
use crate::gateway::scan::Limits;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
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
    /// Places that are taken.
    taken: Rc<Cell<usize>>,
    /// Requests that hyper was given.
    given: Cell<u64>,
    /// What had come when an exchange was given up after a silence. Until more comes, no other one begins.
    silent: Cell<Option<u64>>,
    /// When its last exchange ended.
    used: Cell<Instant>,
}

/// The half of a connection that a task drives. It knows how many streams the server allows.
enum Io {
    Open(Box<Connection<TokioIo<TrunkStream>, Sending, LocalExecutor>>),
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
    /// The how-manieth of its connection it is.
    number: u64,
    at: Instant,
    /// What had come until then.
    came: u64,
}

/// A stream as the server counts it: it ends with the exchange and with the request's body, whichever takes longer.
struct Place(Rc<Cell<usize>>);

/// A request's body that keeps its stream's place.
pub(super) struct Sending {
    body: RequestBody,
    _place: Rc<Place>,
}

/// Marks that a connection is being made.
struct Connecting<'a>(&'a Server);

/// Exchanges at once on one connection, where the server allows as many; for more of them another one is made.
const STREAMS_MOST: usize = 100;
/// What a backend may send of an answer before its client reads it.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same of all answers of a connection: clients that read slowly hold up nobody else's.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MOST as u32;
/// After so long a silence the server is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(10);
/// The least time that it has to say so; `timeout` where that is longer, because some backends hear nothing while they work.
const PONG_WITHIN: Duration = Duration::from_secs(10);
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
                trunk.is_open() && (trunk.taken.get() > 0 || rested < most)
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
            let (taken, rested) = (trunk.taken.get(), now.saturating_duration_since(trunk.used.get()));
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
    let starting = async {
        let (sender, connection) = Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_max_send_streams(0)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(Limits::DEFAULT.head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(config.timeout.max(PONG_WITHIN))
            .keep_alive_while_idle(true)
            .handshake(io)
            .await
            .map_err(|error| error.to_string())?;
        let trunk = Trunk::new(sender, connection, traffic);
        trunk.settled().await.map(|()| trunk)
    };
    let late = |_| format!("no HTTP/2 with {authority} within {:?}", config.connect_timeout);
    let started = timeout(config.connect_timeout, starting).await.map_err(late)?;
    started.map_err(|error| format!("cannot start HTTP/2 with {authority}: {error}"))
}

// === impl Trunk ===

impl Trunk {
    fn new(
        sender: SendRequest<Sending>,
        connection: Connection<TokioIo<TrunkStream>, Sending, LocalExecutor>,
        traffic: Rc<Traffic>,
    ) -> Trunk {
        let io = Rc::new(RefCell::new(Io::Open(Box::new(connection))));
        tokio::task::spawn_local(drive(io.clone(), traffic.clone()));
        let (taken, given) = (Rc::default(), Cell::new(0));
        let (silent, used) = (Cell::new(None), Cell::new(clock::recent()));
        Trunk { sender, io, traffic, taken, given, silent, used }
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
        let place = Rc::new(Place::new(trunk.taken.clone()));
        Stream { trunk, place, asked: None }
    }

    /// Sends `request` and waits for its answer's head. `may_send` is asked for as long as nothing has left.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        may_send: &dyn Fn(Instant) -> bool,
    ) -> Result<Response<Incoming>, TrySendError<Request<Sending>>> {
        let (trunk, place) = (self.trunk.clone(), self.place.clone());
        let number = trunk.given.get() + 1;
        trunk.given.set(number);
        self.asked = Some(Asked { number, at: clock::recent(), came: trunk.traffic.came() });
        let request = request.map(|body| Sending { body, _place: place });
        let mut answer = Box::pin(trunk.sender.clone().try_send_request(request));
        let answer = poll_fn(|cx| {
            let polled = answer.as_mut().poll(cx);
            if polled.is_pending() && trunk.traffic.begun() < number && !may_send(clock::recent()) {
                trunk.traffic.seal();
            }
            polled
        })
        .await;
        if answer.is_ok() {
            self.asked = None;
        }
        answer
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (trunk, now) = (&self.trunk, clock::recent());
        trunk.used.set(now);
        let Some(asked) = &self.asked else { return };
        if trunk.traffic.begun() < asked.number {
            // hyper may keep it until there is room for it, and would send it then.
            trunk.traffic.seal();
        } else if now.saturating_duration_since(asked.at) >= SILENCE && trunk.traffic.came() == asked.came {
            trunk.silent.set(Some(asked.came));
        }
    }
}

// === impl Place ===

impl Place {
    fn new(taken: Rc<Cell<usize>>) -> Place {
        taken.set(taken.get() + 1);
        Place(taken)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

// === impl Sending ===

impl Sending {
    /// The body alone; its stream's place is free.
    pub(super) fn into_body(self) -> RequestBody {
        self.body
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

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const PATIENCE: Duration = Duration::from_secs(10);
    /// SETTINGS with room for one stream, and an answer to the first one: 200, nothing more.
    const ONE_STREAM: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];
    const ANSWER: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];

    async fn trunk(socket: TcpStream) -> Rc<Trunk> {
        let traffic = Rc::new(Traffic::default());
        let io =
            TokioIo::new(TrunkStream::new(crate::gateway::socket::Socket::Plain(socket), traffic.clone()));
        let mut builder = Builder::new(LocalExecutor);
        let made = builder.initial_max_send_streams(0).handshake(io).await;
        let (sender, connection) = made.expect("a connection");
        let trunk = Trunk::new(sender, connection, traffic);
        trunk.settled().await.expect("settings");
        Rc::new(trunk)
    }

    fn post() -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::whole(Bytes::from_static(b"{}")));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static("http://a/b");
        request
    }

    #[tokio::test]
    async fn a_write_that_waits_for_a_stream_never_leaves_once_it_was_given_up() {
        let local = tokio::task::LocalSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let test = async {
            let socket = TcpStream::connect(address).await.expect("a socket");
            let (mut server, _) = listener.accept().await.expect("a connection");
            server.write_all(&ONE_STREAM).await.expect("it is there");
            let trunk = trunk(socket).await;
            assert_eq!(trunk.streams_most(), 1);
            let (mut first, mut second) = (Stream::new(trunk.clone()), Stream::new(trunk.clone()));
            let asking =
                tokio::task::spawn_local(async move { first.exchange(post(), &|_| true).await.is_ok() });
            let begins = async {
                while trunk.traffic.begun() < 1 {
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE, begins).await.expect("the first one leaves");
            let waits = timeout(Duration::from_millis(100), second.exchange(post(), &|_| true)).await;
            assert!(waits.is_err() && trunk.traffic.begun() == 1);
            drop(second);
            assert!(!trunk.is_open(), "nobody else begins on it");
            // There is room now.
            server.write_all(&ANSWER).await.expect("it is there");
            assert!(asking.await.expect("no panic"), "what has begun goes on");
            let mut came = Vec::new();
            let _ended = timeout(PATIENCE, server.read_to_end(&mut came)).await.expect("it ends");
            let mut frames = &came[24..];
            while let [high, middle, low, kind, _, stream @ ..] = frames {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                assert!(*kind != 1 || stream[..4] == [0, 0, 0, 1], "only the first has left: {came:?}");
                frames = &frames[9 + length..];
            }
        };
        local.run_until(test).await;
    }
}
