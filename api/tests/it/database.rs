//! A database of a test's own, with two companies that talk and are metered, and the keys to serve it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::auth::{Keys, Scope};
use api::{Api, companies, keys};
use domain::CompanyId;
use jiff::Timestamp;
use platform::postgres::{Client, Config, Db};
use platform::seal::{Sealer, random_bytes};
use platform::secret::SecretText;
use platform::task;
use tokio_postgres::NoTls;

/// The instant at which every test happens.
pub(crate) fn now() -> Timestamp {
    "2026-03-15T12:00:00Z".parse().unwrap()
}

pub(crate) struct Database {
    admin_url: String,
    name: String,
    /// The superuser, in this database: sees through row-level security.
    pub(crate) root: Client,
    pub(crate) sealer: Sealer,
    pub(crate) keys: Arc<Keys>,
}

impl Database {
    /// Makes one, or says why not.
    #[expect(clippy::disallowed_methods, reason = "how a test run is told where its servers are")]
    pub(crate) async fn create() -> Option<Self> {
        let Ok(admin_url) = std::env::var("SECRETARIA_TEST_POSTGRES") else {
            assert_ne!(std::env::var("SECRETARIA_TEST").as_deref(), Ok("all"), "SECRETARIA_TEST_POSTGRES is missing");
            eprintln!("left out: needs Postgres (make test)");
            return None;
        };
        let name = format!("api_test_{}", hex::encode(random_bytes::<8>().unwrap()));
        let admin = connect(&admin_url).await;
        // Roles belong to the whole cluster, so migrations of two databases are not run side by side.
        admin.execute("select pg_advisory_lock(17432)", &[]).await.unwrap();
        admin.batch_execute(&format!("create database {name} template template0 strategy file_copy")).await.unwrap();
        let migrating = connect(&in_database(&admin_url, &name)).await;
        for file in migrations() {
            let sql = std::fs::read_to_string(&file).unwrap();
            let done = migrating.batch_execute(&format!("begin;\n{sql}\ncommit;")).await;
            done.unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        }
        drop((admin, migrating));

        let (keys, sealer) = fresh_keys();
        // A new connection, because the search path is the database's own since the first migration.
        let root = connect(&in_database(&admin_url, &name)).await;
        Some(Database { admin_url, name, root, sealer, keys })
    }

    /// Removes it; one whose test failed stays to be looked at.
    pub(crate) async fn remove(self) {
        drop(self.root);
        let admin = connect(&self.admin_url).await;
        admin.batch_execute(&format!("drop database {} with (force)", self.name)).await.unwrap();
    }

    /// A pool of that role.
    pub(crate) fn pool(&self, role: &str) -> Db {
        let root: tokio_postgres::Config = self.admin_url.parse().unwrap();
        let host = match &root.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(_) => panic!("tests connect by TCP"),
        };
        let port = root.get_ports().first().copied().unwrap_or(5_432);
        pool_at(&format!("postgres://{role}@{host}:{port}/{}", self.name))
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
    // A listener's port that was given back: nobody answers there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = pool_at(&format!("postgres://secretaria_api@127.0.0.1:{port}/none"));
    Api { now, ..Api::new(away, fresh_keys().0, r#"{"openapi":"3.1.0"}"#.into()) }
}

/// A pool whose waits are short.
fn pool_at(url: &str) -> Db {
    let config = Config { pool_size: 4, wait_ms: 2_000, ..Config::default() };
    Db::new(&SecretText::from(url), &config, "api test").unwrap()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    task::spawn("postgres", connection);
    client
}

fn in_database(url: &str, name: &str) -> String {
    format!("{}/{name}", url.rsplit_once('/').unwrap().0)
}

/// The migrations, and after them the functions.
fn migrations() -> Vec<PathBuf> {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql");
    let folders = ["migrations", "functions"].map(|it| sql.join(it));
    folders.iter().flat_map(|it| files_of(it)).collect()
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|it| if it.is_dir() { files_of(&it) } else { vec![it] })
        .filter(|it| it.extension().is_some_and(|it| it == "sql"))
        .collect()
}
