//! A change of plan costs the same in Rust and in PL/pgSQL.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::oracle::{BillingPeriod, Cadence, Calendar, Period, Price, Refusal, prorate};
use crate::support::{Database, company, refused, subscribe};

/// Prices, currencies and intervals of the plans that are changed between.
const PLANS: &[(i64, &str, &str)] = &[
    (0, "BRL", "month"),
    (1, "BRL", "month"),
    (9_900, "BRL", "month"),
    (29_900, "BRL", "month"),
    (118_801, "BRL", "year"),
    (i64::MAX, "BRL", "year"),
    (9_900, "USD", "month"),
];

/// Of one subscription: instants in many of its periods, the boundary of one and the second before it among them.
const INSTANTS: &str = "
select date_trunc('second', timestamptz '2026-01-31 13:00Z') + n * interval '13 days 7 hours 41 minutes 3.5 seconds'
from generate_series(0, 40) n
union all
values (timestamptz '2026-02-28 13:00Z'), ('2026-02-28 12:59:59Z'), ('2027-01-31 12:59:59.999999Z')
order by 1";

fn billing_period(interval: &str, at: Timestamp) -> BillingPeriod {
    let anchor_at = "2026-01-31T13:00:00Z".parse().unwrap(); // The anchor of `subscribe`.
    let zone = TimeZone::get("America/Sao_Paulo").unwrap();
    let calendar = Calendar::new(anchor_at, zone, Cadence::named(interval).unwrap());
    match calendar.period_at(at).unwrap() {
        Period::Between { start_at, end_at } => BillingPeriod { start_at, end_at },
        Period::Always => panic!("a billing interval ends"),
    }
}

#[tokio::test]
async fn both_languages_bill_a_change_alike() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let mut versions = Vec::new();
    for (index, (price_minor, currency, interval)) in PLANS.iter().enumerate() {
        let make = format!(
            "with p as (insert into secretaria.plans (code, name) values ('p{index}', 'P') returning plan_id)
            insert into secretaria.plan_versions
              (plan_id, version, price_minor, currency, billing_interval, state, published_at)
            select plan_id, 1, {price_minor}, '{currency}', '{interval}', 'published', now() from p
            returning plan_version_id"
        );
        versions.push(client.query_one(&make, &[]).await.unwrap().get::<_, i64>(0));
    }
    let instants: Vec<Timestamp> = client.query(INSTANTS, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let lines = "select l.line, l.amount_minor
        from secretaria_reference._change_lines($1, $2, $3, $4) l
        order by l.line desc";
    let (mut compared, mut foreign) = (0, 0);
    for (held, from) in PLANS.iter().zip(&versions) {
        let company = company(&client).await;
        let subscription = subscribe(&client, company, *from).await;
        for (sold, to) in PLANS.iter().zip(&versions) {
            for at in &instants {
                let price = |(price_minor, currency, interval): &(i64, &'static str, &str)| {
                    (Price { price_minor: *price_minor, currency }, billing_period(interval, *at))
                };
                let expected = match prorate(price(held), price(sold), *at) {
                    Ok(change) => change,
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::CurrenciesDiffer);
                        assert_eq!(refused(&client, lines, &[&company, &subscription, to, at]).await, "22023");
                        foreign += 1;
                        continue;
                    }
                };
                let rows = client.query(lines, &[&company, &subscription, to, at]).await.unwrap();
                let billed: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
                let expected = expected.lines.map(|it| (it.name().to_owned(), it.amount_minor()));
                assert_eq!(billed, expected, "{held:?} to {sold:?} at {at}");
                compared += 1;
            }
        }
    }
    assert!(compared > 1_500 && foreign > 400, "{compared} and {foreign} changes");
}
