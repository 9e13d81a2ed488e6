//! Makes a Kafka record of a parsed webhook: its event id, its envelope, its partition.

use std::borrow::Cow;

use domain::{Content, Envelope, EventId, IgnoreReason, InboundMessage, Kind, SCHEMA, Topic, header};
use jiff::Timestamp;
use platform::kafka::{NotDurable, Outgoing, Producer};
use platform::trace::Traceparent;

use crate::companies::{Company, RecordHeaders};
use crate::signature::Proof;

/// The event's id, derived from the provider's message id, else from the producer's idempotency key, else from the signature.
///
/// A stub without content carries the provider's id of the message that follows once the provider can decrypt it. Its
/// event id is therefore derived from the signature, or the message itself would count as a repeat.
pub(crate) fn identify(
    company: &Company,
    message: &InboundMessage,
    idempotency_key: Option<&[u8]>,
    proof: &Proof,
) -> EventId {
    let shell = message.content == Content::Nothing && message.ignore == Some(IgnoreReason::Stub);
    let channel = message.channel;
    match (&message.provider_id, idempotency_key.filter(|it| !it.is_empty())) {
        _ if shell => EventId::of_mac(company.id, channel, &proof.mac),
        (Some(id), _) => EventId::of_provider_message(company.id, channel, &message.address, message.author, id),
        (None, Some(key)) => EventId::of_idempotency_key(company.id, channel, &header_text(key)),
        (None, None) => EventId::of_mac(company.id, channel, &proof.mac),
    }
}

/// A header's bytes as text: UTF-8, or else ISO 8859-1, in which every byte is a character. If a key were ignored for its
/// encoding, its repeats would be answered again.
fn header_text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), Cow::Borrowed)
}

/// A record that the producer can send as it is.
pub(crate) struct PreparedRecord {
    payload: Vec<u8>,
    key: String,
    partition: i32,
    company: RecordHeaders,
    headers: [(&'static str, String); 5],
}

/// Builds the record. Pure.
///
/// # Errors
/// As [`Envelope::write`].
pub(crate) fn prepare(
    company: &Company,
    event: EventId,
    message: InboundMessage,
    (occurred_at, received_at): (Timestamp, Timestamp),
    trace: &Traceparent,
    proof: &Proof,
) -> Result<PreparedRecord, serde_json::Error> {
    let address = message.address.clone();
    let kind = Kind::InboundMessage;
    let envelope = Envelope {
        schema: SCHEMA,
        event_id: event,
        company_id: company.id,
        kind,
        occurred_at,
        received_at,
        payload: message,
    };
    Ok(PreparedRecord {
        payload: envelope.write()?,
        company: company.record_headers.clone(),
        key: format!("{}/{address}", company.record_headers.id),
        partition: company.share.partition(address.as_str()),
        headers: [
            (header::EVENT_ID, event.to_string()),
            (header::OCCURRED_AT, occurred_at.as_microsecond().to_string()),
            (header::RECEIVED_AT, received_at.as_microsecond().to_string()),
            (header::TRACEPARENT, trace.as_str().to_owned()),
            // The idempotency key is not signed; by the signature a consumer sees that two ids are one request.
            (header::MAC, hex::encode(proof.mac)),
        ],
    })
}

impl PreparedRecord {
    /// Hands the record to the producer at once; the future resolves when the broker has acknowledged it or will not.
    pub(crate) fn publish(self, producer: &Producer) -> impl Future<Output = Result<(), NotDurable>> + Send + use<> {
        const SCHEMA_TEXT: &str = "1";
        const { assert!(SCHEMA == 1, "SCHEMA_TEXT is another schema") };
        let [event, occurred, received, trace, mac] =
            self.headers.each_ref().map(|(name, value)| (*name, value.as_bytes()));
        let headers = [
            (header::COMPANY, self.company.id.as_bytes()),
            event,
            (header::KIND, Kind::InboundMessage.as_str().as_bytes()),
            (header::SCHEMA, SCHEMA_TEXT.as_bytes()),
            (header::EPOCH, self.company.epoch.as_bytes()),
            occurred,
            received,
            trace,
            mac,
        ];
        let outgoing = Outgoing {
            topic: Topic::InboundMessages,
            partition: self.partition,
            key: self.key.into_bytes(),
            payload: self.payload,
            headers: &headers,
        };
        producer.publish(outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_in_a_header_is_an_idempotency_key() {
        assert_eq!(header_text(b"k-1"), "k-1");
        assert_eq!(header_text("ação".as_bytes()), "ação");
        assert_eq!(header_text(b"a\xe7\xe3o"), "ação");
        assert_ne!(header_text(b"\xff"), header_text(b"\xfe"));
    }
}
