//! A new connection to a server. Whatever goes wrong here is known not to have executed anything.

use super::pool::Pool;
use crate::gateway::body::RequestBody;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to `server` of the pool's upstream within its `connect_timeout` (name lookup included) and starts the
/// connection's task on this worker.
pub(super) async fn connect(pool: &Pool, server: usize) -> Result<SendRequest<RequestBody>, String> {
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
    let (sender, connection) = Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("cannot start HTTP/1.1 with {}: {error}", base.authority))?;
    tokio::task::spawn_local(async move {
        // The exchange on this connection sees the same error and classifies it.
        let _ = connection.await;
    });
    Ok(sender)
}
