//! Increments: one by one with a commit each, and ten thousand in one call.

use anyhow::Context;
use platform::clock;
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

use crate::{Args, median, pgbench, rounded};

/// Events of one bulk call.
const EVENTS: u32 = 10_000;

/// `bulk_events_per_s`, `single_events_per_s` and their ratio, on a ledger that already holds as many lines as calls
/// of both kinds will add.
pub(crate) async fn measure(client: &Client, url: &str, args: &Args) -> anyhow::Result<Map<String, Value>> {
    let (mut bulk, mut single) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let figure = book_together(client, args.companies, round).await?;
        // The first fills the ledger and warms the plans.
        if round == 0 {
            continue;
        }
        bulk.push(figure);
        let script = format!(
            "\\set c random(1, {})\n\\set f random(1, 20)\n\
             select accepted from secretaria_reference.increment_feature_usage(\
             :c, 'f' || :f, 1, 'single-{round}-' || :client_id || '-' || gen_random_uuid());\n",
            args.companies
        );
        single.push(pgbench::tps(url, &script, 1, args)?);
        println!(
            "round {round} of {}: {:>9.0} events/s in bulk, {:>7.0} one by one",
            args.rounds,
            bulk.last().copied().unwrap_or_default(),
            single.last().copied().unwrap_or_default()
        );
    }
    let mut line = Map::new();
    line.insert("bulk_vs_single".into(), json!(rounded(median(&bulk) / median(&single))));
    line.insert("bulk_events_per_s".into(), json!(median(&bulk).round()));
    line.insert("single_events_per_s".into(), json!(median(&single).round()));
    Ok(line)
}

/// Events a second of one call, its commit included.
async fn book_together(client: &Client, companies: u32, round: u32) -> anyhow::Result<f64> {
    let prepare = format!(
        "drop table if exists bench.events;
         create table bench.events as
         select array_agg(1 + floor(random() * {companies})::bigint) as companies,
           array_agg('f' || (1 + floor(random() * 20)::int)) as features, array_agg(1::bigint) as amounts,
           array_agg('bulk-{round}-' || n) as keys, array_agg(statement_timestamp()) as instants
         from generate_series(1, {EVENTS}) n"
    );
    client.batch_execute(&prepare).await?;
    let call = "select count(*) filter (where b.accepted)
                from bench.events e
                cross join lateral secretaria_reference.increment_feature_usage_bulk(
                  e.companies, e.features, e.amounts, e.keys, e.instants) b";
    let began = clock::instant();
    let accepted: i64 = client.query_one(call, &[]).await.context("bulk call")?.get(0);
    let took = began.elapsed();
    anyhow::ensure!(accepted == i64::from(EVENTS), "{accepted} of {EVENTS} events were accepted");
    Ok(f64::from(EVENTS) / took.as_secs_f64())
}
