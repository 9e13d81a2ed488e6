//! The two companies, and how they are registered. Safe to repeat: the second time changes what is given.

use anyhow::Context;
use api::companies::{self, Auth, Channel, NewCompany};
use domain::CompanyId;
use platform::seal::{self, Sealer};
use secrecy::SecretString;

use crate::stage::Stage;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// A dentist's, in São Paulo's time; its bridge is opened by a token.
    Clinic,
    /// A hairdresser's, an hour behind; its bridge is opened by logging in.
    Salon,
}

impl Who {
    pub(crate) const BOTH: [Who; 2] = [Who::Clinic, Who::Salon];

    pub(crate) fn domain(self) -> &'static str {
        match self {
            Who::Clinic => "clinica-sorriso.demo",
            Who::Salon => "salao-bela.demo",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Clinic => "Clínica Sorriso",
            Who::Salon => "Salão Bela",
        }
    }

    pub(crate) fn zone(self) -> &'static str {
        match self {
            Who::Clinic => "America/Sao_Paulo",
            Who::Salon => "America/Manaus",
        }
    }

    /// What is said when no model answers.
    pub(crate) fn fallback(self) -> &'static str {
        match self {
            Who::Clinic => "Recebemos sua mensagem! Nossa recepção já vai responder por aqui.",
            Who::Salon => "Oi! Recebemos sua mensagem e já já uma das meninas do salão responde por aqui. 💇‍♀️",
        }
    }

    fn prompt(self) -> &'static str {
        match self {
            Who::Clinic => {
                "Uma clínica odontológica de bairro. Trate as pessoas com calma e clareza, sem jargão.\n\
                 Nome: Clínica Sorriso\n\
                 Preços: avaliação R$ 90,00; limpeza R$ 180,00; clareamento R$ 650,00; canal a partir de R$ 890,00\n\
                 Horário: segunda a sexta, das 8h às 18h, e sábado, das 8h às 12h\n\
                 Endereço: Rua das Acácias, 120, Centro\n\
                 Nunca dê diagnóstico por mensagem: ofereça uma avaliação."
            }
            Who::Salon => {
                "Um salão de beleza alegre e sem pressa. Seja próxima e animada, com no máximo um emoji.\n\
                 Nome: Salão Bela\n\
                 Preços: corte R$ 85,00; escova R$ 60,00; manicure R$ 40,00; coloração a partir de R$ 220,00\n\
                 Horário: terça a sábado, das 9h às 20h\n\
                 Endereço: Avenida das Flores, 45, loja 3\n\
                 Quem chega pela primeira vez ganha um café."
            }
        }
    }

    fn auth(self) -> Result<Auth, seal::Error> {
        let fresh = SecretString::from(hex::encode(seal::random_bytes::<16>()?));
        Ok(match self {
            Who::Clinic => Auth::Token(fresh),
            Who::Salon => Auth::Login { email: "secretaria@salao-bela.example".into(), password: fresh },
        })
    }
}

/// A company that is registered.
pub(crate) struct Company {
    pub(crate) who: Who,
    pub(crate) id: CompanyId,
    /// Signs its hooks.
    pub(crate) secret: SecretString,
}

/// Both of them.
pub(crate) struct Cast([Company; 2]);

impl Cast {
    pub(crate) fn of(&self, who: Who) -> &Company {
        let [clinic, salon] = &self.0;
        match who {
            Who::Clinic => clinic,
            Who::Salon => salon,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Company> {
        self.0.iter()
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.iter().map(|it| it.id.0).collect()
    }
}

/// Adds the two, or brings them to what is written here.
pub(crate) async fn register(stage: &Stage) -> anyhow::Result<Cast> {
    let sealer = Sealer::from_file(&stage.settings.keys.key_encryption_key())?;
    Ok(Cast([add(stage, &sealer, Who::Clinic).await?, add(stage, &sealer, Who::Salon).await?]))
}

async fn add(stage: &Stage, sealer: &Sealer, who: Who) -> anyhow::Result<Company> {
    let company = NewCompany {
        domain: who.domain().into(),
        name: Some(who.name().into()),
        time_zone: Some(who.zone().into()),
        assistant_prompt: Some(who.prompt().into()),
        fallback_text: Some(who.fallback().into()),
        channel: Some(Channel { base_url: stage.sandbox.clone(), auth: who.auth()? }),
        ..NewCompany::default()
    };
    let added = companies::add(&stage.db, sealer, company).await;
    let added = added.with_context(|| format!("{} cannot be added; is the stack running?", who.name()))?;
    Ok(Company { who, id: added.company_id, secret: added.webhook_secret })
}
