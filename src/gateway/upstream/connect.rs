//! A new connection to a server. Whatever goes wrong here is known not to have executed anything.

use super::health::Upstream;
use super::link::Link;
use super::pool::Pool;
use super::stream::{Heads, ServerStream};
use super::tls;
use crate::gateway::clock;
use crate::gateway::socket::Socket;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// An attempt to connect. How it ends counts for the server's health, also where whoever wanted the connection gave up
/// before: otherwise a server that answers nothing would be asked first for ever by those who wait less than
/// `connect_timeout`.
pub(super) struct Trying<'a> {
    upstream: &'a Upstream,
    server: usize,
    since: Instant,
    ended: bool,
}

/// Who gave up sooner has not shown that the server is to blame: its client may just have left.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(250);

/// Connects to `server` of the pool's upstream, for HTTP/1.1.
pub(super) async fn connect(pool: &Pool, server: usize) -> Result<Box<Link>, String> {
    let trying = Trying::new(&pool.upstream, server);
    let connected = begin(pool, server).await;
    trying.ended(&connected);
    connected
}

async fn begin(pool: &Pool, server: usize) -> Result<Box<Link>, String> {
    let socket = open(pool, server).await?;
    let heads = Rc::new(Heads::default());
    let (sender, connection) = Builder::new()
        .handshake(TokioIo::new(ServerStream::new(socket, heads.clone(), pool.upstream.config.bare_lf)))
        .await
        .map_err(|error| {
            format!("cannot start HTTP/1.1 with {}: {error}", pool.upstream.config.urls[server].authority)
        })?;
    Ok(Link::new(sender, connection, heads, pool.upstream.config.stall))
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

// === impl Trying ===

impl Trying<'_> {
    pub(super) fn new(upstream: &Upstream, server: usize) -> Trying<'_> {
        Trying { upstream, server, since: clock::now(), ended: false }
    }

    /// It came to an end by itself.
    pub(super) fn ended<T>(mut self, connected: &Result<T, String>) {
        self.ended = true;
        match connected {
            Ok(_) => self.upstream.reached(self.server),
            Err(why) => self.upstream.failed(self.server, why, clock::now()),
        }
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let now = clock::now();
        let waited = now.saturating_duration_since(self.since);
        if !self.ended && waited >= GIVEN_UP_AFTER {
            let authority = &self.upstream.config.urls[self.server].authority;
            let why = format!(
                "no connection to {authority} within {} ms, and nobody waits longer",
                waited.as_millis()
            );
            self.upstream.failed(self.server, &why, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::upstream::health::tests::upstream_with;

    #[tokio::test(start_paused = true)]
    async fn who_gave_up_after_a_while_has_shown_that_the_server_does_not_answer() {
        let upstream = upstream_with(2, 10, 0);
        let trying = Trying::new(&upstream, 0);
        tokio::time::advance(GIVEN_UP_AFTER / 2).await;
        drop(trying);
        assert_eq!(upstream.choose(0, clock::now()), Some(0), "its client may just have left");
        let trying = Trying::new(&upstream, 0);
        tokio::time::advance(GIVEN_UP_AFTER).await;
        drop(trying);
        assert_eq!(upstream.choose(0, clock::now()), Some(1));
        Trying::new(&upstream, 0).ended(&Ok::<(), String>(()));
        assert_eq!(upstream.choose(0, clock::now()), Some(0));
    }
}
