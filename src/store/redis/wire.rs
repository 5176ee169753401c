//! How a call gets to the server whose business it is, and back: the one place that runs a script.
//!
//! Every thread has connections of its own, driven by its own runtime, so that a worker's command wakes no other thread.
//! What is certainly not executed is sent again within the call's deadline (an unknown script, a moved slot, a replica
//! that was a master, a server that loads); what may have been executed only where the call says that it may.

use super::agreement::Agreements;
use super::callers::Failed;
use super::link::Link;
use super::map::Map;
use super::node::Node;
use super::part::Parts;
use super::place::{Address, Layout, Shared};
use super::script::{Call, Lane};
use super::spread::SpreadMap;
use crate::store::StoreError;
use redis::{RedisError, Value};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::ThreadId;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a call is sent at most.
const SENT_MOST: u32 = 60;

/// The pause before a call is sent again to a server that cannot take it now.
const PAUSE: Duration = Duration::from_millis(25);

/// See the module.
pub(super) struct Wire {
    /// Where the store is.
    pub(super) place: Arc<Shared>,
    /// Its parts.
    pub(super) parts: Parts,
    /// Who is the master of which part.
    pub(super) map: Map,
    /// What the gateways agreed on.
    pub(super) agreements: Agreements,
    /// Somebody found that the map is wrong, or that a server has begun another life; the keeper looks after it.
    pub(super) doubtful: Notify,
    lines: RwLock<SpreadMap<ThreadId, Arc<Line>>>,
}

/// One thread's links.
#[derive(Default)]
pub(super) struct Line {
    /// As many as there are servers: looked through.
    links: Mutex<Vec<Arc<Link>>>,
}

/// A call was sent there, and failed so.
type Tried = (Arc<Link>, Arc<Node>, RedisError);

/// What came of sending a call once.
enum Sent {
    /// Not executed; another attempt may succeed, at once or after a pause.
    Again(Option<Duration>, String),
    /// Not executed, and it stays so.
    Refused(StoreError),
    /// It may have been executed.
    Lost(String),
}

// === impl Wire ===

impl Wire {
    /// Nothing is connected yet.
    pub(super) fn new(place: Shared) -> Wire {
        let parts = match place.layout {
            Layout::Cluster => Parts::spread(&place.prefix),
            Layout::Single | Layout::Sentinel(_) => Parts::one(&place.prefix),
        };
        let map = Map::new(&place, &parts);
        let (doubtful, lines) = (Notify::new(), RwLock::default());
        Wire { place: Arc::new(place), parts, map, agreements: Agreements::default(), doubtful, lines }
    }

    /// Runs a script; the one way in which anything is asked of the store.
    pub(super) async fn run(&self, call: Call) -> Result<Value, StoreError> {
        let until = now() + call.deadline;
        let Some((link, node)) = self.up(&call) else {
            return Box::pin(self.patiently(&call, until, None)).await;
        };
        let Some(direct) = node.direct() else {
            return Box::pin(self.patiently(&call, until, None)).await;
        };
        let told = direct.ask(call.asked(self.agreement(&call, &node)), Some(until)).await;
        let error = match told.map(Value::extract_error) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) | Err(Failed::Lost(error)) => error,
            Err(Failed::Late) => return Err(self.late(&call, Some((link, node)))),
        };
        Box::pin(self.patiently(&call, until, Some((link, node, error)))).await
    }

    /// The way to the master of a call's part, where it is open and short commands go on it directly.
    fn up(&self, call: &Call) -> Option<(Arc<Link>, Arc<Node>)> {
        if call.lane != Lane::Commands {
            return None;
        }
        let masters = self.map.all();
        let master = masters.get(usize::from(call.part.0))?.as_ref()?;
        let line = self.line();
        let links = line.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.iter().find(|link| link.address() == master)?;
        Some((link.clone(), link.up()?))
    }

    /// Waits for connections, follows redirections and sends again, all until `until`. `failed`: it was sent already, and
    /// that came of it.
    async fn patiently(
        &self,
        call: &Call,
        until: Instant,
        failed: Option<Tried>,
    ) -> Result<Value, StoreError> {
        let using = Mutex::new(None);
        match tokio::time::timeout_at(until, self.send(call, failed, &using)).await {
            Ok(result) => result,
            Err(_) => Err(self.late(call, using.lock().unwrap_or_else(PoisonError::into_inner).take())),
        }
    }

    /// Nobody knows what has become of a connection that is silent for so long.
    fn late(&self, call: &Call, used: Option<(Arc<Link>, Arc<Node>)>) -> StoreError {
        if let Some((link, node)) = used.filter(|_| !call.hasty) {
            Link::broken(&link, &node, &self.place);
            self.doubtful.notify_one();
        }
        StoreError::Unavailable(format!("it does not answer within {:?}", call.deadline))
    }

    /// The link of this thread to the master of the call's part.
    pub(super) fn link(&self, address: &Address) -> Arc<Link> {
        let line = self.line();
        let mut links = line.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.iter().find(|link| link.address() == address) {
            return link.clone();
        }
        let link = Link::new(address.clone());
        links.push(link.clone());
        link
    }

    async fn send(
        &self,
        call: &Call,
        mut failed: Option<Tried>,
        using: &Mutex<Option<(Arc<Link>, Arc<Node>)>>,
    ) -> Result<Value, StoreError> {
        let mut redirected = None;
        let mut why = String::from("its master is not known");
        for _ in 0..SENT_MOST {
            let (address, asking) = match redirected.take() {
                Some(address) => (Some(address), true),
                None => (self.map.master(call.part), false),
            };
            let (link, node, known) = match (failed.take(), address) {
                (Some((link, node, error)), _) => (link, node, Some(error)),
                (None, Some(address)) => {
                    let (link, node) = self.reach(&address).await?;
                    (link, node, None)
                }
                (None, None) => {
                    self.doubtful.notify_one();
                    return Err(StoreError::Unavailable(why));
                }
            };
            *using.lock().unwrap_or_else(PoisonError::into_inner) = Some((link.clone(), node.clone()));
            let sent = self.send_once(call, &node, asking, known).await;
            *using.lock().unwrap_or_else(PoisonError::into_inner) = None;
            match sent {
                Ok(value) => return Ok(value),
                Err(error) => match self.judge(call, &error, &link, &node) {
                    Sent::Refused(error) => return Err(error),
                    Sent::Lost(lost) if !call.repeatable => return Err(StoreError::Unavailable(lost)),
                    Sent::Lost(lost) => why = lost,
                    Sent::Again(pause, not_now) => {
                        why = not_now;
                        if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::Ask) {
                            redirected = error.redirect_node().and_then(|(to, _)| Address::parse(to));
                        }
                        if let Some(pause) = pause {
                            tokio::time::sleep(pause).await;
                        }
                    }
                },
            }
        }
        Err(StoreError::Unavailable(why))
    }

    /// A connection to a server, once there is one.
    async fn reach(&self, address: &Address) -> Result<(Arc<Link>, Arc<Node>), StoreError> {
        let link = self.link(address);
        match link.node(&self.place).await {
            Ok(node) => Ok((link, node)),
            Err(why) => {
                self.doubtful.notify_one();
                Err(StoreError::Unavailable(format!("{address}: {why}")))
            }
        }
    }

    /// Sends a call to one server; `known` is what came of that, where it was sent there already.
    async fn send_once(
        &self,
        call: &Call,
        node: &Node,
        asking: bool,
        known: Option<RedisError>,
    ) -> Result<Value, RedisError> {
        let send = async || node.send(call, self.agreement(call, node)).await;
        if asking {
            let mut both = redis::pipe();
            both.cmd("ASKING").add_command(call.cmd(self.agreement(call, node)));
            let replies = node.send_all(&both, 2).await?;
            return call.told(replies.into_iter().nth(1).unwrap_or(Value::Nil));
        }
        let sent = match known {
            Some(error) => Err(error),
            None => send().await,
        };
        match sent {
            Err(error) if code(&error) == Some("NOSCRIPT") => {
                node.load(call.script, call.lane).await?;
                send().await
            }
            sent => sent,
        }
    }

    /// What a call says last to a server, where it has to.
    fn agreement(&self, call: &Call, node: &Node) -> Option<Arc<[u8]>> {
        call.says_agreement.then(|| self.agreements.name(call.part, &node.life))
    }

    /// What an error means.
    fn judge(&self, call: &Call, error: &RedisError, link: &Arc<Link>, node: &Arc<Node>) -> Sent {
        let why = format!("{}: {}", link.address(), super::link::reason(error));
        match code(error) {
            Some("MOVED") => {
                if let Some(to) = error.redirect_node().and_then(|(to, _)| Address::parse(to)) {
                    self.map.moved(call.part, to);
                }
                self.doubtful.notify_one();
                Sent::Again(None, why)
            }
            Some("ASK") => Sent::Again(None, why),
            Some("TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "LOADING" | "BUSY") => {
                self.doubtful.notify_one();
                Sent::Again(Some(PAUSE), why)
            }
            Some("READONLY") => {
                // It was a master once: another connection would find the same server.
                Link::broken(link, node, &self.place);
                self.doubtful.notify_one();
                Sent::Again(Some(PAUSE), why)
            }
            Some("OOM") => Sent::Refused(StoreError::Full("its memory is full (maxmemory)".into())),
            Some("NOREPLICAS") => Sent::Refused(StoreError::Unavailable(format!(
                "{}: too few replicas are in step (min-replicas-to-write)",
                link.address()
            ))),
            Some(_) => Sent::Refused(StoreError::Unavailable(why)),
            None => {
                Link::broken(link, node, &self.place);
                self.doubtful.notify_one();
                Sent::Lost(why)
            }
        }
    }

    /// This thread's links.
    fn line(&self) -> Arc<Line> {
        let thread = std::thread::current().id();
        if let Some(line) = self.lines.read().unwrap_or_else(PoisonError::into_inner).get(&thread) {
            return line.clone();
        }
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        lines.entry(thread).or_default().clone()
    }
}

#[allow(clippy::disallowed_methods, reason = "deadlines of calls")]
fn now() -> Instant {
    Instant::now()
}

/// The server's word for an error; before version 7 it hides the one that a script met behind a general one.
fn code(error: &RedisError) -> Option<&str> {
    let code = error.code()?;
    let met = |code: &&str| error.detail().is_some_and(|detail| detail.contains(&format!("-{code} ")));
    match code {
        "ERR" => ["OOM", "READONLY", "NOREPLICAS"].into_iter().find(met).or(Some(code)),
        _ => Some(code),
    }
}
