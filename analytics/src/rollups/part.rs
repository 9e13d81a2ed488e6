//! What the events of one UTC day add to a day of a company. Parts of the same day add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use domain::sketch::{Distinct, Durations};

/// The numbers of a day, or of a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub events: i64,
    pub messages_received: i64,
    pub messages_in: i64,
    pub messages_out: i64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub tokens_cached: i64,
    pub model_calls: i64,
    pub cost_usd_micros: i64,
    pub cost_brl_micros: i64,
    pub turns: i64,
    pub turns_replied: i64,
    pub deliveries: i64,
    pub deliveries_sent: i64,
    pub answer_ms_sum: i64,
    pub answers: Durations,
    pub contacts: Distinct,
    /// By measure, name and detail.
    #[serde(with = "as_list")]
    pub counts: BTreeMap<CountKey, i64>,
}

/// What is counted by parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CountKey {
    pub measure: String,
    pub name: String,
    pub detail: String,
}

/// Events of a company's day that are alike but for their numbers.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    pub kind: String,
    pub author: Option<String>,
    pub fact: Option<String>,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub model: Option<String>,
    pub events: i64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub tokens_cached: i64,
    pub cost_usd_micros: i64,
    pub cost_brl_micros: i64,
    pub duration_ms: i64,
    pub durations: Durations,
    pub contacts: Distinct,
}

/// The author of a message that came back: [`domain::Author`].
const OURSELVES: &str = "ourselves";

/// Outcomes of turns in which the contact got an answer.
const ANSWERED: [&str; 2] = ["replied", "fallback"];

impl Part {
    pub fn add(&mut self, cell: &Cell) {
        self.events += cell.events;
        self.count("events_by_kind", &cell.kind, "", cell.events);
        let outcome = cell.outcome.as_deref().unwrap_or_default();
        match (cell.kind.as_str(), cell.fact.as_deref()) {
            // Our own messages come back too, as echoes.
            ("inbound_message", _) if cell.author.as_deref() != Some(OURSELVES) => {
                self.messages_received += cell.events
            }
            ("usage", Some("message_in")) => self.messages_in += cell.events,
            ("usage", Some("message_out")) => self.messages_out += cell.events,
            ("usage", Some("model_tokens")) => self.add_model_calls(cell),
            ("turn_ended", _) => {
                self.turns += cell.events;
                self.count("turn_outcome", outcome, cell.reason.as_deref().unwrap_or_default(), cell.events);
                self.contacts.merge(&cell.contacts);
                if ANSWERED.contains(&outcome) {
                    self.answers.merge(&cell.durations);
                    self.answer_ms_sum += cell.duration_ms;
                }
                if outcome == "replied" {
                    self.turns_replied += cell.events;
                }
            }
            ("delivery_ended", _) => {
                self.deliveries += cell.events;
                self.count("delivery_outcome", outcome, "", cell.events);
                if outcome == "sent" {
                    self.deliveries_sent += cell.events;
                }
            }
            _ => {}
        }
    }

    fn add_model_calls(&mut self, cell: &Cell) {
        let model = cell.model.as_deref().unwrap_or("unknown");
        self.model_calls += cell.events;
        self.tokens_in += cell.tokens_in;
        self.tokens_out += cell.tokens_out;
        self.tokens_cached += cell.tokens_cached;
        self.cost_usd_micros += cell.cost_usd_micros;
        self.cost_brl_micros += cell.cost_brl_micros;
        for (measure, amount) in [
            ("model_calls", cell.events),
            ("tokens_in", cell.tokens_in),
            ("tokens_out", cell.tokens_out),
            ("tokens_cached", cell.tokens_cached),
            ("cost_usd_micros", cell.cost_usd_micros),
            ("cost_brl_micros", cell.cost_brl_micros),
        ] {
            self.count(measure, model, "", amount);
        }
    }

    fn count(&mut self, measure: &str, name: &str, detail: &str, amount: i64) {
        let name = if name.is_empty() { "unknown" } else { name };
        let key = CountKey { measure: measure.into(), name: name.into(), detail: detail.into() };
        *self.counts.entry(key).or_default() += amount;
    }

    /// Adds another part of the same day, or another day.
    pub fn merge(&mut self, other: &Part) {
        self.events += other.events;
        self.messages_received += other.messages_received;
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
        self.tokens_cached += other.tokens_cached;
        self.model_calls += other.model_calls;
        self.cost_usd_micros += other.cost_usd_micros;
        self.cost_brl_micros += other.cost_brl_micros;
        self.turns += other.turns;
        self.turns_replied += other.turns_replied;
        self.deliveries += other.deliveries;
        self.deliveries_sent += other.deliveries_sent;
        self.answer_ms_sum += other.answer_ms_sum;
        self.answers.merge(&other.answers);
        self.contacts.merge(&other.contacts);
        for (key, amount) in &other.counts {
            *self.counts.entry(key.clone()).or_default() += amount;
        }
    }
}

/// A map whose keys are not texts, as a list of its entries.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::CountKey;

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<CountKey, i64>, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<CountKey, i64>, D::Error> {
        Ok(Vec::<(CountKey, i64)>::deserialize(from)?.into_iter().collect())
    }
}
