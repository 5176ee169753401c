//! The one thread that writes the log: take a batch, one write, one sync, wake everyone who waits for it.

use super::super::clock::instant;
use super::block;
use super::queue::{Batch, Queue};
use super::segments::Segments;

/// Writes until the queue closes or an error makes the log useless.
pub(in super::super) fn run(queue: &Queue, segments: &Segments) {
    while let Some(batch) = queue.take() {
        if !write(queue, segments, batch) {
            return;
        }
    }
}

/// Writes one batch. False after an error.
///
/// After a failed sync nobody knows which of the written bytes are on disk, and trying again may report success for
/// pages that the kernel has dropped. So the first error is the last: the store stays failed until it is opened anew,
/// and opening reads what is really there.
pub(in super::super) fn write(queue: &Queue, segments: &Segments, mut batch: Batch) -> bool {
    let Some(segment) = segments.get(batch.segment) else {
        queue.fail("the log lost a segment that it was writing to; restart the gateway");
        batch.untold();
        return false;
    };
    block::close(&mut batch.block, segment.head.salt, batch.number, batch.time);
    let began = instant();
    match segment.file.write_at(&batch.block, batch.at).and_then(|()| segment.file.sync()) {
        Ok(()) => {
            let now = instant();
            queue.synced(batch, now - began, now);
            true
        }
        Err(error) => {
            let name = segments.disk.name(batch.segment);
            tracing::error!(segment = %name, %error, "the store's log cannot be written; guarded writes are refused");
            queue.fail(&format!(
                "its log {name} cannot be written ({error}); check the disk, then restart the gateway"
            ));
            batch.untold();
            false
        }
    }
}
