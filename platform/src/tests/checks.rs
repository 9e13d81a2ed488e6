//! The checks that operators rely on find what they are for: what each check verifies is broken once on purpose.

use std::collections::BTreeSet;
use std::path::PathBuf;

use testkit::{files_of, sql_folder};

use super::database::in_a_database;

/// One turn that is answered and sent, everything as it should be.
const SOUND: &str = "
    insert into companies (company_id, domain, name) overriding system value values (1, 'clinica.test', 'Clínica');
    insert into contacts (company_id, contact_id, channel) values (1, md5('contact')::uuid, 'whaticket');
    insert into conversations (company_id, conversation_id, contact_id, channel, send_to)
    values (1, md5('conversation')::uuid, md5('contact')::uuid, 'whaticket', 'somebody');
    insert into turns (company_id, turn_id, conversation_id, state, outcome, closes_at, ended_at)
    values (1, md5('turn')::uuid, md5('conversation')::uuid, 'ended', 'replied', now(), now());
    insert into messages
      (company_id, message_id, conversation_id, position, direction, turn_id, body, occurred_at, received_at)
    values
      (1, md5('in')::uuid, md5('conversation')::uuid, 1, 'in', md5('turn')::uuid, 'oi', now(), now()),
      (1, md5('out')::uuid, md5('conversation')::uuid, 2, 'out', md5('turn')::uuid, 'olá', now(), now());
    insert into deliveries
      (company_id, delivery_id, conversation_id, position, channel, send_to, body, purpose, state, outcome,
       attempts, record_partition, record_offset)
    values (1, md5('out')::uuid, md5('conversation')::uuid, 2, 'whaticket', 'somebody', 'olá', 'reply', 'ended', 'sent',
            2, 3, 7);
    insert into delivery_attempts (company_id, delivery_id, attempt, of_round, ended_at, result, class)
    values (1, md5('out')::uuid, 1, 1, now(), 'FAILED_TEMPORARY', 'busy'), (1, md5('out')::uuid, 2, 2, now(), 'SENT', null);
    insert into webhook_deliveries
      (company_id, event_id, endpoint, kind, body, state, outcome, attempts, record_partition, record_offset)
    values
      (1, md5('alert')::uuid, 'company', 'usage_threshold', '{}', 'ended', 'delivered', 1, 3, 7),
      (1, md5('alert')::uuid, 'operator', 'usage_threshold', '{}', 'ended', 'delivered', 1, 3, 7);
    insert into event_outcomes (company_id, processor, event_id, topic, partition, record_offset, state)
    values
      (1, 'alerts', md5('alert')::uuid, 'alerts', 3, 7, 'done'),
      (1, 'reply', md5('in')::uuid, 'inbound.messages', 3, 7, 'done'),
      (1, 'delivery', md5('out')::uuid, 'outbound.messages', 3, 7, 'done');
    insert into consumer_counts (company_id, processor, topic, partition, records, admitted, duplicates)
    values
      (1, 'reply', 'inbound.messages', 3, 2, 1, 1), (1, 'delivery', 'outbound.messages', 3, 1, 1, 0),
      (1, 'alerts', 'alerts', 3, 1, 1, 0), (1, 'archive', 'inbound.messages', 3, 2, 2, 0);
    insert into event_ranges (processor, topic, partition, first_offset, last_offset, done, ignored, dead_lettered)
    values ('archive', 'inbound.messages', 3, 7, 7, 1, 0, 0), ('archive', 'inbound.messages', 3, 8, 8, 0, 1, 0);
    insert into lake_batches (batch_id, topics, partitions, first_offsets, last_offsets, records, repeats)
    values (md5('batch')::uuid, '{inbound.messages}', '{3}', '{7}', '{7}', 1, 0);
    insert into lake_files
      (file_id, day, path, origin, events, bytes, sha256, companies, company_events, batch_id, first_at, last_at)
    values
      (md5('file')::uuid, '2026-03-15', 'a', 'consumer', 1, 1, sha256('a'), '{1}', '{1}', md5('batch')::uuid, now(), now());
    insert into consumer_offsets (processor, topic, partition, first_offset, next_offset)
    values
      ('reply', 'inbound.messages', 3, 7, 9), ('delivery', 'outbound.messages', 3, 7, 8), ('alerts', 'alerts', 3, 7, 8),
      ('archive', 'inbound.messages', 3, 7, 9);
    insert into topic_ends (topic, partition, start_offset, end_offset, seen_at)
    values
      ('inbound.messages', 3, 0, 9, now() + interval '1 hour'),
      ('outbound.messages', 3, 0, 8, now() + interval '1 hour'),
      ('usage.events', 3, 0, 0, now() + interval '1 hour');
    insert into usage_events (company_id, idempotency_key, fact, model, amount, tokens_in, tokens_out, occurred_at, day)
    values
      (1, 'a', 'message_in', '', 1, 0, 0, now(), '2026-03-15'),
      (1, 'c', 'message_out', '', 1, 0, 0, now(), '2026-03-15'),
      (1, 'b', 'model_tokens', 'm', 110, 100, 10, now(), '2026-03-15');
    insert into usage_totals (company_id, metric, model, day, amount)
    values
      (1, 'message_in', '', '2026-03-15', 1), (1, 'message_out', '', '2026-03-15', 1), (1, 'tokens_in', 'm', '2026-03-15', 100),
      (1, 'tokens_out', 'm', '2026-03-15', 10);";

/// Live jobs in every state: two turns, one of which is dead; a lane of deliveries, the first of which is running;
/// a webhook.
const SOUND_JOBS: &str = "
    insert into companies (company_id, domain, name) overriding system value values (2, 'salao.test', 'Salão');
    insert into contacts (company_id, contact_id, channel) values (2, md5('contact')::uuid, 'whaticket');
    insert into conversations (company_id, conversation_id, contact_id, channel, send_to)
    values (2, md5('lane')::uuid, md5('contact')::uuid, 'whaticket', 'somebody');
    insert into turns (company_id, turn_id, conversation_id, state, closes_at)
    values (2, md5('open')::uuid, md5('lane')::uuid, 'collecting', now()),
           (2, md5('given up')::uuid, md5('lane')::uuid, 'answering', now());
    insert into deliveries
      (company_id, delivery_id, conversation_id, position, channel, send_to, body, purpose, state, record_partition,
       record_offset)
    select 2, md5(name)::uuid, md5('lane')::uuid, position, 'whaticket', 'somebody', 'olá', 'reply', state, 3, 7
    from (values ('first', 'sending', 1), ('second', 'waiting', 2), ('third', 'waiting', 3)) as d (name, state, position);
    insert into webhook_deliveries (company_id, event_id, endpoint, kind, body, state, record_partition, record_offset)
    values (2, md5('told')::uuid, 'company', 'usage_threshold', '{}', 'waiting', 3, 7);
    insert into event_outcomes (company_id, processor, event_id, topic, partition, record_offset, state)
    values (2, 'alerts', md5('told')::uuid, 'alerts', 4, 7, 'in_flight');
    insert into jobs (company_id, queue, job_key, lane, due_at, body)
    select 2, queue, md5(name)::uuid, md5(lane)::uuid, '2026-03-15T12:00:00Z', '{}'
    from (values ('reply', 'open', 'lane'), ('delivery', 'first', 'lane'), ('delivery', 'second', 'lane'),
                 ('delivery', 'third', 'lane'), ('alerts', 'told', null)) as j (queue, name, lane);
    update jobs set body = jsonb_build_object('event', job_key, 'endpoint', 'company') where queue = 'alerts';
    insert into jobs_scheduled (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts)
    select queue, due_at, company_id, job_key, lane, false, 0, 0 from jobs where queue = 'reply';
    insert into jobs_ready (company_id, queue, priority, due_at, job_key, lane, attempts)
    select company_id, queue, 0, due_at, job_key, lane, 0 from jobs where queue = 'alerts';
    insert into jobs_running
      (company_id, queue, job_key, fence, lane, priority, due_at, attempts, claimed_by, lease_until)
    select company_id, queue, job_key, 1, lane, 0, due_at, 1, 'one', now() from jobs where job_key = md5('first')::uuid;
    insert into jobs_waiting (company_id, queue, lane, position, job_key, priority, due_at)
    select company_id, queue, lane, case when job_key = md5('second')::uuid then 2 else 3 end, job_key, 0, due_at
    from jobs where job_key in (md5('second')::uuid, md5('third')::uuid);
    insert into job_lanes (company_id, queue, lane, jobs, last_position) values (2, 'delivery', md5('lane')::uuid, 3, 3);
    insert into jobs_dead (company_id, queue, job_key, lane, body, attempts, cause, detail)
    values (2, 'reply', md5('given up')::uuid, md5('lane')::uuid, '{}', 10, 'refused_by_database', '');";

/// Changes that an operator or a bug might make, each with the check that finds it.
const VIOLATIONS: &[(&str, &str)] = &[
    (
        "update consumer_offsets set first_offset = 6 where processor = 'reply'",
        "every offset passed is a record counted",
    ),
    ("delete from consumer_counts where processor = 'delivery'", "every offset passed is a record counted"),
    ("update consumer_counts set records = 3 where processor = 'reply'", "every offset passed is a record counted"),
    ("update consumer_counts set admitted = 2 where processor = 'reply'", "every admitted record has an outcome"),
    ("delete from event_outcomes where processor = 'reply'", "every admitted record has an outcome"),
    ("delete from event_ranges where first_offset = 7", "every admitted record has an outcome"),
    ("update event_ranges set last_offset = 8 where first_offset = 7", "a range counts every offset it spans"),
    ("update event_ranges set done = 2 where first_offset = 7", "a range counts every offset it spans"),
    ("delete from event_ranges where first_offset = 7", "ranges follow one another up to the committed offset"),
    ("delete from event_ranges where first_offset = 8", "ranges follow one another up to the committed offset"),
    (
        "update topic_ends set end_offset = 8 where topic = 'inbound.messages'",
        "nothing was read that is not in the log",
    ),
    (
        "update topic_ends set start_offset = 10, end_offset = 10 where topic = 'inbound.messages'",
        "nothing is dropped by the broker before it is read",
    ),
    (
        "update event_outcomes set state = 'in_flight' where processor = 'reply'",
        "a message in flight is in a turn that has not ended",
    ),
    ("delete from messages where direction = 'in'", "a message done is in a turn that has ended"),
    (
        "update turns set state = 'collecting', outcome = null where company_id = 1",
        "a message done is in a turn that has ended",
    ),
    ("delete from messages where direction = 'out'", "a turn with a reply has one message, and it was published"),
    (
        "update event_outcomes set event_id = md5('other')::uuid where processor = 'delivery'",
        "a turn with a reply has one message, and it was published",
    ),
    (
        "update event_outcomes set state = 'in_flight' where processor = 'delivery'",
        "a delivery in flight is a row that has not ended",
    ),
    (
        "update deliveries set outcome = 'failed_permanent' where company_id = 1",
        "a delivery done was sent, one dead-lettered has a dead letter",
    ),
    (
        "update event_outcomes set state = 'in_flight' where processor = 'alerts'",
        "an alert in flight has a webhook that has not ended",
    ),
    ("delete from webhook_deliveries", "an alert done was delivered, one dead-lettered has a dead letter"),
    (
        "update webhook_deliveries set outcome = 'failed_permanent', cause = 'gone' where endpoint = 'company' and company_id = 1",
        "an alert done was delivered, one dead-lettered has a dead letter",
    ),
    (
        "update webhook_deliveries set outcome = 'withdrawn' where company_id = 1",
        "an alert done was delivered, one dead-lettered has a dead letter",
    ),
    (
        "update webhook_deliveries set state = 'waiting', outcome = null where endpoint = 'operator'",
        "an alert done was delivered, one dead-lettered has a dead letter",
    ),
    (
        "delete from event_outcomes where processor = 'alerts'",
        "an alert done was delivered, one dead-lettered has a dead letter",
    ),
    (
        "update deliveries set outcome = 'failed_permanent' where company_id = 1; update event_outcomes set state = 'dead_lettered' where processor = 'delivery'",
        "a dead-lettered event has a dead letter",
    ),
    (
        "update delivery_attempts set result = 'SENT' where attempt = 1",
        "a second send follows only an attempt that failed for a time or is unknown",
    ),
    (
        "delete from usage_events where fact = 'message_out'; delete from usage_totals where metric = 'message_out'",
        "a turn with a reply is booked",
    ),
    ("update usage_totals set amount = 2 where metric = 'message_in'", "the sums of usage are the ledger's"),
    ("delete from usage_totals where metric = 'tokens_out'", "the sums of usage are the ledger's"),
    ("delete from usage_events where fact = 'model_tokens'", "the sums of usage are the ledger's"),
    ("delete from jobs where queue = 'alerts'", "a job is in one state"),
    ("delete from jobs_ready", "a job is in one state"),
    (
        "insert into jobs_ready select company_id, queue, 0, due_at, job_key, lane, 0 from jobs_running",
        "a job is in one state",
    ),
    ("delete from lake_files", "an archived record is in a file of the lake, or a repeat"),
    ("delete from lake_files; delete from lake_batches", "an archived record is in a file of the lake, or a repeat"),
    ("update lake_batches set repeats = 1", "an archived record is in a file of the lake, or a repeat"),
    ("update lake_files set company_events = '{2}'", "an archived record is in a file of the lake, or a repeat"),
    ("update jobs set due_at = now() where queue = 'reply'", "a job and the row of its state say the same"),
    ("update jobs_waiting set due_at = now()", "a job and the row of its state say the same"),
    ("update jobs_running set lane = null", "a job and the row of its state say the same"),
    ("update job_lanes set jobs = 2", "a lane counts its jobs, and one of them is first"),
    ("delete from job_lanes", "a lane counts its jobs, and one of them is first"),
    (
        "insert into job_lanes values (2, 'reply', md5('lane')::uuid, 1, 1)",
        "a lane counts its jobs, and one of them is first",
    ),
    (
        "with second as (delete from jobs_waiting where position = 2 returning *)
         insert into jobs_ready select company_id, queue, priority, due_at, job_key, lane, 0 from second",
        "a lane counts its jobs, and one of them is first",
    ),
    ("delete from jobs_running; update job_lanes set jobs = 2", "a lane counts its jobs, and one of them is first"),
    ("update jobs_waiting set position = 9 where position = 3", "a lane counts its jobs, and one of them is first"),
    ("update jobs_scheduled set keeps_lane = true", "a lane counts its jobs, and one of them is first"),
    ("delete from jobs where queue = 'reply'; delete from jobs_scheduled", "a turn has a job until it has ended"),
    ("delete from jobs_dead", "a turn has a job until it has ended"),
    (
        "update turns set state = 'ended', outcome = 'ignored' where turn_id = md5('open')::uuid",
        "a turn has a job until it has ended",
    ),
    ("update jobs set job_key = md5('other')::uuid where queue = 'reply'", "a turn has a job until it has ended"),
    (
        "delete from jobs where job_key = md5('third')::uuid; delete from jobs_waiting where position = 3;
         update job_lanes set jobs = 2",
        "a delivery has a job until it has ended",
    ),
    (
        "update deliveries set state = 'ended', outcome = 'sent' where delivery_id = md5('first')::uuid",
        "a delivery has a job until it has ended",
    ),
    ("delete from jobs where queue = 'alerts'; delete from jobs_ready", "a webhook has a job until it has ended"),
    (
        "update webhook_deliveries set state = 'ended', outcome = 'withdrawn' where company_id = 2",
        "a webhook has a job until it has ended",
    ),
    ("update jobs set body = '{}' where queue = 'alerts'", "a webhook has a job until it has ended"),
];

#[tokio::test]
async fn every_violation_is_found_by_its_check() {
    in_a_database(async |database| {
        database.run(SOUND).await;
        database.run(SOUND_JOBS).await;
        database.conserves().await;
        for (change, check) in VIOLATIONS {
            database.run(&format!("begin; {change};")).await;
            let broken = database.failed_checks().await;
            database.run("rollback").await;
            assert!(broken.iter().any(|it| it.starts_with(&format!("{check} | "))), "{change}: {broken:#?}");
        }
    })
    .await;
}

/// The checks: their names, each with the SQL of its file.
fn checks() -> Vec<(String, String)> {
    let check = |file: PathBuf| {
        let sql = std::fs::read_to_string(&file).unwrap();
        let quoted = sql.lines().find_map(|line| line.strip_prefix("select '")?.strip_suffix("' as rule,")).unwrap();
        (quoted.replace("''", "'"), sql)
    };
    files_of(&sql_folder("checks")).into_iter().map(check).collect()
}

#[test]
fn every_check_is_tested() {
    let checks: BTreeSet<String> = checks().into_iter().map(|(check, _)| check).collect();
    let tested: BTreeSet<String> = VIOLATIONS.iter().map(|(_, check)| (*check).to_owned()).collect();
    assert_eq!(checks, tested);
}

#[test]
fn each_file_begins_with_the_name_of_its_check_and_holds_one_query() {
    for (check, sql) in checks() {
        let (first, rest) = check.split_at(1);
        let begins = format!("-- {}{rest}.\n", first.to_uppercase());
        assert!(sql.starts_with(&begins), "{check}: the file begins differently");
        assert!(sql.ends_with(";\n") && sql.matches(';').count() == 1, "{check}: not one query");
        assert_eq!(sql.matches(" as detail\n").count(), 1, "{check}: no detail");
    }
}

#[test]
fn every_check_is_explained_to_operators() {
    let operating = std::fs::read_to_string(sql_folder("../docs/OPERATING.md")).unwrap();
    for (check, _) in checks() {
        assert!(operating.contains(&format!("\n| {check} | ")), "{check}: has no row in docs/OPERATING.md");
    }
}
