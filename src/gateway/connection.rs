//! One client connection under the worker's eyes: HTTP/1.1 here, HTTP/2 in `h2`.
//!
//! Deadlines of a connection (a head that does not end, a connection that rests too long) cost no timer a request: the
//! connection notes its phase and when it began, and the worker's sweep closes what is overdue.

use super::answered::Answered;
use super::caller::LastAddress;
use super::clock;
use super::door::{self, Entered, Speaks};
use super::exchange::exchange;
use super::h2::{self, Streams};
use super::head_writer::Written;
use super::identity::LastCaller;
use super::intake;
use super::own_lines::Told;
use super::quiet;
use super::scan::{Limits, Stop};
use super::socket::Socket;
use super::spelling::Spelling;
use super::stall::{Patience, Slow, Stall};
use super::stream::ClientStream;
use super::tls::Principal;
use super::upgrade::{self, Switch, Switching};
use super::upload::Leftover;
use super::worker::Worker;
use crate::domain::refusal::Refusal;
use crate::journal::Journal;
use http::HeaderValue;
use http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// One client connection, as its worker sees it.
pub struct Connection {
    /// The other end.
    pub peer: IpAddr,
    /// The other end's port: how many of them a storm comes from tells a loop from a crowd.
    pub port: Cell<u16>,
    /// The other end as text, for forwarding headers.
    pub peer_text: HeaderValue,
    /// Whether the other end may say for whom it asks.
    pub trusted: bool,
    /// Whether the client's connection is TLS.
    pub secure: bool,
    /// Whom its certificate proves the client to be.
    pub cert: Option<Principal>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Exchanges under way: one at most, unless it speaks HTTP/2.
    exchanges: Cell<u32>,
    order: Cell<Orders>,
    /// It began with the preface of HTTP/2.
    turned: Cell<bool>,
    /// What HTTP/2 knows of its streams, where it is spoken.
    streams: OnceCell<Rc<Streams>>,
    /// What the scanner found wrong; nothing behind it reached hyper.
    problem: Cell<Option<Stop>>,
    waker: RefCell<Option<Waker>>,
    /// How names are spelled in the head that came last, until its exchange takes it.
    spelling: Cell<Option<Spelling>>,
    /// How slow the client is.
    pub(super) stall: Stall,
    /// It sent its body too slowly, so nothing more is read.
    starved: Cell<bool>,
    /// What is left of a body that nobody reads on.
    leftover: RefCell<Option<Leftover>>,
    /// Interim answers on their way to the client.
    interims: RefCell<Vec<u8>>,
    /// The answer that was given to hyper, until its head goes out.
    answer: Cell<Option<Written>>,
    /// What backends are told about it.
    pub(super) told: Told,
    /// Which requests have their answers.
    pub(super) answered: Answered,
    /// Who asked last.
    pub last_caller: LastCaller,
    /// From where.
    pub last_address: LastAddress,
    /// How far it is on its way to another protocol.
    pub(super) switching: Switching,
    journal: Arc<Journal>,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// The first byte of a request came, its head has not ended.
    Head,
    /// An exchange runs: from the request's head to the answer's last byte.
    Busy,
    /// It speaks another protocol.
    Switched,
}

/// What the worker wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// Nothing.
    None,
    /// End after the present exchange.
    Drain,
    /// End now.
    Close,
}

/// Held by an exchange and its answer's body: the connection is busy.
pub struct Busy(Rc<Connection>);

/// So much of interim answers waits for a client.
const INTERIM_BYTES_MAX: usize = 64 << 10;

/// How long an HTTP/2 connection that was told to end may take to say that it has understood.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves `stream` until it ends.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: IpAddr) {
    let port = stream.peer_addr().map_or(0, |address| address.port());
    let Some(entered) = door::enter(&worker, stream, peer.to_canonical()).await else {
        return worker.turned_away();
    };
    let Entered { socket, peer, secure, cert, speaks } = entered;
    let connection = Connection::new(&worker, peer, secure, cert);
    connection.port.set(port);
    let place = worker.register(connection.clone());
    let server = &worker.shared.policy.config().server;
    let limits = Limits {
        target_bytes: server.target_limit,
        head_bytes: server.head_limit,
        headers: server.headers_max,
    };
    let turned = match speaks {
        Speaks::Http2 => Some((socket, Vec::new())),
        _ => serve_http1(&worker, &connection, socket, limits, speaks == Speaks::Http1Or2).await,
    };
    if let Some((socket, begun)) = turned {
        // Boxed: most connections never get here.
        Box::pin(h2::serve(worker, connection, socket, begun, limits)).await;
    }
    drop(place);
}

/// Serves HTTP/1.1, and whatever it is upgraded to; `Some` where the connection began with the preface of HTTP/2 instead,
/// with what was read of it.
async fn serve_http1(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    socket: Socket,
    limits: Limits,
    http2: bool,
) -> Option<(Socket, Vec<u8>)> {
    let io = TokioIo::new(ClientStream::new(socket, connection.clone(), limits, http2));
    let service = {
        let (worker, connection) = (worker.clone(), connection.clone());
        service_fn(move |request| exchange(worker.clone(), connection.clone(), request))
    };
    let mut http = http1::Builder::new();
    http.header_read_timeout(None);
    if limits.headers > Limits::DEFAULT.headers {
        // Costs an allocation a request, so only where somebody wants more than hyper's own.
        http.max_headers(limits.headers);
    }
    let mut http = http.serve_connection(io, service);
    connection.drive(&mut http, |http| http.graceful_shutdown()).await;
    if connection.turned.get() {
        return Some(http.into_parts().io.into_inner().into_parts());
    }
    if let Some(switch) = connection.switching.take() {
        let http1::Parts { io, read_buf, .. } = http.into_parts();
        let (socket, held) = io.into_inner().into_parts();
        connection.rest_as(Phase::Switched);
        let early = [&read_buf[..], &held].concat();
        // Boxed: most connections never need the room.
        Box::pin(upgrade::run(connection, socket, early, *switch)).await;
    }
    None
}

// === impl Connection ===

impl Connection {
    fn new(worker: &Worker, peer: IpAddr, secure: bool, cert: Option<Principal>) -> Rc<Connection> {
        Rc::new(Connection {
            peer,
            port: Cell::new(0),
            peer_text: HeaderValue::from_str(&peer.to_string())
                .unwrap_or(HeaderValue::from_static("unknown")),
            trusted: worker.is_trusted(peer),
            secure,
            cert,
            phase: Cell::new(Phase::Head),
            since: Cell::new(clock::now()),
            exchanges: Cell::new(0),
            order: Cell::new(Orders::None),
            turned: Cell::new(false),
            streams: OnceCell::new(),
            problem: Cell::new(None),
            waker: RefCell::new(None),
            spelling: Cell::new(None),
            stall: Stall::default(),
            starved: Cell::new(false),
            leftover: RefCell::new(None),
            interims: RefCell::new(Vec::new()),
            answer: Cell::new(None),
            told: Told::default(),
            answered: Answered::default(),
            last_caller: LastCaller::default(),
            last_address: LastAddress::default(),
            switching: Switching::default(),
            journal: worker.shared.journal.clone(),
        })
    }

    /// Polls the connection's protocol to its end, and lets the worker's orders through; `end` tells it to end politely.
    pub(super) async fn drive<C: Future + Unpin>(&self, http: &mut C, end: impl Fn(Pin<&mut C>)) {
        let mut lent = quiet::Lent::default();
        poll_fn(|cx| {
            match self.orders(cx.waker()) {
                Orders::None => {}
                // hyper would say `close` in the answer that switches. The order comes again with every sweep.
                Orders::Drain if !self.switching.speaks_http() => {}
                Orders::Drain => end(Pin::new(&mut *http)),
                Orders::Close => return Poll::Ready(()),
            }
            // A connection that ends in an error (reset, a malformed head, a silent close) has told its client already or
            // has no client any more; what an exchange had to say about it is in that exchange's line.
            let waker = if self.streams().is_some() { cx.waker() } else { lent.waker(cx.waker()) };
            let ended = Pin::new(&mut *http).poll(&mut Context::from_waker(waker)).map(|_| ());
            if ended.is_pending() {
                if self.turned.get() && self.streams().is_none() {
                    return Poll::Ready(());
                }
                self.read_leftover(cx);
            }
            ended
        })
        .await;
    }

    /// It speaks HTTP/2 from here on.
    pub(super) fn speaks_http2(&self, streams: Rc<Streams>) {
        let _ = self.streams.set(streams);
    }

    /// Its streams, where it speaks HTTP/2.
    pub(super) fn streams(&self) -> Option<&Rc<Streams>> {
        self.streams.get()
    }

    /// It began with the preface of HTTP/2.
    pub(super) fn turn(&self) {
        self.turned.set(true);
    }

    /// Whether a head of HTTP/2 is coming in; while an exchange runs, its deadlines count. Nothing else changes a rest.
    pub(super) fn head_comes(&self, comes: bool) {
        match (self.phase.get(), comes) {
            (Phase::Idle, true) => self.rest_as(Phase::Head),
            (Phase::Head, false) => self.rest_as(Phase::Idle),
            _ => {}
        }
    }

    /// An exchange begins; it lasts as long as what is returned.
    pub fn busy(self: &Rc<Connection>) -> Busy {
        self.phase.set(Phase::Busy);
        self.answered.begins();
        self.exchanges.set(self.exchanges.get() + 1);
        self.journal.metrics().in_flight.inc();
        Busy(self.clone())
    }

    /// Ends the connection after its present exchange; at once where it has none.
    pub fn drain(&self) {
        match self.streams() {
            Some(streams) => streams.farewell(),
            None if self.is_left_behind(clock::recent()) => return self.give(Orders::Close),
            None => {}
        }
        self.give(Orders::Drain);
    }

    /// Whether it ought to have ended by itself: its answer is out, and the rest of a body does not come.
    fn is_left_behind(&self, now: Instant) -> bool {
        let rested = now.saturating_duration_since(self.since.get());
        self.phase.get() == Phase::Idle && rested > FAREWELL && !self.stall.is_sending(now, FAREWELL)
    }

    /// Closes the connection where it is overdue at `now`, or its client slower than `patience` has.
    pub fn sweep(&self, now: Instant, patience: Patience) {
        let age = now.saturating_duration_since(self.since.get());
        let overdue = match self.phase.get() {
            Phase::Idle => age > patience.idle,
            Phase::Head => age > patience.head,
            Phase::Busy => false,
            Phase::Switched => age > patience.switched,
        };
        if let Some(streams) = self.streams() {
            streams.sweep(now, patience);
            // HTTP/2 says farewell before it closes, so that a client whose request is on its way knows that it was not
            // read.
            match self.phase.get() {
                Phase::Idle if overdue && age < patience.idle + FAREWELL => return self.give(Orders::Drain),
                // What its last answers left behind is still going out for a while.
                Phase::Idle if age < FAREWELL || self.stall.is_sending(now, FAREWELL) => {}
                Phase::Idle if streams.farewell_is_over(now, FAREWELL) => return self.give(Orders::Close),
                _ => {}
            }
        }
        match self.stall.judge(now, patience) {
            _ if overdue => self.give(Orders::Close),
            // First the stream learns it, and then it is closed: see `Socket::abort`.
            Some(Slow::Taking) if self.stall.give_up() => self.give(Orders::Close),
            Some(Slow::Taking) => self.wake(),
            // The exchange gets an error in the place of the body, and tells the client.
            Some(Slow::Sending) => {
                self.starved.set(true);
                self.wake();
            }
            None => {}
        }
        let mut leftover = self.leftover.borrow_mut();
        if leftover.as_ref().is_some_and(|leftover| leftover.is_overdue(now)) {
            // What it would have led to does not matter any more: hyper closes the connection behind its answer.
            *leftover = None;
            self.wake();
        }
    }

    /// Keeps what is left of a body, to be read away.
    pub(super) fn leave(&self, leftover: Leftover) {
        *self.leftover.borrow_mut() = Some(leftover);
        self.wake();
    }

    fn read_leftover(&self, cx: &mut Context<'_>) {
        let mut slot = self.leftover.borrow_mut();
        let ended = slot.as_mut().is_some_and(|leftover| leftover.poll_away(cx).is_ready());
        // Dropped outside of the borrow: its end wakes this very task.
        let ended = if ended { slot.take() } else { None };
        drop(slot);
        drop(ended);
    }

    /// Whether nothing more of the present body is read, because it came too slowly.
    pub(super) fn is_starved(&self) -> bool {
        self.starved.get()
    }

    /// Interim answers for the client, as their server sent them. Dropped where an earlier answer is still on its way.
    pub fn interim(&self, heads: &[u8]) {
        let mut interims = self.interims.borrow_mut();
        if interims.len() + heads.len() <= INTERIM_BYTES_MAX {
            interims.extend_from_slice(heads);
        }
        self.wake();
    }

    /// An answer is given to hyper, and its head is what goes out next.
    pub(super) fn answers(&self, answer: Written) {
        self.answer.set(Some(answer));
    }

    /// The answer whose head is what goes out now.
    pub(super) fn begins_answer(&self) -> Option<Written> {
        self.answer.take()
    }

    /// An exchange has its answer.
    pub(super) fn has_answered(&self) {
        if self.answered.add() {
            self.wake();
        }
    }

    /// Interim answers that have not gone out.
    pub(super) fn interims(&self) -> Vec<u8> {
        if self.interims.borrow().is_empty() { Vec::new() } else { self.interims.take() }
    }

    /// Bytes came in. Between requests they begin the next one.
    pub(super) fn bytes_came(&self) {
        if self.phase.get() == Phase::Idle {
            self.rest_as(Phase::Head);
        }
    }

    /// A head came in with names that are not in Title-Case. One that comes while the exchange before it runs is not noted:
    /// that one has not taken its own yet, or will not look again.
    pub(super) fn spelled(&self, spelling: Spelling) {
        if self.phase.get() == Phase::Head {
            self.spelling.set(Some(spelling));
        }
    }

    /// How names are spelled in the head whose exchange begins.
    pub fn spelling(&self) -> Option<Spelling> {
        self.spelling.take()
    }

    /// What the worker wants now; it wakes `waker` when that changes.
    pub fn orders(&self, waker: &Waker) -> Orders {
        self.wake_by(waker);
        self.order.replace(Orders::None)
    }

    /// The connection is joined with `switch` once its present answer's head has gone out. Not where a request behind
    /// that one was refused: what its bytes mean is no longer clear.
    pub fn switch_to(&self, switch: Switch) {
        if self.problem.get().is_none() {
            self.switching.agreed(switch);
        }
    }

    /// Bytes of another protocol moved.
    pub fn moved(&self, now: Instant) {
        self.since.set(now);
    }

    fn rest_as(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(clock::now());
    }

    /// The scanner reads no further.
    pub(super) fn malformed(&self, stop: Option<Stop>) {
        self.problem.set(stop);
    }

    /// The refusal that `parts` stand for, where they are the stand-in of a head that hyper never saw.
    pub fn refused_head(&self, parts: &Parts) -> Option<Refusal> {
        self.problem.get().filter(|_| intake::is_stand_in(parts)).map(|stop| stop.problem().refusal())
    }

    /// What the scanner found wrong.
    pub(super) fn problem(&self) -> Option<Stop> {
        self.problem.get()
    }

    /// What the worker wants of it from now on.
    pub(super) fn give(&self, order: Orders) {
        self.order.set(order);
        self.wake();
    }

    /// Its task runs once more.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn wake_by(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match &mut *slot {
            Some(present) => present.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let others = self.0.exchanges.get() - 1;
        self.0.exchanges.set(others);
        self.0.journal.metrics().in_flight.dec();
        if others == 0 {
            self.0.phase.set(Phase::Idle);
            self.0.since.set(clock::recent());
        }
    }
}
