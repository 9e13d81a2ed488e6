//! `GET /api/conversations?company_id=&limit=&cursor=` — conversations with their latest messages, most recent first.
//!
//! Reads `conversations`, `contacts`, `messages`, `turns` and `deliveries`. Of a number only the last four digits are
//! shown. A conversation with a new message moves to the front, so a caller on a later page does not see it again.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use deadpool_postgres::Transaction;
use domain::CompanyId;
use jiff::Timestamp;
use platform::postgres::{Error, Row, query};
use serde::Serialize;
use uuid::Uuid;

use crate::pages::{NextPage, Page, Position};
use crate::parameters::CompanyRequest;
use crate::{Api, Rejection, scoped};

/// How many of a conversation's latest messages are shown.
const MESSAGES: i64 = 20;

/// A company's conversations, the one with the latest message first, with the last twenty messages of each.
#[utoipa::path(
    get,
    path = "/api/conversations",
    operation_id = "list_conversations",
    tag = "company",
    params(
        ("company_id" = i64, Query, minimum = 1, example = 1, description = "The company."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 50, example = 20,
            description = "How many conversations a page has at most; 20 by default."),
        ("cursor" = Option<String>, Query, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$",
            description = "The `next_cursor` of the previous page. Without it, the first page."),
        ("before" = Option<String>, Query, deprecated, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$",
            description = "The older name of `cursor`; not allowed together with it."),
    ),
    responses(
        (status = 200, description = "A page.", body = Conversations,
            headers(("link" = String, description = "The next page: `<…>; rel=\"next\"`. Absent on the last one."))),
        Rejection,
    ),
)]
pub(crate) async fn answer(
    State(api): State<Api>,
    mut request: CompanyRequest,
) -> Result<(NextPage, Json<Conversations>), Rejection> {
    let company = request.company;
    let page = Page::read(&mut request.parameters, "conversations", company)?;
    request.parameters.finish()?;
    let mut client = api.db.get().await?;
    let transaction = scoped::begin(&mut client, company).await?;
    scoped::time_zone(&transaction, company).await?;
    let mut conversations = newest(&transaction, company, &page).await?;
    let next = page.cut(&mut conversations, |it| Position { at: it.last_message_at, id: it.conversation_id });
    add_messages(&transaction, company, &mut conversations).await?;
    transaction.commit().await?;
    let (next_cursor, older_name) = (next.cursor.clone(), next.cursor.clone());
    Ok((next, Json(Conversations { company_id: company, conversations, next_cursor, next: older_name })))
}

/// A page of conversations.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Conversations {
    #[schema(value_type = i64, minimum = 1, example = 1)]
    company_id: CompanyId,
    conversations: Vec<Conversation>,
    /// `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
    /// The older name of `next_cursor`.
    #[schema(required, deprecated)]
    next: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Conversation {
    conversation_id: Uuid,
    contact: Contact,
    #[schema(example = "whaticket")]
    channel: String,
    last_message_at: Timestamp,
    /// The last twenty, the oldest first.
    messages: Vec<Message>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Contact {
    #[schema(required, example = "Ana")]
    name: Option<String>,
    /// The number, with every character but the last four replaced by `*`.
    #[schema(example = "*********0001")]
    address: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Message {
    at: Timestamp,
    /// `in`: from the contact; `out`: from the company.
    #[schema(pattern = "^(in|out)$", example = "in")]
    direction: String,
    #[schema(example = "Oi, tem horário?")]
    text: String,
    /// How its turn ended: `replied`, `fallback` or `ignored`. Absent until it has ended.
    #[schema(nullable = false, example = "replied")]
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_outcome: Option<String>,
    /// The delivery of an outbound message. Absent on an inbound one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Delivery {
    /// `waiting`, `sending` or `ended`.
    #[schema(example = "ended")]
    state: String,
    /// `sent` or `failed_permanent`; null until it has ended.
    #[schema(required, example = "sent")]
    outcome: Option<String>,
    #[schema(minimum = 0)]
    attempts: i32,
}

/// The page's conversations and one more, if there is one.
async fn newest(
    transaction: &Transaction<'_>,
    company: CompanyId,
    page: &Page,
) -> Result<Vec<Conversation>, Rejection> {
    let sql = "
        select c.conversation_id, c.channel, c.send_to, c.last_message_at, p.name
        from conversations c
        join contacts p on p.company_id = c.company_id and p.contact_id = c.contact_id
        where c.company_id = $1
          and c.last_message_at is not null
          and ($2::timestamptz is null or (c.last_message_at, c.conversation_id) < ($2, $3))
        order by c.last_message_at desc, c.conversation_id desc
        limit $4";
    let (at, id) = page.after.map_or((None, Uuid::nil()), |it| (Some(it.at), it.id));
    let rows = query(transaction, sql, &[&company.0, &at, &id, &page.rows()]).await?;
    Ok(rows.iter().map(Conversation::of).collect::<Result<_, _>>()?)
}

async fn add_messages(
    transaction: &Transaction<'_>,
    company: CompanyId,
    conversations: &mut [Conversation],
) -> Result<(), Rejection> {
    let sql = "
        select m.conversation_id, m.occurred_at, m.direction, m.body, t.outcome as turn_outcome,
          d.state as delivery_state, d.outcome as delivery_outcome, d.attempts
        from unnest($2::uuid[]) as wanted (conversation_id)
        cross join lateral (
          select *
          from messages
          where company_id = $1
            and conversation_id = wanted.conversation_id
          order by position desc
          limit $3
        ) m
        left join turns t on t.company_id = m.company_id and t.turn_id = m.turn_id
        left join deliveries d on d.company_id = m.company_id and d.delivery_id = m.message_id
        order by m.conversation_id, m.position";
    let ids: Vec<Uuid> = conversations.iter().map(|it| it.conversation_id).collect();
    let rows = query(transaction, sql, &[&company.0, &ids, &MESSAGES]).await?;
    let mut by_id: HashMap<Uuid, &mut Conversation> =
        conversations.iter_mut().map(|it| (it.conversation_id, it)).collect();
    for row in rows {
        if let Some(conversation) = by_id.get_mut(&row.try_get("conversation_id")?) {
            conversation.messages.push(Message::of(&row)?);
        }
    }
    Ok(())
}

impl Conversation {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Conversation {
            conversation_id: row.try_get("conversation_id")?,
            contact: Contact { name: row.try_get("name")?, address: masked(row.try_get("send_to")?) },
            channel: row.try_get("channel")?,
            last_message_at: row.try_get("last_message_at")?,
            messages: Vec::new(),
        })
    }
}

impl Message {
    fn of(row: &Row) -> Result<Self, Error> {
        let state: Option<String> = row.try_get("delivery_state")?;
        let delivery = state
            .map(|state| -> Result<_, Error> {
                Ok(Delivery { state, outcome: row.try_get("delivery_outcome")?, attempts: row.try_get("attempts")? })
            })
            .transpose()?;
        Ok(Message {
            at: row.try_get("occurred_at")?,
            direction: row.try_get("direction")?,
            text: row.try_get("body")?,
            turn_outcome: row.try_get("turn_outcome")?,
            delivery,
        })
    }
}

/// A number or id without what follows its `@`, with every character but the last four replaced by `*`; in one of fewer
/// than eight characters, all of them.
fn masked(send_to: &str) -> String {
    let user = send_to.split(['@', ':']).next().unwrap_or_default();
    let length = user.chars().count();
    let shown = if length >= 8 { 4 } else { 0 };
    user.chars().enumerate().map(|(at, it)| if at + shown >= length { it } else { '*' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_number_only_the_last_four_digits_are_shown() {
        assert_eq!(masked("5511999990001"), "*********0001");
        assert_eq!(masked("5511999990001@s.whatsapp.net"), "*********0001");
        assert_eq!(masked("5511999990001:12@s.whatsapp.net"), "*********0001");
        assert_eq!(masked("116900000000001@lid"), "***********0001");
        assert_eq!(masked("0001"), "****");
        assert_eq!(masked(""), "");
    }
}
