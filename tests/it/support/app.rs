//! The whole pipeline in one process: `all`, on a broker, a database and providers of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::companies::{Auth, Channel, NewCompany};
use platform::postgres::Db;
use platform::seal::Sealer;
use sandbox::{Filter, Sandbox};
use secrecy::{ExposeSecret, SecretString};
use secretaria::{Settings, serve};
use tokio_postgres::Client;

use super::database::Database;
use super::eventually;
use super::hook::{Hook, Producer};
use super::mock_cluster::MockCluster;

/// A running pipeline and everything around it.
pub(crate) struct TestApp {
    pub(crate) settings: Settings,
    pub(crate) broker: MockCluster,
    pub(crate) database: Database,
    pub(crate) sandbox: Sandbox,
    pub(crate) sql: Client,
    running: Option<serve::Running>,
    accepted: Mutex<BTreeSet<String>>,
}

impl TestApp {
    /// Starts with settings that make tests fast; `None` when this run has no Postgres.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(|_| {}).await
    }

    /// Starts with some settings changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Option<Self> {
        let mut app = Self::prepare(change).await?;
        app.run().await;
        Some(app)
    }

    /// Everything but the pipeline itself.
    pub(crate) async fn prepare(change: impl FnOnce(&mut Settings)) -> Option<Self> {
        Some(Self::prepare_on(Database::create().await?, change).await)
    }

    /// The same, on an existing database.
    pub(crate) async fn prepare_on(database: Database, change: impl FnOnce(&mut Settings)) -> Self {
        let sandbox = Sandbox::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let mut settings = Settings::default();
        database.configure(&mut settings);
        settings.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        settings.http.drain_ms = 5_000;
        settings.kafka.partitions = 4;
        // This broker knows no static members: one that returns waits for its own earlier session to end.
        settings.kafka.session_timeout_ms = 1_000;
        settings.reply.quiet_ms = 60;
        settings.reply.quiet_cap_ms = 600;
        settings.reply.model.base_url = sandbox.base_url();
        settings.reply.model.api_key = "sandbox".into();
        settings.reply.model.backoff_ms = 20;
        settings.reply.runner.sweep_ms = 50;
        settings.reply.runner.lease_ms = 2_000;
        settings.delivery.time_scale = 0.004;
        settings.delivery.timeout_ms = 1_500;
        settings.delivery.runner.sweep_ms = 50;
        settings.delivery.runner.lease_ms = 2_000;
        settings.alerts.time_scale = 0.001;
        settings.alerts.timeout_ms = 1_500;
        settings.alerts.allow_private = true;
        settings.alerts.runner.sweep_ms = 50;
        settings.alerts.runner.lease_ms = 2_000;
        settings.archive.batch_wait_ms = 50;
        // Tests count jobs; those about rollups compute more often.
        settings.rollups.every_ms = 86_400_000;
        settings.rollups.runner.sweep_ms = 50;
        settings.rollups.runner.lease_ms = 2_000;
        change(&mut settings);
        let broker = MockCluster::start(settings.kafka.partitions);
        settings.kafka.bootstrap = broker.bootstrap.clone();
        let sql = database.connect().await;
        TestApp { settings, broker, database, sandbox, sql, running: None, accepted: Mutex::default() }
    }

    pub(crate) async fn run(&mut self) {
        let running = serve::start(self.settings.clone(), serve::Roles::all(), None).await.unwrap();
        self.settings.http.listen = running.address();
        self.running = Some(running);
    }

    /// Stops it as SIGTERM would.
    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    /// Waits until it reports that it cannot go on.
    pub(crate) async fn broke(&self) {
        let broke = tokio::time::timeout(super::TIMEOUT, self.running.as_ref().unwrap().broke());
        broke.await.expect("a process that cannot go on reports it");
    }

    /// The same, with a new connection for the test itself.
    pub(crate) async fn reconnected(mut self) -> Self {
        self.sql = self.database.connect().await;
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.settings.http.listen)
    }

    /// A company whose webhooks are accepted from now on, with a bridge that has a static token.
    pub(crate) async fn company(&self, domain: &str) -> Producer {
        self.company_with(domain, Auth::Token(SecretString::from("bridge-token"))).await
    }

    /// A company whose bridge has these credentials.
    pub(crate) async fn company_with(&self, domain: &str, auth: Auth) -> Producer {
        let producer = self.add_company(domain, auth).await;
        if self.running.is_some() {
            self.known(&producer).await;
        }
        producer
    }

    /// A company in the database, whether or not the pipeline runs.
    pub(crate) async fn add_company(&self, domain: &str, auth: Auth) -> Producer {
        let db = Db::new(&self.settings.postgres.operator_url, &self.settings.postgres, "test").unwrap();
        let sealer = Arc::new(Sealer::from_file(&self.settings.keys.key_encryption_key()).unwrap());
        let company = NewCompany {
            domain: domain.to_owned(),
            name: Some("Clínica Sorriso".into()),
            assistant_prompt: Some("Preços: limpeza R$ 150.\nHorário: segunda a sexta, 8h às 18h.".into()),
            channel: Some(Channel { base_url: self.sandbox.base_url(), auth }),
            ..NewCompany::default()
        };
        let added = api::companies::add(&db, &sealer, company).await.unwrap();
        Producer {
            company_id: added.company_id.0,
            domain: domain.to_owned(),
            secret: added.webhook_secret.expose_secret().to_owned(),
        }
    }

    /// Waits until ingest has loaded a company: a signed body that is no JSON is then a 400, no longer a 401.
    pub(crate) async fn known(&self, producer: &Producer) {
        let probe = producer.signed("no json", platform::clock::now().as_second(), &producer.secret);
        eventually("ingest knows the company", || async {
            let answer = probe.post(&self.url()).await;
            if answer.status == 400 { Ok(()) } else { Err(answer.status_and_reason()) }
        })
        .await;
    }

    /// Sends a webhook that must be accepted; returns its id.
    pub(crate) async fn accept(&self, hook: &Hook) -> String {
        let answer = hook.post(&self.url()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.body["id"].as_str().unwrap().to_owned();
        self.accepted.lock().unwrap().insert(id.clone());
        id
    }

    /// Sends the same webhook until it is accepted.
    pub(crate) async fn accept_in_the_end(&self, hook: &Hook) {
        let id = eventually("the same webhook is accepted", || async {
            let answer = hook.post(&self.url()).await;
            let id = answer.body["id"].as_str().map(str::to_owned);
            id.filter(|_| answer.status == 202).ok_or(answer.status_and_reason())
        })
        .await;
        self.accepted.lock().unwrap().insert(id);
    }

    /// One text column of one row, `null` for none.
    pub(crate) async fn one(&self, sql: &str) -> String {
        match self.sql.query(sql, &[]).await {
            Ok(rows) => rows
                .iter()
                .map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".into()))
                .collect::<Vec<_>>()
                .join("\n"),
            Err(problem) => format!("{problem:?}"),
        }
    }

    /// Waits until a query's one text column is as expected, rows joined by newlines.
    pub(crate) async fn comes_to(&self, sql: &str, expected: &str) {
        eventually(expected, || async {
            let seen = self.one(sql).await;
            if seen == expected { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Waits until everything accepted was read and nothing is on its way, and checks that everything is accounted for.
    pub(crate) async fn settles(&self) {
        let accepted: Vec<String> = self.accepted.lock().unwrap().iter().map(|id| format!("'{id}'")).collect();
        if !accepted.is_empty() {
            let came_in = format!(
                "select count(*)::text from event_outcomes where processor = 'reply' and event_id in ({})",
                accepted.join(", ")
            );
            self.comes_to(&came_in, &accepted.len().to_string()).await;
        }
        self.comes_to(
            "select concat(
               (select count(*) from event_outcomes where state = 'in_flight'), ' in flight, ',
               (select count(*) from outbox), ' in the outbox, ',
               (select count(*) from turns t
                join messages g on g.company_id = t.company_id and g.turn_id = t.turn_id and g.direction = 'out'
                left join event_outcomes m on m.company_id = g.company_id and m.processor = 'delivery'
                  and m.event_id = g.message_id
                where m.event_id is null), ' not published, ',
               (select coalesce(sum(answered - booked), 0) from (
                  select count(*) as answered, 0 as booked from messages g join turns t using (company_id, turn_id)
                  where t.outcome in ('replied', 'fallback')
                  union all
                  select 0, count(*) from usage_events where fact <> 'model_tokens') u), ' not booked')",
            "0 in flight, 0 in the outbox, 0 not published, 0 not booked",
        )
        .await;
        let mut wrong: Vec<String> = Vec::new();
        for (_, rule) in secretaria::commands::conservation::CHECKS {
            let rows = self.sql.query(*rule, &[]).await.unwrap();
            wrong.extend(rows.iter().map(|row| format!("{}: {}", row.get::<_, &str>(0), row.get::<_, &str>(1))));
        }
        assert!(wrong.is_empty(), "conservation is broken: {wrong:#?}");
        let drift = "select (select count(*) from verify_usage()) + (select count(*) from verify_entitlements())
                       + (select count(*) from usage_reservations where state = 'held')";
        let drift: i64 = self.sql.query_one(drift, &[]).await.unwrap().get(0);
        assert_eq!(drift, 0, "a counter is not the sum of its ledger, or something is still reserved");
    }

    /// What was really sent to contacts, in order: the text after its number.
    pub(crate) fn sent_to(&self, number: &str) -> Vec<String> {
        self.sandbox.log(&Filter::sent().number(number)).into_iter().filter_map(|it| it.text).collect()
    }

    /// A company's conversation with everything in it, as a transcript.
    pub(crate) async fn transcript(&self) -> String {
        self.one(
            "select concat(case direction when 'in' then '→ ' else '← ' end, body)
             from messages
             order by company_id, conversation_id, position",
        )
        .await
    }

    /// Every attempt of every delivery, in order.
    pub(crate) async fn attempts(&self) -> String {
        self.one(
            "select string_agg(result || coalesce(' ' || class, ''), ', ' order by attempt)
             from delivery_attempts
             group by company_id, delivery_id
             order by min(started_at)",
        )
        .await
    }
}

/// Gives something that must not happen a moment to happen.
pub(crate) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}
