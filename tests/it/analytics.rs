//! What happened is in the lake, in the rollups and in the API, with the same numbers as the ledger.

use api::auth::{Keys, Scope};
use domain::CompanyId;
use platform::clock;
use platform::postgres::Db;
use serde_json::Value;

use crate::support::app::TestApp;

const ANA: &str = "5511999990001";

/// The message, its answer, three facts of usage, the end of the turn and of the delivery. Besides, a new company has an
/// event about its subscription.
const EVENTS_OF_A_REPLY: i64 = 7;

/// How many events of companies the lake has.
fn archived(companies: &str) -> String {
    format!(
        "select coalesce(sum(n), 0)::text
         from lake_files, unnest(companies, company_events) as it (company_id, n)
         where it.company_id in ({companies})"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_the_lake_the_rollups_and_the_api() {
    let Some(app) = TestApp::start_with(|settings| settings.rollups.every_ms = 200).await else { return };
    let clinic = app.company("clinica.test").await;
    let salon = app.company("salao.test").await;
    for n in 1..=3 {
        app.accept(&clinic.text(ANA, &format!("C{n}"), &format!("pergunta {n}"))).await;
        app.accept(&salon.text(ANA, &format!("S{n}"), &format!("assunto {n}"))).await;
        app.settles().await;
    }
    let both = format!("{}, {}", clinic.company_id, salon.company_id);
    app.comes_to(&archived(&both), &(2 * (1 + 3 * EVENTS_OF_A_REPLY)).to_string()).await;
    app.comes_to("select count(*)::text from rollup_utc_days where computed_mark < mark", "0").await;
    app.comes_to("select sum(messages_in)::text from rollup_days", "6").await;
    app.settles().await;

    let db = Db::new(&app.settings.postgres.operator_url, &app.settings.postgres, "test").unwrap();
    let differing = analytics::against_ledger(&db.get().await.unwrap()).await.unwrap();
    assert!(differing.is_empty(), "the rollups are not the ledger's sums: {differing:?}");

    let keys = Keys::from_pkcs8_file(&app.settings.keys.signing_key()).unwrap();
    let token =
        keys.issue(CompanyId(clinic.company_id), Scope::Company, clock::now(), app.settings.api.token_ttl()).unwrap();
    let ask = async |path: String| -> (u16, Value) {
        let request = reqwest::Client::new().get(format!("{}{path}", app.url())).bearer_auth(&token);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    let (status, summary) = ask(format!("/api/analytics/summary?company_id={}", clinic.company_id)).await;
    assert_eq!(status, 200, "{summary}");
    let month = &summary["month"];
    assert_eq!((month["messages_in"].as_i64(), month["turns_replied"].as_i64()), (Some(3), Some(3)), "{summary}");
    assert_eq!((month["active_contacts"].as_i64(), month["response_time"]["answers"].as_i64()), (Some(1), Some(3)));
    let messages =
        summary["limits"].as_array().unwrap().iter().find(|it| it["feature"] == "whatsapp_messages").unwrap();
    assert_eq!(messages["used"], 3);
    let (_, history) = ask(format!("/api/analytics/history?company_id={}&period=month", clinic.company_id)).await;
    let weeks = history["spans"].as_array().unwrap();
    let received: i64 = weeks.iter().map(|it| it["messages_received"].as_i64().unwrap()).sum();
    assert_eq!((weeks.len(), received), (8, 3), "{history}");
    let (status, problem) = ask(format!("/api/analytics/history?company_id={}&period=year", clinic.company_id)).await;
    assert_eq!((status, problem["field"].as_str()), (400, Some("period")));
    let (status, problem) = ask(format!("/api/analytics/export?company_id={}", clinic.company_id)).await;
    assert_eq!((status, problem["reason"].as_str()), (403, Some("feature_unavailable")), "Starter has no exports");
    let granted = "insert into company_overrides (company_id, feature, reason) values ($1, 'analytics_export', 'test')";
    app.sql.execute(granted, &[&clinic.company_id]).await.unwrap();
    let today = clock::now().to_zoned(jiff::tz::TimeZone::get("America/Sao_Paulo").unwrap()).date();
    let path = format!("/api/analytics/export?company_id={}&from={today}&to={today}", clinic.company_id);
    let request = reqwest::Client::new().get(format!("{}{path}", app.url())).bearer_auth(&token);
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["x-report-rows"].to_str().unwrap()), (200, "1"));
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let lines = response.text().await.unwrap();
    assert!(lines.lines().nth(1).unwrap().starts_with(&format!("{},{today},false,", clinic.company_id)), "{lines}");
    let (status, _) = ask(format!("/api/analytics/summary?company_id={}", salon.company_id)).await;
    assert_eq!(status, 403, "another company's numbers");
}

/// The store is a folder that cannot be written to: the records wait in Kafka, and nothing is lost when it can be again.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_the_archive_waits() {
    let Some(mut app) = TestApp::prepare(|_| {}).await else { return };
    let folder = std::path::PathBuf::from(&app.settings.object_store.url);
    std::fs::create_dir_all(&folder).unwrap();
    app.run().await;
    // A file where the folder of the events belongs.
    std::fs::write(folder.join("events"), "in the way").unwrap();
    let clinic = app.company("clinica.test").await;
    app.accept(&clinic.text(ANA, "C1", "oi")).await;
    app.settles().await;
    assert_eq!(app.one("select count(*)::text from lake_batches").await, "0");
    std::fs::remove_file(folder.join("events")).unwrap();
    let expected = (1 + EVENTS_OF_A_REPLY).to_string();
    app.comes_to(&archived(&clinic.company_id.to_string()), &expected).await;
    app.settles().await;
}
