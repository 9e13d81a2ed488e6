//! What metering reads again from Kafka, in whatever pieces and order, is booked once.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::increments::{assert_verifies, limited};
use crate::support::{Database, records};

/// One usage event, as metering hands it over.
#[derive(Clone)]
enum Fact {
    Message { company: i64, fact: &'static str, key: String, days_ago: i64 },
    Tokens { company: i64, model: &'static str, read: i64, written: i64, key: String, days_ago: i64 },
}

/// A partition's log: messages and model calls of three companies, some late, some in the period before.
fn log(companies: [i64; 3], length: i64) -> Vec<Fact> {
    let fact = |n: i64| {
        let (company, key) = (companies[((n / 4 + n) % 3) as usize], format!("event {n}"));
        let days_ago = [0, 0, 0, 1, 9, 33][(n % 6) as usize];
        match n % 5 {
            0 => Fact::Message { company, fact: "message_in", key, days_ago },
            1 | 2 => Fact::Message { company, fact: "message_out", key, days_ago },
            _ => Fact::Tokens { company, model: ["m", "n"][(n % 2) as usize], read: n, written: n % 7, key, days_ago },
        }
    };
    (0..length).map(fact).collect()
}

/// One poll: a transaction with a call for each kind, made again while others are in the way.
async fn poll(client: &mut Client, batch: &[Fact]) {
    loop {
        match poll_once(client, batch).await {
            Ok(()) => return,
            Err(problem) => {
                let again = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
                assert!(problem.code().is_some_and(|it| again.contains(it)), "{problem:?}");
            }
        }
    }
}

async fn poll_once(client: &mut Client, batch: &[Fact]) -> Result<(), tokio_postgres::Error> {
    let (mut messages, mut calls) = (Vec::new(), Vec::new());
    for it in batch {
        match it {
            Fact::Message { company, fact, key, days_ago } => messages.push((*company, *fact, key.as_str(), *days_ago)),
            Fact::Tokens { company, model, read, written, key, days_ago } => {
                calls.push((*company, *model, *read, *written, key.as_str(), *days_ago))
            }
        }
    }
    let transaction = client.transaction().await?;
    let companies: Vec<i64> = messages.iter().map(|it| it.0).collect();
    let facts: Vec<&str> = messages.iter().map(|it| it.1).collect();
    let keys: Vec<&str> = messages.iter().map(|it| it.2).collect();
    let days: Vec<i64> = messages.iter().map(|it| it.3).collect();
    let book = "select reason from record_message_facts_bulk($1, $2, $3,
        array(select now() - d * interval '1 day' from unnest($4::bigint[]) with ordinality as it (d, n) order by n))";
    let answers = transaction.query(book, &[&companies, &facts, &keys, &days]).await?;
    let companies: Vec<i64> = calls.iter().map(|it| it.0).collect();
    let models: Vec<&str> = calls.iter().map(|it| it.1).collect();
    let read: Vec<i64> = calls.iter().map(|it| it.2).collect();
    let written: Vec<i64> = calls.iter().map(|it| it.3).collect();
    let keys: Vec<&str> = calls.iter().map(|it| it.4).collect();
    let days: Vec<i64> = calls.iter().map(|it| it.5).collect();
    let none = vec![0_i64; calls.len()];
    let book = "select reason from increment_ai_usage_bulk($1, $2, $3, $4, $5, $6,
        array(select now() - d * interval '1 day' from unnest($7::bigint[]) with ordinality as it (d, n) order by n))";
    let more = transaction.query(book, &[&companies, &models, &read, &written, &none, &keys, &days]).await?;
    for answer in answers.iter().chain(&more) {
        let reason: &str = answer.get(0);
        assert!(["ok", "duplicate"].contains(&reason), "{reason}");
    }
    assert_eq!(answers.len() + more.len(), batch.len(), "an answer for each");
    transaction.commit().await
}

/// What the log comes to, by company and metric.
fn sums(log: &[Fact]) -> Vec<String> {
    let mut sums = BTreeMap::new();
    for it in log {
        match it {
            Fact::Message { company, fact, .. } => *sums.entry((*company, *fact)).or_insert(0) += 1,
            Fact::Tokens { company, read, written, .. } => {
                *sums.entry((*company, "tokens_in")).or_insert(0) += read;
                *sums.entry((*company, "tokens_out")).or_insert(0) += written;
            }
        }
    }
    sums.iter().map(|((company, metric), amount)| format!("({company},{metric},{amount})")).collect()
}

async fn assert_booked_once(client: &Client, log: &[Fact]) {
    assert_verifies(client).await;
    let totals = "select company_id, metric, sum(amount) from secretaria.usage_totals
        where metric <> 'tokens_cached' group by 1, 2 order by 1, 2";
    assert_eq!(records(client, totals).await, sums(log));
    // Counters, running and closed, hold what the facts they count come to.
    let counted = "select company_id, case feature when 'ai_tokens' then 'tokens' else 'message_out' end, sum(used)
        from (select company_id, feature, used from secretaria.feature_usage union all
          select company_id, feature, used from secretaria.feature_usage_periods) c
        where feature in ('ai_tokens', 'whatsapp_messages') group by 1, 2 order by 1, 2";
    let totals = "select company_id, case when metric = 'message_out' then metric else 'tokens' end, sum(amount)
        from secretaria.usage_totals where metric <> 'message_in' group by 1, 2 order by 1, 2";
    assert_eq!(records(client, counted).await, records(client, totals).await);
    let lines: i64 = client.query_one("select count(*) from secretaria.usage_events", &[]).await.unwrap().get(0);
    assert_eq!(lines, log.len() as i64);
    // By month and model it is the same again.
    let months = "select sum(input_tokens + output_tokens) from secretaria.ai_usage_by_model";
    let days = "select sum(amount) from secretaria.usage_totals where metric in ('tokens_in', 'tokens_out')";
    assert_eq!(records(client, months).await, records(client, days).await);
}

#[tokio::test]
async fn offsets_that_are_read_again_are_booked_once() {
    let Some(database) = Database::create().await else { return };
    let mut client = database.connect().await;
    let companies = [limited(&client, 50).await, limited(&client, 100).await, limited(&client, 100_000).await];
    let log = log(companies, 600);
    // Read, and read again; from an earlier offset; in larger and smaller polls; the newest first; twice in one poll.
    for from in [0, 0, 200, 100] {
        for batch in log[from..].chunks(150) {
            poll(&mut client, batch).await;
        }
    }
    assert_booked_once(&client, &log).await;
    let backwards: Vec<Fact> = log.iter().rev().cloned().collect();
    let shuffled: Vec<Fact> = (0..600).map(|n| log[(n * 271) % 600].clone()).collect();
    for order in [&backwards, &shuffled] {
        for batch in order.chunks(70) {
            let twice: Vec<Fact> = batch.iter().chain(batch).cloned().collect();
            poll(&mut client, &twice).await;
        }
        assert_booked_once(&client, &log).await;
    }
}

/// A partition that moved while its first owner was still at it, and readers that begin at different offsets.
#[tokio::test]
async fn readers_of_the_same_offsets_at_once_book_them_once() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let companies = [limited(&client, 50).await, limited(&client, 100).await, limited(&client, 100_000).await];
    let log = log(companies, 400);
    let backwards: Vec<Fact> = log.iter().rev().cloned().collect();
    let readers = [(&log, 0, 60), (&log, 130, 45), (&backwards, 0, 50), (&backwards, 90, 37)];
    join_all(readers.map(async |(order, from, size)| {
        let mut client = database.connect_as("secretaria_service").await;
        for batch in order[from..].chunks(size) {
            poll(&mut client, batch).await;
        }
    }))
    .await;
    assert_booked_once(&client, &log).await;
}
