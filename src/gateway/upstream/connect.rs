//! A new connection to a server. Whatever goes wrong here is known not to have executed anything.

use super::link::Link;
use super::pool::Pool;
use super::stream::{Heads, ServerStream};
use super::tls;
use crate::gateway::socket::Socket;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to `server` of the pool's upstream, for HTTP/1.1.
pub(super) async fn connect(pool: &Pool, server: usize) -> Result<Box<Link>, String> {
    let socket = open(pool, server).await?;
    let heads = Rc::new(Heads::default());
    let (sender, connection) = Builder::new()
        .handshake(TokioIo::new(ServerStream::new(socket, heads.clone(), pool.upstream.config.bare_lf)))
        .await
        .map_err(|error| {
            format!("cannot start HTTP/1.1 with {}: {error}", pool.upstream.config.urls[server].authority)
        })?;
    Ok(Link::new(sender, connection, heads))
}

/// A socket to `server`, within the upstream's `connect_timeout` (name lookup and TLS handshake included).
pub(super) async fn open(pool: &Pool, server: usize) -> Result<Socket, String> {
    let config = &pool.upstream.config;
    let base = &config.urls[server];
    let opening = async {
        let stream = TcpStream::connect((base.host.as_str(), base.port)).await;
        let stream = stream.map_err(|error| format!("cannot connect to {}: {error}", base.authority))?;
        // Small writes must leave at once; a backend that waits for a head behind Nagle's timer answers 40 ms late.
        stream
            .set_nodelay(true)
            .map_err(|error| format!("cannot set up the socket to {}: {error}", base.authority))?;
        if !base.secure {
            return Ok(Socket::Plain(stream));
        }
        // Boxed: a handshake's state is large, and most connections have none.
        Box::pin(tls::handshake(&pool.upstream, server, stream)).await
    };
    let late = |_| format!("no connection to {} within {:?}", base.authority, config.connect_timeout);
    timeout(config.connect_timeout, opening).await.map_err(late)?
}
