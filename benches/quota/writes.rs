//! Increments: one by one with a commit each, on one counter and on many, and ten thousand in one call.
//!
//! *hot* is one counter of one company, which gets shards once its writers meet; *twin* is the PL/pgSQL
//! function on one row. *spread* is every counter alike. Bulk calls and the single ones they are compared with use
//! keys by the same law as the checks, on a ledger that holds lines already.

use anyhow::Context;
use platform::clock;
use tokio_postgres::Client;

use crate::{Args, Figures, pgbench};

/// Events of one bulk call.
const EVENTS: u32 = 10_000;
/// Writers at once, where they are many.
const WRITERS: u32 = 16;
/// Bulk calls of a round, of which the first warms up.
const CALLS: u32 = 10;

/// Everything back to where it was: counters, further rows, ledger; then some lines, so that it is not empty.
pub(crate) async fn reset(client: &Client, companies: u32) -> anyhow::Result<()> {
    client
        .batch_execute(
            "truncate secretaria.usage_events;
             delete from secretaria.outbox;
             delete from secretaria.feature_usage where slot > 0;
             update secretaria.feature_usage set used = 17, lent = 0, slots = 0, ceiling = limit_value
             where used <> 17 or slots > 0",
        )
        .await?;
    client.batch_execute("vacuum (analyze) secretaria.feature_usage").await?;
    for _ in 0..2 {
        book_together(client, "secretaria_reference", companies).await?;
    }
    Ok(client.batch_execute("checkpoint").await?)
}

/// One round of every variant. `schema` is whose functions are measured against those in PL/pgSQL.
pub(crate) async fn measure(
    client: &Client,
    url: &str,
    schema: &str,
    args: &Args,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let companies = args.companies;
    let one_row = format!("{url}&options=-c%20secretaria.slots%3Doff");
    let hot = "\\set c 1\n\\set f 1\n".to_owned();
    let spread = format!("\\set c random(1, {companies})\n\\set f random(1, 20)\n");
    let zipf = pgbench::keys(companies);
    for (name, url, keys, schema, clients) in [
        ("hot_twin", &one_row, &hot, "secretaria_reference", WRITERS),
        ("spread_twin", &one_row, &spread, "secretaria_reference", WRITERS),
        ("spread", &url.to_owned(), &spread, schema, WRITERS),
        ("hot", &url.to_owned(), &hot, schema, WRITERS),
        ("single", &url.to_owned(), &zipf, schema, 1),
    ] {
        let script = format!(
            "{keys}select accepted from {schema}.increment_feature_usage(:c, 'f' || :f, 1, gen_random_uuid()::text);\n"
        );
        let figure = pgbench::tps(url, &script, clients, 1, args)?;
        println!("  {name:<16} {figure:>9.0} increments/s");
        figures.entry(name).or_default().push(figure);
    }
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        calls.push(book_together(client, schema, companies).await?);
    }
    let bulk = crate::median(calls.get(1..).unwrap_or_default());
    println!("  {:<16} {bulk:>9.0} events/s", "bulk");
    figures.entry("bulk").or_default().push(bulk);
    Ok(())
}

/// Events a second of one call, its commit included.
async fn book_together(client: &Client, schema: &str, companies: u32) -> anyhow::Result<f64> {
    let prepare = format!(
        "drop table if exists bench.events;
         create table bench.events (
           companies bigint[], features text[], amounts bigint[], keys text[], instants timestamptz[]);
         alter table bench.events alter companies set storage external, alter features set storage external,
           alter amounts set storage external, alter keys set storage external, alter instants set storage external;
         insert into bench.events
         select array_agg(e.company) as companies, array_agg(e.feature) as features, array_agg(1::bigint) as amounts,
           array_agg(gen_random_uuid()::text) as keys, array_agg(statement_timestamp()) as instants
         from (
           select (select z.company from bench.zipf z where z.upto >= r.chance order by z.upto limit 1) as company,
             'f' || (1 + floor(random() * 20)::int) as feature
           from (select random() as chance from generate_series(1, {EVENTS}) offset 0) r
         ) e
         where e.company <= {companies}"
    );
    client.batch_execute(&prepare).await?;
    let call = format!(
        "select count(*) filter (where b.accepted)
         from bench.events e
         cross join lateral {schema}.increment_feature_usage_bulk(
           e.companies, e.features, e.amounts, e.keys, e.instants) b"
    );
    let began = clock::instant();
    let accepted: i64 = client.query_one(&call, &[]).await.context("bulk call")?.get(0);
    let took = began.elapsed();
    anyhow::ensure!(accepted == i64::from(EVENTS), "{accepted} of {EVENTS} events were accepted");
    Ok(f64::from(EVENTS) / took.as_secs_f64())
}
