//! Outcomes: an event is handled once, however often it is read.

use domain::{CompanyId, EventId, EventOutcome, IgnoreReason, ProcessorName, Topic};
use platform::outcomes::{self, Admission, Incoming, Replay};
use uuid::Uuid;

use super::database::{Database, in_a_database};

const REPLY: ProcessorName = ProcessorName::named("reply");

fn seen(company: i64, event: u128, replay: Replay) -> Incoming {
    Incoming {
        company: CompanyId(company),
        event: EventId(Uuid::from_u128(event)),
        topic: Topic::InboundMessages,
        partition: 3,
        offset: 7,
        replay,
    }
}

fn new(event: u128) -> Incoming {
    seen(1, event, Replay::No)
}

fn replayed(event: u128) -> Incoming {
    seen(1, event, Replay::Yes)
}

async fn admit(database: &Database, processor: ProcessorName, events: &[Incoming]) -> Vec<Admission> {
    let mut client = database.service.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let admissions = outcomes::admit(&tx, processor, events).await.unwrap();
    tx.commit().await.unwrap();
    admissions
}

async fn record(database: &Database, event: u128, outcome: EventOutcome) {
    let mut client = database.service.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    outcomes::record(&tx, REPLY, &[(CompanyId(1), EventId(Uuid::from_u128(event)), outcome)]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn states(database: &Database) -> Vec<String> {
    let sql = "select state, reason, ended_at is not null from event_outcomes order by event_id";
    database.rows(sql).await
}

#[tokio::test]
async fn an_event_that_occurs_twice_in_a_batch_is_new_once() {
    in_a_database(async |database| {
        let batch = [new(1), new(2), new(1)];
        assert_eq!(admit(database, REPLY, &batch).await, [Admission::New, Admission::New, Admission::Duplicate]);
        assert_eq!(admit(database, REPLY, &batch).await, [Admission::Duplicate; 3]);
        assert_eq!(states(database).await, ["in_flight | - | f", "in_flight | - | f"]);
    })
    .await;
}

#[tokio::test]
async fn what_one_processor_or_company_has_seen_is_new_to_another() {
    in_a_database(async |database| {
        assert_eq!(admit(database, REPLY, &[new(1)]).await, [Admission::New]);
        assert_eq!(admit(database, ProcessorName::named("delivery"), &[new(1)]).await, [Admission::New]);
        assert_eq!(admit(database, REPLY, &[seen(2, 1, Replay::No)]).await, [Admission::New]);
    })
    .await;
}

#[tokio::test]
async fn a_replay_reopens_what_is_dead_lettered_and_nothing_else() {
    in_a_database(async |database| {
        admit(database, REPLY, &[new(1), new(2), new(3), new(4)]).await;
        record(database, 1, EventOutcome::DeadLettered).await;
        record(database, 2, EventOutcome::Done).await;
        record(database, 3, EventOutcome::Ignored(IgnoreReason::Group)).await;
        assert_eq!(admit(database, REPLY, &[new(1)]).await, [Admission::Duplicate], "a producer's repeat is no replay");

        let replays = [replayed(1), replayed(2), replayed(3), replayed(4), replayed(1), replayed(5)];
        let expected = [
            Admission::Replayed,
            Admission::Duplicate,
            Admission::Duplicate,
            Admission::Duplicate,
            Admission::Duplicate,
            Admission::New,
        ];
        assert_eq!(admit(database, REPLY, &replays).await, expected);
        let in_flight = "in_flight | - | f";
        assert_eq!(states(database).await, [in_flight, "done | - | t", "ignored | group | t", in_flight, in_flight]);
    })
    .await;
}

#[tokio::test]
async fn an_event_has_one_outcome() {
    in_a_database(async |database| {
        admit(database, REPLY, &[new(1)]).await;
        record(database, 1, EventOutcome::InFlight).await;
        assert_eq!(states(database).await, ["in_flight | - | f"]);
        record(database, 1, EventOutcome::Ignored(IgnoreReason::Stub)).await;
        record(database, 1, EventOutcome::Done).await;
        assert_eq!(states(database).await, ["ignored | stub | t"]);
    })
    .await;
}

#[tokio::test]
async fn of_two_batches_at_once_one_gets_the_event() {
    in_a_database(async |database| {
        for event in 0..10 {
            let batch = [new(event)];
            let (one, two) = tokio::join!(admit(database, REPLY, &batch), admit(database, REPLY, &batch));
            let mut both = [one[0], two[0]];
            both.sort_by_key(|it| *it as usize);
            assert_eq!(both, [Admission::New, Admission::Duplicate]);
        }
    })
    .await;
}
