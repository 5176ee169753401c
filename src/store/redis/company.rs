//! Commands that travel together. What a worker's requests ask while a reply is under way waits for it and is then sent in
//! one piece: under load the way to the server and back, which the kernel charges far more for than anything that is done
//! here, is shared by all of them; a command that is alone goes at once. Nobody waits longer than the commands before it
//! take, whose turn at the server comes first anyway.

use super::node::IN_FLIGHT_MOST;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::AbortHandle;

/// Commands that go in one piece.
const TOGETHER_MOST: usize = 256;

/// See the module. Dropping it ends what is under way.
pub(super) struct Company {
    queue: Arc<Queue>,
    driver: AbortHandle,
}

struct Queue {
    /// `None` once nobody drives any more: whoever asks then must not wait for it.
    waiting: Mutex<Option<Vec<Waiting>>>,
    came: Notify,
    /// Who is waiting or under way; one more waits for its place within its own deadline.
    room: Semaphore,
}

struct Waiting {
    command: Cmd,
    told: oneshot::Sender<RedisResult<Value>>,
}

/// The driver's end of the queue. With it, whoever waits is told that it has ended: also where its runtime has.
struct Driven(Arc<Queue>);

// === impl Company ===

impl Company {
    /// On this connection; driven by the runtime of the caller.
    pub(super) fn new(connection: MultiplexedConnection) -> Company {
        let waiting = Mutex::new(Some(Vec::new()));
        let queue = Arc::new(Queue { waiting, came: Notify::new(), room: Semaphore::new(IN_FLIGHT_MOST) });
        let driver = tokio::spawn(drive(Driven(queue.clone()), connection)).abort_handle();
        Company { queue, driver }
    }

    /// Sends one command, with whatever else is to be sent.
    pub(super) async fn send(&self, command: Cmd) -> RedisResult<Value> {
        let ended = || RedisError::from((ErrorKind::Io, "the connection was given up"));
        let _room = self.queue.room.acquire().await.map_err(|_| ended())?;
        let (told, reply) = oneshot::channel();
        match &mut *self.queue.lock() {
            Some(waiting) => waiting.push(Waiting { command, told }),
            None => return Err(ended()),
        }
        self.queue.came.notify_one();
        reply.await.unwrap_or_else(|_| Err(ended()))?.extract_error()
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

// === impl Queue ===

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who go next, but for callers that have left.
    fn next(&self) -> (Pipeline, Vec<oneshot::Sender<RedisResult<Value>>>) {
        let mut waiting = self.lock();
        let waiting = waiting.get_or_insert_default();
        let most = waiting.len().min(TOGETHER_MOST);
        let (mut commands, mut callers) = (Pipeline::with_capacity(most), Vec::with_capacity(most));
        for Waiting { command, told } in waiting.drain(..most) {
            if !told.is_closed() {
                commands.add_command(command);
                callers.push(told);
            }
        }
        (commands, callers)
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // What is taken out is dropped behind the lock.
        let _waiting = self.0.lock().take();
    }
}

async fn drive(driven: Driven, mut connection: MultiplexedConnection) {
    let queue = &driven.0;
    loop {
        let (commands, callers) = queue.next();
        if callers.is_empty() {
            queue.came.notified().await;
            continue;
        }
        match connection.req_packed_commands(&commands, 0, callers.len()).await {
            // Who asked may have left.
            Ok(replies) => {
                callers.into_iter().zip(replies).for_each(|(told, reply)| drop(told.send(Ok(reply))))
            }
            Err(error) => callers.into_iter().for_each(|told| drop(told.send(Err(error.clone())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use redis::{AsyncConnectionConfig, RedisConnectionInfo};
    use std::future::poll_fn;
    use std::task::Poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[test]
    fn whoever_asks_when_the_driver_has_ended_is_told_so_at_once() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (client, _server) = duplex(1 << 16);
        let driving = runtime();
        let company = driving.block_on(async {
            let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
            let connection =
                MultiplexedConnection::new_with_config(&settings, client, AsyncConnectionConfig::new());
            let (connection, driver) = connection.await.expect("no greeting");
            tokio::spawn(driver);
            Company::new(connection)
        });
        let (asking, ask) = (runtime(), || company.send(redis::cmd("PING")));
        let mut waits = Box::pin(ask());
        let begun = asking.block_on(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())));
        assert!(begun);
        drop(driving);
        let patience = std::time::Duration::from_secs(5);
        for told in [waits, Box::pin(ask())] {
            let told = asking.block_on(async { tokio::time::timeout(patience, told).await });
            assert!(told.expect("told at once").is_err());
        }
    }

    #[tokio::test]
    async fn what_is_asked_meanwhile_goes_in_one_piece_and_everybody_gets_their_own_reply() {
        let (client, mut server) = duplex(1 << 16);
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let connection =
            MultiplexedConnection::new_with_config(&settings, client, AsyncConnectionConfig::new());
        let (connection, driver) = connection.await.expect("no greeting");
        tokio::spawn(driver);
        let (company, arrived) = (Company::new(connection), Notify::new());
        let ask = |n: i64| {
            let mut command = redis::cmd("ECHO");
            command.arg(n);
            company.send(command)
        };
        let others = async {
            arrived.notified().await;
            join_all((0..10).map(ask)).await
        };
        let serve = async {
            let mut pieces = Vec::new();
            while pieces.iter().sum::<usize>() < 11 {
                let mut piece = vec![0; 1 << 14];
                let length = server.read(&mut piece).await.expect("a piece");
                arrived.notify_one();
                // Everybody who asks meanwhile has asked by then.
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                let text = String::from_utf8_lossy(&piece[..length]);
                let asked: Vec<&str> = text.split("\r\n").skip(4).step_by(5).collect();
                let replies: String = asked.iter().map(|n| format!(":{n}\r\n")).collect();
                server.write_all(replies.as_bytes()).await.expect("it listens");
                pieces.push(asked.len());
            }
            pieces
        };
        let (first, others, pieces) = tokio::join!(ask(100), others, serve);
        assert_eq!(first, Ok(Value::Int(100)));
        let others: Vec<Value> = others.into_iter().map(|reply| reply.expect("a reply")).collect();
        assert_eq!(others, (0..10).map(Value::Int).collect::<Vec<_>>());
        assert_eq!(pieces, [1, 10]);
    }
}
