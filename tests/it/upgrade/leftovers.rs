//! What release 0.1 left behind when it was killed in the middle of everything: `fixtures/upgrade/`, made there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use platform::kafka;
use platform::seal::{Sealer, SecretColumn};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sandbox::Receiver;
use serde::Deserialize;
use uuid::Uuid;

use crate::support::TIMEOUT;
use crate::support::app::TestApp;
use crate::support::database::Database;

const ROWS: &str = include_str!("../../../fixtures/upgrade/rows.dump");
const RECORDS: &str = include_str!("../../../fixtures/upgrade/records.jsonl");

/// The operator's secret of the fixture: see `make.py`.
const OPERATOR_SECRET: &str = "whsec_b3BlcmF0b3Igb2YgdGhlIHVwZ3JhZGUgZml4dHVyZSE=";

/// The topics of that release.
const TOPICS: [&str; 5] = ["inbound.messages", "outbound.messages", "usage.events", "alerts", "dead.letters"];

const RELEASED: i32 = 15;

/// The time at which the processes were killed becomes now: what was due then is due, what was not is not.
const SHIFT: &str = "
    do $$
    declare
      shift constant interval := now() - (select max(beat_at) from secretaria.heartbeats);
      it record;
    begin
      for it in
        select table_name, string_agg(format('%1$I = %1$I + $1', column_name), ', ') as sets
        from information_schema.columns
        where table_schema = 'secretaria' and data_type = 'timestamp with time zone'
          and table_name in ('turns', 'deliveries', 'delivery_attempts', 'webhook_deliveries', 'webhook_attempts',
            'event_marks', 'dead_letters', 'outbox', 'consumer_offsets', 'topic_ends', 'heartbeats')
        group by table_name
      loop
        execute format('update secretaria.%I set %s', it.table_name, it.sets) using shift;
      end loop;
    end
    $$";

/// Functions of that release that have other names now.
const FORMER_FUNCTIONS: [&str; 13] = [
    "_share(bigint, text)",
    "_gather(bigint, text)",
    "_end_sharing(bigint)",
    "_lend(bigint, text, smallint, bigint, timestamptz, timestamptz)",
    "_room(secretaria.feature_usage)",
    "_sharing()",
    "_used_in_slots(bigint, text)",
    "_count_in_slot(secretaria.usage_events, timestamptz, secretaria.feature_usage)",
    "_stays_plain(bigint, bigint, bigint, boolean, smallint)",
    "_asks_plainly()",
    "_check_slowly(bigint, text, bigint, timestamptz)",
    "_increment_plainly(bigint, text, bigint, text, jsonb, bigint, bigint, bigint, boolean, smallint, timestamptz,
       timestamptz, boolean)",
    "_increment_fully(bigint, text, bigint, text, timestamptz, text, jsonb)",
];

/// Those that are still there.
pub(super) async fn former_functions(app: &TestApp) -> Vec<String> {
    let names = FORMER_FUNCTIONS.map(|it| format!("'{}'", it.split('(').next().unwrap()));
    let found = "select proname::text from pg_proc where pronamespace = 'secretaria_reference'::regnamespace";
    list(app, &format!("{found} and proname in ({})", names.join(", "))).await
}

/// A record as it was on its topic.
#[derive(Debug, Deserialize)]
pub(super) struct Left {
    pub(super) topic: String,
    pub(super) partition: i32,
    key: Option<String>,
    headers: Vec<(String, Option<String>)>,
    payload: Option<String>,
}

fn bytes(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

impl Left {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(it, _)| it == name)?;
        Some(String::from_utf8(bytes(value.as_deref()?)).unwrap())
    }
}

/// Every record there was, partition by partition in the order of offsets.
pub(super) fn records() -> Vec<Left> {
    RECORDS.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The database and the topics as they were left, and nothing running on them; `None` when this run has no servers.
pub(super) async fn restore() -> Option<TestApp> {
    let bootstrap = testkit::kafka()?;
    let database = Database::of_release(RELEASED, keys()).await?;
    let mut app = TestApp::prepare_on(database, |_| {}).await;
    app.settings.kafka.bootstrap = bootstrap;
    app.settings.kafka.prefix = format!("{}.", testkit::unique("upgrade"));
    app.settings.kafka.session_timeout_ms = 30_000;
    app.settings.alerts.operator_webhook_url = format!("{}/webhooks/operator", app.sandbox.base_url());
    app.settings.alerts.operator_webhook_secret = OPERATOR_SECRET.into();
    publish(&app.settings.kafka).await;
    load(&app).await;
    receivers(&app).await;
    Some(app)
}

/// The keys of the fixture, in a folder that is this process's own.
fn keys() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("secretaria-{}", testkit::unique("upgrade_keys")));
    api::keys::create_missing(&folder).unwrap();
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/upgrade").join(api::keys::KEY_ENCRYPTION_KEY);
    std::fs::write(folder.join(api::keys::KEY_ENCRYPTION_KEY), std::fs::read(key).unwrap()).unwrap();
    folder
}

async fn load(app: &TestApp) {
    let root = app.database.connect().await;
    for function in FORMER_FUNCTIONS {
        let create = format!("create function secretaria_reference.{function} returns void language sql as ''");
        root.batch_execute(&create).await.unwrap();
    }
    let tables = "select string_agg(format('%I.%I', schemaname, tablename), ', ')
                  from pg_tables where schemaname = 'secretaria'";
    let tables: String = root.query_one(tables, &[]).await.unwrap().get(0);
    // The dump is complete: it includes the rows that migrations insert, and its triggers have run.
    root.batch_execute(&format!("set session_replication_role = replica; truncate {tables}")).await.unwrap();
    root.batch_execute(ROWS).await.unwrap();
    root.batch_execute(SHIFT).await.unwrap();
    let base_url = app.sandbox.base_url();
    root.execute("update secretaria.channels set base_url = $1", &[&base_url]).await.unwrap();
    let sql = "update secretaria.company_webhooks w set url = $1 || '/webhooks/' || c.domain
               from secretaria.companies c where c.company_id = w.company_id";
    root.execute(sql, &[&base_url]).await.unwrap();
}

/// The receivers of the fixture, with the secrets that calls to them are signed with.
async fn receivers(app: &TestApp) {
    let sealer = Sealer::from_file(&app.settings.keys.key_encryption_key()).unwrap();
    app.sandbox.receive("operator", &Receiver { secrets: vec![OPERATOR_SECRET.into()] }).unwrap();
    let sql = "select c.company_id, c.domain, w.secret_sealed
               from secretaria.company_webhooks w join secretaria.companies c using (company_id)";
    for row in app.sql.query(sql, &[]).await.unwrap() {
        let place =
            SecretColumn { table: "company_webhooks", column: "secret_sealed", company: domain::CompanyId(row.get(0)) };
        let secret = sealer.open_text(place, row.get(2)).unwrap();
        let secrets = vec![secrecy::ExposeSecret::expose_secret(&secret).to_owned()];
        app.sandbox.receive(row.get(1), &Receiver { secrets }).unwrap();
    }
}

/// Makes the topics of that release and puts its records where they were.
async fn publish(config: &kafka::Config) {
    let client = || ClientConfig::new().set("bootstrap.servers", &config.bootstrap).clone();
    let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
    let names = TOPICS.map(|it| format!("{}{it}", config.prefix));
    let partitions = i32::from(config.partitions);
    let topics: Vec<_> = names.iter().map(|it| NewTopic::new(it, partitions, TopicReplication::Fixed(1))).collect();
    for made in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        made.unwrap();
    }
    let producer: FutureProducer = client().set("enable.idempotence", "true").create().unwrap();
    let mut next: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for left in records() {
        let topic = format!("{}{}", config.prefix, left.topic);
        let headers = left.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_deref().map(bytes).as_ref() })
        });
        let (key, payload) = (left.key.as_deref().map(bytes), left.payload.as_deref().map(bytes));
        let mut record = FutureRecord::to(&topic).partition(left.partition).headers(headers);
        if let Some(key) = &key {
            record = record.key(key);
        }
        if let Some(payload) = &payload {
            record = record.payload(payload);
        }
        let placed = producer.send(record, TIMEOUT).await.unwrap();
        let offset = next.entry((left.topic, left.partition)).or_default();
        assert_eq!(placed.offset, *offset, "a record has the offset that it had");
        *offset += 1;
    }
}

/// Makes heartbeats older, so that the processes have been gone for this long.
pub(super) async fn silent_for(app: &TestApp, time: Duration) {
    let sql = "update secretaria.heartbeats set beat_at = now() - make_interval(secs => $1)";
    app.sql.execute(sql, &[&time.as_secs_f64()]).await.unwrap();
}

/// One text column as a sorted list.
pub(super) async fn list(app: &TestApp, sql: &str) -> Vec<String> {
    let rows = app.sql.query(sql, &[]).await.unwrap();
    let mut lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.sort();
    lines
}

/// The ids of events on a topic, once each.
pub(super) fn events_on(topic: &str) -> Vec<Uuid> {
    let on_topic = records().into_iter().filter(|it| it.topic == topic);
    let mut ids: Vec<Uuid> = on_topic.filter_map(|it| it.header("event_id")?.parse().ok()).collect();
    ids.sort();
    ids.dedup();
    ids
}
