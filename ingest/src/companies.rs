//! The directory of companies that may send webhooks, in memory.
//!
//! A snapshot that is read in the background: after each `companies_changed` notification of Postgres, and every
//! `refresh_s` besides. The last good one is kept while Postgres is away. Before the first one no company can be
//! verified, and the answer is 503.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::http::HeaderMap;
use domain::CompanyId;
use domain::placement::{CompanyPartitions, DEFAULT_SPREAD};
use jiff::Timestamp;
use metrics::{Counter, counter};
use platform::metric;
use platform::postgres::{self, Db, Failure, Row};
use platform::seal::{self, Sealer, SecretColumn};
use platform::task::Stop;
use platform::telemetry::chain;
use secrecy::ExposeSecret;
use tokio::sync::Notify;

use crate::rejection::Unavailable;
use crate::signature::{COMPANY_HEADER, Secrets, Token};

/// What verifying and publishing a webhook needs to know about its company.
#[derive(Debug)]
pub(crate) struct Company {
    pub(crate) id: CompanyId,
    pub(crate) secrets: Secrets,
    pub(crate) token: Option<Token>,
    pub(crate) share: CompanyPartitions,
    pub(crate) record_headers: RecordHeaders,
    pub(crate) accepted: Counter,
}

/// The header values that all records of a company share, as text.
#[derive(Debug, Clone)]
pub(crate) struct RecordHeaders {
    pub(crate) id: Arc<str>,
    pub(crate) epoch: Arc<str>,
}

/// The companies that may send webhooks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Companies {
    snapshot: Arc<ArcSwapOption<Snapshot>>,
}

#[derive(Debug)]
struct Snapshot {
    /// `None`: its secret cannot be opened, so its webhooks cannot be verified.
    by_domain: HashMap<String, Option<Arc<Company>>>,
    unknown: Arc<Company>,
}

impl Companies {
    /// The company that a webhook names. If there is none of that name, a placeholder that no signature is valid for. A
    /// company whose secret cannot be opened is our fault, so its webhooks get a 503 and are not refused as forged.
    pub(crate) fn named_by(&self, headers: &HeaderMap) -> Result<Arc<Company>, Unavailable> {
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_ref().ok_or(Unavailable::DirectoryNotLoaded)?;
        let domain = headers.get(COMPANY_HEADER).and_then(|it| it.to_str().ok()).unwrap_or_default().trim();
        let known = match snapshot.by_domain.get(domain) {
            Some(company) => Some(company),
            None => snapshot.by_domain.get(&domain.to_ascii_lowercase()),
        };
        match known {
            Some(company) => company.clone().ok_or(Unavailable::DirectoryNotLoaded),
            None => Ok(Arc::clone(&snapshot.unknown)),
        }
    }

    /// One company that signs with this secret; every other one is unknown.
    #[cfg(test)]
    pub(crate) fn of_one(domain: &str, secrets: Secrets) -> Self {
        let company = Company { id: CompanyId(7), secrets, ..unknown_company() };
        let by_domain = HashMap::from([(domain.to_owned(), Some(Arc::new(company)))]);
        let snapshot = Snapshot { by_domain, unknown: Arc::new(unknown_company()) };
        Companies { snapshot: Arc::new(ArcSwapOption::from_pointee(snapshot)) }
    }

    /// Whether there is a snapshot.
    pub fn is_loaded(&self) -> bool {
        self.snapshot.load().is_some()
    }

    /// Keeps the snapshot current until stopped.
    pub async fn keep_current(self, source: Source, changed: Arc<Notify>, refresh_s: u64, stop: Stop) {
        loop {
            let wait = match load(&source).await {
                Ok(snapshot) => {
                    tracing::debug!(companies = snapshot.by_domain.len(), "companies loaded");
                    self.snapshot.store(Some(Arc::new(snapshot)));
                    Duration::from_secs(refresh_s)
                }
                Err(problem) => {
                    tracing::warn!(error = chain(&problem), "companies cannot be loaded; the last snapshot is kept");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// What reading the companies needs.
pub struct Source {
    pub db: Db,
    pub sealer: Arc<Sealer>,
    /// How many partitions `inbound.messages` has.
    pub partitions: u16,
}

async fn load(source: &Source) -> Result<Snapshot, Failure> {
    let rows = postgres::query(
        &source.db.get().await?,
        "select company_id, domain, webhook_secret_sealed,
           case when webhook_secret_previous_until > now() then webhook_secret_previous_sealed end,
           webhook_token_sha256, placement_spread, placement_epoch,
           least(webhook_secret_previous_until, '9999-01-01Z')
         from secretaria.companies
         where status = 'active' and webhook_secret_sealed is not null",
        &[],
    )
    .await?;
    let mut by_domain = HashMap::with_capacity(rows.len());
    for row in &rows {
        // One company's unreadable secret must not keep out the others.
        let company = company(row, source).inspect_err(|problem| {
            tracing::error!(
                company_id = row.get::<_, i64>(0),
                error = chain(problem),
                "company cannot send webhooks: its secret cannot be opened"
            )
        });
        by_domain.insert(row.get::<_, String>(1), company.ok().map(Arc::new));
    }
    Ok(Snapshot { by_domain, unknown: Arc::new(unknown_company()) })
}

fn company(row: &Row, source: &Source) -> Result<Company, seal::Error> {
    let id = CompanyId(row.get(0));
    let open =
        |column, sealed: &[u8]| source.sealer.open(SecretColumn { table: "companies", column, company: id }, sealed);
    let current = open("webhook_secret_sealed", row.get(2))?;
    let previous = row.get::<_, Option<&[u8]>>(3).map(|it| open("webhook_secret_previous_sealed", it)).transpose()?;
    // Compared with the clock at every webhook, because this snapshot is kept for as long as Postgres is away.
    let previous = previous.as_ref().zip(row.get::<_, Option<Timestamp>>(7));
    let token = row.get::<_, Option<Vec<u8>>>(4).and_then(|it| it.try_into().ok()).map(Token::of_digest);
    Ok(Company {
        id,
        secrets: Secrets::new(current.expose_secret(), previous.map(|(it, until)| (it.expose_secret(), until))),
        token,
        share: CompanyPartitions::of(
            id,
            u16::try_from(row.get::<_, i16>(5)).unwrap_or(DEFAULT_SPREAD),
            source.partitions,
        ),
        record_headers: RecordHeaders { id: id.to_string().into(), epoch: row.get::<_, i32>(6).to_string().into() },
        accepted: counter!(metric::WEBHOOK_RECEIVED, "company" => metric::company_label(id), "status" => "accepted"),
    })
}

/// Stands in for a company that does not exist: everything is verified as usual, and no signature is valid.
fn unknown_company() -> Company {
    Company {
        id: CompanyId::NONE,
        secrets: Secrets::decoy(),
        token: None,
        share: CompanyPartitions::of(CompanyId::NONE, 1, 1),
        record_headers: RecordHeaders { id: "0".into(), epoch: "0".into() },
        accepted: Counter::noop(),
    }
}
