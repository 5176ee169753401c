//! The way from the workers to the log: a bounded queue and one thread that writes.
//!
//! Nothing here ever waits for the log. A full queue loses the line and counts it; the thread says how many were lost
//! once it is through with the rest. The thread naps between batches and goes to sleep only when nothing comes, so that
//! a busy worker almost never pays the system call that wakes it.

#![allow(clippy::disallowed_methods, reason = "the log's own thread stamps its lines and spaces its notices")]

use super::line::{Line, Style, write_note};
use super::stamp::Stamp;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};
use tracing::Level;

/// Lines that may wait. The slots are allocated at the start: about 2 MB.
pub(super) const LINES_MAX: usize = 8_192;
/// Bytes that waiting lines may hold beyond their slots.
const BYTES_MAX: usize = 8 << 20;
/// Bytes after which a batch is written although more lines wait.
const BATCH_BYTES: usize = 256 << 10;
/// Between batches: how much later than its fact a line may appear.
const NAP: Duration = Duration::from_millis(10);
/// Naps that found nothing before the thread goes to sleep.
const IDLE_NAPS: u32 = 10;
/// Between two lines that say how many others were lost.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// At the end: how long the last lines may take. A reader that has stopped reading must not keep the process alive.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// The workers' end.
#[derive(Debug)]
pub(super) struct Queue {
    lines: SyncSender<Line>,
    shared: Arc<Shared>,
    level: Level,
}

/// What both ends see.
#[derive(Debug)]
struct Shared {
    bytes: AtomicUsize,
    dropped: AtomicU64,
    asleep: AtomicBool,
    closing: AtomicBool,
    writer: OnceLock<Thread>,
}

/// Writes out what waits when it is dropped; held by `main` until the end.
#[derive(Debug)]
pub struct LogGuard {
    shared: Arc<Shared>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end.
struct Writer<W> {
    lines: Receiver<Line>,
    shared: Arc<Shared>,
    style: Style,
    out: W,
    batch: Vec<u8>,
    batch_lines: u64,
    /// What was written last is a part of a line.
    torn: bool,
    said: u64,
    said_at: Option<Instant>,
    /// Of what was said, what is in the batch and not written yet.
    saying: u64,
}

/// Why a batch ended.
#[derive(PartialEq)]
enum Drained {
    Empty,
    More,
}

// === impl Queue ===

impl Queue {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        style: Style,
        level: Level,
        lines_max: usize,
    ) -> std::io::Result<(Arc<Queue>, LogGuard)> {
        let (sender, lines) = sync_channel(lines_max);
        let (end, ended) = sync_channel::<()>(0);
        let shared = Arc::new(Shared {
            bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            writer: OnceLock::new(),
        });
        let writer = Writer {
            lines,
            shared: shared.clone(),
            style,
            out,
            batch: Vec::with_capacity(BATCH_BYTES),
            batch_lines: 0,
            torn: false,
            said: 0,
            said_at: None,
            saying: 0,
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            writer.run();
            // The guard waits for this end to go, because a thread cannot be joined with a deadline.
            drop(end);
        })?;
        let _ = shared.writer.set(thread.thread().clone());
        let queue = Queue { lines: sender, shared: shared.clone(), level };
        Ok((Arc::new(queue), LogGuard { shared, ended, thread: Some(thread) }))
    }

    /// Hands a line over, or loses and counts it. Never waits.
    pub(super) fn send(&self, line: Line) {
        let bytes = line.heap_bytes();
        let room = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= BYTES_MAX;
        if !room || self.lines.try_send(line).is_err() {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Pairs with the fence in `Writer::sleep`: either the writer sees the line, or this sees the writer asleep.
        fence(Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::Relaxed) && self.shared.asleep.swap(false, Ordering::Relaxed) {
            self.shared.wake();
        }
    }

    /// Whether facts of that level are wanted.
    pub(super) fn wants(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Lines lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

// === impl Shared ===

impl Shared {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

// === impl LogGuard ===

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Err(RecvTimeoutError::Disconnected) = self.ended.recv_timeout(FLUSH_WAIT)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut idle = 0;
        loop {
            // Read before draining: what was sent before the end of the log is in the log.
            let closing = self.shared.closing.load(Ordering::SeqCst);
            let drained = self.drain();
            if drained == Drained::Empty {
                self.say_dropped(closing);
            }
            idle = if self.batch.is_empty() { idle + 1 } else { 0 };
            self.write_batch();
            match drained {
                Drained::More => {}
                Drained::Empty if closing => return,
                Drained::Empty if idle < IDLE_NAPS => std::thread::park_timeout(NAP),
                Drained::Empty => {
                    self.sleep();
                    idle = 0;
                }
            }
        }
    }

    /// Formats what waits, up to one batch.
    fn drain(&mut self) -> Drained {
        let mut now = None;
        while self.batch.len() < BATCH_BYTES {
            match self.lines.try_recv() {
                Ok(line) => {
                    let now = *now.get_or_insert_with(|| Stamp(SystemTime::now()));
                    line.write(self.style, now, &mut self.batch);
                    self.batch_lines += 1;
                    self.shared.bytes.fetch_sub(line.heap_bytes(), Ordering::Relaxed);
                }
                Err(TryRecvError::Empty) => return Drained::Empty,
                Err(TryRecvError::Disconnected) => {
                    self.shared.closing.store(true, Ordering::SeqCst);
                    return Drained::Empty;
                }
            }
        }
        Drained::More
    }

    /// Says how many lines were lost: once the rest is through, and not more often than every ten seconds.
    fn say_dropped(&mut self, closing: bool) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let due = self.said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY);
        if dropped > self.said && (due || closing) {
            let lost = dropped - self.said;
            let message =
                format!("{lost} log lines were lost: they came faster than the log's reader took them");
            write_note(Level::WARN, &message, self.style, Stamp(SystemTime::now()), &mut self.batch);
            (self.said, self.said_at, self.saying) = (dropped, Some(Instant::now()), lost);
        }
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.torn {
            // The line that could not be written whole ends here, so that it spoils no other.
            self.batch.insert(0, b'\n');
        }
        let written = self.write();
        if let Some(last) = self.batch[..written].last() {
            self.torn = *last != b'\n';
        }
        // There is nobody left to tell that the log cannot be written, except the metric.
        let lost = self.batch[written..].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.shared.dropped.fetch_add(lost.min(self.batch_lines), Ordering::Relaxed);
        let saying = std::mem::take(&mut self.saying);
        if written < self.batch.len() {
            self.said -= saying;
        }
        self.batch.clear();
        self.batch_lines = 0;
    }

    /// Writes the batch; how much of it, where the log cannot be written. A reader that is late is waited for, whether the
    /// system waits for it or says so.
    fn write(&mut self) -> usize {
        let mut written = 0;
        while written < self.batch.len() {
            match self.out.write(&self.batch[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::park_timeout(NAP),
                Err(_) => break,
            }
        }
        let _ = self.out.flush();
        written
    }

    /// Sleeps until a line comes, or the end.
    fn sleep(&mut self) {
        self.shared.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `Queue::send`.
        fence(Ordering::SeqCst);
        if self.drain() == Drained::Empty
            && self.batch.is_empty()
            && !self.shared.closing.load(Ordering::SeqCst)
        {
            std::thread::park();
        }
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Keeps what was written; each write first announces itself and then waits until it may go on.
    struct Gate {
        written: Arc<Mutex<Vec<u8>>>,
        entered: SyncSender<()>,
        open: Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.entered.try_send(());
            // A closed channel leaves the gate open for good.
            let _ = self.open.recv();
            self.written.lock().expect("no test panics here").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn text(line: impl Into<String>) -> Line {
        Line::Text(line.into().into_bytes())
    }

    #[test]
    fn a_full_queue_loses_lines_counts_them_and_says_so_once() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (entered, enters) = sync_channel(1);
        let (open, opened) = sync_channel(0);
        let gate = Gate { written: written.clone(), entered, open: opened };
        let (queue, guard) = Queue::start(gate, Style::Json, Level::INFO, 4).expect("a thread");
        queue.send(text("first\n"));
        enters.recv().expect("the writer took the first line");
        // The writer now stands in its write: four lines fit, three do not, and no call here waits.
        for line in 0..7 {
            queue.send(text(format!("line {line}\n")));
        }
        assert_eq!(queue.dropped(), 3);
        drop(open);
        drop(guard);
        let written =
            String::from_utf8(written.lock().expect("the writer has ended").clone()).expect("UTF-8");
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines[..5], ["first", "line 0", "line 1", "line 2", "line 3"]);
        assert_eq!(lines.len(), 6, "{written}");
        assert!(lines[5].contains("3 log lines were lost"), "{written}");
    }

    #[test]
    fn a_log_that_nobody_reads_does_not_keep_the_process_alive() {
        let (entered, enters) = sync_channel(1);
        let (open, opened) = sync_channel(0);
        let gate = Gate { written: Arc::default(), entered, open: opened };
        let (queue, guard) = Queue::start(gate, Style::Json, Level::INFO, 4).expect("a thread");
        queue.send(text("stuck\n"));
        enters.recv().expect("the writer took the line");
        let begun = Instant::now();
        drop(guard);
        assert!(begun.elapsed() < FLUSH_WAIT * 5, "dropping the guard took {:?}", begun.elapsed());
        drop(open);
    }

    #[test]
    fn waiting_lines_are_bounded_in_bytes() {
        let (entered, enters) = sync_channel(1);
        let (open, opened) = sync_channel(0);
        let gate = Gate { written: Arc::default(), entered, open: opened };
        let (queue, guard) = Queue::start(gate, Style::Json, Level::INFO, LINES_MAX).expect("a thread");
        queue.send(text("first\n"));
        enters.recv().expect("the writer took the first line");
        let megabyte = "x".repeat(1 << 20);
        for _ in 0..12 {
            queue.send(text(megabyte.clone()));
        }
        assert_eq!(queue.dropped(), 4);
        drop(open);
        drop(guard);
        assert_eq!(queue.shared.bytes.load(Ordering::Relaxed), 0, "what was written makes room again");
    }

    #[test]
    fn a_sleeping_writer_is_woken_by_the_next_line() {
        /// Announces each batch.
        struct Announce(SyncSender<Vec<u8>>);
        impl Write for Announce {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.send(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (batches, batch) = sync_channel(0);
        let (queue, _guard) = Queue::start(Announce(batches), Style::Json, Level::INFO, 4).expect("a thread");
        for round in 0..3 {
            let begun = Instant::now();
            while !queue.shared.asleep.load(Ordering::SeqCst) {
                assert!(begun.elapsed() < Duration::from_secs(10), "the writer never went to sleep");
                std::thread::yield_now();
            }
            queue.send(text(format!("{round}\n")));
            let line = batch.recv_timeout(Duration::from_secs(10)).expect("the writer woke");
            assert_eq!(line, format!("{round}\n").into_bytes());
        }
    }

    #[test]
    fn lines_of_a_reader_that_has_gone_count_as_lost() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (queue, guard) = Queue::start(Gone, Style::Json, Level::INFO, 4).expect("a thread");
        queue.send(text("one\n"));
        queue.send(text("two\n"));
        drop(guard);
        assert_eq!(queue.dropped(), 2);
    }

    /// Takes what the script says, one step for each write, and everything once it is over.
    struct Scripted {
        steps: std::vec::IntoIter<Result<usize, ErrorKind>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = self.steps.next().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.written.lock().expect("no test panics here").extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written of these batches, and how many lines are lost.
    fn written(steps: Vec<Result<usize, ErrorKind>>, batches: &[&[&str]]) -> (String, u64) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let out = Scripted { steps: steps.into_iter(), written: written.clone() };
        let (queue, guard) = Queue::start(out, Style::Json, Level::INFO, 4).expect("a thread");
        for batch in batches {
            let begun = Instant::now();
            while !queue.shared.asleep.load(Ordering::SeqCst) {
                assert!(begun.elapsed() < Duration::from_secs(10), "the writer never went to sleep");
                std::thread::yield_now();
            }
            batch.iter().for_each(|line| queue.send(text(*line)));
        }
        drop(guard);
        let written = written.lock().expect("the writer has ended").clone();
        (String::from_utf8(written).expect("UTF-8"), queue.dropped())
    }

    #[test]
    fn a_line_that_could_not_be_written_whole_spoils_no_other() {
        let full = || Err(ErrorKind::StorageFull);
        // That a line was lost cannot be written either, at first.
        let steps = vec![Ok(2), full(), full(), full(), Ok(1), full()];
        let batches: [&[&str]; 4] = [&["first\n"], &["second\n"], &["third\n"], &["fourth\n"]];
        let (text, dropped) = written(steps, &batches);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[..2].to_vec(), dropped), (vec!["fi", "fourth"], 3), "{text:?}");
        assert!(lines[2].contains("3 log lines were lost") && lines.len() == 3, "{text:?}");
    }

    #[test]
    fn a_reader_that_is_late_at_a_pipe_that_does_not_wait_loses_nothing() {
        let late = || Err(ErrorKind::WouldBlock);
        let steps = vec![late(), late(), Ok(3), late(), Err(ErrorKind::Interrupted), Ok(1), late()];
        assert_eq!(written(steps, &[&["first\n"], &["second\n"]]), ("first\nsecond\n".into(), 0));
    }

    #[test]
    fn a_warning_is_wanted_at_info_and_a_debug_line_is_not() {
        let (queue, _guard) = Queue::start(std::io::sink(), Style::Json, Level::INFO, 4).expect("a thread");
        assert!(queue.wants(Level::WARN) && queue.wants(Level::INFO) && !queue.wants(Level::DEBUG));
    }
}
