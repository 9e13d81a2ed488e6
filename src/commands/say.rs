//! Prints lines on standard output. If their reader has gone, the command ends, which is no failure.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line.
///
/// # Errors
/// If standard output cannot be written to; see [`is_broken_pipe`].
pub(super) fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Whether a command ended because the reader of its output has gone, as with `| head`.
pub fn is_broken_pipe(problem: &anyhow::Error) -> bool {
    problem.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == ErrorKind::BrokenPipe)
}
