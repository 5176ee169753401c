//! Incident 5's backend over a real PostgreSQL: it counts its rows, adds one, and inserts somewhat later; a unique
//! constraint tells it that somebody else was faster, and it makes a 500 of that. Five services were like it.

use super::postgres::{CONNECTIONS, Postgres};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio_postgres::{Client, Error, NoTls};

/// Between the count and the insert: what an ORM, a validation and a network take.
const GAP: Duration = Duration::from_millis(10);

/// Requests that it works on at once: its pool of connections.
const POOL: usize = CONNECTIONS - 10;

const SCHEMA: &str = "
    CREATE TABLE assessments (id serial PRIMARY KEY, number text NOT NULL UNIQUE, patient text NOT NULL);
    CREATE TABLE enrolments (id serial PRIMARY KEY, patient text NOT NULL UNIQUE);
    CREATE TABLE tokens (id serial PRIMARY KEY, number text NOT NULL, clinic text NOT NULL);
";

/// The backend, on a thread of its own, and its database; dropping it ends both.
pub struct Numbering {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    database: Postgres,
}

struct Pool {
    free: Mutex<Vec<Client>>,
    places: tokio::sync::Semaphore,
}

// === impl Numbering ===

impl Numbering {
    /// Starts the database and the backend before it.
    pub fn start() -> Numbering {
        let database = Postgres::start();
        let (url, requests) = (database.url(), Arc::new(AtomicU64::new(0)));
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let counted = requests.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let pool = Rc::new(Pool::open(&url).await);
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, pool, counted) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv_timeout(Duration::from_secs(30)).expect("the backend starts");
        Numbering { address, requests, stop: Some(stop), thread: Some(thread), database }
    }

    /// The numbers of a table's rows that really came to be, in the order of their ids.
    pub fn numbers(&self) -> Vec<String> {
        self.column("SELECT number FROM assessments ORDER BY id")
    }

    /// The patients of all assessments.
    pub fn patients(&self) -> Vec<String> {
        self.column("SELECT patient FROM assessments ORDER BY id")
    }

    /// How many patients are enrolled.
    pub fn enrolments(&self) -> usize {
        self.column("SELECT patient FROM enrolments").len()
    }

    /// How many requests it has had.
    pub fn requests(&self) -> u64 {
        self.requests.load(SeqCst)
    }

    fn column(&self, query: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = connect(&self.database.url()).await;
            let rows = client.query(query, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }
}

impl Drop for Numbering {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn connect(url: &str) -> Client {
    // The port is open somewhat before the server takes clients.
    for _ in 0..500 {
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            tokio::spawn(connection);
            return client;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the database takes no client");
}

// === impl Pool ===

impl Pool {
    async fn open(url: &str) -> Pool {
        let first = connect(url).await;
        first.batch_execute(SCHEMA).await.unwrap();
        let mut free = vec![first];
        while free.len() < POOL {
            free.push(connect(url).await);
        }
        Pool { free: Mutex::new(free), places: tokio::sync::Semaphore::new(POOL) }
    }

    /// Works with a connection that nobody else has meanwhile.
    async fn with<T>(&self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        let _place = self.places.acquire().await.unwrap();
        let client = self.free.lock().await.pop().expect("a place is a connection");
        let done = work(&client).await;
        self.free.lock().await.push(client);
        done
    }
}

async fn accept(listener: tokio::net::TcpListener, pool: Rc<Pool>, requests: Arc<AtomicU64>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (pool, requests) = (pool.clone(), requests.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                requests.fetch_add(1, SeqCst);
                // A task of its own: it finishes its work when the client has left.
                let work = tokio::task::spawn_local(respond(pool.clone(), request));
                async move { Ok::<_, Infallible>(work.await.unwrap()) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(pool: Rc<Pool>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name: &str| match &body[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let parameter = |name: &str| {
        let mut pairs = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let done = match (&head.method, head.uri.path()) {
        (&Method::POST, "/api/assessments") => create(&pool, field("patient")).await,
        (&Method::GET, "/assessments/new") => create(&pool, parameter("patient")).await,
        (&Method::GET, "/api/assessments") => {
            list(
                &pool,
                "SELECT id, number, patient FROM assessments WHERE patient = $1",
                parameter("patient"),
            )
            .await
        }
        (&Method::POST, "/api/enrolments") => enrol(&pool, field("patient")).await,
        (&Method::GET, "/api/enrolments") => {
            list(&pool, "SELECT id, '', patient FROM enrolments WHERE patient = $1", parameter("patient"))
                .await
        }
        (&Method::POST, "/api/tokens") => token(&pool, field("clinic")).await,
        _ => Ok(answer(404, &json!({"error": "there is no such thing"}))),
    };
    done.unwrap_or_else(failed)
}

/// Counts, then inserts.
async fn create(pool: &Pool, patient: String) -> Result<Response<Full<Bytes>>, Error> {
    pool.with(async |client| {
        let count: i64 = client.query_one("SELECT count(*) FROM assessments", &[]).await?.get(0);
        tokio::time::sleep(GAP).await;
        let number = format!("ASM-2025-{:03}", count + 1);
        let insert = "INSERT INTO assessments (number, patient) VALUES ($1, $2) RETURNING id";
        let id: i32 = client.query_one(insert, &[&number, &patient]).await?.get(0);
        Ok(answer(201, &json!({"id": id, "number": number, "patient": patient})))
    })
    .await
}

async fn enrol(pool: &Pool, patient: String) -> Result<Response<Full<Bytes>>, Error> {
    pool.with(async |client| {
        let insert = "INSERT INTO enrolments (patient) VALUES ($1) RETURNING id";
        match client.query_one(insert, &[&patient]).await {
            Ok(row) => Ok(answer(201, &json!({"id": row.get::<_, i32>(0), "patient": patient}))),
            Err(error) if code(&error) == "23505" => {
                Ok(answer(409, &json!({"error": "this patient is enrolled already"})))
            }
            Err(error) => Err(error),
        }
    })
    .await
}

/// A number that nothing makes unique.
async fn token(pool: &Pool, clinic: String) -> Result<Response<Full<Bytes>>, Error> {
    pool.with(async |client| {
        let query = "SELECT count(*) FROM tokens WHERE clinic = $1";
        let count: i64 = client.query_one(query, &[&clinic]).await?.get(0);
        tokio::time::sleep(GAP).await;
        let number = format!("A{:03}", count + 1);
        client.execute("INSERT INTO tokens (number, clinic) VALUES ($1, $2)", &[&number, &clinic]).await?;
        Ok(answer(201, &json!({ "tokenNumber": number })))
    })
    .await
}

async fn list(pool: &Pool, query: &str, patient: String) -> Result<Response<Full<Bytes>>, Error> {
    pool.with(async |client| {
        let rows = client.query(query, &[&patient]).await?;
        let item = |row: &tokio_postgres::Row| {
            json!({"id": row.get::<_, i32>(0), "number": row.get::<_, String>(1), "patient": row.get::<_, String>(2)})
        };
        Ok(answer(200, &json!({"items": rows.iter().map(item).collect::<Vec<_>>()})))
    })
    .await
}

fn code(error: &Error) -> String {
    error.as_db_error().map(|error| error.code().code().to_owned()).unwrap_or_default()
}

/// The database's own words reach the user.
fn failed(error: Error) -> Response<Full<Bytes>> {
    let message = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    answer(500, &json!({"error": message, "code": code(&error)}))
}

fn answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    answer
}
