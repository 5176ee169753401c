//! The end of a connection whose bytes were not read to the end. Closing at once would reset it, and a reset can take
//! the answer away from a client that has not read it yet: so what still comes is read and thrown away for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// So long a client may take to close its side.
const LONGEST: Duration = Duration::from_secs(2);
/// So much of what it still sends is read.
const BYTES_MAX: usize = 1 << 20;

/// What is left of a connection whose sending side is closed.
pub struct Linger {
    deadline: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Linger {
    /// Begins now.
    pub fn new() -> Linger {
        Linger { deadline: Box::pin(sleep(LONGEST)), bytes: 0 }
    }

    /// Reads until the client closes, breaks off, or has had its share.
    pub fn poll(&mut self, socket: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 8 << 10];
        while self.bytes < BYTES_MAX {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *socket).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.bytes += buf.filled().len(),
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}
