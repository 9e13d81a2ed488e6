//! `secretaria company` — add, list and change companies.

use std::time::Duration;

use anyhow::bail;
use api::companies::{self, Auth, ChangeWebhook, Channel, ListedCompany, NewCompany};
use clap::{Args, Subcommand};
use platform::clock;
use platform::postgres::Db;
use platform::seal::Sealer;
use secrecy::{ExposeSecret, SecretString};

use super::{named, operator, say};
use crate::Settings;

/// The subcommands of `company`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a company, or change the given values of the one with that domain; prints its webhook secret.
    Add(Box<Add>),
    /// One line per company.
    List,
    /// Give a company a new webhook secret; the old one stays valid for a while.
    RotateSecret(Rotate),
    /// Show or change where a company's alerts are sent; prints the signing secret only when it is made.
    Webhook(Webhook),
}

/// The values of a company. Secrets can come from the environment, so that no process list shows them.
#[derive(Debug, Args)]
pub struct Add {
    /// Its name in the header X-Company-Domain.
    #[arg(long)]
    domain: String,
    /// Its display name.
    #[arg(long)]
    name: Option<String>,
    /// Its IANA time zone.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Who the assistant is and what it knows: prices, opening hours, tone.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The reply when no model answers.
    #[arg(long, value_name = "TEXT")]
    fallback: Option<String>,
    /// The base URL of its Whaticket bridge.
    #[arg(long, value_name = "URL")]
    whaticket: Option<String>,
    /// The bridge's token.
    #[arg(long, env = "SECRETARIA_WHATICKET_TOKEN", hide_env_values = true, requires = "whaticket")]
    whaticket_token: Option<String>,
    /// The e-mail of an account at the bridge, instead of a token.
    #[arg(long, requires = "whaticket", conflicts_with = "whaticket_token")]
    whaticket_email: Option<String>,
    /// The account's password.
    #[arg(long, env = "SECRETARIA_WHATICKET_PASSWORD", hide_env_values = true)]
    whaticket_password: Option<String>,
    /// The webhook secret, instead of a random one.
    #[arg(long, env = "SECRETARIA_HOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Require this X-Webhook-Token of producers, besides the signature.
    #[arg(long, env = "SECRETARIA_HOOK_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Which company, and how long its old secret stays valid.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The company, by domain.
    #[arg(long)]
    domain: String,
    /// How long webhooks signed with the old secret are accepted, in hours.
    #[arg(long, default_value_t = 24)]
    keep_hours: u32,
}

/// Where a company's alerts are sent.
#[derive(Debug, Args)]
pub struct Webhook {
    /// The company, by domain or id.
    #[arg(long, visible_alias = "domain")]
    company: String,
    /// The receiver: https:// and a public host. Turns the webhook on.
    #[arg(long, conflicts_with = "off")]
    url: Option<String>,
    /// Make a new secret; for a while calls are signed with the old one too.
    #[arg(long)]
    rotate: bool,
    /// How long that while is, in hours.
    #[arg(long, default_value_t = 24, requires = "rotate")]
    keep_hours: u32,
    /// Stop sending; URL and secret are kept.
    #[arg(long)]
    off: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// If Postgres is away, a value is invalid, or the keys are missing.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    let db = operator(settings).await?;
    match command {
        Command::Add(args) => {
            let sealer = Sealer::from_file(&settings.keys.key_encryption_key())?;
            let added = companies::add(&db, &sealer, read(*args)?).await?;
            say(format_args!("company          {}", added.company_id))?;
            say(format_args!("webhook secret   {}", added.webhook_secret.expose_secret()))?;
        }
        Command::List => {
            let companies = companies::list(&db).await?;
            for line in table(&companies).into_iter().chain(warnings(&companies)) {
                say(line)?;
            }
        }
        Command::RotateSecret(args) => {
            let sealer = Sealer::from_file(&settings.keys.key_encryption_key())?;
            let keep = Duration::from_secs(u64::from(args.keep_hours) * 3_600);
            let secret = companies::rotate_secret(&db, &sealer, &args.domain, clock::now(), keep).await?;
            say(format_args!("webhook secret   {}", secret.expose_secret()))?;
            say(format_args!("the old one is valid for {} h more", args.keep_hours))?;
        }
        Command::Webhook(args) => webhook(settings, &db, args).await?,
    }
    Ok(())
}

async fn webhook(settings: &Settings, db: &Db, args: Webhook) -> anyhow::Result<()> {
    let sealer = Sealer::from_file(&settings.keys.key_encryption_key())?;
    let keep = Duration::from_secs(u64::from(args.keep_hours) * 3_600);
    let change = ChangeWebhook { url: args.url, rotate: args.rotate.then_some(keep), off: args.off };
    let policy = crate::processors::webhook_policy(settings);
    let (_, domain) = named(db, &args.company).await?;
    let webhook = companies::change_webhook(db, &sealer, &domain, change, clock::now(), policy).await?;
    let state = if webhook.enabled { "" } else { "   (off)" };
    say(format_args!("url              {}{state}", webhook.url))?;
    if let Some(secret) = webhook.new_secret {
        say(format_args!("signing secret   {}", secret.expose_secret()))?;
    }
    if let Some(until) = webhook.previous_secret_until {
        say(format_args!("the old one is valid until {until}"))?;
    }
    Ok(())
}

/// A header and a line per company, each column as wide as its longest value.
fn table(companies: &[ListedCompany]) -> Vec<String> {
    let mut rows = vec![["company", "domain", "status", "time zone", "channel", "name"].map(str::to_owned)];
    rows.extend(companies.iter().map(|it| {
        let channel = it.channel_url.clone().unwrap_or_else(|| "none".to_owned());
        let id = it.company_id.to_string();
        [id, it.domain.clone(), it.status.clone(), it.time_zone.clone(), channel, it.name.clone()]
    }));
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(widest);
    let line = |row: &[String; 6]| {
        let [company, rest @ ..] = row;
        let first = format!("{company:>width$}", width = widths[0]);
        let rest = rest.iter().zip(&widths[1..]).map(|(cell, width)| format!("{cell:<width$}"));
        let cells: Vec<String> = std::iter::once(first).chain(rest).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Warns of domains of digits alone, which could be registered before they were refused.
pub(super) fn warnings(companies: &[ListedCompany]) -> Vec<String> {
    let unreachable = companies.iter().filter(|it| companies::reads_as_id(&it.domain));
    let line = |it: &ListedCompany| {
        let (domain, id) = (&it.domain, it.company_id);
        format!("warning: `--company {domain}` is the company with the id {domain}; the one with that domain is {id}")
    };
    unreachable.map(line).collect()
}

fn read(args: Add) -> anyhow::Result<NewCompany> {
    let auth = match (args.whaticket_token, args.whaticket_email, args.whaticket_password) {
        (Some(token), None, _) => Some(Auth::Token(SecretString::from(token))),
        (None, Some(email), Some(password)) => Some(Auth::Login { email, password: SecretString::from(password) }),
        (None, Some(_), None) => bail!("--whaticket-email needs --whaticket-password"),
        _ => None,
    };
    let channel = match (args.whaticket, auth) {
        (Some(base_url), Some(auth)) => Some(Channel { base_url, auth }),
        (Some(_), None) => bail!("--whaticket needs --whaticket-token, or --whaticket-email and --whaticket-password"),
        (None, _) => None,
    };
    Ok(NewCompany {
        domain: args.domain,
        name: args.name,
        time_zone: args.time_zone,
        assistant_prompt: args.prompt,
        fallback_text: args.fallback,
        channel,
        webhook_secret: args.secret.map(SecretString::from),
        webhook_token: args.token.map(SecretString::from),
    })
}
