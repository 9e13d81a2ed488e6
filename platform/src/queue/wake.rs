//! Wakes a worker before its next sweep, with hints of which companies have jobs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use domain::CompanyId;
use tokio::sync::Notify;

/// Cheap to clone. Hints are kept until the worker takes them, so none is lost between two steps.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hints: Mutex<Hints>,
    notify: Notify,
}

/// The hints since the worker last took them.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pub(super) ready: BTreeSet<CompanyId>,
    pub(super) scheduled: bool,
}

impl Wake {
    /// These companies may have ready jobs; to be called after the commit.
    pub fn ready(&self, companies: impl IntoIterator<Item = CompanyId>) {
        self.notify(|hints| hints.ready.extend(companies));
    }

    /// Jobs of these companies were enqueued, some perhaps for later; to be called after the commit.
    pub fn enqueued(&self, companies: impl IntoIterator<Item = CompanyId>) {
        self.notify(|hints| {
            hints.ready.extend(companies);
            hints.scheduled = true;
        });
    }

    fn notify(&self, add: impl FnOnce(&mut Hints)) {
        add(&mut self.0.hints.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.notify.notify_one();
    }

    pub(super) fn take(&self) -> Hints {
        std::mem::take(&mut *self.0.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn notified(&self) {
        self.0.notify.notified().await;
    }
}
