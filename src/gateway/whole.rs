//! Reading a request body whole, within a limit and a deadline.

use super::body::RequestBody;
use super::clock;
use super::deadline::Deadlines;
use super::upload::{ClientBody, Upload};
use crate::domain::refusal::{Reason, Refusal};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use std::rc::Rc;
use std::time::Duration;

/// A body, or as much of it as fits.
pub enum Read {
    /// All of it.
    Whole(Bytes),
    /// More than the limit: what came, with the rest behind it.
    TooLarge(RequestBody, Rc<Upload>),
}

/// Reads `body` up to `limit` bytes within `within`.
pub async fn read_whole(
    mut body: ClientBody,
    limit: u64,
    within: Duration,
    deadlines: &Deadlines,
) -> Result<Read, Refusal> {
    if body.is_end_stream() {
        return Ok(Read::Whole(Bytes::new()));
    }
    if body.size_hint().lower() > limit {
        return Ok(too_large(None, body));
    }
    let deadline = clock::recent() + within;
    let mut gathered = Gathered::default();
    loop {
        let frame = match deadlines.within(deadline, body.frame()).await {
            Some(Some(Ok(frame))) => frame,
            Some(None) => return Ok(Read::Whole(gathered.into_bytes())),
            // There is hardly a client left to read this; what matters is that nothing was claimed.
            Some(Some(Err(error))) => {
                let detail =
                    format!("The request body broke off, so nothing was claimed and nothing sent: {error}.");
                return Err(Refusal::new(Reason::BadRequest, detail).closing());
            }
            None => {
                let detail = format!(
                    "The request body did not arrive within {within:?}; nothing was claimed and nothing sent."
                );
                return Err(Refusal::new(Reason::BodyTimeout, detail).closing());
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        gathered.push(data);
        if gathered.len() as u64 > limit {
            return Ok(too_large(Some(gathered.into_bytes()), body));
        }
    }
}

fn too_large(prefix: Option<Bytes>, rest: ClientBody) -> Read {
    let (body, upload) = RequestBody::prefixed(prefix, rest);
    Read::TooLarge(body, upload)
}

/// Pieces of a body; the first one alone is never copied.
#[derive(Default)]
pub struct Gathered {
    first: Bytes,
    more: BytesMut,
}

impl Gathered {
    /// Adds a piece.
    pub fn push(&mut self, piece: Bytes) {
        if self.more.is_empty() && self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&self.first);
        }
        self.more.extend_from_slice(&piece);
    }

    /// Bytes so far.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        if self.more.is_empty() { self.first.len() } else { self.more.len() }
    }

    /// All of it.
    pub fn into_bytes(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}
