//! What has come of a run, read from where it is written: rows, the API that companies ask, and the sandbox's log.

use domain::{CompanyId, MessageId};
use jiff::ToSpan;
use jiff::tz::TimeZone;
use platform::postgres::Row;
use secretaria::commands::conservation;
use serde_json::Value;
use uuid::Uuid;

use crate::companies::Registered;
use crate::expectation::{Facts, Numbers};
use crate::player::Played;
use crate::providers;
use crate::run::Run;
use crate::scenario::{Scenario, Step};

/// Pages of conversations asked for at most.
const PAGES: usize = 10;

/// How the names of a single model's numbers begin.
pub(crate) const PER_MODEL: &str = "usage of model ";

pub(crate) struct Found {
    /// Per company, what the run has added.
    pub(crate) numbers: Vec<Numbers>,
    pub(crate) scenarios: Vec<OfScenario>,
    /// Queries that must find nothing: their names, and what they found.
    pub(crate) problems: [(&'static str, Vec<String>); 4],
}

pub(crate) struct OfScenario {
    pub(crate) facts: Facts,
    /// As `/api/conversations` shows them, with the run's messages only.
    pub(crate) conversations: Vec<Value>,
    /// Ids and bodies of the alerts that the company's receiver verified and took.
    pub(crate) alerts: Vec<(String, Value)>,
}

/// What is counted about the company until now.
pub(crate) async fn numbers(run: &Run, company: CompanyId) -> anyhow::Result<Numbers> {
    let rows = run.query(include_str!("../sql/numbers.sql"), &[&company.0]).await?;
    let mut numbers: Numbers = rows.iter().map(|row| (row.get("name"), row.get("value"))).collect();
    // A run may see midnight, and the end of a month.
    let today = run.began.to_zoned(TimeZone::UTC).date();
    let (from, to) = (today.saturating_sub(2.days()), today.saturating_add(2.days()));
    let usage = run.ask(company, &format!("/api/usage?company_id={company}&from={from}&to={to}")).await?;
    numbers.extend(counts(&usage["totals"]).map(|(field, count)| (format!("usage: {field}"), count)));
    for model in usage["models"].as_array().into_iter().flatten() {
        let name = model["model"].as_str().unwrap_or_default();
        for (field, count) in counts(model) {
            *numbers.entry(format!("usage of all models: {field}")).or_default() += count;
            numbers.insert(format!("{PER_MODEL}{name}: {field}"), count);
        }
    }
    Ok(numbers)
}

fn counts(object: &Value) -> impl Iterator<Item = (&String, i64)> {
    object.as_object().into_iter().flatten().filter_map(|(field, count)| Some((field, count.as_i64()?)))
}

/// Reads everything. `before` is what was counted when the run began, `faults` are the ids of those it added.
pub(crate) async fn read(
    run: &Run,
    companies: &[Registered],
    scenarios: &[Scenario],
    played: &[Played],
    before: &[Numbers],
    faults: &[Value],
) -> anyhow::Result<Found> {
    let mut added = Vec::new();
    for (company, before) in companies.iter().zip(before) {
        let mut numbers = numbers(run, company.id).await?;
        let growing = numbers.iter_mut().filter(|(name, _)| !name.starts_with("now: "));
        growing.for_each(|(name, count)| *count -= before.get(name).unwrap_or(&0));
        added.push(numbers);
    }
    let mut found = Vec::new();
    for (scenario, played) in scenarios.iter().zip(played) {
        found.push(of_scenario(run, companies[scenario.at].id, scenario, played).await?);
        for sent in &played.hooks {
            let refused =
                sent.reason.iter().flat_map(|it| ["hooks: refused".into(), format!("hooks: refused as {it}")]);
            let accepted = (sent.status == 202).then(|| "hooks: accepted".to_owned());
            let names = refused.chain(accepted).chain(["hooks: sent".into()]);
            names.for_each(|name| *added[scenario.at].entry(name).or_default() += 1);
        }
    }
    let broken = conservation::broken(&run.db.get().await?).await?;
    let broken = broken.into_iter().map(|it| format!("{}: {}", it.rule, it.detail)).collect();
    let drift = run.query(include_str!("../sql/drift.sql"), &[]).await?.iter().map(|row| row.get(0)).collect();
    let differing = analytics::against_ledger(&run.db.get().await?).await?;
    let problems = [
        ("sql/checks/: what vanished or was doubled", broken),
        ("verify_usage(), verify_entitlements(): counters that are not the sum of their ledger", drift),
        ("rollups of the event lake: numbers that are not the ledger's", differing),
        ("the sandbox: faults that were never used", providers::unused_faults(run, faults).await?),
    ];
    Ok(Found { numbers: added, scenarios: found, problems })
}

async fn of_scenario(
    run: &Run,
    company: CompanyId,
    scenario: &Scenario,
    played: &Played,
) -> anyhow::Result<OfScenario> {
    let messages: Vec<Uuid> = played.messages(0).into_iter().map(|it| MessageId::from(it).0).collect();
    let rows = run.query(include_str!("../sql/turns.sql"), &[&company.0, &messages]).await?;
    let mut facts: Facts = rows.iter().map(named).collect();
    let ids = facts.remove("conversation ids").unwrap_or_default();
    let conversations = conversations(run, company, &ids).await?;
    let messages = || conversations.iter().filter_map(|it| it["messages"].as_array()).flatten();
    for (whose, direction) in [("them", "in"), ("us", "out")] {
        let count = messages().filter(|it| it["direction"] == direction).count();
        facts.insert(format!("messages from {whose}, in the API"), count.to_string());
    }
    for (n, (hook, sent)) in scenario.hooks().zip(&played.hooks).enumerate() {
        facts.insert(format!("hook {}, {}", n + 1, hook.what), sent.response.clone());
    }
    for (what, filter) in [("requests the provider saw", ""), ("messages the provider sent", "&performed=true")] {
        facts.insert(what.into(), providers::sends(run, scenario, filter).await?.to_string());
    }
    let mut alerts = Vec::new();
    for step in &scenario.steps {
        if let Step::PassThreshold { feature, .. } = step {
            alerts.extend(alerts_about(run, company, feature, &mut facts).await?);
        }
    }
    Ok(OfScenario { facts, conversations, alerts })
}

fn named(row: &Row) -> (String, String) {
    (row.get("name"), row.get("value"))
}

/// Adds what is known of the alerts about that feature, and returns what the receiver took.
async fn alerts_about(
    run: &Run,
    company: CompanyId,
    feature: &str,
    facts: &mut Facts,
) -> anyhow::Result<Vec<(String, Value)>> {
    let rows = run.query(include_str!("../sql/alerts.sql"), &[&company.0, &run.began, &feature]).await?;
    facts.extend(rows.iter().map(named));
    let mut taken = Vec::new();
    for id in facts.remove("alert ids").unwrap_or_default().split_whitespace() {
        let log = providers::get(run, &format!("/log?target=webhook&performed=true&message_key={id}")).await?;
        for text in log.as_array().into_iter().flatten().filter_map(|it| it["text"].as_str()) {
            taken.push((id.to_owned(), serde_json::from_str::<Value>(text)?));
        }
    }
    facts.insert(format!("{feature}: webhooks that the receiver verified and took"), taken.len().to_string());
    for (_, body) in &taken {
        for field in ["threshold_percent", "used", "limit"] {
            facts.insert(format!("{feature}: {field}, in the webhook"), body["data"][field].to_string());
        }
    }
    Ok(taken)
}

/// The conversations of these ids, as the company is shown them.
async fn conversations(run: &Run, company: CompanyId, ids: &str) -> anyhow::Result<Vec<Value>> {
    let mut found: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    for _ in 0..PAGES {
        if found.len() == ids.split_whitespace().count() {
            break;
        }
        let page = run.ask(company, &format!("/api/conversations?company_id={company}&limit=50{cursor}")).await?;
        let all = page["conversations"].as_array().into_iter().flatten();
        found.extend(all.filter(|it| it["conversation_id"].as_str().is_some_and(|it| ids.contains(it))).cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    // What an earlier run said under the same number is not this run's. Instants in UTC are in the order of their text.
    let began = run.began.strftime("%FT%T").to_string();
    let messages = found.iter_mut().filter_map(|it| it["messages"].as_array_mut());
    messages.for_each(|it| it.retain(|it| it["at"].as_str().is_some_and(|it| *it >= *began)));
    Ok(found)
}
