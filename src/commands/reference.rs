//! The reference functions in PL/pgSQL, which decide and count where the extension is not installed.
//!
//! They are replaced as a whole in one transaction, after the migrations and each time: safe to repeat.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio_postgres::Client;

/// The files, in the order they build on each other.
const FILES: &[(&str, &str)] = &[
    ("10_callers.sql", include_str!("../../sql/reference/10_callers.sql")),
    ("20_periods.sql", include_str!("../../sql/reference/20_periods.sql")),
    ("30_resolution.sql", include_str!("../../sql/reference/30_resolution.sql")),
    ("35_materialising.sql", include_str!("../../sql/reference/35_materialising.sql")),
    ("40_checks.sql", include_str!("../../sql/reference/40_checks.sql")),
    ("41_many_checks.sql", include_str!("../../sql/reference/41_many_checks.sql")),
    ("45_slots.sql", include_str!("../../sql/reference/45_slots.sql")),
    ("50_lines.sql", include_str!("../../sql/reference/50_lines.sql")),
    ("51_alerts.sql", include_str!("../../sql/reference/51_alerts.sql")),
    ("52_booking.sql", include_str!("../../sql/reference/52_booking.sql")),
    ("53_late.sql", include_str!("../../sql/reference/53_late.sql")),
    ("54_bulk.sql", include_str!("../../sql/reference/54_bulk.sql")),
    ("54_bulk_counters.sql", include_str!("../../sql/reference/54_bulk_counters.sql")),
    ("55_facts.sql", include_str!("../../sql/reference/55_facts.sql")),
    ("56_bulk_answers.sql", include_str!("../../sql/reference/56_bulk_answers.sql")),
    ("57_bulk_increments.sql", include_str!("../../sql/reference/57_bulk_increments.sql")),
    ("58_increments.sql", include_str!("../../sql/reference/58_increments.sql")),
    ("60_reservations.sql", include_str!("../../sql/reference/60_reservations.sql")),
    ("61_settling.sql", include_str!("../../sql/reference/61_settling.sql")),
    ("62_many_reservations.sql", include_str!("../../sql/reference/62_many_reservations.sql")),
    ("70_corrections.sql", include_str!("../../sql/reference/70_corrections.sql")),
    ("71_credits.sql", include_str!("../../sql/reference/71_credits.sql")),
    ("72_model_calls.sql", include_str!("../../sql/reference/72_model_calls.sql")),
    ("73_ledger.sql", include_str!("../../sql/reference/73_ledger.sql")),
    ("80_lifecycle.sql", include_str!("../../sql/reference/80_lifecycle.sql")),
    ("81_company_roles.sql", include_str!("../../sql/reference/81_company_roles.sql")),
    ("82_plan_changes.sql", include_str!("../../sql/reference/82_plan_changes.sql")),
    ("90_views.sql", include_str!("../../sql/reference/90_views.sql")),
];

/// Any number that other applications in the same database are unlikely to lock.
const LOCK: i64 = 0x5ec2_e7a2_1a01;
const LOCK_WAIT_S: u64 = 60;

/// Brings the functions, triggers and views of the reference to this build's, all or none.
///
/// # Errors
/// If Postgres is away or refuses a file, or another process is at it for over a minute.
pub async fn apply(client: &mut Client) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    let mut waited_s = 0;
    // Polled, as for the migrations: two builds replacing one function at once would fail, not wait.
    while !transaction.query_one("select pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        if waited_s >= LOCK_WAIT_S {
            bail!("another process has been replacing the reference functions for {waited_s} s");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited_s += 1;
    }
    for (name, text) in FILES {
        transaction.batch_execute(text).await.with_context(|| format!("sql/reference/{name}"))?;
    }
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_of_the_folder_is_applied_in_the_order_of_its_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/reference");
        let mut found: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .filter(|it| it.ends_with(".sql"))
            .collect();
        found.sort();
        assert_eq!(FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), found);
    }
}
