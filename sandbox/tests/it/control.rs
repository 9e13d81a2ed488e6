//! The control API over HTTP.

use serde_json::{Value, json};

use crate::{World, json_of, question};

const ANA: &str = "5511999990001";

impl World {
    async fn get(&self, path: &str) -> Value {
        self.client.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }
}

#[tokio::test]
async fn a_fault_is_scripted_listed_used_and_cleared() {
    let world = World::start().await;
    let rule = json!({"target": "send", "match": {"number": ANA}, "times": 2, "skip": 1, "fault": {"kind": "drop"}});
    let (status, body) =
        json_of(world.client.post(world.url("/_sandbox/faults")).json(&rule).send().await.unwrap()).await;
    assert_eq!((status, body), (201, json!({"id": 1})));
    assert!(world.send(ANA, "oi").send().await.is_ok());
    assert!(world.send(ANA, "oi").send().await.is_err());
    let listed = world.get("/_sandbox/faults").await;
    assert_eq!(listed[0]["fault"], json!({"kind": "drop"}));
    assert_eq!((&listed[0]["remaining"], &listed[0]["skip_remaining"]), (&json!(1), &json!(0)));
    assert_eq!(world.client.delete(world.url("/_sandbox/faults")).send().await.unwrap().status(), 204);
    assert_eq!(world.get("/_sandbox/faults").await, json!([]));
    assert!(world.send(ANA, "oi").send().await.is_ok());
}

#[tokio::test]
async fn a_rule_nobody_could_mean_is_refused() {
    let world = World::start().await;
    let rules = [
        json!({"target": "send", "fault": {"kind": "explode"}}),
        json!({"target": "fax", "fault": {"kind": "drop"}}),
        json!({"target": "send", "matches": {}, "fault": {"kind": "drop"}}),
        json!({"target": "send", "fault": {"kind": "status", "status": 100}}),
    ];
    for rule in rules {
        let response = world.client.post(world.url("/_sandbox/faults")).json(&rule).send().await.unwrap();
        assert!(response.status().is_client_error(), "{rule}");
    }
    assert_eq!(world.get("/_sandbox/faults").await, json!([]));
}

#[tokio::test]
async fn the_log_is_filtered_paged_counted_and_emptied() {
    let world = World::start().await;
    for text in ["um", "dois", "três"] {
        world.send(ANA, text).send().await.unwrap();
    }
    world.send("+1", "quatro").send().await.unwrap();
    world.ask(&question("oi")).send().await.unwrap();

    assert_eq!(world.get("/_sandbox/log/count").await, json!({"count": 5}));
    assert_eq!(world.get("/_sandbox/log/count?target=send&performed=true").await, json!({"count": 3}));
    assert_eq!(world.get("/_sandbox/log/count?target=send&performed=false").await, json!({"count": 1}));
    let page = world.get("/_sandbox/log?target=send&after_seq=1&limit=1").await;
    assert_eq!(page.as_array().unwrap().len(), 1);
    assert_eq!((&page[0]["seq"], &page[0]["text"], &page[0]["number"]), (&json!(2), &json!("dois"), &json!(ANA)));
    assert_eq!(world.get("/_sandbox/log?text=tr%C3%AAs").await[0]["answer"], "Mensagem enviada");

    assert_eq!(world.client.delete(world.url("/_sandbox/log")).send().await.unwrap().status(), 204);
    assert_eq!(world.get("/_sandbox/log").await, json!([]));
}

#[tokio::test]
async fn settings_change_only_what_is_named() {
    let world = World::start().await;
    let change = json!({"login_ttl_s": 5});
    let url = world.url("/_sandbox/settings");
    let (_, body) = json_of(world.client.post(&url).json(&change).send().await.unwrap()).await;
    assert_eq!(body, json!({"model_latency_ms": 0, "send_latency_ms": 0, "login_ttl_s": 5}));
    assert_eq!(world.get("/_sandbox/settings").await, body);
}

#[tokio::test]
async fn tokens_are_revoked_over_http() {
    let world = World::start().await;
    let (_, login) = json_of(world.login("segredo").send().await.unwrap()).await;
    assert_eq!(world.client.post(world.url("/_sandbox/tokens/revoke")).send().await.unwrap().status(), 204);
    let request = world.client.post(world.url("/api/messages/send")).bearer_auth(login["token"].as_str().unwrap());
    let response = request.json(&json!({"number": ANA, "body": "oi"})).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn livez_answers_and_other_paths_are_not_found() {
    let world = World::start().await;
    assert_eq!(world.client.get(world.url("/livez")).send().await.unwrap().status(), 200);
    assert_eq!(world.client.get(world.url("/nada")).send().await.unwrap().status(), 404);
}
