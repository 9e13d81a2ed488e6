//! Webhooks as producers send them.

use std::sync::LazyLock;

use ingest::signature::{self, COMPANY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use platform::clock;
use serde_json::{Value, json};

/// A company as a producer knows it.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) company_id: i64,
    pub(crate) domain: String,
    pub(crate) secret: String,
}

/// A signed webhook, which a test may change.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// What ingest responded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IngestResponse {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl IngestResponse {
    /// `status reason`, or `status` alone.
    pub(crate) fn status_and_reason(&self) -> String {
        match self.body["reason"].as_str() {
            Some(reason) => format!("{} {reason}", self.status),
            None => self.status.to_string(),
        }
    }
}

impl Producer {
    /// A text message with the provider's id.
    pub(crate) fn text(&self, number: &str, id: &str, text: &str) -> Hook {
        self.hook(&json!({
            "key": { "remoteJid": format!("{number}@s.whatsapp.net"), "fromMe": false, "id": id },
            "messageTimestamp": clock::now().as_second(),
            "pushName": "Maria",
            "message": { "conversation": text },
        }))
    }

    /// Any body, signed now.
    pub(crate) fn hook(&self, body: &Value) -> Hook {
        self.signed(&body.to_string(), clock::now().as_second(), &self.secret)
    }

    /// A body signed at another time or with another secret.
    pub(crate) fn signed(&self, body: &str, timestamp: i64, secret: &str) -> Hook {
        Hook {
            headers: vec![
                (COMPANY_HEADER, self.domain.clone()),
                (TIMESTAMP_HEADER, timestamp.to_string()),
                (SIGNATURE_HEADER, signature::sign(secret.as_bytes(), timestamp, body.as_bytes())),
            ],
            body: body.to_owned(),
        }
    }
}

/// Of all producers: making one reads every trusted root. Connections are not kept, since the tests kill what they lead to.
pub(crate) static CLIENT: LazyLock<reqwest::Client> =
    LazyLock::new(|| reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap());

impl Hook {
    /// The same webhook with one header changed or left out.
    pub(crate) fn with(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.extend(value.map(|it| (name, it.to_owned())));
        self
    }

    pub(crate) async fn post(&self, base_url: &str) -> IngestResponse {
        let mut request = CLIENT
            .post(format!("{base_url}/webhook/whaticket"))
            .timeout(std::time::Duration::from_secs(20))
            .body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").map(|it| it.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        IngestResponse { status, retry_after, body }
    }
}
