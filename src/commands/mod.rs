//! The subcommands that do not serve, one file each.

pub mod migrate;
pub mod functions;
pub mod config;
pub mod openapi;
pub mod token;
pub mod company;
pub mod hook;
pub mod follow;
pub mod dead_letters;
pub mod queue;
pub mod conservation;
pub mod quota;
pub mod rebind;
pub mod lake;
pub mod rollup;
pub mod report;
mod old_processes;
mod progress;
mod say;
mod whole_file;

pub use say::is_broken_pipe;

use anyhow::{Context, bail};
use api::companies;
use domain::CompanyId;
use platform::postgres::{Db, query};

use crate::Settings;
use say::say;

/// The operator's pool, already connected, so that every command that needs Postgres fails here if it is away.
async fn operator(settings: &Settings) -> anyhow::Result<Db> {
    let db = Db::new(&settings.postgres.operator_url, &settings.postgres, "operator")?;
    db.get().await.map(drop).context("is the stack running? `make up` starts it")?;
    Ok(db)
}

/// The company of that domain or id.
async fn company_named(db: &Db, name: &str) -> anyhow::Result<CompanyId> {
    Ok(named(db, name).await?.0)
}

/// The id and the domain of the company of that domain or id. Digits alone are an id, even if a domain is the same digits.
async fn named(db: &Db, name: &str) -> anyhow::Result<(CompanyId, String)> {
    let column = if companies::reads_as_id(name) { "company_id::text = $1" } else { "domain = lower($1)" };
    let sql = format!("select company_id, domain from secretaria.companies where {column}");
    let rows = query(&db.get().await?, &sql, &[&name]).await?;
    match rows.first() {
        Some(row) => Ok((CompanyId(row.get(0)), row.get(1))),
        None => bail!("no company `{name}`: `secretaria company list` shows them"),
    }
}
