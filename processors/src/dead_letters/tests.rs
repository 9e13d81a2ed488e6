//! Dead letters: which are listed, what a replay publishes, and that each is settled once.

use domain::header;
use platform::dead_letter::{Cause, FailedEvent};
use platform::kafka::Record;
use uuid::Uuid;

use super::*;
use crate::tests::{Fixture, with_fixture};

const REPLY: ProcessorName = crate::reply::PROCESSOR.name;
const DELIVERY: ProcessorName = crate::delivery::PROCESSOR.name;

fn all() -> Filter {
    Filter { limit: 100, ..Filter::default() }
}

fn id(event: u128) -> EventId {
    EventId(Uuid::from_u128(event))
}

/// A record whose payload and one header are not text.
fn record(event: u128) -> Record {
    let headers = vec![
        (header::EVENT_ID.to_owned(), id(event).to_string().into_bytes()),
        ("odd".to_owned(), vec![0xff, 0, 0xfe]),
        (header::ATTEMPT.to_owned(), b"1".to_vec()),
    ];
    Record::kept(
        Topic::InboundMessages,
        3,
        7,
        Some(b"1/551199990001".to_vec()),
        Some(vec![0, 0xff, event as u8]),
        headers,
    )
}

async fn dead_letter_event(
    fixture: &Fixture,
    company: i64,
    processor: ProcessorName,
    event: u128,
    class: &'static str,
) {
    let record = record(event);
    let topic = if processor == REPLY { Topic::InboundMessages } else { Topic::OutboundMessages };
    let failed = FailedEvent { company: CompanyId(company), event: id(event), topic, record: &record };
    let cause = Cause { class: class.into(), detail: "why".into(), attempts: 6 };
    let mut client = fixture.db().get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    dead_letter::add(&tx, processor, &failed, &cause).await.unwrap();
    tx.commit().await.unwrap();
    fixture.publish(Topic::DeadLetters).await;
}

/// Four dead letters, each added a day after the one before; the last one today.
async fn four(fixture: &Fixture) {
    dead_letter_event(fixture, 0, REPLY, 1, "undecodable").await;
    dead_letter_event(fixture, 1, REPLY, 2, "refused_by_database").await;
    dead_letter_event(fixture, 1, DELIVERY, 3, "busy").await;
    dead_letter_event(fixture, 2, DELIVERY, 4, "busy").await;
    fixture.run("update dead_letters set dead_lettered_at = '2026-03-10'::timestamptz + (right(event_id::text, 1) || ' days')::interval").await;
}

async fn listed(fixture: &Fixture, filter: Filter) -> Vec<u128> {
    list(fixture.db(), &filter).await.unwrap().iter().map(|it| it.event.0.as_u128()).collect()
}

async fn states(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select state, settled_by, settled_at is not null from dead_letters order by event_id").await
}

#[tokio::test]
async fn dead_letters_are_found_by_company_processor_cause_event_and_age_oldest_first() {
    with_fixture(async |fixture| {
        four(fixture).await;
        let since = |text: &str| Some(text.parse().unwrap());
        assert_eq!(listed(fixture, all()).await, [1, 2, 3, 4]);
        assert_eq!(listed(fixture, Filter { limit: 2, ..all() }).await, [1, 2]);
        assert_eq!(listed(fixture, Filter { company: Some(CompanyId(1)), ..all() }).await, [2, 3]);
        assert_eq!(listed(fixture, Filter { company: Some(CompanyId::NONE), ..all() }).await, [1]);
        assert_eq!(listed(fixture, Filter { processor: Some(DELIVERY), ..all() }).await, [3, 4]);
        assert_eq!(listed(fixture, Filter { cause: Some("busy".into()), ..all() }).await, [3, 4]);
        assert_eq!(listed(fixture, Filter { event: Some(id(2)), ..all() }).await, [2]);
        assert_eq!(listed(fixture, Filter { since: since("2026-03-13T00:00:00Z"), ..all() }).await, [3, 4]);
        let narrow =
            Filter { company: Some(CompanyId(1)), processor: Some(REPLY), cause: Some("busy".into()), ..all() };
        assert_eq!(listed(fixture, narrow).await, []);
        assert_eq!(listed(fixture, Filter::default()).await, [], "the default limit is zero");
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_returns_what_it_would_do_and_changes_nothing() {
    with_fixture(async |fixture| {
        four(fixture).await;
        let before = states(fixture).await;
        let replayed = replay(fixture.db(), &all(), "ana", Run::Dry).await.unwrap();
        let dropped = drop(fixture.db(), &all(), "ana", Run::Dry).await.unwrap();
        assert_eq!((replayed.len(), dropped.len()), (4, 4));
        assert_eq!(states(fixture).await, before);
        assert_eq!(fixture.rows("select * from outbox").await, [""; 0]);
        assert_eq!(listed(fixture, all()).await, [1, 2, 3, 4], "nor is anything left locked");
    })
    .await;
}

#[tokio::test]
async fn a_replay_puts_the_record_back_with_its_bytes_its_id_and_its_history() {
    with_fixture(async |fixture| {
        four(fixture).await;
        let one = Filter { event: Some(id(2)), ..all() };
        assert_eq!(replay(fixture.db(), &one, "ana", Run::Real).await.unwrap().len(), 1);
        let placed = "select company_id, topic, placed_by, event_id from outbox";
        assert_eq!(fixture.rows(placed).await, [format!("1 | inbound.messages | 551199990001 | {}", id(2))]);

        let back = fixture.publish(Topic::InboundMessages).await.remove(0);
        let original = record(2);
        assert_eq!((&back.key, &back.payload), (&original.key, &original.payload));
        assert_eq!(back.header_text(header::EVENT_ID), Some(id(2).to_string().as_str()));
        assert_eq!(back.header("odd"), Some([0xff, 0, 0xfe].as_slice()));
        assert_eq!(back.header_text(header::CAUSE), Some("refused_by_database"));
        assert_eq!(back.header_text(header::ORIGIN), Some("inbound.messages/3/7"));
        assert_eq!(back.header_text(header::ATTEMPT), Some("6"));
        assert_eq!(back.headers.iter().filter(|(name, _)| name == header::ATTEMPT).count(), 1);

        let waiting = "waiting | - | f";
        assert_eq!(states(fixture).await, [waiting, "replayed | ana | t", waiting, waiting]);
        assert_eq!(replay(fixture.db(), &one, "ana", Run::Real).await.unwrap().len(), 0, "it is settled");
    })
    .await;
}

#[tokio::test]
async fn a_replay_goes_to_one_of_the_partitions_its_company_owns() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        fixture.run("update companies set placement_spread = 5").await;
        dead_letter_event(fixture, clinic.0, REPLY, 1, "undecodable").await;
        dead_letter_event(fixture, 0, REPLY, 2, "undecodable").await;
        replay(fixture.db(), &all(), "ana", Run::Real).await.unwrap();
        assert_eq!(
            fixture.rows("select spread from outbox order by outbox_id").await,
            ["5", "2"],
            "without a company, the default number"
        );
    })
    .await;
}

#[tokio::test]
async fn a_dropped_dead_letter_is_not_published_and_no_longer_listed() {
    with_fixture(async |fixture| {
        four(fixture).await;
        let busy = Filter { cause: Some("busy".into()), ..all() };
        assert_eq!(drop(fixture.db(), &busy, "ana", Run::Real).await.unwrap().len(), 2);
        assert_eq!(fixture.rows("select * from outbox").await, [""; 0]);
        let (waiting, dropped) = ("waiting | - | f", "dropped | ana | t");
        assert_eq!(states(fixture).await, [waiting, waiting, dropped, dropped]);
        assert_eq!(listed(fixture, all()).await, [1, 2]);
        assert_eq!(replay(fixture.db(), &busy, "ana", Run::Real).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn concurrent_operators_settle_a_dead_letter_once() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        for event in 1..=30 {
            dead_letter_event(fixture, 1, REPLY, event, "undecodable").await;
        }
        let filter = all();
        let (ana, rui, eva) = tokio::join!(
            replay(fixture.db(), &filter, "ana", Run::Real),
            replay(fixture.db(), &filter, "rui", Run::Real),
            drop(fixture.db(), &filter, "eva", Run::Real),
        );
        let (replayed, dropped) = (ana.unwrap().len() + rui.unwrap().len(), eva.unwrap().len());
        assert_eq!(replayed + dropped, 30);
        assert_eq!(fixture.waiting(Topic::InboundMessages).await.len(), replayed);
        let settled = "select count(*) filter (where state = 'replayed'), count(*) filter (where state = 'dropped')
                       from dead_letters";
        assert_eq!(fixture.rows(settled).await, [format!("{replayed} | {dropped}")]);
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_that_is_being_settled_is_left_out_elsewhere() {
    with_fixture(async |fixture| {
        four(fixture).await;
        let mut client = fixture.db().get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        store::waiting(&tx, &Filter { processor: Some(DELIVERY), ..all() }).await.unwrap();
        let replayed = replay(fixture.db(), &all(), "ana", Run::Real).await.unwrap();
        assert_eq!(replayed.iter().map(|it| it.event.0.as_u128()).collect::<Vec<_>>(), [1, 2]);
        tx.rollback().await.unwrap();
        assert_eq!(listed(fixture, all()).await, [3, 4], "a rollback leaves them as they were");
    })
    .await;
}

#[tokio::test]
async fn a_replay_that_cannot_be_published_settles_nothing() {
    with_fixture(async |fixture| {
        four(fixture).await;
        let before = states(fixture).await;
        fixture.run("alter table outbox add constraint broken check (false) not valid").await;
        replay(fixture.db(), &all(), "ana", Run::Real).await.unwrap_err();
        assert_eq!(states(fixture).await, before);
    })
    .await;
}
