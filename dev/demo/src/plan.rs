//! What a company's plan says and what is left of it, as any SQL caller asks.

use domain::CompanyId;
use platform::postgres::query;

use crate::stage::Stage;

/// A metered feature of a company.
#[derive(Clone)]
pub(crate) struct Metered {
    pub(crate) feature: String,
    pub(crate) used: i64,
    /// `None`: no limit.
    pub(crate) limit: Option<i64>,
    pub(crate) remaining: Option<i64>,
}

/// The metered features that the company has, by name.
pub(crate) async fn of(stage: &Stage, company: CompanyId) -> anyhow::Result<Vec<Metered>> {
    let sql = "
        select feature, used, limit_value, remaining
        from entitlements($1)
        where feature_kind = 'metered'
          and allowed";
    let rows = query(&stage.db.get().await?, sql, &[&company.0]).await?;
    let read = |row: &platform::postgres::Row| Metered {
        feature: row.get(0),
        used: row.get(1),
        limit: row.get(2),
        remaining: row.get(3),
    };
    Ok(rows.iter().map(read).collect())
}

/// Where a counter is not the sum of its ledger, or a stored decision is not what plan, status and overrides say.
pub(crate) async fn drift(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let sql = "
        select format('company %s %s: counter %s, ledger %s', company_id, feature, counter, ledger)
        from verify_usage()
        union all
        select format('company %s %s: %s is %s, resolved %s', company_id, feature, field, stored, resolved)
        from verify_entitlements()";
    let rows = query(&stage.db.get().await?, sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
