//! `oncegate demo`: a small racy scheduling backend and a gate before it, on loopback and in a temporary directory;
//! each incident is played without and with the gate.

#![allow(clippy::disallowed_methods, reason = "the demo looks from outside, as a client with its own clock")]

pub mod acts;
pub mod backend;
pub mod flood;
pub mod gate;
pub mod http;
mod table;

use acts::{ACTS, Act, Tally};
use backend::Backend;
use flood::Flood;
use gate::Gate;
use std::io::Result;
use std::process::ExitCode;
use table::Table;

/// Arguments of `oncegate demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the acts, with exit code 1 where the gate did not do its job; otherwise keep serving.
    #[arg(long)]
    once: bool,
}

/// The gate's config.toml.
const CONFIG: &str = include_str!("demo.toml");

/// Plays the acts; without `--once` keeps serving until it is interrupted.
pub fn run(arguments: DemoArgs) -> ExitCode {
    match play(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("demo: the gate did not do its job");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the gate kept its promise in every act.
fn play(arguments: &DemoArgs) -> Result<bool> {
    // Dropped in reverse: the gate ends before its backend, and the directory is removed last.
    let directory = tempfile::Builder::new().prefix("oncegate-demo-").tempdir()?;
    let backend = Backend::start(&directory.path().join("backend.db"))?;
    let config = CONFIG.replace("{backend}", &backend.address.to_string());
    let mut gate = Gate::new(&std::env::current_exe()?, directory.path(), &config)?;
    gate.start()?;

    let mut table = Table::new(&["incident", "gate", "requests", "effects", "replays", "answers"]);
    let mut kept = true;
    for act in ACTS {
        let without = act.run(backend.address, backend.address)?;
        table.row(cells(act.name, "without", &without, ""));
        let with = act.run(gate.address, backend.address)?;
        kept &= act.kept(&with);
        table.row(cells("", "with", &with, verdict(act, &with)));
    }
    println!("An effect is a row that the backend really created.\n\n{table}");
    let without = Flood::play(backend.address, backend.address)?;
    let with = Flood::play(gate.address, backend.address)?;
    kept &= with.kept();
    println!("{}", Flood::table(&without, &with));
    if !arguments.once {
        invite(&gate, &backend);
        wait_for_interrupt()?;
    }
    Ok(kept)
}

fn cells(name: &str, gate: &str, tally: &Tally, verdict: &str) -> Vec<String> {
    let answers = format!("{}{verdict}", tally.answers());
    let [requests, effects, replays] =
        [tally.answers.len(), tally.effects, tally.replays()].map(|count| count.to_string());
    vec![name.to_owned(), gate.to_owned(), requests, effects, replays, answers]
}

fn verdict(act: &Act, tally: &Tally) -> &'static str {
    if act.kept(tally) { "" } else { "  <- not what was promised" }
}

fn invite(gate: &Gate, backend: &Backend) {
    let (gate, admin, backend) = (gate.address, gate.admin, backend.address);
    println!(
        "Still serving; end it with Ctrl-C. Send this twice within ten seconds: one row, one answer.\n\n  \
         curl -i http://{gate}/api/bookings -H 'Content-Type: application/json' -d '{{\"patient\":\"Wang Fang\",\"slot\":3}}'\n\n\
         The rows of the backend, and the same past the gate:\n\n  \
         curl http://{backend}/_effects\n  \
         curl -i http://{backend}/api/bookings -H 'Content-Type: application/json' -d '{{\"patient\":\"Wang Fang\",\"slot\":3}}'\n\n\
         What the gate knows:\n\n  \
         curl http://{admin}/metrics"
    );
}

fn wait_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    })
}
