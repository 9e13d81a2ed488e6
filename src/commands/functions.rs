//! The functions, triggers and views of `sql/functions/`, which decide and count where the extension is not installed.
//!
//! They are replaced as a whole in one transaction, after the migrations and each time: safe to repeat.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio_postgres::Client;

/// Files with their texts. Their paths below `sql/functions/` are in the order in which they are run.
macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../sql/functions/", $path)))),+]
    };
}

const FILES: &[(&str, &str)] = files![
    "00_dropped.sql",
    "10_callers/authorise.sql",
    "10_callers/company_roles.sql",
    "20_entitlements/materialise.sql",
    "20_entitlements/periods.sql",
    "20_entitlements/resolve.sql",
    "30_checks/check.sql",
    "30_checks/check_many.sql",
    "40_counters/alerts.sql",
    "40_counters/book.sql",
    "40_counters/closed_periods.sql",
    "40_counters/ledger_lines.sql",
    "40_counters/shards.sql",
    "50_increments/increment.sql",
    "50_increments/model_calls.sql",
    "55_bulk/answers.sql",
    "55_bulk/counters.sql",
    "55_bulk/facts.sql",
    "55_bulk/increments.sql",
    "55_bulk/prepare.sql",
    "60_reservations/reserve.sql",
    "60_reservations/reserve_many.sql",
    "60_reservations/settle.sql",
    "70_corrections/adjust.sql",
    "70_corrections/credits.sql",
    "70_corrections/ledger.sql",
    "80_lifecycle/plan_changes.sql",
    "80_lifecycle/subscriptions.sql",
    "90_reports/model_usage.sql",
    "99_privileges.sql",
];

/// Any number that other applications in the same database are unlikely to lock.
const LOCK: i64 = 0x5ec2_e7a2_1a01;
const LOCK_WAIT_S: u64 = 60;

/// Brings the functions, triggers and views to this build's, all or none.
///
/// # Errors
/// If Postgres is away or refuses a file, or another process is replacing them for over a minute.
pub async fn apply(client: &mut Client) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    let mut waited_s = 0;
    // Polled, as for the migrations: two builds replacing one function at once would fail, not wait.
    while !transaction.query_one("select pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        if waited_s >= LOCK_WAIT_S {
            bail!("another process has been replacing the functions for {waited_s} s");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited_s += 1;
    }
    for (path, text) in FILES {
        transaction.batch_execute(text).await.with_context(|| format!("sql/functions/{path}"))?;
    }
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::FILES;

    fn below(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        entries.flat_map(|it| if it.is_dir() { below(&it) } else { vec![it] }).collect()
    }

    #[test]
    fn every_file_of_the_folder_is_applied_in_the_order_of_its_path() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/functions");
        let mut found = below(&folder);
        found.sort();
        let found: Vec<_> = found.iter().map(|it| it.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
        assert_eq!(FILES.iter().map(|(path, _)| *path).collect::<Vec<_>>(), found);
    }
}
