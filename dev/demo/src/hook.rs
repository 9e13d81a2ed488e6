//! One hook of the script: a real-shaped body, how it is signed, and what must come of it.

use domain::IgnoreReason;
use serde_json::{Value, json};

use crate::stage::Run;

/// A hook that is still to be sent.
pub(crate) struct Hook {
    /// In a few words, for whoever reads that it went wrong.
    pub(crate) what: &'static str,
    pub(crate) body: Body,
    pub(crate) proof: Proof,
    pub(crate) expect: Expect,
}

/// What is posted.
pub(crate) enum Body {
    /// A document; its `messageTimestamp`, if it has one, becomes the time of sending.
    Json(Value),
    /// These bytes.
    Text(&'static str),
    /// The very bytes of the hook before, signed anew.
    SameAgain,
}

/// How a hook is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof {
    /// By the company, now.
    Good,
    /// With another secret.
    Forged,
    /// By the company, ten minutes ago.
    Stale,
    /// By the company, ten minutes from now.
    Future,
    /// For a company that does not exist.
    Stranger,
}

/// What must come of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// 202, and it is answered.
    Answered,
    /// 202 with the id of the hook before, and nothing else happens.
    Repeated,
    /// 202, and nobody answers, for this reason.
    Ignored(IgnoreReason),
    /// This status with this reason.
    Refused(u16, &'static str),
}

impl Hook {
    pub(crate) fn answered(what: &'static str, body: Value) -> Self {
        Hook { what, body: Body::Json(body), proof: Proof::Good, expect: Expect::Answered }
    }

    pub(crate) fn ignored(what: &'static str, reason: IgnoreReason, body: Value) -> Self {
        Hook { expect: Expect::Ignored(reason), ..Hook::answered(what, body) }
    }

    pub(crate) fn refused(what: &'static str, status: u16, reason: &'static str, proof: Proof, body: Value) -> Self {
        Hook { expect: Expect::Refused(status, reason), proof, ..Hook::answered(what, body) }
    }
}

/// The text of a fixture in `fixtures/hooks/`.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../fixtures/hooks/", $name, ".json"))
    };
}
pub(crate) use fixture;

/// Somebody who writes, under a number of this run.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) name: &'static str,
    /// With the ninth digit.
    pub(crate) phone: String,
    pub(crate) lid: String,
}

impl Contact {
    /// The number as WhatsApp keeps it for older accounts: without the ninth digit.
    pub(crate) fn short_phone(&self) -> String {
        let (area, rest) = self.phone.split_at(4);
        format!("{area}{}", rest.strip_prefix('9').unwrap_or(rest))
    }
}

/// Stamps fixtures, so that no two hooks of any runs are the same message.
pub(crate) struct Pen {
    run: Run,
    messages: u16,
    contacts: u8,
}

impl Pen {
    pub(crate) fn new(run: Run) -> Self {
        Pen { run, messages: 0, contacts: 0 }
    }

    pub(crate) fn contact(&mut self, name: &'static str) -> Contact {
        self.contacts += 1;
        Contact { name, phone: self.run.phone(self.contacts), lid: self.run.lid(self.contacts) }
    }

    /// A raw Baileys message of that contact, its parts set as given.
    pub(crate) fn baileys(&mut self, fixture: &str, from: &Contact, parts: &[(&str, &str)]) -> anyhow::Result<Value> {
        let jid = json!(format!("{}@s.whatsapp.net", from.phone));
        let mut body: Value = serde_json::from_str(fixture)?;
        // A chat that is no person's stays what it is, and the person is who wrote in it.
        let is_person = body["key"]["remoteJid"].as_str().is_some_and(|it| it.ends_with("@s.whatsapp.net"));
        let whose = if is_person { "/key/remoteJid" } else { "/key/participant" };
        put(&mut body, whose, jid);
        put(&mut body, "/key/id", json!(self.next_id()));
        put(&mut body, "/pushName", json!(from.name));
        Ok(with(body, parts))
    }

    /// A bridge's message of that contact, its parts set as given.
    pub(crate) fn bridge(&mut self, fixture: &str, from: &Contact, parts: &[(&str, &str)]) -> anyhow::Result<Value> {
        let mut body: Value = serde_json::from_str(fixture)?;
        let whose = if body.get("ticket").is_some() { "/ticket/contact" } else { "" };
        put(&mut body, &format!("{whose}/number"), json!(from.phone));
        put(&mut body, &format!("{whose}/{}", if whose.is_empty() { "pushName" } else { "name" }), json!(from.name));
        put(&mut body, "/id", json!(self.next_id()));
        Ok(with(body, parts))
    }

    fn next_id(&mut self) -> String {
        self.messages += 1;
        self.run.message_id(self.messages)
    }
}

fn with(mut body: Value, parts: &[(&str, &str)]) -> Value {
    parts.iter().for_each(|(pointer, text)| put(&mut body, pointer, json!(text)));
    body
}

/// Sets what a pointer names in an object that is there.
fn put(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if let Some(parent) = body.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.insert(name.to_owned(), value);
    }
}
