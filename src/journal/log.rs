//! Where `tracing` and the journal's own lines meet: one queue, one thread, one stream (standard output).

use super::line::{Line, Style};
pub use super::queue::LogGuard;
use super::queue::{LINES_MAX, Queue};
use super::stamp::LogClock;
use crate::config;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
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
    // Without the library's buffer: what was written of a line and what was not has to be known.
    let out = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let (queue, guard) =
        out.and_then(|out| Queue::start(out, style, config.level, LINES_MAX)).map_err(LogError::NoThread)?;
    let lines = subscriber(queue.clone(), style, config.level);
    tracing::dispatcher::set_global_default(lines).map_err(|_| LogError::AlreadyStarted)?;
    LOG.set(queue).map_err(|_| LogError::AlreadyStarted)?;
    Ok(guard)
}

/// The process's log, once it was started.
pub(super) fn queue() -> Option<Arc<Queue>> {
    LOG.get().cloned()
}

/// `tracing`'s lines, with the same fields and times as the journal's own.
fn subscriber(queue: Arc<Queue>, style: Style, level: tracing::Level) -> tracing::Dispatch {
    let writer = LineWriter(queue);
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_timer(LogClock)
        .with_writer(move || writer.clone());
    match style {
        Style::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            tracing::Dispatch::new(lines.finish())
        }
        Style::Pretty { colour } => tracing::Dispatch::new(lines.with_ansi(colour).finish()),
    }
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
    use crate::journal::tests::Kept;
    use tracing::Level;

    fn said(style: Style, say: impl FnOnce()) -> Kept {
        let kept = Kept::default();
        let (queue, guard) = Queue::start(kept.clone(), style, Level::INFO, LINES_MAX).expect("a thread");
        tracing::dispatcher::with_default(&subscriber(queue, style, Level::INFO), say);
        drop(guard);
        kept
    }

    #[test]
    fn what_tracing_says_has_the_shape_of_the_journals_own_lines() {
        let kept = said(Style::Json, || {
            tracing::warn!(bytes = 17, "the log's tail was torn");
            tracing::debug!("nobody asked for this");
        });
        let lines = kept.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        assert_eq!((&line["level"], &line["bytes"]), (&"WARN".into(), &17.into()));
        assert_eq!(
            (&line["message"], &line["target"]),
            (&"the log's tail was torn".into(), &module_path!().into())
        );
        let stamp = line["timestamp"].as_str().expect("a timestamp");
        assert!(stamp.len() == "2026-11-22T10:44:01.123Z".len() && stamp.ends_with('Z'), "{stamp}");
    }

    #[test]
    fn for_eyes_a_line_is_one_line_without_escapes_where_no_colour_is_wanted() {
        let text = said(Style::Pretty { colour: false }, || tracing::info!(port = 8080, "listening")).text();
        assert!(text.ends_with("listening port=8080\n") && text.matches('\n').count() == 1, "{text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }

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
