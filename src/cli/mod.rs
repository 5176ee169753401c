//! Commands, one file each: arguments in, exit code out.

pub mod check;
pub mod claims;
mod client;
pub mod demo;
pub mod run;
pub mod slots;

use clap::{Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// A reverse proxy that lets every intended write through once.
#[derive(Debug, Parser)]
#[command(name = "oncegate", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Guard a backend's writes until told to stop
    Run(run::RunArgs),
    /// Validate a configuration and say what it guards
    Check(check::CheckArgs),
    /// Show the gateway at work on a small backend of its own
    Demo(demo::DemoArgs),
    /// List, show and settle records, those in doubt above all
    Claims(claims::ClaimsArgs),
    /// List, ask about, adopt and give back what only so many may hold
    Slots(slots::SlotsArgs),
    /// The demo's scheduling backend, alone
    #[command(hide = true)]
    DemoBackend(demo::backend::BackendArgs),
}

/// Writes to the standard output, then ends with `code`. A reader that has seen enough (`| head`) is no failure, a full disk
/// is.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: the output could not be written: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// Runs the command that the arguments name. Wrong arguments exit with 2, as wrong configurations do.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Claims(args) => claims::run(args),
        Command::Slots(args) => slots::run(args),
        Command::DemoBackend(args) => demo::backend::run(args),
    }
}
