//! One hook: its bytes, its signature over the very bytes, and how it was answered.

use anyhow::{Context, ensure};
use domain::EventId;
use ingest::signature::{self, COMPANY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use platform::clock;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::companies::Registered;
use crate::run::Run;
use crate::scenario::{Body, Expect, Hook, Scenario, Signature, read};

const TEN_MINUTES_S: i64 = 600;

/// A hook that was sent.
pub(crate) struct Sent {
    /// Whether it is to be answered.
    pub(crate) is_message: bool,
    pub(crate) status: u16,
    /// Why it was refused.
    pub(crate) reason: Option<String>,
    pub(crate) id: Option<EventId>,
    /// What ingest said, in the words of `expectation.rs`.
    pub(crate) response: String,
    pub(crate) bytes: Vec<u8>,
}

/// What ingest answers, good or bad.
#[derive(Deserialize, Default)]
struct Answer {
    id: Option<EventId>,
    reason: Option<String>,
}

/// Whether the bytes of every hook can be made: their fixtures and the fields to set are there.
pub(crate) fn check(scenarios: &[Scenario]) -> anyhow::Result<()> {
    for scenario in scenarios {
        for (number, hook) in scenario.hooks().enumerate() {
            bytes(hook, scenario, number, &[]).with_context(|| format!("{}: hook `{}`", scenario.file, hook.what))?;
        }
    }
    Ok(())
}

/// The bytes of the scenario's hook of that number.
pub(crate) fn bytes(hook: &Hook, scenario: &Scenario, number: usize, previous: &[u8]) -> anyhow::Result<Vec<u8>> {
    let text = |name: &str| read(&format!("fixtures/hooks/{name}.json")).context("body");
    match &hook.body {
        Body::Previous => Ok(previous.to_vec()),
        Body::Unchanged(name) => Ok(text(name)?.into_bytes()),
        Body::Fixture(name) => {
            let mut body: Value = serde_json::from_str(&text(name)?).context("body")?;
            ensure!(body.is_object(), "body: the fixture is not an object");
            write_as(&mut body, scenario, number);
            let set = Value::Object(hook.set.clone());
            change(&mut body, &set, "set")?;
            Ok(serde_json::to_vec(&body)?)
        }
    }
}

/// Makes a fixture this contact's message, written now.
fn write_as(body: &mut Value, scenario: &Scenario, number: usize) {
    let (name, phone, id) = (&scenario.contact, &scenario.ids.phone, format!("{}{number:02X}", scenario.ids.message));
    if body["key"].is_object() {
        // A raw Baileys message. A chat that is no person's stays what it is, and the person is who wrote in it.
        let is_person = body["key"]["remoteJid"].as_str().is_some_and(|it| it.ends_with("@s.whatsapp.net"));
        let writer = if is_person { "remoteJid" } else { "participant" };
        body["key"][writer] = json!(format!("{phone}@s.whatsapp.net"));
        body["key"]["id"] = json!(id);
        body["pushName"] = json!(name);
    } else {
        // A bridge's message.
        body["id"] = json!(id);
        let (contact, field) = if body["ticket"].is_object() {
            (&mut body["ticket"]["contact"], "name")
        } else {
            (&mut *body, "pushName")
        };
        contact["number"] = json!(phone);
        contact[field] = json!(name);
    }
    if let Some(written_at) = body.get_mut("messageTimestamp") {
        *written_at = json!(clock::now().as_second());
    }
}

/// Gives fields of a fixture other values; it must have them.
fn change(body: &mut Value, set: &Value, path: &str) -> anyhow::Result<()> {
    match (body, set) {
        (Value::Object(body), Value::Object(set)) => set.iter().try_for_each(|(name, set)| {
            let path = format!("{path}.{name}");
            let field = body.get_mut(name).with_context(|| format!("{path}: the fixture has no such field"))?;
            change(field, set, &path)
        }),
        (body, set) => {
            *body = set.clone();
            Ok(())
        }
    }
}

/// Sends it; `previous` is the hook sent before. Whatever ingest answers is no error here.
pub(crate) async fn send(
    run: &Run,
    company: &Registered,
    hook: &Hook,
    bytes: Vec<u8>,
    previous: Option<&Sent>,
) -> anyhow::Result<Sent> {
    let (status, Answer { id, reason }) = post(run, company, hook.signature, bytes.clone()).await?;
    let response = match (id, &reason) {
        (Some(id), None) if previous.is_some_and(|it| it.id == Some(id)) => {
            format!("{status} with the id of the hook before")
        }
        (Some(_), None) => format!("{status} with an id of its own"),
        (_, reason) => format!("{status} {}", reason.as_deref().unwrap_or("without an id")),
    };
    Ok(Sent { is_message: hook.expect == Expect::Answered, status, reason, id, response, bytes })
}

/// Whether ingest knows the company: it looks at a body, an empty one here, only if the secret fits.
pub(crate) async fn is_known(run: &Run, company: &Registered) -> anyhow::Result<bool> {
    let (status, _) = post(run, company, Signature::Valid, b"{}".to_vec()).await?;
    Ok(status == 422)
}

async fn post(run: &Run, company: &Registered, how: Signature, bytes: Vec<u8>) -> anyhow::Result<(u16, Answer)> {
    let (now, secret) = (clock::now().as_second(), company.secret.expose_secret().as_bytes());
    let domain = company.company.domain.as_str();
    let (domain, secret, timestamp) = match how {
        Signature::Valid => (domain, secret, now),
        Signature::WrongSecret => (domain, b"another secret".as_slice(), now),
        Signature::TenMinutesOld => (domain, secret, now - TEN_MINUTES_S),
        Signature::TenMinutesAhead => (domain, secret, now + TEN_MINUTES_S),
        Signature::UnknownCompany => ("unknown.demo", secret, now),
    };
    let url = run.url("/webhook/whaticket");
    let request = run.http.post(&url).header("content-type", "application/json").header(COMPANY_HEADER, domain);
    let signature = signature::sign(secret, timestamp, &bytes);
    let request = request.header(TIMESTAMP_HEADER, timestamp).header(SIGNATURE_HEADER, signature).body(bytes);
    let answer = request.send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status().as_u16();
    Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
}
