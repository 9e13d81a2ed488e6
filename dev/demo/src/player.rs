//! Plays the scenarios: all at once, each one step after the other, and a step waits for its answer.

use anyhow::Context;
use domain::EventId;
use futures_util::future::try_join_all;

use crate::companies::Registered;
use crate::hook::{self, Sent};
use crate::run::Run;
use crate::scenario::{Expect, Hook, Scenario, Step};
use crate::wait;

/// What a scenario has done.
#[derive(Default)]
pub(crate) struct Played {
    pub(crate) hooks: Vec<Sent>,
    pub(crate) thresholds: Vec<Threshold>,
    /// What was not answered in time; the steps after it were left out.
    pub(crate) late: Option<String>,
}

/// What an alert must say.
pub(crate) struct Threshold {
    pub(crate) feature: String,
    pub(crate) percent: i64,
    pub(crate) used: i64,
    pub(crate) limit: i64,
    /// Result and class of every attempt to deliver it.
    pub(crate) attempts: Vec<String>,
}

impl Played {
    /// The messages that are to be answered, among the hooks from `first` on.
    pub(crate) fn messages(&self, first: usize) -> Vec<EventId> {
        self.hooks[first..].iter().filter(|it| it.expect == Expect::Answered).filter_map(|it| it.id).collect()
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
            Step::PassThreshold { feature, amount, percent, attempts } => {
                let (used, limit) = pass_threshold(run, company, feature, *amount, *percent).await?;
                let (feature, percent, attempts) = (feature.clone(), *percent, attempts.clone());
                played.thresholds.push(Threshold { feature, percent, used, limit, attempts });
            }
        }
        if played.late.is_some() {
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
        let late = wait::until_answered(run, company, &messages).await.err();
        played.late = late.map(|it| format!("{}, {}: {it:#}", company.name, scenario.contact));
    }
    Ok(())
}

/// Uses the feature, and says what is used now, and under which limit.
async fn pass_threshold(
    run: &Run,
    company: &Registered,
    feature: &str,
    amount: i64,
    percent: i64,
) -> anyhow::Result<(i64, i64)> {
    let (id, key) = (company.id.0, format!("demo-{}", run.began));
    let rows = run.query(include_str!("../sql/set_limit.sql"), &[&id, &feature, &amount, &percent]).await?;
    let row = rows.first().context("a limit that was set is returned")?;
    run.query("select 1 from increment_feature_usage($1, $2, $3, $4)", &[&id, &feature, &amount, &key]).await?;
    Ok((row.get("used"), row.get("limit_value")))
}
