//! One process per processor and instance name, held by an advisory lock of Postgres.
//!
//! An instance that starts again after a crash reclaims the leases of its previous run, so two running processes of one
//! name would each reclaim the other's live leases. The second waits until the first has ended. Postgres releases the
//! lock when the connection closes, so a killed process frees it at once; a process that only loses its connection keeps
//! running without the lock, and nothing notices that until it starts again.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use domain::ProcessorName;

use crate::postgres::{Db, Failure};
use crate::task::Stop;
use crate::telemetry::chain;

/// The lock on the instance's name; released when dropped.
#[derive(Debug)]
pub struct InstanceLock {
    _connection: ClientWrapper,
}

/// Waits for the lock; `None` when stopped before that.
pub async fn hold(db: &Db, processor: ProcessorName, instance: &str, stop: &Stop) -> Option<InstanceLock> {
    let mut waited_s = 0_u32;
    loop {
        match try_hold(db, processor, instance).await {
            Ok(Some(held)) => return Some(held),
            Ok(None) if waited_s.is_multiple_of(10) => tracing::warn!(
                %processor, instance, waited_s,
                "another process runs under this setting `process.instance`: waiting for it to end"
            ),
            Ok(None) => {}
            Err(problem) => tracing::warn!(%processor, error = chain(&problem), "processor waits for postgres"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => waited_s += 1,
        }
    }
}

async fn try_hold(db: &Db, processor: ProcessorName, instance: &str) -> Result<Option<InstanceLock>, Failure> {
    // Taken out of the pool, so that no other user of the pool gets a connection that holds the lock.
    let connection = deadpool_postgres::Object::take(db.get().await?);
    let name = format!("secretaria/{processor}/{instance}");
    let row = connection.query_one("select pg_try_advisory_lock(hashtextextended($1, 0))", &[&name]).await?;
    Ok(row.get::<_, bool>(0).then_some(InstanceLock { _connection: connection }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task;
    use crate::tests::database::in_a_database;

    const REPLY: ProcessorName = ProcessorName::named("reply");

    #[tokio::test]
    async fn a_second_process_of_one_name_waits_for_as_long_as_the_first_runs() {
        in_a_database(async |database| {
            let (db, stop) = (&database.service, Stop::new());
            let first = hold(db, REPLY, "one", &stop).await.unwrap();
            assert!(try_hold(db, REPLY, "one").await.unwrap().is_none());
            assert!(try_hold(db, REPLY, "two").await.unwrap().is_some(), "another instance is not concerned");
            assert!(
                try_hold(db, ProcessorName::named("delivery"), "one").await.unwrap().is_some(),
                "nor is another processor"
            );
            assert!(try_hold(db, REPLY, "one").await.unwrap().is_none(), "being refused frees nothing");

            let (there, timeout) = (db.clone(), stop.clone());
            let second = task::spawn("second", async move { hold(&there, REPLY, "one", &timeout).await });
            drop(first);
            assert!(second.await.unwrap().is_some());
        })
        .await;
    }

    #[tokio::test]
    async fn a_process_that_is_stopped_while_waiting_holds_nothing() {
        in_a_database(async |database| {
            let (db, stop) = (&database.service, Stop::new());
            let first = hold(db, REPLY, "one", &stop).await;
            assert!(first.is_some());
            stop.cancel();
            assert!(hold(db, REPLY, "one", &stop).await.is_none());
        })
        .await;
    }
}
