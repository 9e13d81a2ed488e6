//! metering's SQL: the ledger and its sums, in one statement, so that a line is in both or in neither.

use jiff::Timestamp;
use platform::postgres::{Transaction, execute};
use tokio_postgres::Error;

use super::decide::Line;

/// Books lines; a line whose key is in the ledger already changes nothing. The day is the company's own.
///
/// Rows are touched in key order, so that two processes cannot lock each other out.
pub(super) async fn book(tx: &Transaction<'_>, lines: &[Line]) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let companies: Vec<i64> = lines.iter().map(|it| it.company.0).collect();
    let keys: Vec<&str> = lines.iter().map(|it| it.idempotency_key.as_str()).collect();
    let facts: Vec<&str> = lines.iter().map(|it| it.fact).collect();
    let models: Vec<&str> = lines.iter().map(|it| it.model.as_str()).collect();
    let amounts: Vec<i64> = lines.iter().map(|it| it.amount).collect();
    let read: Vec<i64> = lines.iter().map(|it| it.tokens_in).collect();
    let written: Vec<i64> = lines.iter().map(|it| it.tokens_out).collect();
    let cached: Vec<i64> = lines.iter().map(|it| it.tokens_cached).collect();
    let instants: Vec<Timestamp> = lines.iter().map(|it| it.occurred_at).collect();
    execute(
        tx,
        "with booked as (
           insert into secretaria.usage_events
             (company_id, idempotency_key, fact, model, amount, tokens_in, tokens_out, tokens_cached, occurred_at, day)
           select it.company_id, it.idempotency_key, it.fact, it.model, it.amount, it.tokens_in, it.tokens_out,
             it.tokens_cached, it.occurred_at, (it.occurred_at at time zone coalesce(c.time_zone, 'UTC'))::date
           from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                       $8::bigint[], $9::timestamptz[])
             as it (company_id, idempotency_key, fact, model, amount, tokens_in, tokens_out, tokens_cached, occurred_at)
           left join secretaria.companies c using (company_id)
           order by it.company_id, it.idempotency_key
           on conflict do nothing
           returning company_id, fact, model, day, amount, tokens_in, tokens_out, tokens_cached
         )
         insert into secretaria.usage_totals as t (company_id, metric, model, day, amount)
         select b.company_id, m.metric, b.model, b.day, sum(m.amount)
         from booked b
         cross join lateral (values
           (b.fact, case when b.fact = 'model_tokens' then 0 else b.amount end),
           ('tokens_in', b.tokens_in),
           ('tokens_out', b.tokens_out),
           ('tokens_cached', b.tokens_cached)
         ) as m (metric, amount)
         where m.metric <> 'model_tokens' and m.amount > 0
         group by b.company_id, m.metric, b.model, b.day
         order by b.company_id, m.metric, b.model, b.day
         on conflict (company_id, metric, model, day) do update
         set amount = t.amount + excluded.amount",
        &[&companies, &keys, &facts, &models, &amounts, &read, &written, &cached, &instants],
    )
    .await?;
    Ok(())
}
