//! Where `tracing` and the journal's own lines meet: one queue, one thread, one stream (standard output).

use super::line::{Line, Style};
pub use super::queue::LogGuard;
use super::queue::{LINES_MAX, Queue};
use super::stamp::LogClock;
use crate::config;
use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

/// The process has one log, as `tracing` has one subscriber.
static LOG: OnceLock<Arc<Queue>> = OnceLock::new();

/// Why the log could not be started.
#[derive(Debug)]
pub enum LogError {
    /// The log was started before, here or by another library.
    AlreadyStarted,
    /// The thread that writes could not be started.
    NoThread(std::io::Error),
}

/// `tracing`'s end of the queue: one write is one formatted line.
#[derive(Clone)]
struct LineWriter(Arc<Queue>);

/// Starts the process's log as `[log]` says: pretty on a terminal, JSON otherwise. Journals made after this write their
/// lines to it. Keep the guard until the end: dropping it writes out what waits, for at most a second.
pub fn init(config: &config::Log) -> Result<LogGuard, LogError> {
    let style = style(config.format, std::io::stdout().is_terminal(), std::env::var_os("NO_COLOR").is_some());
    let (queue, guard) =
        Queue::start(std::io::stdout(), style, config.level, LINES_MAX).map_err(LogError::NoThread)?;
    let writer = LineWriter(queue.clone());
    let lines = tracing_subscriber::fmt()
        .with_max_level(config.level)
        .with_timer(LogClock)
        .with_writer(move || writer.clone());
    let started = match style {
        Style::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            tracing::subscriber::set_global_default(lines.finish())
        }
        Style::Pretty { colour } => tracing::subscriber::set_global_default(lines.with_ansi(colour).finish()),
    };
    started.map_err(|_| LogError::AlreadyStarted)?;
    LOG.set(queue).map_err(|_| LogError::AlreadyStarted)?;
    Ok(guard)
}

/// The process's log, once it was started.
pub(super) fn queue() -> Option<Arc<Queue>> {
    LOG.get().cloned()
}

fn style(format: config::LogFormat, terminal: bool, no_colour: bool) -> Style {
    match format {
        config::LogFormat::Json => Style::Json,
        config::LogFormat::Auto if !terminal => Style::Json,
        config::LogFormat::Auto | config::LogFormat::Pretty => {
            Style::Pretty { colour: terminal && !no_colour }
        }
    }
}

// === impl LineWriter ===

impl std::io::Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(Line::Text(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// === impl LogError ===

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogError::AlreadyStarted => write!(f, "the log was started before"),
            LogError::NoThread(error) => write!(f, "the log's thread could not be started: {error}"),
        }
    }
}

impl std::error::Error for LogError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    #[test]
    fn a_terminal_gets_colours_and_everybody_else_json() {
        let pretty = |colour| Style::Pretty { colour };
        assert_eq!(style(LogFormat::Auto, true, false), pretty(true));
        assert_eq!(style(LogFormat::Auto, true, true), pretty(false));
        assert_eq!(style(LogFormat::Auto, false, false), Style::Json);
        assert_eq!(style(LogFormat::Pretty, false, false), pretty(false));
        assert_eq!(style(LogFormat::Json, true, false), Style::Json);
    }
}
