//! The fixture of the processors' tests: a database for each test, and events as a consumer gets them.
//!
//! Events are handled as the consumer does it (admission, the processor's work, outcomes, in one transaction), and the
//! outbox is published as the relay does it, so several processors can be tested without a broker.

use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use domain::{Activity, CompanyId, Envelope, EventId, Kind, Topic, header};
use futures_util::future::{Either, select};
use jiff::Timestamp;
use platform::consumer::{Event, Handler};
use platform::dead_letter::headers_from_json;
use platform::kafka::{self, Record};
use platform::object_store;
use platform::outbox::Entry;
use platform::outcomes::{self, Admission, Incoming, Replay};
use platform::postgres::{Config, Db, Failure, Transaction};
use platform::processor::Context;
use platform::queue::{self, Steps, Wake, Work, Worker};
use platform::seal::Sealer;
use platform::secret::SecretText;
use platform::task::{self, Stop};
use testkit::{Session, Template};

/// A database, and the next offset of the test's topics.
pub(crate) struct Fixture {
    pub(crate) root: Session,
    /// A pool of `secretaria_service`, whose rights the processors have.
    pub(crate) service: Db,
    offset: AtomicI64,
}

/// Runs a test with a new fixture, or reports that it was left out.
pub(crate) async fn with_fixture(test: impl AsyncFnOnce(&Fixture)) {
    let Some(template) = Template::of_files().await else { return };
    let copy = testkit::Database::copy(&template, "processors").await;
    let config = Config { pool_size: 24, wait_ms: 20_000, ..Config::default() };
    let service = Db::new(&SecretText::from(copy.url("secretaria_service")), &config, "test").unwrap();
    test(&Fixture { root: copy.session().await, service, offset: AtomicI64::new(0) }).await;
}

impl Deref for Fixture {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.root
    }
}

/// A fixed instant, where the time does not matter.
pub(crate) fn noon() -> Timestamp {
    "2026-03-15T12:00:00Z".parse().unwrap()
}

impl Fixture {
    /// Takes a topic's records out of the outbox, as if a relay had published them on partition 0.
    pub(crate) async fn publish(&self, topic: Topic) -> Vec<Record> {
        let rows = self.take_outbox(topic.as_str()).await.into_iter();
        rows.map(|it| Record::kept(topic, 0, it.outbox_id, it.key, it.payload, headers_from_json(&it.headers)))
            .collect()
    }

    /// The events of a topic in the outbox, in the order of publishing.
    pub(crate) async fn waiting(&self, topic: Topic) -> Vec<EventId> {
        self.outbox_events(topic.as_str()).await.into_iter().map(EventId).collect()
    }

    pub(crate) fn db(&self) -> &Db {
        &self.service
    }

    /// Opens connections beforehand, so that concurrent operations do not wait for them.
    pub(crate) async fn open_connections(&self) {
        let connections = futures_util::future::join_all((0..12).map(|_| self.service.get())).await;
        assert!(connections.iter().all(Result::is_ok));
    }

    /// A company in São Paulo.
    pub(crate) async fn company(&self, domain: &str) -> CompanyId {
        self.company_in(domain, "America/Sao_Paulo").await
    }

    /// A company in that time zone.
    pub(crate) async fn company_in(&self, domain: &str, time_zone: &str) -> CompanyId {
        let sql = "insert into companies (domain, name, time_zone) values ($1, $1, $2) returning company_id";
        CompanyId(self.root.query_one(sql, &[&domain, &time_zone]).await.unwrap().get(0))
    }

    /// The record of an event, as ingest or a relay writes it.
    pub(crate) fn record<T: serde::Serialize>(&self, topic: Topic, subject: &str, envelope: &Envelope<T>) -> Record {
        let entry = Entry::of_event(topic, subject, (2, 1), envelope, None).unwrap();
        let offset = self.offset.fetch_add(1, Ordering::Relaxed);
        Record::kept(entry.topic, 0, offset, Some(entry.key), Some(entry.payload), entry.headers)
    }

    /// Handles records in one transaction; returns the admission of each.
    pub(crate) async fn consume<I: Handler>(&self, handler: &I, records: &[Record]) -> Result<Vec<Admission>, Failure> {
        let mut client = self.service.get().await?;
        let tx = client.transaction().await?;
        let envelopes = records.iter().map(|it| Envelope::read(it.payload.as_deref().unwrap(), I::KINDS).unwrap());
        let envelopes: Vec<Envelope<I::Payload>> = envelopes.collect();
        let incoming: Vec<Incoming> =
            envelopes.iter().zip(records).map(|(envelope, record)| incoming_of(envelope, record)).collect();
        let admissions = outcomes::admit(&tx, I::PROCESSOR, &incoming).await?;
        let all = envelopes.into_iter().zip(records).zip(&admissions);
        let events: Vec<Event<'_, I::Payload>> = all
            .filter(|(_, admission)| **admission != Admission::Duplicate)
            .map(|((envelope, record), &admission)| Event { envelope, record, admission })
            .collect();
        let handled = handler.handle(&tx, &events).await?;
        assert_eq!(handled.outcomes.len(), events.len(), "one outcome for each event");
        let ended = events
            .iter()
            .zip(handled.outcomes)
            .map(|(it, outcome)| (it.envelope.company_id, it.envelope.event_id, outcome));
        outcomes::record(&tx, I::PROCESSOR, &ended.collect::<Vec<_>>()).await?;
        if let Some(queue) = I::QUEUE {
            queue::enqueue(&tx, queue, &handled.jobs).await?;
        }
        tx.commit().await?;
        Ok(admissions)
    }

    /// What a processor needs; there is no broker.
    pub(crate) fn context(&self) -> Context {
        let (db, kafka) = (self.service.clone(), kafka::Config::default());
        Context { db, kafka, sealer: sealer(), object_store: object_store::Config::default(), instance: "one".into() }
    }

    /// The steps of a worker of the instance `one`.
    pub(crate) fn steps<W: Work>(&self, work: W, config: queue::Config) -> Steps<W> {
        self.steps_of("one", work, config)
    }

    /// The steps of a worker of that instance.
    pub(crate) fn steps_of<W: Work>(&self, instance: &str, work: W, config: queue::Config) -> Steps<W> {
        let (db, instance) = (self.service.clone(), instance.to_owned());
        Steps::new(Worker { work, db, config, instance, wake: Wake::default() })
    }

    /// Waits until so many transactions of this database wait for a lock.
    async fn waiters(&self, number: i64) {
        let sql =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        while self.number(sql).await != number {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Runs two operations concurrently: the first as far as it waits for a lock of `blocked`, then the second until it
    /// waits or ends; then rolls `blocked` back. Both must succeed.
    pub(crate) async fn cross<A, B>(
        &self,
        blocked: Transaction<'_>,
        one: impl Future<Output = Result<A, Failure>>,
        other: impl Future<Output = Result<B, Failure>>,
    ) -> (A, B) {
        let other = async {
            self.waiters(1).await;
            match select(Box::pin(other), Box::pin(self.waiters(2))).await {
                Either::Left((ended, _)) => {
                    blocked.rollback().await.unwrap();
                    ended
                }
                Either::Right(((), other)) => {
                    blocked.rollback().await.unwrap();
                    other.await
                }
            }
        };
        let (one, other) = tokio::join!(one, other);
        (one.unwrap(), other.unwrap())
    }

    /// Runs a worker until a query gives true.
    pub(crate) async fn work_until<W: Work>(&self, work: W, config: queue::Config, holds: &str) {
        let (db, stop) = (self.service.clone(), Stop::new());
        let worker = Worker { work, db, config, instance: "one".into(), wake: Wake::default() };
        let working = task::spawn("worker", worker.run(stop.clone()));
        let awaited = async {
            while self.rows(holds).await != ["t"] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), awaited).await;
        stop.cancel();
        working.await.unwrap();
        assert!(in_time.is_ok(), "this never became true: {holds}");
    }

    /// The events of work that ended, as a relay would publish them.
    pub(crate) async fn activity(&self) -> Vec<Envelope<Activity>> {
        let records = self.publish(Topic::ActivityEvents).await;
        records.iter().map(|it| Envelope::read(it.payload.as_deref().unwrap(), Kind::ACTIVITY).unwrap()).collect()
    }

    /// Where each job of a queue is, and how often it was attempted.
    pub(crate) async fn jobs(&self, queue: &str) -> Vec<String> {
        self.rows(&format!(
            "select place, attempts
             from (
               select 'scheduled' as place, attempts, job_key from jobs_scheduled where queue = '{queue}'
               union all
               select 'ready', attempts, job_key from jobs_ready where queue = '{queue}'
               union all
               select 'waiting', 0, job_key from jobs_waiting where queue = '{queue}'
               union all
               select 'running', attempts, job_key from jobs_running where queue = '{queue}'
             ) it
             order by place, attempts"
        ))
        .await
    }
}

/// A sealer with a public test key.
pub(crate) fn sealer() -> Arc<Sealer> {
    static SEALER: LazyLock<Arc<Sealer>> = LazyLock::new(|| {
        let file = std::env::temp_dir().join(format!("sealer_test_{}.key", std::process::id()));
        std::fs::write(&file, "5e".repeat(32)).unwrap();
        let sealer = Sealer::from_file(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        Arc::new(sealer)
    });
    Arc::clone(&SEALER)
}

fn incoming_of<T>(envelope: &Envelope<T>, record: &Record) -> Incoming {
    let replay = if record.header(header::ATTEMPT).is_some() { Replay::Yes } else { Replay::No };
    let (company, event) = (envelope.company_id, envelope.event_id);
    Incoming { company, event, topic: record.topic, partition: record.partition, offset: record.offset, replay }
}
