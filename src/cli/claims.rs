//! `oncegate claims`: records, through the admin API.

use std::process::ExitCode;

/// Arguments of `claims`.
#[derive(Debug, clap::Args)]
pub struct ClaimsArgs {}

/// Lists, shows and settles records.
pub fn run(_args: ClaimsArgs) -> ExitCode {
    eprintln!("oncegate claims is not built yet");
    ExitCode::FAILURE
}
