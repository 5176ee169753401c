//! `oncegate demo`: each incident without the gateway and with it.

use std::process::ExitCode;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Exit after one round
    #[arg(long)]
    pub once: bool,
}

/// Plays the incidents.
pub fn run(_args: DemoArgs) -> ExitCode {
    eprintln!("oncegate demo is not built yet");
    ExitCode::FAILURE
}
