//! Rows: what comes in, how it ends, and what a replay gives it. On a Postgres of the test's own.

use domain::ProcessorName;
use platform::kafka::Record;
use platform::seal::Place;
use sandbox::{Filter as Seen, Receiver as Knows, Sandbox};

use super::*;
use crate::alerts::claims::Claim;
use crate::alerts::decide::{AttemptResult, Endpoint, Next, Outcome};
use crate::alerts::perform::Finish;
use crate::alerts::verdict::{Class, Verdict};
use crate::alerts::work::Calling;
use crate::parked::{self, Filter, Run};
use crate::tests::{Room, in_a_room, sealer};
use platform::runner::Work;

/// A schedule that is due at once.
const AT_ONCE: [Duration; 2] = [Duration::ZERO; 2];

fn desk(operator: bool) -> Desk {
    Desk { operator, wake: Wake::default() }
}

fn record(room: &Room<'_>, envelope: &Envelope<Alert>) -> Record {
    room.record(Topic::Alerts, "", envelope)
}

/// Gives a company a receiver, signed with [`SECRET`].
async fn wants_to_be_told(room: &Room<'_>, company: CompanyId, url: &str) {
    let place = Place { table: "company_webhooks", column: "secret_sealed", company };
    let sealed = sealer().seal(place, SECRET.as_bytes()).unwrap();
    let sql = "insert into company_webhooks (company_id, url, secret_sealed) values ($1, $2, $3)";
    room.root.execute(sql, &[&company.0, &url, &sealed]).await.unwrap();
}

/// A company that wants to be told, and what has come in about it.
async fn told(room: &Room<'_>, operator: bool, words: &[&str]) -> CompanyId {
    let clinic = room.company("clinica.test").await;
    wants_to_be_told(room, clinic, "https://clinica.example/").await;
    let records: Vec<Record> = words.iter().map(|word| record(room, &crossing(clinic, word))).collect();
    room.take_in(&desk(operator), &records).await.unwrap();
    clinic
}

async fn claim_for(room: &Room<'_>, lease: Duration) -> Vec<Claim> {
    let mut claims = claims::claim(room.db(), 10, "one", lease).await.unwrap().jobs;
    claims.sort_by_key(|it| (it.event, it.endpoint));
    claims
}

async fn finish(room: &Room<'_>, claim: &Claim, verdict: Verdict) -> Finish {
    perform::finish(room.db(), claim, &verdict, &AT_ONCE).await.unwrap()
}

async fn rows(room: &Room<'_>) -> Vec<String> {
    room.rows("select endpoint, state, outcome, cause, attempts from webhook_deliveries order by event_id, endpoint")
        .await
}

async fn attempts(room: &Room<'_>) -> Vec<String> {
    let sql = "select endpoint, attempt, of_round, result, status, class from webhook_attempts
               order by event_id, endpoint, attempt";
    room.rows(sql).await
}

async fn marks(room: &Room<'_>) -> Vec<String> {
    let sql = "select state, reason, count(*) from event_marks where processor = 'alerts' group by 1, 2 order by 1";
    room.rows(sql).await
}

async fn shelf(room: &Room<'_>) -> Vec<String> {
    room.rows("select state, cause, detail, attempts from dead_letters order by parked_at").await
}

const TAKEN: Verdict = Verdict::Delivered { status: 204 };
const GONE: Verdict = Verdict::Never { class: Class::Gone, status: Some(410) };
const BUSY: Verdict = Verdict::Again { class: Class::ServerError, status: Some(500), retry_after: None };

#[tokio::test]
async fn an_event_is_told_to_whoever_wants_it_once_however_often_it_comes() {
    in_a_room(async |room| {
        let salon = room.company("salao.test").await;
        let clinic = told(room, true, &["a", "a"]).await;
        assert_eq!(rows(room).await, ["company | waiting | - | - | 0", "operator | waiting | - | - | 0"]);
        let bodies = "select distinct body from webhook_deliveries";
        assert_eq!(room.rows(bodies).await, [message::body(&crossing(clinic, "a"), "clinica.test")]);

        room.take_in(&desk(false), &[record(room, &crossing(salon, "b"))]).await.unwrap();
        assert_eq!(marks(room).await, ["ignored | no_webhook | 1", "in_flight | - | 1"]);
        room.run("update company_webhooks set enabled = false").await;
        room.take_in(&desk(false), &[record(room, &crossing(clinic, "c"))]).await.unwrap();
        assert_eq!(marks(room).await, ["ignored | no_webhook | 2", "in_flight | - | 1"], "off is as good as none");
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_call_is_made_again_until_it_is_taken() {
    in_a_room(async |room| {
        told(room, false, &["a"]).await;
        for verdict in [BUSY, Verdict::again(Class::Timeout), TAKEN] {
            let claim = claim_for(room, LONG).await.remove(0);
            assert!(claim_for(room, LONG).await.is_empty(), "what is under way is not claimed again");
            finish(room, &claim, verdict).await;
            room.conserves().await;
        }
        assert_eq!(
            attempts(room).await,
            [
                "company | 1 | 1 | FAILED_TEMPORARY | 500 | server_error",
                "company | 2 | 2 | UNKNOWN | - | timeout",
                "company | 3 | 3 | DELIVERED | 204 | -",
            ]
        );
        assert_eq!(
            (rows(room).await, marks(room).await),
            (vec!["company | ended | delivered | - | 3".into()], vec!["done | - | 1".into()])
        );
        assert_eq!(room.rows("select count(*) from webhook_deliveries where record_payload is null").await, ["1"]);
        assert!(claim_for(room, LONG).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_event_has_ended_when_both_have_been_told() {
    in_a_room(async |room| {
        told(room, true, &["a"]).await;
        let claims = claim_for(room, LONG).await;
        assert_eq!(claims.iter().map(|it| it.endpoint).collect::<Vec<_>>(), [Endpoint::Company, Endpoint::Operator]);
        finish(room, &claims[1], TAKEN).await;
        assert_eq!(marks(room).await, ["in_flight | - | 1"]);
        room.conserves().await;
        finish(room, &claims[0], TAKEN).await;
        assert_eq!(marks(room).await, ["done | - | 1"]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn both_ends_at_the_same_time_are_one_end() {
    in_a_room(async |room| {
        room.expect_a_crowd().await;
        told(room, true, &["a", "b", "c", "d"]).await;
        let claims = claim_for(room, LONG).await;
        assert_eq!(claims.len(), 8);
        let ends = claims.iter().map(|it| perform::finish(room.db(), it, &GONE, &AT_ONCE));
        futures_util::future::try_join_all(ends).await.unwrap();
        assert_eq!(marks(room).await, ["parked | - | 4"]);
        assert_eq!(room.waiting(Topic::DeadLetters).await.len(), 4, "each is announced once");
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn one_that_was_given_up_is_parked_and_a_replay_calls_that_one_alone() {
    in_a_room(async |room| {
        let clinic = told(room, true, &["a"]).await;
        let claims = claim_for(room, LONG).await;
        assert_eq!(
            finish(room, &claims[0], GONE).await,
            Finish::Done(AttemptResult::FailedPermanent, Next::End(Outcome::FailedPermanent))
        );
        assert_eq!(shelf(room).await, [""; 0], "the operator is still being told");
        finish(room, &claims[1], TAKEN).await;
        assert_eq!(
            shelf(room).await,
            ["parked | gone | the company's webhook was not taken in 1 attempts, lastly gone | 1"]
        );
        assert_eq!(marks(room).await, ["parked | - | 1"]);
        room.conserves().await;

        let all = Filter { limit: 10, processor: Some(ProcessorName::Alerts), ..Filter::default() };
        parked::replay(room.db(), &all, "ana", Run::Real).await.unwrap();
        let records = room.publish(Topic::Alerts).await;
        room.take_in(&desk(true), &records).await.unwrap();
        let again = claim_for(room, LONG).await;
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].company, again[0].endpoint, again[0].of_round), (clinic, Endpoint::Company, 1));
        assert_eq!(again[0].body, claims[0].body, "the same bytes under the same id");
        finish(room, &again[0], TAKEN).await;
        assert_eq!(rows(room).await, ["company | ended | delivered | - | 2", "operator | ended | delivered | - | 1"]);
        assert_eq!(marks(room).await, ["done | - | 1"]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_holder_is_gone_is_made_again_and_its_late_result_is_void() {
    in_a_room(async |room| {
        told(room, false, &["a"]).await;
        let slow = claim_for(room, Duration::ZERO).await.remove(0);
        perform::settle_abandoned(room.db(), &AT_ONCE).await.unwrap();
        assert_eq!(attempts(room).await, ["company | 1 | 1 | UNKNOWN | - | lease_ran_out"]);
        assert_eq!(finish(room, &slow, TAKEN).await, Finish::Lost, "while it waits");
        let second = claim_for(room, LONG).await.remove(0);
        assert_eq!((second.event, &second.body), (slow.event, &slow.body));
        assert_eq!(finish(room, &slow, GONE).await, Finish::Lost, "while it is under way again");
        finish(room, &second, TAKEN).await;
        assert_eq!(finish(room, &slow, GONE).await, Finish::Lost, "and when it is over");
        assert_eq!(marks(room).await, ["done | - | 1"]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_is_renewed_is_not_abandoned_and_a_new_life_takes_its_own_back() {
    in_a_room(async |room| {
        told(room, true, &["a"]).await;
        let claims = claim_for(room, Duration::from_millis(1)).await;
        let names: Vec<claims::Name> =
            claims.iter().map(|it| (it.company, it.event, it.endpoint, it.attempt)).collect();
        claims::renew(room.db(), &names, LONG).await.unwrap();
        perform::settle_abandoned(room.db(), &AT_ONCE).await.unwrap();
        assert_eq!(rows(room).await, ["company | calling | - | - | 1", "operator | calling | - | - | 1"]);
        assert_eq!(claims::take_back(room.db(), "two").await.unwrap(), 0);
        assert_eq!(claims::take_back(room.db(), "one").await.unwrap(), 2);
        perform::settle_abandoned(room.db(), &AT_ONCE).await.unwrap();
        assert_eq!(rows(room).await, ["company | waiting | - | - | 1", "operator | waiting | - | - | 1"]);
    })
    .await;
}

#[tokio::test]
async fn companies_take_turns() {
    in_a_room(async |room| {
        told(room, false, &["a", "b", "c", "d"]).await;
        let salon = room.company("salao.test").await;
        wants_to_be_told(room, salon, "https://salao.example/").await;
        room.take_in(&desk(false), &[record(room, &crossing(salon, "e"))]).await.unwrap();
        let two = claims::claim(room.db(), 2, "one", LONG).await.unwrap().jobs;
        assert!(two.iter().any(|it| it.company == salon), "the second does not wait for all of the first's");
    })
    .await;
}

/// Claims what is due and does it, as the runner would.
async fn work(calling: &Calling) {
    for claim in calling.claim(10).await.unwrap().jobs {
        calling.perform(claim).await;
    }
}

#[tokio::test]
async fn the_work_calls_both_receivers_as_they_are_at_that_moment() {
    in_a_room(async |room| {
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        for name in ["clinica", "operator"] {
            sandbox.receive(name, &Knows { secrets: vec![SECRET.into()] }).unwrap();
        }
        told(room, true, &["a"]).await;
        // What was true when it came in no longer is.
        let url = format!("{}/webhooks/clinica", sandbox.base_url());
        room.run(&format!("update company_webhooks set url = '{url}'")).await;
        let config = told_at(&format!("{}/webhooks/operator", sandbox.base_url()));
        let calling = Calling::new(&room.ground(), &config, config.operator().unwrap()).unwrap();
        work(&calling).await;
        for name in ["clinica", "operator"] {
            let seen = sandbox.log(&Seen::taken().number(name));
            assert_eq!(seen.len(), 1, "{name}");
            assert_eq!(seen[0].message_key, Some(id("a").to_string()));
        }
        assert_eq!(marks(room).await, ["done | - | 1"]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_rotated_out_signs_too_until_its_time_is_over() {
    in_a_room(async |room| {
        const OLD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        sandbox.receive("clinica", &Knows { secrets: vec![OLD.into()] }).unwrap();
        let clinic = told(room, false, &["a"]).await;
        let place = Place { table: "company_webhooks", column: "previous_secret_sealed", company: clinic };
        let sealed = sealer().seal(place, OLD.as_bytes()).unwrap();
        let url = format!("{}/webhooks/clinica", sandbox.base_url());
        let sql = "update company_webhooks set url = $1, previous_secret_sealed = $2,
                     previous_secret_until = now() + interval '1 hour'";
        room.root.execute(sql, &[&url, &sealed]).await.unwrap();
        let config = Config { allow_private: true, ..Config::default() };
        let calling = Calling::new(&room.ground(), &config, None).unwrap();
        work(&calling).await;
        assert_eq!(sandbox.count(&Seen::taken()), 1, "who has not switched over yet is told all the same");

        room.run("update company_webhooks set previous_secret_until = now() - interval '1 second'").await;
        room.take_in(&desk(false), &[record(room, &crossing(clinic, "b"))]).await.unwrap();
        work(&calling).await;
        assert_eq!(sandbox.count(&Seen::taken()), 1);
        assert_eq!(room.rows("select status from webhook_attempts where result <> 'DELIVERED'").await, ["401"]);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_called_ends_by_its_reason() {
    in_a_room(async |room| {
        let clinic = told(room, false, &["off"]).await;
        let calling = Calling::new(&room.ground(), &Config::default(), None).unwrap();
        room.run("update company_webhooks set enabled = false").await;
        work(&calling).await;
        assert_eq!(marks(room).await, ["ignored | no_webhook | 1"]);

        room.run("update company_webhooks set enabled = true, url = 'https://10.0.0.1/'").await;
        room.take_in(&desk(false), &[record(room, &crossing(clinic, "inward"))]).await.unwrap();
        work(&calling).await;
        assert_eq!(room.rows("select cause from dead_letters").await, ["forbidden_address"]);

        room.run("update company_webhooks set url = 'https://clinica.example/', secret_sealed = 'x'").await;
        room.take_in(&desk(false), &[record(room, &crossing(clinic, "sealed"))]).await.unwrap();
        work(&calling).await;
        let again = "select state, cause from webhook_deliveries where attempts = 1 and state = 'waiting'";
        assert_eq!(room.rows(again).await, ["waiting | -"], "our own fault: it is tried again");
        assert_eq!(
            room.rows("select class from webhook_attempts order by started_at desc limit 1").await,
            ["sealed_secret"]
        );
        room.conserves().await;
    })
    .await;
}
