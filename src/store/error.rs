//! What can go wrong with a store: with one command, and at the start.

use std::path::PathBuf;

/// Why the store did not carry out a command. `may_have_executed` of the *store's* command is always no: a command that
/// errs has granted nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No room: the disk is full, or the record limit is reached. Nothing was changed.
    Full(String),
    /// The store cannot be used (an I/O error, or it is closing). What was in flight stays *sent*, so in doubt.
    Unavailable(String),
}

/// Why a store does not open. The text is for an operator: whose fault it is, and what to do.
#[derive(Debug)]
pub enum OpenError {
    /// Another live process uses the directory.
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// Who holds it, as far as the lock file tells.
        holder: String,
    },
    /// The directory was written in a format that this version does not know.
    Format {
        /// The store's directory.
        dir: PathBuf,
        /// What its `format` file says.
        found: String,
    },
    /// The configured secret is not the one that the directory's records were made with.
    Secret {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The directory has records, and the secret that they were made with is gone.
    SecretLost {
        /// The store's directory.
        dir: PathBuf,
    },
    /// What was synced once cannot be read any more.
    Damaged {
        /// Where the damage begins.
        place: String,
        /// What is wrong there.
        what: String,
    },
    /// A shared store must not be used as it is.
    Unfit {
        /// Its address, without credentials.
        store: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The operating system refused.
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

// === impl StoreError ===

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Full(why) => write!(f, "the store has no room: {why}"),
            StoreError::Unavailable(why) => write!(f, "the store is unavailable: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

// === impl OpenError ===

impl OpenError {
    /// Wraps an I/O error with what was being done.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> OpenError {
        let doing = doing.into();
        move |source| OpenError::Io { doing, source }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Locked { dir, holder } => write!(
                f,
                "the store {} is in use by {holder}; stop that process, or give this one a directory of its own",
                dir.display()
            ),
            OpenError::Format { dir, found } => write!(
                f,
                "the store {} is in format {found}, which this version does not read; run the version that wrote it, \
                 or move the directory away and start empty",
                dir.display()
            ),
            OpenError::Secret { dir } => write!(
                f,
                "the configured store.secret is not the one that the records in {} were made with, so none of them \
                 would be found; configure the old secret, or none, or use an empty directory",
                dir.display()
            ),
            OpenError::SecretLost { dir } => write!(
                f,
                "{} is missing, and without it none of the records beside it would be found: their copies would execute \
                 again. Restore it from a backup (where store.secret is configured, it holds just that), or move the \
                 directory away and start empty after checking by hand what was in flight",
                dir.join("secret").display()
            ),
            OpenError::Damaged { place, what } => write!(
                f,
                "the store is damaged at {place}: {what}. Opening it would forget claims that were granted, so it \
                 stays closed: restore the directory from a backup, or move it away and start empty after \
                 checking by hand what was in flight"
            ),
            OpenError::Unfit { store, why } => write!(f, "the store {store} cannot be used: {why}"),
            OpenError::Io { doing, source } => write!(
                f,
                "cannot open the store: {doing}: {source}; check the path, its permissions and the free space"
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
