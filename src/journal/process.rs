//! What the operating system knows of this process. `None` where it does not say.

/// Bytes of memory in use.
pub(super) fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Open file descriptors. Walks them all, so only a scrape asks.
pub(super) fn open_fds() -> Option<i64> {
    let listed = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The walk itself holds one.
    i64::try_from(listed).ok().map(|listed| listed - 1)
}
