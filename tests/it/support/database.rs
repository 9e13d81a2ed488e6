//! A database of its own for each test, copied from one that was migrated once.

use std::path::{Path, PathBuf};

use secretaria::Settings;
use secretaria::commands::migrate;
use testkit::{Template, asks_the_extension, connect, unique};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

static MIGRATED: OnceCell<Option<Migrated>> = OnceCell::const_new();

/// What `secretaria migrate` made.
#[derive(Debug)]
struct Migrated {
    template: Template,
    keys: PathBuf,
}

/// A migrated database and the keys that open its secrets.
pub(crate) struct Database {
    copy: testkit::Database,
    keys: PathBuf,
}

impl Database {
    /// A fresh copy; `None` when this run has no Postgres.
    pub(crate) async fn create() -> Option<Self> {
        let migrated = MIGRATED.get_or_init(migrated).await.as_ref()?;
        let copy = testkit::Database::copy(&migrated.template, "it").await;
        Some(Database { copy, keys: migrated.keys.clone() })
    }

    /// One of an earlier release: with the migrations up to `version`, nothing else, and the keys of `keys`.
    pub(crate) async fn of_release(version: i32, keys: PathBuf) -> Option<Self> {
        let copy = testkit::Database::empty("it_upgrade").await?;
        let released = migrate::runner().set_target(refinery::Target::Version(version));
        platform::migrate::run(&copy.url("postgres").into(), released).await.unwrap();
        Some(Database { copy, keys })
    }

    /// Points settings at it.
    pub(crate) fn configure(&self, settings: &mut Settings) {
        configure(settings, |role| self.copy.url(role), &self.keys);
        // As every database is a test's own, so is its lake.
        settings.object_store.url = self.keys.join("lake").join(self.copy.name()).display().to_string();
    }

    /// A connection that row-level security does not bind.
    pub(crate) async fn connect(&self) -> Client {
        self.copy.connect().await
    }

    /// No one can reach it until [`Database::come_back`].
    pub(crate) async fn go_away(&self) {
        self.copy.refuse_connections().await;
    }

    /// It can be reached again.
    pub(crate) async fn come_back(&self) {
        self.copy.allow_connections().await;
    }
}

async fn migrated() -> Option<Migrated> {
    let keys = std::env::temp_dir().join(format!("secretaria-{}", unique("keys")));
    let fill = async |owner: String| {
        let mut settings = Settings::default();
        configure(&mut settings, |role| testkit::as_role(&owner, role), &keys);
        api::keys::create_missing(&keys).unwrap();
        migrate::database(&settings).await.unwrap();
        if asks_the_extension() {
            connect(&owner).await.batch_execute("create extension secretaria version '0.3.0'").await.unwrap();
        }
    };
    let template = Template::of("it_template", fill).await?;
    Some(Migrated { template, keys })
}

fn configure(settings: &mut Settings, url: impl Fn(&str) -> String, keys: &Path) {
    settings.postgres.owner_url = url("postgres").into();
    settings.postgres.service_url = url("secretaria_service").into();
    settings.postgres.api_url = url("secretaria_api").into();
    settings.postgres.operator_url = url("secretaria_operator").into();
    settings.postgres.pool_size = 16;
    settings.keys.dir = keys.to_owned();
}
