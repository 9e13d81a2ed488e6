//! The webhook to which a company's alerts are sent.

use std::time::Duration;

use api::companies::{self, ChangeWebhook, Error, NewCompany, Webhook};
use domain::CompanyId;
use jiff::Timestamp;
use platform::egress::Policy;
use platform::seal::SecretColumn;
use platform::webhook::Secret;
use secrecy::ExposeSecret;

use crate::database::{Database, now};

const DOMAIN: &str = "clinica.example";
const URL: &str = "https://clinica.example/alerts";
const DAY: Duration = Duration::from_secs(86_400);

fn to(url: &str) -> ChangeWebhook {
    ChangeWebhook { url: Some(url.to_owned()), ..ChangeWebhook::default() }
}

fn rotate(keep: Duration) -> ChangeWebhook {
    ChangeWebhook { rotate: Some(keep), ..ChangeWebhook::default() }
}

/// A database with one company that has no webhook yet.
async fn with_a_company() -> Option<(Database, CompanyId)> {
    let database = Database::create().await?;
    let clinic = NewCompany { domain: DOMAIN.into(), ..NewCompany::default() };
    let added = companies::add(&database.operator(), &database.sealer, clinic).await.unwrap();
    Some((database, added.company_id))
}

impl Database {
    async fn change(&self, change: ChangeWebhook, at: Timestamp) -> Result<Webhook, Error> {
        companies::change_webhook(&self.operator(), &self.sealer, DOMAIN, change, at, Policy::Public).await
    }

    /// The secret sealed in that column, opened.
    async fn secret(&self, company: CompanyId, column: &'static str) -> Option<String> {
        let sql = format!("select {column} from company_webhooks where company_id = $1");
        let sealed: Option<Vec<u8>> = self.root.query_one(&sql, &[&company.0]).await.unwrap().get(0);
        let opened =
            self.sealer.open_text(SecretColumn { table: "company_webhooks", column, company }, &sealed?).unwrap();
        Some(opened.expose_secret().to_owned())
    }
}

#[tokio::test]
async fn a_secret_is_shown_once_and_kept_sealed() {
    let Some((database, company)) = with_a_company().await else { return };
    let made = database.change(to(URL), now()).await.unwrap();
    let shown = made.new_secret.unwrap().expose_secret().to_owned();
    assert!(Secret::parse(&shown).is_ok() && made.enabled && made.url == URL);
    assert_eq!(database.secret(company, "secret_sealed").await.as_deref(), Some(shown.as_str()));
    let sql = "select w::text from company_webhooks w";
    let row: String = database.root.query_one(sql, &[]).await.unwrap().get(0);
    assert!(row.contains(URL) && !row.contains(&shown[6..]) && !row.contains(&hex::encode(&shown)));

    let moved = database.change(to("https://clinica.example/elsewhere"), now()).await.unwrap();
    assert!(moved.new_secret.is_none(), "another address is no reason for another secret");
    assert_eq!(database.secret(company, "secret_sealed").await.as_deref(), Some(shown.as_str()));
}

#[tokio::test]
async fn a_secret_that_is_rotated_out_stays_valid_for_a_while() {
    let Some((database, company)) = with_a_company().await else { return };
    let first = database.change(to(URL), now()).await.unwrap().new_secret.unwrap();
    let rotated = database.change(rotate(DAY), now()).await.unwrap();
    let second = rotated.new_secret.unwrap();
    assert_ne!(first.expose_secret(), second.expose_secret());
    assert_eq!(rotated.previous_secret_until, Some(now() + DAY));
    let previous = database.secret(company, "previous_secret_sealed").await;
    assert_eq!(previous.as_deref(), Some(first.expose_secret()));
    assert_eq!(database.secret(company, "secret_sealed").await.as_deref(), Some(second.expose_secret()));
    let shown = database.change(ChangeWebhook::default(), now() + 2 * DAY).await.unwrap();
    assert_eq!(shown.previous_secret_until, None, "it is no longer valid");

    database.change(rotate(Duration::ZERO), now()).await.unwrap();
    assert_eq!(database.secret(company, "previous_secret_sealed").await, None, "lost or leaked: it ends at once");
}

#[tokio::test]
async fn off_keeps_url_and_secret_and_a_url_turns_it_on_again() {
    let Some((database, company)) = with_a_company().await else { return };
    database.change(to(URL), now()).await.unwrap();
    let secret = database.secret(company, "secret_sealed").await;
    let off = database.change(ChangeWebhook { off: true, ..ChangeWebhook::default() }, now()).await.unwrap();
    assert!(!off.enabled && off.url == URL);
    assert!(!database.change(rotate(DAY), now()).await.unwrap().enabled, "a new secret does not turn it on");
    assert!(database.change(to(URL), now()).await.unwrap().enabled);
    assert_eq!(database.secret(company, "previous_secret_sealed").await, secret);
}

#[tokio::test]
async fn an_invalid_change_changes_nothing() {
    let Some((database, _)) = with_a_company().await else { return };
    let problem = |result: Result<Webhook, Error>| result.err().map(|it| it.to_string()).unwrap_or_default();
    assert!(problem(database.change(rotate(DAY), now()).await).starts_with("url:"), "there is none to rotate");
    for url in ["http://clinica.example/", "https://10.0.0.1/", "https://a:b@clinica.example/"] {
        assert!(problem(database.change(to(url), now()).await).starts_with("url:"), "{url}");
    }
    let too_long = ChangeWebhook { rotate: Some(91 * DAY), ..to(URL) };
    assert!(problem(database.change(too_long, now()).await).starts_with("keep_previous_for:"));
    let (db, sealer) = (database.operator(), &database.sealer);
    let unknown = companies::change_webhook(&db, sealer, "salao.example", to(URL), now(), Policy::Public);
    assert!(matches!(unknown.await, Err(Error::Unknown { .. })));
    let rows: i64 = database.root.query_one("select count(*) from company_webhooks", &[]).await.unwrap().get(0);
    assert_eq!(rows, 0);
}
