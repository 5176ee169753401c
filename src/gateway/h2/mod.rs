//! HTTP/2 towards clients: hyper's, with the bounds that an attacker meets, over the same `exchange` as HTTP/1.1.
//!
//! ```text
//! door or stream -> h2::serve -> frames (floods) -> hyper -> head (checks, HTTP/1 form) -> exchange
//!                                                       <- body (small frames, stalls) <-
//! ```

mod body;
mod frames;
mod head;
mod live;
mod stream;
mod streams;
mod told;
mod upload;

pub use head::refused;
pub use streams::Streams;
pub use upload::{UploadWatch, Watched};

use super::connection::Connection;
use super::exchange::exchange;
use super::scan::Limits;
use super::socket::Socket;
use super::worker::Worker;
use body::StreamBody;
use http::Response;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::rc::Rc;
use stream::H2Stream;
use tokio::task::spawn_local;

/// Requests at once on one connection. Browsers want about a hundred.
const STREAMS_MOST: u32 = 100;
/// What a client may send of a body before somebody reads it.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same for all of a connection's bodies.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Of an answer that waits for its client's window.
const SEND_BYTES_MOST: usize = 64 << 10;
/// Streams that the client opened and gave up before anybody looked at them.
const RESETS_PENDING_MOST: usize = 20;

/// Runs what hyper wants to have run, on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// Serves HTTP/2 until the connection ends. `begun` is what was read of it already.
pub async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    socket: Socket,
    begun: Vec<u8>,
    limits: Limits,
) {
    let journal = worker.shared.journal.clone();
    let _open = journal.metrics().doors.http2.held();
    let streams = Rc::new(Streams::new(journal.clone()));
    connection.speaks_http2(streams.clone());
    let io = TokioIo::new(H2Stream::new(socket, begun, connection.clone(), journal.clone()));
    let service = {
        let connection = connection.clone();
        service_fn(move |request| {
            let (worker, connection, streams) = (worker.clone(), connection.clone(), streams.clone());
            Box::pin(async move {
                let answer = exchange(worker, connection, head::translate(request, &limits)).await?;
                let (head, body) = answer.into_parts();
                Ok::<Response<StreamBody>, Infallible>(Response::from_parts(head, streams.watch(body)))
            })
        })
    };
    let mut http = Builder::new(LocalExecutor)
        .max_concurrent_streams(STREAMS_MOST)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MOST)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MOST)
        // Counted over the connection's life, and never given back: `frames` prices these, too.
        .max_local_error_reset_streams(None)
        .serve_connection(io, service);
    connection.drive(&mut http, |http| http.graceful_shutdown()).await;
}
