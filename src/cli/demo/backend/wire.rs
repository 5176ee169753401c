//! A connection that can be cut: after so many bytes of an answer it ends, politely or with a reset, wherever in the
//! head or body that falls.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How many more bytes pass, and how the connection ends; shared with the requests that it carries.
#[derive(Debug)]
pub struct Scissors {
    /// `u64::MAX`: uncut.
    left: AtomicU64,
    reset: AtomicBool,
}

/// The cuttable connection.
pub struct Wire {
    stream: TcpStream,
    scissors: Arc<Scissors>,
}

// === impl Scissors ===

impl Scissors {
    /// Lets everything pass.
    pub fn new() -> Arc<Scissors> {
        Arc::new(Scissors { left: AtomicU64::new(u64::MAX), reset: AtomicBool::new(false) })
    }

    /// Cuts after `bytes` more; with a reset or a plain end.
    pub fn cut_after(&self, bytes: u64, reset: bool) {
        self.reset.store(reset, Ordering::SeqCst);
        self.left.store(bytes, Ordering::SeqCst);
    }
}

// === impl Wire ===

impl Wire {
    /// Puts `scissors` to `stream`.
    pub fn new(stream: TcpStream, scissors: Arc<Scissors>) -> Wire {
        Wire { stream, scissors }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.scissors.reset.load(Ordering::SeqCst) {
            // Without it the kernel would end the connection politely. A socket that is gone already needs nothing.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let left = self.scissors.left.load(Ordering::SeqCst);
        if left == 0 {
            return Poll::Ready(Err(Error::new(ErrorKind::BrokenPipe, "cut")));
        }
        let allowed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[..allowed]))?;
        if left != u64::MAX {
            self.scissors.left.store(left - written as u64, Ordering::SeqCst);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
