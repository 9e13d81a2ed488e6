//! A receiver of webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use sandbox::{Fault, Filter, Receiver, ReceiverRefused, Target};
use sha2::Sha256;

use crate::TestSandbox;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = r#"{"type":"usage.threshold_reached"}"#;

impl TestSandbox {
    /// A sandbox with one receiver, which has one secret.
    async fn with_receiver() -> Self {
        let test = Self::start().await;
        test.sandbox.receive("clinica", &Receiver { secrets: vec![SECRET.into()] }).unwrap();
        test
    }

    fn call(&self, timestamp: i64, secret: &str) -> RequestBuilder {
        let request = self.client.post(self.url("/webhooks/clinica")).body(BODY);
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("evt_1.{timestamp}.{BODY}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        request
            .header("webhook-id", "evt_1")
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", format!("v1a,AAAA {signature}"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox does not depend on our crates, so its tests have no platform::clock"
)]
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn what_is_signed_with_its_secret_is_accepted_and_logged() {
    let test = TestSandbox::with_receiver().await;
    assert_eq!(test.call(now(), SECRET).send().await.unwrap().status(), 204);
    let log = test.sandbox.log(&Filter::taken());
    assert_eq!(log.len(), 1);
    let entry = &log[0];
    assert_eq!((entry.number.as_deref(), entry.message_key.as_deref()), (Some("clinica"), Some("evt_1")));
    assert_eq!((entry.text.as_deref(), entry.status), (Some(BODY), Some(204)));
}

#[tokio::test]
async fn what_is_forged_stale_or_unsigned_is_not() {
    let test = TestSandbox::with_receiver().await;
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    let unsigned = test.client.post(test.url("/webhooks/clinica")).body(BODY);
    let unknown = test.client.post(test.url("/webhooks/salao")).body(BODY);
    for request in [test.call(now(), &other), test.call(now() - 400, SECRET), unsigned] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    assert_eq!(unknown.send().await.unwrap().status(), 404);
    assert_eq!(test.sandbox.count(&Filter::taken()), 0);
    assert_eq!(test.sandbox.count(&Filter::of(Target::Webhook)), 4);
}

#[tokio::test]
async fn a_signature_by_any_of_its_secrets_is_valid() {
    let test = TestSandbox::with_receiver().await;
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    test.sandbox.receive("clinica", &Receiver { secrets: vec![other.clone(), SECRET.into()] }).unwrap();
    for secret in [SECRET, &other] {
        assert_eq!(test.call(now(), secret).send().await.unwrap().status(), 204);
    }
    let wrong = Receiver { secrets: vec!["segredo".into()] };
    assert_eq!(test.sandbox.receive("clinica", &wrong), Err(ReceiverRefused::Secret));
}

#[tokio::test]
async fn it_can_be_created_over_http_and_have_faults_like_the_other_endpoints() {
    let test = TestSandbox::start().await;
    let url = test.url("/_sandbox/webhooks/clinica");
    let made = test.client.post(&url).json(&serde_json::json!({"secrets": [SECRET]})).send().await.unwrap();
    assert_eq!(made.status(), 204);
    test.script(Target::Webhook, Fault::SilentSuccess);
    assert!(test.call(now(), SECRET).send().await.is_err(), "it was accepted, and there is no response");
    assert_eq!(test.sandbox.count(&Filter::taken()), 1);
    test.script(Target::Webhook, Fault::Drop);
    assert!(test.call(now(), SECRET).send().await.is_err());
    assert_eq!(test.sandbox.count(&Filter::taken()), 1);
}
