//! What a report says: the tables, from one snapshot of the rollups.

use std::collections::BTreeMap;

use domain::CompanyId;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use platform::postgres::{Transaction, query};

use super::table::{Cell, Column, Table, column};
use super::{Error, MAX_DAYS};
use crate::part::{CountKey, Part};
use crate::series::{self, StoredDay};

/// A company's report.
#[derive(Debug, Clone)]
pub struct Report {
    pub company: CompanyId,
    pub name: String,
    pub domain: String,
    pub time_zone: String,
    pub from: Date,
    pub to: Date,
    /// Whether every day of it was over when it was made, and computed from all that the lake had.
    pub is_final: bool,
    pub made_at: Timestamp,
    /// When one of its numbers last changed; `None` without any.
    pub computed_at: Option<Timestamp>,
    /// All of its days, added up.
    pub total: Part,
    /// A row for each day that has events.
    pub days: Table,
    /// Turns and deliveries by outcome.
    pub outcomes: Table,
    /// Calls, tokens and cost by model.
    pub models: Table,
}

/// Columns of the days: identity, then what can be added up, then what cannot.
const DAYS: [Column; 22] = [
    column("company_id", "Empresa"),
    column("day", "Dia"),
    column("is_final", "Fechado"),
    column("version", "Versão"),
    column("messages_received", "Mensagens recebidas"),
    column("messages_in", "Mensagens de contatos"),
    column("messages_out", "Mensagens enviadas"),
    column("turns", "Atendimentos"),
    column("turns_replied", "Respondidos"),
    column("deliveries", "Entregas"),
    column("deliveries_sent", "Entregues"),
    column("model_calls", "Chamadas ao modelo"),
    column("tokens_in", "Tokens lidos"),
    column("tokens_out", "Tokens escritos"),
    column("tokens_cached", "Tokens em cache"),
    column("cost_usd", "Custo (USD)"),
    column("cost_brl", "Custo (BRL)"),
    column("active_contacts", "Contatos ativos"),
    column("answer_mean_ms", "Resposta média (ms)"),
    column("answer_p50_ms", "Resposta p50 (ms)"),
    column("answer_p95_ms", "Resposta p95 (ms)"),
    column("answer_p99_ms", "Resposta p99 (ms)"),
];

impl Report {
    /// Reads a report of the transaction's company, or of any company where the role may see all.
    ///
    /// # Errors
    /// If there is no such company, the span is empty or too long, or Postgres refuses.
    pub async fn read(
        tx: &Transaction<'_>,
        company: CompanyId,
        (from, to): (Date, Date),
        now: Timestamp,
    ) -> Result<Self, Error> {
        if to < from || (to - from).get_days() >= MAX_DAYS {
            return Err(Error::Span { from, to });
        }
        let sql = "select name, domain, time_zone from secretaria.companies where company_id = $1";
        let rows = query(tx, sql, &[&company.0]).await?;
        let row = rows.first().ok_or(Error::UnknownCompany)?;
        let time_zone: String = row.get(2);
        let zone = TimeZone::get(&time_zone).unwrap_or(TimeZone::UTC);
        let days = series::days(tx, company, from, to).await?;
        let counts = series::counts(tx, company, from, to).await?;
        let dirty = series::dirty(tx, from, to).await?;
        let total = series::sum(&days, from, to);
        Ok(Report {
            company,
            name: row.get(0),
            domain: row.get(1),
            time_zone,
            from,
            to,
            is_final: series::is_final(from, to, now, &zone, &dirty),
            made_at: now,
            computed_at: total.computed_at,
            days: days_of(company, &days, |day| series::is_final(day, day, now, &zone, &dirty)),
            outcomes: outcomes(&counts),
            models: models(&counts),
            total: total.part,
        })
    }

    /// How many days it has.
    pub fn rows(&self) -> usize {
        self.days.rows.len()
    }
}

fn days_of(company: CompanyId, days: &BTreeMap<Date, StoredDay>, is_final: impl Fn(Date) -> bool) -> Table {
    let row = |(day, stored): (&Date, &StoredDay)| {
        let mut cells = vec![
            Cell::Count(company.0),
            Cell::Day(*day),
            Cell::flag(is_final(*day)),
            Cell::Count(stored.version.into()),
        ];
        cells.extend(numbers(&stored.part));
        cells
    };
    Table { name: "Dias", columns: DAYS.to_vec(), rows: days.iter().map(row).collect() }
}

/// The numbers of a span, in the order of the columns from the fifth on.
pub(super) fn numbers(part: &Part) -> Vec<Cell> {
    let answers = part.answers.count();
    vec![
        Cell::Count(part.messages_received),
        Cell::Count(part.messages_in),
        Cell::Count(part.messages_out),
        Cell::Count(part.turns),
        Cell::Count(part.turns_replied),
        Cell::Count(part.deliveries),
        Cell::Count(part.deliveries_sent),
        Cell::Count(part.model_calls),
        Cell::Count(part.tokens_in),
        Cell::Count(part.tokens_out),
        Cell::Count(part.tokens_cached),
        Cell::Money(part.cost_usd_micros),
        Cell::Money(part.cost_brl_micros),
        Cell::Count(part.contacts.estimate()),
        Cell::milliseconds((answers > 0).then(|| part.answer_ms_sum / answers.max(1))),
        Cell::milliseconds(part.answers.quantile(0.5)),
        Cell::milliseconds(part.answers.quantile(0.95)),
        Cell::milliseconds(part.answers.quantile(0.99)),
    ]
}

/// The headings of [`numbers`].
pub(super) fn headings() -> impl Iterator<Item = &'static str> {
    DAYS.iter().skip(4).map(|it| it.heading)
}

fn outcomes(counts: &BTreeMap<CountKey, i64>) -> Table {
    let measures = [("turn_outcome", "Atendimento"), ("delivery_outcome", "Entrega")];
    let rows = measures.iter().flat_map(|(measure, what)| {
        let of_measure = counts.iter().filter(move |(key, _)| key.measure == *measure);
        of_measure.map(|(key, amount)| {
            vec![Cell::text(*what), Cell::text(&*key.name), Cell::text(&*key.detail), Cell::Count(*amount)]
        })
    });
    Table {
        name: "Resultados",
        columns: vec![
            column("of", "O quê"),
            column("outcome", "Resultado"),
            column("reason", "Motivo"),
            column("count", "Quantidade"),
        ],
        rows: rows.collect(),
    }
}

fn models(counts: &BTreeMap<CountKey, i64>) -> Table {
    let mut names: Vec<&str> =
        counts.keys().filter(|it| it.measure == "model_calls").map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    let of = |measure: &str, name: &str| {
        let key = CountKey { measure: measure.into(), name: name.into(), detail: String::new() };
        counts.get(&key).copied().unwrap_or_default()
    };
    let row = |name: &&str| {
        vec![
            Cell::text(*name),
            Cell::Count(of("model_calls", name)),
            Cell::Count(of("tokens_in", name)),
            Cell::Count(of("tokens_out", name)),
            Cell::Count(of("tokens_cached", name)),
            Cell::Money(of("cost_usd_micros", name)),
            Cell::Money(of("cost_brl_micros", name)),
        ]
    };
    Table {
        name: "Modelos",
        columns: vec![
            column("model", "Modelo"),
            column("model_calls", "Chamadas"),
            column("tokens_in", "Tokens lidos"),
            column("tokens_out", "Tokens escritos"),
            column("tokens_cached", "Tokens em cache"),
            column("cost_usd", "Custo (USD)"),
            column("cost_brl", "Custo (BRL)"),
        ],
        rows: names.iter().map(row).collect(),
    }
}
