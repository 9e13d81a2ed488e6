//! `GET /api/analytics/export?company_id=&format=csv|xlsx&from=&to=` — a company's report as a file.
//!
//! The plan must have the feature `analytics_export`; the quota functions decide, in the request's own transaction.

use analytics::reports::{self, Format, Report};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::ToSpan;
use platform::postgres::query;

use crate::parameters::CompanyRequest;
use crate::{Api, Rejection, scoped};

/// How many rows the report's days have.
const ROWS: HeaderName = HeaderName::from_static("x-report-rows");
/// Whether every day of it was over.
const FINAL: HeaderName = HeaderName::from_static("x-report-final");

/// A report of a company's days as a file.
#[utoipa::path(
    get,
    path = "/api/analytics/export",
    operation_id = "export_report",
    tag = "company",
    params(
        ("company_id" = i64, Query, minimum = 1, example = 1, description = "The company."),
        ("format" = inline(Option<ExportFormat>), Query, example = "csv",
            description = "`csv`: the days, a line each; `xlsx`: a workbook with summary, charts, days, outcomes and models. Without it, `csv`."),
        ("from" = Option<Date>, Query, example = "2026-03-01",
            description = "The first day. Without it, thirty days up to `to`."),
        ("to" = Option<Date>, Query, example = "2026-03-31",
            description = "The last day, included, at most 1100 days from `from`. Without it, today where the company is."),
    ),
    responses(
        (status = 200, description = "The file.", content(
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        )),
        Rejection,
    ),
)]
pub(crate) async fn answer(State(api): State<Api>, mut request: CompanyRequest) -> Result<Response, Rejection> {
    let company = request.company;
    let format = match request.parameters.take("format")?.as_deref() {
        None => Format::Csv,
        Some(name) => Format::named(name).ok_or(Rejection::parameter("format", "must be `csv` or `xlsx`"))?,
    };
    let (from, to) = (request.parameters.day("from")?, request.parameters.day("to")?);
    request.parameters.finish()?;
    let mut client = api.db.get().await?;
    let transaction = scoped::begin(&mut client, company).await?;
    let time_zone = scoped::time_zone(&transaction, company).await?;
    let sql = "select allowed, reason from check_feature_access($1, 'analytics_export')";
    let rows = query(&transaction, sql, &[&company.0]).await?;
    if !rows.first().map_or(Ok(false), |it| it.try_get::<_, bool>("allowed"))? {
        return Err(Rejection::FeatureUnavailable { feature: "analytics_export" });
    }
    let now = (api.now)();
    let to = to.unwrap_or_else(|| now.to_zoned(time_zone).date());
    let from = from.unwrap_or_else(|| to.saturating_sub(29.days()));
    let report = Report::read(&transaction, company, (from, to), now).await.map_err(refused)?;
    transaction.commit().await?;

    let (rows, is_final, name) = (report.rows(), report.is_final, report.file_name(format));
    // Compressing a workbook takes some milliseconds of CPU, which are not for the threads that serve.
    let written = tokio::task::spawn_blocking(move || report.write(format)).await;
    let file = written.map_err(|_| Rejection::Export)?.map_err(refused)?;
    let disposition =
        HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).map_err(|_| Rejection::Export)?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        (CONTENT_DISPOSITION, disposition),
        (ROWS, HeaderValue::from(rows)),
        (FINAL, HeaderValue::from_static(if is_final { "true" } else { "false" })),
    ];
    Ok((StatusCode::OK, headers, file).into_response())
}

fn refused(problem: reports::Error) -> Rejection {
    match problem {
        reports::Error::UnknownCompany => Rejection::UnknownCompany,
        reports::Error::Span { .. } => Rejection::parameter("to", "must be 1 to 1100 days from `from`, both included"),
        reports::Error::Postgres(failure) => failure.into(),
        problem => {
            tracing::error!(error = platform::telemetry::chain(&problem), "report not written");
            Rejection::Export
        }
    }
}

/// The formats, for the document.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is only described")]
enum ExportFormat {
    Csv,
    Xlsx,
}
