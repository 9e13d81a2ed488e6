//! `secretaria token` — a bearer token for the API.

use std::time::Duration;

use anyhow::Context;
use api::auth::{Keys, Scope};
use clap::{Args as ClapArgs, ValueEnum};
use platform::clock;

use super::{company_named, operator, say};
use crate::Settings;

/// Arguments of `token`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The company, by domain or id.
    #[arg(long)]
    company: String,
    /// What the token gives access to.
    #[arg(long, value_enum, default_value = "company")]
    scope: ScopeName,
    /// How long it is valid, in seconds; the default is the setting api.token_ttl_s.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
}

/// The scopes, by the names in tokens.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ScopeName {
    /// One company's own data.
    Company,
    /// Any company's data, one at a time.
    Operator,
}

/// Prints a token and nothing else.
///
/// # Errors
/// If the company is unknown or the signing key is missing.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<()> {
    let company = company_named(&operator(settings).await?, &args.company).await?;
    let keys = Keys::from_pkcs8_file(&settings.keys.signing_key()).context("`secretaria migrate` makes the key")?;
    let scope = match args.scope {
        ScopeName::Company => Scope::Company,
        ScopeName::Operator => Scope::Operator,
    };
    let ttl = args.ttl.map_or_else(|| settings.api.token_ttl(), Duration::from_secs);
    say(keys.issue(company, scope, clock::now(), ttl)?)?;
    Ok(())
}
