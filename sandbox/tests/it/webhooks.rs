//! A receiver of webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use sandbox::{Fault, Filter, Receiver, ReceiverRefused, Target};
use sha2::Sha256;

use crate::World;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = r#"{"type":"usage.threshold_reached"}"#;

impl World {
    /// A world with one receiver, who knows one secret.
    async fn with_receiver() -> Self {
        let world = Self::start().await;
        world.sandbox.receive("clinica", &Receiver { secrets: vec![SECRET.into()] }).unwrap();
        world
    }

    fn tell(&self, timestamp: i64, secret: &str) -> RequestBuilder {
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

#[expect(clippy::disallowed_methods, reason = "the sandbox stands outside, and so do its tests")]
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn what_is_signed_with_its_secret_is_taken_and_logged() {
    let world = World::with_receiver().await;
    assert_eq!(world.tell(now(), SECRET).send().await.unwrap().status(), 204);
    let log = world.sandbox.log(&Filter::taken());
    assert_eq!(log.len(), 1);
    let entry = &log[0];
    assert_eq!((entry.number.as_deref(), entry.message_key.as_deref()), (Some("clinica"), Some("evt_1")));
    assert_eq!((entry.text.as_deref(), entry.status), (Some(BODY), Some(204)));
}

#[tokio::test]
async fn what_is_forged_stale_or_unsigned_is_not() {
    let world = World::with_receiver().await;
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    let unsigned = world.client.post(world.url("/webhooks/clinica")).body(BODY);
    let nobody = world.client.post(world.url("/webhooks/salao")).body(BODY);
    for request in [world.tell(now(), &other), world.tell(now() - 400, SECRET), unsigned] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    assert_eq!(nobody.send().await.unwrap().status(), 404);
    assert_eq!(world.sandbox.count(&Filter::taken()), 0);
    assert_eq!(world.sandbox.count(&Filter::of(Target::Webhook)), 4);
}

#[tokio::test]
async fn any_of_its_secrets_will_do() {
    let world = World::with_receiver().await;
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    world.sandbox.receive("clinica", &Receiver { secrets: vec![other.clone(), SECRET.into()] }).unwrap();
    for secret in [SECRET, &other] {
        assert_eq!(world.tell(now(), secret).send().await.unwrap().status(), 204);
    }
    let wrong = Receiver { secrets: vec!["segredo".into()] };
    assert_eq!(world.sandbox.receive("clinica", &wrong), Err(ReceiverRefused::Secret));
}

#[tokio::test]
async fn it_can_be_made_over_http_and_misbehave_as_the_others_do() {
    let world = World::start().await;
    let url = world.url("/_sandbox/webhooks/clinica");
    let made = world.client.post(&url).json(&serde_json::json!({"secrets": [SECRET]})).send().await.unwrap();
    assert_eq!(made.status(), 204);
    world.script(Target::Webhook, Fault::SilentSuccess);
    assert!(world.tell(now(), SECRET).send().await.is_err(), "it was taken, and nobody says so");
    assert_eq!(world.sandbox.count(&Filter::taken()), 1);
    world.script(Target::Webhook, Fault::Drop);
    assert!(world.tell(now(), SECRET).send().await.is_err());
    assert_eq!(world.sandbox.count(&Filter::taken()), 1);
}
