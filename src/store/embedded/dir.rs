//! The store's directory, apart from its segments: who uses it, what format it is in, and the secret.

use super::log::disk::{Directory, Disk};
use super::random;
use crate::store::OpenError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What the `format` file says.
const FORMAT: &str = "oncegate store 1\n";

/// Bytes of a secret that the store makes itself.
const SECRET_BYTES: usize = 32;

/// A directory that this process alone uses, as long as this lives.
#[derive(Debug)]
pub(super) struct Dir {
    /// Keys the fingerprints.
    pub(super) secret: Vec<u8>,
    /// The lock goes with the file, also when the process is killed.
    _lock: File,
}

// === impl Dir ===

impl Dir {
    /// Takes the directory for this process; makes it where it is not there yet. `secret` is the configured one: the
    /// first start keeps it, later ones compare.
    pub(super) fn take(path: &Path, secret: Option<Vec<u8>>) -> Result<Dir, OpenError> {
        let doing = |what: &str| format!("{what} {}", path.display());
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(OpenError::io(doing("making")))?;
        let lock = lock(path)?;
        check_format(path)?;
        let secret = keep_secret(path, secret)?;
        // The names of the files made here are durable before anything is claimed.
        sync_dir(path).map_err(OpenError::io(doing("syncing")))?;
        if let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_dir(parent).map_err(OpenError::io(doing("syncing the directory above")))?;
        }
        Ok(Dir { secret, _lock: lock })
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let io = || OpenError::io(format!("locking {}", path.display()));
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io())?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            drop(file.take(64).read_to_string(&mut holder));
            let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
            return Err(OpenError::Locked { dir: dir.to_owned(), holder: holder.to_owned() });
        }
        Err(error) => return Err(io()(error.into())),
    }
    file.set_len(0).map_err(io())?;
    writeln!(file, "process {}", std::process::id()).map_err(io())?;
    Ok(file)
}

fn check_format(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("format");
    match std::fs::read(&path) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => {
            let found = format!("{:?}", String::from_utf8_lossy(&found[..found.len().min(64)]).trim());
            Err(OpenError::Format { dir: dir.to_owned(), found })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => write_whole(dir, "format", FORMAT.as_bytes()),
        Err(error) => Err(OpenError::io(format!("reading {}", path.display()))(error)),
    }
}

fn keep_secret(dir: &Path, configured: Option<Vec<u8>>) -> Result<Vec<u8>, OpenError> {
    let path = dir.join("secret");
    match std::fs::read(&path) {
        Ok(kept) if kept.is_empty() => {
            let why =
                std::io::Error::new(ErrorKind::InvalidData, "the file is empty; restore it from a backup");
            Err(OpenError::io(format!("reading {}", path.display()))(why))
        }
        Ok(kept) => match configured {
            Some(configured) if configured != kept => Err(OpenError::Secret { dir: dir.to_owned() }),
            _ => Ok(kept),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let segments = Directory::new(dir.to_owned()).list();
            if !segments.map_err(OpenError::io(format!("listing {}", dir.display())))?.is_empty() {
                // With another secret none of their records would be found, and copies would execute again. A configured
                // one may be another, too: only this file tells.
                return Err(OpenError::SecretLost { dir: dir.to_owned() });
            }
            let secret = match configured {
                Some(secret) => secret,
                None => random::<SECRET_BYTES>()?.to_vec(),
            };
            write_whole(dir, "secret", &secret)?;
            Ok(secret)
        }
        Err(error) => Err(OpenError::io(format!("reading {}", path.display()))(error)),
    }
}

/// Writes a small file so that after a crash it is there as a whole or not at all; only its owner may read it.
fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let (path, unfinished) = (dir.join(name), dir.join(format!("{name}.new")));
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)
    })();
    written.map_err(OpenError::io(format!("writing {}", path.display())))
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_in_use_names_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Dir::take(dir.path(), None).expect("it is free");
        let refused = Dir::take(dir.path(), None).expect_err("it is in use").to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(held);
        Dir::take(dir.path(), None).expect("it is free again");
    }

    #[test]
    fn the_secret_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Dir::take(dir.path(), None).expect("it is free").secret;
        assert_eq!(first.len(), SECRET_BYTES);
        assert_eq!(Dir::take(dir.path(), None).expect("it is free").secret, first);
        let mode = std::fs::metadata(dir.path().join("secret")).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(first, Dir::take(&dir.path().join("other"), None).expect("it is free").secret);
    }

    #[test]
    fn another_configured_secret_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(Dir::take(dir.path(), secret("one")).expect("it is free").secret, b"one");
        assert!(matches!(Dir::take(dir.path(), secret("two")), Err(OpenError::Secret { .. })));
        Dir::take(dir.path(), secret("one")).expect("the same one");
    }

    #[test]
    fn a_lost_secret_is_not_replaced_where_there_are_records() {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = dir.path().join("secret");
        let first = Dir::take(dir.path(), None).expect("it is free").secret;
        std::fs::remove_file(&secret).expect("it is there");
        drop(Dir::take(dir.path(), None).expect("nothing was ever recorded"));
        std::fs::write(dir.path().join("0000000001.log"), "").expect("written");
        std::fs::remove_file(&secret).expect("it is there");
        for configured in [None, Some(b"one".to_vec())] {
            let refused = Dir::take(dir.path(), configured).expect_err("its records are there").to_string();
            assert!(
                refused.contains("Restore it from a backup")
                    && refused.contains(&secret.display().to_string()),
                "{refused}"
            );
            assert!(!secret.exists());
        }
        std::fs::write(&secret, &first).expect("written");
        assert_eq!(Dir::take(dir.path(), None).expect("it is whole again").secret, first);
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("format"), "oncegate store 99\n").expect("written");
        let refused = Dir::take(dir.path(), None).expect_err("a later format").to_string();
        assert!(refused.contains("oncegate store 99"), "{refused}");
    }
}
