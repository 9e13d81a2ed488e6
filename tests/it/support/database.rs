//! A database of its own for each test, copied from one that was migrated once.

use std::path::PathBuf;

use secretaria::Settings;
use secretaria::commands::migrate;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::{server, unique, variable};

static TEMPLATE: OnceCell<Template> = OnceCell::const_new();

#[derive(Debug, Clone)]
struct Template {
    database: String,
    keys: PathBuf,
}

/// A migrated database and the keys that open its secrets.
pub(crate) struct Database {
    name: String,
    admin_url: String,
    keys: PathBuf,
}

impl Database {
    /// A fresh copy; `None` when this run has no Postgres.
    pub(crate) async fn create() -> Option<Self> {
        let admin_url = server("SECRETARIA_TEST_POSTGRES", "Postgres")?;
        let template = TEMPLATE.get_or_init(|| make_template(admin_url.clone())).await;
        let name = unique("river");
        let admin = connect(&admin_url).await;
        admin
            .batch_execute(&format!("create database {name} template {} strategy file_copy", template.database))
            .await
            .unwrap();
        // Settings of a database are not copied with it.
        let path = "secretaria, secretaria_reference, public";
        admin.batch_execute(&format!("alter database {name} set search_path = {path}")).await.unwrap();
        Some(Database { name, admin_url, keys: template.keys.clone() })
    }

    /// One of an earlier release: with the migrations up to `version`, nothing else, and the keys of `keys`.
    pub(crate) async fn of_release(version: i32, keys: PathBuf) -> Option<Self> {
        let admin_url = server("SECRETARIA_TEST_POSTGRES", "Postgres")?;
        let name = unique("upgrade");
        connect(&admin_url).await.batch_execute(&format!("create database {name}")).await.unwrap();
        let released = migrate::runner().set_target(refinery::Target::Version(version));
        platform::migrate::run(&url(&admin_url, "postgres", &name).into(), released).await.unwrap();
        Some(Database { name, admin_url, keys })
    }

    /// Points settings at it.
    pub(crate) fn configure(&self, settings: &mut Settings) {
        configure(settings, &self.admin_url, &self.name, &self.keys);
    }

    /// A connection that row-level security does not bind.
    pub(crate) async fn connect(&self) -> Client {
        connect(&url(&self.admin_url, "postgres", &self.name)).await
    }

    /// Nobody can reach it until [`Database::come_back`].
    pub(crate) async fn go_away(&self) {
        let admin = connect(&self.admin_url).await;
        admin.batch_execute(&format!("alter database {} allow_connections false", self.name)).await.unwrap();
        let kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        admin.execute(kill, &[&self.name]).await.unwrap();
    }

    /// It can be reached again.
    pub(crate) async fn come_back(&self) {
        let admin = connect(&self.admin_url).await;
        admin.batch_execute(&format!("alter database {} allow_connections true", self.name)).await.unwrap();
    }
}

async fn make_template(admin_url: String) -> Template {
    let database = unique("template");
    let keys = std::env::temp_dir().join(format!("secretaria-{database}"));
    connect(&admin_url).await.batch_execute(&format!("create database {database}")).await.unwrap();
    let mut settings = Settings::default();
    configure(&mut settings, &admin_url, &database, &keys);
    api::keys::create_missing(&keys).unwrap();
    migrate::database(&settings).await.unwrap();
    if variable("SECRETARIA_TEST_EXTENSION").is_some() {
        let owner = connect(&url(&admin_url, "postgres", &database)).await;
        owner.batch_execute("create extension secretaria version '0.3.0'").await.unwrap();
    }
    // A template that somebody is connected to cannot be copied.
    let admin = connect(&admin_url).await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
    admin.execute(kill, &[&database]).await.unwrap();
    Template { database, keys }
}

fn configure(settings: &mut Settings, admin_url: &str, database: &str, keys: &std::path::Path) {
    settings.postgres.owner_url = url(admin_url, "postgres", database).into();
    settings.postgres.service_url = url(admin_url, "secretaria_service", database).into();
    settings.postgres.api_url = url(admin_url, "secretaria_api", database).into();
    settings.postgres.operator_url = url(admin_url, "secretaria_operator", database).into();
    settings.postgres.pool_size = 16;
    settings.keys.dir = keys.to_owned();
}

/// `postgres://somebody@host:port/any` for another role and database.
pub(crate) fn url(admin_url: &str, role: &str, database: &str) -> String {
    let host = admin_url.rsplit_once('/').unwrap().0.rsplit_once('@').unwrap().1;
    format!("postgres://{role}@{host}/{database}")
}

/// Connects; the connection runs on the test's own runtime.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    platform::task::spawn("test connection", connection);
    client
}
