//! Dead letters: they can be listed, replayed and dropped.

use platform::postgres::Db;
use processors::dead_letters::{self, Filter, Run};
use sandbox::{Fault, FaultRule, Target};
use serde_json::json;

use crate::support::app::TestApp;

const ANA: &str = "5511999990001";

async fn dead_lettered_delivery() -> Option<(TestApp, Db)> {
    let app = TestApp::start().await?;
    let clinic = app.company("clinica.test").await;
    let body = json!({ "error": "ERR_CHECK_NUMBER" });
    let refuse = Fault::Status { status: 400, body, headers: Default::default() };
    app.sandbox.fault(FaultRule::new(Target::Send, refuse).number(ANA)).unwrap();
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.comes_to("select cause from dead_letters", "not_on_whatsapp").await;
    app.settles().await;
    let db = Db::new(&app.settings.postgres.service_url, &app.settings.postgres, "dead_letters").unwrap();
    Some((app, db))
}

fn everything() -> Filter {
    Filter { limit: 100, ..Filter::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_delivery_keeps_its_id_and_is_sent() {
    let Some((app, db)) = dead_lettered_delivery().await else { return };
    let event = app.one("select event_id::text from dead_letters").await;
    let shown = dead_letters::replay(&db, &everything(), "test", Run::Dry).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(app.one("select state from dead_letters").await, "waiting", "a dry run changes nothing");
    dead_letters::replay(&db, &everything(), "test", Run::Real).await.unwrap();
    app.comes_to("select state from event_outcomes where processor = 'delivery'", "done").await;
    app.settles().await;
    assert_eq!(app.one("select event_id::text from event_outcomes where processor = 'delivery'").await, event);
    assert_eq!(app.one("select concat(state, ' by ', settled_by) from dead_letters").await, "replayed by test");
    assert_eq!(
        app.one("select string_agg(result, ' ' order by attempt) from delivery_attempts").await,
        "FAILED_PERMANENT SENT"
    );
    assert_eq!(app.sent_to(ANA).len(), 1);
    assert_eq!(app.one("select sum(replayed)::text from consumer_counts where processor = 'delivery'").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_once_by_many_at_once() {
    let Some((app, db)) = dead_lettered_delivery().await else { return };
    let filter = everything();
    let asked = (0..8).map(|_| dead_letters::replay(&db, &filter, "test", Run::Real));
    let settled: usize = futures_util::future::join_all(asked).await.into_iter().map(|it| it.unwrap().len()).sum();
    assert_eq!(settled, 1);
    app.comes_to("select state from event_outcomes where processor = 'delivery'", "done").await;
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_dead_letter_stays_counted() {
    let Some((app, db)) = dead_lettered_delivery().await else { return };
    dead_letters::drop(&db, &everything(), "test", Run::Real).await.unwrap();
    assert_eq!(dead_letters::list(&db, &everything()).await.unwrap().len(), 0);
    assert_eq!(app.one("select state from event_outcomes where processor = 'delivery'").await, "dead_lettered");
    app.settles().await;
}
