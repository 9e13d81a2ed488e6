//! A parsed hook as a record: its id, its envelope, its partition.

use std::borrow::Cow;

use domain::{Content, Envelope, EventId, IgnoreReason, InboundMessage, Kind, SCHEMA, Topic, header};
use jiff::Timestamp;
use platform::kafka::{NotDurable, Outgoing, Producer};
use platform::trace::Traceparent;

use crate::companies::{Company, Written};
use crate::signature::Proof;

/// Who the event is: the provider's message, else the producer's key, else the signed hook itself.
///
/// An empty shell has the id of the message that will follow once the provider can decrypt it, so its own id never
/// comes from there.
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
        (None, Some(key)) => EventId::of_idempotency_key(company.id, channel, &readable(key)),
        (None, None) => EventId::of_mac(company.id, channel, &proof.mac),
    }
}

/// A header's bytes as text: UTF-8, or else ISO 8859-1, which fits every byte. A key that was ignored for its letters
/// would leave its repeats to be answered again.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), Cow::Borrowed)
}

/// A record ready to be handed over.
pub(crate) struct Ready {
    payload: Vec<u8>,
    key: String,
    partition: i32,
    company: Written,
    headers: [(&'static str, String); 5],
}

/// Writes the record. Pure.
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
) -> Result<Ready, serde_json::Error> {
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
    Ok(Ready {
        payload: envelope.write()?,
        company: company.written.clone(),
        key: format!("{}/{address}", company.written.id),
        partition: company.share.partition(address.as_str()),
        headers: [
            (header::EVENT_ID, event.to_string()),
            (header::OCCURRED_AT, occurred_at.as_microsecond().to_string()),
            (header::RECEIVED_AT, received_at.as_microsecond().to_string()),
            (header::TRACEPARENT, trace.as_str().to_owned()),
            // The idempotency key is not signed: whoever takes the record in can tell that two ids are one request.
            (header::MAC, hex::encode(proof.mac)),
        ],
    })
}

impl Ready {
    /// Hands the record over at once, and resolves to the broker's word.
    pub(crate) fn publish(self, producer: &Producer) -> impl Future<Output = Result<(), NotDurable>> + Send + use<> {
        const SCHEMA_TEXT: &str = "1";
        const { assert!(SCHEMA == 1, "the text says another schema") };
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
    fn every_idempotency_key_that_a_header_can_hold_is_a_key() {
        assert_eq!(readable(b"k-1"), "k-1");
        assert_eq!(readable("ação".as_bytes()), "ação");
        assert_eq!(readable(b"a\xe7\xe3o"), "ação");
        assert_ne!(readable(b"\xff"), readable(b"\xfe"));
    }
}
