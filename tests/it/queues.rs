//! `secretaria queue`: what an operator sees of the job queues and does to them.

use sandbox::{Fault, FaultRule, Target};
use secretaria::Settings;
use secretaria::commands::conservation::CHECKS;
use serde_json::json;

use crate::names::secretaria;
use crate::support::app::TestApp;
use crate::support::database::Database;
use crate::support::eventually;

const ANA: &str = "5511999990001";
const RUI: &str = "5511999990002";

/// Jobs of the company that is there after the migrations: one of each state that needs no lane, and two dead.
const JOBS: &str = "
    insert into jobs (company_id, queue, job_key, due_at)
    select 1, queue, key::uuid, due_at
    from (values
      ('reply', '00000000-0000-0000-0000-000000000001', now() + interval '1 hour'),
      ('reply', '00000000-0000-0000-0000-000000000002', now() - interval '90 seconds'),
      ('delivery', '00000000-0000-0000-0000-000000000003', now() - interval '5 seconds')
    ) as j (queue, key, due_at);
    insert into jobs_scheduled (queue, due_at, company_id, job_key, keeps_lane, priority, attempts)
    select queue, due_at, company_id, job_key, false, 0, 0 from jobs where due_at > now();
    insert into jobs_ready (company_id, queue, priority, due_at, job_key, attempts)
    select company_id, queue, 0, due_at, job_key, 3 from jobs where queue = 'reply' and due_at < now();
    insert into jobs_running
      (company_id, queue, job_key, fence, priority, due_at, attempts, claimed_by, lease_until, progress_permille)
    select company_id, queue, job_key, 1, 0, due_at, 1, 'a-worker', now(), 125 from jobs where queue = 'delivery';
    insert into jobs_dead (company_id, queue, job_key, body, attempts, cause, detail)
    values
      (1, 'alerts', '00000000-0000-0000-0000-000000000004', '{}', 10, 'refused_by_database', 'division by zero'),
      (1, 'alerts', '00000000-0000-0000-0000-000000000005', '{}', 10, 'other', '');";

/// Runs `secretaria queue …`: whether it succeeded, and what it printed.
async fn queue(settings: &Settings, args: &[&str]) -> (bool, String) {
    let args: Vec<&str> = std::iter::once("queue").chain(args.iter().copied()).collect();
    let output = secretaria(settings, &args).await;
    let printed = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(printed).unwrap())
}

async fn printed(settings: &Settings, args: &[&str]) -> String {
    let (succeeded, printed) = queue(settings, args).await;
    assert!(succeeded, "{args:?}: {printed}");
    printed
}

async fn refusal(settings: &Settings, args: &[&str]) -> String {
    let (succeeded, printed) = queue(settings, args).await;
    assert!(!succeeded, "{args:?}: {printed}");
    printed
}

/// The words of the line that begins with this one.
fn words(table: &str, first: &str) -> Vec<String> {
    let line = table.lines().find(|it| it.split_whitespace().next() == Some(first)).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_operator_sees_what_is_in_the_queues() {
    let Some(database) = Database::create().await else { return };
    let mut settings = Settings::default();
    database.configure(&mut settings);
    database.connect().await.batch_execute(JOBS).await.unwrap();

    let listed = printed(&settings, &["list"]).await;
    assert_eq!(words(&listed, "reply")[..7], ["reply", "all", "1", "1", "0", "0", "0"]);
    let oldest: u64 = words(&listed, "reply")[7].parse().unwrap();
    assert!((90..600).contains(&oldest), "{listed}");
    assert_eq!(words(&listed, "delivery"), ["delivery", "all", "0", "0", "0", "1", "0", "-", "-"]);
    assert_eq!(words(&listed, "alerts"), ["alerts", "all", "0", "0", "0", "0", "2", "-", "-"]);
    let listed = printed(&settings, &["list", "--company", "1"]).await;
    assert_eq!(words(&listed, "delivery")[..6], ["delivery", "1", "0", "0", "0", "1"]);
    assert!(refusal(&settings, &["list", "--company", "unknown.test"]).await.contains("no company `unknown.test`"));

    let shown = printed(&settings, &["show", "delivery"]).await;
    let running = shown.lines().next().unwrap();
    for word in ["running", "company 1", "1 attempt", "claimed by a-worker", "lease until", "12.5 % done"] {
        assert!(running.contains(word), "{word}: {running}");
    }
    assert!(shown.ends_with("1 jobs\n"), "{shown}");
    let dead = printed(&settings, &["show", "--state", "dead", "--key", "00000000-0000-0000-0000-000000000004"]).await;
    for word in ["dead", "alerts", "10 attempts", "refused_by_database", "division by zero"] {
        assert!(dead.contains(word), "{word}: {dead}");
    }
    assert!(refusal(&settings, &["show", "metering"]).await.contains("there are reply, delivery, alerts"));
    assert!(refusal(&settings, &["show", "--state", "lost"]).await.contains("there are scheduled, ready, waiting"));
}

#[tokio::test]
async fn dead_jobs_are_enqueued_again_and_no_job_is_removed_that_leaves_work_open() {
    let Some(database) = Database::create().await else { return };
    let mut settings = Settings::default();
    database.configure(&mut settings);
    let root = database.connect().await;
    root.batch_execute(JOBS).await.unwrap();
    let states = async || {
        let sql = "select (select count(*) from jobs_dead), (select count(*) from jobs_ready where queue = 'alerts'),
                     (select count(*) from jobs)";
        let row = root.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2))
    };

    let job = ["--company", "1", "--key", "00000000-0000-0000-0000-000000000002"];
    let refused = refusal(&settings, &[&["cancel", "reply"], job.as_slice()].concat()).await;
    assert!(refused.contains("jobs of queue reply cannot be cancelled: a turn without its job"), "{refused}");
    let refused = refusal(&settings, &["drop", "alerts"]).await;
    assert!(refused.contains("`secretaria queue retry` enqueues them again"), "{refused}");
    assert!(refused.contains("jobs of queue alerts cannot be dropped"), "{refused}");
    assert_eq!(states().await, (2, 0, 3));

    let dry = printed(&settings, &["retry", "alerts", "--dry-run"]).await;
    assert!(dry.ends_with("2 would be enqueued again\n"), "{dry}");
    assert_eq!(states().await, (2, 0, 3));
    let retried = printed(&settings, &["retry", "alerts", "--cause", "refused_by_database"]).await;
    assert!(retried.contains("000000000004  refused_by_database  after 10 attempts\n1 enqueued again\n"), "{retried}");
    assert_eq!(states().await, (1, 1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_company_that_is_paused_waits_beside_others_and_nothing_is_lost() {
    let Some(app) = TestApp::start().await else { return };
    let (clinic, salon) = (app.company("clinica.test").await, app.company("salao.test").await);
    let paused = printed(&app.settings, &["pause", "delivery", "--company", "clinica.test", "--by", "ana"]).await;
    assert!(paused.contains("is paused: nothing of it is claimed"), "{paused}");
    let again = printed(&app.settings, &["pause", "delivery", "--company", "clinica.test"]).await;
    assert!(again.contains("is paused already"), "{again}");
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.accept(&salon.text(RUI, "B1", "oi")).await;
    let ready = format!("select count(*)::text from jobs_ready where company_id = {}", clinic.company_id);
    app.comes_to(&ready, "1").await;
    let sent = format!("select outcome from deliveries where company_id = {}", salon.company_id);
    app.comes_to(&sent, "sent").await;
    assert_eq!((app.sent_to(ANA).len(), app.sent_to(RUI).len()), (0, 1));
    checks_hold(&app).await;
    let listed = printed(&app.settings, &["list", "--company", "clinica.test"]).await;
    assert!(listed.contains("by ana"), "{listed}");
    assert!(printed(&app.settings, &["list"]).await.contains("1 company"));

    let whole = printed(&app.settings, &["resume", "delivery"]).await;
    assert!(whole.contains("was not paused\ncompanies still paused: 1"), "{whole}");
    let resumed = printed(&app.settings, &["resume", "delivery", "--company", "clinica.test"]).await;
    assert!(resumed.contains("is resumed"), "{resumed}");
    app.settles().await;
    assert_eq!(app.sent_to(ANA).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checks_hold_at_any_instant_while_jobs_are_in_flight() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    // Retries keep lanes, and a conversation's second reply waits behind its first.
    for contact in 0..8 {
        let fault = Fault::Status { status: 500, body: json!({ "error": "x" }), headers: Default::default() };
        app.sandbox.fault(FaultRule::new(Target::Send, fault).number(format!("551199999000{contact}"))).unwrap();
    }
    for message in 0..24 {
        let number = format!("551199999000{}", message % 8);
        app.accept(&clinic.text(&number, &format!("A{message}"), "oi")).await;
        checks_hold(&app).await;
    }
    let ended = "select concat(count(*) >= 8, ' ', bool_and(d.state = 'ended'), ' ', max(d.attempts) > 1,
                   ' ', (select count(*) from jobs), ' ', (select count(*) from outbox))
                 from deliveries d";
    eventually("every delivery has ended", || async {
        checks_hold(&app).await;
        let seen = app.one(ended).await;
        if seen == "t t t 0 0" { Ok(()) } else { Err(seen) }
    })
    .await;
    app.settles().await;
}

/// Every check passes, whatever is on its way.
async fn checks_hold(app: &TestApp) {
    for (name, check) in CHECKS {
        let broken = app.sql.query(*check, &[]).await.unwrap();
        let broken: Vec<String> = broken.iter().map(|row| row.get("detail")).collect();
        assert!(broken.is_empty(), "{name}: {broken:#?}");
    }
}
