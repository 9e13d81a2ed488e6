//! The partitions assigned to a member, and which of the records read of them still count.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::TopicPartition;

/// Written by the polling thread, read by the consumer.
#[derive(Default)]
pub(super) struct Assignment {
    pub(super) stop: AtomicBool,
    /// How often the client was replaced; read by tests.
    pub(super) rejoined: AtomicU64,
    partitions: Mutex<HashMap<TopicPartition, Generation>>,
}

/// Records are tagged `written` when read, and count only if tagged `valid`. The two differ while a seek is pending.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Generation {
    pub(super) written: u64,
    pub(super) valid: u64,
    /// Whether fetching is paused. Kept per assignment: a partition that is assigned again starts resumed.
    pub(super) paused: bool,
}

impl Assignment {
    pub(super) fn partitions(&self) -> MutexGuard<'_, HashMap<TopicPartition, Generation>> {
        // A panic while this lock is held cannot leave a half-changed state: the values are single numbers.
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
