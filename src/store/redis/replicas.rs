//! Waiting until replicas have a claim. Claims go over the connection for commands at full speed; each that was granted
//! is then confirmed on a connection of its own, many at a time: a write that only succeeds while the claim is there, and
//! one `WAIT` for all of them. So a claim that a failover lost in between is noticed, and nobody else waits.

use super::node::Node;
use super::place::Address;
use super::script::{Call, Script};
use super::{Inner, reply};
use crate::domain::ledger::{RecordId, Token};
use crate::store::StoreError;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, RedisResult, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;
use tokio::sync::oneshot;

/// Confirmations that go together.
const TOGETHER_MOST: usize = 256;

/// Who waits, by thread and server.
#[derive(Default)]
pub(super) struct Replicas {
    queues: Mutex<HashMap<(ThreadId, Address), Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Confirm>,
    /// A task is at work on this queue.
    at_work: bool,
}

/// One claim that waits for its replicas.
struct Confirm {
    call: Call,
    told: oneshot::Sender<Confirmed>,
}

/// What came of it.
enum Confirmed {
    Yes,
    /// So many replicas have it.
    Short(u64),
    /// The record is not there any more, or another attempt's.
    Gone,
    Failed(String),
}

impl Inner {
    /// Returns when as many replicas as configured have the attempt's record. Short of that the claim is given up, on this
    /// server now and on whatever server comes after it.
    pub(super) async fn replicated(self: &Arc<Inner>, id: RecordId, token: Token) -> Result<(), StoreError> {
        if self.wire.place.wait_replicas == 0 {
            return Ok(());
        }
        let confirmed = tokio::time::timeout(self.wire.place.timeout, self.confirm(id, token)).await;
        let why = match confirmed {
            Ok(Confirmed::Yes) => return Ok(()),
            Ok(Confirmed::Short(count)) => {
                format!("{count} of {} replicas have the claim", self.wire.place.wait_replicas)
            }
            Ok(Confirmed::Gone) => "the claim was lost in a failover".into(),
            Ok(Confirmed::Failed(why)) => why,
            Err(_) => "its replicas do not confirm in time".into(),
        };
        self.wire.doubtful.notify_one();
        self.recall.abandoned(id, token);
        let inner = self.clone();
        tokio::spawn(async move {
            // Compare and set: a record under another token stays.
            let call = inner.on(Script::Abandon, &id).arg(&token.0.to_be_bytes()).arg("");
            let _ = inner.run(call).await;
        });
        Err(StoreError::Unavailable(why))
    }

    async fn confirm(self: &Arc<Inner>, id: RecordId, token: Token) -> Confirmed {
        let call = self.on(Script::Hold, &id).arg(&token.0.to_be_bytes());
        let Some(address) = self.wire.map.master(call.part) else {
            return Confirmed::Failed("its master is not known".into());
        };
        let (told, confirmed) = oneshot::channel();
        let key = (std::thread::current().id(), address);
        {
            let mut queues = self.replicas.lock();
            let queue = queues.entry(key.clone()).or_default();
            queue.waiting.push(Confirm { call, told });
            if !std::mem::replace(&mut queue.at_work, true) {
                tokio::spawn(self.clone().work(key));
            }
        }
        confirmed.await.unwrap_or_else(|_| Confirmed::Failed("its replicas cannot be asked".into()))
    }

    /// Confirms what waits, until nothing does.
    async fn work(self: Arc<Inner>, key: (ThreadId, Address)) {
        let mut connection: Option<MultiplexedConnection> = None;
        loop {
            let together: Vec<Confirm> = {
                let mut queues = self.replicas.lock();
                let Some(queue) = queues.get_mut(&key) else { return };
                // Whoever gave up waiting needs no answer, and must not stand before those who wait.
                queue.waiting.retain(|confirm| !confirm.told.is_closed());
                if queue.waiting.is_empty() {
                    queue.at_work = false;
                    return;
                }
                let most = queue.waiting.len().min(TOGETHER_MOST);
                queue.waiting.drain(..most).collect()
            };
            let asked =
                tokio::time::timeout(self.wire.place.timeout, self.ask(&key.1, &mut connection, &together));
            let replies = match asked.await {
                Ok(Ok(replies)) => replies,
                Ok(Err(why)) => {
                    connection = None;
                    fail(together, &why);
                    continue;
                }
                Err(_) => {
                    connection = None;
                    fail(together, "its replicas do not confirm in time");
                    continue;
                }
            };
            self.tell(together, replies);
        }
    }

    /// Sends one round. The connection is kept for the next one: what `WAIT` waits for is what it has written.
    async fn ask(
        &self,
        address: &Address,
        connection: &mut Option<MultiplexedConnection>,
        together: &[Confirm],
    ) -> Result<Vec<Value>, String> {
        let open = match connection {
            Some(open) => open,
            None => {
                let node: Arc<Node> =
                    self.wire.link(address).node(&self.wire.place).await.map_err(|why| why.to_string())?;
                let made = node.another().await.map_err(|error| super::link::reason(&error))?;
                connection.insert(made)
            }
        };
        let mut round = Pipeline::with_capacity(together.len() + 1);
        for confirm in together {
            round.add_command(confirm.call.cmd(None));
        }
        let patience = self.wire.place.timeout / 2;
        round.cmd("WAIT").arg(self.wire.place.wait_replicas).arg(millis(patience));
        let sent: RedisResult<Vec<Value>> = open.req_packed_commands(&round, 0, together.len() + 1).await;
        let replies = sent.map_err(|error| super::link::reason(&error))?;
        // A script that the server does not know is not in a round's errors to repair: it is loaded, and asked for again.
        let unknown =
            |value: &Value| matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT");
        if replies.iter().any(unknown) {
            open.req_packed_command(&Script::Hold.load())
                .await
                .map_err(|error| super::link::reason(&error))?;
            let sent: RedisResult<Vec<Value>> = open.req_packed_commands(&round, 0, together.len() + 1).await;
            return sent.map_err(|error| super::link::reason(&error));
        }
        Ok(replies)
    }

    fn tell(&self, together: Vec<Confirm>, mut replies: Vec<Value>) {
        let replicas = replies.pop().map(Value::extract_error);
        let count = match replicas {
            Some(Ok(count)) => reply::number(&count).unwrap_or(0),
            Some(Err(error)) => return fail(together, &super::link::reason(&error)),
            None => 0,
        };
        let enough = count >= u64::from(self.wire.place.wait_replicas);
        for (confirm, held) in together.into_iter().zip(replies) {
            let confirmed = match held.extract_error() {
                Ok(Value::Int(1)) if enough => Confirmed::Yes,
                Ok(Value::Int(1)) => Confirmed::Short(count),
                Ok(_) => Confirmed::Gone,
                Err(error) => Confirmed::Failed(super::link::reason(&error)),
            };
            // Who asked may have lost patience.
            let _ = confirm.told.send(confirmed);
        }
    }
}

// === impl Replicas ===

impl Replicas {
    fn lock(&self) -> MutexGuard<'_, HashMap<(ThreadId, Address), Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail(together: Vec<Confirm>, why: &str) {
    for confirm in together {
        let _ = confirm.told.send(Confirmed::Failed(why.to_owned()));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
