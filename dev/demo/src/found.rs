//! What became of a run, read from where it is written: rows, and the API that companies ask.

use std::collections::BTreeMap;
use std::ops::Sub;

use domain::{CompanyId, EventId, Fact, MessageId, TurnId};
use jiff::ToSpan;
use platform::postgres::query;
use secretaria::commands::conservation;
use serde::Deserialize;
use uuid::Uuid;

use crate::cast::{Cast, Who};
use crate::plan::{self, Metered};
use crate::play::Played;
use crate::script::Script;
use crate::stage::Stage;

/// Everything that was found.
pub(crate) struct Found {
    pub(crate) clinic: OfCompany,
    pub(crate) salon: OfCompany,
    pub(crate) turns: Vec<Turn>,
    /// Laws of conservation that are broken, for all companies and all time.
    pub(crate) broken: Vec<String>,
    /// Counters that are not their ledger's sums, decisions that are not what they are made of.
    pub(crate) drift: Vec<String>,
}

/// One company's part of the run.
pub(crate) struct OfCompany {
    pub(crate) counted: Counted,
    /// Events per (processor, state, reason).
    pub(crate) marks: BTreeMap<(String, String, String), i64>,
    /// Causes on the dead-letter shelf.
    pub(crate) shelf: Vec<String>,
    /// Lines of the ledger per fact: how many, tokens in, tokens out.
    pub(crate) ledger: BTreeMap<String, (i64, i64, i64)>,
}

/// What only grows: a run's part is the difference.
#[derive(Clone, Default)]
pub(crate) struct Counted {
    /// Per processor: records read from its topic, and how many of them were repeats.
    pub(crate) records: BTreeMap<String, (i64, i64)>,
    pub(crate) usage: Usage,
    /// What the plan's counters say; only `used` is a difference.
    pub(crate) plan: Vec<Metered>,
}

/// What `/api/usage` says.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Usage {
    pub(crate) totals: Totals,
    models: Vec<Model>,
}

#[derive(Clone, Copy, Default, Deserialize)]
pub(crate) struct Totals {
    pub(crate) messages_in: i64,
    pub(crate) messages_out: i64,
    pub(crate) tokens_in: i64,
    pub(crate) tokens_out: i64,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Model {
    pub(crate) model: String,
    pub(crate) tokens_in: i64,
    pub(crate) tokens_out: i64,
}

/// A turn of the run.
pub(crate) struct Turn {
    /// Which of the script's dialogues it belongs to.
    pub(crate) dialogue: usize,
    pub(crate) company: CompanyId,
    pub(crate) conversation: Uuid,
    turn: Uuid,
    claims: i32,
    pub(crate) messages: Vec<Uuid>,
    pub(crate) outcome: Option<String>,
    pub(crate) reply: Option<Uuid>,
    pub(crate) text: Option<String>,
    /// Result and class of each attempt to deliver the answer.
    pub(crate) attempts: Vec<(String, Option<String>)>,
}

impl Turn {
    /// The idempotency keys under which its usage is booked.
    pub(crate) fn usage_keys(&self) -> Vec<String> {
        let Turn { company, turn, .. } = *self;
        let read = self.messages.iter().map(|it| Fact::MessageIn.event_id(company, *it));
        let said = self.outcome.is_some().then(|| Fact::MessageOut.event_id(company, turn));
        // A call that failed reported no tokens, so the first that did is the answer's.
        let call = (self.outcome.as_deref() == Some("replied"))
            .then(|| EventId::of_model_call(company, TurnId(turn), self.claims, 0));
        read.chain(said).chain(call).map(|it| it.to_string()).collect()
    }

    fn usage_events(&self) -> impl Iterator<Item = Uuid> {
        self.usage_keys().into_iter().filter_map(|it| it.parse().ok())
    }
}

impl Found {
    pub(crate) fn of(&self, who: Who) -> &OfCompany {
        match who {
            Who::Clinic => &self.clinic,
            Who::Salon => &self.salon,
        }
    }
}

impl OfCompany {
    /// Events of a processor in a state, for a reason or whatever the reason.
    pub(crate) fn marked(&self, processor: &str, state: &str, reason: Option<&str>) -> i64 {
        let fits = |(p, s, r): &(String, String, String)| {
            p == processor && s == state && reason.is_none_or(|reason| reason == r)
        };
        self.marks.iter().filter(|(it, _)| fits(it)).map(|(_, events)| events).sum()
    }

    pub(crate) fn records(&self, processor: &str) -> (i64, i64) {
        self.counted.records.get(processor).copied().unwrap_or_default()
    }
}

impl Usage {
    pub(crate) fn models(&self) -> &[Model] {
        &self.models
    }
}

impl Sub for Counted {
    type Output = Counted;

    fn sub(mut self, before: Counted) -> Counted {
        for (processor, (records, repeats)) in &mut self.records {
            let earlier = before.records.get(processor).copied().unwrap_or_default();
            (*records, *repeats) = (*records - earlier.0, *repeats - earlier.1);
        }
        let (now, then) = (&mut self.usage.totals, before.usage.totals);
        now.messages_in -= then.messages_in;
        now.messages_out -= then.messages_out;
        now.tokens_in -= then.tokens_in;
        now.tokens_out -= then.tokens_out;
        for it in &mut self.usage.models {
            if let Some(earlier) = before.usage.models.iter().find(|earlier| earlier.model == it.model) {
                it.tokens_in -= earlier.tokens_in;
                it.tokens_out -= earlier.tokens_out;
            }
        }
        for it in &mut self.plan {
            if let Some(earlier) = before.plan.iter().find(|earlier| earlier.feature == it.feature) {
                it.used -= earlier.used;
            }
        }
        self
    }
}

/// What is counted about both companies until now, the clinic's first.
pub(crate) async fn counters(stage: &Stage, cast: &Cast) -> anyhow::Result<[Counted; 2]> {
    Ok([counted(stage, cast, Who::Clinic).await?, counted(stage, cast, Who::Salon).await?])
}

async fn counted(stage: &Stage, cast: &Cast, who: Who) -> anyhow::Result<Counted> {
    let company = cast.of(who).id;
    let sql = "
        select processor, sum(records)::bigint, sum(duplicates)::bigint
        from secretaria.intake_counts
        where company_id = $1
        group by processor";
    let rows = query(&stage.db.get().await?, sql, &[&company.0]).await?;
    let records = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    // A run may see midnight, and the end of a month.
    let today = stage.run.began.to_zoned(jiff::tz::TimeZone::UTC).date();
    let (from, to) = (today.saturating_sub(2.days()), today.saturating_add(2.days()));
    let usage = stage.ask(company, &format!("/api/usage?company_id={company}&from={from}&to={to}")).await?;
    Ok(Counted { records, usage, plan: plan::of(stage, company).await? })
}

/// Reads everything; what only grows, since it was counted before.
pub(crate) async fn read(
    stage: &Stage,
    cast: &Cast,
    script: &Script,
    played: &Played,
    [clinic, salon]: [Counted; 2],
) -> anyhow::Result<Found> {
    let turns = turns(stage, cast, script, played).await?;
    let clinic = counted(stage, cast, Who::Clinic).await? - clinic;
    let salon = counted(stage, cast, Who::Salon).await? - salon;
    let broken = conservation::broken(&stage.db.get().await?).await?;
    Ok(Found {
        clinic: of_company(stage, cast, Who::Clinic, played, &turns, clinic).await?,
        salon: of_company(stage, cast, Who::Salon, played, &turns, salon).await?,
        turns,
        drift: plan::drift(stage).await?,
        broken: broken.into_iter().map(|it| format!("{}: {}", it.law, it.detail)).collect(),
    })
}

async fn of_company(
    stage: &Stage,
    cast: &Cast,
    who: Who,
    played: &Played,
    turns: &[Turn],
    counted: Counted,
) -> anyhow::Result<OfCompany> {
    let company = cast.of(who).id;
    let turns = || turns.iter().filter(|it| it.company == company);
    let hooks: Vec<Uuid> = played.hooks.iter().filter(|it| it.who == who).filter_map(|it| Some(it.id?.0)).collect();
    let replies: Vec<Uuid> = turns().filter_map(|it| it.reply).collect();
    let facts: Vec<Uuid> = turns().flat_map(Turn::usage_events).collect();
    let keys: Vec<String> = turns().flat_map(Turn::usage_keys).collect();
    let client = stage.db.get().await?;
    let marks = "
        select processor, state, coalesce(reason, ''), count(*)
        from secretaria.event_marks
        where company_id = $1
          and (processor = 'reply' and event_id = any($2)
               or processor = 'delivery' and event_id = any($3)
               or processor = 'metering' and event_id = any($4))
        group by processor, state, reason";
    let marks = query(&client, marks, &[&company.0, &hooks, &replies, &facts]).await?;
    let shelf = "
        select cause
        from secretaria.dead_letters
        where company_id = $1
          and state = 'parked'
          and event_id = any($2::uuid[] || $3::uuid[] || $4::uuid[])";
    let shelf = query(&client, shelf, &[&company.0, &hooks, &replies, &facts]).await?;
    let ledger = "
        select fact, count(*), sum(tokens_in)::bigint, sum(tokens_out)::bigint
        from secretaria.usage_events
        where company_id = $1
          and idempotency_key = any($2)
        group by fact";
    let ledger = query(&client, ledger, &[&company.0, &keys]).await?;
    Ok(OfCompany {
        counted,
        marks: marks.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), row.get(3))).collect(),
        shelf: shelf.iter().map(|row| row.get(0)).collect(),
        ledger: ledger.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect(),
    })
}

/// The turns that the run's messages are in, in the order of the script's dialogues and of the conversation.
pub(crate) async fn turns(stage: &Stage, cast: &Cast, script: &Script, played: &Played) -> anyhow::Result<Vec<Turn>> {
    let sql = "
        select t.turn_id, t.conversation_id, t.claims, t.outcome, t.reply_id, r.body,
          array_agg(m.message_id order by m.position),
          array(select coalesce(a.result, 'under way') from secretaria.delivery_attempts a
                where a.company_id = t.company_id and a.delivery_id = t.reply_id order by a.attempt),
          array(select a.class from secretaria.delivery_attempts a
                where a.company_id = t.company_id and a.delivery_id = t.reply_id order by a.attempt)
        from secretaria.messages m
        join secretaria.turns t using (company_id, turn_id)
        left join secretaria.messages r on r.company_id = t.company_id and r.message_id = t.reply_id
        where m.company_id = $1
          and m.message_id = any($2)
        group by t.company_id, t.turn_id, r.body
        order by min(m.position)";
    let client = stage.db.get().await?;
    let mut turns = Vec::new();
    for (at, (dialogue, ids)) in script.dialogues.iter().zip(&played.dialogues).enumerate() {
        let company = cast.of(dialogue.who).id;
        let ids: Vec<Uuid> = ids.iter().map(|it| MessageId::from(*it).0).collect();
        let rows = query(&client, sql, &[&company.0, &ids]).await?;
        turns.extend(rows.iter().map(|row| Turn {
            dialogue: at,
            company,
            turn: row.get(0),
            conversation: row.get(1),
            claims: row.get(2),
            outcome: row.get(3),
            reply: row.get(4),
            text: row.get(5),
            messages: row.get(6),
            attempts: row.get::<_, Vec<String>>(7).into_iter().zip(row.get::<_, Vec<Option<String>>>(8)).collect(),
        }));
    }
    Ok(turns)
}
