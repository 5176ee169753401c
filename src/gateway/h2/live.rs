//! The streams of one connection that neither side has ended, as the frames show them.

/// Their numbers, in rising order.
#[derive(Debug, Default)]
pub struct Live {
    streams: Vec<Stream>,
    /// The highest number so far.
    last: u32,
}

#[derive(Debug)]
struct Stream {
    number: u32,
    answered: bool,
}

/// What the head of a request, or what comes behind its body, is to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A new stream, or the end of one that lives.
    Good,
    /// It is on a stream that is over.
    Late,
    /// It opens one more than there may be.
    TooMany,
}

/// Far more than may be open at once, because a client may not know yet how many that are. Whoever opens so many takes no
/// answers: each that goes out ends one.
pub const LIVE_MOST: usize = 1000;

// === impl Live ===

impl Live {
    /// A head comes on a stream.
    pub fn head(&mut self, number: u32) -> Head {
        if number <= self.last {
            return if self.has(number) { Head::Good } else { Head::Late };
        }
        if self.streams.len() == LIVE_MOST {
            return Head::TooMany;
        }
        self.last = number;
        self.streams.push(Stream { number, answered: false });
        Head::Good
    }

    /// Whether a stream lives.
    pub fn has(&self, number: u32) -> bool {
        self.find(number).is_ok()
    }

    /// An answer has begun.
    pub fn answered(&mut self, number: u32) {
        if let Ok(at) = self.find(number) {
            self.streams[at].answered = true;
        }
    }

    /// A stream is over; whether it was live and had no answer.
    pub fn end(&mut self, number: u32) -> bool {
        self.find(number).is_ok_and(|at| !self.streams.remove(at).answered)
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.streams.binary_search_by_key(&number, |stream| stream.number)
    }
}
