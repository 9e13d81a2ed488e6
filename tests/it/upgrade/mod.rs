//! From the database of a release before: `secretaria migrate` brings it to this build, and may be repeated.

mod killed;
mod leftovers;

use platform::migrate as migrations;
use refinery::Target;
use secretaria::Settings;
use secretaria::commands::migrate;

use crate::support::database::Database;
use crate::support::eventually;

/// A company that was there, with a mobile number that was treated as a landline, and a counter that has announced 80 %.
const BEFORE: &str = "
    insert into companies (company_id, domain, name) overriding system value values (900, 'clinica.test', 'Clínica');
    insert into contacts (company_id, contact_id, channel)
    values (900, '00000000-0000-0000-0000-000000000001', 'whaticket');
    insert into contact_aliases (company_id, channel, alias, contact_id)
    values (900, 'whaticket', '551133334444', '00000000-0000-0000-0000-000000000001');
    insert into feature_usage (company_id, feature, kind, allowed, soft, limit_value, ceiling, used, fired_threshold,
      period_start, period_end, reason, source)
    values (900, 'whatsapp_messages', 'metered', true, false, 100, 100, 85, 80, '2026-01-01', '2026-02-01', 'ok', 'plan')";

#[tokio::test]
async fn a_database_of_0_1_is_brought_to_this_build() {
    let Some(database) = testkit::Database::empty("it_upgrade").await else { return };
    let mut settings = Settings::default();
    settings.postgres.owner_url = database.url("postgres").into();
    settings.postgres.operator_url = database.url("secretaria_operator").into();
    settings.postgres.service_url = database.url("secretaria_service").into();
    settings.keys.dir = std::env::temp_dir().join(format!("secretaria-{}", database.name()));
    api::keys::create_missing(&settings.keys.dir).unwrap();

    let released = migrate::runner().set_target(Target::Version(15));
    migrations::run(&settings.postgres.owner_url, released).await.unwrap();
    let root = database.connect().await;
    root.batch_execute(BEFORE).await.unwrap();
    let contact = domain::ContactId(uuid::Uuid::from_u128(1));
    let conversation = domain::ConversationId::with(domain::CompanyId(900), contact);
    let sql = "insert into conversations (company_id, conversation_id, contact_id, channel, send_to)
               values (900, $1, $2, 'whaticket', '5511933334444')";
    root.execute(sql, &[&conversation.0, &contact.0]).await.unwrap();

    for _ in 0..2 {
        migrate::database(&settings).await.unwrap();
        let aliases = "select contact_id from contact_aliases where alias = '5511933334444'";
        assert_eq!(root.query_one(aliases, &[]).await.unwrap().get::<_, uuid::Uuid>(0), contact.0);
        let landline = "select count(*) from contact_aliases where alias = '551133334444' and contact_id <> $1";
        assert_eq!(root.query_one(landline, &[&contact.0]).await.unwrap().get::<_, i64>(0), 1);
        let announced = "select count(*) from usage_alerts where threshold = 80 and limit_value = 100";
        assert_eq!(root.query_one(announced, &[]).await.unwrap().get::<_, i64>(0), 1);
        for (rule, sql) in secretaria::commands::conservation::CHECKS {
            assert!(root.query(*sql, &[]).await.unwrap().is_empty(), "{rule}");
        }
    }
}

#[tokio::test]
async fn a_turn_that_an_old_process_opens_at_the_last_moment_has_a_job() {
    let keys = std::env::temp_dir().join(format!("secretaria-{}", testkit::unique("upgrade_keys")));
    let Some(database) = Database::of_release(15, keys).await else { return };
    let mut settings = Settings::default();
    database.configure(&mut settings);
    api::keys::create_missing(&settings.keys.dir).unwrap();
    let (old, root) = (database.connect().await, database.connect().await);
    let there = "set search_path = secretaria;
        insert into companies (company_id, domain, name) overriding system value values (900, 'clinica.test', 'Clínica');
        insert into contacts (company_id, contact_id, channel)
        values (900, '00000000-0000-0000-0000-000000000001', 'whaticket');
        insert into conversations (company_id, conversation_id, contact_id, channel, send_to)
        values (900, '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'whaticket',
          '5511999990001')";
    old.batch_execute(there).await.unwrap();
    let opened = "begin;
        insert into turns (company_id, turn_id, conversation_id, state, due_at, closes_at)
        values (900, '00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000002', 'collecting', now(),
          now())";
    old.batch_execute(opened).await.unwrap();

    let migrating = platform::task::spawn("migrate", async move { migrate::database(&settings).await });
    let waits = "select count(*) from pg_locks
                 where relation = 'secretaria.turns'::regclass and database = (
                   select oid from pg_database where datname = current_database()) and not granted";
    eventually("the migration waits for the turn", || async {
        let waiting: i64 = root.query_one(waits, &[]).await.unwrap().get(0);
        if waiting == 1 { Ok(()) } else { Err(waiting.to_string()) }
    })
    .await;
    old.batch_execute("commit").await.unwrap();
    migrating.await.unwrap().unwrap();
    let job = "select string_agg(job_key::text, ' ') from secretaria.jobs where queue = 'reply'";
    let job: Option<String> = root.query_one(job, &[]).await.unwrap().get(0);
    assert_eq!(job.as_deref(), Some("00000000-0000-0000-0000-000000000003"));
}

/// What 0.2.0 left: an event of each state, a dead letter of each state, counts and a range.
const OF_0_2: &str = "
    set search_path = secretaria;
    insert into companies (company_id, domain, name) overriding system value values (900, 'clinica.test', 'Clínica');
    insert into event_marks (company_id, processor, event_id, topic, partition, record_offset, state, reason)
    values (900, 'archive', '00000000-0000-0000-0000-000000000001', 'inbound.messages', 0, 1, 'done', null),
      (900, 'archive', '00000000-0000-0000-0000-000000000002', 'inbound.messages', 0, 2, 'ignored', 'group'),
      (900, 'archive', '00000000-0000-0000-0000-000000000003', 'inbound.messages', 0, 3, 'parked', null);
    insert into dead_letters (company_id, processor, event_id, state, cause, detail, topic, partition, record_offset, headers)
    values (900, 'archive', '00000000-0000-0000-0000-000000000003', 'parked', 'odd', 'odd', 'inbound.messages', 0, 3, '[]'),
      (900, 'archive', '00000000-0000-0000-0000-000000000004', 'dropped', 'odd', 'odd', 'inbound.messages', 0, 4, '[]');
    insert into intake_counts (company_id, processor, topic, partition, records, fresh, duplicates, reopened)
    values (900, 'archive', 'inbound.messages', 0, 6, 3, 2, 1);
    insert into event_ranges (processor, topic, partition, first_offset, last_offset, done, ignored, parked)
    values ('files', 'inbound.messages', 0, 0, 9, 7, 2, 1);
    insert into heartbeats (processor, instance, beat_at) values ('reply', 'one', now())";

#[tokio::test]
async fn a_database_of_0_2_is_brought_to_this_build() {
    let keys = std::env::temp_dir().join(format!("secretaria-{}", testkit::unique("upgrade_keys")));
    let Some(database) = Database::of_release(20, keys).await else { return };
    let mut settings = Settings::default();
    database.configure(&mut settings);
    api::keys::create_missing(&settings.keys.dir).unwrap();
    let root = database.connect().await;
    root.batch_execute(OF_0_2).await.unwrap();

    let refused = migrate::run(&settings, &migrate::Args { wait: 0 }).await.unwrap_err().to_string();
    assert!(refused.contains("nothing was changed") && refused.contains("reply/one"), "{refused}");
    root.batch_execute("delete from heartbeats").await.unwrap();
    migrate::database(&settings).await.unwrap();

    let one = async |sql: &str| root.query_one(sql, &[]).await.unwrap().get::<_, String>(0);
    let states = "select string_agg(state, ' ' order by record_offset) from event_outcomes where processor = 'archive'";
    assert_eq!(one(states).await, "done ignored dead_lettered");
    let letters = "select string_agg(state, ' ' order by record_offset) from dead_letters where company_id = 900";
    assert_eq!(one(letters).await, "waiting dropped");
    let counts =
        "select concat_ws(' ', records, admitted, duplicates, replayed) from consumer_counts where company_id = 900";
    assert_eq!(one(counts).await, "6 3 2 1");
    assert_eq!(one("select concat_ws(' ', done, ignored, dead_lettered) from event_ranges").await, "7 2 1");
    let unchecked = "select count(*)::text from pg_constraint c join pg_namespace n on n.oid = c.connamespace
        where n.nspname = 'secretaria' and not c.convalidated";
    assert_eq!(one(unchecked).await, "0");
    // The first thing that a worker of 0.2.0 does for a claim.
    let claim = root.query("select nextval('secretaria.job_fences')", &[]).await.unwrap_err();
    assert_eq!(claim.code().map(tokio_postgres::error::SqlState::code), Some("42P01"), "it makes no call");
}
