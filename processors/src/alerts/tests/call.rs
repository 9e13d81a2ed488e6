//! The call itself, against a receiver that checks what it gets, and addresses that are never called.

use platform::clock;
use platform::egress::Policy;
use platform::webhook::Secret;
use sandbox::{Fault, FaultRule, Filter, Receiver as SandboxReceiver, Sandbox, Target};

use super::*;
use crate::alerts::sender::{Receiver, Sender, WebhookRequest};

const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

async fn sandbox_receiver(secrets: &[&str]) -> (Sandbox, String) {
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    sandbox
        .receive("clinica", &SandboxReceiver { secrets: secrets.iter().map(|it| (*it).to_owned()).collect() })
        .unwrap();
    let url = format!("{}/webhooks/clinica", sandbox.base_url());
    (sandbox, url)
}

fn done(status: u16) -> ReceiverResponse {
    ReceiverResponse { verdict: Verdict::Done, status: Some(status) }
}

/// Calls a URL once.
async fn call(url: &str, secrets: &[&str]) -> ReceiverResponse {
    call_at(url, secrets, clock::now()).await
}

async fn call_at(url: &str, secrets: &[&str], at: Timestamp) -> ReceiverResponse {
    let secrets = secrets.iter().map(|it| Secret::parse(it).unwrap()).collect();
    let receiver = Receiver { url: Policy::Anywhere.url(url).unwrap(), secrets };
    let sender = Sender::new(Duration::from_millis(400), Policy::Anywhere).unwrap();
    sender.call(&receiver, WebhookRequest { id: "evt-1", at, body: r#"{"type":"x"}"# }).await
}

#[tokio::test]
async fn what_is_sent_can_be_verified_and_keeps_its_id() {
    let (sandbox, url) = sandbox_receiver(&[SECRET]).await;
    assert_eq!(call(&url, &[SECRET]).await, done(204));
    let entry = &sandbox.log(&Filter::taken())[0];
    assert_eq!((entry.message_key.as_deref(), entry.text.as_deref()), (Some("evt-1"), Some(r#"{"type":"x"}"#)));
}

#[tokio::test]
async fn while_a_secret_is_rotated_out_a_receiver_may_verify_with_either() {
    let (_sandbox, url) = sandbox_receiver(&[OTHER]).await;
    assert_eq!(call(&url, &[SECRET, OTHER]).await, done(204));
    assert_eq!(call(&url, &[SECRET]).await.verdict.class(), Some("refused"), "with neither it is refused");
    assert_eq!(
        call_at(&url, &[OTHER], at(1_614_265_330)).await.verdict.class(),
        Some("refused"),
        "and so is an old call"
    );
}

#[tokio::test]
async fn every_response_of_a_receiver_has_its_verdict() {
    let (sandbox, url) = sandbox_receiver(&[SECRET]).await;
    let status = |status: u16, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Fault::Status { status, body: serde_json::Value::Null, headers }
    };
    let elsewhere = format!("{}/livez", sandbox.base_url());
    let asked_to_wait = Verdict::Temporary { class: "rate_limited", retry_after: Some(Duration::from_secs(7)) };
    let asked_to_wait = ReceiverResponse { verdict: asked_to_wait, status: Some(429) };
    let cases = [
        (status(410, &[]), GONE),
        (status(429, &[("retry-after", "7")]), asked_to_wait),
        (Fault::Hang { ms: 5_000 }, Verdict::unknown("timeout").into()),
        (Fault::SilentSuccess, Verdict::unknown("connection_lost").into()),
        (Fault::Garbage, done(200)),
        (Fault::Truncated, done(204)),
    ];
    for (fault, expected) in cases {
        let what = fault.kind();
        sandbox.fault(FaultRule::new(Target::Webhook, fault)).unwrap();
        assert_eq!(call(&url, &[SECRET]).await, expected, "{what}");
    }
    sandbox.fault(FaultRule::new(Target::Webhook, status(307, &[("location", &elsewhere)]))).unwrap();
    assert_eq!(call(&url, &[SECRET]).await.verdict.class(), Some("redirected"), "and the redirect is not followed");
    sandbox.stop().await.unwrap();
    assert_eq!(call(&url, &[SECRET]).await, Verdict::temporary("unreachable").into());
}

#[test]
fn addresses_that_are_never_called() {
    let class = |url: &str| Policy::Public.url(url).err().map(|it| it.class());
    for url in ["", "clinica.example", "https://", "https://ana:senha@clinica.example/", "https://ana@clinica.example/"]
    {
        assert_eq!(class(url), Some("bad_address"), "{url}");
    }
    let forbidden = [
        "http://clinica.example/",
        "http://127.0.0.1/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://017700000001/",
        "https://169.254.169.254/latest/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00::1]:8443/",
        "ftp://clinica.example/",
    ];
    for url in forbidden {
        assert_eq!(class(url), Some("forbidden_address"), "{url}");
    }
    assert!(Policy::Public.url("https://clinica.example:8443/alerts?k=v").is_ok());
}

#[tokio::test]
async fn a_host_name_with_a_private_address_is_not_called() {
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listening.local_addr().unwrap().port());
    let receiver = Receiver { url: Policy::Public.url(&url).unwrap(), secrets: vec![Secret::parse(SECRET).unwrap()] };
    let sender = Sender::new(Duration::from_secs(5), Policy::Public).unwrap();
    let verdict = sender.call(&receiver, WebhookRequest { id: "evt-1", at: clock::now(), body: "{}" }).await;
    assert_eq!(verdict, Verdict::permanent("forbidden_address").into());
    let came = tokio::time::timeout(Duration::from_millis(50), listening.accept()).await;
    assert!(came.is_err(), "no connection was made");
}
