//! The load: contacts, each with a sequence of numbered messages, as records in the envelope that ingest writes.
//!
//! A contact writes its next message when the model is called for the one before: one turn is then being answered and
//! one is waiting behind it, so that the window is always full and every message is a turn of its own.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use domain::placement::{CompanyPartitions, DEFAULT_SPREAD};
use domain::{
    Address, Author, Channel, CompanyId, Content, Envelope, EventId, InboundMessage, Kind, SCHEMA, Topic, header,
};
use platform::clock;
use platform::kafka::{self, Outgoing, Producer};
use platform::trace::Traceparent;

/// The contacts of a site, and what they have written so far.
pub(crate) struct Load {
    contacts: Vec<Contact>,
    producer: Producer,
    partitions: u16,
    sent: AtomicU64,
    refused: AtomicU64,
    open: AtomicBool,
}

/// A contact of a company.
struct Contact {
    company: CompanyId,
    address: Address,
    share: CompanyPartitions,
    written: AtomicU32,
}

impl Load {
    /// `each` contacts of every company; neighbours are of different companies.
    pub(crate) fn new(config: &kafka::Config, companies: &[CompanyId], each: usize) -> anyhow::Result<Self> {
        let contact = |number: usize| {
            let company = companies[number % companies.len()];
            // Numbers with four equal digits in a row are made up.
            let address = Address::trusted(format!("5511{:05}9999", number % 100_000));
            let share = CompanyPartitions::of(company, DEFAULT_SPREAD, config.partitions);
            Contact { company, address, share, written: AtomicU32::new(0) }
        };
        let config = kafka::Config { linger_ms: 2, ..config.clone() };
        Ok(Load {
            contacts: (0..companies.len() * each).map(contact).collect(),
            producer: Producer::with_retries(&config, "bench")?,
            partitions: config.partitions,
            sent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            open: AtomicBool::new(false),
        })
    }

    /// How many contacts there are.
    pub(crate) fn contacts(&self) -> usize {
        self.contacts.len()
    }

    /// Messages written so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// From now on, a contact that is being answered writes again, or no longer does.
    pub(crate) fn open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// The model was called for a message.
    pub(crate) fn asked(&self, marker: Marker) {
        if self.open.load(Ordering::Relaxed)
            && let Some(contact) = self.contacts.get(marker.contact)
            && contact.written.load(Ordering::Relaxed) == marker.message
        {
            self.write(marker.contact);
        }
    }

    /// A contact writes its next message.
    pub(crate) fn write(&self, number: usize) {
        let Some(contact) = self.contacts.get(number) else { return };
        let marker = Marker { contact: number, message: contact.written.fetch_add(1, Ordering::Relaxed) + 1 };
        match contact.publish(marker, &self.producer) {
            Ok(()) => self.sent.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.refused.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Waits until the broker has everything that was written.
    pub(crate) fn flush(&self) -> anyhow::Result<()> {
        ensure!(self.refused.load(Ordering::Relaxed) == 0, "records could not be handed to the producer");
        Ok(tokio::task::block_in_place(|| self.producer.flush(Duration::from_secs(30)))?)
    }

    /// Whether two companies share a partition.
    pub(crate) fn meet(&self, one: CompanyId, other: CompanyId) -> bool {
        let owned = |company| {
            let share = CompanyPartitions::of(company, DEFAULT_SPREAD, self.partitions);
            (0..100).map(|it| share.partition(&it.to_string())).collect::<std::collections::BTreeSet<i32>>()
        };
        !owned(one).is_disjoint(&owned(other))
    }
}

/// What distinguishes a message from any other: it is part of its text, and of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) contact: usize,
    /// Which of that contact's, from 1.
    pub(crate) message: u32,
}

impl Marker {
    /// The last one in a request: earlier messages are above it.
    pub(crate) fn last_in(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(2).rposition(|it| it == b";#")?;
        let begin = bytes[..end].windows(2).rposition(|it| it == b"#:")?;
        let (contact, message) = std::str::from_utf8(&bytes[begin + 2..end]).ok()?.split_once('-')?;
        Some(Marker { contact: contact.parse().ok()?, message: message.parse().ok()? })
    }

    /// As it is in a text.
    pub(crate) fn text(self) -> String {
        format!("#:{}-{};#", self.contact, self.message)
    }
}

impl Contact {
    fn publish(&self, marker: Marker, producer: &Producer) -> anyhow::Result<()> {
        let now = clock::now();
        let (company, address) = (self.company, &self.address);
        let id = format!("3EB0{:08X}{:08X}", marker.contact, marker.message);
        let event_id = EventId::of_provider_message(company, Channel::Whaticket, address, Author::Contact, &id);
        let envelope = Envelope {
            schema: SCHEMA,
            event_id,
            company_id: company,
            kind: Kind::InboundMessage,
            occurred_at: now,
            received_at: now,
            payload: InboundMessage {
                channel: Channel::Whaticket,
                address: address.clone(),
                aliases: vec![address.clone()],
                reply_to: address.as_str().to_owned(),
                provider_id: Some(id),
                author: Author::Contact,
                name: Some(format!("Cliente {}", marker.contact)),
                content: Content::Text {
                    body: format!("Bom dia! Queria marcar um horário para quinta à tarde. {}", marker.text()),
                },
                quotes: None,
                ignore: None,
            },
        };
        let (company_text, event_text) = (company.to_string(), event_id.to_string());
        let micros = now.as_microsecond().to_string();
        let trace = Traceparent::of_event(event_id);
        // Any 32 bytes of the event's own: as many as a signature has.
        let mac = hex::encode([event_id.0.as_bytes().as_slice(), event_id.0.as_bytes()].concat());
        let headers: [(&str, &[u8]); 9] = [
            (header::COMPANY, company_text.as_bytes()),
            (header::EVENT_ID, event_text.as_bytes()),
            (header::KIND, Kind::InboundMessage.as_str().as_bytes()),
            (header::SCHEMA, b"1"),
            (header::EPOCH, b"1"),
            (header::OCCURRED_AT, micros.as_bytes()),
            (header::RECEIVED_AT, micros.as_bytes()),
            (header::TRACEPARENT, trace.as_str().as_bytes()),
            (header::MAC, mac.as_bytes()),
        ];
        drop(producer.publish(Outgoing {
            topic: Topic::InboundMessages,
            partition: self.share.partition(address.as_str()),
            key: format!("{company}/{address}").into_bytes(),
            payload: envelope.write()?,
            headers: &headers,
        }));
        Ok(())
    }
}
