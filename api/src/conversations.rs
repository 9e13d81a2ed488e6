//! `GET /api/conversations?company_id=&limit=&before=` — what was said, the conversation last written to first.
//!
//! Reads `conversations`, `contacts`, `messages`, `turns` and `deliveries`. `next` of an answer is `before` of the next
//! request; it is null on the last page. A number is shown by its last four digits only.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use deadpool_postgres::Transaction;
use domain::CompanyId;
use jiff::Timestamp;
use platform::postgres::{Error, Row, query};
use serde::Serialize;
use uuid::Uuid;

use crate::parameters::{Asked, Parameters};
use crate::{Api, Rejection, scoped};

/// Conversations in one answer, unless said otherwise.
const USUAL: i64 = 20;
/// Most conversations in one answer.
const MOST: i64 = 50;
/// The last so many messages of each.
const MESSAGES: i64 = 20;

/// Answers.
pub(crate) async fn answer(State(api): State<Api>, asked: Asked) -> Result<Json<Conversations>, Rejection> {
    let company = asked.company;
    let page = Page::read(asked.parameters)?;
    let mut client = api.db.get().await?;
    let transaction = scoped::begin(&mut client, company).await?;
    scoped::time_zone(&transaction, company).await?;
    let (mut conversations, next) = newest(&transaction, company, &page).await?;
    add_messages(&transaction, company, &mut conversations).await?;
    transaction.commit().await?;
    Ok(Json(Conversations { company_id: company, conversations, next }))
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Conversations {
    company_id: CompanyId,
    conversations: Vec<Conversation>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Conversation {
    conversation_id: Uuid,
    contact: Contact,
    channel: String,
    last_message_at: Timestamp,
    messages: Vec<Message>,
}

#[derive(Debug, Serialize)]
struct Contact {
    name: Option<String>,
    address: String,
}

#[derive(Debug, Serialize)]
struct Message {
    at: Timestamp,
    direction: String,
    text: String,
    /// How the turn it belongs to ended, once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
}

#[derive(Debug, Serialize)]
struct Delivery {
    state: String,
    outcome: Option<String>,
    attempts: i32,
}

async fn newest(
    transaction: &Transaction<'_>,
    company: CompanyId,
    page: &Page,
) -> Result<(Vec<Conversation>, Option<String>), Rejection> {
    let sql = "
        select c.conversation_id, c.channel, c.send_to, c.last_message_at, p.name
        from conversations c
        join contacts p on p.company_id = c.company_id and p.contact_id = c.contact_id
        where c.company_id = $1
          and c.last_message_at is not null
          and ($2::timestamptz is null or (c.last_message_at, c.conversation_id) < ($2, $3))
        order by c.last_message_at desc, c.conversation_id desc
        limit $4";
    let (at, id) = page.before.map_or((None, Uuid::nil()), |it| (Some(it.at), it.conversation));
    // One more than asked for tells whether there is a next page.
    let rows = query(transaction, sql, &[&company.0, &at, &id, &(page.limit + 1)]).await?;
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let conversations = rows.iter().take(limit).map(Conversation::of).collect::<Result<Vec<_>, _>>()?;
    let last = conversations.last().filter(|_| rows.len() > limit);
    let next = last.map(|it| Cursor { at: it.last_message_at, conversation: it.conversation_id }.to_string());
    Ok((conversations, next))
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
    let mut places: HashMap<Uuid, &mut Conversation> =
        conversations.iter_mut().map(|it| (it.conversation_id, it)).collect();
    for row in rows {
        if let Some(conversation) = places.get_mut(&row.try_get("conversation_id")?) {
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

/// A number or id without what follows its `@`, every character but the last four starred; a short one wholly.
fn masked(send_to: &str) -> String {
    let user = send_to.split(['@', ':']).next().unwrap_or_default();
    let length = user.chars().count();
    let shown = if length >= 8 { 4 } else { 0 };
    user.chars().enumerate().map(|(at, it)| if at + shown >= length { it } else { '*' }).collect()
}

#[derive(Debug)]
struct Page {
    limit: i64,
    before: Option<Cursor>,
}

impl Page {
    fn read(mut parameters: Parameters) -> Result<Self, Rejection> {
        let limit = match parameters.take("limit")? {
            None => USUAL,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MOST).contains(limit))
                .ok_or(Rejection::parameter("limit", "must be a whole number from 1 to 50"))?,
        };
        let before = match parameters.take("before")? {
            None => None,
            Some(text) => Some(
                Cursor::read(&text).ok_or(Rejection::parameter("before", "must be the `next` of an earlier answer"))?,
            ),
        };
        parameters.finish()?;
        Ok(Page { limit, before })
    }
}

/// The last conversation of a page: instant in microseconds and id, so that ties are not skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    at: Timestamp,
    conversation: Uuid,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let (at, conversation) = text.split_once('.')?;
        // An instant before 1970 is none of ours, and some would be too early for Postgres.
        let at = at.parse().ok().filter(|micros: &i64| *micros >= 0)?;
        Some(Cursor { at: Timestamp::from_microsecond(at).ok()?, conversation: conversation.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.at.as_microsecond(), self.conversation.as_simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let cursor =
            Cursor { at: Timestamp::from_microsecond(1_764_000_000_123_456).unwrap(), conversation: Uuid::max() };
        assert_eq!(cursor.to_string(), format!("1764000000123456.{}", "f".repeat(32)));
        assert_eq!(Cursor::read(&cursor.to_string()), Some(cursor));
    }

    #[test]
    fn a_cursor_somebody_made_up_is_refused() {
        let id = Uuid::max().as_simple().to_string();
        for wrong in ["", ".", "1", &id, &format!("x.{id}"), &format!("-1.{id}"), &format!("{}.{id}", i64::MAX), "1.zz"]
        {
            assert_eq!(Cursor::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_page_has_a_sane_size() {
        let limit = |query: &str| {
            let parameters = Parameters::of(&format!("/x?{query}").parse().unwrap()).unwrap();
            Page::read(parameters).map(|it| it.limit).map_err(|it| it.to_string())
        };
        assert_eq!(limit(""), Ok(20));
        assert_eq!(limit("limit=50"), Ok(50));
        for wrong in ["0", "51", "-1", "x", ""] {
            assert_eq!(limit(&format!("limit={wrong}")).unwrap_err(), "limit: must be a whole number from 1 to 50");
        }
    }

    #[test]
    fn a_number_is_known_by_its_last_four_digits_only() {
        assert_eq!(masked("5511999990001"), "*********0001");
        assert_eq!(masked("5511999990001@s.whatsapp.net"), "*********0001");
        assert_eq!(masked("5511999990001:12@s.whatsapp.net"), "*********0001");
        assert_eq!(masked("116900000000001@lid"), "***********0001");
        assert_eq!(masked("0001"), "****");
        assert_eq!(masked(""), "");
    }
}
