//! The control API of the sandbox: what goes wrong there in this run, and what it was asked.

use anyhow::Context;
use sandbox::{FaultRule, Target};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::Run;
use crate::scenario::Scenario;

/// Puts the scenarios' faults behind those that are there already; returns their ids.
pub(crate) async fn add_faults(run: &Run, scenarios: &[Scenario]) -> anyhow::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for rule in scenarios.iter().flat_map(|it| &it.faults) {
        let mut rule = FaultRule::clone(rule);
        if rule.target == Target::Model {
            // The data counts the calls of reply, and each is attempted so many times.
            rule.times *= u32::try_from(run.settings.reply.model.attempts)?;
        }
        let added: Value = post(run, "/faults", &rule).await?.json().await?;
        ids.push(added["id"].as_u64().context("the sandbox names a fault by its id")?);
    }
    Ok(ids)
}

/// Those of the faults that were not used up, in words.
pub(crate) async fn unused_faults(run: &Run, ids: &[u64]) -> anyhow::Result<Vec<String>> {
    let rules: Vec<Value> = get(run, "/faults").await?;
    let ours = rules.iter().filter(|it| it["id"].as_u64().is_some_and(|it| ids.contains(&it)));
    Ok(ours.filter(|it| it["remaining"] != 0).map(|it| format!("{} of {}", it["remaining"], it)).collect())
}

/// How many sends to the scenario's contact fit the filter, under either form of the number.
pub(crate) async fn sends(run: &Run, scenario: &Scenario, filter: &str) -> anyhow::Result<usize> {
    #[derive(Deserialize)]
    struct Counted {
        count: usize,
    }
    let mut sends = 0;
    for number in [&scenario.ids.phone, &scenario.ids.short_phone] {
        sends += get::<Counted>(run, &format!("/log/count?target=send&number={number}{filter}")).await?.count;
    }
    Ok(sends)
}

pub(crate) async fn post(run: &Run, path: &str, body: &impl Serialize) -> anyhow::Result<reqwest::Response> {
    let url = format!("{}/_sandbox{path}", run.sandbox);
    let answer = run.http.post(&url).json(body).send().await;
    Ok(answer.with_context(|| format!("{url}: is the sandbox running?"))?.error_for_status()?)
}

pub(crate) async fn get<T: DeserializeOwned>(run: &Run, path: &str) -> anyhow::Result<T> {
    let answer = run.http.get(format!("{}/_sandbox{path}", run.sandbox)).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}
