//! What an operator is shown of a record.

use std::sync::Arc;

/// What an operator sees of a record. Never a credential, never a body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The route's name.
    pub route: Arc<str>,
    /// Method and normalised path, without the query; where it is cut ([`About::is_cut`]), the beginning of them.
    pub request: String,
    /// The request id of the attempt that claimed it.
    pub request_id: String,
}

/// The end of a request that is not kept whole.
const CUT: &str = "…";

// === impl About ===

impl About {
    /// Keeps at most `most` bytes of the request.
    pub(super) fn shorten_request(&mut self, most: usize) {
        if self.request.len() > most {
            self.request.truncate(self.request.floor_char_boundary(most.saturating_sub(CUT.len())));
            self.request.push_str(CUT);
        }
    }

    /// Whether the request is longer than what is kept of it: then it does not say which resource it is about.
    pub fn is_cut(&self) -> bool {
        self.request.ends_with(CUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_whole_says_so() {
        for (path, most, kept, is_cut) in
            [("/b/12345", 8, "/b/12345", false), ("/b/123456", 8, "/b/12…", true)]
        {
            let mut about = About { route: "r".into(), request: path.into(), request_id: String::new() };
            about.shorten_request(most);
            assert_eq!((about.request.as_str(), about.is_cut()), (kept, is_cut));
        }
    }
}
