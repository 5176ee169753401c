//! What is counted before any request: handshakes, PROXY headers, certificates; and HTTP/2's connections.

use super::exposition::{counter, gauge};
use super::shard::Gauge;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The figures of the way in.
#[derive(Debug, Default)]
pub struct Doors {
    handshakes: AtomicU64,
    handshakes_failed: AtomicU64,
    headers_refused: AtomicU64,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
    /// Of how many certificates the files are other than what is in use.
    stale: AtomicU64,
    /// Open connections that speak HTTP/2.
    pub http2: Gauge,
    http2_ended: AtomicU64,
    http2_cut: AtomicU64,
}

// === impl Doors ===

impl Doors {
    /// A TLS handshake succeeded.
    pub fn handshake(&self) {
        self.handshakes.fetch_add(1, Relaxed);
    }

    /// A TLS handshake failed, or took too long.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    /// A PROXY header was malformed.
    pub fn header_refused(&self) {
        self.headers_refused.fetch_add(1, Relaxed);
    }

    /// Files of certificates changed; whether they could be used.
    pub fn certificates_changed(&self, used: bool) {
        if used { &self.reloads } else { &self.reloads_failed }.fetch_add(1, Relaxed);
    }

    /// Certificates became stale, or are not any more.
    pub fn certificates_stale(&self, are: bool) {
        if are {
            self.stale.fetch_add(1, Relaxed)
        } else {
            self.stale.fetch_sub(1, Relaxed)
        };
    }

    /// Whether the files of any certificates are other than what is in use.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Relaxed) > 0
    }

    /// An HTTP/2 connection was ended because of what its client did.
    pub fn http2_ended(&self) {
        self.http2_ended.fetch_add(1, Relaxed);
    }

    /// An answer was cut off because its HTTP/2 client did not take it.
    pub fn http2_cut(&self) {
        self.http2_cut.fetch_add(1, Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let count = |value: &AtomicU64| value.load(Relaxed);
        let help = "TLS handshakes of clients that succeeded";
        counter(encoder, "tls_handshakes", help, count(&self.handshakes))?;
        let help = "TLS handshakes of clients that failed or took too long";
        counter(encoder, "tls_handshakes_failed", help, count(&self.handshakes_failed))?;
        let help = "Times that changed certificates were taken into use";
        counter(encoder, "tls_reloads", help, count(&self.reloads))?;
        let help = "Times that changed certificates could not be used";
        counter(encoder, "tls_reloads_failed", help, count(&self.reloads_failed))?;
        let help = "Whether the certificate files are other than those in use";
        gauge(encoder, "tls_certificates_stale", help, None, i64::from(self.is_stale()))?;
        let help = "Connections closed at a malformed PROXY header";
        counter(encoder, "proxy_headers_refused", help, count(&self.headers_refused))?;
        gauge(
            encoder,
            "http2_connections",
            "Open client connections that speak HTTP/2",
            None,
            self.http2.get(),
        )?;
        let help = "HTTP/2 connections that were ended because of a flood of frames";
        counter(encoder, "http2_floods", help, count(&self.http2_ended))?;
        let help = "Answers that were cut off because an HTTP/2 client did not take them";
        counter(encoder, "http2_stalled", help, count(&self.http2_cut))
    }
}
