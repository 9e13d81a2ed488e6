//! The client against the sandbox: verdicts of certain and uncertain sends, and the number of logins.

use futures_util::future::join_all;
use sandbox::{Fault, FaultRule, Filter, Sandbox, SettingsChange, Target};
use uuid::Uuid;

use super::*;

const MESSAGE: MessageId = MessageId(Uuid::from_u128(0x5e));

async fn sandbox_and_client() -> (Sandbox, Client) {
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    (sandbox, Client::new(Duration::from_secs(10)).unwrap())
}

fn with_short_timeout() -> Client {
    Client::new(Duration::from_millis(300)).unwrap()
}

fn account(base_url: impl Into<String>, auth: Auth) -> Account {
    Account { company: CompanyId(1), base_url: base_url.into(), auth }
}

fn fixed(base_url: impl Into<String>) -> Account {
    account(base_url, Auth::Token("conexao-1".into()))
}

fn user(base_url: impl Into<String>) -> Account {
    let credentials = Credentials { email: "bot@exemplo.test".into(), password: "senha".into() };
    account(base_url, Auth::Login(credentials))
}

fn message(number: &str) -> SendRequest<'_> {
    SendRequest { message_id: MESSAGE, attempt: 1, number, body: "Olá, Maria!", traceparent: None }
}

async fn send_at_once(many: usize, client: &Client, account: &Account) -> Vec<Verdict> {
    let messages = vec![message("5511999990001"); many];
    join_all(messages.iter().map(|message| client.send(account, message))).await
}

fn logins(sandbox: &Sandbox) -> usize {
    sandbox.count(&Filter::of(Target::Login))
}

fn sent(sandbox: &Sandbox) -> usize {
    sandbox.count(&Filter::sent())
}

#[tokio::test]
async fn a_message_goes_to_the_number_as_the_provider_wrote_it() {
    let (sandbox, client) = sandbox_and_client().await;
    let account = fixed(sandbox.base_url() + "/");
    let message = SendRequest { attempt: 3, ..message("5511999990001") };
    assert_eq!(client.send(&account, &message).await, Verdict::Done);
    let entry = &sandbox.log(&Filter::sent())[0];
    assert_eq!(entry.number.as_deref(), Some("5511999990001"));
    assert_eq!(entry.text.as_deref(), Some("Olá, Maria!"));
    assert_eq!(entry.token.as_deref(), Some("conexao-1"));
    assert_eq!(entry.message_key, Some(format!("{MESSAGE}:3")));
}

#[tokio::test]
async fn an_id_with_an_at_sign_is_passed_as_it_is() {
    let (sandbox, client) = sandbox_and_client().await;
    client.send(&fixed(sandbox.base_url()), &message("116900000000001@lid")).await;
    assert_eq!(sandbox.log(&Filter::of(Target::Send))[0].number.as_deref(), Some("116900000000001@lid"));
}

#[tokio::test]
async fn a_fixed_token_that_is_refused_is_not_tried_again() {
    let (sandbox, client) = sandbox_and_client().await;
    let account = account(sandbox.base_url(), Auth::Token("invalid".into()));
    assert_eq!(client.send(&account, &message("5511999990001")).await, Verdict::Permanent { class: "unauthorized" });
    assert_eq!((sandbox.count(&Filter::of(Target::Send)), logins(&sandbox)), (1, 0));
}

#[tokio::test]
async fn silence_after_the_bytes_were_written_is_unknown() {
    let (sandbox, _) = sandbox_and_client().await;
    let client = with_short_timeout();
    let cases = [
        (Fault::Hang { ms: 60_000 }, Verdict::Unknown { class: "timeout" }),
        (Fault::Latency { ms: 60_000 }, Verdict::Unknown { class: "timeout" }),
        (Fault::SilentSuccess, Verdict::Unknown { class: "connection_lost" }),
        (Fault::Drop, Verdict::Unknown { class: "connection_lost" }),
        (Fault::Garbage, Verdict::Done),
        (Fault::Truncated, Verdict::Done),
    ];
    for (fault, verdict) in cases {
        let before = sandbox.count(&Filter::of(Target::Send));
        sandbox.fault(FaultRule::new(Target::Send, fault.clone())).unwrap();
        assert_eq!(client.send(&fixed(sandbox.base_url()), &message("5511999990001")).await, verdict, "{fault:?}");
        assert_eq!(sandbox.count(&Filter::of(Target::Send)), before + 1, "{fault:?} happens once");
    }
}

#[tokio::test]
async fn what_was_never_written_is_temporary() {
    let (sandbox, client) = sandbox_and_client().await;
    let no_tls = sandbox.base_url().replace("http://", "https://");
    assert_eq!(client.send(&fixed(no_tls), &message("5511999990001")).await, Verdict::temporary("unreachable"));
    let closed = sandbox.base_url();
    sandbox.stop().await.unwrap();
    assert_eq!(client.send(&fixed(&closed), &message("5511999990001")).await, Verdict::temporary("unreachable"));
    assert_eq!(client.send(&user(&closed), &message("5511999990001")).await.class(), Some("login_unavailable"));
}

#[tokio::test]
async fn an_invalid_address_is_permanent() {
    let (_, client) = sandbox_and_client().await;
    for base_url in ["", "exemplo.test", "ftp://exemplo.test", "http://exemplo.test/?a=", "http://exemplo.test/#"] {
        let verdict = client.send(&fixed(base_url), &message("5511999990001")).await;
        assert_eq!(verdict, Verdict::Permanent { class: "bad_address" }, "{base_url}");
    }
}

#[tokio::test]
async fn the_wait_that_the_provider_asks_for_is_in_the_verdict() {
    let (sandbox, client) = sandbox_and_client().await;
    let headers = [("retry-after".to_owned(), "17".to_owned())].into();
    let fault = Fault::Status { status: 429, body: serde_json::Value::Null, headers };
    sandbox.fault(FaultRule::new(Target::Send, fault)).unwrap();
    let verdict = client.send(&fixed(sandbox.base_url()), &message("5511999990001")).await;
    let retry_after = Some(Duration::from_secs(17));
    assert_eq!(verdict, Verdict::Temporary { class: "rate_limited", retry_after });
}

#[tokio::test]
async fn many_messages_at_once_cost_one_login() {
    let (sandbox, client) = sandbox_and_client().await;
    let account = user(sandbox.base_url());
    let verdicts = send_at_once(20, &client, &account).await;
    assert_eq!(verdicts, [Verdict::Done; 20]);
    assert_eq!((sent(&sandbox), logins(&sandbox)), (20, 1));
    assert_eq!(client.send(&account, &message("5511999990001")).await, Verdict::Done);
    assert_eq!(logins(&sandbox), 1, "the token is cached");
}

#[tokio::test]
async fn a_revoked_token_is_renewed_once_for_all_messages_and_none_is_sent_twice() {
    let (sandbox, client) = sandbox_and_client().await;
    let account = user(sandbox.base_url());
    assert_eq!(client.send(&account, &message("5511999990001")).await, Verdict::Done);
    sandbox.revoke_tokens();
    let verdicts = send_at_once(20, &client, &account).await;
    assert_eq!(verdicts, [Verdict::Done; 20]);
    assert_eq!((sent(&sandbox), logins(&sandbox)), (21, 2));
}

#[tokio::test]
async fn an_expired_login_that_answers_403_is_renewed_too() {
    let (sandbox, client) = sandbox_and_client().await;
    let body = serde_json::json!({"error": "Invalid token. We'll try to assign a new one on next request"});
    let fault = Fault::Status { status: 403, body, headers: Default::default() };
    sandbox.fault(FaultRule::new(Target::Send, fault)).unwrap();
    assert_eq!(client.send(&user(sandbox.base_url()), &message("5511999990001")).await, Verdict::Done);
    assert_eq!((sent(&sandbox), logins(&sandbox)), (1, 2));
}

#[tokio::test]
async fn a_token_refused_twice_is_a_refusal() {
    let (sandbox, client) = sandbox_and_client().await;
    let fault = Fault::Status { status: 401, body: serde_json::Value::Null, headers: Default::default() };
    sandbox.fault(FaultRule::new(Target::Send, fault).times(9)).unwrap();
    let verdict = client.send(&user(sandbox.base_url()), &message("5511999990001")).await;
    assert_eq!(verdict, Verdict::Permanent { class: "unauthorized" });
    assert_eq!((sandbox.count(&Filter::of(Target::Send)), logins(&sandbox)), (2, 2));
}

#[tokio::test]
async fn a_token_about_to_expire_is_used_once() {
    let (sandbox, client) = sandbox_and_client().await;
    sandbox.settings(SettingsChange { login_ttl_s: Some(20), ..SettingsChange::default() });
    let account = user(sandbox.base_url());
    for logins_so_far in 1..=3 {
        assert_eq!(client.send(&account, &message("5511999990001")).await, Verdict::Done);
        assert_eq!(logins(&sandbox), logins_so_far);
    }
}

#[tokio::test]
async fn companies_do_not_share_tokens() {
    let (sandbox, client) = sandbox_and_client().await;
    let one = user(sandbox.base_url());
    let other = Account { company: CompanyId(2), ..user(sandbox.base_url()) };
    assert_eq!(client.send(&one, &message("5511999990001")).await, Verdict::Done);
    assert_eq!(client.send(&other, &message("5511999990001")).await, Verdict::Done);
    assert_eq!(logins(&sandbox), 2);
}

#[tokio::test]
async fn callers_that_waited_for_a_failed_login_get_its_failure() {
    let (sandbox, _) = sandbox_and_client().await;
    let client = with_short_timeout();
    let account = user(sandbox.base_url());
    sandbox.fault(FaultRule::new(Target::Login, Fault::Hang { ms: 60_000 })).unwrap();
    let verdicts = send_at_once(10, &client, &account).await;
    assert_eq!(verdicts, [Verdict::temporary("login_unavailable"); 10]);
    assert_eq!((sent(&sandbox), logins(&sandbox)), (0, 1));
    assert_eq!(client.send(&account, &message("5511999990001")).await, Verdict::Done, "a failure is not cached");
}

#[tokio::test]
async fn a_failed_login_shows_whether_to_try_again() {
    let (sandbox, client) = sandbox_and_client().await;
    let status = |status| Fault::Status { status, body: serde_json::Value::Null, headers: Default::default() };
    let cases = [
        (status(401), Verdict::Permanent { class: "login_refused" }),
        (status(429), Verdict::temporary("login_unavailable")),
        (status(503), Verdict::temporary("login_unavailable")),
        (Fault::Drop, Verdict::temporary("login_unavailable")),
        (Fault::Garbage, Verdict::temporary("login_unreadable")),
        (Fault::Truncated, Verdict::temporary("login_unreadable")),
    ];
    for (fault, verdict) in cases {
        sandbox.fault(FaultRule::new(Target::Login, fault.clone())).unwrap();
        assert_eq!(client.send(&user(sandbox.base_url()), &message("5511999990001")).await, verdict, "{fault:?}");
    }
    assert_eq!(sent(&sandbox), 0);
}
