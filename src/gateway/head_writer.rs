//! The heads that go out on a connection, below hyper: their names get their spelling, and what the gateway says itself is
//! put in.

use super::own_lines::OwnLines;
use super::socket::Socket;
use super::spelling::{self, Spelling};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Writes to a socket, with the head that hyper gave spelled.
pub struct HeadWriter {
    /// The head that is going out.
    head: Vec<u8>,
    /// So many bytes of `head` went out.
    sent: usize,
    /// So many bytes that hyper gives, or gives again, stand for `head`; none once it was told that they went out.
    stands_for: usize,
    /// Everything that hyper gave so far went out, so what comes next begins with a head where one is announced.
    flushed: bool,
}

/// What a writer keeps between two heads.
const KEPT_BYTES: usize = 1024;
/// What goes out with one call; more than a head, a body's first chunk with its frame, and its end.
const SLICES: usize = 8;
/// What hyper may have written before the head of an answer.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How one head is written.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// How its names are spelled, where not in Title-Case.
    pub spelling: Option<Spelling>,
    /// What the gateway adds.
    pub lines: Option<OwnLines>,
    /// It says that it is of HTTP/1.1 although it answers HTTP/1.0: a server says which version it speaks itself (RFC 9110,
    /// 6.2), and hyper echoes the client's.
    pub own_version: bool,
}

// === impl Written ===

impl Written {
    /// Names may stay in lower case, but nothing that the gateway says may be left out.
    fn can_do_without(&self) -> Result<()> {
        match &self.lines {
            None => Ok(()),
            Some(_) => Err(Error::other("a head does not stand where its lines are to be put")),
        }
    }
}

// === impl HeadWriter ===

impl HeadWriter {
    /// Nothing went out yet.
    pub fn new() -> HeadWriter {
        HeadWriter { head: Vec::new(), sent: 0, stands_for: 0, flushed: true }
    }

    /// Whether everything went out.
    pub fn is_flushed(&self) -> bool {
        self.flushed
    }

    /// A head begins with the first of `slices`, and is all of it. Where something before it has not gone out, it stays
    /// as hyper wrote it, unless it has lines that must not be lost.
    pub fn begin(&mut self, slices: &[IoSlice<'_>], written: &Written) -> Result<()> {
        let Some(front) = slices.first().filter(|_| self.flushed) else { return written.can_do_without() };
        self.head.clear();
        self.head.extend_from_slice(front);
        (self.sent, self.stands_for) = (0, front.len());
        let before = if front.starts_with(CONTINUE) { CONTINUE.len() } else { 0 };
        let head = &mut self.head[before..];
        if written.own_version && head.starts_with(b"HTTP/1.0") {
            head[b"HTTP/1.".len()] = b'1';
        }
        if let Some(line) = memchr::memchr(b'\n', head) {
            spelling::spell(&mut head[line + 1..], written.spelling.as_ref());
        }
        match &written.lines {
            Some(lines) if !lines.put_into(&mut self.head) => written.can_do_without(),
            _ => Ok(()),
        }
    }

    /// Writes the head, if one is going out, and then what stands behind it in `slices`.
    #[inline]
    pub fn poll_write(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.flushed = false;
        if self.head.is_empty() {
            return Pin::new(socket).poll_write_vectored(cx, slices);
        }
        self.poll_write_head(socket, cx, slices)
    }

    fn poll_write_head(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        loop {
            let left = self.head.len() - self.sent;
            // Mostly there is nothing behind it.
            if let [] | [_] = slices
                && slices.first().is_none_or(|front| front.len() == self.stands_for)
            {
                let written = ready!(Pin::new(&mut *socket).poll_write(cx, &self.head[self.sent..]))?;
                match self.went_out(written, left)? {
                    Some(told) => return Poll::Ready(Ok(told)),
                    None => continue,
                }
            }
            let mut out = [IoSlice::new(&[]); SLICES];
            out[0] = IoSlice::new(&self.head[self.sent..]);
            let mut count = 1;
            let mut skip = self.stands_for;
            for slice in slices {
                let behind = &slice[skip.min(slice.len())..];
                skip -= slice.len() - behind.len();
                if !behind.is_empty() && count < SLICES {
                    out[count] = IoSlice::new(behind);
                    count += 1;
                }
            }
            let written = ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &out[..count]))?;
            if let Some(told) = self.went_out(written, left)? {
                return Poll::Ready(Ok(told));
            }
        }
    }

    /// So many bytes were `written`, of which the first `left` were the head's. What hyper is told of them; `None` where
    /// there is nothing to tell, and the head has not ended.
    fn went_out(&mut self, written: usize, left: usize) -> Result<Option<usize>> {
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        // It is told that the head went out as soon as that has begun: what is left of it is here.
        let told = std::mem::take(&mut self.stands_for);
        if written >= left {
            self.ended();
            return Ok(Some(told + written - left));
        }
        self.sent += written;
        Ok((told > 0).then_some(told))
    }

    /// Writes what is left of the head. hyper flushes when it has nothing left to write.
    #[inline]
    pub fn poll_flush(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.head.is_empty() && self.stands_for == 0 {
            ready!(self.poll_write_head(socket, cx, &[]))?;
        }
        self.flushed = true;
        Pin::new(socket).poll_flush(cx)
    }

    fn ended(&mut self) {
        self.sent = 0;
        self.head.clear();
        self.head.shrink_to(KEPT_BYTES);
    }
}
