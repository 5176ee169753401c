//! Commands, one file each.

pub mod demo;

use clap::Parser;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "oncegate", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Plays each incident without and with the gate, on loopback, with nothing to install.
    Demo(demo::DemoArgs),
    /// The racy scheduling backend of the demo, alone.
    #[command(hide = true)]
    DemoBackend(demo::backend::BackendArgs),
}

/// Runs the command that the arguments name.
pub fn main() -> std::process::ExitCode {
    match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::DemoBackend(arguments) => demo::backend::run(arguments),
    }
}
