//! Whether this process wants traffic: set by whoever runs it, read by `/readyz`.

/// Where the process is in its life, as a load balancer has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not listening yet.
    Starting,
    /// Serving.
    Ready,
    /// Still serving, but about to drain: no new traffic, please.
    LameDuck,
    /// No new connections; requests in flight run to their end.
    Draining,
}

// === impl Readiness ===

impl Readiness {
    /// The word in `/readyz` and logs.
    pub fn word(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::LameDuck => "lame-duck",
            Readiness::Draining => "draining",
        }
    }
}
