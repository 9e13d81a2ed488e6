//! Registers the companies. Safe to repeat: the second time changes what is given.

use std::time::Duration;

use anyhow::Context;
use api::companies::{self, Auth, ChangeWebhook, Channel, NewCompany};
use domain::CompanyId;
use platform::clock;
use platform::egress::Policy;
use platform::seal::{self, Sealer};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::providers;
use crate::run::Run;
use crate::scenario::{Bridge, Company};

/// A company that is registered.
pub(crate) struct Registered {
    pub(crate) id: CompanyId,
    pub(crate) domain: String,
    pub(crate) name: String,
    pub(crate) time_zone: String,
    pub(crate) fallback_text: String,
    /// Signs its hooks.
    pub(crate) secret: SecretString,
    alerts_to_sandbox: bool,
}

/// Adds them, or brings them to what the data says.
pub(crate) async fn register(run: &Run, companies: Vec<Company>) -> anyhow::Result<Vec<Registered>> {
    let sealer = sealer(run)?;
    let mut registered = Vec::new();
    for company in companies {
        let password = SecretString::from(hex::encode(seal::random_bytes::<16>()?));
        let auth = match company.bridge {
            Bridge::Token => Auth::Token(password),
            Bridge::Login(email) => Auth::Login { email, password },
        };
        let new = NewCompany {
            domain: company.domain.clone(),
            name: Some(company.name.clone()),
            time_zone: Some(company.time_zone.clone()),
            assistant_prompt: Some(company.assistant_prompt),
            fallback_text: Some(company.fallback_text.clone()),
            channel: Some(Channel { base_url: run.sandbox.clone(), auth }),
            ..NewCompany::default()
        };
        let added = companies::add(&run.db, &sealer, new).await;
        let added = added.with_context(|| format!("{} cannot be added; is the stack running?", company.name))?;
        registered.push(Registered {
            id: added.company_id,
            domain: company.domain,
            name: company.name,
            time_zone: company.time_zone,
            fallback_text: company.fallback_text,
            secret: added.webhook_secret,
            alerts_to_sandbox: company.alerts_to_sandbox,
        });
    }
    Ok(registered)
}

/// Gives them their receivers in the sandbox.
pub(crate) async fn receive_alerts(run: &Run, companies: &[Registered]) -> anyhow::Result<()> {
    let sealer = sealer(run)?;
    for Registered { domain, .. } in companies.iter().filter(|it| it.alerts_to_sandbox) {
        let url = format!("{}/webhooks/{domain}", run.sandbox);
        // The secret of an earlier run was shown to that run only, so there is a new one.
        let change = ChangeWebhook { url: Some(url), rotate: Some(Duration::ZERO), off: false };
        let webhook =
            companies::change_webhook(&run.db, &sealer, domain, change, clock::now(), Policy::Anywhere).await?;
        let secret = webhook.new_secret.context("a rotated secret is shown")?;
        providers::post(run, &format!("/webhooks/{domain}"), &json!({ "secrets": [secret.expose_secret()] })).await?;
    }
    Ok(())
}

fn sealer(run: &Run) -> anyhow::Result<Sealer> {
    Ok(Sealer::from_file(&run.settings.keys.key_encryption_key())?)
}
