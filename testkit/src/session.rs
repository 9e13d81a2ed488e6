//! A superuser's connection, and what tests ask it.

use std::ops::Deref;

use tokio_postgres::types::Json;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::{files_of, sql_folder};

/// A connection of the superuser: row-level security does not bind it.
#[derive(Debug)]
pub struct Session(pub(crate) Client);

/// A row of the outbox. `headers` is the JSON of its column.
#[derive(Debug)]
pub struct OutboxRow {
    pub outbox_id: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: serde_json::Value,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Session {
    /// Runs statements.
    pub async fn run(&self, sql: &str) {
        self.batch_execute(sql).await.unwrap();
    }

    /// The rows of a query as text: columns between bars, nulls as a dash.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let messages = self.simple_query(sql).await.unwrap();
        let rows =
            messages.iter().filter_map(|it| if let SimpleQueryMessage::Row(row) = it { Some(row) } else { None });
        rows.map(|row| (0..row.len()).map(|it| row.get(it).unwrap_or("-")).collect::<Vec<_>>().join(" | ")).collect()
    }

    /// The one number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].parse().unwrap()
    }

    /// Removes a topic's rows from the outbox, as a relay would, in the order of publishing.
    pub async fn take_outbox(&self, topic: &str) -> Vec<OutboxRow> {
        let sql = "with gone as (
                     delete from outbox where topic = $1 returning outbox_id, key, payload, headers
                   )
                   select outbox_id, key, payload, headers from gone order by outbox_id";
        let rows = self.query(sql, &[&topic]).await.unwrap();
        let row = |it: &tokio_postgres::Row| {
            let Json(headers) = it.get(3);
            OutboxRow { outbox_id: it.get(0), key: it.get(1), payload: it.get(2), headers }
        };
        rows.iter().map(row).collect()
    }

    /// The ids of a topic's events in the outbox, in the order of publishing.
    pub async fn outbox_events(&self, topic: &str) -> Vec<Uuid> {
        let sql = "select event_id from outbox where topic = $1 order by outbox_id";
        self.query(sql, &[&topic]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Asserts that nothing was lost and nothing done twice, by the queries that operators run.
    #[track_caller]
    pub fn conserves(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            assert_eq!(self.failed_checks().await, [""; 0], "{caller}");
        }
    }

    /// What the queries of `sql/checks/` return: a check and what fails it.
    pub async fn failed_checks(&self) -> Vec<String> {
        let mut failed = Vec::new();
        for file in files_of(&sql_folder("checks")) {
            failed.extend(self.rows(&std::fs::read_to_string(file).unwrap()).await);
        }
        failed
    }
}
