//! What every step of the demo stands on: settings, database, HTTP, and what makes this run's ids its own.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use api::auth::{Keys, Scope};
use domain::CompanyId;
use jiff::Timestamp;
use platform::clock;
use platform::postgres::Db;
use secretaria::Settings;
use serde::de::DeserializeOwned;

/// The stage.
pub(crate) struct Stage {
    pub(crate) settings: Settings,
    /// As the operator, who sees every company.
    pub(crate) db: Db,
    pub(crate) http: reqwest::Client,
    /// The sandbox's address, as a URL without a slash at the end.
    pub(crate) sandbox: String,
    pub(crate) run: Run,
    /// The file of URLs that a person sources.
    pub(crate) env: String,
    keys: Keys,
}

impl Stage {
    /// Reads the settings; talks to nobody yet.
    pub(crate) fn open(sandbox: SocketAddr, shift: u16) -> anyhow::Result<Self> {
        let settings = Settings::load(None)?;
        let db = Db::new(&settings.postgres.operator_url, &settings.postgres, "demo")?;
        let keys = Keys::from_pkcs8_file(&settings.keys.signing_key()).context("`secretaria migrate` makes the key")?;
        // Everything is on this machine: a proxy could only be in the way.
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?;
        let run = Run { began: clock::now() };
        let env = if shift == 0 { ".local/env".to_owned() } else { format!(".local/shift-{shift}/env") };
        Ok(Stage { settings, db, http, sandbox: format!("http://{sandbox}"), run, env, keys })
    }

    /// Where `secretaria` answers that path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.settings.http.listen)
    }

    /// The `secretaria` that was built beside this program, as a person in the same folder would call it.
    pub(crate) fn binary(&self) -> String {
        let beside = std::env::current_exe().map(|it| it.with_file_name("secretaria")).unwrap_or_default();
        let here = std::env::current_dir().unwrap_or_default();
        beside.strip_prefix(&here).unwrap_or(&beside).display().to_string()
    }

    /// Asks the API as that company.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, company: CompanyId, path: &str) -> anyhow::Result<T> {
        let token = self.keys.issue(company, Scope::Company, clock::now(), Duration::from_secs(300))?;
        let answer = self.http.get(self.url(path)).bearer_auth(token).send().await?;
        let answer = answer.error_for_status().with_context(|| format!("GET {path}"))?;
        answer.json().await.with_context(|| format!("GET {path}: not the answer that was expected"))
    }
}

/// This run, told apart from every other by the second it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) began: Timestamp,
}

impl Run {
    /// Six digits that no run of the last eleven days has had.
    pub(crate) fn digits(&self) -> String {
        format!("{:06}", self.began.as_second() % 1_000_000)
    }

    /// A mobile number that cannot be anybody's: there is no area 20 in Brazil.
    pub(crate) fn phone(&self, contact: u8) -> String {
        format!("55209{}{contact:02}", self.digits())
    }

    /// The id WhatsApp hides a number behind.
    pub(crate) fn lid(&self, contact: u8) -> String {
        format!("116900{}{contact:02}@lid", self.digits())
    }

    /// A message id in WhatsApp's form.
    pub(crate) fn message_id(&self, number: u16) -> String {
        format!("3EB0{:08X}{number:04X}", self.began.as_second())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits())
    }
}
