//! The leases that this worker holds, each with its running call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::job::Lease;
use super::store::Renewed;
use super::work::Call;
use crate::task::Stop;

/// The leases held by this worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<Lease, HeldLease>>>);

#[derive(Debug, Clone)]
struct HeldLease {
    call: Call,
    lost: Stop,
}

/// A lease that is renewed until this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    leases: Leases,
    lease: Lease,
    /// Cancelled when the lease is lost: the result would be discarded.
    pub(super) lost: Stop,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.lease);
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, HeldLease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self, lease: Lease, call: Call) -> Guard {
        let lost = Stop::new();
        self.lock().insert(lease, HeldLease { call, lost: lost.clone() });
        Guard { leases: self.clone(), lease, lost }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// All of them, each with the progress that its call has reported.
    pub(super) fn with_progress(&self) -> Vec<(Lease, Option<i16>)> {
        self.lock().iter().map(|(lease, held)| (*lease, held.call.reported())).collect()
    }

    /// Takes over what the renewal of `leases` returned: the calls of those that are lost are aborted, those of jobs that an
    /// operator cancelled are told so.
    pub(super) fn renewed(&self, leases: &[(Lease, Option<i16>)], renewed: &[Renewed]) {
        let renewed: HashMap<Lease, bool> = renewed.iter().map(|it| (it.lease, it.is_cancelled)).collect();
        let held = self.lock();
        for (lease, _) in leases {
            match (held.get(lease), renewed.get(lease)) {
                (Some(it), None) => it.lost.cancel(),
                (Some(it), Some(true)) => it.call.cancel(),
                (Some(_), Some(false)) | (None, _) => {}
            }
        }
    }
}
