//! Adding and changing companies.

use std::time::Duration;

use api::companies::{self, Auth, Channel, NewCompany};
use domain::CompanyId;
use jiff::Timestamp;
use platform::seal::SecretColumn;
use secrecy::{ExposeSecret, SecretString};

use crate::database::{Database, now};

const DAY: Duration = Duration::from_secs(86_400);

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn clinic() -> NewCompany {
    NewCompany {
        domain: "Clinica.Example".into(),
        name: Some("Clínica Sol".into()),
        time_zone: Some("America/Manaus".into()),
        channel: Some(Channel {
            base_url: "http://127.0.0.1:8090/".into(),
            auth: Auth::Login { email: "bot@clinica.example".into(), password: secret("the-bridges-password") },
        }),
        webhook_secret: Some(secret("minha-shared-secret")),
        webhook_token: Some(secret("a-static-webhook-token")),
        ..NewCompany::default()
    }
}

impl Database {
    async fn bytes(&self, column: &str, table: &str, company: CompanyId) -> Option<Vec<u8>> {
        let sql = format!("select {column} from {table} where company_id = $1");
        self.root.query_one(&sql, &[&company.0]).await.unwrap().get(0)
    }

    /// The secret sealed in that column, opened.
    async fn opened(&self, table: &'static str, column: &'static str, company: CompanyId) -> Option<String> {
        let sealed = self.bytes(column, table, company).await?;
        let place = SecretColumn { table, column, company };
        Some(self.sealer.open_text(place, &sealed).unwrap().expose_secret().to_owned())
    }

    /// Every column of the company and its channel, as text; bytes both as hex digits and as letters.
    async fn row_as_text(&self, company: CompanyId) -> String {
        let sql = "
            select coalesce((select string_agg(c::text, '') from companies c where company_id = $1), '')
              || coalesce((select string_agg(h::text, '') from channels h where company_id = $1), '')";
        let text: String = self.root.query_one(sql, &[&company.0]).await.unwrap().get(0);
        let mut all = text.clone();
        for digits in text.split(|it: char| !it.is_ascii_hexdigit()).filter(|it| it.len() > 15 && it.len() % 2 == 0) {
            all.push_str(&String::from_utf8_lossy(&hex::decode(digits).unwrap()));
        }
        all
    }
}

#[tokio::test]
async fn no_secret_is_in_the_row_that_holds_it() {
    let Some(database) = Database::create().await else { return };
    let added = companies::add(&database.operator(), &database.sealer, clinic()).await.unwrap();
    let company = added.company_id;
    let row = database.row_as_text(company).await;
    assert!(row.contains("clinica.example") && row.contains("bot@clinica.example"), "this is the row");
    for plain in ["minha-shared-secret", "a-static-webhook-token", "the-bridges-password"] {
        assert!(!row.contains(plain), "{plain}");
        assert!(!row.contains(&hex::encode(plain)), "{plain}, as hex");
    }
    let opened = database.opened("companies", "webhook_secret_sealed", company).await;
    assert_eq!(opened.as_deref(), Some("minha-shared-secret"));
    let opened = database.opened("channels", "login_password_sealed", company).await;
    assert_eq!(opened.as_deref(), Some("the-bridges-password"));
    let sha256 = database.bytes("webhook_token_sha256", "companies", company).await;
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"a-static-webhook-token");
    assert_eq!(sha256.as_deref(), Some(expected.as_ref()));
}

#[tokio::test]
async fn adding_again_changes_what_is_given_and_keeps_the_rest() {
    let Some(database) = Database::create().await else { return };
    let db = database.operator();
    let first = companies::add(&db, &database.sealer, clinic()).await.unwrap();
    let again = NewCompany {
        domain: "clinica.example".into(),
        name: Some("Clínica Lua".into()),
        channel: Some(Channel { base_url: "https://bridge.example".into(), auth: Auth::Token(secret("bridge-token")) }),
        ..NewCompany::default()
    };
    let second = companies::add(&db, &database.sealer, again).await.unwrap();
    assert_eq!(second.company_id, first.company_id);
    assert_eq!(second.webhook_secret.expose_secret(), "minha-shared-secret");

    let listed = companies::list(&db).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), listed[0].time_zone.as_str()), ("Clínica Lua", "America/Manaus"));
    assert_eq!(listed[0].channel_url.as_deref(), Some("https://bridge.example"));
    assert_eq!(database.opened("channels", "token_sealed", first.company_id).await.as_deref(), Some("bridge-token"));
    assert_eq!(database.bytes("login_password_sealed", "channels", first.company_id).await, None, "cleared");
    assert!(database.bytes("webhook_token_sha256", "companies", first.company_id).await.is_some(), "kept");

    assert_eq!(companies::named(&db, "CLINICA.example").await.unwrap(), first.company_id);
    let unknown = companies::named(&db, "unknown.example").await.unwrap_err();
    assert!(matches!(unknown, companies::Error::Unknown { .. }));
}

#[tokio::test]
async fn a_company_without_a_secret_gets_a_random_one() {
    let Some(database) = Database::create().await else { return };
    let db = database.operator();
    let made = companies::ensure_default(&db, &database.sealer).await.unwrap().unwrap();
    assert_eq!(made.webhook_secret.expose_secret().len(), 64);
    assert_eq!(companies::list(&db).await.unwrap()[0].domain, "default.local");
    assert!(companies::ensure_default(&db, &database.sealer).await.unwrap().is_none(), "made once");

    let new = NewCompany { domain: "other.example".into(), ..NewCompany::default() };
    let other = companies::add(&db, &database.sealer, new).await.unwrap();
    assert_ne!(other.webhook_secret.expose_secret(), made.webhook_secret.expose_secret());
}

#[tokio::test]
async fn many_at_once_add_one_company() {
    let Some(database) = Database::create().await else { return };
    let db = database.operator();
    let add = || async {
        let new = NewCompany { domain: "a.example".into(), ..NewCompany::default() };
        let added = companies::add(&db, &database.sealer, new).await.unwrap();
        (added.company_id, added.webhook_secret.expose_secret().to_owned())
    };
    let (one, two, three) = tokio::join!(add(), add(), add());
    assert!(one == two && two == three, "all got the same secret");
}

#[tokio::test]
async fn rotating_keeps_two_secrets_valid_and_never_three() {
    let Some(database) = Database::create().await else { return };
    let (db, sealer) = (database.operator(), &database.sealer);
    let company = companies::add(&db, sealer, clinic()).await.unwrap().company_id;
    let both = async || {
        let current = database.opened("companies", "webhook_secret_sealed", company).await.unwrap();
        (current, database.opened("companies", "webhook_secret_previous_sealed", company).await)
    };
    let second = companies::rotate_secret(&db, sealer, "clinica.example", now(), DAY).await.unwrap();
    let second = second.expose_secret().to_owned();
    assert_eq!(both().await, (second.clone(), Some("minha-shared-secret".into())));
    let until = companies::list(&db).await.unwrap()[0].previous_secret_until;
    assert_eq!(until, Some("2026-03-16T12:00:00Z".parse::<Timestamp>().unwrap()));

    let again = secret(&second);
    companies::set_secret(&db, sealer, "clinica.example", again, now(), DAY).await.unwrap();
    assert_eq!(both().await, (second.clone(), Some("minha-shared-secret".into())), "the same one changes nothing");

    let third = secret("the-third-secret-of-them");
    companies::set_secret(&db, sealer, "clinica.example", third, now(), DAY).await.unwrap();
    assert_eq!(both().await, ("the-third-secret-of-them".into(), Some(second)), "the first one ended");

    companies::rotate_secret(&db, sealer, "clinica.example", now(), Duration::ZERO).await.unwrap();
    assert_eq!(both().await.1, None, "nothing is kept when nothing is asked to be");
    assert_eq!(companies::list(&db).await.unwrap()[0].previous_secret_until, None);

    let unknown = companies::rotate_secret(&db, sealer, "unknown.example", now(), DAY).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no company has the domain `unknown.example`");
}
