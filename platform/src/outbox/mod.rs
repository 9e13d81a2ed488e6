//! The outbox: a record to be published is stored as a row in the transaction that causes it.
//!
//! This module and [`crate::relay`] alone write `outbox`.

pub mod relay;

use domain::{CompanyId, Envelope, EventId, Topic, header};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Error;

use crate::dead_letter;
use crate::postgres::{self, Failure, Transaction};

/// A record to be published once this transaction has committed.
#[derive(Debug, Clone)]
pub struct Entry {
    pub company: CompanyId,
    pub topic: Topic,
    pub key: Vec<u8>,
    /// What follows the company in the key: an address, a conversation, or nothing. The partition is chosen by it.
    pub subject: String,
    /// How many partitions the company owns.
    pub spread: u16,
    pub event: EventId,
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Vec<u8>,
}

impl Entry {
    /// The record of an event of this system, with the standard headers.
    ///
    /// # Errors
    /// If it cannot be serialized, which never happens with our own types: the transaction must then be rolled back.
    pub fn of_event<T: Serialize>(
        topic: Topic,
        subject: &str,
        placement: (u16, i32),
        envelope: &Envelope<T>,
        traceparent: Option<&str>,
    ) -> Result<Self, Failure> {
        let company = envelope.company_id;
        let (spread, epoch) = placement;
        let mut headers = vec![
            (header::COMPANY.to_owned(), company.to_string().into_bytes()),
            (header::EVENT_ID.to_owned(), envelope.event_id.to_string().into_bytes()),
            (header::KIND.to_owned(), envelope.kind.as_str().into()),
            (header::SCHEMA.to_owned(), envelope.schema.to_string().into_bytes()),
            (header::EPOCH.to_owned(), epoch.to_string().into_bytes()),
            (header::OCCURRED_AT.to_owned(), envelope.occurred_at.as_microsecond().to_string().into_bytes()),
            (header::RECEIVED_AT.to_owned(), envelope.received_at.as_microsecond().to_string().into_bytes()),
        ];
        headers.extend(traceparent.map(|it| (header::TRACEPARENT.to_owned(), it.into())));
        let unwritable =
            |problem| Failure::Refused(format!("event {} cannot be written: {problem}", envelope.event_id));
        let payload = envelope.write().map_err(unwritable)?;
        let key = if subject.is_empty() { company.to_string() } else { format!("{company}/{subject}") };
        let (event, subject, key) = (envelope.event_id, subject.to_owned(), key.into_bytes());
        Ok(Entry { company, topic, key, subject, spread, event, headers, payload })
    }
}

/// Adds records; those of one key are published in this order.
///
/// # Errors
/// If Postgres refuses.
pub async fn push(tx: &Transaction<'_>, entries: &[Entry]) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let companies: Vec<i64> = entries.iter().map(|it| it.company.0).collect();
    let topics: Vec<&str> = entries.iter().map(|it| it.topic.as_str()).collect();
    let keys: Vec<&[u8]> = entries.iter().map(|it| it.key.as_slice()).collect();
    let subjects: Vec<&str> = entries.iter().map(|it| it.subject.as_str()).collect();
    let spreads: Vec<i16> = entries.iter().map(|it| i16::try_from(it.spread).unwrap_or(i16::MAX)).collect();
    let events: Vec<uuid::Uuid> = entries.iter().map(|it| it.event.0).collect();
    let headers: Vec<Value> = entries.iter().map(|it| dead_letter::headers_as_json(&it.headers)).collect();
    let payloads: Vec<&[u8]> = entries.iter().map(|it| it.payload.as_slice()).collect();
    postgres::execute(
        tx,
        "insert into secretaria.outbox (company_id, topic, key, placed_by, spread, event_id, headers, payload)
         select it.company_id, it.topic, it.key, it.placed_by, it.spread, it.event_id, it.headers, it.payload
         from unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::smallint[], $6::uuid[], $7::jsonb[], $8::bytea[])
           with ordinality as it (company_id, topic, key, placed_by, spread, event_id, headers, payload, ord)
         order by it.ord",
        &[&companies, &topics, &keys, &subjects, &spreads, &events, &headers, &payloads],
    )
    .await?;
    Ok(())
}
