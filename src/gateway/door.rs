//! Between the accepted socket and the first request: the PROXY header of a trusted peer, the TLS handshake, and which
//! version of HTTP is spoken behind them. Both together have as long as a request's head.

use super::clock;
use super::proxy_protocol::{self, Told};
use super::socket::Socket;
use super::tls::{ALPN_HTTP2, Principal};
use super::worker::Worker;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// A connection of which everything below HTTP is known.
pub struct Entered {
    /// Its bytes.
    pub socket: Socket,
    /// Who connected: the other end, or whom a load balancer named.
    pub peer: IpAddr,
    /// Whether the client's connection is TLS, here or at the load balancer that said so.
    pub secure: bool,
    /// Whom its certificate proves the client to be.
    pub cert: Option<Principal>,
    /// What is spoken.
    pub speaks: Speaks,
}

/// Which version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, and a preface of HTTP/2 is an error.
    Http1,
    /// HTTP/1.1, unless the connection begins with the preface of HTTP/2.
    Http1Or2,
    /// HTTP/2, as was agreed in the handshake.
    Http2,
}

/// Why a connection went no further.
enum Turned {
    /// Its PROXY header.
    Header(String),
    /// Its TLS handshake.
    Handshake(String),
}

/// Takes a connection up to its first request; `None` where it does not get there.
pub async fn enter(worker: &Rc<Worker>, stream: TcpStream, peer: IpAddr) -> Option<Entered> {
    let server = &worker.shared.policy.config().server;
    let listens = server.proxy_protocol && worker.is_trusted(peer);
    if !listens && worker.shared.tls.is_none() {
        return Some(Entered::plain(stream, peer, false, server.http2));
    }
    // Boxed: a handshake's state is large, and most of a connection's life is behind it.
    let entering = Box::pin(greet(worker, stream, peer, listens));
    let entered = worker.deadlines.within(clock::now() + server.header_timeout, entering).await;
    let turned = match entered {
        Some(Ok(entered)) => return Some(entered),
        Some(Err(turned)) => turned,
        None => {
            let why = format!("it did not end within {:?}", server.header_timeout);
            if worker.shared.tls.is_none() { Turned::Header(why) } else { Turned::Handshake(why) }
        }
    };
    let doors = &worker.shared.journal.metrics().doors;
    match turned {
        // A proxy of the operator's own is wrong, so this is the operator's to see.
        Turned::Header(why) => {
            doors.header_refused();
            tracing::warn!(%peer, %why, "a connection was closed at its PROXY header");
        }
        Turned::Handshake(why) => {
            doors.handshake_failed();
            tracing::debug!(%peer, %why, "a connection was closed in its TLS handshake");
        }
    }
    None
}

async fn greet(
    worker: &Rc<Worker>,
    mut stream: TcpStream,
    mut peer: IpAddr,
    listens: bool,
) -> Result<Entered, Turned> {
    let mut secure = false;
    if listens
        && let Some(told) =
            proxy_protocol::read(&mut stream).await.map_err(|error| Turned::Header(error.to_string()))?
    {
        let Told { client, secure: theirs } = told;
        peer = client.unwrap_or(peer);
        secure = theirs;
    }
    let http2 = worker.shared.policy.config().server.http2;
    let Some(tls) = &worker.shared.tls else { return Ok(Entered::plain(stream, peer, secure, http2)) };
    let handshake = pin!(TlsAcceptor::from(tls.get()).accept(stream));
    let stream = match worker.handshakes.run(handshake).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return Err(Turned::Handshake(error.to_string())),
        None => return Err(Turned::Handshake("too many were under way, and this was the oldest".into())),
    };
    worker.shared.journal.metrics().doors.handshake();
    let (_, session) = stream.get_ref();
    let agreed = session.alpn_protocol() == Some(ALPN_HTTP2);
    let cert = session.peer_certificates().and_then(|chain| chain.first()).and_then(Principal::of);
    let socket = Socket::Tls(Box::new(TlsStream::Server(stream)));
    let speaks = if agreed { Speaks::Http2 } else { Speaks::Http1 };
    Ok(Entered { socket, peer, secure: true, cert, speaks })
}

// === impl Entered ===

impl Entered {
    fn plain(stream: TcpStream, peer: IpAddr, secure: bool, http2: bool) -> Entered {
        let speaks = if http2 { Speaks::Http1Or2 } else { Speaks::Http1 };
        Entered { socket: Socket::Plain(stream), peer, secure, cert: None, speaks }
    }
}
