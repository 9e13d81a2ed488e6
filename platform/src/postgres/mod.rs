//! Connections to Postgres: pooled, with bounds on their number and on every wait.

pub mod migrate;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use deadpool_postgres::{GenericClient, Transaction};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
pub use tokio_postgres::types::ToSql;
pub use tokio_postgres::{Client, Error, Row};

use crate::secret::SecretText;
use crate::settings;
use crate::telemetry::chain;

/// Settings `postgres.*`. Each URL logs in as another role; passwords are in the URLs, so they are never printed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A role that may create roles and the schema: used by `migrate` alone.
    pub owner_url: SecretText,
    /// `secretaria_service`: ingest's company directory and the processors.
    pub service_url: SecretText,
    /// `secretaria_api`: sees one company per transaction.
    pub api_url: SecretText,
    /// `secretaria_operator`: commands of the operator.
    pub operator_url: SecretText,
    /// Most connections per pool.
    pub pool_size: usize,
    /// Longest wait for a free connection, a new one, and a statement, in milliseconds.
    pub wait_ms: u64,
    /// Longest a statement may run, in milliseconds.
    pub statement_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let url = |user: &str| SecretText::from(format!("postgres://{user}@127.0.0.1:15432/secretaria"));
        Config {
            owner_url: url("postgres"),
            service_url: url("secretaria_service"),
            api_url: url("secretaria_api"),
            operator_url: url("secretaria_operator"),
            pool_size: 24,
            wait_ms: 3_000,
            statement_ms: 15_000,
        }
    }
}

impl Config {
    /// Checks what can be checked without connecting.
    ///
    /// # Errors
    /// Names the invalid setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        for (key, url) in [
            ("postgres.owner_url", &self.owner_url),
            ("postgres.service_url", &self.service_url),
            ("postgres.api_url", &self.api_url),
            ("postgres.operator_url", &self.operator_url),
        ] {
            // The parser's own message may quote the URL, password and all; ours does not.
            tokio_postgres::Config::from_str(url.expose())
                .map_err(|_| settings::Error::invalid(key, "not a postgres:// URL"))?;
        }
        if !(2..=1_000).contains(&self.pool_size) {
            return Err(settings::Error::invalid("postgres.pool_size", "must be between 2 and 1000"));
        }
        Ok(())
    }
}

/// Why Postgres did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection could be had in time.
    #[error("no connection to postgres")]
    Pool(#[from] PoolError),
    #[error("postgres refused a statement")]
    Statement(#[from] Error),
    /// A pool could not be made.
    #[error("pool cannot be built")]
    Build(#[from] deadpool_postgres::BuildError),
    /// The data was refused, by a function's answer or before it was sent.
    #[error("{0}")]
    Refused(String),
    /// Something else that the transaction needs is unavailable, such as an object store.
    #[error("{0}")]
    Unavailable(String),
}

impl Failure {
    /// Whether the data is at fault: a value or a constraint, not the connection or the server.
    ///
    /// Classes 22 (data exception), 23 (integrity constraint violation) and 54 (program limit exceeded), and what the
    /// protocol cannot carry.
    pub fn blames_the_data(&self) -> bool {
        match self {
            Failure::Statement(error) => match error.code() {
                Some(code) => ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)),
                None => {
                    !error.is_closed() && std::error::Error::source(error).is_some_and(|it| !it.is::<std::io::Error>())
                }
            },
            Failure::Refused(_) => true,
            Failure::Pool(_) | Failure::Build(_) | Failure::Unavailable(_) => false,
        }
    }

    /// Whether the statement waited too long for a lock (55P03) or was cancelled (57014), for example by its timeout.
    pub fn is_timeout(&self) -> bool {
        let Failure::Statement(error) = self else { return false };
        error.code().is_some_and(|code| *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED)
    }

    /// Whether one record may be the cause, if it keeps failing alone while others succeed.
    ///
    /// Never with a lost connection, nor in classes 08 (connection exception), 25 (invalid transaction state: a standby),
    /// 40 (transaction rollback), 42 (access rule violation: a missing grant or table), 53 (insufficient resources: a full
    /// disk), 55 (object not in prerequisite state: a lock), 57 (operator intervention: a failover) and 58 (system error).
    pub fn may_blame_a_record(&self) -> bool {
        const NEVER: [&str; 8] = ["08", "25", "40", "42", "53", "55", "57", "58"];
        match self {
            Failure::Statement(error) => {
                error.code().is_some_and(|code| !NEVER.iter().any(|class| code.code().starts_with(class)))
            }
            Failure::Refused(_) | Failure::Pool(_) | Failure::Build(_) | Failure::Unavailable(_) => false,
        }
    }
}

/// A pool of connections of one role.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
}

impl Db {
    /// Builds a pool; connects only when asked for a connection.
    ///
    /// # Errors
    /// If the URL is malformed.
    pub fn new(url: &SecretText, config: &Config, name: &str) -> Result<Self, Failure> {
        let mut target = tokio_postgres::Config::from_str(url.expose())?;
        let wait = Duration::from_millis(config.wait_ms);
        target
            .application_name(format!("secretaria {name}"))
            .connect_timeout(wait)
            // A server that disappears without closing the connection is noticed in half a minute, not in fifteen.
            .keepalives_idle(Duration::from_secs(15))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(20))
            .options(format!(
                "-c statement_timeout={} -c idle_in_transaction_session_timeout=60000",
                config.statement_ms
            ));
        let manager = Manager::from_config(target, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(wait))
            .create_timeout(Some(wait))
            .recycle_timeout(Some(wait))
            .build()?;
        Ok(Db { pool })
    }

    /// A connection from the pool; return it soon.
    ///
    /// # Errors
    /// If none is free within `postgres.wait_ms`.
    pub async fn get(&self) -> Result<Object, Failure> {
        Ok(self.pool.get().await?)
    }

    /// Whether Postgres answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), Failure> {
        self.get().await?.simple_query("select 1").await?;
        Ok(())
    }
}

pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a query whose plan the connection keeps.
///
/// # Errors
/// If Postgres refuses.
pub async fn query(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
    client.query(&client.prepare_cached(sql).await?, params).await
}

/// Runs a statement whose plan the connection keeps, and returns the number of rows affected.
///
/// # Errors
/// If Postgres refuses.
pub async fn execute(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<u64, Error> {
    client.execute(&client.prepare_cached(sql).await?, params).await
}

/// A batch as parameters of a statement that takes one array per column: `columns![messages => |it| it.company.0, it.id.0]`.
/// What follows a `;` is a parameter as it is.
#[macro_export]
macro_rules! columns {
    ($items:expr => |$it:pat_param| $($column:expr),+ $(; $($other:expr),+)?) => {
        [
            $(&$items.iter().map(|$it| $column).collect::<Vec<_>>() as &(dyn $crate::postgres::ToSql + Sync),)+
            $($($other as &(dyn $crate::postgres::ToSql + Sync),)+)?
        ]
    };
}

/// Rows in the order of the `count` inputs of a query, each with one row or none: the first column of a row is the number
/// of its input, from 1, as `with ordinality` counts.
pub fn in_order<T>(count: usize, rows: &[Row], read: impl Fn(&Row) -> T) -> Vec<Option<T>> {
    let mut all: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for row in rows {
        if let Some(slot) = all.get_mut(ordinal(row)) {
            *slot = Some(read(row));
        }
    }
    all
}

/// The index of the input that a row belongs to, from its first column.
pub fn ordinal(row: &Row) -> usize {
    usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX)
}

/// Listens on a channel: wakes at every notification, and once after every (re)connection, because notifications may have
/// been missed.
///
/// Runs until stopped; while Postgres is unavailable it reconnects every second.
pub fn notifications(url: &SecretText, channel: &'static str, stop: crate::task::Stop) -> Arc<Notify> {
    let notify = Arc::new(Notify::new());
    let (url, sender) = (url.clone(), Arc::clone(&notify));
    crate::task::spawn("notifications", async move {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                ended = listen(&url, channel, &sender) => if let Err(problem) = ended {
                    tracing::debug!(channel, error = chain(&problem), "not listening to postgres");
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    notify
}

async fn listen(url: &SecretText, channel: &str, notify: &Notify) -> Result<(), Error> {
    let (client, mut connection) = tokio_postgres::connect(url.expose(), NoTls).await?;
    let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
    let command = format!("listen {channel}");
    let listen = client.batch_execute(&command);
    tokio::pin!(listen);
    let mut listening = false;
    loop {
        tokio::select! {
            done = &mut listen, if !listening => {
                done?;
                listening = true;
                notify.notify_one();
            }
            message = messages.next() => match message {
                Some(Ok(_)) => notify.notify_one(),
                Some(Err(problem)) => return Err(problem),
                None => return Ok(()),
            }
        }
    }
}
