//! The sandbox as its clients see it: over HTTP, through an ordinary client.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod control;
mod faults;
mod gemini;
mod webhooks;
mod whaticket;

use reqwest::{Client, RequestBuilder, Response};
use sandbox::{Fault, FaultRule, Sandbox, Target};
use serde_json::{Value, json};

/// A test's own sandbox, and a client for it.
struct TestSandbox {
    sandbox: Sandbox,
    client: Client,
}

impl TestSandbox {
    async fn start() -> Self {
        let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        // A new connection per request, so that an aborted one cannot be confused with a stale one.
        let client = Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { sandbox, client }
    }

    fn url(&self, path: &str) -> String {
        self.sandbox.base_url() + path
    }

    fn script(&self, target: Target, fault: Fault) {
        self.sandbox.fault(FaultRule::new(target, fault)).unwrap();
    }

    /// A message with a valid token.
    fn send(&self, number: &str, text: &str) -> RequestBuilder {
        let request = self.client.post(self.url("/api/messages/send")).bearer_auth("conexao-1");
        request.json(&json!({"number": number, "body": text}))
    }

    /// A request to the model with a valid key.
    fn ask(&self, body: &Value) -> RequestBuilder {
        self.ask_model("gemini-2.5-flash", body)
    }

    fn ask_model(&self, model: &str, body: &Value) -> RequestBuilder {
        let url = self.url(&format!("/v1beta/models/{model}:generateContent"));
        self.client.post(url).header("x-goog-api-key", "chave-de-teste").json(body)
    }

    fn login(&self, password: &str) -> RequestBuilder {
        let credentials = json!({"email": "ana@exemplo.test", "password": password});
        self.client.post(self.url("/auth/login")).json(&credentials)
    }
}

async fn json_of(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

fn question(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}
