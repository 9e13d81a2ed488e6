//! A read-only transaction for one company, in which row-level security shows that company's rows and no others.
//!
//! The company is set for the transaction only, so a pooled connection carries nothing over. All statements of a
//! transaction see the same snapshot.

use deadpool_postgres::{Object, Transaction};
use domain::CompanyId;
use jiff::tz::TimeZone;
use platform::postgres::query;
use tokio_postgres::IsolationLevel;

use crate::Rejection;

/// Begins the transaction; it ends when it is committed or dropped.
pub(crate) async fn begin(client: &mut Object, company: CompanyId) -> Result<Transaction<'_>, Rejection> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    query(&transaction, "select set_config('app.company_id', $1, true)", &[&company.to_string()]).await?;
    Ok(transaction)
}

/// The time zone in which the company's days begin. Fails with `UnknownCompany` if there is no such company.
pub(crate) async fn time_zone(transaction: &Transaction<'_>, company: CompanyId) -> Result<TimeZone, Rejection> {
    let sql = "select time_zone from companies where company_id = $1";
    let rows = query(transaction, sql, &[&company.0]).await?;
    let row = rows.first().ok_or(Rejection::UnknownCompany)?;
    TimeZone::get(row.try_get("time_zone")?).map_err(Rejection::Zone)
}
