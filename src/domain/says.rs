//! What a backend's status says of the write that it answers.

use http::StatusCode;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It was done: 2xx, and 303, which shows elsewhere what came of it (RFC 9110, 15.4.4).
    Done,
    /// It may have been done: any other 3xx. A form that was taken is answered so, and a stranger who has to log in first.
    Elsewhere,
    /// Nothing was done: 304, and 307 and 308, by which the client is to send the same request to another place.
    Nothing,
    /// Something went wrong.
    Failed,
}

// === impl Says ===

impl Says {
    /// What `status` says.
    pub fn of(status: StatusCode) -> Says {
        match status.as_u16() {
            304 | 307 | 308 => Says::Nothing,
            200..=299 | 303 => Says::Done,
            300..=399 => Says::Elsewhere,
            _ => Says::Failed,
        }
    }

    /// Whether it is taken for a success where a wrong guess gives nothing away that is taken.
    pub fn is_success(self) -> bool {
        matches!(self, Says::Done | Says::Elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_that_repeats_the_request_says_that_nothing_was_done() {
        for (status, says) in [
            (200, Says::Done),
            (204, Says::Done),
            (301, Says::Elsewhere),
            (302, Says::Elsewhere),
            (303, Says::Done),
            (304, Says::Nothing),
            (307, Says::Nothing),
            (308, Says::Nothing),
            (404, Says::Failed),
            (500, Says::Failed),
        ] {
            assert_eq!(Says::of(StatusCode::from_u16(status).expect("a status")), says, "{status}");
        }
    }
}
