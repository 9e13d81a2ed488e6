//! kill -9, again and again, on real Kafka: everything accepted is answered once, in order, and accounted for.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use analytics::Rollups;
use analytics::lake::Lake;
use api::companies::Auth;
use platform::postgres::Db;
use platform::task::Stop;
use platform::{clock, kafka};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sandbox::{Filter, SettingsChange, Target};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::hook::{CLIENT, Hook, Producer};

/// The tests here stop and freeze a broker that they share.
pub(crate) static BROKER: Mutex<()> = Mutex::const_new(());

const KILLS: usize = 20;
const IN_FLIGHT: usize = 200;

/// The pipeline on the real broker, not yet running; `None` when this run has none.
pub(crate) async fn on_real_kafka(change: impl FnOnce(&mut secretaria::Settings)) -> Option<TestApp> {
    let bootstrap = testkit::kafka()?;
    let mut app = TestApp::prepare(change).await?;
    app.settings.kafka.bootstrap = bootstrap;
    app.settings.kafka.prefix = format!("{}.", testkit::unique("pipeline"));
    app.settings.kafka.session_timeout_ms = 30_000;
    kafka::create_topics(&app.settings.kafka).await.unwrap();
    Some(app)
}

/// The binary as a process of its own, at an address of its own.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn begin(app: &TestApp) -> Self {
        Process::begin_of(app, env!("CARGO_BIN_EXE_secretaria"))
    }

    /// The same of another build.
    pub(crate) fn begin_of(app: &TestApp, program: impl AsRef<OsStr>) -> Self {
        let child = Process::command(app, program).arg("all").stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        Process { child }
    }

    /// A build with the settings of this test.
    pub(crate) fn command(app: &TestApp, program: impl AsRef<OsStr>) -> Command {
        let settings = &app.settings;
        let mut command = Command::new(program);
        command
            .env("SECRETARIA__HTTP__LISTEN", settings.http.listen.to_string())
            .env("SECRETARIA__KAFKA__BOOTSTRAP", &settings.kafka.bootstrap)
            .env("SECRETARIA__KAFKA__PREFIX", &settings.kafka.prefix)
            .env("SECRETARIA__KAFKA__PARTITIONS", settings.kafka.partitions.to_string())
            .env("SECRETARIA__KAFKA__SESSION_TIMEOUT_MS", settings.kafka.session_timeout_ms.to_string())
            .env("SECRETARIA__PROCESS__INSTANCE", &settings.process.instance)
            .env("SECRETARIA__POSTGRES__OWNER_URL", settings.postgres.owner_url.expose())
            .env("SECRETARIA__POSTGRES__OPERATOR_URL", settings.postgres.operator_url.expose())
            .env("SECRETARIA__POSTGRES__SERVICE_URL", settings.postgres.service_url.expose())
            .env("SECRETARIA__POSTGRES__API_URL", settings.postgres.api_url.expose())
            .env("SECRETARIA__KEYS__DIR", &settings.keys.dir)
            .env("SECRETARIA__REPLY__QUIET_MS", settings.reply.quiet_ms.to_string())
            .env("SECRETARIA__REPLY__MODEL__BASE_URL", &settings.reply.model.base_url)
            .env("SECRETARIA__REPLY__MODEL__API_KEY", settings.reply.model.api_key.expose())
            .env("SECRETARIA__REPLY__RUNNER__SWEEP_MS", "50")
            .env("SECRETARIA__REPLY__RUNNER__LEASE_MS", settings.reply.runner.lease_ms.to_string())
            .env("SECRETARIA__DELIVERY__TIME_SCALE", settings.delivery.time_scale.to_string())
            .env("SECRETARIA__DELIVERY__TIMEOUT_MS", settings.delivery.timeout_ms.to_string())
            .env("SECRETARIA__DELIVERY__RUNNER__SWEEP_MS", "50")
            .env("SECRETARIA__DELIVERY__RUNNER__LEASE_MS", settings.delivery.runner.lease_ms.to_string())
            .env("SECRETARIA__ALERTS__ALLOW_PRIVATE", settings.alerts.allow_private.to_string())
            .env("SECRETARIA__ALERTS__TIMEOUT_MS", settings.alerts.timeout_ms.to_string())
            .env("SECRETARIA__ALERTS__RUNNER__SWEEP_MS", "50")
            .env("SECRETARIA__OBJECT_STORE__URL", &settings.object_store.url)
            .env("SECRETARIA__ARCHIVE__BATCH_WAIT_MS", settings.archive.batch_wait_ms.to_string())
            .env("SECRETARIA__ROLLUPS__EVERY_MS", settings.rollups.every_ms.to_string())
            .env("SECRETARIA__TELEMETRY__LOG", "error");
        command
    }

    pub(crate) async fn ready(&self, app: &TestApp) {
        eventually("the process is ready", || async {
            let answer = CLIENT.get(format!("{}/readyz", app.url())).send().await;
            answer.map_err(|problem| problem.to_string())?.error_for_status().map(drop).map_err(|it| it.to_string())
        })
        .await;
    }

    /// SIGKILL: nothing of it runs any more when this returns.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends a webhook once; it is accepted only with a 202.
async fn accepted(url: &str, hook: &Hook) -> bool {
    let mut request = CLIENT.post(format!("{url}/webhook/whaticket")).body(hook.body.clone());
    for (name, value) in &hook.headers {
        request = request.header(*name, value);
    }
    request.timeout(Duration::from_secs(8)).send().await.is_ok_and(|it| it.status().as_u16() == 202)
}

/// Sends webhooks at the same time; returns those that were not accepted.
async fn send_all(url: &str, hooks: Vec<Hook>) -> Vec<Hook> {
    let sending = hooks.into_iter().map(|hook| async move { (!accepted(url, &hook).await).then_some(hook) });
    futures_util::future::join_all(sending).await.into_iter().flatten().collect()
}

/// Webhooks of random contacts, each a message of its own.
fn some_hooks(dice: &mut StdRng, companies: &[Producer], next: &mut u32, count: usize) -> Vec<Hook> {
    let hook = |_| {
        *next += 1;
        let company = &companies[dice.random_range(0..companies.len())];
        let number = format!("55119{:08}", dice.random_range(0..40));
        company.text(&number, &format!("M{next}"), &format!("mensagem {next}"))
    };
    (0..count).map(hook).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_at_random_nothing_is_lost_doubled_or_out_of_order() {
    let _alone = BROKER.lock().await;
    let Some(mut app) = on_real_kafka(|settings| settings.reply.quiet_ms = 50).await else { return };
    app.settings.http.listen = free_address();
    let seed = testkit::variable("SECRETARIA_TEST_SEED")
        .and_then(|it| it.parse().ok())
        .unwrap_or(clock::now().as_microsecond() as u64);
    println!("seed {seed} (SECRETARIA_TEST_SEED={seed} repeats it)");
    let mut dice = StdRng::seed_from_u64(seed);
    let auth = || Auth::Token("bridge-token".into());
    let companies = [app.add_company("clinica.test", auth()).await, app.add_company("salao.test", auth()).await];
    let mut next = 0;

    // First: two hundred messages are in flight, and then the process is killed.
    app.sandbox.settings(SettingsChange { model_latency_ms: Some(20_000), ..SettingsChange::default() });
    let process = Process::begin(&app);
    process.ready(&app).await;
    app.known(&companies[0]).await;
    let many = (0..IN_FLIGHT).map(|n| companies[n % 2].text(&format!("55118{n:08}"), "M0", "oi")).collect();
    assert!(send_all(&app.url(), many).await.is_empty(), "all were accepted");
    app.comes_to("select count(*)::text from turns where state = 'answering'", &IN_FLIGHT.to_string()).await;
    let in_flight = app.one("select count(*)::text from event_outcomes where state = 'in_flight'").await;
    assert_eq!(in_flight, IN_FLIGHT.to_string());
    process.kill().await;

    let mut waiting = Vec::new();
    for kill in 1..KILLS {
        let latency = |most, dice: &mut StdRng| Some(dice.random_range(0..most));
        app.sandbox.settings(SettingsChange {
            model_latency_ms: latency(250, &mut dice),
            send_latency_ms: latency(150, &mut dice),
            ..SettingsChange::default()
        });
        let process = Process::begin(&app);
        // Most runs get to work; some are killed while they start.
        if kill % 5 != 0 {
            process.ready(&app).await;
        }
        let count = dice.random_range(5..30);
        waiting.extend(some_hooks(&mut dice, &companies, &mut next, count));
        let moment = Duration::from_millis(dice.random_range(20..1_800));
        let url = app.url();
        let sent = platform::task::spawn("producers", async move { send_all(&url, waiting).await });
        tokio::time::sleep(moment).await;
        process.kill().await;
        waiting = sent.await.unwrap();
    }
    println!("{KILLS} kills, {next} more messages, {} not yet accepted", waiting.len());

    app.sandbox.settings(SettingsChange {
        model_latency_ms: Some(0),
        send_latency_ms: Some(0),
        ..SettingsChange::default()
    });
    let process = Process::begin(&app);
    process.ready(&app).await;
    app.known(&companies[0]).await;
    while !waiting.is_empty() {
        waiting = send_all(&app.url(), waiting).await;
    }
    let all = (IN_FLIGHT as u32 + next).to_string();
    app.comes_to("select count(distinct event_id)::text from event_outcomes where processor = 'reply'", &all).await;
    app.settles().await;
    check_the_rows(&app, &all).await;
    check_the_provider(&app).await;
    check_the_lake(&app, &all).await;
    process.kill().await;
}

/// Each message is in the lake's numbers once, although producers sent some of them again and archive was killed while it
/// wrote; and the usage there is the ledger's.
async fn check_the_lake(app: &TestApp, all: &str) {
    let db = Db::new(&app.settings.postgres.service_url, &app.settings.postgres, "test").unwrap();
    let lake = Lake::open(&app.settings.object_store).unwrap();
    let rollups = Rollups { lake, db: db.clone(), limits: Arc::default() };
    eventually("the lake has what the ledger has", || async {
        for day in rollups.all_dirty().await.unwrap() {
            rollups.compute(day, &Stop::new()).await.unwrap();
        }
        let differing = analytics::against_ledger(&db.get().await.unwrap()).await.unwrap();
        let received = app.one("select sum(messages_received)::text from rollup_days").await;
        if differing.is_empty() && received == all { Ok(()) } else { Err(format!("{received} {differing:?}")) }
    })
    .await;
}

/// Every message in one turn, every turn one outcome, all of it booked. The outcomes and sums were checked by `settles`.
async fn check_the_rows(app: &TestApp, all: &str) {
    assert_eq!(app.one("select count(*)::text from messages where direction = 'in'").await, all, "each is stored once");
    assert_eq!(app.one("select count(*)::text from turns where outcome is null").await, "0");
    let answers = "select count(*)::text from turns t where outcome <> 'ignored' and (
        select count(*) from messages g where g.turn_id = t.turn_id and g.direction = 'out') <> 1";
    assert_eq!(app.one(answers).await, "0", "each turn has one answer");
    let booked = "select concat((select count(*) from usage_events where fact = 'message_in'), ' ',
        (select count(*) from usage_events where fact = 'message_out') - (select count(*) from turns))";
    assert_eq!(app.one(booked).await, format!("{all} 0"));
}

/// The provider saw each conversation in order, and a message twice only after an attempt that is unknown or failed.
async fn check_the_provider(app: &TestApp) {
    let rows = app
        .sql
        .query(
            "select d.delivery_id::text, d.send_to, d.position, d.company_id, a.attempt, coalesce(a.result, '')
             from deliveries d join delivery_attempts a using (company_id, delivery_id)",
            &[],
        )
        .await
        .unwrap();
    let mut results = HashMap::new();
    let mut places = HashMap::new();
    for row in &rows {
        let delivery: String = row.get(0);
        results.insert((delivery.clone(), row.get::<_, i32>(4)), row.get::<_, String>(5));
        places.insert(delivery, (row.get::<_, i64>(3), row.get::<_, String>(1), row.get::<_, i64>(2)));
    }
    let mut last_attempt = HashMap::new();
    let mut last_place = BTreeMap::new();
    let (mut sends, mut repeated) = (0, 0);
    for entry in app.sandbox.log(&Filter { performed: Some(true), ..Filter::of(Target::Send) }) {
        let key = entry.message_key.unwrap();
        let (delivery, attempt) = key.split_once(':').unwrap();
        let attempt: i32 = attempt.parse().unwrap();
        sends += 1;
        if let Some(before) = last_attempt.insert(delivery.to_owned(), attempt) {
            let result = &results[&(delivery.to_owned(), before)];
            assert!(matches!(result.as_str(), "UNKNOWN" | "FAILED_TEMPORARY"), "{key} follows {result}");
            repeated += 1;
        }
        let (company, number, position) = &places[delivery];
        let place = last_place.entry((*company, number.clone())).or_insert(0);
        assert!(*position >= *place, "company {company}: position {position} was sent after {place}");
        *place = *position;
    }
    println!("{sends} sends, {repeated} of them after one that is unknown or failed");
}

/// A signal for the broker's process.
async fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_frozen_in_the_middle_of_a_publish_costs_a_503_and_no_second_answer() {
    let _alone = BROKER.lock().await;
    let Some(mut app) = on_real_kafka(|settings| settings.kafka.message_timeout_ms = 2_000).await else { return };
    let Some(pid) = testkit::server("SECRETARIA_TEST_KAFKA_PID", "the broker's process id") else { return };
    app.run().await;
    let clinic = app.company("clinica.test").await;
    app.accept(&clinic.text("5511999990001", "A1", "oi")).await;
    app.settles().await;
    signal("-STOP", &pid).await;
    let frozen: Vec<Hook> = (0..5).map(|n| clinic.text(&format!("551199999000{n}"), "B1", "tem horário?")).collect();
    let began = clock::instant();
    let url = app.url();
    let responses = futures_util::future::join_all(frozen.iter().map(|hook| hook.post(&url))).await;
    let took = began.elapsed();
    signal("-CONT", &pid).await;
    assert!(
        responses.iter().all(|it| it.status_and_reason() == "503 not_durable" && it.retry_after.is_some()),
        "{responses:?}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    for hook in &frozen {
        app.accept_in_the_end(hook).await;
    }
    app.settles().await;
    assert_eq!(
        app.sandbox.count(&Filter::sent()),
        6,
        "one answer each, whether or not the record of the 503 was written"
    );
    app.stop().await;
}
