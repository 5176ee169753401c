//! curl, a client that nobody here wrote.

use std::process::Command;

/// What came of it.
#[derive(Debug)]
pub struct Curled {
    /// The status; 0 where there was no answer.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// Head and body, as they came.
    pub text: String,
}

/// Runs curl with `arguments`.
#[track_caller]
pub fn curl(arguments: &[&str]) -> Curled {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "20", "--write-out", "\n%{http_code} %{http_version}"])
        .args(arguments)
        .output()
        .expect("curl is installed (scripts/test does that)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (text, last) = text.rsplit_once('\n').expect("what it was told to write");
    let (status, version) = last.split_once(' ').expect("two words");
    Curled { status: status.parse().unwrap(), version: version.to_owned(), text: text.to_owned() }
}
