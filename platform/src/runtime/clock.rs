//! The one place that asks what time it is; everyone else is told.
#![expect(clippy::disallowed_methods, reason = "this is the file the ban points to")]

use std::time::Instant;

use jiff::Timestamp;

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Now, on the clock that never goes back: for durations and deadlines.
pub fn instant() -> Instant {
    Instant::now()
}
