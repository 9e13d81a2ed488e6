//! A database of a test's own, for this crate and, by its path, for the rooms that stand on it.
//!
//! The migrations run once per cluster and version of them, into a template; each test gets a copy, which is removed
//! when the test has held and stays to be looked at when it has not.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use domain::{EventId, Topic};
use platform::dead_letter::headers_from_json;
use platform::kafka::Record;
use platform::postgres::{Client, Config, Db};
use platform::secret::SecretText;
use platform::task;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use uuid::Uuid;

/// What two runs that prepare a cluster at once wait for; the roles belong to all of its databases.
const LOCK: &str = "select pg_advisory_lock(17432)";

pub(crate) struct Database {
    admin_url: String,
    name: String,
    /// The superuser: sees through row-level security, and may spoil things.
    pub(crate) root: Client,
    /// A pool of `secretaria_service`, whose rights the processors have.
    pub(crate) service: Db,
}

/// Runs a test in a database of its own, or says that it was left out.
pub(crate) async fn in_a_database(test: impl AsyncFnOnce(&Database)) {
    let Some(database) = Database::create().await else { return };
    test(&database).await;
    database.remove().await;
}

/// Where the tests' Postgres is; missing is allowed unless everything is to be tested.
#[expect(clippy::disallowed_methods, reason = "how a test run is told where its servers are")]
fn admin_url() -> Option<String> {
    let url = std::env::var("SECRETARIA_TEST_POSTGRES").ok();
    if url.is_none() {
        assert_ne!(std::env::var("SECRETARIA_TEST").as_deref(), Ok("all"), "SECRETARIA_TEST_POSTGRES is missing");
        println!("left out: needs Postgres (make test)");
    }
    url
}

impl Database {
    async fn create() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let admin_url = admin_url()?;
        let admin = connect(&admin_url).await;
        let template = template(&admin, &admin_url).await;
        let name = format!("room_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        admin.batch_execute(&format!("drop database if exists {name} with (force)")).await.unwrap();
        admin.batch_execute(&format!("create database {name} template {template} strategy file_copy")).await.unwrap();
        // A copy does not take the template's own settings along, and the search path is one.
        let settings = "select unnest(setconfig) from pg_db_role_setting
                        where setrole = 0 and setdatabase = (select oid from pg_database where datname = $1)";
        for row in admin.query(settings, &[&template]).await.unwrap() {
            let (setting, value) = row.get::<_, &str>(0).split_once('=').unwrap();
            admin.batch_execute(&format!("alter database {name} set {setting} = {value}")).await.unwrap();
        }
        let root = connect(&in_database(&admin_url, &name)).await;
        let service = Config { pool_size: 24, wait_ms: 20_000, ..Config::default() };
        let url = as_role(&admin_url, "secretaria_service", &name);
        let service = Db::new(&SecretText::from(url), &service, "room test").unwrap();
        Some(Database { admin_url, name, root, service })
    }

    /// Best effort: what is left is found by its name.
    async fn remove(self) {
        let admin = connect(&self.admin_url).await;
        drop((self.root, self.service));
        let _ = admin.batch_execute(&format!("drop database {} with (force)", self.name)).await;
    }

    /// Runs statements as the superuser.
    pub(crate) async fn run(&self, sql: &str) {
        self.root.batch_execute(sql).await.unwrap();
    }

    /// The rows of a query as people read them: columns between bars, nulls as a dash.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let messages = self.root.simple_query(sql).await.unwrap();
        let rows =
            messages.iter().filter_map(|it| if let SimpleQueryMessage::Row(row) = it { Some(row) } else { None });
        rows.map(|row| (0..row.len()).map(|it| row.get(it).unwrap_or("-")).collect::<Vec<_>>().join(" | ")).collect()
    }

    /// The one number that a query gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].parse().unwrap()
    }

    /// Takes a topic's records out of the outbox, as if a relay had published them on partition 0.
    pub(crate) async fn publish(&self, topic: Topic) -> Vec<Record> {
        let sql = "with gone as (
                     delete from outbox where topic = $1 returning outbox_id, key, payload, headers
                   )
                   select outbox_id, key, payload, headers from gone order by outbox_id";
        let rows = self.root.query(sql, &[&topic.as_str()]).await.unwrap();
        let record = |row: &platform::postgres::Row| {
            Record::kept(topic, 0, row.get(0), row.get(1), row.get(2), headers_from_json(&row.get(3)))
        };
        rows.iter().map(record).collect()
    }

    /// The events that wait in the outbox, in the order in which they go out.
    pub(crate) async fn waiting(&self, topic: Topic) -> Vec<EventId> {
        let sql = "select event_id from outbox where topic = $1 order by outbox_id";
        let rows = self.root.query(sql, &[&topic.as_str()]).await.unwrap();
        rows.iter().map(|row| EventId(row.get(0))).collect()
    }

    /// Nothing has vanished and nothing was doubled, by the queries that operators run.
    #[track_caller]
    pub(crate) fn conserves(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            assert_eq!(self.broken_laws().await, [""; 0], "{caller}");
        }
    }

    /// What the queries of `sql/checks/` return: the law and what breaks it.
    pub(crate) async fn broken_laws(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for file in files_of(&sql_folder("checks")) {
            broken.extend(self.rows(&std::fs::read_to_string(file).unwrap()).await);
        }
        broken
    }
}

/// The name of a database that holds the migrations as they are now and nothing else; makes it if it is not there.
async fn template(admin: &Client, admin_url: &str) -> String {
    let files = migrations();
    let sql: Vec<String> = files.iter().map(|it| std::fs::read_to_string(it).unwrap()).collect();
    let version = Uuid::new_v5(&Uuid::NAMESPACE_OID, sql.concat().as_bytes()).simple().to_string();
    let name = format!("room_template_{}", &version[..16]);
    admin.batch_execute(LOCK).await.unwrap();
    let known = admin.query("select from pg_database where datname = $1", &[&name]).await.unwrap();
    if known.is_empty() {
        let draft = format!("{name}_draft");
        admin.batch_execute(&format!("drop database if exists {draft} with (force)")).await.unwrap();
        admin.batch_execute(&format!("create database {draft} template template0 strategy file_copy")).await.unwrap();
        let (migrating, connection) = tokio_postgres::connect(&in_database(admin_url, &draft), NoTls).await.unwrap();
        let connection = task::spawn("postgres", connection);
        for (file, sql) in files.iter().zip(&sql) {
            let done = migrating.batch_execute(&format!("begin;\n{sql}\ncommit;")).await;
            done.unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        }
        drop(migrating);
        connection.await.unwrap().unwrap();
        // The name is given last, so that a template with this name is always whole.
        rename(admin, &draft, &name).await;
    }
    admin.batch_execute("select pg_advisory_unlock(17432)").await.unwrap();
    name
}

/// The server notices a closed connection a moment later, and renames nothing that is in use.
async fn rename(admin: &Client, draft: &str, name: &str) {
    let sql = format!("alter database {draft} rename to {name}");
    for _ in 0..1_000 {
        if admin.batch_execute(&sql).await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
    admin.batch_execute(&sql).await.unwrap();
}

/// The migrations, and after them the functions.
fn migrations() -> Vec<PathBuf> {
    ["migrations", "functions"].iter().flat_map(|it| files_of(&sql_folder(it))).collect()
}

pub(crate) fn sql_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql").join(name)
}

/// The files below a folder that end in `.sql`, by path.
pub(crate) fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|it| if it.is_dir() { files_of(&it) } else { vec![it] })
        .filter(|it| it.extension().is_some_and(|it| it == "sql"))
        .collect()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    task::spawn("postgres", connection);
    client
}

fn in_database(url: &str, name: &str) -> String {
    format!("{}/{name}", url.rsplit_once('/').unwrap().0)
}

/// The same server with another login and database; the tests' clusters ask for no password.
fn as_role(url: &str, role: &str, name: &str) -> String {
    let host = url.rsplit_once('/').unwrap().0.rsplit(['@', '/']).next().unwrap();
    format!("postgres://{role}@{host}/{name}")
}
