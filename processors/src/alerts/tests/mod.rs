//! alerts' claims: who is told and what, what follows a call, and when an event has ended.

mod call;
mod decide;
mod rows;

use std::time::Duration;

use domain::{Alert, CompanyId, Envelope, EventId, Kind, SCHEMA, Step, Threshold};
use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::tests::noon;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn id(word: &str) -> EventId {
    EventId(Uuid::new_v5(&Uuid::NAMESPACE_OID, word.as_bytes()))
}

fn envelope(company: CompanyId, word: &str, kind: Kind, payload: Alert) -> Envelope<Alert> {
    let (event_id, at) = (id(word), noon());
    Envelope { schema: SCHEMA, event_id, company_id: company, kind, occurred_at: at, received_at: at, payload }
}

/// A company has used eight of ten agents.
fn crossing(company: CompanyId, word: &str) -> Envelope<Alert> {
    let crossed = Threshold {
        feature: "agents".into(),
        threshold: 80,
        limit: 10,
        used: 8,
        arming: 1,
        period_start: Some("2026-03-01T03:00:00Z".parse().unwrap()),
        period_end: None,
    };
    envelope(company, word, Kind::UsageThreshold, Alert::Threshold(crossed))
}

/// A company's subscription has another status.
fn step(company: CompanyId) -> Envelope<Alert> {
    let detail = serde_json::json!({ "from": "active", "to": "past_due", "company": "somebody else" });
    let step = Step {
        subscription_id: Uuid::from_u128(7),
        subscription_event_id: Uuid::from_u128(8),
        detail: detail.as_object().unwrap().clone(),
    };
    envelope(company, "step", Kind::SubscriptionStatusChanged, Alert::Step(step))
}

/// The settings of an operator who wants to be told, on this machine.
fn told_at(url: &str) -> Config {
    Config {
        operator_webhook_url: url.to_owned(),
        operator_webhook_secret: SECRET.into(),
        allow_private: true,
        ..Config::default()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}
