//! Writes log lines to standard error: buffered in memory, and written by a thread of their own.
//!
//! Logging a line costs the caller a copy and not a system call. No line is dropped: past a bound, the caller waits until
//! the buffer is written. What was buffered in the last [`FLUSH_INTERVAL`] is lost only if the process is killed outright.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long a line may stay in memory.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(20);
/// Past so many bytes in memory, the thread that logs writes them out itself.
const BOUND_BYTES: usize = 1 << 20;

/// Owns the buffer of a process. Writes out what is left when dropped.
#[derive(Debug)]
pub(super) struct LogWriter<W: Write + Send + 'static = io::Stderr>(Arc<Buffer<W>>);

/// Appends lines to the buffer.
#[derive(Debug)]
pub(super) struct LogSink<W: Write + Send + 'static>(Arc<Buffer<W>>);

#[derive(Debug)]
struct Buffer<W> {
    bytes: Mutex<Vec<u8>>,
    is_filled: Condvar,
    /// Held from taking the bytes until they are written, so that lines keep their order.
    out: Mutex<W>,
}

impl<W: Write + Send + 'static> LogWriter<W> {
    /// Starts the thread; it ends with the process.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn to(out: W) -> io::Result<Self> {
        let buffer = Arc::new(Buffer { bytes: Mutex::default(), is_filled: Condvar::new(), out: Mutex::new(out) });
        let lines = Arc::clone(&buffer);
        thread::Builder::new().name("log lines".into()).spawn(move || {
            loop {
                lines.wait_until_filled();
                thread::sleep(FLUSH_INTERVAL);
                lines.write_out();
            }
        })?;
        Ok(LogWriter(buffer))
    }

    pub(crate) fn sink(&self) -> LogSink<W> {
        LogSink(Arc::clone(&self.0))
    }
}

impl<W: Write + Send + 'static> Drop for LogWriter<W> {
    fn drop(&mut self) {
        self.0.write_out();
    }
}

impl<W: Write> Buffer<W> {
    fn wait_until_filled(&self) {
        let mut bytes = lock(&self.bytes);
        while bytes.is_empty() {
            bytes = self.is_filled.wait(bytes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_out(&self) {
        let mut out = lock(&self.out);
        let taken = std::mem::take(&mut *lock(&self.bytes));
        // If standard error is closed, there is nowhere to report it.
        let _ = out.write_all(&taken);
        let _ = out.flush();
    }
}

/// Locks a mutex, poisoned or not: a panic leaves only whole lines in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Write + Send + 'static> Write for &LogSink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut bytes = lock(&self.0.bytes);
        if bytes.is_empty() {
            self.0.is_filled.notify_one();
        }
        bytes.extend_from_slice(line);
        let is_full = bytes.len() > BOUND_BYTES;
        drop(bytes);
        if is_full {
            self.0.write_out();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + Send + 'static> MakeWriter<'a> for LogSink<W> {
    type Writer = &'a LogSink<W>;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Sends each piece that is written over a channel.
    struct SlowOutput(mpsc::SyncSender<Vec<u8>>);

    impl Write for SlowOutput {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.send(piece.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(capacity: usize) -> (LogWriter<SlowOutput>, mpsc::Receiver<Vec<u8>>) {
        let (pass, passed) = mpsc::sync_channel(capacity);
        (LogWriter::to(SlowOutput(pass)).unwrap(), passed)
    }

    #[test]
    fn a_line_is_written_without_a_flush() {
        let (lines, passed) = lines(1);
        lines.sink().make_writer().write_all(b"one\n").unwrap();
        assert_eq!(passed.recv().unwrap(), b"one\n");
        drop(lines);
    }

    #[test]
    fn what_is_left_at_the_end_is_written_in_order() {
        let (lines, passed) = lines(1_000);
        let sink = lines.sink();
        let written: Vec<String> = (0..1_000).map(|number| format!("{number}\n")).collect();
        written.iter().for_each(|line| sink.make_writer().write_all(line.as_bytes()).unwrap());
        drop(lines);
        assert_eq!(passed.try_iter().flatten().collect::<Vec<u8>>(), written.concat().into_bytes());
    }

    #[test]
    fn past_the_bound_the_thread_that_logs_writes() {
        let (lines, passed) = lines(8);
        let sink = lines.sink();
        let line = [b'x'; BOUND_BYTES / 2 + 1];
        sink.make_writer().write_all(&line).unwrap();
        sink.make_writer().write_all(&line).unwrap();
        // Written by this thread or by the writer's, which may have been first: nothing waits any more.
        drop(lines);
        assert_eq!(passed.try_iter().map(|it| it.len()).sum::<usize>(), line.len() * 2);
    }

    #[test]
    fn a_closed_output_does_not_stop_logging() {
        let (lines, passed) = lines(1);
        drop(passed);
        lines.sink().make_writer().write_all(b"one\n").unwrap();
        drop(lines);
    }
}
