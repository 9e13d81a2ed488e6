//! `GET /api/analytics/summary?company_id=` — today, this ISO week and this month of a company's own calendar, what is left of
//! its plan, and which limits are near or reached.
//!
//! The numbers are those of the rollups, some seconds old. The limits are those of this moment.

use analytics::series;
use axum::Json;
use axum::extract::State;
use domain::CompanyId;
use jiff::Timestamp;
use platform::postgres::query;
use serde::Serialize;

use super::numbers::{Span, monday};
use crate::parameters::CompanyRequest;
use crate::{Api, Rejection, scoped};

/// The numbers of a company today, this week and this month, and its limits.
#[utoipa::path(
    get,
    path = "/api/analytics/summary",
    operation_id = "summarise",
    tag = "company",
    params(("company_id" = i64, Query, minimum = 1, example = 1, description = "The company.")),
    responses((status = 200, description = "The numbers.", body = Summary), Rejection),
)]
pub(crate) async fn answer(State(api): State<Api>, request: CompanyRequest) -> Result<Json<Summary>, Rejection> {
    let company = request.company;
    request.parameters.finish()?;
    let mut client = api.db.get().await?;
    let transaction = scoped::begin(&mut client, company).await?;
    let time_zone = scoped::time_zone(&transaction, company).await?;
    let now = (api.now)();
    let today = now.to_zoned(time_zone.clone()).date();
    let (week, month) = (monday(today), today.first_of_month());
    let days = series::days(&transaction, company, week.min(month), today).await?;
    let dirty = series::dirty(&transaction, week.min(month), today).await?;
    let sql = "
        select feature, used, reserved, limit_value, remaining, soft_limit, nullif(period_end, 'infinity') as period_end
        from entitlements($1)
        where limit_value is not null
          and feature_kind = 'metered'
        order by feature";
    let rows = query(&transaction, sql, &[&company.0]).await?;
    transaction.commit().await?;

    let limits = rows.iter().map(|row| {
        Ok(Limit {
            feature: row.try_get("feature")?,
            used: row.try_get("used")?,
            reserved: row.try_get("reserved")?,
            limit: row.try_get("limit_value")?,
            remaining: row.try_get("remaining")?,
            is_soft: row.try_get("soft_limit")?,
            period_ends_at: row.try_get("period_end")?,
        })
    });
    let limits = limits.collect::<Result<Vec<Limit>, platform::postgres::Error>>()?;
    let span = |from| Span::of(from, today, &series::sum(&days, from, today).part, now, &time_zone, &dirty);
    Ok(Json(Summary {
        company_id: company,
        time_zone: time_zone.iana_name().unwrap_or("UTC").to_owned(),
        changed_at: days.values().filter_map(|it| it.computed_at).max(),
        today: span(today),
        week: span(week),
        month: span(month),
        alerts: limits.iter().filter_map(Limit::alert).collect(),
        limits,
    }))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Summary {
    #[schema(value_type = i64, minimum = 1, example = 1)]
    company_id: CompanyId,
    /// The IANA time zone in which the company's days begin.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: String,
    /// When one of the numbers last changed; null without any this week and this month.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Timestamp>,
    today: Span,
    /// From Monday to today.
    week: Span,
    /// From the first to today.
    month: Span,
    /// What is counted against the plan, by feature.
    limits: Vec<Limit>,
    /// The limits of which 80 % or all is used.
    alerts: Vec<LimitAlert>,
}

#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct Limit {
    feature: String,
    used: i64,
    /// Held for calls that run now.
    reserved: i64,
    limit: i64,
    remaining: Option<i64>,
    /// Whether usage may go beyond the limit.
    is_soft: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    period_ends_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
struct LimitAlert {
    feature: String,
    /// 80 or 100: the part of the limit that is used, in per cent.
    threshold: i64,
}

impl Limit {
    fn alert(&self) -> Option<LimitAlert> {
        let is_past = |per_cent: i64| i128::from(self.used) * 100 >= i128::from(self.limit) * i128::from(per_cent);
        let threshold = [100, 80].into_iter().find(|it| is_past(*it))?;
        Some(LimitAlert { feature: self.feature.clone(), threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_alerts_from_eighty_per_cent_on() {
        let threshold = |used: i64, limit: i64| {
            let limit = Limit {
                feature: "ai_tokens".into(),
                used,
                reserved: 0,
                limit,
                remaining: None,
                is_soft: false,
                period_ends_at: None,
            };
            limit.alert().map(|it| it.threshold)
        };
        assert_eq!(threshold(79, 100), None);
        assert_eq!(threshold(80, 100), Some(80));
        assert_eq!(threshold(100, 100), Some(100));
        assert_eq!(threshold(i64::MAX, i64::MAX), Some(100));
        assert_eq!(threshold(0, 0), Some(100), "a limit of nothing is reached");
    }
}
