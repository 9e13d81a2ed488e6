//! What a worker leaves behind: running jobs when it is killed, cut off, or asked to end.

use std::time::Duration;

use api::companies::Auth;
use platform::clock;
use sandbox::{Filter, SettingsChange, Target};

use crate::crash::{BROKER, Process, free_address, on_real_kafka};
use crate::support::app::TestApp;

const ANA: &str = "5511999990001";

/// Every job, by the table that its state is.
const JOBS: &str = "select concat(
    (select count(*) from jobs), ' live: ', (select count(*) from jobs_scheduled), ' scheduled, ',
    (select count(*) from jobs_ready), ' ready, ', (select count(*) from jobs_waiting), ' waiting, ',
    (select count(*) from jobs_running), ' running, ', (select count(*) from job_lanes), ' lanes, ',
    (select count(*) from jobs_dead), ' dead')";
const NONE: &str = "0 live: 0 scheduled, 0 ready, 0 waiting, 0 running, 0 lanes, 0 dead";

fn latency(app: &TestApp, model_ms: u64, send_ms: u64) {
    app.sandbox.settings(SettingsChange {
        model_latency_ms: Some(model_ms),
        send_latency_ms: Some(send_ms),
        ..SettingsChange::default()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_in_flight_at_a_kill_is_unknown_and_is_made_once_more() {
    let _alone = BROKER.lock().await;
    let Some(mut app) = on_real_kafka(|settings| settings.delivery.timeout_ms = 60_000).await else { return };
    // Longer than this test's timeout: the same instance reclaims it, at its start.
    app.settings.delivery.runner.lease_ms = 120_000;
    app.settings.http.listen = free_address();
    let clinic = app.add_company("clinica.test", Auth::Token("bridge-token".into())).await;
    latency(&app, 0, 60_000);
    let process = Process::begin(&app);
    process.ready(&app).await;
    app.known(&clinic).await;
    app.accept(&clinic.text(ANA, "A1", "qual o preço?")).await;
    app.comes_to("select string_agg(state, ' ') from deliveries", "sending").await;
    app.accept(&clinic.text(ANA, "A2", "qual o horário?")).await;
    app.comes_to("select count(*)::text from jobs_waiting where queue = 'delivery'", "1").await;
    process.kill().await;
    let left = app.one("select concat(queue, ' ', attempts, ' ', lease_until > now()) from jobs_running").await;
    assert_eq!(left, "delivery 1 t", "the lease stays until it is reclaimed");

    latency(&app, 0, 0);
    let process = Process::begin(&app);
    app.settles().await;
    assert_eq!(app.attempts().await, "UNKNOWN lease_ran_out, SENT\nSENT");
    let sent = app.sandbox.log(&Filter { performed: Some(true), ..Filter::of(Target::Send) });
    let keys: Vec<&str> = sent.iter().filter_map(|it| it.message_key.as_deref()).collect();
    assert!(keys.len() <= 3, "the first at most twice, the second once: {keys:?}");
    let order = "select string_agg(outcome, ' ' order by position) from deliveries
        where ended_at >= all (select ended_at from deliveries d where d.position < deliveries.position)";
    assert_eq!(app.one(order).await, "sent sent", "the second waited for the first");
    assert_eq!(app.one(JOBS).await, NONE);
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_killed_process_go_to_another_when_its_leases_have_run_out() {
    let _alone = BROKER.lock().await;
    let Some(mut app) = on_real_kafka(|settings| settings.delivery.timeout_ms = 60_000).await else { return };
    // Long enough that a busy machine renews them in time.
    app.settings.reply.runner.lease_ms = 3_000;
    app.settings.delivery.runner.lease_ms = 3_000;
    // The least that the broker accepts: then the other process gets the partitions too.
    app.settings.kafka.session_timeout_ms = 6_000;
    app.settings.http.listen = free_address();
    let clinic = app.add_company("clinica.test", Auth::Token("bridge-token".into())).await;
    latency(&app, 0, 60_000);
    let process = Process::begin(&app);
    process.ready(&app).await;
    app.known(&clinic).await;
    app.accept(&clinic.text(ANA, "A1", "qual o preço?")).await;
    app.comes_to("select string_agg(state, ' ') from deliveries", "sending").await;
    latency(&app, 60_000, 0);
    app.accept(&clinic.text("5511999990002", "B1", "oi")).await;
    app.comes_to("select string_agg(queue, ' ' order by queue) from jobs_running", "delivery reply").await;
    process.kill().await;

    latency(&app, 0, 0);
    app.settings.process.instance = "two".into();
    app.settings.http.listen = free_address();
    let process = Process::begin(&app);
    process.ready(&app).await;
    app.settles().await;
    assert_eq!(app.attempts().await, "UNKNOWN lease_ran_out, SENT\nSENT");
    let answered = "select string_agg(outcome || ' ' || claims, ', ' order by opened_at) from turns";
    assert_eq!(app.one(answered).await, "replied 1, replied 2", "the turn was claimed once more and answered once");
    assert_eq!(app.one(JOBS).await, NONE);
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_send_in_flight_and_claims_nothing_more() {
    let Some(mut app) = TestApp::start_with(|settings| settings.delivery.timeout_ms = 20_000).await else { return };
    let clinic = app.company("clinica.test").await;
    latency(&app, 0, 3_000);
    app.accept(&clinic.text(ANA, "A1", "qual o preço?")).await;
    app.comes_to("select string_agg(state, ' ') from deliveries", "sending").await;
    app.accept(&clinic.text(ANA, "A2", "qual o horário?")).await;
    app.comes_to("select count(*)::text from jobs_waiting where queue = 'delivery'", "1").await;
    app.stop().await;
    assert_eq!(app.attempts().await, "SENT", "it ended, was committed, and the next was not claimed");
    assert_eq!(app.one("select string_agg(queue, ' ') from jobs_ready").await, "delivery", "the next of the lane");
    assert_eq!(app.one("select count(*)::text from jobs_running").await, "0");
    app.run().await;
    app.settles().await;
    assert_eq!(app.attempts().await, "SENT\nSENT");
    assert_eq!(app.one(JOBS).await, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_cannot_wait_leaves_a_lease_and_the_next_run_reclaims_it() {
    let change = |settings: &mut secretaria::Settings| {
        settings.delivery.timeout_ms = 60_000;
        settings.delivery.runner.drain_ms = 100;
        settings.delivery.runner.lease_ms = 120_000;
    };
    let Some(mut app) = TestApp::start_with(change).await else { return };
    let clinic = app.company("clinica.test").await;
    latency(&app, 0, 60_000);
    app.accept(&clinic.text(ANA, "A1", "qual o preço?")).await;
    app.comes_to("select string_agg(state, ' ') from deliveries", "sending").await;
    let began = clock::instant();
    app.stop().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(app.one("select string_agg(queue, ' ') from jobs_running where lease_until > now()").await, "delivery");
    assert_eq!(app.attempts().await, "null");
    latency(&app, 0, 0);
    app.run().await;
    app.settles().await;
    assert_eq!(app.attempts().await, "UNKNOWN lease_ran_out, SENT");
    assert_eq!(app.one(JOBS).await, NONE);
}
