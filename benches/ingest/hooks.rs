//! Requests made before they are timed: each has a contact, an id, a body of 1 KB and a signature of its own.

use std::fmt::Write as _;

use api::companies::{self, NewCompany};
use ingest::signature;
use platform::clock;
use platform::postgres::Db;
use platform::seal::Sealer;
use secrecy::{ExposeSecret, SecretString};
use secretaria::Settings;
use secretaria::commands::migrate;

/// The size of every body.
const BODY_BYTES: usize = 1_024;
/// Contacts of one company.
const CONTACTS: usize = 10_000;
/// What they write, over and over until the body is full.
const WORDS: &str =
    "Bom dia! Queria marcar um horário para quinta à tarde, se ainda tiver vaga. Quanto custa a limpeza? ";

/// The companies that send, and how many webhooks were made so far.
pub(crate) struct Producers {
    companies: Vec<(String, SecretString)>,
    made: usize,
}

/// Whole HTTP requests, one after the other.
pub(crate) struct Hooks {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Producers {
    /// Migrates and makes the companies.
    pub(crate) fn register(settings: &Settings, count: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            migrate::run(settings, &migrate::Args { wait: 0 }).await?;
            let sealer = Sealer::from_file(&settings.keys.key_encryption_key())?;
            let db = Db::new(&settings.postgres.operator_url, &settings.postgres, "bench")?;
            let mut companies = Vec::with_capacity(count);
            for number in 1..=count {
                let domain = format!("bench-{number}.example");
                let company = NewCompany { domain: domain.clone(), ..NewCompany::default() };
                companies.push((domain, companies::add(&db, &sealer, company).await?.webhook_secret));
            }
            Ok(Producers { companies, made: 0 })
        })
    }

    /// The next `count` webhooks, signed now: they are valid for five minutes.
    pub(crate) fn sign(&mut self, count: usize) -> Hooks {
        let now = clock::now().as_second();
        let mut hooks =
            Hooks { bytes: Vec::with_capacity(count * (BODY_BYTES + 320)), ends: Vec::with_capacity(count) };
        for number in self.made..self.made + count {
            let (domain, secret) = &self.companies[number % self.companies.len()];
            let body = body(number, now);
            let signature = signature::sign(secret.expose_secret().as_bytes(), now, body.as_bytes());
            let request = format!(
                "POST /webhook/whaticket HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
                 x-company-domain: {domain}\r\nx-timestamp: {now}\r\nx-signature: {signature}\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            hooks.bytes.extend_from_slice(request.as_bytes());
            hooks.ends.push(hooks.bytes.len());
        }
        self.made += count;
        hooks
    }
}

impl Hooks {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them, if there are so many.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let begin = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(begin..*self.ends.get(index)?)
    }
}

/// A raw Baileys message, as Whaticket forks pass it on, of exactly [`BODY_BYTES`].
fn body(number: usize, now: i64) -> String {
    // Neighbours in the list are of different companies, and a company's of different contacts.
    let contact = number.wrapping_mul(7_919) % CONTACTS;
    let mut body = format!(
        r#"{{"key":{{"remoteJid":"551199999{contact:04}@s.whatsapp.net","fromMe":false,"id":"3EB0{number:016X}"}},"messageTimestamp":{now},"pushName":"Cliente {contact}","broadcast":false,"message":{{"messageContextInfo":{{"deviceListMetadata":{{"senderKeyHash":"c2VuZGVy","senderTimestamp":"{now}"}},"deviceListMetadataVersion":2}},"extendedTextMessage":{{"text":"Pedido {number}. "#
    );
    let end = r#"","previewType":"NONE","contextInfo":{"expiration":0}}},"status":"DELIVERY_ACK"}"#;
    for word in WORDS.split_inclusive(' ').cycle() {
        if body.len() + word.len() + end.len() > BODY_BYTES {
            break;
        }
        body.push_str(word);
    }
    let missing = BODY_BYTES.saturating_sub(body.len() + end.len());
    let _ = write!(body, "{:.<missing$}{end}", "");
    body
}
