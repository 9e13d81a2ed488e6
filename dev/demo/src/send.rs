//! Sends one hook as a producer does, signed over the very bytes, and says how it was answered.

use anyhow::Context;
use domain::EventId;
use ingest::signature::{self, COMPANY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use platform::clock;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cast::{Company, Who};
use crate::hook::{Body, Expect, Hook, Proof};
use crate::stage::Stage;

/// How far off a hook's clock is when it is wrong.
const OFF_S: i64 = 600;

/// A hook that was sent.
pub(crate) struct Sent {
    pub(crate) who: Who,
    pub(crate) what: &'static str,
    pub(crate) expect: Expect,
    pub(crate) status: u16,
    /// Why it was refused.
    pub(crate) reason: Option<String>,
    pub(crate) id: Option<EventId>,
    bytes: Vec<u8>,
}

/// What ingest answers, good or bad.
#[derive(Deserialize)]
struct Answer {
    id: Option<EventId>,
    reason: Option<String>,
}

impl Sent {
    /// In what it differs from what must come of it; `before` is the hook sent before.
    pub(crate) fn problem(&self, before: Option<&Sent>) -> Option<String> {
        let Sent { what, status, .. } = self;
        let who = self.who.name();
        let found = format!("{status} {}", self.reason.as_deref().unwrap_or_default());
        let wanted = match self.expect {
            Expect::Refused(status, reason) => format!("{status} {reason}"),
            Expect::Answered | Expect::Repeated | Expect::Ignored(_) => "202 ".to_owned(),
        };
        if found != wanted {
            return Some(format!("{who}, {what}: answered {found}, expected {wanted}"));
        }
        let is_repeat = before.is_some_and(|it| it.id == self.id && self.id.is_some());
        match self.expect {
            Expect::Repeated if !is_repeat => Some(format!("{who}, {what}: not the id of the hook before")),
            Expect::Answered | Expect::Ignored(_) if self.id.is_none() => Some(format!("{who}, {what}: no id")),
            _ => None,
        }
    }
}

/// Sends it. Whatever ingest answers is no error here.
pub(crate) async fn send(stage: &Stage, company: &Company, hook: &Hook, before: Option<&Sent>) -> anyhow::Result<Sent> {
    let bytes = match &hook.body {
        Body::Json(body) => now_in(body.clone())?,
        Body::Text(text) => text.as_bytes().to_vec(),
        Body::SameAgain => before.map(|it| it.bytes.clone()).unwrap_or_default(),
    };
    let answer = post(stage, company, hook.proof, bytes.clone()).await?;
    let (status, Answer { id, reason }) = answer;
    Ok(Sent { who: company.who, what: hook.what, expect: hook.expect, status, reason, id, bytes })
}

/// What ingest says to an empty object from that company: its secret must fit before the body is looked at.
pub(crate) async fn is_known(stage: &Stage, company: &Company) -> anyhow::Result<bool> {
    let (status, _) = post(stage, company, Proof::Good, b"{}".to_vec()).await?;
    Ok(status == 422)
}

async fn post(stage: &Stage, company: &Company, proof: Proof, bytes: Vec<u8>) -> anyhow::Result<(u16, Answer)> {
    let now = clock::now().as_second();
    let secret = company.secret.expose_secret().as_bytes();
    let (domain, secret, timestamp) = match proof {
        Proof::Good => (company.who.domain(), secret, now),
        Proof::Forged => (company.who.domain(), b"somebody else's secret".as_slice(), now),
        Proof::Stale => (company.who.domain(), secret, now - OFF_S),
        Proof::Future => (company.who.domain(), secret, now + OFF_S),
        Proof::Stranger => ("nobody.demo", secret, now),
    };
    let url = stage.url("/webhook/whaticket");
    let request = stage.http.post(&url).header("content-type", "application/json").header(COMPANY_HEADER, domain);
    let signature = signature::sign(secret, timestamp, &bytes);
    let request = request.header(TIMESTAMP_HEADER, timestamp).header(SIGNATURE_HEADER, signature).body(bytes);
    let answer = request.send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status().as_u16();
    let answer = answer.bytes().await?;
    Ok((status, serde_json::from_slice(&answer).unwrap_or(Answer { id: None, reason: None })))
}

/// A provider stamps a message when it is written.
fn now_in(mut body: Value) -> Result<Vec<u8>, serde_json::Error> {
    if let Some(written_at) = body.get_mut("messageTimestamp") {
        *written_at = json!(clock::now().as_second());
    }
    serde_json::to_vec(&body)
}
