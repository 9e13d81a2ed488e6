//! A line on the terminal that says how far a long command is. Where standard error is no terminal it says nothing.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use platform::clock;

pub(super) struct Progress {
    what: &'static str,
    total: Option<usize>,
    shown_at: Option<Instant>,
    every: Duration,
    is_terminal: bool,
}

const WIDTH: usize = 30;

impl Progress {
    /// Towards a known number.
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        let every = Duration::from_millis(100);
        Progress { what, total: Some(total), shown_at: None, every, is_terminal: io::stderr().is_terminal() }
    }

    /// Towards an unknown number.
    pub(super) fn counting(what: &'static str, every: Duration) -> Self {
        Progress { what, total: None, shown_at: None, every, is_terminal: io::stderr().is_terminal() }
    }

    pub(super) fn show(&mut self, done: usize) {
        let is_due = self.shown_at.is_none_or(|it| it.elapsed() >= self.every) || self.total == Some(done);
        if !self.is_terminal || !is_due {
            return;
        }
        self.shown_at = Some(clock::instant());
        let line = match self.total {
            Some(total) => {
                let filled = WIDTH * done / total.max(1);
                format!(
                    "[{}{}] {done} of {total} {}",
                    "#".repeat(filled),
                    " ".repeat(WIDTH - filled.min(WIDTH)),
                    self.what
                )
            }
            None => format!("{done} {}", self.what),
        };
        // A terminal that has gone is no reason to stop.
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }

    /// Removes the line.
    pub(super) fn end(&mut self) {
        if self.is_terminal && self.shown_at.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
