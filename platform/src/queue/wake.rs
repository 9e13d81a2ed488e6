//! Wakes a worker before its next sweep, and says what for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use domain::CompanyId;
use tokio::sync::Notify;

/// Cheap to clone. What is said before the worker looks is never lost: it is kept until it is taken.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hints: Mutex<Hints>,
    notify: Notify,
}

/// What the worker has been told since it last asked.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pub(super) ready: BTreeSet<CompanyId>,
    pub(super) scheduled: bool,
}

impl Wake {
    /// These companies may have ready jobs; to be said after the commit.
    pub fn ready(&self, companies: impl IntoIterator<Item = CompanyId>) {
        self.say(|hints| hints.ready.extend(companies));
    }

    /// Jobs of these companies were enqueued, some perhaps for later; to be said after the commit.
    pub fn enqueued(&self, companies: impl IntoIterator<Item = CompanyId>) {
        self.say(|hints| {
            hints.ready.extend(companies);
            hints.scheduled = true;
        });
    }

    fn say(&self, what: impl FnOnce(&mut Hints)) {
        what(&mut self.0.hints.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.notify.notify_one();
    }

    pub(super) fn take(&self) -> Hints {
        std::mem::take(&mut *self.0.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn heard(&self) {
        self.0.notify.notified().await;
    }
}
