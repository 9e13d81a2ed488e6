//! delivery's SQL: deliveries, their attempts, and the accounts of companies' channels.

use domain::{CompanyId, ContactId, ConversationId, EventId, OutboundMessage, Purpose, Topic, header, placement};
use platform::attempt::{AttemptResult, Next, Verdict};
use platform::columns;
use platform::consumer::Event;
use platform::dead_letter::{self, RecordTable};
use platform::outcomes::Admission;
use platform::postgres::{Failure, Row, Transaction, execute, in_order, ordinal, query};
use platform::queue::{Claimed, NewJob, Performed};
use tokio_postgres::Error;
use uuid::Uuid;

/// The table that keeps the records of deliveries.
pub(super) const RECORDS: RecordTable =
    RecordTable { table: "deliveries", id: "delivery_id", topic: Topic::OutboundMessages };

/// An attempt with its verdict.
pub(super) type Attempt<'a> = Performed<'a, Delivery, Verdict>;

/// One message to be sent.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) company: CompanyId,
    pub(super) delivery: EventId,
    /// The latest attempt's number over all rounds.
    pub(super) attempt: i32,
    /// Attempts of this round, the latest included.
    pub(super) of_round: i32,
    /// Attempts of this round whose result is unknown.
    pub(super) unknowns: i32,
    pub(super) purpose: Purpose,
    pub(super) to: String,
    pub(super) body: String,
    /// The company's account on the channel, if it has one.
    pub(super) account: Option<SealedAccount>,
}

/// A company's account on a channel, its secrets still sealed.
#[derive(Debug, Clone)]
pub(super) struct SealedAccount {
    pub(super) base_url: String,
    pub(super) credentials: SealedCredentials,
}

#[derive(Debug, Clone)]
pub(super) enum SealedCredentials {
    /// A token that does not change.
    Token(Vec<u8>),
    /// A login that returns tokens.
    Login { email: String, password: Vec<u8> },
}

/// Makes the delivery of a message; returns its job. A replayed delivery starts its whole schedule again.
pub(super) async fn open(tx: &Transaction<'_>, event: &Event<'_, OutboundMessage>) -> Result<NewJob, Error> {
    let message = &event.envelope.payload;
    let (company, event_id) = (event.envelope.company_id, event.envelope.event_id);
    let record = event.record;
    let traceparent = record.header_text(header::TRACEPARENT);
    let job = NewJob {
        lane: Some(message.conversation_id.0),
        traceparent: traceparent.map(str::to_owned),
        ..NewJob::new(company, event_id.0)
    };
    if event.admission == Admission::Replayed && reopen(tx, company, event_id).await? {
        return Ok(job);
    }
    execute(
        tx,
        "insert into secretaria.deliveries
           (company_id, delivery_id, conversation_id, position, channel, send_to, body, purpose, state,
            traceparent, record_partition, record_offset, record_key, record_headers, record_payload)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', $9, $10, $11, $12, $13, $14)",
        &[
            &company.0,
            &event_id.0,
            &message.conversation_id.0,
            &message.position,
            &message.channel.as_str(),
            &message.to,
            &message.body,
            &message.purpose.as_str(),
            &traceparent,
            &record.partition,
            &record.offset,
            &record.key,
            &dead_letter::headers_as_json(&record.headers),
            &record.payload,
        ],
    )
    .await?;
    Ok(job)
}

async fn reopen(tx: &Transaction<'_>, company: CompanyId, event: EventId) -> Result<bool, Error> {
    let touched = execute(
        tx,
        "update secretaria.deliveries
         set state = 'waiting', outcome = null, ended_at = null, round_began_at = attempts, unknowns = 0
         where company_id = $1 and delivery_id = $2 and state = 'ended' and outcome = 'failed_permanent'",
        &[&company.0, &event.0],
    )
    .await?;
    Ok(touched == 1)
}

/// The deliveries of claimed jobs, in their order; `None` for one that has ended.
///
/// # Errors
/// If Postgres refuses, or a delivery is for a purpose that this version does not know.
pub(super) async fn load(tx: &Transaction<'_>, claimed: &[Claimed]) -> Result<Vec<Option<Delivery>>, Failure> {
    let rows = query(
        tx,
        "select it.ord, d.company_id, d.delivery_id, d.attempts, d.attempts - d.round_began_at, d.unknowns, d.purpose,
           d.send_to, d.body, c.base_url, c.auth, c.token_sealed, c.login_email, c.login_password_sealed
         from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, delivery_id, ord)
         join secretaria.deliveries d using (company_id, delivery_id)
         left join secretaria.channels c on c.company_id = d.company_id and c.channel = d.channel
         where d.state <> 'ended'",
        &columns![claimed => |it| it.company().0, it.lease.key],
    )
    .await?;
    in_order(claimed.len(), &rows, read).into_iter().map(Option::transpose).collect()
}

fn read(row: &Row) -> Result<Delivery, Failure> {
    let purpose: &str = row.get(6);
    let unknown = || Failure::Refused(format!("delivery is for the unknown purpose `{purpose}`"));
    Ok(Delivery {
        company: CompanyId(row.get(1)),
        delivery: EventId(row.get(2)),
        attempt: row.get(3),
        of_round: row.get(4),
        unknowns: row.get(5),
        purpose: Purpose::named(purpose).ok_or_else(unknown)?,
        to: row.get(7),
        body: row.get(8),
        account: account(row),
    })
}

fn account(row: &Row) -> Option<SealedAccount> {
    let credentials = match row.get::<_, Option<&str>>(10)? {
        "token" => SealedCredentials::Token(row.get::<_, Option<Vec<u8>>>(11)?),
        _ => SealedCredentials::Login {
            email: row.get::<_, Option<String>>(12)?,
            password: row.get::<_, Option<Vec<u8>>>(13)?,
        },
    };
    Some(SealedAccount { base_url: row.get(9), credentials })
}

/// Stores attempts before they are made.
pub(super) async fn begin_attempts(
    tx: &Transaction<'_>,
    starting: &mut [(&Claimed, &mut Delivery)],
) -> Result<(), Error> {
    execute(
        tx,
        "with begun as (
           update secretaria.deliveries d
           set state = 'sending', attempts = d.attempts + 1
           from unnest($1::bigint[], $2::uuid[]) as it (company_id, delivery_id)
           where d.company_id = it.company_id and d.delivery_id = it.delivery_id
           returning d.company_id, d.delivery_id, d.attempts, d.attempts - d.round_began_at as of_round
         )
         insert into secretaria.delivery_attempts (company_id, delivery_id, attempt, of_round)
         select company_id, delivery_id, attempts, of_round from begun",
        &columns![starting => |(_, it)| it.company.0, it.delivery.0],
    )
    .await?;
    for (_, delivery) in starting {
        delivery.attempt += 1;
        delivery.of_round += 1;
    }
    Ok(())
}

/// A delivery that has ended, as it is published.
#[derive(Debug, Clone)]
pub(super) struct EndedDelivery {
    /// The index of its attempt among those that were passed in.
    pub(super) index: usize,
    pub(super) conversation: ConversationId,
    /// `None` where the conversation is not known.
    pub(super) contact: Option<ContactId>,
    pub(super) outcome: String,
    pub(super) took_ms: u64,
    /// Spread and epoch of its company's placement.
    pub(super) placement: (u16, i32),
}

/// Completes attempts and updates their deliveries; returns the deliveries that ended. An attempt that was completed
/// before stays as it is.
pub(super) async fn end_attempts(
    tx: &Transaction<'_>,
    attempts: &[Attempt<'_>],
    decided: &[(AttemptResult, Next)],
) -> Result<Vec<EndedDelivery>, Error> {
    let ends: Vec<_> = attempts.iter().zip(decided).collect();
    let rows = query(
        tx,
        "with ends as materialized (
           select *
           from unnest($1::bigint[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[])
             with ordinality as it (company_id, delivery_id, attempt, result, class, outcome, ord)
         ), completed as (
           update secretaria.delivery_attempts a
           set ended_at = now(), result = it.result, class = it.class
           from ends it
           where a.company_id = it.company_id and a.delivery_id = it.delivery_id and a.attempt = it.attempt
             and a.result is null
         ), moved as (
           update secretaria.deliveries d
           set state = case when it.outcome is null then 'waiting' else 'ended' end, outcome = it.outcome,
             unknowns = d.unknowns + (it.result = 'UNKNOWN')::int,
             ended_at = case when it.outcome is not null then now() end,
             record_key = case when it.outcome = 'sent' then null else d.record_key end,
             record_headers = case when it.outcome = 'sent' then null else d.record_headers end,
             record_payload = case when it.outcome = 'sent' then null else d.record_payload end
           from ends it
           where d.company_id = it.company_id and d.delivery_id = it.delivery_id
           returning it.ord, d.company_id, d.conversation_id, d.outcome, d.created_at
         )
         select m.ord, m.conversation_id, v.contact_id, m.outcome,
           (extract(epoch from now() - m.created_at) * 1000)::bigint, c.placement_spread, c.placement_epoch
         from moved m
         join secretaria.companies c using (company_id)
         left join secretaria.conversations v using (company_id, conversation_id)
         where m.outcome is not null
         order by m.ord",
        &columns![ends => |it|
            it.0.job.company.0, it.0.job.delivery.0, it.0.job.attempt, it.1.0.name("SENT"), it.0.output.class(),
            it.1.1.outcome().map(|it| it.name("sent"))],
    )
    .await?;
    Ok(rows.iter().map(read_ended).collect())
}

fn read_ended(row: &Row) -> EndedDelivery {
    EndedDelivery {
        index: ordinal(row),
        conversation: ConversationId(row.get(1)),
        contact: row.get::<_, Option<Uuid>>(2).map(ContactId),
        outcome: row.get(3),
        took_ms: u64::try_from(row.get::<_, i64>(4)).unwrap_or(0),
        placement: (u16::try_from(row.get::<_, i16>(5)).unwrap_or(placement::DEFAULT_SPREAD), row.get(6)),
    }
}
