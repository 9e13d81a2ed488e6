//! The script: who writes what, what is refused, what the providers do, and what must come of all of it.
//!
//! Every expected number is a sum over what is written here and in [`crate::dialogues`]; nothing is taken from a run.

use domain::IgnoreReason;
use serde_json::Value;

use crate::cast::Who;
use crate::dialogues;
use crate::hook::{Body, Contact, Expect, Hook, Pen, Proof, fixture};
use crate::stage::Run;

/// Everything that happens in a run.
pub(crate) struct Script {
    pub(crate) dialogues: Vec<Dialogue>,
    /// Hooks that belong to no dialogue.
    pub(crate) loose: Vec<(Who, Hook)>,
}

/// What one contact writes, turn by turn.
pub(crate) struct Dialogue {
    pub(crate) who: Who,
    pub(crate) contact: Contact,
    pub(crate) turns: Vec<Turn>,
}

/// Hooks that are answered together.
pub(crate) struct Turn {
    pub(crate) hooks: Vec<Hook>,
    pub(crate) answer: Answer,
    pub(crate) delivery: Delivery,
}

/// Where an answer's text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The model.
    Model,
    /// The company's fallback text: the model is down whenever it reads this.
    Fallback {
        /// Part of what the contact writes.
        reading: String,
    },
}

/// What the provider does with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Takes it.
    Taken,
    /// Falls over twice, then takes it.
    TakenAtLast,
    /// Takes it and hangs up without a word; takes it again.
    TakenInSilence,
    /// Does not know the number.
    NoSuchNumber,
}

impl Delivery {
    /// Result and class of every attempt, in order.
    pub(crate) fn attempts(self) -> &'static [(&'static str, Option<&'static str>)] {
        const FELL_OVER: (&str, Option<&str>) = ("FAILED_TEMPORARY", Some("server_error"));
        match self {
            Delivery::Taken => &[("SENT", None)],
            Delivery::TakenAtLast => &[FELL_OVER, FELL_OVER, ("SENT", None)],
            Delivery::TakenInSilence => &[("UNKNOWN", Some("connection_lost")), ("SENT", None)],
            Delivery::NoSuchNumber => &[("FAILED_PERMANENT", Some("not_on_whatsapp"))],
        }
    }

    /// How many messages the provider really sent.
    pub(crate) fn performed(self) -> usize {
        match self {
            Delivery::Taken | Delivery::TakenAtLast => 1,
            Delivery::TakenInSilence => 2,
            Delivery::NoSuchNumber => 0,
        }
    }

    pub(crate) fn is_parked(self) -> bool {
        self == Delivery::NoSuchNumber
    }
}

impl Dialogue {
    pub(crate) fn hooks(&self) -> impl Iterator<Item = &Hook> {
        self.turns.iter().flat_map(|it| &it.hooks)
    }
}

impl Script {
    /// How many hooks there are.
    pub(crate) fn hooks(&self) -> usize {
        self.dialogues.iter().flat_map(Dialogue::hooks).count() + self.loose.len()
    }

    /// What must come of that company's hooks.
    pub(crate) fn expected(&self, who: Who) -> impl Iterator<Item = Expect> {
        let spoken = self.of(who).flat_map(Dialogue::hooks);
        let loose = self.loose.iter().filter(move |(whose, _)| *whose == who).map(|(_, hook)| hook);
        spoken.chain(loose).map(|it| it.expect)
    }

    /// That company's dialogues.
    pub(crate) fn of(&self, who: Who) -> impl Iterator<Item = &Dialogue> {
        self.dialogues.iter().filter(move |it| it.who == who)
    }

    /// That company's turns.
    pub(crate) fn turns(&self, who: Who) -> impl Iterator<Item = &Turn> {
        self.of(who).flat_map(|it| &it.turns)
    }
}

/// Writes the script of a run.
pub(crate) fn write(run: &Run) -> anyhow::Result<Script> {
    let mut pen = Pen::new(*run);
    let dialogues = dialogues::write(&mut pen, run)?;
    let mut loose = ignored(&mut pen)?;
    loose.extend(refused(&mut pen)?);
    Ok(Script { dialogues, loose })
}

/// Understood, and answered by nobody.
fn ignored(pen: &mut Pen) -> anyhow::Result<Vec<(Who, Hook)>> {
    use IgnoreReason::{Broadcast, Edited, Group, OwnEcho, Reaction, Revoked, Stub, UnsupportedKind};
    let somebody = pen.contact("Rita");
    let mut raw = |fixture| pen.baileys(fixture, &somebody, &[]);
    let clinic = [
        ("a message in a group", Group, raw(fixture!("baileys_group_message"))?),
        ("a status", Broadcast, raw(fixture!("baileys_status_broadcast"))?),
        ("a reaction", Reaction, raw(fixture!("baileys_reaction_message"))?),
        ("an edit", Edited, raw(fixture!("baileys_edited_message"))?),
        ("a stub", Stub, raw(fixture!("baileys_stub_without_message"))?),
        ("a poll", UnsupportedKind, raw(fixture!("baileys_poll"))?),
    ];
    let salon = [
        ("a message taken back", Revoked, raw(fixture!("baileys_revoke_protocol_message"))?),
        ("our own echo", OwnEcho, pen.bridge(fixture!("bridge_own_echo"), &somebody, &[])?),
    ];
    let hook = |who| move |(what, reason, body)| (who, Hook::ignored(what, reason, body));
    Ok(clinic.into_iter().map(hook(Who::Clinic)).chain(salon.into_iter().map(hook(Who::Salon))).collect())
}

/// Not accepted.
fn refused(pen: &mut Pen) -> anyhow::Result<Vec<(Who, Hook)>> {
    let somebody = pen.contact("Otto");
    let mut good = || pen.bridge(fixture!("bridge_text"), &somebody, &[]);
    let without_number: Value = serde_json::from_str(fixture!("refused_no_number"))?;
    let without_message: Value = serde_json::from_str(fixture!("refused_no_message"))?;
    let not_json = Hook {
        what: "a body that is not JSON",
        body: Body::Text(fixture!("refused_not_json")),
        proof: Proof::Good,
        expect: Expect::Refused(400, "not_json"),
    };
    let hook = Hook::refused;
    Ok(vec![
        (Who::Clinic, hook("a forged signature", 401, "bad_signature", Proof::Forged, good()?)),
        (Who::Clinic, hook("a stale hook", 401, "stale_timestamp", Proof::Stale, good()?)),
        (Who::Salon, hook("a hook from the future", 401, "future_timestamp", Proof::Future, good()?)),
        (Who::Salon, hook("an unknown company", 401, "bad_signature", Proof::Stranger, good()?)),
        (Who::Salon, hook("a hook with no number", 422, "missing_number", Proof::Good, without_number)),
        (Who::Clinic, hook("a hook with no message", 422, "unknown_shape", Proof::Good, without_message)),
        (Who::Clinic, not_json),
    ])
}
