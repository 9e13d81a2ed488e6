//! `GET /api/analytics/history?company_id=&period=week|month` — the last seven days, or the last eight ISO weeks, of a company's
//! own calendar, the current one included. Days without events are there, with zeros.

use analytics::series;
use axum::Json;
use axum::extract::State;
use domain::CompanyId;
use jiff::ToSpan;
use jiff::civil::Date;
use serde::Serialize;

use super::numbers::{Span, monday};
use crate::parameters::CompanyRequest;
use crate::{Api, Rejection, scoped};

/// The numbers of a company over the last days or weeks.
#[utoipa::path(
    get,
    path = "/api/analytics/history",
    operation_id = "show_history",
    tag = "company",
    params(
        ("company_id" = i64, Query, minimum = 1, example = 1, description = "The company."),
        ("period" = inline(Option<Period>), Query, example = "week",
            description = "`week`: seven days; `month`: eight weeks. Without it, `week`."),
    ),
    responses((status = 200, description = "The numbers, the earliest first.", body = History), Rejection),
)]
pub(crate) async fn answer(State(api): State<Api>, mut request: CompanyRequest) -> Result<Json<History>, Rejection> {
    let company = request.company;
    let period = match request.parameters.take("period")?.as_deref() {
        None | Some("week") => Period::Week,
        Some("month") => Period::Month,
        Some(_) => return Err(Rejection::parameter("period", "must be `week` or `month`")),
    };
    request.parameters.finish()?;
    let mut client = api.db.get().await?;
    let transaction = scoped::begin(&mut client, company).await?;
    let time_zone = scoped::time_zone(&transaction, company).await?;
    let now = (api.now)();
    let spans = period.spans(now.to_zoned(time_zone.clone()).date());
    let (first, last) = (spans[0].0, spans[spans.len() - 1].1);
    let days = series::days(&transaction, company, first, last).await?;
    let dirty = series::dirty(&transaction, first, last).await?;
    transaction.commit().await?;

    let spans =
        spans.iter().map(|&(from, to)| Span::of(from, to, &series::sum(&days, from, to).part, now, &time_zone, &dirty));
    let spans = spans.collect();
    Ok(Json(History {
        company_id: company,
        time_zone: time_zone.iana_name().unwrap_or("UTC").to_owned(),
        period,
        spans,
    }))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct History {
    #[schema(value_type = i64, minimum = 1, example = 1)]
    company_id: CompanyId,
    /// The IANA time zone in which the company's days begin.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: String,
    period: Period,
    /// Seven days or eight weeks, the earliest first; the last one is not over.
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Period {
    /// Seven days.
    Week,
    /// Eight weeks.
    Month,
}

impl Period {
    /// The first and the last day of each span, the earliest span first; the last one contains `today`.
    fn spans(self, today: Date) -> Vec<(Date, Date)> {
        match self {
            Period::Week => (0..7).rev().map(|it| today.saturating_sub(it.days())).map(|day| (day, day)).collect(),
            Period::Month => {
                let mondays = (0..8).rev().map(|it| monday(today).saturating_sub(it.weeks()));
                mondays.map(|it| (it, it.saturating_add(6.days()))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_span_contains_today() {
        let today: Date = "2026-11-25".parse().unwrap();
        let days = Period::Week.spans(today);
        assert_eq!((days.len(), days[0].0.to_string(), days[6]), (7, "2026-11-19".into(), (today, today)));
        let weeks = Period::Month.spans(today);
        assert_eq!(weeks.len(), 8);
        assert_eq!((weeks[7].0.to_string(), weeks[7].1.to_string()), ("2026-11-23".into(), "2026-11-29".into()));
        assert_eq!(weeks[0].0.to_string(), "2026-10-05");
        assert!(weeks.windows(2).all(|it| it[0].1.tomorrow().unwrap() == it[1].0));
    }
}
