//! The control API of the sandbox: what goes wrong there in this run, and what it was asked.

use anyhow::Context;
use sandbox::{FaultRule, Target};
use serde::Serialize;
use serde_json::Value;

use crate::run::Run;
use crate::scenario::Scenario;

/// Puts the scenarios' faults behind those that are there already; returns their ids.
pub(crate) async fn add_faults(run: &Run, scenarios: &[Scenario]) -> anyhow::Result<Vec<Value>> {
    let mut ids = Vec::new();
    for rule in scenarios.iter().flat_map(|it| &it.faults) {
        let mut rule = FaultRule::clone(rule);
        if rule.target == Target::Model {
            // The data counts the calls of reply, and each is attempted so many times.
            rule.times *= u32::try_from(run.settings.reply.model.attempts)?;
        }
        let added: Value = post(run, "/faults", &rule).await?.json().await?;
        ids.push(added["id"].clone());
    }
    Ok(ids)
}

/// Those of the faults that were not used up, in words.
pub(crate) async fn unused_faults(run: &Run, ids: &[Value]) -> anyhow::Result<Vec<String>> {
    let rules = get(run, "/faults").await?;
    let unused = rules.as_array().into_iter().flatten().filter(|it| it["remaining"] != 0 && ids.contains(&it["id"]));
    Ok(unused.map(Value::to_string).collect())
}

/// How many sends to the scenario's contact fit the filter, under either form of the number.
pub(crate) async fn sends(run: &Run, scenario: &Scenario, filter: &str) -> anyhow::Result<u64> {
    let mut sends = 0;
    for number in [&scenario.ids.phone, &scenario.ids.short_phone] {
        let counted = get(run, &format!("/log/count?target=send&number={number}{filter}")).await?;
        sends += counted["count"].as_u64().context("the sandbox counts its log")?;
    }
    Ok(sends)
}

pub(crate) async fn post(run: &Run, path: &str, body: &impl Serialize) -> anyhow::Result<reqwest::Response> {
    let url = format!("{}/_sandbox{path}", run.sandbox);
    let answer = run.http.post(&url).json(body).send().await;
    Ok(answer.with_context(|| format!("{url}: is the sandbox running?"))?.error_for_status()?)
}

pub(crate) async fn get(run: &Run, path: &str) -> anyhow::Result<Value> {
    let answer = run.http.get(format!("{}/_sandbox{path}", run.sandbox)).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}
