//! Accepts connections and hands each to the least busy worker.

use super::places::{Place, Places};
use super::worker::{Arrival, WorkerHandle};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
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
#[derive(Clone)]
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
    for socket in sockets {
        tokio::spawn(accept(socket, route.clone()));
    }
    // Returns when the sender says so, or is gone.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn accept(listener: TcpListener, route: Route) {
    loop {
        let Some(place) = route.places.any().await else { return };
        let (socket, peer) = match listener.accept().await {
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
