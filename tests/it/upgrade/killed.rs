//! Release 0.1 was killed in the middle of its work: after `migrate` this build finishes it, once and in order.

use std::collections::BTreeMap;
use std::time::Duration;

use platform::kafka;
use platform::postgres::Db;
use processors::dead_letters::{self, Run};
use sandbox::Filter;
use sandbox::Target;
use secretaria::commands::conservation::CHECKS;
use secretaria::commands::migrate::{self, Args};

use super::leftovers::{self, list};
use crate::crash::BROKER;
use crate::support::app::TestApp;
use crate::support::eventually;

/// What the fixture holds, in the columns of that release. Each must be there, or the test shows less than it says.
const STATES: &str = "
    select format('%s: %s', state, count(*) > 0)
    from (
      select 'turn collecting, due' as state, null from turns where state = 'collecting' and due_at <= now()
      union all select 'turn collecting, not due', null from turns where state = 'collecting' and due_at > now()
      union all select 'turn answering', null from turns where state = 'answering'
      union all select 'turn collecting behind one answering', null
        from turns t join turns a using (company_id, conversation_id)
        where t.state = 'collecting' and a.state = 'answering'
      union all select 'delivery waiting for a retry', null from deliveries where state = 'waiting' and attempts > 0
      union all select 'delivery waiting after an unknown end', null from deliveries where state = 'waiting' and unknowns > 0
      union all select 'delivery waiting in its second round', null from deliveries
        where state = 'waiting' and round_began_at > 0
      union all select 'delivery behind two others', null
        from deliveries d
        where state = 'waiting' and (
          select count(*) from deliveries b
          where b.conversation_id = d.conversation_id and b.state <> 'ended' and b.position < d.position) = 2
      union all select 'delivery sending', null from deliveries d join delivery_attempts a using (company_id, delivery_id)
        where d.state = 'sending' and a.attempt = d.attempts and a.result is null
      union all select 'two deliveries of a conversation sending', null
        from deliveries where state = 'sending' group by conversation_id having count(*) = 2
      union all select 'delivery sent', null from deliveries where outcome = 'sent'
      union all select 'delivery sent after a replay', null from deliveries where outcome = 'sent' and round_began_at > 0
      union all select 'delivery given up', null from deliveries d join dead_letters l
        on l.event_id = d.delivery_id and l.state = 'parked' and l.processor = 'delivery'
        where outcome = 'failed_permanent'
      union all select 'webhook waiting', null from webhook_deliveries where state = 'waiting' and endpoint = 'company'
      union all select 'webhook waiting, the operator''s', null from webhook_deliveries
        where state = 'waiting' and endpoint = 'operator'
      union all select 'webhook calling', null from webhook_deliveries where state = 'calling'
      union all select 'webhook delivered', null from webhook_deliveries where outcome = 'delivered'
      union all select 'webhook given up', null from webhook_deliveries where outcome = 'failed_permanent'
      union all select 'outbox, ' || topic, null from outbox
    ) s
    group by state";

const EXPECTED: [&str; 21] = [
    "delivery behind two others: t",
    "delivery given up: t",
    "delivery sending: t",
    "delivery sent after a replay: t",
    "delivery sent: t",
    "delivery waiting after an unknown end: t",
    "delivery waiting for a retry: t",
    "delivery waiting in its second round: t",
    "outbox, alerts: t",
    "outbox, outbound.messages: t",
    "outbox, usage.events: t",
    "turn answering: t",
    "turn collecting behind one answering: t",
    "turn collecting, due: t",
    "turn collecting, not due: t",
    "two deliveries of a conversation sending: t",
    "webhook calling: t",
    "webhook delivered: t",
    "webhook given up: t",
    "webhook waiting, the operator's: t",
    "webhook waiting: t",
];

/// Open work by its old columns, and the same as jobs: the two must read alike.
const OPEN_ROWS: &str = "
    select format('reply %s %s %s', turn_id, case state when 'answering' then 'running' else 'scheduled' end, due_at)
    from turns where state <> 'ended'
    union all
    select format('delivery %s %s %s', delivery_id, state, due_at) from deliveries where state <> 'ended'
    union all
    select format('alerts %s %s %s %s', event_id, endpoint, state, due_at) from webhook_deliveries where state <> 'ended'";
const OPEN_JOBS: &str = "
    with placed as (
      select company_id, queue, job_key, due_at, 'scheduled' as place from jobs_scheduled
      union all select company_id, queue, job_key, due_at, 'ready' from jobs_ready
      union all select company_id, queue, job_key, due_at, 'behind' from jobs_waiting
      union all select company_id, queue, job_key, due_at, 'running' from jobs_running
    )
    select case j.queue
        when 'reply' then format('reply %s %s %s', job_key, p.place, p.due_at)
        when 'delivery' then
          format('delivery %s %s %s', job_key, case p.place when 'running' then 'sending' else 'waiting' end, p.due_at)
        else format('alerts %s %s %s %s', j.body ->> 'event', j.body ->> 'endpoint',
          case p.place when 'running' then 'calling' else 'waiting' end, p.due_at)
      end
    from jobs j join placed p using (company_id, queue, job_key)";

async fn migrated(app: &TestApp) {
    leftovers::silent_for(app, Duration::from_secs(16)).await;
    migrate::run(&app.settings, &Args { wait: 0 }).await.unwrap();
    // Tests query without the schema's name; that is a setting of new connections.
    app.sql.batch_execute("set search_path = secretaria, secretaria_reference, public").await.unwrap();
}

async fn is_conserved(app: &TestApp, when: &str) {
    for (check, sql) in CHECKS {
        let broken = app.sql.query(*sql, &[]).await.unwrap();
        let details: Vec<String> = broken.iter().map(|row| row.get("detail")).collect();
        assert!(details.is_empty(), "{when}: {check}: {details:#?}");
    }
}

/// Every record was read by the processor of its topic, and everything has ended. Runs the checks as long as it waits.
async fn ends(app: &TestApp) {
    let mut expected: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for it in leftovers::records() {
        *expected.entry((it.topic, it.partition)).or_default() += 1;
    }
    eventually("every record that was left is read", || async {
        is_conserved(app, "while it runs").await;
        let rows = app.sql.query("select topic, partition, next_offset from consumer_offsets", &[]).await.unwrap();
        let read: BTreeMap<(String, i32), i64> =
            rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        let behind: Vec<_> = expected
            .iter()
            .filter(|((topic, _), _)| topic != "dead.letters")
            .filter(|(at, end)| read.get(*at).is_none_or(|next| next < end))
            .collect();
        if behind.is_empty() { Ok(()) } else { Err(format!("{behind:?}")) }
    })
    .await;
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_release_before_left_is_ended_once_and_in_order() {
    let _alone = BROKER.lock().await;
    let Some(mut app) = leftovers::restore().await else { return };
    app.sql.batch_execute("set search_path = secretaria, public").await.unwrap();
    assert_eq!(list(&app, STATES).await, EXPECTED);
    assert_eq!(leftovers::former_functions(&app).await.len(), 13);
    let open = list(&app, OPEN_ROWS).await;
    let sent_before = list(&app, "select delivery_id::text from deliveries where outcome = 'sent'").await;
    let sending = list(&app, "select delivery_id::text from deliveries where state = 'sending'").await;
    let made = "select format('%s %s', delivery_id, attempts) from deliveries";
    let made_before: BTreeMap<String, usize> = pairs(&list(&app, made).await);
    let delivered_before =
        list(&app, "select format('%s %s', event_id, endpoint) from webhook_deliveries where state = 'ended'").await;

    migrated(&app).await;
    assert_eq!(leftovers::former_functions(&app).await, [""; 0], "renamed functions are dropped");
    assert_eq!(list(&app, OPEN_JOBS).await, open, "every open row is one job, as due as it was");
    is_conserved(&app, "after migrate").await;

    app.run().await;
    ends(&app).await;

    each_event_has_one_outcome(&app).await;
    each_message_was_sent_as_often_as_allowed(&app, &sent_before, &sending, &made_before).await;
    each_conversation_is_in_order(&app).await;
    each_webhook_was_delivered(&app, &delivered_before).await;
    dead_letters_can_be_replayed(&app).await;
}

fn pairs(lines: &[String]) -> BTreeMap<String, usize> {
    let pair = |line: &String| {
        let (id, count) = line.split_once(' ').unwrap();
        (id.to_owned(), count.parse().unwrap())
    };
    lines.iter().map(pair).collect()
}

/// Each event of the topic has a final outcome, and each turn that sent a reply sent one.
async fn each_event_has_one_outcome(app: &TestApp) {
    let ended = "select event_id::text from event_outcomes where processor = 'reply' and state in ('done', 'ignored')";
    let ended = list(app, ended).await;
    let wanted: Vec<String> = leftovers::events_on("inbound.messages").iter().map(ToString::to_string).collect();
    assert_eq!(ended, wanted);
    let turns = "select format('%s %s %s', t.outcome, count(distinct g.message_id), count(distinct d.delivery_id))
                 from turns t
                 left join messages g on g.turn_id = t.turn_id and g.direction = 'out'
                 left join deliveries d on d.delivery_id = g.message_id
                 group by t.turn_id, t.outcome";
    for turn in list(app, turns).await {
        assert!(["replied 1 1", "fallback 1 1"].contains(&turn.as_str()), "{turn}");
    }
}

/// Deliveries that the provider saw, in order: its key is the delivery and the attempt.
fn sends(app: &TestApp, filter: &Filter) -> Vec<String> {
    let key = |entry: sandbox::Entry| Some(entry.message_key?.split_once(':')?.0.to_owned());
    app.sandbox.log(filter).into_iter().filter_map(key).collect()
}

/// What was sent is not sent again; what was being sent is unknown, and sent once more; the rest is sent once.
async fn each_message_was_sent_as_often_as_allowed(
    app: &TestApp,
    sent_before: &[String],
    sending: &[String],
    made_before: &BTreeMap<String, usize>,
) {
    let made = list(app, "select format('%s %s', delivery_id, attempts) from deliveries").await;
    let sends = sends(app, &Filter::of(Target::Send));
    for (delivery, attempts) in pairs(&made) {
        let seen = sends.iter().filter(|it| **it == delivery).count();
        let before = made_before.get(&delivery).copied().unwrap_or_default();
        assert_eq!(seen, attempts - before, "{delivery}: the provider saw each attempt that has a row");
        assert!(seen <= 1, "{delivery} was sent {seen} times more");
        assert!(seen == 0 || !sent_before.contains(&delivery), "{delivery} had been sent");
    }
    for delivery in sending {
        let attempts = "select string_agg(concat_ws(' ', result, class), ', ' order by attempt)
                        from delivery_attempts where delivery_id = $1::text::uuid and attempt >= $2::integer";
        let left = i32::try_from(made_before[delivery]).unwrap();
        let row = app.sql.query_one(attempts, &[delivery, &left]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "UNKNOWN lease_ran_out, SENT", "{delivery}");
    }
}

/// Messages of a conversation arrive in the order in which they were written, except those of a replay.
async fn each_conversation_is_in_order(app: &TestApp) {
    let written = "
        select d.delivery_id::text
        from deliveries d
        where not exists (
          select from deliveries r where r.conversation_id = d.conversation_id and r.round_began_at > 0)
        order by d.conversation_id, d.position";
    let rows = app.sql.query(written, &[]).await.unwrap();
    let sent = sends(app, &Filter::sent());
    let mut of_conversation: BTreeMap<uuid::Uuid, Vec<usize>> = BTreeMap::new();
    for row in &rows {
        let delivery: String = row.get(0);
        let Some(place) = sent.iter().position(|it| *it == delivery) else { continue };
        let conversation = "select conversation_id from deliveries where delivery_id = $1::text::uuid";
        let conversation = app.sql.query_one(conversation, &[&delivery]).await.unwrap().get(0);
        of_conversation.entry(conversation).or_default().push(place);
    }
    assert!(of_conversation.values().any(|it| it.len() >= 3), "a conversation had three to send");
    for (conversation, places) in of_conversation {
        assert!(places.is_sorted(), "{conversation}: {places:?}");
    }
}

/// Every receiver got every event that was open, under its id; what had been delivered is not delivered again.
async fn each_webhook_was_delivered(app: &TestApp, delivered_before: &[String]) {
    let rows = "select format('%s %s', event_id, endpoint), event_id::text,
                  case endpoint when 'operator' then 'operator' else domain end, outcome, body
                from webhook_deliveries join companies using (company_id)";
    for row in app.sql.query(rows, &[]).await.unwrap() {
        let (webhook, event, receiver): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let calls = Filter { message_key: Some(event), ..Filter::taken() }.number(receiver);
        let accepted = app.sandbox.log(&calls);
        if delivered_before.contains(&webhook) {
            assert_eq!(accepted.len(), 0, "{webhook} had ended");
            continue;
        }
        assert_eq!(row.get::<_, &str>(3), "delivered", "{webhook}");
        assert!(!accepted.is_empty() && accepted.iter().all(|it| it.text.as_deref() == Some(row.get(4))), "{webhook}");
    }
    let cut = "select string_agg(concat_ws(' ', a.result, a.class), ', ' order by a.attempt)
               from webhook_attempts a
               where exists (
                 select from webhook_attempts u
                 where u.event_id = a.event_id and u.endpoint = a.endpoint and u.class = 'lease_ran_out')
               group by a.event_id, a.endpoint";
    assert_eq!(list(app, cut).await, ["UNKNOWN lease_ran_out, DELIVERED"]);
}

/// Dead letters of that release can be replayed by this one.
async fn dead_letters_can_be_replayed(app: &TestApp) {
    let waiting = "select format('%s %s', processor, event_id) from dead_letters where state = 'waiting'";
    assert!(list(app, waiting).await.len() >= 3, "two messages and an alert");
    let db = Db::new(&app.settings.postgres.service_url, &app.settings.postgres, "test").unwrap();
    dead_letters::replay(&db, &dead_letters::Filter { limit: 100, ..Default::default() }, "test", Run::Real)
        .await
        .unwrap();
    app.comes_to("select count(*)::text from event_outcomes where state in ('dead_lettered', 'in_flight')", "0").await;
    app.settles().await;
    let given_up = "select (select count(*) from deliveries where outcome = 'failed_permanent')
                      + (select count(*) from webhook_deliveries where outcome = 'failed_permanent')";
    assert_eq!(app.sql.query_one(given_up, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_refuses_while_processors_of_the_release_before_live_and_names_them() {
    let _alone = BROKER.lock().await;
    let Some(app) = leftovers::restore().await else { return };
    let problem = migrate::run(&app.settings, &Args { wait: 0 }).await.unwrap_err().to_string();
    for named in ["reply/one (heartbeat", "--wait SECONDS"] {
        assert!(problem.contains(named), "{named}: {problem}");
    }
    let version = "select max(version)::integer from public.refinery_schema_history";
    assert_eq!(app.sql.query_one(version, &[]).await.unwrap().get::<_, i32>(0), 15, "nothing was changed");

    // It waits for their end, and goes on by itself.
    leftovers::silent_for(&app, Duration::from_secs(13)).await;
    migrate::run(&app.settings, &Args { wait: 20 }).await.unwrap();
    let made = kafka::create_topics(&app.settings.kafka).await.unwrap();
    assert!(made.is_empty(), "the broker has every topic of this build: {made:?}");
    // Heartbeats of this release do not stop it.
    leftovers::silent_for(&app, Duration::ZERO).await;
    migrate::run(&app.settings, &Args { wait: 0 }).await.unwrap();
}
