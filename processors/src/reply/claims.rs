//! reply's SQL for the runner: claiming turns that are due, and what answering one needs.

use std::time::Duration;

use domain::{CompanyId, ConversationId, TurnId};
use platform::postgres::{Db, Failure, execute, query};
use platform::runner::Claimed;
use tokio_postgres::Row;
use uuid::Uuid;

/// One claimed turn.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) company: CompanyId,
    pub(super) turn: TurnId,
    pub(super) conversation: ConversationId,
    /// Which claim of the turn this is: a result counts only while it is the latest.
    pub(super) claim: i32,
    pub(super) traceparent: Option<String>,
}

/// What an answer is made of.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) company_name: String,
    pub(super) assistant_prompt: String,
    pub(super) fallback_text: Option<String>,
    pub(super) time_zone: String,
    pub(super) active: bool,
    pub(super) spread: u16,
    pub(super) epoch: i32,
    pub(super) contact_name: Option<String>,
    /// What was said, oldest first, this turn's messages at the end: whether it is ours, and the text.
    pub(super) memory: Vec<(bool, String)>,
}

/// Messages of one turn that are looked at; a longer burst is cut at its beginning.
const TURN_MESSAGES: i64 = 50;

const CLAIM: &str = "\
with recursive owners as (
  (select company_id from secretaria.turns where state = 'collecting' order by company_id limit 1)
  union all
  select (select t.company_id
          from secretaria.turns t
          where t.state = 'collecting' and t.company_id > owners.company_id
          order by t.company_id
          limit 1)
  from owners
  where owners.company_id is not null
), due as (
  select d.*
  from owners
  cross join lateral (
    select t.company_id, t.turn_id, t.due_at, row_number() over (order by t.due_at) as place
    from secretaria.turns t
    where t.company_id = owners.company_id and t.state = 'collecting' and t.due_at <= now()
      and not exists (
        select from secretaria.turns a
        where a.company_id = t.company_id and a.conversation_id = t.conversation_id and a.state = 'answering')
    order by t.due_at
    limit $1
  ) d
), abandoned as (
  select t.company_id, t.turn_id
  from secretaria.turns t
  where t.state = 'answering' and t.lease_until < now()
  order by t.lease_until
  limit $1
  for update skip locked
), ready as (
  select t.company_id, t.turn_id
  from due
  join secretaria.turns t using (company_id, turn_id)
  where t.state = 'collecting'
  order by due.place, due.due_at
  limit $1
  for update of t skip locked
), chosen as (
  select * from abandoned
  union all
  select * from ready
  limit $1
)
update secretaria.turns t
set state = 'answering', claims = t.claims + 1, claimed_by = $2,
  lease_until = now() + make_interval(secs => $3)
from chosen
where t.company_id = chosen.company_id and t.turn_id = chosen.turn_id
returning t.company_id, t.turn_id, t.conversation_id, t.claims, t.traceparent";

/// Claims due turns, one company after the other in turn, and turns whose claim has run out.
///
/// A company's turns are found through its own index range, so a long backlog of one costs the others nothing.
pub(super) async fn claim(db: &Db, most: usize, instance: &str, lease: Duration) -> Result<Claimed<Claim>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = query(&tx, CLAIM, &[&most, &instance, &lease.as_secs_f64()]).await?;
    let next = query(
        &tx,
        "select extract(epoch from min(due_at) - now())::float8
         from secretaria.turns
         where state = 'collecting' and due_at > now()",
        &[],
    )
    .await?;
    tx.commit().await?;
    let next_due: Option<f64> = next.first().and_then(|row| row.get(0));
    Ok(Claimed {
        jobs: rows.iter().map(read_claim).collect(),
        next_due: next_due.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
    })
}

fn read_claim(row: &Row) -> Claim {
    Claim {
        company: CompanyId(row.get(0)),
        turn: TurnId(row.get(1)),
        conversation: ConversationId(row.get(2)),
        claim: row.get(3),
        traceparent: row.get(4),
    }
}

/// Makes what an earlier life of this instance had claimed due at once.
pub(super) async fn take_back(db: &Db, instance: &str) -> Result<u64, Failure> {
    let sql = "update secretaria.turns
               set lease_until = now() - interval '1 second'
               where state = 'answering' and claimed_by = $1";
    Ok(execute(&db.get().await?, sql, &[&instance]).await?)
}

/// Keeps claims from running out.
pub(super) async fn renew(db: &Db, claims: &[(CompanyId, TurnId, i32)], lease: Duration) -> Result<(), Failure> {
    let companies: Vec<i64> = claims.iter().map(|it| it.0.0).collect();
    let turns: Vec<Uuid> = claims.iter().map(|it| it.1.0).collect();
    let numbers: Vec<i32> = claims.iter().map(|it| it.2).collect();
    execute(
        &db.get().await?,
        "update secretaria.turns t
         set lease_until = now() + make_interval(secs => $4)
         from unnest($1::bigint[], $2::uuid[], $3::int[]) as it (company_id, turn_id, claim)
         where t.company_id = it.company_id and t.turn_id = it.turn_id and t.claims = it.claim
           and t.state = 'answering'",
        &[&companies, &turns, &numbers, &lease.as_secs_f64()],
    )
    .await?;
    Ok(())
}

/// What answering a turn needs: the company, the contact, and the last messages up to the end of this turn.
///
/// `None` if the turn is gone.
pub(super) async fn context(db: &Db, claim: &Claim, memory: u16) -> Result<Option<Context>, Failure> {
    let client = db.get().await?;
    let rows = query(
        &client,
        "select c.name, c.assistant_prompt, c.fallback_text, c.time_zone, c.status = 'active', c.placement_spread,
           c.placement_epoch, p.name
         from secretaria.conversations v
         join secretaria.companies c using (company_id)
         join secretaria.contacts p using (company_id, contact_id)
         where v.company_id = $1 and v.conversation_id = $2",
        &[&claim.company.0, &claim.conversation.0],
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    // Turns of a conversation follow one another, so all that is over was said before this turn, whatever the order of
    // arrival: a question that came while the one before was being answered stands after that answer.
    let before = query(
        &client,
        "select g.direction = 'out', g.body
         from secretaria.messages g
         join secretaria.turns t using (company_id, turn_id)
         where g.company_id = $1 and g.conversation_id = $2 and t.state = 'ended'
         order by g.position desc
         limit $3",
        &[&claim.company.0, &claim.conversation.0, &i64::from(memory)],
    )
    .await?;
    let asked = query(
        &client,
        "select false, body
         from secretaria.messages
         where company_id = $1 and turn_id = $2 and direction = 'in'
         order by position desc
         limit $3",
        &[&claim.company.0, &claim.turn.0, &TURN_MESSAGES],
    )
    .await?;
    let memory = before.iter().rev().chain(asked.iter().rev());
    Ok(Some(Context {
        company_name: row.get(0),
        assistant_prompt: row.get(1),
        fallback_text: row.get(2),
        time_zone: row.get(3),
        active: row.get(4),
        spread: u16::try_from(row.get::<_, i16>(5)).unwrap_or(domain::placement::DEFAULT_SPREAD),
        epoch: row.get(6),
        contact_name: row.get(7),
        memory: memory.map(|row| (row.get(0), row.get(1))).collect(),
    }))
}
