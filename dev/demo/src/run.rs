//! One run of the demo: its settings and clients, and what makes its ids differ from those of every other run.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use api::auth::{Keys, Scope};
use domain::CompanyId;
use jiff::Timestamp;
use platform::clock;
use platform::postgres::{Db, Row, ToSql, query};
use secretaria::Settings;
use serde_json::Value;

pub(crate) struct Run {
    pub(crate) began: Timestamp,
    pub(crate) settings: Settings,
    /// As the operator, who sees every company.
    pub(crate) db: Db,
    pub(crate) http: reqwest::Client,
    /// The sandbox's address, as a URL without a slash at the end.
    pub(crate) sandbox: String,
    keys: Keys,
}

impl Run {
    /// Reads the settings; connects to nothing yet.
    pub(crate) fn begin(sandbox: SocketAddr) -> anyhow::Result<Self> {
        let settings = Settings::load(None)?;
        let db = Db::new(&settings.postgres.operator_url, &settings.postgres, "demo")?;
        let keys = Keys::from_pkcs8_file(&settings.keys.signing_key()).context("`secretaria migrate` makes the key")?;
        // Everything is on this machine: a proxy could only be in the way.
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?;
        Ok(Run { began: clock::now(), settings, db, http, sandbox: format!("http://{sandbox}"), keys })
    }

    /// Where `secretaria` answers that path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.settings.http.listen)
    }

    pub(crate) async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> anyhow::Result<Vec<Row>> {
        Ok(query(&self.db.get().await?, sql, parameters).await?)
    }

    /// Asks the API as that company.
    pub(crate) async fn ask(&self, company: CompanyId, path: &str) -> anyhow::Result<Value> {
        let token = self.keys.issue(company, Scope::Company, clock::now(), Duration::from_secs(300))?;
        let answer = self.http.get(self.url(path)).bearer_auth(token).send().await?;
        let answer = answer.error_for_status().with_context(|| format!("GET {path}"))?;
        answer.json().await.with_context(|| format!("GET {path}: not the answer that was expected"))
    }
}

/// Six digits that no run of the last eleven days has had.
pub(crate) fn digits(began: Timestamp) -> String {
    format!("{:06}", began.as_second() % 1_000_000)
}
