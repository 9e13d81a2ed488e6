//! Puts a reply into a `responseSchema`, for callers that request `application/json`.
//!
//! Covers simple schemas (objects of strings, enums, flags and lists). Fields are filled by their names; others stay
//! empty. Source: "Structured output" in the Gemini API guide.

use serde_json::{Map, Value, json};

use crate::secretary::{Reply, Topic};

/// A value that conforms to `schema`; without one, `{"reply": "…"}`.
pub(crate) fn fill(schema: &Value, reply: &Reply) -> Value {
    if schema.is_object() { value("", schema, reply) } else { json!({"reply": reply.text}) }
}

fn value(name: &str, schema: &Value, reply: &Reply) -> Value {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or("OBJECT").to_ascii_uppercase();
    match kind.as_str() {
        "OBJECT" => {
            let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            Value::Object(
                properties.map(|(key, schema)| (key.clone(), value(key, schema, reply))).collect::<Map<_, _>>(),
            )
        }
        "STRING" => match schema.get("enum").and_then(Value::as_array) {
            Some(options) => choose(options, reply),
            None if is_reply(name) => json!(reply.text),
            None if schema.get("nullable") == Some(&Value::Bool(true)) => Value::Null,
            None => json!(""),
        },
        "BOOLEAN" => json!(is_requested(name, reply)),
        "ARRAY" if name.contains("topic") => json!(reply.topics.iter().map(|topic| topic.label()).collect::<Vec<_>>()),
        "ARRAY" => json!([]),
        _ => json!(0),
    }
}

fn is_reply(name: &str) -> bool {
    ["reply", "text", "message", "answer", "resposta", "mensagem", "texto"].contains(&name)
}

fn is_requested(name: &str, reply: &Reply) -> bool {
    let wishes: &[(Topic, &[&str])] = &[
        (Topic::Human, &["human", "handoff", "atendente"]),
        (Topic::Reschedule, &["resched", "remarc", "reagend"]),
        (Topic::Cancel, &["cancel"]),
        (Topic::Booking, &["schedul", "book", "agend", "marcar"]),
    ];
    let wish = wishes.iter().find(|(_, stems)| stems.iter().any(|stem| name.contains(stem)));
    wish.is_some_and(|(topic, _)| reply.topics.contains(topic))
}

/// The option whose name matches the first topic that has one; else a neutral one; else the first.
fn choose(options: &[Value], reply: &Reply) -> Value {
    let named =
        |stem: &&str| options.iter().find(|option| option.as_str().is_some_and(|o| o.to_lowercase().contains(*stem)));
    let neutral = ["neutr", "outro", "other", "geral", "general", "none"];
    let fitting = reply.topics.iter().flat_map(|topic| stems(*topic)).find_map(named);
    fitting.or_else(|| neutral.iter().find_map(named)).or(options.first()).cloned().unwrap_or(Value::Null)
}

fn stems(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::Greeting => &["greet", "saud"],
        Topic::Complaint => &["complain", "reclam", "negativ", "support", "suporte"],
        Topic::Human => &["human", "atendente", "support", "suporte"],
        Topic::Price => &["price", "preco", "preço", "sales", "venda", "duvida", "question"],
        Topic::Hours | Topic::Address => &["hours", "horario", "info", "duvida", "question"],
        Topic::Booking => &["agendar", "schedul", "book", "marcar", "sales", "venda"],
        Topic::Reschedule => &["resched", "remarc", "reagend"],
        Topic::Cancel => &["cancel"],
        Topic::Thanks => &["thank", "agradec", "positiv"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_reply_and_intent_is_filled_by_name() {
        let schema = json!({"type": "OBJECT", "properties": {
            "reply": {"type": "STRING"},
            "intent": {"type": "STRING", "enum": ["agendar", "cancelar", "duvida", "outro"]},
            "sentiment": {"type": "STRING", "enum": ["positive", "neutral", "negative"]},
            "wants_human": {"type": "BOOLEAN"},
            "topics": {"type": "ARRAY", "items": {"type": "STRING"}},
        }});
        let reply = Reply { text: "Claro!".into(), topics: vec![Topic::Booking] };
        let filled = fill(&schema, &reply);
        assert_eq!(filled["reply"], "Claro!");
        assert_eq!(filled["intent"], "agendar");
        assert_eq!(filled["sentiment"], "neutral");
        assert_eq!(filled["wants_human"], false);
        assert_eq!(filled["topics"], json!(["booking"]));
    }

    #[test]
    fn a_complaint_that_asks_for_a_person_is_negative_and_wants_one() {
        let schema = json!({"type": "OBJECT", "properties": {
            "sentiment": {"type": "STRING", "enum": ["positive", "neutral", "negative"]},
            "wants_human": {"type": "BOOLEAN"},
        }});
        let reply = Reply { text: String::new(), topics: vec![Topic::Complaint, Topic::Human] };
        assert_eq!(fill(&schema, &reply), json!({"sentiment": "negative", "wants_human": true}));
    }
}
