//! A provider that is down: its jobs wait without being attempted, those of other providers go on.

use super::*;
use crate::queue::HoldLimit;

/// Opens after two failures in a row.
fn circuit(open_ms: u64) -> CircuitConfig {
    CircuitConfig { failures: 2, open_ms, open_cap_ms: open_ms }
}

/// Two calls of company 1 have failed, so that its circuit is open.
async fn opened(database: &Database, script: &Script, config: Config) -> Running {
    script.provider_is_down(true);
    let worker = start(database, "one", config, script);
    enqueue(&database.service, &[job(1, 1, "fail"), job(1, 2, "fail")]).await;
    worker.wake.enqueued([COMPANY]);
    until(database, "select count(*) from attempted where attempts = 1", 2).await;
    worker
}

#[tokio::test]
async fn jobs_of_an_open_circuit_are_held_back_unattempted_while_others_go_on() {
    in_a_scripted_database(async |database| {
        let script = Script::with_circuits(HoldLimit::SinceDue(TIMEOUT));
        let config = Config { circuit: circuit(60_000), sweep_ms: NEVER_MS, ..config() };
        let worker = opened(database, &script, config).await;
        let mine = [job(1, 3, "fail"), job(1, 4, "fail"), job(1, 5, "fail")];
        enqueue(&database.service, &mine).await;
        worker.wake.enqueued([COMPANY]);
        for number in 10..20 {
            enqueue(&database.service, &[job(2, number, "fail-not")]).await;
            worker.wake.enqueued([CompanyId(2)]);
            until(database, "select count(*) from jobs where company_id = 2", 0).await;
        }
        worker.stop().await;
        assert_eq!(script.calls().iter().filter(|it| **it < 10).count(), 2, "the two that opened it");
        let unattempted = "select count(*) from attempted where attempts = 0";
        assert_eq!(database.number(unattempted).await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_probe_closes_the_circuit_and_all_jobs_run() {
    in_a_scripted_database(async |database| {
        let script = Script::with_circuits(HoldLimit::SinceDue(TIMEOUT));
        // Only the circuit's own wait wakes the worker.
        let config = Config { circuit: circuit(500), sweep_ms: NEVER_MS, ..config() };
        let worker = opened(database, &script, config).await;
        let more: Vec<NewJob> = (3..30).map(|it| job(1, it, "fail")).collect();
        enqueue(&database.service, &more).await;
        worker.wake.enqueued([COMPANY]);
        script.provider_is_down(false);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(script.calls().len(), 2 + 29, "each once, and the two that opened it again");
    })
    .await;
}

#[tokio::test]
async fn while_a_provider_stays_down_it_is_called_by_probes_only() {
    in_a_scripted_database(async |database| {
        let script = Script::with_circuits(HoldLimit::SinceDue(TIMEOUT));
        let config = Config { circuit: circuit(100), ..config() };
        let worker = opened(database, &script, config).await;
        let more: Vec<NewJob> = (3..60).map(|it| job(1, it, "fail")).collect();
        enqueue(&database.service, &more).await;
        worker.wake.enqueued([COMPANY]);
        let probed = async {
            while script.calls().len() < 6 {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(TIMEOUT, probed).await.unwrap();
        worker.stop().await;
        assert!(script.most_running() <= 2, "{} at once", script.most_running());
        let attempts = "select sum(attempts) from attempted";
        assert_eq!(database.number(attempts).await, script.calls().len() as i64);
    })
    .await;
}

/// How long job 3 was held back, in seconds, with a limit of two.
async fn held_for_s(limit: HoldLimit, open_ms: u64) -> f64 {
    let (held, mut seconds) = (std::sync::Mutex::new(String::new()), 0.0);
    in_a_scripted_database(async |database| {
        let script = Script::with_circuits(limit);
        let worker = opened(database, &script, Config { circuit: circuit(open_ms), ..config() }).await;
        enqueue(&database.service, &[job(1, 3, "fail")]).await;
        worker.wake.enqueued([COMPANY]);
        let ended = format!("select count(*) from written where job_key = '{}' and word = 'held_too_long'", key(3));
        until(database, &ended, 1).await;
        worker.stop().await;
        let after_s = database.rows(&format!("select after_s from written where job_key = '{}'", key(3))).await;
        held.lock().unwrap().clone_from(&after_s[0]);
        assert!(!script.calls().contains(&3));
    })
    .await;
    let held = held.into_inner().unwrap();
    if !held.is_empty() {
        seconds = held.parse().unwrap();
    }
    seconds
}

#[tokio::test]
async fn a_job_with_a_deadline_is_held_back_until_then() {
    let held_for_s = held_for_s(HoldLimit::SinceDue(Duration::from_secs(2)), 60_000).await;
    assert!(held_for_s < 3.5, "{held_for_s} s");
}

#[tokio::test]
async fn a_job_without_a_deadline_is_held_back_for_as_long_as_a_retry_schedule() {
    let held_for_s = held_for_s(HoldLimit::WhileOpen(Duration::from_secs(2)), 60_000).await;
    assert!(held_for_s < 3.5, "{held_for_s} s");
}
