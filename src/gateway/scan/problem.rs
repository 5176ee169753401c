//! Why a connection's bytes are not read on: each reason once, with the sentence that its client gets.

use crate::domain::refusal::{Reason, Refusal};
use std::fmt;

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $reason:ident = $text:literal;)*) => {
        /// What is wrong with a request's head or framing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Problem { $($(#[$doc])* $name,)* }

        impl Problem {
            /// Every problem, for tests.
            pub const ALL: &'static [Problem] = &[$(Problem::$name,)*];

            /// The reason of the refusal that tells the client.
            pub fn reason(self) -> Reason { match self { $(Problem::$name => Reason::$reason,)* } }

            /// What is wrong, as a sentence.
            pub fn text(self) -> &'static str { match self { $(Problem::$name => $text,)* } }
        }
    };
}

problems! {
    /// More than one empty line before a request line.
    LeadingBytes: BadRequest = "Only one empty line may come before a request line.";
    /// Not `METHOD SP target SP version`.
    RequestLine: BadRequest = "The request line is not a method, a target and a version with one space between each.";
    /// A method in lower case, or with other characters, or too long.
    Method: BadRequest = "The method is not a word of capital letters, digits, '-' and '_'.";
    /// Neither `HTTP/1.0` nor `HTTP/1.1`.
    Version: BadRequest = "The version is neither HTTP/1.0 nor HTTP/1.1.";
    /// `PRI * HTTP/2.0`.
    Http2Preface: BadRequest = "This connection speaks HTTP/1.1; the preface of HTTP/2 came.";
    /// `CONNECT`.
    Tunnel: BadRequest = "CONNECT is refused: the gateway opens no tunnels.";
    /// Neither origin form, nor absolute form, nor `*` of OPTIONS.
    TargetForm: BadRequest = "The target is neither a path, nor an absolute http or https URL, nor the '*' of OPTIONS.";
    /// A character that no URL has bare.
    TargetByte: BadTarget = "The target contains a character that a URL only has as an escape.";
    /// `#` in the target.
    Fragment: BadRequest = "The target contains a '#': fragments are not sent.";
    /// The target's limit.
    TargetTooLong: TargetTooLong = "The target is longer than the gateway accepts.";
    /// `user@host`.
    Userinfo: BadRequest = "The authority contains user information.";
    /// An authority that is no host with an optional port.
    Authority: BadRequest = "The authority of the target is not a host with an optional port.";
    /// `Host` and the target disagree.
    AuthorityMismatch: BadRequest = "The authority of the target and the Host header differ.";
    /// HTTP/1.1 without `Host`.
    NoHost: BadRequest = "A request of HTTP/1.1 must have a Host header.";
    /// Several `Host` lines.
    SeveralHosts: BadRequest = "There is more than one Host header.";
    /// A `Host` that is no host with an optional port.
    Host: BadRequest = "The Host header is not a host with an optional port.";
    /// A line that goes on from the one before.
    Fold: BadRequest = "A header is folded over several lines.";
    /// White space before the first header.
    LeadingSpace: BadRequest = "White space precedes the first header.";
    /// `Name : value`.
    SpaceBeforeColon: BadRequest = "White space precedes a header's colon.";
    /// A line that begins with its colon.
    EmptyName: BadRequest = "A header has no name.";
    /// A line without colon.
    NoColon: BadRequest = "A header has no colon.";
    /// A name that is no token.
    NameByte: BadRequest = "A header's name contains a character that no name may have.";
    /// `Content_Length` and its like.
    LookAlike: BadRequest = "A header's name would be a framing header's to a backend that takes other signs for '-'.";
    /// NUL.
    Nul: BadRequest = "There is a NUL byte in a line.";
    /// CR without LF.
    BareCr: BadRequest = "There is a carriage return without its line feed.";
    /// LF without CR.
    BareLf: BadRequest = "There is a line feed without its carriage return.";
    /// Any other control character.
    Control: BadRequest = "There is a control character in a line.";
    /// `Content-Length` that is not a plain decimal number.
    Length: BadRequest = "The Content-Length is not one plain decimal number that fits 63 bits.";
    /// Several `Content-Length` lines, also equal ones.
    SeveralLengths: BadRequest = "There is more than one Content-Length header.";
    /// Another coding than `chunked`, or several.
    Coding: BadRequest = "The Transfer-Encoding is not exactly 'chunked'.";
    /// Several `Transfer-Encoding` lines.
    SeveralCodings: BadRequest = "There is more than one Transfer-Encoding header.";
    /// `Transfer-Encoding` on HTTP/1.0.
    CodingOn10: BadRequest = "HTTP/1.0 has no Transfer-Encoding.";
    /// Both framings.
    LengthAndCoding: BadRequest = "Content-Length and Transfer-Encoding came together.";
    /// The head's limit.
    HeadTooLarge: HeadTooLarge = "The head is larger than the gateway accepts.";
    /// The limit of the number of headers.
    TooManyHeaders: HeadTooLarge = "The head has more headers than the gateway accepts.";
    /// A chunk's size that is not hexadecimal, or too large.
    ChunkSize: BadRequest = "A chunk's size is not a hexadecimal number that fits 63 bits.";
    /// A malformed chunk extension.
    ChunkExtension: BadRequest = "A chunk's extension is malformed or too long.";
    /// A chunk longer or shorter than its size.
    ChunkEnd: BadRequest = "A chunk does not end where its size says.";
    /// A framing field behind the body.
    TrailerName: BadRequest = "A trailer names a field that only a head may have.";
    /// The trailers' limits.
    TrailersTooLarge: BadRequest = "The trailers are larger or more numerous than the gateway accepts.";
    /// An answer that does not begin with `HTTP/1.x NNN`.
    StatusLine: UpstreamAmbiguous = "The answer does not begin with a status line of HTTP/1.0 or HTTP/1.1.";
    /// Bytes of a backend while nothing was asked.
    Unsolicited: UpstreamAmbiguous = "Bytes came that belong to no answer.";
    /// `101` although no upgrade was asked for.
    Switched: UpstreamAmbiguous = "The backend switched to a protocol that nobody asked for.";
    /// More `1xx` before one answer than anybody sends.
    Interims: UpstreamAmbiguous = "There are more interim answers than the gateway accepts.";
    /// A length or a coding on an interim answer.
    InterimBody: UpstreamAmbiguous = "An interim answer announces a body.";
}

// === impl Problem ===

impl Problem {
    /// The refusal that tells the client; the connection cannot be kept.
    pub fn refusal(self) -> Refusal {
        let detail = format!("{} Nothing of this request was sent to the backend.", self.text());
        Refusal::new(self.reason(), detail).closing()
    }

    /// The refusal where a backend's answer has this problem: nobody can say which of its readings is the backend's.
    pub fn refusal_of_answer(self) -> Refusal {
        let detail = format!(
            "The backend's answer can be read in more than one way, so it was not passed on; the request may have been \
             acted on. {}",
            self.text()
        );
        Refusal::new(Reason::UpstreamAmbiguous, detail)
    }

    /// The same in the middle of a body, of which the beginning may have been passed on.
    pub fn refusal_of_body(self) -> Refusal {
        let detail =
            format!("The request's body broke off: {} The rest of it was not passed on.", self.text());
        Refusal::new(self.reason(), detail).closing()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Problem {}
