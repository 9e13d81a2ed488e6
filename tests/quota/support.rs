//! A database of its own for each test, copied from one that was made once per process; companies and subscriptions.
//!
//! A [`Database`] is dropped with its value. Tests return at once where the run has no Postgres.

use std::time::Duration;

use secretaria::commands::{functions, migrate};
use testkit::Template;
pub(crate) use testkit::{asks_the_extension, unique};
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

static TEMPLATE: OnceCell<Option<Template>> = OnceCell::const_new();

/// A database with migrations and functions.
pub(crate) struct Database(testkit::Database);

impl Database {
    /// A fresh copy; `None`, with a line that says so, when this run has no Postgres.
    pub(crate) async fn create() -> Option<Self> {
        let template = TEMPLATE.get_or_init(|| Template::of("quota_template", fill)).await.as_ref()?;
        let copy = testkit::Database::copy(template, "quota").await;
        // Tests that look at rows know how many there are; a test that is about shards says so.
        copy.set("secretaria.slots", "'off'").await;
        Some(Database(copy))
    }

    /// What `secretaria.slots` says to every connection from now on.
    pub(crate) async fn set_slots(&self, slots: &str) {
        self.0.set("secretaria.slots", &format!("'{slots}'")).await;
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
        self.0.url(role)
    }

    /// The one database of a server that may not answer yet.
    pub(crate) async fn at(admin_url: String) -> Self {
        drop(reach(&admin_url).await);
        let database = testkit::Database::empty_on(admin_url, "quota").await;
        fill(database.url("postgres")).await;
        Database(database)
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

/// Migrations, functions and, if this run is about it, the extension.
async fn fill(owner_url: String) {
    platform::migrate::run(&owner_url.clone().into(), migrate::runner()).await.unwrap();
    let mut owner = testkit::connect(&owner_url).await;
    functions::apply(&mut owner).await.unwrap();
    if asks_the_extension() {
        owner.batch_execute("create extension secretaria version '0.3.0'").await.unwrap();
    }
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
