//! The control API over HTTP.

use serde_json::{Value, json};

use crate::{TestSandbox, json_of, question};

const ANA: &str = "5511999990001";

impl TestSandbox {
    async fn get(&self, path: &str) -> Value {
        self.client.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }
}

#[tokio::test]
async fn a_fault_is_scripted_listed_used_and_cleared() {
    let test = TestSandbox::start().await;
    let rule = json!({"target": "send", "match": {"number": ANA}, "times": 2, "skip": 1, "fault": {"kind": "drop"}});
    let (status, body) =
        json_of(test.client.post(test.url("/_sandbox/faults")).json(&rule).send().await.unwrap()).await;
    assert_eq!((status, body), (201, json!({"id": 1})));
    assert!(test.send(ANA, "oi").send().await.is_ok());
    assert!(test.send(ANA, "oi").send().await.is_err());
    let listed = test.get("/_sandbox/faults").await;
    assert_eq!(listed[0]["fault"], json!({"kind": "drop"}));
    assert_eq!((&listed[0]["remaining"], &listed[0]["skip_remaining"]), (&json!(1), &json!(0)));
    assert_eq!(test.client.delete(test.url("/_sandbox/faults")).send().await.unwrap().status(), 204);
    assert_eq!(test.get("/_sandbox/faults").await, json!([]));
    assert!(test.send(ANA, "oi").send().await.is_ok());
}

#[tokio::test]
async fn an_invalid_rule_is_refused() {
    let test = TestSandbox::start().await;
    let rules = [
        json!({"target": "send", "fault": {"kind": "explode"}}),
        json!({"target": "fax", "fault": {"kind": "drop"}}),
        json!({"target": "send", "matches": {}, "fault": {"kind": "drop"}}),
        json!({"target": "send", "fault": {"kind": "status", "status": 100}}),
    ];
    for rule in rules {
        let response = test.client.post(test.url("/_sandbox/faults")).json(&rule).send().await.unwrap();
        assert!(response.status().is_client_error(), "{rule}");
    }
    assert_eq!(test.get("/_sandbox/faults").await, json!([]));
}

#[tokio::test]
async fn the_log_is_filtered_paged_counted_and_emptied() {
    let test = TestSandbox::start().await;
    for text in ["um", "dois", "três"] {
        test.send(ANA, text).send().await.unwrap();
    }
    test.send("+1", "quatro").send().await.unwrap();
    test.ask(&question("oi")).send().await.unwrap();

    assert_eq!(test.get("/_sandbox/log/count").await, json!({"count": 5}));
    assert_eq!(test.get("/_sandbox/log/count?target=send&performed=true").await, json!({"count": 3}));
    assert_eq!(test.get("/_sandbox/log/count?target=send&performed=false").await, json!({"count": 1}));
    let page = test.get("/_sandbox/log?target=send&after_seq=1&limit=1").await;
    assert_eq!(page.as_array().unwrap().len(), 1);
    assert_eq!((&page[0]["seq"], &page[0]["text"], &page[0]["number"]), (&json!(2), &json!("dois"), &json!(ANA)));
    assert_eq!(test.get("/_sandbox/log?text=tr%C3%AAs").await[0]["answer"], "Mensagem enviada");

    assert_eq!(test.client.delete(test.url("/_sandbox/log")).send().await.unwrap().status(), 204);
    assert_eq!(test.get("/_sandbox/log").await, json!([]));
}

#[tokio::test]
async fn settings_change_only_what_is_named() {
    let test = TestSandbox::start().await;
    let change = json!({"login_ttl_s": 5});
    let url = test.url("/_sandbox/settings");
    let (_, body) = json_of(test.client.post(&url).json(&change).send().await.unwrap()).await;
    assert_eq!(body, json!({"model_latency_ms": 0, "send_latency_ms": 0, "login_ttl_s": 5}));
    assert_eq!(test.get("/_sandbox/settings").await, body);
}

#[tokio::test]
async fn tokens_are_revoked_over_http() {
    let test = TestSandbox::start().await;
    let (_, login) = json_of(test.login("segredo").send().await.unwrap()).await;
    assert_eq!(test.client.post(test.url("/_sandbox/tokens/revoke")).send().await.unwrap().status(), 204);
    let request = test.client.post(test.url("/api/messages/send")).bearer_auth(login["token"].as_str().unwrap());
    let response = request.json(&json!({"number": ANA, "body": "oi"})).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn livez_answers_and_other_paths_are_not_found() {
    let test = TestSandbox::start().await;
    assert_eq!(test.client.get(test.url("/livez")).send().await.unwrap().status(), 200);
    assert_eq!(test.client.get(test.url("/nada")).send().await.unwrap().status(), 404);
}
