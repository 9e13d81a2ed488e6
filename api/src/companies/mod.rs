//! Adds and changes companies for the operator. The only module that writes the tables `companies`, `channels` and
//! `company_webhooks`.
//!
//! Uses the pool of `secretaria_operator`. Every secret is sealed for its own row and column before it is written; a
//! trigger sends the notification `companies_changed`. Adding, setting and ensuring are safe to repeat; rotating makes a
//! new secret each time.

mod check;
mod store;
mod webhook;

use std::time::Duration;

use domain::CompanyId;
use jiff::Timestamp;
use platform::postgres::{self, Db};
use platform::seal::{self, Sealer, SecretColumn};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

pub use check::reads_as_id;
pub use webhook::{ChangeWebhook, Webhook, change_webhook};

/// The company that exists after the migrations.
pub const DEFAULT_DOMAIN: &str = "default.local";

/// The plan of a new company.
pub const FIRST_PLAN: &str = "starter";

const TABLE: &str = "companies";
const SECRET: &str = "webhook_secret_sealed";
const PREVIOUS_SECRET: &str = "webhook_secret_previous_sealed";

/// A company could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value is invalid.
    #[error("{field}: {problem}")]
    Invalid {
        field: &'static str,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
    #[error("no company has the domain `{domain}`")]
    Unknown { domain: String },
    /// Postgres is away or refused.
    #[error("companies cannot be read or written")]
    Postgres(#[from] postgres::Failure),
    /// A secret could not be sealed or opened.
    #[error("a company's secret cannot be sealed or opened")]
    Sealing(#[from] seal::Error),
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        Error::Postgres(error.into())
    }
}

/// A company to add, or what to change about one. What is `None` stays, or gets its default in a new one.
#[derive(Debug, Default)]
pub struct NewCompany {
    /// Its name in `X-Company-Domain`, in lower case. Decides whether the company is new.
    pub domain: String,
    /// Its display name. Default: the domain.
    pub name: Option<String>,
    /// The IANA time zone in which its days begin. Default: `America/Sao_Paulo`.
    pub time_zone: Option<String>,
    /// Who the assistant is and what it knows. Default: empty.
    pub assistant_prompt: Option<String>,
    /// The reply when no model answers. Default: the product's.
    pub fallback_text: Option<String>,
    /// The bridge through which its contacts are reached.
    pub channel: Option<Channel>,
    /// Signs its webhooks. Default: 32 random bytes, as hex digits.
    pub webhook_secret: Option<SecretString>,
    /// Required as `X-Webhook-Token`, besides the signature. Default: not required.
    pub webhook_token: Option<SecretString>,
}

#[derive(Debug)]
pub struct Channel {
    /// `http://` or `https://`.
    pub base_url: String,
    pub auth: Auth,
}

/// How we authenticate at a bridge.
#[derive(Debug)]
pub enum Auth {
    Token(SecretString),
    Login { email: String, password: SecretString },
}

/// The result of [`add`].
#[derive(Debug)]
pub struct AddedCompany {
    pub company_id: CompanyId,
    pub webhook_secret: SecretString,
}

/// One company of [`list`]; holds nothing secret.
#[derive(Debug, Serialize)]
pub struct ListedCompany {
    pub company_id: CompanyId,
    pub domain: String,
    pub name: String,
    pub status: String,
    pub time_zone: String,
    /// Until when its previous secret is valid too.
    pub previous_secret_until: Option<Timestamp>,
    /// The base URL of its bridge.
    pub channel_url: Option<String>,
}

/// Adds a company, or changes the given values of the one with that domain. Its secret stays unless one is given.
///
/// # Errors
/// If a value is invalid, Postgres is away, or the company's secret was sealed under another key.
pub async fn add(db: &Db, sealer: &Sealer, company: NewCompany) -> Result<AddedCompany, Error> {
    let company = check::company(company)?;
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let known = match store::by_domain(&transaction, &company.domain).await? {
        Some(known) => known,
        None => store::insert(&transaction, check::new_domain(&company.domain)?).await?,
    };
    let webhook_secret = match (&company.webhook_secret, known.secret(sealer)?) {
        (None, Some(kept)) => kept,
        (given, _) => {
            let secret = given.clone().map_or_else(random_secret, Ok)?;
            let sealed = sealer.seal(place(SECRET, known.company_id), secret.expose_secret().as_bytes())?;
            store::set_secret(&transaction, known.company_id, &sealed).await?;
            secret
        }
    };
    store::update(&transaction, known.company_id, &company).await?;
    if let Some(channel) = &company.channel {
        store::put_channel(&transaction, sealer, known.company_id, channel).await?;
    }
    store::subscribe(&transaction, known.company_id, FIRST_PLAN).await?;
    transaction.commit().await?;
    Ok(AddedCompany { company_id: known.company_id, webhook_secret })
}

/// Puts every company that has never had a subscription on [`FIRST_PLAN`]; returns how many there were.
///
/// # Errors
/// If Postgres is away or refuses.
pub async fn subscribe_all(db: &Db) -> Result<usize, Error> {
    let mut client = db.get().await?;
    let companies = store::without_subscription(&client).await?;
    for &company in &companies {
        let transaction = client.transaction().await?;
        store::subscribe(&transaction, company, FIRST_PLAN).await?;
        transaction.commit().await?;
    }
    Ok(companies.len())
}

/// Adds [`DEFAULT_DOMAIN`], with a random secret, if it is missing; `None` if it was there.
///
/// # Errors
/// As [`add`].
pub async fn ensure_default(db: &Db, sealer: &Sealer) -> Result<Option<AddedCompany>, Error> {
    match named(db, DEFAULT_DOMAIN).await {
        Ok(_) => Ok(None),
        Err(Error::Unknown { .. }) => {
            add(db, sealer, NewCompany { domain: DEFAULT_DOMAIN.into(), ..NewCompany::default() }).await.map(Some)
        }
        Err(error) => Err(error),
    }
}

/// Every company, by id.
///
/// # Errors
/// If Postgres is away.
pub async fn list(db: &Db) -> Result<Vec<ListedCompany>, Error> {
    store::list(&db.get().await?).await
}

/// The company of that domain.
///
/// # Errors
/// If there is none, or Postgres is away.
pub async fn named(db: &Db, domain: &str) -> Result<CompanyId, Error> {
    let domain = check::domain(domain)?;
    let known = store::by_domain(&db.get().await?, &domain).await?;
    known.map(|it| it.company_id).ok_or(Error::Unknown { domain })
}

/// Gives a company a new random secret; the one it had stays valid for `keep_previous_for`.
///
/// At most two are valid at any time: one that was already being rotated out becomes invalid here.
///
/// # Errors
/// If there is no such company, Postgres is away, or the present secret was sealed under another key.
pub async fn rotate_secret(
    db: &Db,
    sealer: &Sealer,
    domain: &str,
    now: Timestamp,
    keep_previous_for: Duration,
) -> Result<SecretString, Error> {
    let fresh = random_secret()?;
    set_secret(db, sealer, domain, fresh.clone(), now, keep_previous_for).await?;
    Ok(fresh)
}

/// Gives a company that secret, otherwise like [`rotate_secret`]. If it has that secret already, nothing changes.
///
/// # Errors
/// As [`rotate_secret`], and if the secret is too short to be one.
pub async fn set_secret(
    db: &Db,
    sealer: &Sealer,
    domain: &str,
    secret: SecretString,
    now: Timestamp,
    keep_previous_for: Duration,
) -> Result<(), Error> {
    let (domain, secret) = (check::domain(domain)?, check::secret("webhook_secret", secret)?);
    let until = check::end_of(now, keep_previous_for)?;
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let known = store::by_domain(&transaction, &domain).await?.ok_or(Error::Unknown { domain })?;
    let current = known.secret(sealer)?;
    if current.as_ref().is_some_and(|it| it.expose_secret() == secret.expose_secret()) {
        return Ok(());
    }
    // A sealed secret is bound to its column, so the present one is sealed again for the column of the previous one.
    let kept = current.filter(|_| until > now);
    let kept = kept
        .map(|it| sealer.seal(place(PREVIOUS_SECRET, known.company_id), it.expose_secret().as_bytes()))
        .transpose()?;
    let sealed = sealer.seal(place(SECRET, known.company_id), secret.expose_secret().as_bytes())?;
    store::set_previous(&transaction, known.company_id, kept.as_deref(), kept.as_ref().map(|_| until)).await?;
    store::set_secret(&transaction, known.company_id, &sealed).await?;
    Ok(transaction.commit().await?)
}

fn random_secret() -> Result<SecretString, seal::Error> {
    Ok(SecretString::from(hex::encode(seal::random_bytes::<32>()?)))
}

fn place(column: &'static str, company: CompanyId) -> SecretColumn {
    SecretColumn { table: TABLE, column, company }
}
