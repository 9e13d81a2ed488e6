//! A database and a set of topics of a part's own, on the servers that all parts share.

use anyhow::{Context, ensure};
use domain::{CompanyId, Topic};
use platform::postgres::Db;
use platform::secret::SecretText;
use platform::{kafka, task};
use secretaria::Settings;
use secretaria::commands::conservation::CHECKS;
use secretaria::commands::migrate;
use tokio_postgres::{Client, NoTls};

use crate::process::Process;

/// The database and topics of a part.
pub(crate) struct Site {
    /// The settings of this site's processes.
    pub(crate) settings: Settings,
    pub(crate) root: Client,
    /// A pool of the processors' role.
    pub(crate) service: Db,
}

impl Site {
    /// Recreates the database and the topics.
    pub(crate) async fn create(base: &Settings, name: &str, partitions: u16) -> anyhow::Result<Self> {
        let mut settings = base.clone();
        let admin = connect(base.postgres.owner_url.expose()).await.context("is this dev/bench.sh engine?")?;
        admin.batch_execute(&format!("drop database if exists bench_{name} with (force)")).await?;
        admin.batch_execute(&format!("create database bench_{name}")).await?;
        let urls = &mut settings.postgres;
        for url in [&mut urls.owner_url, &mut urls.service_url, &mut urls.api_url, &mut urls.operator_url] {
            let (server, _) = url.expose().rsplit_once('/').context("a database's address has no name")?;
            *url = SecretText::from(format!("{server}/bench_{name}"));
        }
        settings.kafka.prefix = format!("{name}-{}.", std::process::id());
        settings.kafka.partitions = partitions;
        api::keys::create_missing(&settings.keys.dir)?;
        migrate::database(&settings).await?;
        kafka::create_topics(&settings.kafka).await?;
        let root = connect(settings.postgres.owner_url.expose()).await?;
        let service = Db::new(&settings.postgres.service_url, &settings.postgres, "bench")?;
        Ok(Site { settings, root, service })
    }

    /// Makes companies, each on the first plan.
    pub(crate) async fn add_companies(&self, count: usize) -> anyhow::Result<Vec<CompanyId>> {
        let sql = "
            with made as (
              insert into secretaria.companies (domain, name, assistant_prompt)
              select format('bench-%s.example', n), format('Bench %s', n), 'Clínica aberta de segunda a sexta, das 8h às 18h.'
              from generate_series(1, $1::bigint) n
              returning company_id
            )
            select company_id from made order by company_id";
        let rows = self.root.query(sql, &[&i64::try_from(count)?]).await?;
        let operator = Db::new(&self.settings.postgres.operator_url, &self.settings.postgres, "bench")?;
        api::companies::subscribe_all(&operator).await?;
        // Limits that are checked with every turn and never reached.
        let sql = "
            insert into secretaria.company_overrides (company_id, feature, limit_value, reason)
            select company_id, feature, 1000000000000, 'benchmark'
            from secretaria.companies
            cross join secretaria.features_catalog
            where kind = 'metered'";
        self.root.batch_execute(sql).await?;
        self.root.batch_execute("analyze secretaria.companies").await?;
        Ok(rows.iter().map(|row| CompanyId(row.get(0))).collect())
    }

    /// Starts the real binary on this site.
    pub(crate) fn start(&self, only: &str, window: usize, model: &str) -> anyhow::Result<Process> {
        let log = format!("{}{only}", self.settings.kafka.prefix);
        let mut command = Process::command(env!("CARGO_BIN_EXE_secretaria"));
        command.args(["process", "--only", only]);
        for (name, value) in [
            ("POSTGRES__SERVICE_URL", self.settings.postgres.service_url.expose()),
            ("POSTGRES__OPERATOR_URL", self.settings.postgres.operator_url.expose()),
            ("KAFKA__PREFIX", &self.settings.kafka.prefix),
            ("KAFKA__PARTITIONS", &self.settings.kafka.partitions.to_string()),
            ("REPLY__QUIET_MS", "0"),
            ("REPLY__RUNNER__WINDOW", &window.to_string()),
            ("REPLY__MODEL__BASE_URL", model),
            ("REPLY__MODEL__API_KEY", "bench"),
        ] {
            command.env(format!("SECRETARIA__{name}"), value);
        }
        Process::start(command, &log)
    }

    pub(crate) async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        Ok(self.root.query_one(sql, &[]).await.with_context(|| sql.to_owned())?.get(0))
    }

    /// Records that were ever written to a topic.
    pub(crate) async fn records(&self, topic: Topic) -> anyhow::Result<i64> {
        let config = self.settings.kafka.clone();
        let counting = tokio::task::spawn_blocking(move || {
            let (client, topic) = (config.observer()?, config.topic(topic));
            let end = |partition| {
                anyhow::Ok(kafka::watermarks(&client, &topic, partition, std::time::Duration::from_secs(10))?.1)
            };
            (0..i32::from(config.partitions)).try_fold(0, |sum, partition| anyhow::Ok(sum + end(partition)?))
        });
        counting.await?
    }

    /// Fails if something was lost or doubled.
    pub(crate) async fn check_conservation(&self) -> anyhow::Result<()> {
        self.root.batch_execute("analyze").await?;
        let mut broken = Vec::new();
        for (rule, sql) in CHECKS {
            let rows = self.root.query(*sql, &[]).await.with_context(|| format!("sql/checks/{rule}.sql"))?;
            broken.extend(rows.first().map(|row| format!("{rule}: {}", row.get::<_, String>(1))));
        }
        ensure!(broken.is_empty(), "conservation: {}", broken.join("; "));
        Ok(())
    }
}

/// A connection of its own.
pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    task::spawn("bench connection", connection);
    Ok(client)
}
