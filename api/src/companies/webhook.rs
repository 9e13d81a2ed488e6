//! The URL to which a company's alerts are sent, and the secret that signs them.
//!
//! A secret is made here and shown once; it is stored sealed. Safe to repeat, except a rotation, which makes a new secret
//! each time.

use std::time::Duration;

use domain::CompanyId;
use jiff::Timestamp;
use platform::egress::Policy;
use platform::postgres::{self, Db, GenericClient, execute, query};
use platform::seal::{Sealer, SecretColumn};
use platform::webhook::Secret;
use secrecy::{ExposeSecret, SecretString};

use super::{Error, check, store};

const SECRET: &str = "secret_sealed";
const PREVIOUS: &str = "previous_secret_sealed";

/// What to change about a company's webhook; by default nothing.
#[derive(Debug, Default)]
pub struct ChangeWebhook {
    /// The receiver's. Turns the webhook on.
    pub url: Option<String>,
    /// Make a new secret, and keep the present one valid for that long.
    pub rotate: Option<Duration>,
    /// Stop sending; URL and secret stay.
    pub off: bool,
}

/// A company's webhook after a change.
#[derive(Debug)]
pub struct Webhook {
    pub url: String,
    pub enabled: bool,
    /// The secret, if this change made it: it cannot be shown again.
    pub new_secret: Option<SecretString>,
    /// Until when the previous secret is valid too.
    pub previous_secret_until: Option<Timestamp>,
}

/// Changes a company's webhook and returns the result; the first URL makes it, with a secret.
///
/// At most two secrets are valid at any time: the next rotation makes one invalid that was already being rotated out.
///
/// # Errors
/// If there is no such company, it has no webhook and none is made, the URL is invalid, Postgres is away, or the
/// present secret was sealed under another key.
pub async fn change_webhook(
    db: &Db,
    sealer: &Sealer,
    domain: &str,
    change: ChangeWebhook,
    now: Timestamp,
    policy: Policy,
) -> Result<Webhook, Error> {
    let domain = check::domain(domain)?;
    let url = change.url.as_deref().map(|it| check::webhook_url(it, policy)).transpose()?;
    let until = change.rotate.map(|keep| check::end_of(now, keep)).transpose()?;
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Locks the company's row, so that two changes at once are made one after the other.
    let company = store::by_domain(&tx, &domain).await?.ok_or(Error::Unknown { domain })?.company_id;
    let mut row = match (find(&tx, company).await?, &url) {
        (Some(row), _) => row,
        (None, Some(url)) => Row { url: url.clone(), enabled: true, secret: Vec::new(), previous: None },
        (None, None) => {
            return Err(Error::Invalid { field: "url", problem: "must be given: the company has no webhook yet" });
        }
    };
    row.enabled = url.is_some() || row.enabled && !change.off;
    row.url = url.unwrap_or(row.url);
    let mut new_secret = None;
    if row.secret.is_empty() || until.is_some() {
        let secret = Secret::random()?.to_text();
        row.previous = sealed_as_previous(sealer, company, &row.secret, until.filter(|it| *it > now))?;
        row.secret = sealer.seal(place(SECRET, company), secret.expose_secret().as_bytes())?;
        new_secret = Some(secret);
    }
    put(&tx, company, &row).await?;
    tx.commit().await?;
    let previous_secret_until = row.previous.map(|(_, until)| until).filter(|it| *it > now);
    Ok(Webhook { url: row.url, enabled: row.enabled, new_secret, previous_secret_until })
}

/// A sealed secret is bound to its column, so the present one is sealed again for the column of the previous one.
fn sealed_as_previous(
    sealer: &Sealer,
    company: CompanyId,
    present: &[u8],
    until: Option<Timestamp>,
) -> Result<Option<(Vec<u8>, Timestamp)>, Error> {
    let Some(until) = until.filter(|_| !present.is_empty()) else { return Ok(None) };
    let opened = sealer.open(place(SECRET, company), present)?;
    Ok(Some((sealer.seal(place(PREVIOUS, company), opened.expose_secret())?, until)))
}

struct Row {
    url: String,
    enabled: bool,
    /// Empty in a webhook that is being made.
    secret: Vec<u8>,
    previous: Option<(Vec<u8>, Timestamp)>,
}

async fn find(client: &impl GenericClient, company: CompanyId) -> Result<Option<Row>, postgres::Error> {
    let sql = "
        select url, enabled, secret_sealed, previous_secret_sealed, previous_secret_until
        from company_webhooks
        where company_id = $1";
    let rows = query(client, sql, &[&company.0]).await?;
    rows.first()
        .map(|row| {
            let previous: (Option<Vec<u8>>, Option<Timestamp>) = (row.try_get(3)?, row.try_get(4)?);
            Ok(Row {
                url: row.try_get(0)?,
                enabled: row.try_get(1)?,
                secret: row.try_get(2)?,
                previous: previous.0.zip(previous.1),
            })
        })
        .transpose()
}

async fn put(client: &impl GenericClient, company: CompanyId, row: &Row) -> Result<(), postgres::Error> {
    let sql = "
        insert into company_webhooks
          (company_id, url, enabled, secret_sealed, previous_secret_sealed, previous_secret_until)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (company_id) do update
        set url = excluded.url,
            enabled = excluded.enabled,
            secret_sealed = excluded.secret_sealed,
            previous_secret_sealed = excluded.previous_secret_sealed,
            previous_secret_until = excluded.previous_secret_until,
            updated_at = now()";
    let (previous, until) = row.previous.as_ref().map(|(sealed, until)| (sealed, until)).unzip();
    execute(client, sql, &[&company.0, &row.url, &row.enabled, &row.secret, &previous, &until]).await?;
    Ok(())
}

fn place(column: &'static str, company: CompanyId) -> SecretColumn {
    SecretColumn { table: "company_webhooks", column, company }
}
