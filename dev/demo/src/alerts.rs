//! An alert, from the use that passes 80 % to the webhook that says so.
//!
//! Every run uses four agents of the clinic's more, and sets the limit so that this passes 80 % and not 100 %: it counts
//! its own alert only, and may be repeated. The receiver falls over once, so that the call is made twice.

use std::time::Duration;

use anyhow::Context;
use api::companies::{self, ChangeWebhook};
use platform::clock;
use platform::egress::Policy;
use platform::postgres::{execute, query};
use platform::seal::Sealer;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cast::{Cast, Who};
use crate::compare::Compared;
use crate::sandbox;
use crate::stage::Stage;
use crate::watch::{self, Look};

/// Used at one time; from none, it is 80 % of five.
const AGENTS: i64 = 4;

/// What the clinic is to be told in this run.
pub(crate) struct Crossing {
    used: i64,
    limit: i64,
}

/// What became of it.
pub(crate) struct Told {
    crossing: Crossing,
    /// The alerts there are for it: one, if all is well.
    events: Vec<Uuid>,
    /// Result and class of each call.
    attempts: Vec<String>,
    /// What the receiver verified and took.
    taken: Vec<Value>,
}

/// Gives the clinic a receiver, and lets it pass 80 % of a limit.
pub(crate) async fn provoke(stage: &Stage, cast: &Cast) -> anyhow::Result<Crossing> {
    let (clinic, domain) = (cast.of(Who::Clinic).id, Who::Clinic.domain());
    let sealer = Sealer::from_file(&stage.settings.keys.key_encryption_key())?;
    let url = format!("{}/webhooks/{domain}", stage.sandbox);
    // The secret of an earlier run was shown then, and to nobody since.
    let change = ChangeWebhook { url: Some(url), rotate: Some(Duration::ZERO), off: false };
    let webhook = companies::change_webhook(&stage.db, &sealer, domain, change, clock::now(), Policy::Anywhere).await?;
    let secret = webhook.new_secret.context("a rotated secret is shown")?;
    sandbox::put(stage, &format!("/_sandbox/webhooks/{domain}"), &json!({ "secrets": [secret.expose_secret()] }))
        .await?;
    let fell_over = json!({ "target": "webhook", "match": { "number": domain, "text": "threshold_reached" },
                            "fault": { "kind": "status", "status": 500 } });
    sandbox::put(stage, "/_sandbox/faults", &fell_over).await?;

    let client = stage.db.get().await?;
    let used = "select coalesce((select used from check_feature_access($1, 'agents')), 0)";
    let used: i64 = query(&client, used, &[&clinic.0]).await?.first().map_or(0, |row| row.get(0));
    let used = used + AGENTS;
    let limit = used + used / 4;
    let set =
        "insert into company_overrides (company_id, feature, limit_value, reason) values ($1, 'agents', $2, 'demo')
               on conflict (company_id, feature) do update set limit_value = excluded.limit_value";
    execute(&client, set, &[&clinic.0, &limit]).await?;
    let key = format!("demo-{}", stage.run.began);
    query(&client, "select 1 from increment_feature_usage($1, 'agents', $2, $3)", &[&clinic.0, &AGENTS, &key]).await?;
    Ok(Crossing { used, limit })
}

/// Waits until the alert has ended, for a while, and asks the receiver what it got.
pub(crate) async fn told(stage: &Stage, cast: &Cast, crossing: Crossing) -> anyhow::Result<Told> {
    let clinic = cast.of(Who::Clinic).id;
    let sql = "select event_id, state
               from secretaria.webhook_deliveries
               where company_id = $1 and endpoint = 'company' and kind = 'usage_threshold' and created_at >= $2";
    let ended = || async {
        let rows = query(&stage.db.get().await?, sql, &[&clinic.0, &stage.run.began]).await?;
        let is_over = !rows.is_empty() && rows.iter().all(|row| row.get::<_, &str>(1) == "ended");
        Ok(if is_over { Look::Holds } else { Look::Missing("the alert's webhook is not delivered".into()) })
    };
    // What is missing shows in the numbers.
    let _ = watch::until(Duration::from_secs(20), ended).await?;
    let client = stage.db.get().await?;
    let rows = query(&client, sql, &[&clinic.0, &stage.run.began]).await?;
    let events: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let attempts = "select concat_ws(' ', coalesce(result, 'under way'), class)
                    from secretaria.webhook_attempts
                    where company_id = $1 and event_id = any($2) and endpoint = 'company'
                    order by started_at";
    let attempts = query(&client, attempts, &[&clinic.0, &events]).await?.iter().map(|row| row.get(0)).collect();
    let mut taken = Vec::new();
    for event in &events {
        #[derive(Deserialize)]
        struct Entry {
            text: Option<String>,
        }
        let path = format!("/_sandbox/log?target=webhook&performed=true&message_key={event}");
        for entry in sandbox::get::<Vec<Entry>>(stage, &path).await? {
            taken.push(serde_json::from_str(&entry.text.unwrap_or_default())?);
        }
    }
    Ok(Told { crossing, events, attempts, taken })
}

/// One alert, two calls, one webhook taken, and the numbers in it.
pub(crate) fn compare(told: &Told, compared: &mut Compared) {
    let Crossing { used, limit } = told.crossing;
    compared.same("alerts of the clinic passing 80 %", 1, told.events.len());
    let expected = "FAILED_TEMPORARY server_error, DELIVERED".to_owned();
    compared.same("calls of the clinic's receiver", expected, told.attempts.join(", "));
    compared.same("webhooks its receiver verified and took", 1, told.taken.len());
    let data = told.taken.first().map_or(&Value::Null, |it| &it["data"]);
    for (field, expected) in [("threshold_percent", 80), ("used", used), ("limit", limit)] {
        compared.same(format!("{field}, in the webhook"), expected, data[field].as_i64().unwrap_or(-1));
    }
}

/// Prints it.
pub(crate) fn print(told: &Told) {
    println!("\nAlerts: the clinic used {AGENTS} agents more, and its receiver fell over once\n");
    println!("  calls       {}", told.attempts.join(", "));
    for (event, body) in told.events.iter().zip(&told.taken) {
        println!("  webhook-id  {event}");
        println!("  {}", body["type"].as_str().unwrap_or_default());
        for (field, value) in body["data"].as_object().into_iter().flatten() {
            println!("    {field:<18} {value}");
        }
    }
}
