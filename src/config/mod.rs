//! config.toml -> [`Config`] (validated, all problems at once) -> [`Policy`] (compiled, immutable snapshot).
//!
//! A request keeps the policy it started with from its first step to its last.
//!
//! ```text
//! text -> document (tree with places, syntax errors) -> read (key by key, by the list in keys)
//!      -> sections (values) -> relations (between values) -> Config, or problem (rendered with line and caret)
//! ```

mod certificates;
mod document;
mod jwks;
mod keys;
mod mask;
mod model;
mod nested;
mod networks;
mod policy;
mod problem;
mod race;
mod read;
mod redis_url;
mod relations;
mod secret;
mod sections;
mod slots;
mod substitute;
mod successes;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod throttle;
mod values;

pub use certificates::{CertificateFiles, ClientCertificates, ServerTls, UpstreamTls, authorities};
pub use jwks::{Jwks, SYMMETRIC, VerifyingKey};
pub use model::*;
pub use policy::{Guard, Policy, Reads, RoutePolicy, Taken};
pub use problem::{Paint, Problem, Problems, Severity};
pub use race::{Absent, Detect, Lane, Pointer, Recover, Retry};
pub use redis_url::{RedisLayout, RedisUrl, SharedStore};
pub use secret::Secret;
pub use slots::{AskRule, ChangeRule, RouteSlots, SlotCatalogue, SlotRules};
pub use successes::{Named, Successes};
pub use summary::summary;
pub use throttle::{Concurrency, RouteThrottle, ThrottlePolicy};
pub use values::{show_duration, show_size};

use std::borrow::Cow;
use std::path::Path;

/// A larger file is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its warnings and notes, for `check` and for the log at the start.
    pub notices: Problems,
}

/// Reads and validates a file. Relative paths in it start from its own directory; `${NAME}` is the process's
/// environment.
///
/// # Errors
/// Every problem of the file at once, warnings and notes among them.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let file = path.display().to_string();
    let text = read_text(path).map_err(|why| Problems::unreadable(&file, why))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    validate(&text, &file, dir, &|name| std::env::var(name).ok())
}

/// The same for a text: `dir` is where relative paths start, `env` gives the variables.
///
/// # Errors
/// Every problem of the text at once, warnings and notes among them.
pub fn parse(text: &str, dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    validate(text, "config.toml", dir, env)
}

fn validate(
    text: &str,
    file: &str,
    dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let mut repaired = Cow::Borrowed(text);
    let syntax = document::repair(&mut repaired);
    let mut document = document::Document::new(text, &repaired, syntax);
    let reader = read::Reader::new(&document, dir, env);
    let config = sections::config(&reader);
    relations::check(&reader, &config);
    let (mut problems, mut secrets) = reader.finish();
    problems.append(&mut document.syntax);
    secrets.append(&mut document.secrets);
    let problems = Problems::new(file, mask::mask(text, &secrets), problems);
    if problems.has_errors() { Err(problems) } else { Ok(Loaded { config, notices: problems }) }
}

fn read_text(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file =
        std::fs::File::open(path).map_err(|error| format!("the configuration cannot be opened: {error}"))?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let read = read.map_err(|error| format!("the configuration cannot be read: {error}"))?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(format!("the configuration is larger than {}", show_size(FILE_BYTES_MAX)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("the configuration is not UTF-8: look at line {line}")
    })
}
