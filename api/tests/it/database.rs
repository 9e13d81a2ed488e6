//! A database of a test's own, with two companies that talk and are metered, and the keys to serve it.

use std::sync::Arc;
use std::time::Duration;

use api::auth::{Keys, Scope};
use api::{Api, companies, keys};
use domain::CompanyId;
use jiff::Timestamp;
use platform::postgres::{Client, Config, Db};
use platform::seal::{Sealer, random_bytes};
use platform::secret::SecretText;
use testkit::Template;

/// The instant at which every test happens.
pub(crate) fn now() -> Timestamp {
    "2026-03-15T12:00:00Z".parse().unwrap()
}

pub(crate) struct Database {
    /// The superuser, in this database: sees through row-level security.
    pub(crate) root: Client,
    pub(crate) sealer: Sealer,
    pub(crate) keys: Arc<Keys>,
    /// Last: it is dropped when nothing of this is connected any more.
    copy: testkit::Database,
}

impl Database {
    /// Makes one, or says why not.
    pub(crate) async fn create() -> Option<Self> {
        let copy = testkit::Database::copy(&Template::of_files().await?, "api").await;
        let (keys, sealer) = fresh_keys();
        Some(Database { root: copy.connect().await, sealer, keys, copy })
    }

    /// A pool of that role.
    pub(crate) fn pool(&self, role: &str) -> Db {
        pool_at(&self.copy.url(role))
    }

    pub(crate) fn operator(&self) -> Db {
        self.pool("secretaria_operator")
    }

    /// What the routes stand on, at [`now`].
    pub(crate) fn api(&self) -> Api {
        Api { now, ..Api::new(self.pool("secretaria_api"), self.keys.clone(), "{}".into()) }
    }

    pub(crate) fn token(&self, company: CompanyId, scope: Scope) -> String {
        self.keys.issue(company, scope, now(), Duration::from_secs(60)).unwrap()
    }

    /// A company with one contact, `messages` inbound ones each answered, and as many messages booked on 14 March.
    pub(crate) async fn talking_company(&self, domain: &str, messages: i64) -> CompanyId {
        let new = companies::NewCompany { domain: domain.into(), ..Default::default() };
        let company = companies::add(&self.operator(), &self.sealer, new).await.unwrap().company_id;
        self.conversation(company, "5511999990001", "2026-03-14T12:00:00Z", messages).await;
        let sql = "
            insert into usage_totals (company_id, metric, model, day, amount)
            values ($1, 'message_in', '', '2026-03-14', $2), ($1, 'message_out', '', '2026-03-14', $2),
              ($1, 'tokens_in', 'gemini-test', '2026-03-14', 100 * $2::bigint),
              ($1, 'tokens_out', 'gemini-test', '2026-03-14', 10 * $2::bigint),
              ($1, 'tokens_cached', 'gemini-test', '2026-03-14', $2), ($1, 'message_in', '', '2026-02-28', 999)";
        self.root.execute(sql, &[&company.0, &messages]).await.unwrap();
        company
    }

    /// A conversation whose last message was written at `at`.
    pub(crate) async fn conversation(&self, company: CompanyId, send_to: &str, at: &str, messages: i64) {
        let at: Timestamp = at.parse().unwrap();
        let sql = "
            with contact as (
              insert into contacts (company_id, contact_id, channel, name)
              values ($1::bigint, gen_random_uuid(), 'whaticket', 'Ana')
              returning company_id, contact_id
            ), conversation as (
              insert into conversations (company_id, conversation_id, contact_id, channel, send_to, last_message_at)
              select company_id, gen_random_uuid(), contact_id, 'whaticket', $2, $3
              from contact
              returning company_id, conversation_id
            ), turn as (
              insert into turns (company_id, turn_id, conversation_id, state, outcome, closes_at)
              select company_id, gen_random_uuid(), conversation_id, 'ended', 'replied', $3
              from conversation
              returning company_id, conversation_id, turn_id
            ), message as (
              insert into messages (company_id, message_id, conversation_id, position, direction, turn_id, body,
                occurred_at, received_at)
              select company_id, gen_random_uuid(), conversation_id, n, case n % 2 when 1 then 'in' else 'out' end,
                turn_id, company_id || ' says ' || n, $3, $3
              from turn, generate_series(1, 2 * $4::bigint) as n
              returning company_id, message_id, conversation_id, position, direction, body
            )
            insert into deliveries (company_id, delivery_id, conversation_id, position, channel, send_to, body, purpose,
              state, outcome, attempts, record_partition, record_offset)
            select company_id, message_id, conversation_id, position, 'whaticket', $2, body, 'reply', 'ended', 'sent', 2,
              0, 0
            from message
            where direction = 'out'";
        self.root.execute(sql, &[&company.0, &send_to, &at, &messages]).await.unwrap();
    }
}

/// Keys of a test's own.
pub(crate) fn fresh_keys() -> (Arc<Keys>, Sealer) {
    let dir = std::env::temp_dir().join(format!("api_test_{}", hex::encode(random_bytes::<8>().unwrap())));
    keys::create_missing(&dir).unwrap();
    let signing = Keys::from_pkcs8_file(&dir.join(keys::SIGNING_KEY)).unwrap();
    let sealer = Sealer::from_file(&dir.join(keys::KEY_ENCRYPTION_KEY)).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    (Arc::new(signing), sealer)
}

/// Routes whose Postgres is away, at [`now`].
pub(crate) fn without_postgres() -> Api {
    // A listener's port that was given back: no one answers there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = pool_at(&format!("postgres://secretaria_api@127.0.0.1:{port}/none"));
    Api { now, ..Api::new(away, fresh_keys().0, r#"{"openapi":"3.1.0"}"#.into()) }
}

/// A pool whose waits are short.
fn pool_at(url: &str) -> Db {
    let config = Config { pool_size: 4, wait_ms: 2_000, ..Config::default() };
    Db::new(&SecretText::from(url), &config, "api test").unwrap()
}
