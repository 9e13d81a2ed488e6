//! Failures: the broker, Postgres or a record is not as it should be.

use std::time::Duration;

use domain::{CompanyId, Topic, placement};
use platform::clock;
use platform::postgres::Db;
use platform::seal::Sealer;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use secrecy::ExposeSecret;

use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::hook::Producer;

const ANA: &str = "5511999990001";

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_away_from_the_start_is_a_503_in_time_and_the_same_webhook_later_one_reply() {
    let Some(mut app) = TestApp::prepare(|_| {}).await else { return };
    app.broker.down();
    app.run().await;
    let clinic = app.company("clinica.test").await;
    let hook = clinic.text(ANA, "A1", "oi");
    let began = clock::instant();
    let answer = hook.post(&app.url()).await;
    let took = began.elapsed();
    assert_eq!((answer.status_and_reason().as_str(), answer.retry_after.is_some()), ("503 not_durable", true));
    assert!(took < Duration::from_secs(5), "{took:?}");
    app.broker.up();
    app.accept_in_the_end(&hook).await;
    app.settles().await;
    assert_eq!(app.sent_to(ANA).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_for_a_while_stops_nothing_for_good() {
    let Some(app) = TestApp::start_with(|settings| settings.kafka.message_timeout_ms = 1_000).await else { return };
    let clinic = app.company("clinica.test").await;
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.settles().await;
    app.broker.down();
    let hook = clinic.text(ANA, "A2", "tem horário?");
    assert_eq!(hook.post(&app.url()).await.status_and_reason(), "503 not_durable");
    app.broker.up();
    app.accept_in_the_end(&hook).await;
    app.settles().await;
    assert_eq!(app.sent_to(ANA).len(), 2, "one answer each, whether or not the record of the 503 was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_away_pauses_the_processors_and_loses_nothing() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.settles().await;
    app.database.go_away().await;
    // Webhooks do not need Postgres: the directory is in memory.
    for n in 0..30 {
        app.accept(&clinic.text(&format!("551198888{n:04}"), "M1", "oi")).await;
    }
    let health = reqwest::Client::new().get(format!("{}/healthz", app.url())).send().await.unwrap();
    assert_eq!(health.status().as_u16(), 503);
    app.database.come_back().await;
    let app = app.reconnected().await;
    app.comes_to("select count(*)::text from messages where direction = 'in'", "31").await;
    app.settles().await;
    assert_eq!(app.sandbox.count(&sandbox::Filter::sent()), 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_being_rotated_out_ends_in_time_although_postgres_is_away() {
    let Some(app) = TestApp::start().await else { return };
    let old = app.company("clinica.test").await;
    let settings = &app.settings;
    let db = Db::new(&settings.postgres.operator_url, &settings.postgres, "test").unwrap();
    let sealer = Sealer::from_file(&settings.keys.key_encryption_key()).unwrap();
    let kept = Duration::from_secs(5);
    let secret = api::companies::rotate_secret(&db, &sealer, "clinica.test", clock::now(), kept).await.unwrap();
    let new = Producer { secret: secret.expose_secret().to_owned(), ..old.clone() };
    app.known(&new).await;
    app.accept(&old.text(ANA, "A1", "oi")).await;
    app.settles().await;
    app.database.go_away().await;
    eventually("the old secret ends", || async {
        let answer = old.text(ANA, "A2", "oi").post(&app.url()).await.status_and_reason();
        if answer == "401 bad_signature" { Ok(()) } else { Err(answer) }
    })
    .await;
    app.accept(&new.text(ANA, "A3", "oi")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_we_cannot_open_is_a_503_for_its_company_alone() {
    let Some(app) = TestApp::start().await else { return };
    let (clinic, salon) = (app.company("clinica.test").await, app.company("salao.test").await);
    let spoil = "update companies set webhook_secret_sealed = set_byte(
                   webhook_secret_sealed, 20, get_byte(webhook_secret_sealed, 20) # 1)
                 where domain = 'clinica.test'";
    app.sql.execute(spoil, &[]).await.unwrap();
    eventually("its webhooks are to be sent again", || async {
        let answer = clinic.text(ANA, "A1", "oi").post(&app.url()).await;
        if answer.status_and_reason() == "503 directory_not_loaded" && answer.retry_after.is_some() {
            Ok(())
        } else {
            Err(answer.status_and_reason())
        }
    })
    .await;
    app.accept(&salon.text(ANA, "A1", "oi")).await;
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_company_that_could_not_be_loaded_yet_is_a_503_and_not_a_401() {
    let Some(mut app) = TestApp::prepare(|_| {}).await else { return };
    let clinic = app.add_company("clinica.test", api::companies::Auth::Token("bridge-token".into())).await;
    app.database.go_away().await;
    app.run().await;
    let hook = clinic.text(ANA, "A1", "oi");
    let answer = hook.post(&app.url()).await;
    assert_eq!((answer.status_and_reason().as_str(), answer.retry_after.is_some()), ("503 directory_not_loaded", true));
    app.database.come_back().await;
    let app = app.reconnected().await;
    app.known(&clinic).await;
    app.accept(&hook).await;
    app.settles().await;
}

/// Puts a record on a topic past ingest.
async fn put(app: &TestApp, topic: Topic, company: i64, payload: &[u8], headers: &[(&str, &[u8])]) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &app.settings.kafka.bootstrap).create().unwrap();
    let key = format!("{company}/551199990001");
    let mut owned = OwnedHeaders::new();
    for (key, value) in headers {
        owned = owned.insert(Header { key, value: Some(*value) });
    }
    let partition = placement::partition(CompanyId(company), "551199990001", 2, app.settings.kafka.partitions);
    let record = FutureRecord::to(topic.as_str()).partition(partition).key(&key).payload(payload).headers(owned);
    producer.send(record, Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_becomes_a_dead_letter_with_its_cause_and_the_partition_goes_on() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let company = clinic.company_id.to_string();
    put(&app, Topic::InboundMessages, clinic.company_id, b"\x00\xff not json", &[]).await;
    put(&app, Topic::InboundMessages, clinic.company_id, b"", &[("company", company.as_bytes())]).await;
    let future = br#"{"schema":2,"new":"world"}"#;
    put(&app, Topic::InboundMessages, clinic.company_id, future, &[("company", company.as_bytes())]).await;
    put(&app, Topic::UsageEvents, clinic.company_id, b"[]", &[]).await;
    put(&app, Topic::OutboundMessages, clinic.company_id, b"7", &[]).await;
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.comes_to(
        "select concat_ws(' ', company_id, processor, cause) from dead_letters order by processor, record_offset",
        &format!("0 delivery undecodable\n0 metering undecodable\n0 reply undecodable\n{company} reply empty\n{company} reply unknown_schema"),
    )
    .await;
    app.settles().await;
    assert_eq!(app.sent_to(ANA).len(), 1, "the message behind them was answered");
    assert_eq!(
        app.one("select encode(payload, 'hex') from dead_letters where processor = 'reply' and company_id = 0").await,
        "00ff206e6f74206a736f6e"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_tables_refuse_holds_up_no_other() {
    let Some(app) = TestApp::start_with(|settings| settings.kafka.partitions = 1).await else { return };
    let clinic = app.company("clinica.test").await;
    app.broker.round_trip(Duration::from_millis(50));
    // A company that does not exist: the foreign key refuses it, inside a batch with good ones.
    let of_unknown_company = serde_json::json!({
        "schema": 1, "event_id": "00000000-0000-0000-0000-0000000000aa", "company_id": 999_999, "kind": "inbound_message",
        "occurred_at": 1, "received_at": 1,
        "payload": { "channel": "whaticket", "address": "551199990001", "aliases": ["551199990001"],
            "reply_to": "5511999990001", "author": "contact", "content": { "type": "text", "body": "oi" } },
    })
    .to_string();
    for n in 0..10 {
        app.accept(&clinic.text(&format!("551199999{n:04}"), "M1", "oi")).await;
    }
    let headers: [(&str, &[u8]); 2] = [("company", b"999999"), ("event_id", b"00000000-0000-0000-0000-0000000000aa")];
    put(&app, Topic::InboundMessages, clinic.company_id, of_unknown_company.as_bytes(), &headers).await;
    for n in 10..20 {
        app.accept(&clinic.text(&format!("551199999{n:04}"), "M1", "oi")).await;
    }
    app.comes_to("select concat_ws(' ', company_id, cause) from dead_letters", "999999 refused_by_database").await;
    app.comes_to("select count(*)::text from messages where direction = 'in'", "20").await;
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_under_an_old_database_stops_instead_of_skipping() {
    let Some(mut app) = TestApp::start_with(|settings| settings.kafka.partitions = 1).await else { return };
    let clinic = app.company("clinica.test").await;
    for n in 1..=5 {
        app.accept(&clinic.text(ANA, &format!("A{n}"), "oi")).await;
    }
    app.settles().await;
    app.stop().await;
    app.broker = crate::support::mock_cluster::MockCluster::start(1);
    app.settings.kafka.bootstrap = app.broker.bootstrap.clone();
    app.run().await;
    app.known(&clinic).await;
    // Fewer than were read of the old log: whenever the partition is assigned, its end shows that it is another log.
    for n in 6..=8 {
        app.accept(&clinic.text(ANA, &format!("A{n}"), "tem alguém aí?")).await;
    }
    crate::support::app::a_moment().await;
    crate::support::app::a_moment().await;
    assert_eq!(app.one("select next_offset::text from consumer_offsets where processor = 'reply'").await, "5");
    assert_eq!(app.one("select count(*)::text from messages where direction = 'in'").await, "5", "none was skipped");
    app.stop().await;
    // What OPERATING tells the operator to do: read from the beginning, and keep the counts.
    let shift_ranges = "update event_ranges r
        set first_offset = r.first_offset - o.next_offset, last_offset = r.last_offset - o.next_offset
        from consumer_offsets o
        where (o.processor, o.topic, o.partition) = (r.processor, r.topic, r.partition)";
    app.sql.execute(shift_ranges, &[]).await.unwrap();
    let begin_again = "update consumer_offsets set first_offset = first_offset - next_offset, next_offset = 0";
    app.sql.execute(begin_again, &[]).await.unwrap();
    app.sql.execute("delete from topic_ends", &[]).await.unwrap();
    app.run().await;
    app.comes_to("select count(*)::text from messages where direction = 'in'", "8").await;
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_away_for_longer_than_a_lease_repeats_no_send_in_flight() {
    let change = |settings: &mut secretaria::Settings| {
        settings.delivery.timeout_ms = 10_000;
        settings.delivery.runner.lease_ms = 1_000;
    };
    let Some(app) = TestApp::start_with(change).await else { return };
    let clinic = app.company("clinica.test").await;
    let latency = sandbox::SettingsChange { send_latency_ms: Some(4_000), ..Default::default() };
    app.sandbox.settings(latency);
    for n in 0..20 {
        app.accept(&clinic.text(&format!("551198888{n:04}"), "M1", "oi")).await;
    }
    app.comes_to("select count(*)::text from deliveries where state = 'sending'", "20").await;
    app.database.go_away().await;
    // The absence itself is tested: it is longer than the leases, and the calls end during it.
    tokio::time::sleep(Duration::from_millis(5_000)).await;
    app.database.come_back().await;
    let app = app.reconnected().await;
    app.settles().await;
    assert_eq!(app.one("select string_agg(distinct result, ' ') from delivery_attempts").await, "SENT");
    assert_eq!(app.sandbox.count(&sandbox::Filter::of(sandbox::Target::Send)), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_fenced_out_of_its_group_reports_that_it_cannot_go_on() {
    let Some(mut app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.settles().await;
    app.broker.fence();
    app.broke().await;
    // It still accepts webhooks until its supervisor ends it: the next process handles them.
    app.accept(&clinic.text(ANA, "A2", "tem horário?")).await;
    app.stop().await;
    assert_eq!(app.sent_to(ANA).len(), 1);
    app.run().await;
    app.settles().await;
    assert_eq!(app.sent_to(ANA).len(), 2);
}
