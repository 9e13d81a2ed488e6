//! What a person at a shell asks for, one command a file.

pub mod migrate;
pub mod config;
pub mod token;
pub mod company;
pub mod hook;
pub mod follow;
pub mod parked;
pub mod conservation;

use anyhow::{Context, bail};
use domain::CompanyId;
use platform::postgres::{Db, query};

use crate::Settings;

/// The operator's pool.
fn operator(settings: &Settings) -> anyhow::Result<Db> {
    Ok(Db::new(&settings.postgres.operator_url, &settings.postgres, "operator")?)
}

/// The company a person named by its domain or its id.
async fn company_named(db: &Db, name: &str) -> anyhow::Result<CompanyId> {
    let rows = query(
        &db.get().await.context("is the stack running? `make up` starts it")?,
        "select company_id from secretaria.companies where domain = lower($1) or company_id::text = $1",
        &[&name],
    )
    .await?;
    match rows.first() {
        Some(row) => Ok(CompanyId(row.get(0))),
        None => bail!("no company `{name}`: `secretaria company list` shows them"),
    }
}
