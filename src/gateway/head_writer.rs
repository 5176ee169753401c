//! The heads that go out on a connection, below hyper: their names get their spelling, and what the gateway says itself is
//! put in.

use super::own_lines::OwnLines;
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
    /// Everything that hyper gave so far went out.
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

/// How long the rest of [`CONTINUE`] is that `bytes` begin with.
#[cold]
fn rest_of_continue(bytes: &[u8]) -> usize {
    let gone = (0..CONTINUE.len()).find(|gone| bytes.starts_with(&CONTINUE[*gone..]));
    gone.map_or(0, |gone| CONTINUE.len() - gone)
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

    /// A head is what is new in the first of `slices`, and all of it: hyper begins none while a body waits.
    pub fn begin(&mut self, slices: &[IoSlice<'_>], written: &Written) -> Result<()> {
        let Some(front) = slices.first() else { return written.can_do_without() };
        let new = front.get(self.stands_for..).unwrap_or_default();
        // What waits of the head before it goes first.
        let is_alone = self.flushed && !new.starts_with(CONTINUE);
        let start = self.head.len() + if is_alone { 0 } else { rest_of_continue(new) };
        self.head.extend_from_slice(new);
        self.stands_for = front.len();
        let head = &mut self.head[start..];
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
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.flushed = false;
        if !self.head.is_empty()
            && let Some(told) = ready!(self.poll_write_head(socket, cx, slices))?
        {
            return Poll::Ready(Ok(told));
        }
        Pin::new(socket).poll_write_vectored(cx, slices)
    }

    /// `None` where the head has gone out, and nothing of what hyper gives with it.
    fn poll_write_head<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<Option<usize>>> {
        while !self.head.is_empty() {
            let left = self.head.len() - self.sent;
            // Mostly there is nothing behind it.
            if let [] | [_] = slices
                && slices.first().is_none_or(|front| front.len() == self.stands_for)
            {
                let written = ready!(Pin::new(&mut *socket).poll_write(cx, &self.head[self.sent..]))?;
                match self.went_out(written, left)? {
                    0 => continue,
                    told => return Poll::Ready(Ok(Some(told))),
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
            let told = self.went_out(written, left)?;
            if told > 0 {
                return Poll::Ready(Ok(Some(told)));
            }
        }
        Poll::Ready(Ok(None))
    }

    /// So many bytes were `written`, of which the first `left` were the head's. What hyper is told of them.
    fn went_out(&mut self, written: usize, left: usize) -> Result<usize> {
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        // It is told that the head went out as soon as that has begun: what is left of it is here.
        let told = std::mem::take(&mut self.stands_for);
        if written < left {
            self.sent += written;
            return Ok(told);
        }
        self.ended();
        Ok(told + written - left)
    }

    /// Writes what is left of the head. hyper flushes when it has nothing left to write.
    #[inline]
    pub fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// A socket that takes some bytes, then none, and so on.
    struct Narrow {
        takes: usize,
        has: Vec<u8>,
        blocks: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            self.blocks = !self.blocks;
            if self.blocks {
                return Poll::Pending;
            }
            let count = bytes.len().min(self.takes);
            self.has.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn written() -> Written {
        let signature = Some((b"Via: 1.1 x\r\nX-Id: "[..].into(), HeaderValue::from_static("17")));
        let lines = OwnLines { signature, ..OwnLines::default() };
        Written { lines: Some(lines), ..Written::default() }
    }

    /// What goes out of `pieces`, which hyper gives as one message, where the socket takes `takes` bytes at a time.
    fn sent(pieces: &[&[u8]], how: &Written, takes: usize) -> String {
        let mut writer = HeadWriter::new();
        let mut socket = Narrow { takes, has: Vec::new(), blocks: false };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut begun = false;
        let mut left: Vec<&[u8]> = pieces.to_vec();
        while !left.is_empty() {
            let slices: Vec<IoSlice<'_>> = left.iter().map(|piece| IoSlice::new(piece)).collect();
            if !std::mem::replace(&mut begun, true) {
                writer.begin(&slices, how).expect("a head stands there");
            }
            if let Poll::Ready(told) = writer.poll_write(&mut socket, &mut cx, &slices) {
                let mut told = told.expect("it takes some");
                assert!(told > 0);
                for piece in &mut left {
                    let count = told.min(piece.len());
                    *piece = &piece[count..];
                    told -= count;
                }
                left.retain(|piece| !piece.is_empty());
            }
        }
        assert!(!writer.is_flushed());
        while writer.poll_flush(&mut socket, &mut cx).is_pending() {}
        assert!(writer.is_flushed() && writer.head.is_empty());
        String::from_utf8(socket.has).expect("ASCII")
    }

    #[test]
    fn a_head_goes_out_spelled_and_signed_however_little_the_socket_takes() {
        let head = &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"[..];
        let out = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nVia: 1.1 x\r\nX-Id: 17\r\n\r\n";
        let many: Vec<&[u8]> = std::iter::once(head).chain(std::iter::repeat_n(&b"a-b"[..], 20)).collect();
        for takes in (1..120).chain([1000]) {
            assert_eq!(sent(&[head], &written(), takes), out, "{takes}");
            assert_eq!(sent(&[head, b"a: b\r\n"], &written(), takes), out.to_owned() + "a: b\r\n", "{takes}");
            assert_eq!(sent(&many, &written(), takes), out.to_owned() + &"a-b".repeat(20), "{takes}");
        }
    }

    #[test]
    fn an_answer_to_http_1_0_says_what_the_gateway_speaks() {
        let how = Written { own_version: true, ..Written::default() };
        assert_eq!(sent(&[b"HTTP/1.0 200 OK\r\na: b\r\n\r\n"], &how, 7), "HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
        assert_eq!(sent(&[b"HTTP/1.0 200 OK\r\n\r\n"], &Written::default(), 7), "HTTP/1.0 200 OK\r\n\r\n");
    }

    #[test]
    fn an_interim_answer_of_hypers_stays_before_the_head() {
        let out =
            sent(&[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\na: b\r\n\r\n"], &written(), 9);
        let end = "HTTP/1.1 204 No Content\r\nA: b\r\nVia: 1.1 x\r\nX-Id: 17\r\n\r\n";
        assert_eq!(out, String::from("HTTP/1.1 100 Continue\r\n\r\n") + end);
    }

    #[test]
    fn lines_that_have_no_place_are_an_error_and_are_not_left_out() {
        let mut writer = HeadWriter::new();
        let half = [IoSlice::new(b"HTTP/1.1 200 OK\r\n")];
        assert!(writer.begin(&half, &written()).is_err());
        assert!(writer.begin(&[], &Written::default()).is_ok());
    }

    #[test]
    fn a_head_behind_one_that_has_not_left_goes_out_behind_it() {
        let (first, second) =
            ("HTTP/1.1 304 Not Modified\r\na: b\r\n\r\n", "HTTP/1.1 204 No Content\r\na: c\r\n\r\n");
        let signed =
            |head: &str| head.replace("a: ", "A: ").replace("\r\n\r\n", "\r\nVia: 1.1 x\r\nX-Id: 17\r\n\r\n");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Nothing of the first one has left, or some of it.
        for takes in [0, 9] {
            let mut socket = Narrow { takes: 9, has: Vec::new(), blocks: takes > 0 };
            let mut writer = HeadWriter::new();
            let front = [IoSlice::new(first.as_bytes())];
            writer.begin(&front, &written()).expect("a head stands there");
            let told = writer.poll_write(&mut socket, &mut cx, &front);
            let left = if told.is_pending() { first } else { "" }.to_owned() + second;
            let both = [IoSlice::new(left.as_bytes())];
            writer.begin(&both, &written()).expect("a head stands there");
            while writer.poll_write(&mut socket, &mut cx, &both).is_pending() {}
            while writer.poll_flush(&mut socket, &mut cx).is_pending() {}
            assert_eq!(
                String::from_utf8(socket.has).expect("ASCII"),
                signed(first) + &signed(second),
                "{takes}"
            );
        }
        // hyper's own interim answer, of which some has left.
        for cut in 0..CONTINUE.len() {
            let mut socket = Narrow { takes: 1000, has: CONTINUE[..cut].to_vec(), blocks: true };
            let mut writer = HeadWriter { flushed: false, ..HeadWriter::new() };
            let left = [&CONTINUE[cut..], second.as_bytes()].concat();
            let front = [IoSlice::new(&left)];
            writer.begin(&front, &written()).expect("a head stands there");
            assert!(writer.poll_write(&mut socket, &mut cx, &front).is_ready());
            let out = [CONTINUE, signed(second).as_bytes()].concat();
            assert_eq!(socket.has, out, "{cut}");
        }
    }
}
