//! Which lives this gateway had: a small directory on its own disk. Its lock proves that an earlier life is over, and its
//! one file says who that was, so that what it had in flight is in doubt at once and not after a lease.

use crate::store::OpenError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Earlier lives that are remembered; a store that is away for more starts than that leaves the rest to their leases.
const LIVES_MOST: usize = 64;

/// See the module.
pub(super) struct Identity {
    file: File,
    path: PathBuf,
    /// This life.
    pub(super) owner: u64,
    /// Lives that are over and whose records were not yet looked after.
    pub(super) before: Vec<u64>,
}

// === impl Identity ===

impl Identity {
    /// Takes the directory for this process, and begins a new life in it.
    pub(super) fn take(directory: &Path, owner: u64) -> Result<Identity, OpenError> {
        std::fs::create_dir_all(directory)
            .map_err(OpenError::io(format!("making the directory {}", directory.display())))?;
        let path = directory.join("gateway");
        let doing = || format!("opening {}", path.display());
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(OpenError::io(doing()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(OpenError::Locked {
                dir: directory.to_owned(),
                holder: "another gateway of this machine (each needs a `store.state` of its own)".into(),
            });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(OpenError::io(doing()))?;
        let mut before: Vec<u64> =
            text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()).collect();
        before.drain(..before.len().saturating_sub(LIVES_MOST));
        let mut identity = Identity { file, path, owner, before };
        identity.write()?;
        Ok(identity)
    }

    /// What earlier lives had in flight is looked after.
    pub(super) fn settled(&mut self) -> Result<(), OpenError> {
        self.before.clear();
        self.write()
    }

    fn write(&mut self) -> Result<(), OpenError> {
        let lives = self.before.iter().chain([&self.owner]);
        let text: String = lives.map(|owner| format!("{owner:016x}\n")).collect();
        let write = |file: &mut File| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(OpenError::io(format!("writing {}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_finds_those_before_it_until_they_are_looked_after() {
        let directory = tempfile::tempdir().expect("a directory");
        let take = |owner| Identity::take(directory.path(), owner);
        let first = take(1).expect("free");
        assert!(first.before.is_empty());
        assert!(matches!(take(2), Err(OpenError::Locked { .. })), "one process at a time");
        drop(first);
        drop(take(2).expect("free again"));
        let mut third = take(3).expect("free again");
        assert_eq!(third.before, [1, 2]);
        third.settled().expect("it can be written");
        drop(third);
        assert_eq!(take(4).expect("free again").before, [3]);
    }
}
