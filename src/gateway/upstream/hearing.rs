//! Who is told what a server says before its answer: the client of `103 Early Hints`, the request's body of `100 Continue`.

use crate::gateway::connection::Connection;
use crate::gateway::headers::is_hop_by_hop;
use crate::gateway::scan::News;
use crate::gateway::upload::Upload;
use std::rc::Rc;

/// What one exchange wants to hear while it waits for its answer.
#[derive(Clone, Default)]
pub struct Hearing {
    /// Gets interim answers, where the client can.
    pub client: Option<Rc<Connection>>,
    /// The client waits for `100 Continue`, and there is no body that could wait for it.
    pub hears_continue: bool,
    /// A body that is held back until the server wants it.
    pub upload: Option<Rc<Upload>>,
}

// === impl Hearing ===

impl Hearing {
    /// Whether anybody listens.
    pub fn is_empty(&self) -> bool {
        self.client.is_none() && self.upload.is_none()
    }

    /// Passes on what came.
    pub(super) fn hear(&self, news: &News) {
        if let Some(upload) = self.upload.as_ref().filter(|_| news.goes_on) {
            upload.open();
        }
        if let Some(client) = self.client.as_ref().filter(|_| news.goes_on && self.hears_continue) {
            client.interim(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let Some(client) = self.client.as_ref().filter(|_| !news.interims.is_empty()) {
            client.interim(&end_to_end(&news.interims));
        }
    }

    /// The exchange has ended, or its connection: a body that nobody wanted until now is wanted by nobody.
    pub(super) fn ends(self) {
        if let Some(upload) = self.upload {
            upload.refuse();
        }
    }
}

/// Interim heads without what belongs to this hop, and with the line ends that HTTP has.
fn end_to_end(heads: &[u8]) -> Vec<u8> {
    let is_kept = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        !std::str::from_utf8(name).is_ok_and(|name| is_hop_by_hop(&name.to_ascii_lowercase()))
    };
    let lines = heads.split_inclusive(|byte| *byte == b'\n').filter(is_kept);
    lines.flat_map(|line| [line.trim_ascii_end(), b"\r\n"].concat()).collect()
}
