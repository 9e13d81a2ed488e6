//! Plays the scenarios: all at once, each one step after the other, and a step waits for its answer.

use anyhow::Context;
use domain::{CompanyId, EventId};
use futures_util::future::try_join_all;

use crate::companies::Registered;
use crate::expectation::Facts;
use crate::hook::{self, Sent};
use crate::run::Run;
use crate::scenario::{Hook, Scenario, Step};
use crate::wait;

/// What a scenario has done.
#[derive(Default)]
pub(crate) struct Played {
    pub(crate) hooks: Vec<Sent>,
    /// What else must be known afterwards: it follows from what was there before.
    pub(crate) expected: Facts,
    /// What was not answered in time; the steps after it were left out.
    pub(crate) late: Vec<String>,
}

impl Played {
    /// The messages that are to be answered, among the hooks from `first` on.
    pub(crate) fn messages(&self, first: usize) -> Vec<EventId> {
        self.hooks[first..].iter().filter(|it| it.is_message).filter_map(|it| it.id).collect()
    }
}

/// Plays all of them; the result has their order.
pub(crate) async fn play(run: &Run, companies: &[Registered], scenarios: &[Scenario]) -> anyhow::Result<Vec<Played>> {
    try_join_all(scenarios.iter().map(|it| scenario(run, &companies[it.at], it))).await
}

async fn scenario(run: &Run, company: &Registered, scenario: &Scenario) -> anyhow::Result<Played> {
    let mut played = Played::default();
    for step in &scenario.steps {
        match step {
            Step::SendHooks { hooks, .. } => send_hooks(run, company, scenario, hooks, &mut played).await?,
            Step::PassThreshold { feature, amount, percent, .. } => {
                let used_and_limit = use_under_limit(run, company.id, feature, *amount, *percent).await?;
                let facts =
                    used_and_limit.map(|(name, it)| (format!("{feature}: {name}, in the webhook"), it.to_string()));
                played.expected.extend(facts);
            }
        }
        if !played.late.is_empty() {
            break;
        }
    }
    Ok(played)
}

async fn send_hooks(
    run: &Run,
    company: &Registered,
    scenario: &Scenario,
    hooks: &[Hook],
    played: &mut Played,
) -> anyhow::Result<()> {
    let first = played.hooks.len();
    for hook in hooks {
        let previous = played.hooks.last();
        let bytes = hook::bytes(hook, scenario, played.hooks.len(), previous.map_or(&[], |it| &it.bytes))?;
        let sent = hook::send(run, company, hook, bytes, previous).await?;
        played.hooks.push(sent);
    }
    let messages = played.messages(first);
    if !messages.is_empty() {
        let late = wait::until_answered(run, company.id, &messages).await.err();
        played.late.extend(late.map(|it| format!("{it:#}")));
    }
    Ok(())
}

/// Uses the feature; returns what is used now, and the limit, by name.
async fn use_under_limit(
    run: &Run,
    company: CompanyId,
    feature: &str,
    amount: i64,
    percent: i64,
) -> anyhow::Result<[(&'static str, i64); 2]> {
    let (id, key) = (company.0, format!("demo-{}-{feature}", run.began));
    let rows = run.query(include_str!("../sql/set_limit.sql"), &[&id, &feature, &amount, &percent]).await?;
    let row = rows.first().context("a limit that was set is returned")?;
    run.query("select 1 from increment_feature_usage($1, $2, $3, $4)", &[&id, &feature, &amount, &key]).await?;
    Ok([("used", row.get("used")), ("limit", row.get("limit_value"))])
}
