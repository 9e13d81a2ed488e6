//! LogWriter on standard output. When nobody reads them any more, that ends a command, and is no failure.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line.
///
/// # Errors
/// If standard output takes no more; see [`is_unread`].
pub(super) fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Whether a command ended because whoever read its lines went away, as `head` does.
pub fn is_unread(problem: &anyhow::Error) -> bool {
    problem.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == ErrorKind::BrokenPipe)
}
