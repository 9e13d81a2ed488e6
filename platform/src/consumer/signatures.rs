//! One signature is one event: a signed request that is sent again as another event is ignored.
//!
//! `X-Idempotency-Key` is not signed, so a captured request can be sent again under other keys, each of which makes
//! another event id. A request sent again as it was has the same id, and is a duplicate by its outcome.
//!
//! This module alone writes `seen_signatures`.

use std::collections::HashMap;

use domain::{EventOutcome, IgnoreReason, ProcessorName, header};
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Error;
use uuid::Uuid;

use super::{Event, HandledEvent};
use crate::kafka::Record;
use crate::postgres::{self, Transaction};

/// How long after a request's first record another can carry its signature: a timestamp is accepted for 300 s
/// before and after, so 600 s; doubled for clocks that differ and records that arrive out of order.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(20);
/// Most signatures deleted per partition and batch; twice the batch size, if that is more.
const MAX_DELETED: usize = 1_000;

/// Removes the events whose signature was first seen on another event, and returns them with their outcome.
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub(super) async fn remove_repeats<'a, P>(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    events: &mut Vec<Event<'a, P>>,
) -> Result<Vec<HandledEvent<'a>>, Error> {
    let signed: Vec<(Vec<u8>, &Event<'a, P>)> = events.iter().filter_map(|it| Some((mac(it.record)?, it))).collect();
    if signed.is_empty() {
        return Ok(Vec::new());
    }
    let first = insert_signatures(tx, processor, &signed).await?;
    delete_old(tx, processor, &signed).await?;
    let is_first = |mac: &[u8], it: &Event<'_, P>| {
        first.get(&(it.envelope.company_id.0, mac.to_vec())) == Some(&it.envelope.event_id.0)
    };
    let repeats: Vec<HandledEvent<'a>> = signed
        .iter()
        .filter(|(mac, it)| !is_first(mac, it))
        .map(|(_, it)| HandledEvent {
            company: it.envelope.company_id,
            event: it.envelope.event_id,
            record: it.record,
            outcome: EventOutcome::Ignored(IgnoreReason::Duplicate),
        })
        .collect();
    events.retain(|it| {
        let event = (it.envelope.company_id, it.envelope.event_id);
        !repeats.iter().any(|repeat| (repeat.company, repeat.event) == event)
    });
    Ok(repeats)
}

fn mac(record: &Record) -> Option<Vec<u8>> {
    let mac = hex::decode(record.header(header::MAC)?).ok()?;
    (mac.len() == 32).then_some(mac)
}

/// The event of each signature: the one stored before, or else the first of these.
async fn insert_signatures<P>(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    signed: &[(Vec<u8>, &Event<'_, P>)],
) -> Result<HashMap<(i64, Vec<u8>), Uuid>, Error> {
    let companies: Vec<i64> = signed.iter().map(|(_, it)| it.envelope.company_id.0).collect();
    let macs: Vec<&[u8]> = signed.iter().map(|(mac, _)| mac.as_slice()).collect();
    let events: Vec<Uuid> = signed.iter().map(|(_, it)| it.envelope.event_id.0).collect();
    let topics: Vec<&str> = signed.iter().map(|(_, it)| it.record.topic.as_str()).collect();
    let partitions: Vec<i32> = signed.iter().map(|(_, it)| it.record.partition).collect();
    let received: Vec<Timestamp> = signed.iter().map(|(_, it)| it.envelope.received_at).collect();
    // In one order, so that two transactions do not deadlock. The update changes nothing: it
    // waits for a transaction that is writing the same row, and returns what that wrote.
    let rows = postgres::query(
        tx,
        "insert into secretaria.seen_signatures as s
           (company_id, processor, mac, event_id, topic, partition, received_at)
         select distinct on (it.company_id, it.mac)
           it.company_id, $1, it.mac, it.event_id, it.topic, it.partition, it.received_at
         from unnest($2::bigint[], $3::bytea[], $4::uuid[], $5::text[], $6::int[], $7::timestamptz[]) with ordinality
           as it (company_id, mac, event_id, topic, partition, received_at, ord)
         order by it.company_id, it.mac, it.ord
         on conflict (company_id, processor, mac) do update set event_id = s.event_id
         returning company_id, mac, event_id",
        &[&processor.as_str(), &companies, &macs, &events, &topics, &partitions, &received],
    )
    .await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

/// Deletes the signatures that no record still to be read can carry, partition by partition.
///
/// All records of one signature are in one partition. Age is measured by the records being read there and not by the
/// clock: after hours of lag a repeat may be read hours after the first record.
async fn delete_old<P>(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    signed: &[(Vec<u8>, &Event<'_, P>)],
) -> Result<(), Error> {
    let mut oldest = HashMap::<(&str, i32), Timestamp>::new();
    for (_, it) in signed {
        let earliest = oldest.entry((it.record.topic.as_str(), it.record.partition)).or_insert(it.envelope.received_at);
        *earliest = it.envelope.received_at.min(*earliest);
    }
    let (mut topics, mut partitions, mut before) = (Vec::new(), Vec::new(), Vec::new());
    for ((topic, partition), received) in oldest {
        if let Ok(instant) = received.checked_sub(REMEMBERED) {
            topics.push(topic);
            partitions.push(partition);
            before.push(instant);
        }
    }
    let max = i64::try_from(MAX_DELETED.max(signed.len() * 2)).unwrap_or(i64::MAX);
    postgres::execute(
        tx,
        "delete from secretaria.seen_signatures s
         using (
           select old.company_id, old.mac
           from unnest($2::text[], $3::int[], $4::timestamptz[]) as it (topic, partition, before)
           cross join lateral (
             select o.company_id, o.mac
             from secretaria.seen_signatures o
             where o.processor = $1 and o.topic = it.topic and o.partition = it.partition
               and o.received_at < least(it.before, now())
             order by o.received_at
             limit $5
             for update skip locked
           ) old
         ) old
         where s.company_id = old.company_id and s.processor = $1 and s.mac = old.mac",
        &[&processor.as_str(), &topics, &partitions, &before, &max],
    )
    .await?;
    Ok(())
}
