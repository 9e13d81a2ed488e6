//! The only module that reads the clock; all others are given the time.
#![expect(clippy::disallowed_methods, reason = "this is the file the ban points to")]

use std::time::Instant;

use jiff::Timestamp;

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Now, on the monotonic clock: for durations and deadlines.
pub fn instant() -> Instant {
    Instant::now()
}
