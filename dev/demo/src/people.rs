//! The conversations, as `/api/conversations` shows them to a company.

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use crate::cast::{Cast, Company};
use crate::found::Found;
use crate::stage::Stage;

/// Pages asked for at most.
const PAGES: usize = 10;

/// A conversation, as far as this run goes.
#[derive(Deserialize)]
pub(crate) struct Conversation {
    #[serde(rename = "conversation_id")]
    pub(crate) id: Uuid,
    pub(crate) contact: Contact,
    pub(crate) messages: Vec<Message>,
}

#[derive(Deserialize)]
pub(crate) struct Contact {
    pub(crate) name: Option<String>,
    /// Starred but for its last four digits.
    pub(crate) address: String,
}

#[derive(Deserialize)]
pub(crate) struct Message {
    pub(crate) at: Timestamp,
    pub(crate) direction: String,
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) turn_outcome: Option<String>,
    #[serde(default)]
    pub(crate) delivery: Option<Delivery>,
}

#[derive(Deserialize)]
pub(crate) struct Delivery {
    #[serde(default)]
    pub(crate) outcome: Option<String>,
    pub(crate) attempts: i64,
}

#[derive(Deserialize)]
struct Page {
    conversations: Vec<Conversation>,
    next: Option<String>,
}

impl Conversation {
    /// Our messages, or theirs: `out` or `in`.
    pub(crate) fn count(&self, direction: &str) -> usize {
        self.messages.iter().filter(|it| it.direction == direction).count()
    }
}

/// The run's conversations of both companies.
pub(crate) async fn conversations(stage: &Stage, cast: &Cast, found: &Found) -> anyhow::Result<Vec<Conversation>> {
    let mut all = Vec::new();
    for company in cast.iter() {
        all.extend(of_company(stage, company, found).await?);
    }
    // What an earlier run said under the same number is not this run's.
    let since = stage.run.began.as_second();
    all.iter_mut().for_each(|it| it.messages.retain(|message| message.at.as_second() >= since));
    Ok(all)
}

async fn of_company(stage: &Stage, company: &Company, found: &Found) -> anyhow::Result<Vec<Conversation>> {
    let wanted = |id: Uuid| found.turns.iter().any(|it| it.company == company.id && it.conversation == id);
    let mut conversations = Vec::new();
    let mut before = String::new();
    for _ in 0..PAGES {
        let path = format!("/api/conversations?company_id={}&limit=50{before}", company.id);
        let page: Page = stage.ask(company.id, &path).await?;
        let all = page.conversations.len();
        conversations.extend(page.conversations.into_iter().filter(|it| wanted(it.id)));
        match page.next {
            Some(next) if all > 0 => before = format!("&before={next}"),
            _ => break,
        }
    }
    Ok(conversations)
}
