//! Commands, one file each.
/// Runs the command that the arguments name.
pub fn main() -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
