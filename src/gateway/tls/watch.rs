//! What was read from files, and is read again when they change. Whoever renews a certificate writes two files, and
//! between the two they do not belong together: then what was read before goes on serving, and the files are tried again
//! with their next change.

use crate::journal::Journal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The value of the moment. Dropping it ends the watch.
pub struct Watched<T> {
    current: Arc<RwLock<Arc<T>>>,
    _watch: Option<SyncSender<()>>,
}

/// What tells a file from what it was: device, inode, size, and both times that a change leaves. `None`: not there.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

struct Watch<T, L> {
    /// Whose files these are, for the log: `[server.tls]`.
    whose: String,
    load: L,
    current: Arc<RwLock<Arc<T>>>,
    journal: Arc<Journal>,
    files: Vec<PathBuf>,
    seen: Vec<Stamp>,
    /// The files are other than what is in use.
    stale: bool,
}

/// How often the files are looked at: a system call a file.
const LOOK: Duration = Duration::from_secs(1);

// === impl Watched ===

impl<T: Send + Sync + 'static> Watched<T> {
    /// Loads, and again whenever one of `files` changes.
    ///
    /// # Errors
    /// What is wrong with the files now, for the operator.
    pub fn start(
        whose: String,
        files: Vec<PathBuf>,
        journal: Arc<Journal>,
        load: impl Fn() -> Result<T, String> + Send + 'static,
    ) -> Result<Watched<T>, String> {
        // Looked at before they are read: what changes in between is noticed.
        let seen = files.iter().map(|file| stamp(file)).collect();
        let current = Arc::new(RwLock::new(Arc::new(load()?)));
        if files.is_empty() {
            return Ok(Watched { current, _watch: None });
        }
        let (watch, ended) = sync_channel::<()>(0);
        let mut watched = Watch { whose, load, current: current.clone(), journal, files, seen, stale: false };
        let thread = std::thread::Builder::new().name("certificates".into());
        let thread = thread.spawn(move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                watched.look();
            }
        });
        thread.map_err(|error| format!("the certificates cannot be watched: {error}"))?;
        Ok(Watched { current, _watch: Some(watch) })
    }

    /// What is valid now.
    pub fn get(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Watch ===

impl<T, L: Fn() -> Result<T, String>> Watch<T, L> {
    fn look(&mut self) {
        let now: Vec<_> = self.files.iter().map(|file| stamp(file)).collect();
        if now == self.seen {
            return;
        }
        self.seen = now;
        let loaded = (self.load)();
        self.set_stale(loaded.is_err());
        let (doors, whose) = (&self.journal.metrics().doors, &self.whose);
        match loaded {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                doors.certificates_changed(true);
                tracing::info!(%whose, "changed certificates were read; new connections use them");
            }
            Err(why) => {
                doors.certificates_changed(false);
                tracing::error!(
                    %whose,
                    %why,
                    "changed certificates cannot be used; those read before stay in use until they can"
                );
            }
        }
    }
}

impl<T, L> Watch<T, L> {
    /// Each watch counts for itself: that the files of one are in use again says nothing of another's.
    fn set_stale(&mut self, stale: bool) {
        if std::mem::replace(&mut self.stale, stale) != stale {
            self.journal.metrics().doors.certificates_stale(stale);
        }
    }
}

impl<T, L> Drop for Watch<T, L> {
    fn drop(&mut self) {
        self.set_stale(false);
    }
}

fn stamp(file: &Path) -> Stamp {
    let data = std::fs::metadata(file).ok()?;
    let (modified, changed) = ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
    Some((data.dev(), data.ino(), data.size(), modified.0, modified.1, changed.0, changed.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_stale_until_the_files_of_all_are_in_use() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::new(Vec::new(), Vec::new(), false);
        let watch = |name: &str| {
            let file = directory.path().join(name);
            let load = {
                let file = file.clone();
                move || match std::fs::read_to_string(&file) {
                    Ok(text) if text.starts_with("good") => Ok(()),
                    _ => Err("bad".to_owned()),
                }
            };
            let (current, journal) = (Arc::new(RwLock::new(Arc::new(()))), journal.clone());
            (
                file.clone(),
                Watch {
                    whose: name.into(),
                    load,
                    current,
                    journal,
                    files: vec![file],
                    seen: Vec::new(),
                    stale: false,
                },
            )
        };
        let ((one_file, mut one), (other_file, mut other)) = (watch("one"), watch("other"));
        let mut write = |one_says: &str, other_says: &str| {
            std::fs::write(&one_file, one_says).expect("a file");
            std::fs::write(&other_file, other_says).expect("a file");
            one.look();
            other.look();
            journal.metrics().doors.is_stale()
        };
        assert!(write("bad", "bad, too"));
        assert!(write("bad", "good enough"), "one of them is not in use");
        assert!(!write("good now", "good enough"));
        assert!(write("bad again", "good enough"));
        drop(one);
        assert!(!journal.metrics().doors.is_stale(), "nobody uses it any more");
    }
}
