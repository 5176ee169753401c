//! The admin address's listener, on a thread and runtime of its own: busy workers do not delay it, and whatever happens
//! here does not delay them.

use super::{AdminState, router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Connections at once; more wait in the listener's backlog. Far more than requests, so that those who say nothing keep
/// nobody from asking how the process is.
const CONNECTIONS_MAX: u32 = 512;
/// For a request's head to arrive.
const HEAD_WAIT: Duration = Duration::from_secs(5);
/// A connection carries one request, and this is the longest that it may take.
const CONNECTION_MAX: Duration = Duration::from_secs(30);
/// After an accept that failed, usually for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// At the end, for requests being answered.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// The running admin address. It serves until it is stopped or dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Serves the admin address on a thread of its own. Without a token only a loopback address is served: anybody else's
/// word would count as the operator's.
pub fn serve(listener: TcpListener, state: AdminState) -> io::Result<Admin> {
    let address = listener.local_addr()?;
    if state.token.is_none() && !address.ip().is_loopback() {
        let why = "an admin address that is not loopback requires a token ([admin] token)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _in_runtime = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = sync_channel::<()>(0);
    let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(run(listener, state, stopped));
        runtime.shutdown_background();
        // `Admin::drop` waits for this end to go, because a thread cannot be joined with a deadline.
        drop(end);
    })?;
    Ok(Admin { address, stop: Some(stop), ended, thread: Some(thread) })
}

async fn run(listener: tokio::net::TcpListener, state: AdminState, mut stopped: oneshot::Receiver<()>) {
    let router = router(state);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => drop(tokio::spawn(connection(stream, router.clone(), place))),
            Err(error) => {
                tracing::warn!(%error, "the admin address cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // All places free: every connection has ended. Whoever has not by then is cut off.
    let _ = tokio::time::timeout(STOP_WAIT, places.acquire_many(CONNECTIONS_MAX)).await;
}

async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// One request and its answer. Without keep-alive a connection cannot hold its place idle.
async fn connection(stream: tokio::net::TcpStream, router: axum::Router, place: OwnedSemaphorePermit) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .keep_alive(false)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_MAX, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection broke"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
    drop(place);
}

// === impl Admin ===

impl Admin {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    /// Stops accepting, lets requests end for a second, and ends the thread.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Err(RecvTimeoutError::Disconnected) = self.ended.recv_timeout(STOP_WAIT * 2)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}
