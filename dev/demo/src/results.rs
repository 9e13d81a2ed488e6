//! What has come of a run, read from where it is written: rows, the API that companies ask, and the sandbox's log.

use domain::{CompanyId, MessageId};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use secretaria::commands::conservation;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::companies::Registered;
use crate::expectation::Numbers;
use crate::hook::Sent;
use crate::player::Played;
use crate::providers;
use crate::run::Run;
use crate::scenario::Scenario;

/// Pages of conversations asked for at most.
const PAGES: usize = 10;

/// How the names of one model's numbers begin.
pub(crate) const MODEL: &str = "usage of model ";

pub(crate) struct Results {
    /// Per company, the run's part.
    pub(crate) numbers: Vec<Numbers>,
    /// Per company and metered feature: its name, what remains, and the limit.
    pub(crate) plans: Vec<Vec<[String; 3]>>,
    /// Per scenario.
    pub(crate) scenarios: Vec<OfScenario>,
    pub(crate) unused_faults: Vec<String>,
    /// Laws of conservation that are broken, for all companies and all time.
    pub(crate) broken: Vec<String>,
    /// Counters that are not their ledger's sums, decisions that are not what they are made of.
    pub(crate) drift: Vec<String>,
}

pub(crate) struct OfScenario {
    pub(crate) turns: Vec<Turn>,
    /// As `/api/conversations` shows them, with the run's messages only.
    pub(crate) conversations: Vec<Value>,
    /// Requests to send that the provider saw.
    pub(crate) requests: usize,
    /// Messages that it really sent.
    pub(crate) messages_sent: usize,
    /// Per threshold.
    pub(crate) alerts: Vec<Vec<Alert>>,
}

pub(crate) struct Turn {
    pub(crate) conversation: Uuid,
    pub(crate) outcome: String,
    pub(crate) text: String,
    pub(crate) messages: i64,
    /// Result and class of each attempt to deliver the answer.
    pub(crate) attempts: String,
}

pub(crate) struct Alert {
    pub(crate) id: Uuid,
    pub(crate) attempts: String,
    /// What the receiver verified and took.
    pub(crate) taken: Vec<Value>,
}

/// What is counted about each company until now; all of it only grows.
pub(crate) async fn numbers(run: &Run, companies: &[Registered]) -> anyhow::Result<Vec<Numbers>> {
    let mut all = Vec::new();
    for Registered { id, .. } in companies {
        let rows = run.query(include_str!("../sql/numbers.sql"), &[&id.0]).await?;
        let mut numbers: Numbers = rows.iter().map(|row| (row.get("name"), row.get("value"))).collect();
        // A run may see midnight, and the end of a month.
        let today = run.began.to_zoned(TimeZone::UTC).date();
        let (from, to) = (today.saturating_sub(2.days()), today.saturating_add(2.days()));
        let usage: Value = run.ask(*id, &format!("/api/usage?company_id={id}&from={from}&to={to}")).await?;
        for (field, count) in counts(&usage["totals"]) {
            numbers.insert(format!("usage: {field}"), count);
        }
        for model in usage["models"].as_array().into_iter().flatten() {
            let name = model["model"].as_str().unwrap_or_default();
            for (field, count) in counts(model) {
                *numbers.entry(format!("usage of all models: {field}")).or_default() += count;
                numbers.insert(format!("{MODEL}{name}: {field}"), count);
            }
        }
        all.push(numbers);
    }
    Ok(all)
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
    faults: &[u64],
) -> anyhow::Result<Results> {
    let mut numbers = numbers(run, companies).await?;
    for (now, before) in numbers.iter_mut().zip(before) {
        now.iter_mut().for_each(|(name, count)| *count -= before.get(name).unwrap_or(&0));
    }
    let mut found = Vec::new();
    for (scenario, played) in scenarios.iter().zip(played) {
        for Sent { status, reason, .. } in &played.hooks {
            let accepted = (*status == 202).then(|| "hooks: accepted".to_owned());
            let refused = reason.as_ref().map(|it| format!("hooks: refused as {it}"));
            accepted.into_iter().chain(refused).for_each(|it| *numbers[scenario.at].entry(it).or_default() += 1);
        }
        found.push(of_scenario(run, companies[scenario.at].id, scenario, played).await?);
    }
    let mut plans = Vec::new();
    for Registered { id, .. } in companies {
        let rows = run.query(include_str!("../sql/plan.sql"), &[&id.0]).await?;
        plans.push(rows.iter().map(|row| ["feature", "remaining", "limit_value"].map(|it| row.get(it))).collect());
    }
    let broken = conservation::broken(&run.db.get().await?).await?;
    let drift = run.query(include_str!("../sql/drift.sql"), &[]).await?;
    Ok(Results {
        numbers,
        plans,
        scenarios: found,
        unused_faults: providers::unused_faults(run, faults).await?,
        broken: broken.into_iter().map(|it| format!("{}: {}", it.law, it.detail)).collect(),
        drift: drift.iter().map(|row| row.get(0)).collect(),
    })
}

async fn of_scenario(
    run: &Run,
    company: CompanyId,
    scenario: &Scenario,
    played: &Played,
) -> anyhow::Result<OfScenario> {
    let messages: Vec<Uuid> = played.messages(0).into_iter().map(|it| MessageId::from(it).0).collect();
    let rows = run.query(include_str!("../sql/turns.sql"), &[&company.0, &messages]).await?;
    let turns = rows.iter().map(|row| Turn {
        conversation: row.get("conversation_id"),
        outcome: row.get("outcome"),
        text: row.get("text"),
        messages: row.get("messages"),
        attempts: row.get("attempts"),
    });
    let turns: Vec<Turn> = turns.collect();
    let mut alerts = Vec::new();
    for threshold in &played.thresholds {
        alerts.push(of_threshold(run, company, &threshold.feature).await?);
    }
    Ok(OfScenario {
        conversations: conversations(run, company, &turns).await?,
        turns,
        requests: providers::sends(run, scenario, "").await?,
        messages_sent: providers::sends(run, scenario, "&performed=true").await?,
        alerts,
    })
}

async fn of_threshold(run: &Run, company: CompanyId, feature: &str) -> anyhow::Result<Vec<Alert>> {
    let mut alerts = Vec::new();
    for row in run.query(include_str!("../sql/alerts.sql"), &[&company.0, &run.began, &feature]).await? {
        let id: Uuid = row.get("event_id");
        let log = format!("/log?target=webhook&performed=true&message_key={id}");
        let taken: Vec<Value> = providers::get(run, &log).await?;
        let taken = taken.iter().map(|it| serde_json::from_str(it["text"].as_str().unwrap_or_default()));
        alerts.push(Alert { id, attempts: row.get("attempts"), taken: taken.collect::<Result<_, _>>()? });
    }
    Ok(alerts)
}

/// The conversations of these turns, as the company is shown them.
async fn conversations(run: &Run, company: CompanyId, turns: &[Turn]) -> anyhow::Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct Page {
        conversations: Vec<Value>,
        next_cursor: Option<String>,
    }
    let mut wanted: Vec<String> = turns.iter().map(|it| it.conversation.to_string()).collect();
    wanted.sort();
    wanted.dedup();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for _ in 0..PAGES {
        if found.len() == wanted.len() {
            break;
        }
        let path = format!("/api/conversations?company_id={company}&limit=50{cursor}");
        let page: Page = run.ask(company, &path).await?;
        let is_wanted = |it: &Value| wanted.iter().any(|id| it["conversation_id"] == id.as_str());
        found.extend(page.conversations.into_iter().filter(is_wanted));
        let Some(next) = page.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    // What an earlier run said under the same number is not this run's.
    let is_ours = |it: &Value| written_at(it).is_some_and(|it| it.as_second() >= run.began.as_second());
    let messages = found.iter_mut().filter_map(|it| it["messages"].as_array_mut());
    messages.for_each(|it| it.retain(is_ours));
    Ok(found)
}

/// When a message of `/api/conversations` was written.
pub(crate) fn written_at(message: &Value) -> Option<Timestamp> {
    message["at"].as_str()?.parse().ok()
}
