//! Accepts connections and hands each to the least busy worker.

use super::places::{Place, Places};
use super::worker::{Arrival, WorkerHandle};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};

/// Connections that the kernel keeps for us while all workers are busy.
const BACKLOG: u32 = 4096;
/// After an error of `accept` (out of descriptors, most likely): wait, or the loop would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// The listening thread. Dropping it stops accepting.
pub struct Listener {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Where it listens; with the port that the system chose where the configuration says 0.
    pub addresses: Vec<SocketAddr>,
}

/// Where connections go.
struct Route {
    workers: Arc<[(mpsc::Sender<Arrival>, Arc<AtomicUsize>)]>,
    places: Places,
}

// === impl Listener ===

impl Listener {
    /// Binds all addresses, then starts to accept. No more connections are open at a time than there are `places`; more
    /// wait in the kernel's queue.
    pub fn start(listen: &[SocketAddr], workers: &[WorkerHandle], places: Places) -> io::Result<Listener> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sockets: Vec<TcpListener> = {
            let _inside = runtime.enter();
            listen.iter().map(|address| bind(*address)).collect::<io::Result<_>>()?
        };
        let addresses = sockets.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let route = Route {
            workers: workers
                .iter()
                .map(|worker| (worker.arrivals.clone(), worker.connections.clone()))
                .collect(),
            places,
        };
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("listener".into())
            .spawn(move || runtime.block_on(accept_all(sockets, route, stopped)))?;
        Ok(Listener { stop, thread: Some(thread), addresses })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(named)?;
    // Without it a restart would have to wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true).map_err(named)?;
    socket.bind(address).map_err(named)?;
    socket.listen(BACKLOG).map_err(named)
}

async fn accept_all(sockets: Vec<TcpListener>, route: Route, mut stopped: watch::Receiver<bool>) {
    tokio::spawn(accept(sockets, route));
    // Returns when the sender says so, or is gone.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Accepts on all of them with one place at hand: with a place for each, those where nobody comes would keep theirs.
async fn accept(listeners: Vec<TcpListener>, route: Route) {
    let mut first = 0;
    loop {
        let Some(place) = route.places.any().await else { return };
        let (socket, peer) = match next(&listeners, &mut first).await {
            Ok((socket, address)) => (socket, address.ip()),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Closed without a word: to read a request first would give its sender what it may not have.
        let Some(place) = route.places.of(place, peer) else { continue };
        if let Err(error) = route.hand_over(socket, peer, place).await {
            tracing::warn!(%error, "a connection could not be handed to a worker");
        }
    }
}

/// The next connection of any of them. The one behind whose last it was is looked at `first`, so that no address waits
/// for ever behind another that is busy.
async fn next(listeners: &[TcpListener], first: &mut usize) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        for offset in 0..listeners.len() {
            let at = (*first + offset) % listeners.len();
            if let Poll::Ready(accepted) = listeners[at].poll_accept(cx) {
                *first = at + 1;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

impl Route {
    async fn hand_over(&self, socket: TcpStream, peer: IpAddr, place: Place) -> io::Result<()> {
        let least = self.workers.iter().min_by_key(|(_, connections)| connections.load(Relaxed));
        let (arrivals, connections) = least.ok_or_else(|| io::Error::other("there are no workers"))?;
        let arrival = Arrival { socket: socket.into_std()?, peer, place };
        // Counted here and not by the worker, so that a burst is spread over all of them.
        connections.fetch_add(1, Relaxed);
        arrivals.send(arrival).await.map_err(|_| {
            connections.fetch_sub(1, Relaxed);
            io::Error::other("the worker has ended")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;

    fn places(most: usize) -> Places {
        let text = format!(
            "[server]\nconnections_max = {most}\n[[upstream]]\nname = \"a\"\nurl = \"http://127.0.0.1:8000\"\n[[route]]\nname = \"r\"\nmatch = \"* /**\"\nupstream = \"a\"\n"
        );
        let loaded = crate::config::parse(&text, std::path::Path::new(""), &|_| None);
        let config = loaded.unwrap_or_else(|problems| panic!("{problems}")).config;
        Places::new(&config, Journal::new(Vec::new(), Vec::new(), false))
    }

    #[tokio::test]
    async fn addresses_where_nobody_comes_take_no_place_from_those_where_somebody_does() {
        let listeners: Vec<_> =
            (0..3).map(|_| bind("127.0.0.1:0".parse().expect("an address")).expect("a socket")).collect();
        let addresses: Vec<_> = listeners.iter().map(|it| it.local_addr().expect("an address")).collect();
        let (arrivals, mut arrived) = mpsc::channel(8);
        let workers = [(arrivals, Arc::new(AtomicUsize::new(0)))].into();
        tokio::spawn(accept(listeners, Route { workers, places: places(3) }));
        let mut clients = Vec::new();
        let mut come = async |address: SocketAddr| {
            clients.push(TcpStream::connect(address).await.expect("the kernel takes it"));
            tokio::time::timeout(Duration::from_secs(10), arrived.recv()).await.expect("in time")
        };
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(come(addresses[1]).await.expect("a connection"));
        }
        open.pop();
        open.push(come(addresses[2]).await.expect("a place that was given back"));
        open.clear();
        for address in addresses.iter().cycle().take(9) {
            come(*address).await.expect("a connection");
        }
    }
}
