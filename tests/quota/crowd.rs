//! Many clients at once: a hard limit is exact, an alert is one, a key is one, whatever is rolled back or cut off.

use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::increments::{alerts, assert_verifies, increment, limited};
use crate::support::{Database, record, records, refused};

/// One crowd after another: the server has connections for one of them.
pub(crate) static TURN: Mutex<()> = Mutex::const_new(());

/// Who spends, and how.
#[derive(Clone, Copy)]
pub(crate) struct Crowd<'a> {
    pub(crate) database: &'a Database,
    pub(crate) level: &'static str,
    /// `secretaria.slots`: `on` or `off`.
    pub(crate) slots: &'static str,
    pub(crate) company: i64,
}

/// Where the call has to be made again: a conflict, a deadlock, or a connection that was cut before it answered.
fn retryable(problem: &Error) -> bool {
    let codes = ["40001", "40P01", "57P01", "57P02", "57P03"];
    problem.is_closed() || problem.code().is_none_or(|it| codes.contains(&it.code()))
}

/// One transaction with one call; `None` if it was rolled back on purpose.
async fn attempt(client: &Client, level: &str, call: &str, roll_back: bool) -> Result<Option<bool>, Error> {
    client.batch_execute(&format!("begin isolation level {level}")).await?;
    let accepted: bool = client.query_one(call, &[]).await?.get(0);
    client.batch_execute(if roll_back { "rollback" } else { "commit" }).await?;
    Ok((!roll_back).then_some(accepted))
}

impl Crowd<'_> {
    /// A connection of the crowd, made again until it is of use.
    async fn member(&self) -> Client {
        loop {
            let client = self.database.connect_as("secretaria_service").await;
            let slots = format!("select set_config('secretaria.slots', '{}', false)", self.slots);
            match client.batch_execute(&slots).await {
                Ok(()) => return client,
                Err(problem) => assert!(retryable(&problem), "{problem:?}"),
            }
        }
    }

    /// Calls under its own keys until each has an answer; the sum of what was accepted.
    pub(crate) async fn spend(&self, who: i64, calls: i64) -> i64 {
        let mut client = self.member().await;
        let (mut accepted, company) = (0, self.company);
        for n in 0..calls {
            let call = format!(
                "select accepted from increment_feature_usage({company}, 'whatsapp_messages', 1, 'key {who} {n}')"
            );
            let mut roll_back = (who * 7 + n * 3) % 10 < 3;
            loop {
                match attempt(&client, self.level, &call, roll_back).await {
                    Ok(Some(answer)) => break accepted += i64::from(answer),
                    Ok(None) => roll_back = false,
                    Err(problem) => {
                        assert!(retryable(&problem), "{problem:?}");
                        assert_ne!(problem.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{problem:?}");
                        if client.is_closed() || client.batch_execute("rollback").await.is_err() {
                            client = self.member().await;
                        }
                    }
                }
            }
        }
        accepted
    }

    /// Before the others come: with slots on, the shards have headroom from here on. What was accepted so far.
    pub(crate) async fn open(&self, client: &Client) -> i64 {
        let accepted = self.spend(64, 4).await;
        let given = format!(
            "select coalesce(sum(lent) <> 0, false) from secretaria.feature_usage
            where company_id = {} and feature = 'whatsapp_messages'",
            self.company
        );
        let given: bool = client.query_one(&given, &[]).await.unwrap().get(0);
        assert_eq!(given, self.slots == "on", "slots are {}", self.slots);
        accepted
    }

    /// What the clients were told is what the ledger says, the limit to the unit, and each alert was raised once.
    pub(crate) async fn assert_spent(&self, client: &Client, told: Vec<i64>, limit: i64) {
        let c = self.company;
        assert_eq!(told.iter().sum::<i64>(), limit, "what the clients were told");
        let lines = format!("select count(*), sum(amount) from secretaria.usage_events where company_id = {c}");
        assert_eq!(record(client, &lines).await, format!("({limit},{limit})"));
        assert_eq!(alerts(client, c).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
        assert_verifies(client).await;
    }
}

/// Cuts connections of the crowd off, one after another, until it is done.
async fn cut_off(client: &Client, times: usize) {
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and usename = 'secretaria_service' and state <> 'idle' limit 1";
    for _ in 0..times {
        client.query(cut, &[]).await.unwrap();
    }
}

async fn a_hard_limit_is_exact(level: &'static str, limit: i64) {
    let _turn = TURN.lock().await;
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    for slots in ["off", "on"] {
        let crowd = Crowd { database: &database, level, slots, company: limited(&client, limit).await };
        let first = crowd.open(&client).await;
        let spending = join_all((0..64).map(|who| crowd.spend(who, limit / 32)));
        let (mut told, ()) = tokio::join!(spending, cut_off(&client, 20));
        told.push(first);
        crowd.assert_spent(&client, told, limit).await;
    }
}

#[tokio::test]
async fn sixty_four_clients_get_exactly_the_limit_at_read_committed() {
    a_hard_limit_is_exact("read committed", 480).await;
}

#[tokio::test]
async fn sixty_four_clients_get_exactly_the_limit_at_repeatable_read() {
    a_hard_limit_is_exact("repeatable read", 416).await;
}

#[tokio::test]
async fn thresholds_fire_once_under_thirty_two_writers() {
    let _turn = TURN.lock().await;
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    for slots in ["off", "on"] {
        let c = limited(&client, 400).await;
        let crowd = Crowd { database: &database, level: "read committed", slots, company: c };
        crowd.open(&client).await;
        join_all((0..32).map(|who| crowd.spend(who, 13))).await;
        assert_eq!(alerts(&client, c).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
        let crossed = format!(
            "select used_after, thresholds from secretaria.usage_events
            where company_id = {c} and thresholds <> '{{}}' order by 1"
        );
        assert_eq!(crate::support::records(&client, &crossed).await, ["(320,{80})", "(400,{100})"]);
    }
    assert_verifies(&client).await;
}

#[tokio::test]
async fn one_key_from_sixteen_clients_is_booked_once() {
    let _turn = TURN.lock().await;
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    // The limit is the amount: the second caller must be told of the first, not of the limit.
    let c = limited(&client, 5).await;
    let calls = join_all((0..16).map(async |_| {
        let client = database.connect_as("secretaria_service").await;
        increment(&client, &format!("{c}, 'whatsapp_messages', 5, 'key'")).await
    }));
    let answers = calls.await;
    assert_eq!(answers.iter().filter(|it| it.starts_with("(t,ok,f,0,5")).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|it| it.starts_with("(t,duplicate,t,0,5")).count(), 15, "{answers:?}");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_conflict_above_read_committed_is_to_be_tried_again() {
    let Some(database) = Database::create().await else { return };
    let (one, other) = (database.connect().await, database.connect().await);
    let c = limited(&one, 100).await;
    for level in ["repeatable read", "serializable"] {
        for (n, arguments) in ["1", "1, 'KEY'", "1, '1 minute'"].iter().enumerate() {
            let key = format!("{level} {n}");
            let function = if n == 2 { "reserve" } else { "increment" };
            let arguments = arguments.replace("KEY", &key);
            let call = format!("select {function}_feature_usage({c}, 'whatsapp_messages', {arguments})");
            one.batch_execute(&format!("begin isolation level {level}; select 1 from secretaria.companies"))
                .await
                .unwrap();
            other
                .query(&format!("select increment_feature_usage({c}, 'whatsapp_messages', 1, '{key}')"), &[])
                .await
                .unwrap();
            assert_eq!(refused(&one, &call, &[]).await, "40001", "{level}: {call}");
            one.batch_execute("rollback").await.unwrap();
        }
    }
    assert_verifies(&one).await;
}

#[tokio::test]
async fn a_bulk_call_above_read_committed_knows_the_keys_that_it_can_see() {
    let Some(database) = Database::create().await else { return };
    let (one, other) = (database.connect().await, database.connect().await);
    let c = limited(&one, 1000).await;
    for level in ["repeatable read", "serializable"] {
        let call = format!(
            "select ord, reason, duplicate, used_after
            from increment_feature_usage_bulk(
              array[{c}, {c}], array['whatsapp_messages', 'whatsapp_messages'], array[1, 1],
              array['{level}: known', '{level}: new'], array_fill(null::timestamptz, array[2]))"
        );
        let begin = format!("begin isolation level {level}; select 1 from secretaria.companies");
        let increment =
            format!("select increment_feature_usage({c}, 'whatsapp_messages', 1, '{level}: known', null, 'allow')");
        // Known only since the snapshot: to be tried again, and then it is known.
        one.batch_execute(&begin).await.unwrap();
        other.query(&increment, &[]).await.unwrap();
        assert_eq!(refused(&one, &call, &[]).await, "40001", "{level}");
        one.batch_execute("rollback").await.unwrap();
        one.batch_execute(&begin).await.unwrap();
        let answers = records(&one, &call).await;
        one.batch_execute("commit").await.unwrap();
        let used = if level == "serializable" { 3 } else { 1 };
        assert_eq!(answers, [format!("(1,duplicate,t,{used})"), format!("(2,ok,f,{})", used + 1)], "{level}");
    }
    assert_verifies(&one).await;
}

#[tokio::test]
async fn room_is_held_no_more_often_than_there_is_of_it() {
    let _turn = TURN.lock().await;
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 100).await;
    let held = join_all((0..32).map(async |who: i64| {
        let client = database.connect_as("secretaria_service").await;
        let reserve = format!("select reservation_id from reserve_feature_usage({c}, 'whatsapp_messages', 10)");
        let id: Option<uuid::Uuid> = client.query_one(&reserve, &[]).await.unwrap().get(0);
        let id = id?;
        let (settle, amount) = match who % 3 {
            0 => (format!("select release_reservation({c}, '{id}')"), 0),
            1 => (format!("select commit_reservation({c}, '{id}')"), 10),
            _ => (format!("select commit_reservation({c}, '{id}', 4)"), 4),
        };
        client.query(&settle, &[]).await.unwrap();
        Some(amount)
    }));
    let used: i64 = held.await.into_iter().flatten().sum();
    assert!(used > 0 && used <= 100, "{used}");
    let counter = format!(
        "select used, reserved from secretaria.feature_usage where feature = 'whatsapp_messages' and company_id = {c}"
    );
    assert_eq!(record(&client, &counter).await, format!("({used},0)"));
    assert_verifies(&client).await;
}

#[tokio::test]
async fn bulk_calls_that_share_companies_and_keys_book_each_key_once() {
    let _turn = TURN.lock().await;
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (a, b) = (limited(&client, 10).await, limited(&client, 1000).await);
    let rounds = join_all((0..8).map(async |shift: i64| {
        let client = database.connect_as("secretaria_service").await;
        let call = format!(
            "select count(*) filter (where reason = 'ok') from record_message_facts_bulk(
              array(select case n % 2 when 0 then {a} else {b} end::bigint from generate_series(0, 199) n),
              array_fill('message_out'::text, array[200]),
              array(select 'key ' || ((n * 7 + {shift} * 50) % 400) / 2 from generate_series(0, 199) n),
              array_fill(now(), array[200]))"
        );
        loop {
            match client.query_one(&call, &[]).await {
                Ok(row) => break row.get::<_, i64>(0),
                Err(problem) => assert!(retryable(&problem), "{problem:?}"),
            }
        }
    }));
    let booked: i64 = rounds.await.into_iter().sum();
    let lines = "select count(*), (select sum(amount) from secretaria.usage_totals) from secretaria.usage_events";
    assert_eq!(record(&client, lines).await, format!("({booked},{booked})"));
    assert_eq!(alerts(&client, a).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
    assert_verifies(&client).await;
}
