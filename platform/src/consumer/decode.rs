//! Decodes records into events, or into the reason why they become dead letters. Pure.

use domain::{CompanyId, Envelope, EventId, Kind, Unreadable, header};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::dead_letter::Cause;
use crate::kafka::Record;
use crate::outcomes::{Incoming, Replay};

/// A record, decoded.
pub(super) enum Decoded<'a, P> {
    /// It holds an event.
    Valid { envelope: Envelope<P>, record: &'a Record },
    /// It cannot be handled.
    Invalid(Invalid<'a>),
}

/// A record that is to become a dead letter.
pub(super) struct Invalid<'a> {
    pub(super) company: CompanyId,
    pub(super) event: EventId,
    pub(super) record: &'a Record,
    pub(super) cause: Cause,
}

/// Decodes every record, in order.
pub(super) fn decode<'a, P: DeserializeOwned>(batch: &'a [Record], kinds: &'static [Kind]) -> Vec<Decoded<'a, P>> {
    batch
        .iter()
        .map(|record| match Envelope::read(record.payload.as_deref().unwrap_or_default(), kinds) {
            Ok(envelope) => Decoded::Valid { envelope, record },
            Err(unreadable) => Decoded::Invalid(Invalid::unreadable(record, &unreadable)),
        })
        .collect()
}

impl<P> Decoded<'_, P> {
    pub(super) fn incoming(&self) -> Incoming {
        match self {
            Decoded::Valid { envelope, record } => incoming(envelope.company_id, envelope.event_id, record),
            Decoded::Invalid(invalid) => invalid.incoming(),
        }
    }
}

impl<'a> Invalid<'a> {
    fn unreadable(record: &'a Record, unreadable: &Unreadable) -> Self {
        let detail = match unreadable {
            // The position of the problem, never the bytes themselves.
            Unreadable::Undecodable(at) => format!("{unreadable}: line {} column {}", at.line(), at.column()),
            _ => unreadable.to_string(),
        };
        Self::refused(record, Cause { class: unreadable.class().into(), detail, attempts: 1 })
    }

    /// The payload is not trusted: company and event are read from the headers; without them the event is identified by the
    /// record's position.
    pub(super) fn refused(record: &'a Record, cause: Cause) -> Self {
        let company = record.header_text(header::COMPANY).and_then(|text| text.parse().ok());
        let event = record.header_text(header::EVENT_ID).and_then(|text| Uuid::parse_str(text).ok()).map(EventId);
        Invalid {
            company: company.filter(|it: &CompanyId| it.0 > 0).unwrap_or(CompanyId::NONE),
            event: event
                .unwrap_or_else(|| EventId::of_position(record.topic.as_str(), record.partition, record.offset)),
            record,
            cause,
        }
    }

    pub(super) fn incoming(&self) -> Incoming {
        incoming(self.company, self.event, self.record)
    }
}

fn incoming(company: CompanyId, event: EventId, record: &Record) -> Incoming {
    let replay = if record.header(header::ATTEMPT).is_some() { Replay::Yes } else { Replay::No };
    Incoming { company, event, topic: record.topic, partition: record.partition, offset: record.offset, replay }
}
