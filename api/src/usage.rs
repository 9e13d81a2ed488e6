//! `GET /api/usage?company_id=&from=&to=` — what a company used, in its own days: totals, by model, by day.
//!
//! Reads `usage_totals`. `to` is inclusive; the default is the current month in the company's time zone. A day without
//! usage has no entry.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use domain::CompanyId;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use platform::postgres::query;
use serde::Serialize;

use crate::parameters::{CompanyRequest, Parameters};
use crate::{Api, Rejection, scoped};

/// How many days a response covers at most.
const MAX_DAYS: i32 = 366;

/// What a company used between two days, both included, in its own time zone.
#[utoipa::path(
    get,
    path = "/api/usage",
    operation_id = "show_usage",
    tag = "company",
    params(
        ("company_id" = i64, Query, minimum = 1, example = 1, description = "The company."),
        ("from" = Option<Date>, Query, example = "2026-03-01",
            description = "The first day. Without it, the first of the month of `to`."),
        ("to" = Option<Date>, Query, example = "2026-03-31",
            description = "The last day, at most 366 days from `from`, both included. Without it, the last of the current month."),
    ),
    responses((status = 200, description = "The usage; a day without any has no entry.", body = Usage), Rejection),
)]
pub(crate) async fn answer(State(api): State<Api>, request: CompanyRequest) -> Result<Json<Usage>, Rejection> {
    let company = request.company;
    let range = DayRange::read(request.parameters)?;
    let mut client = api.db.get().await?;
    let transaction = scoped::begin(&mut client, company).await?;
    let time_zone = scoped::time_zone(&transaction, company).await?;
    let (from, to) = range.days_at((api.now)(), &time_zone)?;
    let sql = "
        select metric, model, day, amount
        from usage_totals
        where company_id = $1
          and day between $2 and $3";
    let rows = query(&transaction, sql, &[&company.0, &from, &to]).await?;
    transaction.commit().await?;

    let mut usage = Usage::of(company, from, to, &time_zone);
    for row in rows {
        usage.count(row.try_get("metric")?, row.try_get("model")?, row.try_get("day")?, row.try_get("amount")?);
    }
    Ok(Json(usage))
}

/// What a company used.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Usage {
    #[schema(value_type = i64, minimum = 1, example = 1)]
    company_id: CompanyId,
    from: Date,
    to: Date,
    /// The IANA time zone in which the company's days begin.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: String,
    totals: Totals,
    /// By model, in the order of their names.
    #[schema(value_type = Vec<ModelTokens>)]
    #[serde(serialize_with = "values")]
    models: BTreeMap<String, ModelTokens>,
    /// By day, the earliest first.
    #[schema(value_type = Vec<Day>)]
    #[serde(serialize_with = "values")]
    days: BTreeMap<Date, Day>,
}

#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
struct Totals {
    messages_in: i64,
    messages_out: i64,
    tokens_in: i64,
    tokens_out: i64,
    tokens_cached: i64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ModelTokens {
    model: String,
    tokens_in: i64,
    tokens_out: i64,
    tokens_cached: i64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Day {
    day: Date,
    messages_in: i64,
    messages_out: i64,
    tokens_in: i64,
    tokens_out: i64,
}

impl Usage {
    fn of(company_id: CompanyId, from: Date, to: Date, time_zone: &TimeZone) -> Self {
        Usage {
            company_id,
            from,
            to,
            time_zone: time_zone.iana_name().unwrap_or("UTC").to_owned(),
            totals: Totals::default(),
            models: BTreeMap::new(),
            days: BTreeMap::new(),
        }
    }

    /// Adds one row; metrics that the response does not show are skipped.
    fn count(&mut self, metric: &str, model: &str, day: Date, amount: i64) {
        let Usage { totals, models, days, .. } = self;
        let day = days.entry(day).or_insert(Day { day, messages_in: 0, messages_out: 0, tokens_in: 0, tokens_out: 0 });
        match metric {
            "message_in" => add(amount, [&mut totals.messages_in, &mut day.messages_in]),
            "message_out" => add(amount, [&mut totals.messages_out, &mut day.messages_out]),
            "tokens_in" => {
                add(amount, [&mut totals.tokens_in, &mut day.tokens_in, &mut of_model(models, model).tokens_in])
            }
            "tokens_out" => {
                add(amount, [&mut totals.tokens_out, &mut day.tokens_out, &mut of_model(models, model).tokens_out])
            }
            "tokens_cached" => add(amount, [&mut totals.tokens_cached, &mut of_model(models, model).tokens_cached]),
            _ => {}
        }
    }
}

fn of_model<'a>(models: &'a mut BTreeMap<String, ModelTokens>, model: &str) -> &'a mut ModelTokens {
    let fresh = || ModelTokens { model: model.to_owned(), tokens_in: 0, tokens_out: 0, tokens_cached: 0 };
    models.entry(model.to_owned()).or_insert_with(fresh)
}

fn add<const N: usize>(amount: i64, sums: [&mut i64; N]) {
    for sum in sums {
        *sum = sum.saturating_add(amount);
    }
}

/// A map as the list of its values, in the order of its keys.
fn values<K, V: Serialize, S: serde::Serializer>(map: &BTreeMap<K, V>, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(map.values())
}

/// The parameters `from` and `to`.
#[derive(Debug)]
struct DayRange {
    from: Option<Date>,
    to: Option<Date>,
}

impl DayRange {
    fn read(mut parameters: Parameters) -> Result<Self, Rejection> {
        let range = DayRange { from: parameters.day("from")?, to: parameters.day("to")? };
        parameters.finish()?;
        Ok(range)
    }

    /// Without `to`, the end of the current month in that time zone; without `from`, the beginning of the month of `to`.
    fn days_at(&self, now: Timestamp, time_zone: &TimeZone) -> Result<(Date, Date), Rejection> {
        let to = self.to.unwrap_or_else(|| now.to_zoned(time_zone.clone()).date().last_of_month());
        let from = self.from.unwrap_or_else(|| to.first_of_month());
        if from > to {
            return Err(Rejection::parameter("from", "must not be after `to`"));
        }
        match (to - from).get_days() < MAX_DAYS {
            true => Ok((from, to)),
            false => Err(Rejection::parameter("to", "must be at most 366 days from `from`, both included")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(from: Option<&str>, to: Option<&str>, now: &str) -> Result<String, String> {
        let parse = |text: Option<&str>| text.map(|it| it.parse().unwrap());
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let days = DayRange { from: parse(from), to: parse(to) }.days_at(now.parse().unwrap(), &zone);
        days.map(|(from, to)| format!("{from}..{to}")).map_err(|it| it.to_string())
    }

    #[test]
    fn the_current_month_is_that_of_the_companys_time_zone() {
        assert_eq!(days(None, None, "2026-03-01T02:59:59Z").unwrap(), "2026-02-01..2026-02-28", "still February there");
        assert_eq!(days(None, None, "2026-03-01T03:00:00Z").unwrap(), "2026-03-01..2026-03-31");
    }

    #[test]
    fn a_missing_end_of_the_range_follows_the_other_one() {
        let now = "2026-03-15T12:00:00Z";
        assert_eq!(days(Some("2026-02-10"), None, now).unwrap(), "2026-02-10..2026-03-31");
        assert_eq!(days(None, Some("2026-01-10"), now).unwrap(), "2026-01-01..2026-01-10");
        assert_eq!(days(Some("2026-04-02"), None, now).unwrap_err(), "from: must not be after `to`");
    }

    #[test]
    fn a_leap_year_fits_and_a_day_more_does_not() {
        let now = "2026-03-15T12:00:00Z";
        assert_eq!(days(Some("2024-01-01"), Some("2024-12-31"), now).unwrap(), "2024-01-01..2024-12-31");
        assert!(days(Some("2024-01-01"), Some("2025-01-01"), now).unwrap_err().starts_with("to:"));
        assert!(days(Some("0001-01-01"), Some("9999-12-31"), now).unwrap_err().starts_with("to:"));
        assert_eq!(days(Some("2026-01-01"), Some("2026-01-01"), now).unwrap(), "2026-01-01..2026-01-01");
    }

    #[test]
    fn rows_add_up_the_same_way_by_day_by_model_and_in_all() {
        let day = |text: &str| text.parse().unwrap();
        let mut usage = Usage::of(CompanyId(1), day("2026-03-01"), day("2026-03-31"), &TimeZone::UTC);
        usage.count("tokens_in", "b", day("2026-03-02"), 5);
        usage.count("tokens_in", "a", day("2026-03-01"), 7);
        usage.count("tokens_cached", "a", day("2026-03-01"), 3);
        usage.count("tokens_out", "a", day("2026-03-02"), 2);
        usage.count("message_in", "", day("2026-03-02"), 1);
        let shown = serde_json::to_value(&usage).unwrap();
        assert_eq!(shown["totals"]["tokens_in"], 12);
        assert_eq!(shown["models"][0], serde_json::json!({"model":"a","tokens_in":7,"tokens_out":2,"tokens_cached":3}));
        assert_eq!(shown["models"].as_array().unwrap().len(), 2, "a message has no model");
        assert_eq!(
            shown["days"][1],
            serde_json::json!({"day":"2026-03-02","messages_in":1,"messages_out":0,"tokens_in":5,"tokens_out":2})
        );
    }
}
