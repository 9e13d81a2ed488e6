//! Renews the leases of this worker while it runs.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::shared::Shared;
use super::store;
use super::work::Work;
use crate::postgres::Failure;
use crate::task::Stop;
use crate::telemetry::chain;

/// Renews all leases that are held here.
pub(super) async fn renew<W: Work>(shared: &Shared<W>) -> Result<(), Failure> {
    let leases = shared.leases.with_progress();
    if !leases.is_empty() {
        let renewed = store::renew(&shared.db.get().await?, W::QUEUE, &leases, shared.lease()).await?;
        shared.leases.renewed(&leases, &renewed);
    }
    shared.renewed();
    Ok(())
}

/// Renews the leases of a worker until it has ended.
pub(super) async fn keep_renewing<W: Work>(shared: Arc<Shared<W>>, ended: Stop) {
    let mut renewal = tokio::time::interval(shared.renewal_period());
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = renewal.tick() => {}
        }
        if let Err(problem) = renew(&shared).await {
            tracing::warn!(queue = %W::QUEUE, error = chain(&problem), "leases could not be renewed");
        }
    }
}
