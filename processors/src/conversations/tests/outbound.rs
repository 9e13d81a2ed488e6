//! Outbound messages: each is stored at the end of its conversation, with a record that holds all that delivery needs.

use domain::{
    CompanyId, ContactId, ConversationId, Envelope, EventId, InboundMessage, Kind, MessageId, OutboundMessage, Purpose,
    Topic, TurnId, header,
};
use platform::outbox::Entry;

use crate::conversations::{NewMessage, send};
use crate::reply::tests::{JOAO, MARIA, id, receive, text};
use crate::tests::{Fixture, noon, with_fixture};

/// An answer to the contact whose first message this is.
fn answer<'a>(company: CompanyId, first: &InboundMessage, text: &'a str) -> NewMessage<'a> {
    let contact = ContactId::first_seen_as(company, first.channel, &first.address);
    let turn = TurnId::opened_by(company, MessageId::from(id(company, first)));
    NewMessage {
        company,
        conversation: ConversationId::with(company, contact),
        id: MessageId::reply_to(company, turn),
        turn,
        text,
        purpose: Purpose::Reply,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        placement: (5, 7),
    }
}

async fn sent(fixture: &Fixture, messages: &[NewMessage<'_>]) -> Vec<Option<Entry>> {
    let mut client = fixture.db().get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let entries = send(&tx, messages, noon()).await.unwrap();
    tx.commit().await.unwrap();
    entries
}

async fn stored(fixture: &Fixture) -> Vec<String> {
    fixture.rows(
        "select c.send_to, c.last_position, string_agg(m.position || ' ' || m.direction || ' ' || m.body, ', ' order by m.position)
         from conversations c join messages m using (company_id, conversation_id)
         group by c.send_to, c.last_position order by c.send_to",
    )
    .await
}

#[tokio::test]
async fn outbound_messages_are_the_last_of_their_conversations_and_have_complete_records() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let (maria, joao) = (text(MARIA, "oi"), text(JOAO, "olá"));
        receive(fixture, clinic, &[maria.clone(), joao.clone(), text(MARIA, "tem horário?")]).await;
        let messages = [answer(clinic, &joao, "Olá, João!"), answer(clinic, &maria, "Temos às 14h.")];
        let entries = sent(fixture, &messages).await;
        let expected = [(JOAO, 2), (MARIA, 3)];
        for ((entry, message), (to, position)) in entries.iter().flatten().zip(&messages).zip(expected) {
            let envelope: Envelope<OutboundMessage> = Envelope::read(&entry.payload, &[Kind::OutboundMessage]).unwrap();
            assert_eq!((envelope.company_id, envelope.event_id), (clinic, EventId::from(message.id)));
            assert_eq!((envelope.occurred_at, envelope.received_at), (noon(), noon()));
            let payload = OutboundMessage {
                message_id: message.id,
                conversation_id: message.conversation,
                position,
                channel: maria.channel,
                to: to.to_owned(),
                body: message.text.to_owned(),
                purpose: Purpose::Reply,
            };
            assert_eq!(envelope.payload, payload);
            assert_eq!((entry.topic, entry.spread), (Topic::OutboundMessages, 5));
            assert_eq!(entry.key, format!("{clinic}/{}", message.conversation).into_bytes());
            let header = |name: &str| entry.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_slice());
            assert_eq!(header(header::TRACEPARENT), message.traceparent.map(str::as_bytes));
            assert_eq!(header(header::EPOCH), Some(b"7".as_slice()));
        }
        assert_eq!(entries.iter().flatten().count(), 2);
        let both = [
            format!("{MARIA} | 3 | 1 in oi, 2 in tem horário?, 3 out Temos às 14h."),
            format!("{JOAO} | 2 | 1 in olá, 2 out Olá, João!"),
        ];
        assert_eq!(stored(fixture).await, both);
        assert_eq!(
            fixture.rows("select * from outbox").await,
            [""; 0],
            "the caller adds them to the outbox, with its own entries"
        );
    })
    .await;
}

#[tokio::test]
async fn a_message_to_an_unknown_conversation_stores_nothing_and_the_others_are_sent() {
    with_fixture(async |fixture| {
        let (clinic, salon) = (fixture.company("clinica.test").await, fixture.company("salao.test").await);
        let maria = text(MARIA, "oi");
        receive(fixture, clinic, std::slice::from_ref(&maria)).await;
        let entries = sent(fixture, &[answer(salon, &maria, "Olá!"), answer(clinic, &maria, "Oi!")]).await;
        let companies: Vec<_> = entries.iter().map(|it| it.as_ref().map(|it| it.company)).collect();
        assert_eq!(companies, [None, Some(clinic)]);
        assert_eq!(stored(fixture).await, [format!("{MARIA} | 2 | 1 in oi, 2 out Oi!")]);
        assert!(sent(fixture, &[]).await.is_empty());
    })
    .await;
}
