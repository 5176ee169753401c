//! `oncegate run`: the gateway itself.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "PATH", default_value = "config.toml")]
    pub config: PathBuf,
}

/// Loads the configuration and serves until told to stop.
pub fn run(args: RunArgs) -> ExitCode {
    match crate::config::load(&args.config) {
        Ok(_) => {
            eprintln!("oncegate run is not built yet");
            ExitCode::FAILURE
        }
        Err(problems) => super::check::refuse(&problems),
    }
}
