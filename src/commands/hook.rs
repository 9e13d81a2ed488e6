//! `secretaria hook` — signs a webhook, or signs and sends one, from the shell.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args as ClapArgs, Subcommand};
use ingest::signature::{self, COMPANY_HEADER, IDEMPOTENCY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, TOKEN_HEADER};
use platform::clock;
use platform::postgres::query;
use platform::seal::{Sealer, SecretColumn};
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::json;

use super::{company_named, operator, say};
use crate::Settings;

/// The subcommands of `hook`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a curl command that sends a signed webhook.
    Sign(Args),
    /// Send a signed webhook and explain the response.
    Send(Args),
}

/// What to sign.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The company, by domain or id.
    #[arg(long)]
    company: String,
    /// The text that the contact writes; this or --body.
    #[arg(long, conflicts_with = "body")]
    text: Option<String>,
    /// The contact's number.
    #[arg(long, default_value = "5511999990001")]
    number: String,
    /// The provider's id of the message; a second one with the same id is a repeat.
    #[arg(long)]
    id: Option<String>,
    /// A file with the whole body, instead of --text; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
    /// The secret; without it, the company's own is read from the database.
    #[arg(long, env = "SECRETARIA_HOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The X-Webhook-Token, for a company that requires one.
    #[arg(long, env = "SECRETARIA_HOOK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The timestamp, in epoch seconds, instead of now.
    #[arg(long)]
    timestamp: Option<i64>,
    /// An X-Idempotency-Key.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The URL to send it to, instead of the local process.
    #[arg(long)]
    url: Option<String>,
}

/// Signs, and sends if asked to.
///
/// # Errors
/// If the company or its secret cannot be read, or the URL does not answer.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<ExitCode> {
    let (args, sends) = match command {
        Command::Sign(args) => (args, None),
        Command::Send(args) => (args, Some(())),
    };
    let body = body(&args)?;
    let (domain, secret) = credentials(settings, &args).await?;
    let timestamp = args.timestamp.unwrap_or_else(|| clock::now().as_second());
    let signature = signature::sign(secret.expose_secret(), timestamp, body.as_bytes());
    let mut headers = vec![
        (COMPANY_HEADER, domain),
        (TIMESTAMP_HEADER, timestamp.to_string()),
        (SIGNATURE_HEADER, signature),
        ("content-type", "application/json".to_owned()),
    ];
    headers.extend(args.token.clone().map(|it| (TOKEN_HEADER, it)));
    headers.extend(args.idempotency_key.clone().map(|it| (IDEMPOTENCY_HEADER, it)));
    let url = args.url.clone().unwrap_or_else(|| format!("http://{}/webhook/whaticket", settings.http.listen));
    if sends.is_none() {
        say(format_args!("curl -sS -X POST {url} \\"))?;
        for (name, value) in headers {
            say(format_args!("  -H '{name}: {value}' \\"))?;
        }
        say(format_args!("  --data-binary '{}'", body.replace('\'', r"'\''")))?;
        return Ok(ExitCode::SUCCESS);
    }
    send(&url, headers, body).await
}

async fn send(url: &str, headers: Vec<(&'static str, String)>, body: String) -> anyhow::Result<ExitCode> {
    let example = "such as http://127.0.0.1:8080/webhook/whaticket";
    let parsed =
        reqwest::Url::parse(url).with_context(|| format!("--url {url} is malformed: give a whole URL, {example}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        bail!("--url {url} is malformed: only http and https are supported, {example}");
    }
    let mut request =
        reqwest::Client::builder().timeout(std::time::Duration::from_secs(15)).build()?.post(parsed).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request.send().await.with_context(|| format!("{url} does not answer; `make dev` serves there"))?;
    let status = response.status();
    let answer = response.text().await.unwrap_or_default();
    say(format_args!("{status}  {answer}"))?;
    say(explanation(status.as_u16()))?;
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explanation(status: u16) -> &'static str {
    match status {
        202 => "accepted and durable: it will be answered, or ignored with a recorded reason",
        400 | 422 => "refused: the body is invalid; the field that is wrong is named above",
        401 => "refused: it is not proven that this company sent it; the reason is named above",
        404 | 405 => "no webhooks are accepted at this URL",
        408 => "the body did not arrive completely: send the very same webhook again",
        413 => "refused: the body is too large",
        503 => "perhaps not stored: send the very same webhook again, it will be answered once",
        _ => "this status is not one that Secretaria sends",
    }
}

fn body(args: &Args) -> anyhow::Result<String> {
    match (&args.body, &args.text) {
        (Some(path), _) if path == "-" => Ok(std::io::read_to_string(std::io::stdin())?),
        (Some(path), _) => std::fs::read_to_string(path).with_context(|| format!("body file {path}")),
        (None, Some(text)) => {
            let mut hook = json!({ "message": { "conversation": text }, "number": args.number });
            if let Some(id) = &args.id {
                hook["id"] = json!(id);
            }
            Ok(hook.to_string())
        }
        (None, None) => bail!("nothing to send: give --text TEXT or --body FILE"),
    }
}

/// The company's domain and the secret to sign with: the one given, or its own.
async fn credentials(settings: &Settings, args: &Args) -> anyhow::Result<(String, SecretSlice<u8>)> {
    if let Some(secret) = &args.secret {
        if args.company.bytes().all(|it| it.is_ascii_digit()) {
            bail!(
                "--company {}: with a --secret nothing is looked up, so name the company by its domain",
                args.company
            );
        }
        return Ok((args.company.clone(), SecretSlice::from(secret.as_bytes().to_vec())));
    }
    let db = operator(settings).await?;
    let company = company_named(&db, &args.company).await?;
    let sealer = Sealer::from_file(&settings.keys.key_encryption_key())?;
    let sql = "select domain, webhook_secret_sealed from secretaria.companies where company_id = $1";
    let rows = query(&db.get().await?, sql, &[&company.0]).await?;
    let row = rows.first().context("the company is gone")?;
    let sealed: Option<&[u8]> = row.get(1);
    let place = SecretColumn { table: "companies", column: "webhook_secret_sealed", company };
    Ok((row.get(0), sealer.open(place, sealed.context("the company has no secret")?)?))
}
