//! `oncegate check`: every problem of a configuration at once, and what it guards.

use crate::config::{self, Config, Paint, Problems, StoreUrl};
use crate::gateway::check_authorities;
use crate::store::{self, Finding};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration
    #[arg(long, value_name = "PATH", default_value = "config.toml")]
    pub config: PathBuf,
}

/// The exit code for a configuration that cannot be used, here and in `run`.
pub const EXIT_CONFIG: u8 = 2;

/// Problems go to the standard error, the summary to the standard output. Exits with 0 where the configuration can be
/// used, with 2 otherwise.
pub fn run(args: CheckArgs) -> ExitCode {
    match config::load(&args.config) {
        Ok(loaded) => {
            print_problems(&loaded.notices);
            let (summary, notices) = (config::summary(&loaded.config), &loaded.notices);
            let text = format!("{summary}{}: {}\n", notices.file(), notices.tally());
            // Written before the store is asked, which may take its time.
            let written = super::print(&text, ExitCode::SUCCESS);
            if let Err(why) = check_authorities(&loaded.config) {
                eprintln!("warning: {why}");
            }
            let examined = examine_store(&loaded.config);
            if examined == ExitCode::SUCCESS { written } else { examined }
        }
        Err(problems) => refuse(&problems),
    }
}

/// Looks at the servers of a shared store. One that cannot be reached from here is no fault of the configuration; one whose
/// settings would forget claims is.
fn examine_store(config: &Config) -> ExitCode {
    let StoreUrl::Redis(url) = &config.store.url else { return ExitCode::SUCCESS };
    let findings = store::examine(&super::run::shared_store(config, url));
    for Finding { fatal, text } in &findings {
        eprintln!("{}: the store: {text}", if *fatal { "error" } else { "warning" });
    }
    if findings.iter().any(|finding| finding.fatal) { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS }
}

/// Prints the problems of a configuration that cannot be used.
pub fn refuse(problems: &Problems) -> ExitCode {
    print_problems(problems);
    eprintln!("{}: {}", problems.file(), problems.tally());
    ExitCode::from(EXIT_CONFIG)
}

/// Prints problems to the standard error, with colours on a terminal that wants them.
pub fn print_problems(problems: &Problems) {
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = problems.render(if colour { Paint::Colour } else { Paint::Plain });
    if !text.is_empty() {
        eprintln!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_says_whether_the_configuration_can_be_used() {
        let code = |path: &str| {
            let config = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            format!("{:?}", run(CheckArgs { config }))
        };
        assert_eq!(code("config.toml"), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code("tests/config/mistakes.toml"), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code("tests/config/no-such-file.toml"), format!("{:?}", ExitCode::from(2)));
    }
}
