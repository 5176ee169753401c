//! Replies as they arrive (RESP 2), cut out of what was read. Numbers, strings and lists of them, which nearly all are, are read
//! here; errors and the like are found here and left to the library's parser.

use redis::{ErrorKind, RedisError, RedisResult, Value};

/// What is made ready for a read at least, and what an empty buffer may keep.
const SPACE: usize = 32 << 10;
const SPACE_KEPT: usize = 256 << 10;

/// The largest reply: the server's own bound for one string.
const REPLY_MOST: usize = 512 << 20;

/// The longest line: a number, or an error with what a script says.
const LINE_MOST: usize = 64 << 10;

/// How deep replies may be nested; those of the scripts are two deep.
const NESTED_MOST: usize = 8;

/// Bytes that were read, and how far they were taken.
pub(super) struct Frames {
    space: Vec<u8>,
    begin: usize,
    end: usize,
}

// === impl Frames ===

impl Frames {
    /// Nothing was read.
    pub(super) fn new() -> Frames {
        Frames { space: vec![0; SPACE], begin: 0, end: 0 }
    }

    /// Where the next bytes go.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
            if self.space.len() > SPACE_KEPT {
                self.space = vec![0; SPACE];
            }
        } else if self.space.len() - self.end < SPACE / 4 {
            self.space.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            if self.space.len() - self.end < SPACE / 4 {
                // A reply that is larger than all before it.
                self.space.resize(self.space.len() * 2, 0);
            }
        }
        &mut self.space[self.end..]
    }

    /// So many bytes were put there.
    pub(super) fn read(&mut self, count: usize) {
        self.end = (self.end + count).min(self.space.len());
    }

    /// The next reply, where it is there as a whole.
    pub(super) fn next(&mut self) -> RedisResult<Option<Value>> {
        let bytes = &self.space[self.begin..self.end];
        match reply(bytes)? {
            Some((value, length)) => {
                self.begin += length;
                Ok(Some(value))
            }
            None if bytes.len() > REPLY_MOST => Err(foreign()),
            None => Ok(None),
        }
    }
}

fn reply(bytes: &[u8]) -> RedisResult<Option<(Value, usize)>> {
    let Some(end) = line(bytes)? else { return Ok(None) };
    match bytes[0] {
        b':' => Ok(Some((Value::Int(number(&bytes[1..end - 2])?), end))),
        b'$' => match usize::try_from(number(&bytes[1..end - 2])?) {
            Ok(length) if length > REPLY_MOST => Err(foreign()),
            Ok(length) => Ok(bytes
                .get(end..end + length + 2)
                .map(|bulk| (Value::BulkString(bulk[..length].to_vec()), end + length + 2))),
            Err(_) => Ok(Some((Value::Nil, end))),
        },
        _ => match extent(bytes, 0)? {
            Some(length) => Ok(Some((whole(&bytes[..length], end)?, length))),
            None => Ok(None),
        },
    }
}

/// A reply that is there as a whole, its first line up to `end`.
fn whole(bytes: &[u8], mut end: usize) -> RedisResult<Value> {
    let count = if bytes[0] == b'*' { number(&bytes[1..end - 2])? } else { -1 };
    if count < 0 {
        return redis::parse_redis_value(bytes);
    }
    let mut values = Vec::new();
    for _ in 0..count {
        let (value, length) = reply(&bytes[end..])?.ok_or_else(foreign)?;
        values.push(value);
        end += length;
    }
    Ok(Value::Array(values))
}

/// How long the reply is that these bytes begin with.
fn extent(bytes: &[u8], depth: usize) -> RedisResult<Option<usize>> {
    let Some(mut end) = line(bytes)? else { return Ok(None) };
    match bytes[0] {
        b'+' | b'-' | b':' => Ok(Some(end)),
        b'$' => match usize::try_from(number(&bytes[1..end - 2])?) {
            Ok(length) if length > REPLY_MOST => Err(foreign()),
            Ok(length) => Ok(Some(end + length + 2).filter(|whole| *whole <= bytes.len())),
            Err(_) => Ok(Some(end)),
        },
        b'*' if depth < NESTED_MOST => {
            for _ in 0..number(&bytes[1..end - 2])? {
                match extent(&bytes[end..], depth + 1)? {
                    Some(length) => end += length,
                    None => return Ok(None),
                }
            }
            Ok(Some(end))
        }
        _ => Err(foreign()),
    }
}

/// Where the first line ends, behind its break.
fn line(bytes: &[u8]) -> RedisResult<Option<usize>> {
    match memchr::memchr(b'\n', bytes) {
        Some(at) if at >= 2 && bytes[at - 1] == b'\r' => Ok(Some(at + 1)),
        None if bytes.len() <= LINE_MOST => Ok(None),
        _ => Err(foreign()),
    }
}

fn number(digits: &[u8]) -> RedisResult<i64> {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(foreign)
}

/// What came is no reply; nothing behind it can be trusted.
fn foreign() -> RedisError {
    RedisError::from((ErrorKind::Parse, "the server does not answer as Redis does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is in these bytes, read in pieces of this size.
    fn read(bytes: &[u8], piece: usize) -> RedisResult<Vec<Value>> {
        let (mut frames, mut found) = (Frames::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                let space = frames.space();
                let count = rest.len().min(space.len());
                space[..count].copy_from_slice(&rest[..count]);
                frames.read(count);
                rest = &rest[count..];
                while let Some(value) = frames.next()? {
                    found.push(value);
                }
            }
        }
        Ok(found)
    }

    #[test]
    fn replies_are_those_that_the_library_reads_however_they_are_cut() {
        let large = format!("${}\r\n{}\r\n", 100_000, "x".repeat(100_000));
        let replies = [
            ":1\r\n",
            ":-7\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "$4\r\n\r\n\r\n\r\n",
            "+OK\r\n",
            "+QUEUED\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*3\r\n$5\r\nother\r\n:5\r\n*2\r\n$-1\r\n+a\r\n",
            "-MOVED 5 127.0.0.1:7000\r\n",
            "-NOSCRIPT No matching script. Please use EVAL.\r\n",
            large.as_str(),
        ];
        let expected: Vec<Value> =
            replies.iter().map(|reply| redis::parse_redis_value(reply.as_bytes()).unwrap()).collect();
        let all = replies.concat();
        for piece in [1, 2, 3, 7, 4_096, 1 << 20] {
            assert_eq!(read(all.as_bytes(), piece).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let deep = "*1\r\n".repeat(NESTED_MOST + 1);
        let long = "-".repeat(LINE_MOST + 1);
        let large = format!("${}\r\n", REPLY_MOST + 1);
        for wrong in [
            "HTTP/1.1 400 Bad Request\r\n",
            ":x\r\n",
            "$x\r\n",
            "*x\r\n",
            "\r\n",
            ":1\n",
            &deep,
            &long,
            &large,
        ] {
            assert!(read(wrong.as_bytes(), 1 << 20).is_err(), "{wrong:.20}");
        }
    }
}
