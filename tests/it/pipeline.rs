//! A webhook becomes a delivered reply and metered usage.

use std::time::Duration;

use sandbox::{Filter, SettingsChange, Target};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::app::TestApp;
use crate::support::eventually;

const ANA: &str = "5511999990001";

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_becomes_a_delivered_reply_and_metered_usage() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    app.accept(&clinic.text(ANA, "A1", "Oi, quanto custa a limpeza?")).await;
    app.settles().await;

    let sent = app.sent_to(ANA);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].contains("R$ 150"), "{sent:?}");
    assert_eq!(app.transcript().await, format!("→ Oi, quanto custa a limpeza?\n← {}", sent[0]));
    assert_eq!(app.attempts().await, "SENT");
    assert_eq!(
        app.one("select concat(fact, ' ', count(*), ' ', sum(amount) > 0) from usage_events group by fact order by 1")
            .await,
        "message_in 1 t\nmessage_out 1 t\nmodel_tokens 1 t"
    );
    assert_eq!(
        app.one("select concat(metric, ' ', model) from usage_totals where amount > 0 order by 1").await,
        "message_in \nmessage_out \ntokens_in gemini-2.5-flash\ntokens_out gemini-2.5-flash"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_webhook_to_the_model_and_the_provider() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    app.accept(&clinic.text(ANA, "A1", "oi").with("traceparent", Some(trace))).await;
    app.settles().await;
    let seen: Vec<_> = app.sandbox.log(&Filter::default()).into_iter().map(|it| (it.target, it.trace)).collect();
    let expected = [Target::Model, Target::Send].map(|target| (target, Some(trace.to_owned())));
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_number_at_two_companies_is_two_conversations() {
    let Some(app) = TestApp::start_with(|settings| settings.reply.memory_messages = 4).await else { return };
    let clinic = app.company("clinica.test").await;
    let salon = app.company("salao.test").await;
    for n in 1..=4 {
        app.accept(&clinic.text(ANA, &format!("C{n}"), &format!("pergunta {n}"))).await;
        app.accept(&salon.text(ANA, &format!("S{n}"), &format!("assunto {n}"))).await;
        app.settles().await;
    }
    assert_eq!(
        app.one("select concat(company_id, ' ', count(*)) from messages group by company_id order by 1").await,
        format!("{} 8\n{} 8", clinic.company_id, salon.company_id)
    );
    assert_eq!(
        app.one("select count(*)::text from contacts").await,
        "2",
        "the same number is another contact at another company"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_and_without_the_ninth_digit_or_behind_a_lid_is_one_contact() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    app.accept(&clinic.text("5531988880002", "A1", "oi, sou eu")).await;
    app.settles().await;
    app.accept(&clinic.text("553188880002", "A2", "e eu de novo")).await;
    app.settles().await;
    let behind_lid = json!({
        "key": { "remoteJid": "116900000000001@lid", "remoteJidAlt": "5531988880002@s.whatsapp.net", "id": "A3", "fromMe": false },
        "messageTimestamp": { "low": 1_760_000_000, "high": 0, "unsigned": true }, "message": { "conversation": "agora por lid" },
    });
    app.accept(&clinic.hook(&behind_lid)).await;
    app.settles().await;
    let lid_only = json!({
        "key": { "remoteJid": "116900000000001@lid", "id": "A4", "fromMe": false },
        "messageTimestamp": 1_760_000_000, "message": { "conversation": "só o lid" },
    });
    app.accept(&clinic.hook(&lid_only)).await;
    app.settles().await;
    assert_eq!(app.one("select count(*)::text from contacts").await, "1");
    assert_eq!(
        app.one("select string_agg(alias, ' ' order by alias) from contact_aliases").await,
        "553188880002 lid:116900000000001"
    );
    let to: Vec<_> = app.sandbox.log(&Filter::of(Target::Send)).into_iter().filter_map(|it| it.number).collect();
    // Each answer goes to the form that the provider last reported. The lid is refused by a bridge that accepts digits only.
    assert_eq!(to[..2], ["5531988880002", "553188880002"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_keeps_two_hundred_conversations_in_flight() {
    let Some(app) = TestApp::start_with(|settings| settings.kafka.partitions = 1).await else { return };
    let clinic = app.company("clinica.test").await;
    app.sandbox.settings(SettingsChange { model_latency_ms: Some(12_000), ..SettingsChange::default() });
    let url = app.url();
    let hooks = (0..200).map(|n| clinic.text(&format!("55119{n:08}"), "M1", "oi"));
    let sending = hooks.map(|hook| {
        let url = url.clone();
        async move { hook.post(&url).await.status }
    });
    let answers = futures_util::future::join_all(sending).await;
    assert!(answers.iter().all(|&status| status == 202), "{answers:?}");
    app.comes_to("select count(*)::text from turns where state = 'answering'", "200").await;
    eventually("two hundred model calls are in flight", || async {
        let open = app.sandbox.log(&Filter::of(Target::Model)).iter().filter(|it| it.status.is_none()).count();
        if open == 200 { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    app.settles().await;
    assert_eq!(app.sandbox.count(&Filter::sent()), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_hangs_up_does_not_cancel_its_webhook() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    app.broker.round_trip(Duration::from_millis(400));
    let hook = clinic.text(ANA, "A1", "oi");
    let mut request = format!("POST /webhook/whaticket HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", hook.body.len());
    hook.headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    let mut stream = tokio::net::TcpStream::connect(app.settings.http.listen).await.unwrap();
    stream.write_all(format!("{request}\r\n{}", hook.body).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    drop(stream);
    app.broker.round_trip(Duration::ZERO);
    app.comes_to("select count(*)::text from messages where direction = 'in'", "1").await;
    app.settles().await;
    assert_eq!(app.sent_to(ANA).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_loses_nothing_and_the_next_run_goes_on() {
    let Some(mut app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    app.sandbox.settings(SettingsChange { model_latency_ms: Some(700), ..SettingsChange::default() });
    for n in 0..20 {
        app.accept(&clinic.text(&format!("551199999{n:04}"), "M1", "oi")).await;
    }
    app.comes_to("select (count(*) > 0)::text from turns where state = 'answering'", "true").await;
    app.stop().await;
    assert_eq!(
        app.one("select count(*)::text from turns where state = 'answering'").await,
        "0",
        "the calls in flight have ended"
    );
    app.run().await;
    app.settles().await;
    let sent = app.sandbox.log(&Filter::sent());
    let to: std::collections::BTreeSet<_> = sent.iter().map(|it| it.number.clone()).collect();
    assert_eq!((sent.len(), to.len()), (20, 20), "each contact got one answer");
}
