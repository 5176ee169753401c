//! A small scheduling backend with the bugs of the incidents, over a real SQLite file. It is a process of its own in
//! the tests (`oncegate demo-backend`) and a thread in the demo; both times the gateway knows nothing of it but its URL.
//!
//! Beside the pages with the bugs: `GET /_effects` (the rows that were really created, in order), `POST /_faults`
//! (faults for requests to come, see [`fault`]), `/_echo` (what arrived), `GET /_large?bytes=N`, `POST /_sink`.

mod body;
pub mod fault;
mod pages;
mod places;
mod rows;
mod wire;

use bytes::Bytes;
use fault::{Fault, Plan};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use pages::Pages;
use rows::Rows;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::convert::Infallible;
use std::io::{Error, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use wire::{Scissors, Wire};

/// The most bytes of a body that the pages read.
const BODY_BYTES_MAX: usize = 128 << 20;
/// The most operations that are told apart.
const ARRIVED_MAX: usize = 1 << 20;
/// The chunk in which a large answer is produced.
const CHUNK: &[u8] = &[b'x'; 64 << 10];

/// Arguments of `oncegate demo-backend`.
#[derive(Debug, clap::Args)]
pub struct BackendArgs {
    /// Where to listen; port 0 takes a free one. The first line of output says which.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The SQLite file, created where it is missing.
    #[arg(long)]
    db: PathBuf,
    /// End when standard input ends, so that the process never outlives its starter.
    #[arg(long)]
    until_eof: bool,
}

/// A backend on a thread of this process; dropping it ends it.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A small answer.
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What all connections share.
struct Shared {
    pages: Pages,
    plan: Plan,
    requests: AtomicU64,
    /// Operations that have arrived, as far as faults asked.
    arrived: Mutex<HashSet<String>>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Runs the backend as a process.
pub fn run(arguments: BackendArgs) -> ExitCode {
    let served = Rows::open(&arguments.db).map_err(Error::other).and_then(|rows| {
        let runtime = runtime()?;
        let until_eof = arguments.until_eof;
        runtime.block_on(async {
            let listener = TcpListener::bind(arguments.listen).await?;
            println!("{}", listener.local_addr()?);
            std::io::stdout().flush()?;
            match until_eof {
                true => serve(listener, rows, end_of_input()).await,
                false => serve(listener, rows, std::future::pending()).await,
            }
            Ok(())
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-backend: {error}");
            ExitCode::FAILURE
        }
    }
}

// === impl Backend ===

impl Backend {
    /// Starts a backend over the SQLite file `db` on a free loopback port.
    ///
    /// # Errors
    /// The file or the port.
    pub fn start(db: &Path) -> std::io::Result<Backend> {
        let rows = Rows::open(db).map_err(Error::other)?;
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(serve(listener, rows, async { drop(stopped.await) }))
        });
        Ok(Backend { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Resolves when standard input ends.
async fn end_of_input() {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    drop(end.await);
}

/// Serves connections until `stopped` resolves.
async fn serve(listener: TcpListener, rows: Rows, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let shared = Arc::new(Shared {
        pages: Pages::new(rows),
        plan: Plan::default(),
        requests: AtomicU64::new(0),
        arrived: Mutex::default(),
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let (shared, scissors) = (shared.clone(), Scissors::new());
        tokio::spawn(async move {
            let wire = TokioIo::new(Wire::new(stream, scissors.clone()));
            let service = hyper::service::service_fn(move |request| {
                // A task of its own: like most backends, this one finishes its work when the client has left.
                let work = tokio::spawn(respond(shared.clone(), scissors.clone(), request));
                async move { work.await.map_err(Error::other)? }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.preserve_header_case(true).header_read_timeout(None);
            // Connections end as clients and faults end them; there is nobody to tell.
            let _ = http.serve_connection(wire, service).await;
        });
    }
}

/// One request; an error resets or closes the connection without an answer.
async fn respond(
    shared: Arc<Shared>,
    scissors: Arc<Scissors>,
    request: http::Request<Incoming>,
) -> Result<Answer, Error> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/_effects" => return Ok(whole(shared.effects())),
        "/_faults" => return shared.order(request).await.map(whole),
        "/_echo" => return echo(request).await.map(whole),
        "/_large" => return Ok(large(number(&request, "bytes"))),
        "/_sink" => return sink(request).await.map(whole),
        _ => {}
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let fault =
        match request.headers().get(fault::HEADER).map(|value| Fault::parse(value.to_str().unwrap_or("?"))) {
            Some(Ok(fault)) => fault,
            Some(Err(why)) => return Ok(whole(page(400, &json!({ "error": why })))),
            None => shared.plan.take(&path).unwrap_or_default(),
        };
    let fault = if fault.once && !shared.is_first(&request) { Fault::default() } else { fault };
    if fault.reset_before {
        tokio::time::sleep(fault.delay).await;
        scissors.cut_after(0, true);
        return Err(Error::other("reset as ordered"));
    }
    let (head, body) = request.into_parts();
    // Read before anything waits: from here on a client that leaves changes nothing.
    let body = read(body).await?;
    tokio::time::sleep(fault.delay).await;
    let query = head.uri.query().unwrap_or_default().to_owned();
    let request = pages::Request { method: head.method, path, query, headers: head.headers, body };
    let mut answer = shared.pages.answer(&request, &fault).await;
    tokio::time::sleep(fault.delay_after).await;
    answer.body.resize(answer.body.len() + fault.pad, b' ');
    if let Some(cookie) = fault.cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        answer.headers.append("set-cookie", cookie);
    }
    if let Some(cut) = fault.cut {
        scissors.cut_after(cut.bytes, cut.reset);
    }
    Ok(whole(answer))
}

// === impl Shared ===

impl Shared {
    /// The rows that really came to be, and how many requests reached the pages.
    fn effects(&self) -> Page {
        match self.pages.rows.effects() {
            Ok(rows) => page(200, &json!({"requests": self.requests.load(Ordering::SeqCst), "rows": rows})),
            Err(error) => page(500, &json!({ "error": error.to_string() })),
        }
    }

    /// Whether no request of the same operation came before this one.
    fn is_first(&self, request: &http::Request<Incoming>) -> bool {
        let operation = request.headers().get("x-demo-operation").map(|value| value.as_bytes());
        let operation = String::from_utf8_lossy(operation.unwrap_or_default()).into_owned();
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.len() < ARRIVED_MAX && arrived.insert(operation)
    }

    /// `POST /_faults?path=/api&count=2` with a fault as its body.
    async fn order(&self, request: http::Request<Incoming>) -> Result<Page, Error> {
        let (path, count) =
            (parameter(&request, "path").unwrap_or_else(|| "/".to_owned()), number(&request, "count"));
        let text = String::from_utf8_lossy(&read(request.into_body()).await?).into_owned();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(match Fault::parse(&text).map(|fault| self.plan.add(&path, count, fault)) {
            Ok(true) => page(200, &json!({})),
            Ok(false) => page(400, &json!({"error": "no count, or too many faults wait"})),
            Err(why) => page(400, &json!({ "error": why })),
        })
    }
}

async fn read(body: Incoming) -> Result<Bytes, Error> {
    Ok(Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(Error::other)?.to_bytes())
}

/// What arrived, as JSON.
async fn echo(request: http::Request<Incoming>) -> Result<Page, Error> {
    let (head, body) = request.into_parts();
    let headers: Vec<Value> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let body = read(body).await?;
    let seen = json!({"method": head.method.as_str(), "target": head.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body)});
    Ok(page(200, &seen))
}

/// So many bytes, produced as they are read.
fn large(bytes: u64) -> Answer {
    let chunks = futures_util::stream::unfold(bytes, |left| async move {
        let size = left.min(CHUNK.len() as u64);
        (size > 0).then(|| (Ok(Frame::data(Bytes::from_static(&CHUNK[..size as usize]))), left - size))
    });
    Response::new(BodyExt::boxed(StreamBody::new(chunks)))
}

/// Reads a body of any size and says how large it was.
async fn sink(request: http::Request<Incoming>) -> Result<Page, Error> {
    let (mut body, mut bytes) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame.map_err(Error::other)?.data_ref().map_or(0, Bytes::len);
    }
    Ok(page(200, &json!({ "bytes": bytes })))
}

fn parameter(request: &http::Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
}

fn number(request: &http::Request<Incoming>, name: &str) -> u64 {
    parameter(request, name).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn page(status: u16, body: &Value) -> Page {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Page { status, headers, body: body.to_string().into_bytes() }
}

fn whole(page: Page) -> Answer {
    let mut answer = Response::new(BodyExt::boxed(Full::new(Bytes::from(page.body))));
    *answer.status_mut() = page.status;
    *answer.headers_mut() = page.headers;
    answer
}
