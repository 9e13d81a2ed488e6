//! Plays the script: all contacts at once, each waiting for the answer before writing again.

use domain::EventId;
use futures_util::future::join_all;

use crate::cast::{Cast, Company};
use crate::hook::Expect;
use crate::script::{Dialogue, Script};
use crate::send::{self, Sent};
use crate::stage::Stage;
use crate::watch;

/// What was sent.
#[derive(Default)]
pub(crate) struct Played {
    pub(crate) hooks: Vec<Sent>,
    /// Per dialogue, in the script's order: the ids of what is to be answered.
    pub(crate) dialogues: Vec<Vec<EventId>>,
    /// What did not go as written.
    pub(crate) problems: Vec<String>,
}

/// Plays all of it.
pub(crate) async fn all(stage: &Stage, cast: &Cast, script: &Script) -> anyhow::Result<Played> {
    let dialogues = join_all(script.dialogues.iter().map(|it| speak(stage, cast.of(it.who), it)));
    let loose = join_all(script.loose.iter().map(|(who, hook)| send::send(stage, cast.of(*who), hook, None)));
    let (dialogues, loose) = tokio::join!(dialogues, loose);
    let mut played = Played::default();
    for spoken in dialogues {
        let Spoken { hooks, problem } = spoken?;
        let answered = hooks.iter().filter(|it| it.expect == Expect::Answered).filter_map(|it| it.id);
        played.dialogues.push(answered.collect());
        let before = std::iter::once(None).chain(hooks.iter().map(Some));
        played.problems.extend(hooks.iter().zip(before).filter_map(|(it, before)| it.problem(before)));
        played.problems.extend(problem);
        played.hooks.extend(hooks);
    }
    for sent in loose {
        let sent = sent?;
        played.problems.extend(sent.problem(None));
        played.hooks.push(sent);
    }
    Ok(played)
}

struct Spoken {
    hooks: Vec<Sent>,
    problem: Option<String>,
}

async fn speak(stage: &Stage, company: &Company, dialogue: &Dialogue) -> anyhow::Result<Spoken> {
    let mut hooks: Vec<Sent> = Vec::new();
    for turn in &dialogue.turns {
        let first = hooks.len();
        for hook in &turn.hooks {
            let sent = send::send(stage, company, hook, hooks.last()).await?;
            hooks.push(sent);
        }
        let ids: Vec<EventId> = hooks[first..].iter().filter_map(|it| it.id).collect();
        if let Err(late) = watch::until_answered(stage, company, &ids).await {
            let (who, name) = (company.who.name(), dialogue.contact.name);
            return Ok(Spoken { hooks, problem: Some(format!("{who}, {name}: {late:#}")) });
        }
    }
    Ok(Spoken { hooks, problem: None })
}
