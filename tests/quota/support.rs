//! A database of its own for each test, copied from one that was made once per process; companies and subscriptions.
//!
//! A [`Database`] is dropped with its value. Tests return at once where the run has no Postgres.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secretaria::commands::{functions, migrate};
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// A database with migrations and functions.
pub(crate) struct Database {
    name: String,
    admin_url: String,
}

impl Database {
    /// A fresh copy; `None`, said aloud, when this run has no Postgres.
    pub(crate) async fn create() -> Option<Self> {
        let admin_url = server()?;
        let template = TEMPLATE.get_or_init(|| make_template(admin_url.clone())).await;
        let name = unique("quota");
        let admin = open(&admin_url).await;
        admin.batch_execute(&format!("create database {name} template {template} strategy file_copy")).await.unwrap();
        set_path(&admin, &name).await;
        // Tests that look at rows know how many there are; a test that is about shards says so.
        admin.batch_execute(&format!("alter database {name} set secretaria.slots = 'off'")).await.unwrap();
        Some(Database { name, admin_url })
    }

    /// What `secretaria.slots` says to every connection from now on.
    pub(crate) async fn set_slots(&self, slots: &str) {
        let statement = format!("alter database {} set secretaria.slots = '{slots}'", self.name);
        open(&self.admin_url).await.batch_execute(&statement).await.unwrap();
    }

    /// A fresh copy in which PL/pgSQL decides, whatever this run is about.
    pub(crate) async fn create_plain() -> Option<Self> {
        let database = Self::create().await?;
        database.connect().await.batch_execute("drop extension if exists secretaria").await.unwrap();
        Some(database)
    }

    /// Replaces the functions by those of this build, as `secretaria migrate` does at its end.
    pub(crate) async fn replace_functions(&self) {
        functions::apply(&mut self.connect().await).await.unwrap();
    }

    /// The address of it for a role.
    pub(crate) fn url(&self, role: &str) -> String {
        url(&self.admin_url, role, &self.name)
    }

    /// The one database of a server that may not answer yet.
    pub(crate) async fn at(admin_url: String) -> Self {
        drop(reach(&admin_url).await);
        Database { name: make_template(admin_url.clone()).await, admin_url }
    }

    /// A connection as the superuser: row-level security does not bind it, and its `secretaria.test_now` counts.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_as("postgres").await
    }

    /// A connection that logged in as a role; its instants read as UTC.
    pub(crate) async fn connect_as(&self, role: &str) -> Client {
        reach(&self.url(role)).await
    }
}

impl Drop for Database {
    /// On a thread of its own, since a test's runtime is already going down here; a failed test is cleaned up too.
    fn drop(&mut self) {
        let (admin_url, name) = (self.admin_url.clone(), self.name.clone());
        drop_databases(admin_url, format!("drop database if exists {name} with (force)"));
    }
}

fn drop_databases(admin_url: String, statement: String) {
    let dropping = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { open(&admin_url).await.batch_execute(&statement).await.unwrap() });
    });
    // A panic here while a test panics would hide the test's own.
    if dropping.join().is_err() {
        eprintln!("a test database was left behind");
    }
}

/// The template outlives the tests of its process; the next process that makes one removes those of the dead.
async fn make_template(admin_url: String) -> String {
    let name = unique("quota_template");
    let admin = open(&admin_url).await;
    remove_abandoned(&admin).await;
    admin.batch_execute(&format!("create database {name} template template0 strategy file_copy")).await.unwrap();
    set_path(&admin, &name).await;
    let owner_url = url(&admin_url, "postgres", &name);
    platform::migrate::run(&owner_url.clone().into(), migrate::runner()).await.unwrap();
    let mut owner = open(&owner_url).await;
    functions::apply(&mut owner).await.unwrap();
    if asks_the_extension() {
        owner.batch_execute("create extension secretaria version '0.3.0'").await.unwrap();
    }
    drop(owner);
    // A template with a connection cannot be copied.
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
    admin.execute(kill, &[&name]).await.unwrap();
    name
}

/// Removes what test processes that are no more have left: their number is in the name.
async fn remove_abandoned(admin: &Client) {
    let left = "select datname from pg_database where datname ~ '^quota_(template_)?[0-9]+_[0-9]+$'";
    for row in admin.query(left, &[]).await.unwrap() {
        let name: String = row.get(0);
        let process = name.split('_').rev().nth(1).unwrap().to_owned();
        if !std::path::Path::new("/proc").join(process).exists() {
            // Another process may be removing it at this moment.
            let _ = admin.batch_execute(&format!("drop database if exists {name} with (force)")).await;
        }
    }
}

/// Settings of a database are not copied with it.
async fn set_path(admin: &Client, name: &str) {
    let path = "secretaria, secretaria_reference, public";
    admin.batch_execute(&format!("alter database {name} set search_path = {path}")).await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "tests are told by `make test` where the servers are")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

/// Whether this run is about the extension: unqualified calls are then its, and it has to answer the same.
pub(crate) fn asks_the_extension() -> bool {
    variable("SECRETARIA_TEST_EXTENSION").is_some()
}

fn server() -> Option<String> {
    let found = variable("SECRETARIA_TEST_POSTGRES");
    if found.is_none() {
        assert!(variable("SECRETARIA_TEST").as_deref() != Some("all"), "SECRETARIA_TEST_POSTGRES is missing");
        eprintln!("left out: needs Postgres (make test)");
    }
    found
}

pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `postgres://user@host:port/any` for another role and database.
fn url(admin_url: &str, role: &str, database: &str) -> String {
    let host = admin_url.rsplit_once('/').unwrap().0.rsplit_once('@').unwrap().1;
    format!("postgres://{role}@{host}/{database}")
}

/// A connection, made again while there is none or it is cut off before it is of use: some tests cut off any
/// connection they find, or the whole server, which then recovers.
async fn reach(url: &str) -> Client {
    for _ in 0..6_000 {
        let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        platform::task::spawn("test connection", connection);
        // Answers are compared as text.
        if client.batch_execute("set time zone 'UTC'").await.is_ok() {
            return client;
        }
    }
    panic!("no connection to {url}");
}

async fn open(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    platform::task::spawn("test connection", connection);
    client
}

/// A new company of its own domain, in São Paulo.
pub(crate) async fn company(client: &Client) -> i64 {
    let insert = "insert into secretaria.companies (domain, name) values ($1, 'A company') returning company_id";
    let domain = format!("{}.test", unique("company").replace('_', "-"));
    client.query_one(insert, &[&domain]).await.unwrap().get(0)
}

/// The version of the plan that every installation starts with.
pub(crate) async fn starter(client: &Client) -> i64 {
    let select = "select plan_version_id from secretaria.plan_versions join secretaria.plans using (plan_id)
        where code = 'starter'";
    client.query_one(select, &[]).await.unwrap().get(0)
}

/// A published plan; `features` are SQL rows of (feature, limit, soft, value), as in `('agents', 3, false, null)`.
pub(crate) async fn plan(client: &Client, code: &str, features: &str) -> i64 {
    let make = format!(
        "with p as (insert into secretaria.plans (code, name) values ('{code}', '{code}') returning plan_id)
        insert into secretaria.plan_versions (plan_id, version) select plan_id, 1 from p returning plan_version_id"
    );
    let version: i64 = client.query_one(&make, &[]).await.unwrap().get(0);
    let fill = format!(
        "insert into secretaria.plan_features (plan_version_id, feature, limit_value, soft, value)
        select {version}, f.feature, f.limit_value::bigint, f.soft, f.value::jsonb
        from (values {features}) as f (feature, limit_value, soft, value)"
    );
    client.batch_execute(&fill).await.unwrap();
    let publish = "update secretaria.plan_versions set state = 'published', published_at = now()
        where plan_version_id = $1";
    client.execute(publish, &[&version]).await.unwrap();
    version
}

/// An active subscription, written as it is, anchored on 2026-01-31 10:00 in São Paulo.
pub(crate) async fn subscribe(client: &Client, company: i64, plan_version: i64) -> uuid::Uuid {
    let insert = "insert into secretaria.subscriptions
          (company_id, subscription_id, plan_version_id, status, anchor_at, time_zone)
        values ($1, gen_random_uuid(), $2, 'active', '2026-01-31 10:00 America/Sao_Paulo', 'America/Sao_Paulo')
        returning subscription_id";
    client.query_one(insert, &[&company, &plan_version]).await.unwrap().get(0)
}

/// A company with an active subscription to the starter plan.
pub(crate) async fn subscribed(client: &Client) -> i64 {
    let company = company(client).await;
    subscribe(client, company, starter(client).await).await;
    company
}

/// Moves the clock of this session, which must be a superuser's.
pub(crate) async fn at(client: &Client, instant: &str) {
    client.execute("select set_config('secretaria.test_now', $1, false)", &[&instant]).await.unwrap();
}

/// The SQLSTATE a statement is refused with.
pub(crate) async fn refused(client: &Client, statement: &str, values: &[&(dyn ToSql + Sync)]) -> String {
    let problem = client.query(statement, values).await.expect_err(statement);
    problem.code().unwrap_or_else(|| panic!("{statement}: {problem}")).code().to_owned()
}

/// The first row of a query as the text of a record, for comparing at a glance: `(t,ok,,)`.
pub(crate) async fn record(client: &Client, query: &str) -> String {
    let rows = records(client, query).await;
    assert_eq!(rows.len(), 1, "{query}");
    rows.into_iter().next().unwrap()
}

/// Every row of a query as the text of a record.
pub(crate) async fn records(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(&format!("select r::text from ({query}) r"), &[]).await;
    rows.unwrap_or_else(|it| panic!("{query}: {it}")).iter().map(|it: &Row| it.get(0)).collect()
}

/// Whether this server has the extension; said aloud where it has not.
pub(crate) async fn has_extension(client: &Client) -> bool {
    let select = "select exists (select from pg_available_extension_versions
        where name = 'secretaria' and version = '0.3.0')";
    let found: bool = client.query_one(select, &[]).await.unwrap().get(0);
    if !found {
        eprintln!("left out: needs the extension (make install-extension)");
    }
    found
}

/// What is stored is what resolving says, for every company.
pub(crate) async fn assert_entitlements_verify(client: &Client) {
    let wrong = records(client, "select * from secretaria_reference.verify_entitlements()").await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
