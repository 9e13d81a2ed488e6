//! The table of responses to producers, row by row.

use platform::clock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::TestApp;

const NUMBER: &str = "5511999990001";

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_reason() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let good = clinic.text(NUMBER, "A1", "oi");
    let now = clock::now().as_second();
    let signed_at = |at| clinic.signed(&good.body, at, &clinic.secret);
    let hooks = [
        ("unknown company", good.clone().with("x-company-domain", Some("ninguem.test"))),
        ("no company", good.clone().with("x-company-domain", None)),
        ("wrong signature", good.clone().with("x-signature", Some(&"0".repeat(64)))),
        ("signature is no hex", good.clone().with("x-signature", Some("zz"))),
        ("other secret", clinic.signed(&good.body, now, "another-secret")),
        ("no signature", good.clone().with("x-signature", None)),
        ("no timestamp", good.clone().with("x-timestamp", None)),
        ("timestamp is text", good.clone().with("x-timestamp", Some("yesterday"))),
        ("stale", signed_at(now - 302)),
        ("future", signed_at(now + 302)),
        ("extreme timestamp", signed_at(i64::MIN)),
        ("not json", clinic.signed("{oi", now, &clinic.secret)),
        ("no number", clinic.hook(&json!({ "message": { "conversation": "oi" } }))),
        ("unknown shape", clinic.hook(&json!({ "number": NUMBER, "message": { "conversation": null } }))),
        ("too large", clinic.signed(&"x".repeat(1_048_577), now, &clinic.secret)),
    ];
    let mut responses = Vec::new();
    for (what, hook) in hooks {
        let answer = hook.post(&app.url()).await;
        let field = answer.body["field"].as_str().map(|it| format!(" ({it})")).unwrap_or_default();
        responses.push(format!("{what}: {}{field}", answer.status_and_reason()));
    }
    let expected = [
        "unknown company: 401 bad_signature",
        "no company: 401 bad_signature",
        "wrong signature: 401 bad_signature",
        "signature is no hex: 401 bad_signature",
        "other secret: 401 bad_signature",
        "no signature: 401 missing_signature",
        "no timestamp: 401 missing_timestamp",
        "timestamp is text: 401 missing_timestamp",
        "stale: 401 stale_timestamp",
        "future: 401 future_timestamp",
        "extreme timestamp: 401 stale_timestamp",
        "not json: 400 not_json (body)",
        "no number: 422 missing_number (number)",
        "unknown shape: 422 unknown_shape (message)",
        "too large: 413 too_large",
    ];
    assert_eq!(responses, expected);
    let outcomes = "select count(*)::text from event_outcomes where processor <> 'alerts'";
    assert_eq!(app.one(outcomes).await, "0", "nothing refused was published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_accepted_with_the_same_id_and_answered_once() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let first = app.accept(&clinic.text(NUMBER, "A1", "oi")).await;
    let resigned = app.accept(&clinic.text(NUMBER, "A1", "oi")).await;
    let without_ninth_digit = app.accept(&clinic.text("551199990001", "A1", "oi")).await;
    assert_eq!([&resigned, &without_ninth_digit], [&first, &first]);
    app.settles().await;
    assert_eq!(app.sent_to("5511999990001").len() + app.sent_to("551199990001").len(), 1);
    assert_eq!(app.one("select sum(duplicates)::text from consumer_counts where processor = 'reply'").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_equal_texts_are_two_messages_unless_the_producer_says_otherwise() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let now = clock::now().as_second();
    let body = json!({ "number": NUMBER, "message": { "conversation": "ok" } }).to_string();
    let one = app.accept(&clinic.signed(&body, now, &clinic.secret)).await;
    let other = app.accept(&clinic.signed(&body, now - 1, &clinic.secret)).await;
    let again = app.accept(&clinic.signed(&body, now, &clinic.secret)).await;
    assert_ne!(one, other, "signed a second later, it is another webhook");
    assert_eq!(one, again, "byte for byte the same webhook is the same message");
    let keyed = |at| clinic.signed(&body, at, &clinic.secret).with("x-idempotency-key", Some("k-1"));
    assert_eq!(app.accept(&keyed(now - 2)).await, app.accept(&keyed(now - 3)).await);
    let accented = |at| clinic.signed(&body, at, &clinic.secret).with("x-idempotency-key", Some("ação"));
    assert_eq!(app.accept(&accented(now - 4)).await, app.accept(&accented(now - 5)).await);
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_webhook_sent_again_under_other_keys_is_answered_once() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let captured = clinic.hook(&json!({ "number": NUMBER, "message": { "conversation": "oi" } }));
    let keyed = |key| captured.clone().with("x-idempotency-key", Some(key));
    let first = app.accept(&keyed("k-1")).await;
    app.settles().await;
    let again = app.accept(&keyed("k-1")).await;
    let others = [app.accept(&keyed("k-2")).await, app.accept(&keyed("k-3")).await, app.accept(&captured).await];
    assert_eq!(first, again);
    assert!(others.iter().all(|it| *it != first));
    app.settles().await;
    assert_eq!(app.sent_to(NUMBER).len(), 1);
    let ended = "select concat_ws(' ', state, reason, count(*)) from event_outcomes where processor = 'reply'
                 group by state, reason order by state";
    assert_eq!(app.one(ended).await, "done 1\nignored duplicate 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_answer_is_accepted_and_ends_ignored_with_its_reason() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let raw = |jid: &str, from_me: bool, id: &str, message| {
        clinic.hook(&json!({
            "key": { "remoteJid": jid, "fromMe": from_me, "id": id }, "messageTimestamp": "1760000000",
            "message": message, "messageStubType": 2,
        }))
    };
    let jid = "5511999990001@s.whatsapp.net";
    let text = json!({ "conversation": "oi" });
    app.accept(&raw("120363000000000000@g.us", false, "G", text.clone())).await;
    app.accept(&raw("status@broadcast", false, "S", text.clone())).await;
    app.accept(&raw(jid, true, "E", text)).await;
    app.accept(&raw(jid, false, "N", json!(null))).await;
    app.accept(&raw(jid, false, "R", json!({ "reactionMessage": { "key": { "id": "x" }, "text": "👍" } }))).await;
    let revoke = json!({ "protocolMessage": { "key": { "id": "x" }, "type": "REVOKE" } });
    app.accept(&raw(jid, false, "P", revoke)).await;
    app.accept(&raw(jid, false, "U", json!({ "aKindOfNextYear": { "field": 1 } }))).await;
    app.settles().await;
    assert_eq!(
        app.one("select reason from event_outcomes where processor = 'reply' and state = 'ignored' order by reason")
            .await,
        "broadcast\ngroup\nown_echo\nreaction\nrevoked\nstub\nunsupported_kind"
    );
    assert_eq!(app.sent_to("5511999990001"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_and_a_static_token_are_required() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let token = "a-static-token-of-the-clinic";
    let digest = format!("update companies set webhook_token_sha256 = sha256('{token}'::bytea)");
    app.sql.execute(&digest, &[]).await.unwrap();
    let hook = clinic.text(NUMBER, "T1", "oi");
    crate::support::eventually("the token is required", || async {
        let answer = hook.post(&app.url()).await.status_and_reason();
        if answer == "401 bad_token" { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(
        hook.clone().with("x-webhook-token", Some("wrong")).post(&app.url()).await.status_and_reason(),
        "401 bad_token"
    );
    app.accept(&hook.with("x-webhook-token", Some(token))).await;
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_grows_past_the_cap_or_breaks_off_gets_its_status() {
    let Some(app) = TestApp::start_with(|settings| {
        settings.ingest.body_limit_bytes = 2_048;
        settings.ingest.body_timeout_ms = 300;
    })
    .await
    else {
        return;
    };
    let clinic = app.company("clinica.test").await;
    let mut head = "POST /webhook/whaticket HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n".to_owned();
    for (name, value) in &clinic.signed("another body", clock::now().as_second(), &clinic.secret).headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let endless = format!("{head}1000\r\n{}\r\n", "x".repeat(0x1000));
    let stuck = format!("{head}10\r\nonly the beginning");
    let mut responses = Vec::new();
    for request in [endless, stuck] {
        let mut stream = tokio::net::TcpStream::connect(app.settings.http.listen).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        responses.push(String::from_utf8(answer).unwrap());
    }
    assert_eq!(responses, ["HTTP/1.1 413", "HTTP/1.1 408"]);
}
