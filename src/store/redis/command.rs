//! A command as it goes over the wire (RESP): every argument is written as it is given, so that sending takes one copy. A
//! call keeps it for the case that it has to be sent again.

use redis::{Cmd, RedisWrite, ToRedisArgs};
use std::io::Write;

/// See the module.
pub(super) struct Command {
    /// How many arguments there are.
    count: usize,
    /// `$length\r\nbytes\r\n` for each of them.
    args: Vec<u8>,
}

// === impl Command ===

impl Command {
    /// Nothing yet, with room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Command {
        Command { count: 0, args: Vec::with_capacity(bytes) }
    }

    /// With all arguments of another one, and room for so many bytes more.
    pub(super) fn like(other: &Command, bytes: usize) -> Command {
        let mut command = Command::with_capacity(other.args.len() + bytes);
        command.append(other);
        command
    }

    /// How many arguments there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many bytes they take.
    pub(super) fn length(&self) -> usize {
        self.args.len()
    }

    /// All arguments of another one.
    pub(super) fn append(&mut self, other: &Command) {
        self.count += other.count;
        self.args.extend_from_slice(&other.args);
    }

    /// One more argument.
    pub(super) fn arg(&mut self, arg: impl ToRedisArgs) {
        arg.write_redis_args(self);
    }

    /// One more argument, in pieces.
    pub(super) fn joined(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.args.reserve(length + 24);
        self.head(length);
        pieces.iter().for_each(|piece| self.args.extend_from_slice(piece));
        self.args.extend_from_slice(b"\r\n");
    }

    /// What is sent, with one more argument where there is one.
    pub(super) fn bytes(&self, last: Option<&[u8]>) -> Vec<u8> {
        let more = last.map_or(0, |last| last.len() + 24);
        let mut whole = Command { count: 0, args: Vec::with_capacity(self.args.len() + more + 12) };
        whole.number(b'*', self.count + usize::from(last.is_some()));
        whole.args.extend_from_slice(&self.args);
        if let Some(last) = last {
            whole.joined(&[last]);
        }
        whole.args
    }

    /// The same for the library, which writes it by itself.
    pub(super) fn cmd(&self, last: Option<&[u8]>) -> Cmd {
        let mut cmd = Cmd::with_capacity(self.count + 1, self.args.len());
        let mut rest = &self.args[..];
        while let Some((arg, behind)) = split(rest) {
            cmd.arg(arg);
            rest = behind;
        }
        if let Some(last) = last {
            cmd.arg(last);
        }
        cmd
    }

    fn head(&mut self, length: usize) {
        self.count += 1;
        self.number(b'$', length);
    }

    fn number(&mut self, sign: u8, number: usize) {
        let digit = |number: usize| b'0' + (number % 10) as u8;
        // Nearly all of them.
        match number {
            0..10 => self.args.extend_from_slice(&[sign, digit(number), b'\r', b'\n']),
            10..100 => {
                self.args.extend_from_slice(&[sign, digit(number / 10), digit(number), b'\r', b'\n']);
            }
            100..1_000 => {
                let (first, second) = (digit(number / 100), digit(number / 10));
                self.args.extend_from_slice(&[sign, first, second, digit(number), b'\r', b'\n']);
            }
            _ => self.args.extend_from_slice(format!("{}{number}\r\n", char::from(sign)).as_bytes()),
        }
    }
}

/// The first of several arguments, and what is behind it.
fn split(args: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', args)?;
    let length: usize = std::str::from_utf8(args.get(1..end)?).ok()?.parse().ok()?;
    let rest = args.get(end + 2..)?;
    Some((rest.get(..length)?, rest.get(length + 2..)?))
}

impl RedisWrite for Command {
    fn write_arg(&mut self, arg: &[u8]) {
        self.joined(&[arg]);
    }

    fn writer_for_next_arg(&mut self) -> impl Write + '_ {
        Next { command: self, bytes: Vec::new() }
    }
}

/// An argument that is written bit by bit.
struct Next<'a> {
    command: &'a mut Command,
    bytes: Vec<u8>,
}

impl Write for Next<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.command.joined(&[&self.bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_the_library_would_write_it() {
        let mut command = Command::with_capacity(0);
        let mut same = Cmd::new();
        command.arg("EVALSHA");
        same.arg("EVALSHA");
        for arg in [&b""[..], b"\r\n$3\r\n", &[0; 1_000], &[0xff; 10]] {
            command.arg(arg);
            same.arg(arg);
        }
        command.arg(0_u64);
        command.arg(u64::MAX);
        command.arg(1.5);
        same.arg(0_u64).arg(u64::MAX).arg(1.5);
        command.joined(&[b"a", b"", b"bc"]);
        same.arg("abc");
        assert_eq!(command.bytes(None), same.get_packed_command());
        assert_eq!(command.cmd(None).get_packed_command(), same.get_packed_command());
        same.arg("last");
        assert_eq!(command.bytes(Some(b"last")), same.get_packed_command());
        assert_eq!(command.cmd(Some(b"last")).get_packed_command(), same.get_packed_command());
    }
}
