//! A database of a test's own: a copy of a template, dropped with its value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::{Session, block_on, files_of, postgres, sql_folder, unique};

/// What runs that prepare one cluster wait for: roles belong to all of its databases.
const LOCK: &str = "select pg_advisory_lock(17432)";

/// A database that tests get copies of.
#[derive(Debug, Clone)]
pub struct Template {
    admin_url: String,
    name: String,
}

impl Template {
    /// The migrations and the functions as the files are now; made once per cluster and version of them. `None` where
    /// this run has no Postgres.
    pub async fn of_files() -> Option<Self> {
        let files = read_files();
        let sql: String = files.iter().map(|(_, sql)| sql.as_str()).collect();
        let version = Uuid::new_v5(&Uuid::NAMESPACE_OID, sql.as_bytes()).simple().to_string();
        let name = format!("template_{}", &version[..16]);
        Some(Self::made(postgres()?, name, async |url: String| apply(&connect(&url).await, &files).await).await)
    }

    /// The same, and what `fill` adds to it; for this process alone.
    pub async fn of_files_and(prefix: &str, fill: impl AsyncFnOnce(String)) -> Option<Self> {
        let fill = async |url: String| {
            apply(&connect(&url).await, &read_files()).await;
            fill(url).await;
        };
        Self::of(prefix, fill).await
    }

    /// One that `fill` makes, which gets the superuser's URL of it; for this process alone.
    pub async fn of(prefix: &str, fill: impl AsyncFnOnce(String)) -> Option<Self> {
        let admin_url = postgres()?;
        remove_abandoned(&connect(&admin_url).await, prefix).await;
        Some(Self::made(admin_url, unique(prefix), fill).await)
    }

    async fn made(admin_url: String, name: String, fill: impl AsyncFnOnce(String)) -> Self {
        let admin = connect(&admin_url).await;
        admin.batch_execute(LOCK).await.unwrap();
        let known = admin.query("select from pg_database where datname = $1", &[&name]).await.unwrap();
        if known.is_empty() {
            let draft = format!("{name}_draft");
            admin.batch_execute(&format!("drop database if exists {draft} with (force)")).await.unwrap();
            admin.batch_execute(&format!("create database {draft} template template0")).await.unwrap();
            fill(url(&admin_url, "postgres", &draft)).await;
            // The name is given last, so that a template with this name is always whole.
            rename(&admin, &draft, &name).await;
        }
        admin.batch_execute("select pg_advisory_unlock(17432)").await.unwrap();
        Template { admin_url, name }
    }
}

/// The migrations, then the functions.
fn read_files() -> Vec<(PathBuf, String)> {
    let files = ["migrations", "functions"].into_iter().flat_map(|it| files_of(&sql_folder(it)));
    files.map(|it| (it.clone(), std::fs::read_to_string(it).unwrap())).collect()
}

async fn apply(owner: &Client, files: &[(PathBuf, String)]) {
    for (file, sql) in files {
        let done = owner.batch_execute(&format!("begin;\n{sql}\ncommit;")).await;
        done.unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
    }
}

/// What is connected cannot be renamed or copied.
async fn rename(admin: &Client, draft: &str, name: &str) {
    let kill = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1";
    admin.execute(kill, &[&draft]).await.unwrap();
    admin.batch_execute(&format!("alter database {draft} rename to {name}")).await.unwrap();
}

/// Removes what test processes that ended have left: their number is in the name.
async fn remove_abandoned(admin: &Client, prefix: &str) {
    let left = "select datname from pg_database where datname ~ ('^' || $1 || '[a-z_]*_[0-9]+_[0-9]+(_draft)?$')";
    for row in admin.query(left, &[&prefix]).await.unwrap() {
        let name: String = row.get(0);
        let process = name.trim_end_matches("_draft").rsplit('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Another process may be removing it at this moment.
            let _ = admin.batch_execute(&format!("drop database if exists {name} with (force)")).await;
        }
    }
}

/// A database that is dropped with its value; that of a test that failed stays, and its name is printed.
#[derive(Debug)]
pub struct Database {
    admin_url: String,
    name: String,
}

impl Database {
    /// A copy of a template.
    pub async fn copy(template: &Template, prefix: &str) -> Self {
        let (admin_url, name) = (template.admin_url.clone(), unique(prefix));
        let admin = connect(&admin_url).await;
        let from = &template.name;
        admin.batch_execute(&format!("drop database if exists {name} with (force)")).await.unwrap();
        admin.batch_execute(&format!("create database {name} template {from}")).await.unwrap();
        let database = Database { admin_url, name };
        // A copy does not take the template's own settings along, and the search path is one.
        let settings = "select unnest(setconfig) from pg_db_role_setting
                        where setrole = 0 and setdatabase = (select oid from pg_database where datname = $1)";
        for row in admin.query(settings, &[from]).await.unwrap() {
            let (setting, value) = row.get::<_, &str>(0).split_once('=').unwrap();
            database.set(setting, value).await;
        }
        database
    }

    /// An empty one; `None` where this run has no Postgres.
    pub async fn empty(prefix: &str) -> Option<Self> {
        Some(Self::empty_on(postgres()?, prefix).await)
    }

    /// An empty one on the server of that superuser's URL.
    pub async fn empty_on(admin_url: String, prefix: &str) -> Self {
        let name = unique(prefix);
        let create = format!("create database {name} template template0");
        connect(&admin_url).await.batch_execute(&create).await.unwrap();
        Database { admin_url, name }
    }

    /// Sets a setting for every connection from now on.
    pub async fn set(&self, setting: &str, value: &str) {
        self.admin(&format!("alter database {} set {setting} = {value}", self.name)).await;
    }

    /// Takes back every setting that connections begin with, the search path too: what is called has to be qualified.
    pub async fn reset_settings(&self) {
        self.admin(&format!("alter database {} reset all", self.name)).await;
    }

    /// Refuses connections, and ends those there are, until [`Database::allow_connections`].
    pub async fn refuse_connections(&self) {
        self.admin(&format!("alter database {} allow_connections false", self.name)).await;
        let kill = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", self.name);
        self.admin(&kill).await;
    }

    /// Takes connections again.
    pub async fn allow_connections(&self) {
        self.admin(&format!("alter database {} allow_connections true", self.name)).await;
    }

    async fn admin(&self, sql: &str) {
        connect(&self.admin_url).await.batch_execute(sql).await.unwrap();
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL for a role; the tests' servers ask for no password.
    pub fn url(&self, role: &str) -> String {
        url(&self.admin_url, role, &self.name)
    }

    /// A connection as the superuser: row-level security does not bind it.
    pub async fn connect(&self) -> Client {
        connect(&self.url("postgres")).await
    }

    /// Such a connection, with what tests ask it.
    pub async fn session(&self) -> Session {
        Session(self.connect().await)
    }
}

impl Drop for Database {
    /// On a thread of its own, because the test's runtime is ending here.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: database {}", self.name);
            return;
        }
        let (admin_url, name) = (self.admin_url.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let sql = format!("drop database if exists {name} with (force)");
            // Tried once: a test that stops its own server has taken the database along.
            block_on(async { try_connect(&admin_url).await?.batch_execute(&sql).await })
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            eprintln!("a test database was left behind: {}", self.name);
        }
    }
}

/// `postgres://user@host:port/any` for another role and database.
fn url(admin_url: &str, role: &str, database: &str) -> String {
    let host = admin_url.rsplit_once('/').unwrap().0.rsplit(['@', '/']).next().unwrap();
    format!("postgres://{role}@{host}/{database}")
}

/// The URL of the same database for another role.
pub fn as_role(database_url: &str, role: &str) -> String {
    url(database_url, role, database_url.rsplit_once('/').unwrap().1)
}

/// Connects, for up to a minute while the server restarts. The connection ends with the client.
pub async fn connect(url: &str) -> Client {
    for _ in 0..6_000 {
        if let Ok(client) = try_connect(url).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no connection to {url}");
}

async fn try_connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    #[expect(clippy::disallowed_methods, reason = "a test's own connection needs no name in logs")]
    tokio::spawn(connection);
    Ok(client)
}
