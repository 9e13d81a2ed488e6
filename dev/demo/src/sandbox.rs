//! The providers' side: what goes wrong there in this run, and what they say was asked of them.

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::script::{Answer, Delivery, Dialogue, Script};
use crate::stage::Stage;

/// A rule scripted for this run, and what it disturbs.
pub(crate) struct Fault {
    id: u64,
    what: String,
}

/// What the providers saw.
pub(crate) struct Seen {
    /// Per dialogue, in the script's order.
    pub(crate) dialogues: Vec<OfDialogue>,
    /// Faults with something left of them.
    pub(crate) unused: Vec<String>,
}

/// What was sent to one contact.
pub(crate) struct OfDialogue {
    pub(crate) requests: usize,
    pub(crate) performed: usize,
}

/// Scripts the run's faults behind whatever is scripted already. They match only this run's numbers and words.
pub(crate) async fn script(stage: &Stage, script: &Script) -> anyhow::Result<Vec<Fault>> {
    #[derive(Deserialize)]
    struct Added {
        id: u64,
    }
    let mut faults = Vec::new();
    for (rule, what) in rules(script, stage.settings.reply.model.attempts)? {
        let url = format!("{}/_sandbox/faults", stage.sandbox);
        let answer = stage.http.post(&url).json(&rule).send().await;
        let answer = answer.with_context(|| format!("{url}: is the sandbox running?"))?.error_for_status()?;
        faults.push(Fault { id: answer.json::<Added>().await?.id, what });
    }
    Ok(faults)
}

fn rules(script: &Script, attempts: usize) -> anyhow::Result<Vec<(Value, String)>> {
    let fell_over: Value = serde_json::from_str(include_str!("../../../fixtures/whaticket/send_500.json"))?;
    let unknown: Value =
        serde_json::from_str(include_str!("../../../fixtures/whaticket/send_400_not_on_whatsapp.json"))?;
    let overloaded: Value = serde_json::from_str(include_str!("../../../fixtures/gemini/503_overloaded.json"))?;
    let status = |status: u16, body: &Value| json!({ "kind": "status", "status": status, "body": body });
    let mut rules = Vec::new();
    for dialogue in &script.dialogues {
        for turn in &dialogue.turns {
            let fault = match turn.delivery {
                Delivery::Taken => None,
                Delivery::TakenAtLast => Some((2, status(500, &fell_over))),
                Delivery::TakenInSilence => Some((1, json!({ "kind": "silent_success" }))),
                Delivery::NoSuchNumber => Some((1, status(400, &unknown))),
            };
            let about = |what: &str| format!("{what} for {}", dialogue.contact.name);
            rules.extend(fault.map(|(times, fault)| {
                let matching = json!({ "number": dialogue.contact.phone });
                (json!({ "target": "send", "match": matching, "times": times, "fault": fault }), about("sends"))
            }));
            if let Answer::Fallback { reading } = &turn.answer {
                let (matching, fault) = (json!({ "text": reading }), status(503, &overloaded));
                let rule = json!({ "target": "model", "match": matching, "times": attempts, "fault": fault });
                rules.push((rule, about("model calls")));
            }
        }
    }
    Ok(rules)
}

/// Asks the sandbox what it saw of this run.
pub(crate) async fn seen(stage: &Stage, script: &Script, faults: &[Fault]) -> anyhow::Result<Seen> {
    let mut dialogues = Vec::new();
    for it in &script.dialogues {
        dialogues.push(OfDialogue {
            requests: sends(stage, it, "").await?,
            performed: sends(stage, it, "&performed=true").await?,
        });
    }
    #[derive(Deserialize)]
    struct Standing {
        id: u64,
        remaining: u32,
    }
    let standing: Vec<Standing> = get(stage, "/_sandbox/faults").await?;
    let left = |fault: &Fault| standing.iter().find(|it| it.id == fault.id).map_or(0, |it| it.remaining);
    let unused = faults.iter().filter(|it| left(it) > 0).map(|it| format!("{} of {}", left(it), it.what)).collect();
    Ok(Seen { dialogues, unused })
}

/// Sends to a contact, under either form of the number.
async fn sends(stage: &Stage, dialogue: &Dialogue, filter: &str) -> anyhow::Result<usize> {
    #[derive(Deserialize)]
    struct Counted {
        count: usize,
    }
    let mut sends = 0;
    for number in [&dialogue.contact.phone, &dialogue.contact.short_phone()] {
        let path = format!("/_sandbox/log/count?target=send&number={number}{filter}");
        sends += get::<Counted>(stage, &path).await?.count;
    }
    Ok(sends)
}

/// Tells the sandbox something.
pub(crate) async fn put(stage: &Stage, path: &str, what: &Value) -> anyhow::Result<()> {
    let url = format!("{}{path}", stage.sandbox);
    let answer = stage.http.post(&url).json(what).send().await;
    answer.with_context(|| format!("{url}: is the sandbox running?"))?.error_for_status()?;
    Ok(())
}

pub(crate) async fn get<T: serde::de::DeserializeOwned>(stage: &Stage, path: &str) -> anyhow::Result<T> {
    let answer = stage.http.get(format!("{}{path}", stage.sandbox)).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}
