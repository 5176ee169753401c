//! `oncegate run`: the gateway, from its start to its drain.

use crate::admin::{self, Admin, AdminState};
use crate::config::{
    self, Config, Policy, RedisLayout, RedisUrl, Severity, SlotCatalogue, StoreUrl, Successes,
};
use crate::domain::event::Event;
use crate::gateway::Gateway;
use crate::journal::{self, Journal, Readiness};
use crate::store::{Address, HearsOfDoubt, Layout, LeftInDoubt, Options, Place, Shared, Store, Tls};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "PATH", default_value = "config.toml")]
    pub config: PathBuf,
}

/// Loads the configuration and serves until told to stop.
pub fn run(args: RunArgs) -> ExitCode {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(problems) => return super::check::refuse(&problems),
    };
    let log = match journal::log::init(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => return fail(&error.to_string()),
    };
    let ended = serve(loaded);
    drop(log);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("oncegate: {why}");
    ExitCode::FAILURE
}

/// Store, admin address, gateway: in this order, so that a start that is told to be ready is.
fn serve(loaded: config::Loaded) -> Result<(), String> {
    for (severity, notice) in loaded.notices.lines() {
        match severity {
            Severity::Note => tracing::debug!("{notice}"),
            _ => tracing::warn!("{notice}"),
        }
    }
    let config = &loaded.config;
    let serving = Arc::new(AtomicBool::new(false));
    let told = listen_for_the_end(serving.clone())?;
    raise_descriptor_limit(config.server.connections_max);
    let store = Arc::new(Store::open(store_options(config)).map_err(|error| error.to_string())?);
    let names = config.routes.iter().map(|route| route.name.clone()).collect();
    let upstreams = config.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    let journal = Journal::new(names, upstreams, config.log.access);
    store.hear_of_doubts(Arc::new(TellsOfDoubt(journal.clone())));
    let (readiness, ready) = watch::channel(Readiness::Starting);
    let admin = start_admin(config, &store, &journal, ready)?;
    let (lame_duck, drain) = (config.server.lame_duck, config.server.drain);
    let policy = Arc::new(Policy::compile(loaded.config));
    serving.store(true, Ordering::Relaxed);
    let gateway =
        Gateway::start(policy, store.clone(), journal.clone()).map_err(|error| error.to_string())?;
    let _ = readiness.send(Readiness::Ready);
    for address in gateway.addresses() {
        tracing::info!(%address, admin = %admin.address(), "serving");
    }
    wait_for_the_end(&told, &readiness, lame_duck);
    let _ = readiness.send(Readiness::Draining);
    let drained = gateway.drain(drain);
    if drained.unfinished > 0 {
        tracing::warn!("requests were still in flight after {drain:?}; writes among them are in doubt");
    }
    store.close();
    tracing::info!("stopped");
    Ok(())
}

/// What a gateway that is gone left in doubt is told as if it had told it itself.
struct TellsOfDoubt(Arc<Journal>);

impl HearsOfDoubt for TellsOfDoubt {
    fn left(&self, left: LeftInDoubt) {
        for record in &left.records {
            let (Ok(id), Some(why)) = (record.id.parse(), record.why) else { continue };
            let (route, request_id) = ((&*record.about.route).into(), (&*record.about.request_id).into());
            self.0.event(Event::InDoubt { route, id, request_id, why });
        }
        let more = left.count.saturating_sub(left.records.len());
        if more > 0 {
            tracing::warn!(
                more,
                "more writes are in doubt than are told one by one: oncegate claims list --phase in-doubt"
            );
        }
    }
}

/// Every connection is a descriptor, on both sides. The soft limit that shells set (often 1,024) is far below what the
/// configuration allows, so it is raised as far as the system lets us; where that is not enough, the operator is told.
fn raise_descriptor_limit(connections_max: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = if raised.is_ok() { maximum } else { current };
    let needed = connections_max as u64 * 2;
    if allowed.is_some_and(|allowed| allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "the system allows fewer open files than server.connections_max may need; raise its limit (ulimit -n, LimitNOFILE=)"
        );
    }
}

fn store_options(config: &Config) -> Options {
    let place = match &config.store.url {
        StoreUrl::Memory => Place::Memory,
        StoreUrl::File(directory) => Place::Directory(directory.clone()),
        StoreUrl::Redis(url) => Place::Shared(shared_store(config, url)),
    };
    Options {
        place,
        secret: config.store.secret.as_ref().map(|secret| secret.expose().as_bytes().to_vec()),
        memory_max: config.store.memory,
        records_max: config.store.records_max,
    }
}

/// How the shared store is reached.
pub fn shared_store(config: &Config, url: &RedisUrl) -> Shared {
    let keys = &config.store.shared;
    let password = url.password.as_ref().or(keys.password.as_ref());
    Shared {
        layout: match &url.layout {
            RedisLayout::Single => Layout::Single,
            RedisLayout::Sentinel(master) => Layout::Sentinel(master.clone()),
            RedisLayout::Cluster => Layout::Cluster,
        },
        nodes: url.nodes.iter().map(|(host, port)| Address::new(host, *port)).collect(),
        user: url.user.clone(),
        password: password.map(|password| password.expose().to_owned()),
        database: url.database,
        tls: keys.tls.then(|| match &keys.ca {
            Some(pem) => Tls::Authority(pem.as_bytes().to_vec()),
            None => Tls::System,
        }),
        prefix: keys.prefix.clone(),
        wait_replicas: keys.wait_replicas,
        timeout: keys.timeout,
        limit_timeout: keys.limit_timeout,
        state: keys.state.clone(),
    }
}

fn start_admin(
    config: &Config,
    store: &Arc<Store>,
    journal: &Arc<Journal>,
    readiness: watch::Receiver<Readiness>,
) -> Result<Admin, String> {
    let address = config.admin.listen;
    let listener = TcpListener::bind(address)
        .map_err(|error| format!("cannot listen on {address} for [admin]: {error}"))?;
    let state = AdminState {
        store: store.clone(),
        journal: journal.clone(),
        slots: Arc::new(SlotCatalogue::new(config)),
        successes: Arc::new(Successes::new(config)),
        readiness,
        token: config.admin.token.clone(),
    };
    admin::serve(listener, state).map_err(|error| format!("the admin address cannot be served: {error}"))
}

/// Returns when it is time to drain: after the lame-duck time that follows a SIGTERM or the end of the terminal (SIGHUP), or
/// at once for an interrupt from the keyboard or a second signal.
fn wait_for_the_end(told: &Receiver<SignalKind>, readiness: &watch::Sender<Readiness>, lame_duck: Duration) {
    if matches!(told.recv(), Ok(kind) if kind != SignalKind::interrupt()) {
        tracing::info!("told to stop; serving on for {lame_duck:?} while load balancers notice");
        let _ = readiness.send(Readiness::LameDuck);
        let _ = told.recv_timeout(lame_duck);
    }
}

/// Listens for what asks it to end, from the first moment on: the first process of a container has no other answer to a
/// signal. Until it is `serving` nothing is in flight, and it ends at once.
fn listen_for_the_end(serving: Arc<AtomicBool>) -> Result<Receiver<SignalKind>, String> {
    let failed = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut ends = {
        let _in_runtime = runtime.enter();
        Ends::listen().map_err(failed)?
    };
    // Two ask for a drain and its end; more change nothing.
    let (tell, told) = sync_channel(2);
    let listen = async move {
        loop {
            let kind = ends.next().await;
            if !serving.load(Ordering::Relaxed) {
                eprintln!("oncegate: told to stop before it served");
                std::process::exit(0);
            }
            let _ = tell.try_send(kind);
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || runtime.block_on(listen)).map_err(failed)?;
    Ok(told)
}

/// What asks it to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Ends {
    /// Within a runtime.
    fn listen() -> std::io::Result<Ends> {
        Ok(Ends {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // Who started it with `nohup` wants it to go on.
            hangup: if ignores_hangups() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    async fn next(&mut self) -> SignalKind {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = hangup => SignalKind::hangup(),
        }
    }
}

/// Whether whoever started it has it ignore SIGHUP, which is the first bit of the mask.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
