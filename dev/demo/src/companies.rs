//! Registers a company. Safe to repeat: the second time changes what is given.

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
    pub(crate) company: Company,
    pub(crate) id: CompanyId,
    /// Signs its hooks.
    pub(crate) secret: SecretString,
}

/// Adds it, or brings it to what the data says.
pub(crate) async fn register(run: &Run, company: Company) -> anyhow::Result<Registered> {
    let password = SecretString::from(hex::encode(seal::random_bytes::<16>()?));
    let auth = match &company.bridge {
        Bridge::Token => Auth::Token(password),
        Bridge::Login(email) => Auth::Login { email: email.clone(), password },
    };
    let new = NewCompany {
        domain: company.domain.clone(),
        name: Some(company.name.clone()),
        time_zone: Some(company.time_zone.clone()),
        assistant_prompt: Some(company.assistant_prompt.clone()),
        fallback_text: Some(company.fallback_text.clone()),
        channel: Some(Channel { base_url: run.sandbox.clone(), auth }),
        ..NewCompany::default()
    };
    let added = companies::add(&run.db, &sealer(run)?, new).await;
    let added = added.with_context(|| format!("{} cannot be added; is the stack running?", company.name))?;
    Ok(Registered { company, id: added.company_id, secret: added.webhook_secret })
}

/// Gives it its receiver in the sandbox, if it is to have one.
pub(crate) async fn receive_alerts(run: &Run, company: &Company) -> anyhow::Result<()> {
    if company.alerts_to_sandbox {
        let domain = &company.domain;
        let url = format!("{}/webhooks/{domain}", run.sandbox);
        // The secret of an earlier run was shown to that run only, so there is a new one.
        let change = ChangeWebhook { url: Some(url), rotate: Some(Duration::ZERO), off: false };
        let (sealer, now) = (sealer(run)?, clock::now());
        let webhook = companies::change_webhook(&run.db, &sealer, domain, change, now, Policy::Anywhere).await?;
        let secret = webhook.new_secret.context("a rotated secret is shown")?;
        providers::post(run, &format!("/webhooks/{domain}"), &json!({ "secrets": [secret.expose_secret()] })).await?;
    }
    Ok(())
}

fn sealer(run: &Run) -> anyhow::Result<Sealer> {
    Ok(Sealer::from_file(&run.settings.keys.key_encryption_key())?)
}
