//! Log lines on their way to standard error: buffer in memory, and written by a thread of their own.
//!
//! A line costs whoever logs it a copy and not a system call. None is dropped: past a bound, whoever logs waits until
//! they are written. What was buffered in the last [`FLUSH_INTERVAL`] is lost only if the process is killed outright.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long a line may lie in memory.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(20);
/// Past so many bytes in memory, whoever logs writes them out.
const BOUND_BYTES: usize = 1 << 20;

/// The lines of a process. Writes out what is left when dropped.
#[derive(Debug)]
pub(super) struct LogWriter<W: Write + Send + 'static = io::Stderr>(Arc<Buffer<W>>);

/// Where lines are written to.
#[derive(Debug)]
pub(super) struct LogSink<W: Write + Send + 'static>(Arc<Buffer<W>>);

#[derive(Debug)]
struct Buffer<W> {
    bytes: Mutex<Vec<u8>>,
    some: Condvar,
    /// Held from taking the bytes until they are written, so that lines keep their order.
    out: Mutex<W>,
}

impl<W: Write + Send + 'static> LogWriter<W> {
    /// Starts the thread; it ends with the process.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub(crate) fn to(out: W) -> io::Result<Self> {
        let buffer = Arc::new(Buffer { bytes: Mutex::default(), some: Condvar::new(), out: Mutex::new(out) });
        let lines = Arc::clone(&buffer);
        thread::Builder::new().name("log lines".into()).spawn(move || {
            loop {
                lines.until_there_are_some();
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
    fn until_there_are_some(&self) {
        let mut bytes = held(&self.bytes);
        while bytes.is_empty() {
            bytes = self.some.wait(bytes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_out(&self) {
        let mut out = held(&self.out);
        let taken = std::mem::take(&mut *held(&self.bytes));
        // If nobody reads our lines there is nobody to tell.
        let _ = out.write_all(&taken);
        let _ = out.flush();
    }
}

/// What a panic left behind are whole lines.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Write + Send + 'static> Write for &LogSink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut bytes = held(&self.0.bytes);
        if bytes.is_empty() {
            self.0.some.notify_one();
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

    /// Passes on whatever is written, one piece at a time.
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

    fn lines(room: usize) -> (LogWriter<SlowOutput>, mpsc::Receiver<Vec<u8>>) {
        let (pass, passed) = mpsc::sync_channel(room);
        (LogWriter::to(SlowOutput(pass)).unwrap(), passed)
    }

    #[test]
    fn a_line_is_written_without_being_asked_for() {
        let (lines, passed) = lines(1);
        lines.sink().make_writer().write_all(b"one\n").unwrap();
        assert_eq!(passed.recv().unwrap(), b"one\n");
        drop(lines);
    }

    #[test]
    fn what_is_left_at_the_end_is_written_in_order() {
        let (lines, passed) = lines(1_000);
        let sink = lines.sink();
        let said: Vec<String> = (0..1_000).map(|number| format!("{number}\n")).collect();
        said.iter().for_each(|line| sink.make_writer().write_all(line.as_bytes()).unwrap());
        drop(lines);
        assert_eq!(passed.try_iter().flatten().collect::<Vec<u8>>(), said.concat().into_bytes());
    }

    #[test]
    fn past_the_bound_whoever_logs_writes() {
        let (lines, passed) = lines(8);
        let sink = lines.sink();
        let line = [b'x'; BOUND_BYTES / 2 + 1];
        sink.make_writer().write_all(&line).unwrap();
        sink.make_writer().write_all(&line).unwrap();
        // By us or by the thread, which may have come before us: nothing waits any more.
        drop(lines);
        assert_eq!(passed.try_iter().map(|it| it.len()).sum::<usize>(), line.len() * 2);
    }

    #[test]
    fn a_reader_that_went_away_stops_nobody() {
        let (lines, passed) = lines(1);
        drop(passed);
        lines.sink().make_writer().write_all(b"one\n").unwrap();
        drop(lines);
    }
}
