//! A new connection to a server. Whatever goes wrong here is known not to have executed anything.

use super::link::Link;
use super::pool::Pool;
use super::stream::{Heads, ServerStream};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to `server` of the pool's upstream within its `connect_timeout` (name lookup included).
pub(super) async fn connect(pool: &Pool, server: usize) -> Result<Box<Link>, String> {
    let config = &pool.upstream.config;
    let base = &config.urls[server];
    let stream = match timeout(config.connect_timeout, TcpStream::connect((base.host.as_str(), base.port)))
        .await
    {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("cannot connect to {}: {error}", base.authority)),
        Err(_) => {
            return Err(format!("no connection to {} within {:?}", base.authority, config.connect_timeout));
        }
    };
    // Small writes must leave at once; a backend that waits for a head behind Nagle's timer answers 40 ms late.
    stream
        .set_nodelay(true)
        .map_err(|error| format!("cannot set up the socket to {}: {error}", base.authority))?;
    let heads = Rc::new(Heads::default());
    // Names that are not in Title-Case come with their spelling.
    let (sender, connection) = Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(ServerStream::new(stream, heads.clone())))
        .await
        .map_err(|error| format!("cannot start HTTP/1.1 with {}: {error}", base.authority))?;
    Ok(Link::new(sender, connection, heads))
}
