//! The numbers of a span of days: counts are summed, percentiles and contacts are merged from the days' sketches.

use std::collections::BTreeSet;

use analytics::part::Part;
use analytics::series;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

/// What is summed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
struct Counts {
    /// Messages of contacts, also those that need no answer.
    messages_received: i64,
    /// Messages of contacts whose turn was answered, as they are metered.
    messages_in: i64,
    /// Messages of the company, as they are metered.
    messages_out: i64,
    model_calls: i64,
    tokens_in: i64,
    tokens_out: i64,
    /// Of `tokens_in`, those that the provider had cached.
    tokens_cached: i64,
    /// What the model calls cost, in millionths of a dollar.
    cost_usd_micros: i64,
    /// The same in millionths of a real, at the exchange of the day.
    cost_brl_micros: i64,
    /// Turns that ended.
    turns: i64,
    turns_replied: i64,
    /// Deliveries that ended; one that failed and is replayed ends again.
    deliveries: i64,
    deliveries_sent: i64,
}

impl From<&Part> for Counts {
    fn from(part: &Part) -> Self {
        Counts {
            messages_received: part.messages_received,
            messages_in: part.messages_in,
            messages_out: part.messages_out,
            model_calls: part.model_calls,
            tokens_in: part.tokens_in,
            tokens_out: part.tokens_out,
            tokens_cached: part.tokens_cached,
            cost_usd_micros: part.cost_usd_micros,
            cost_brl_micros: part.cost_brl_micros,
            turns: part.turns,
            turns_replied: part.turns_replied,
            deliveries: part.deliveries,
            deliveries_sent: part.deliveries_sent,
        }
    }
}

/// A day, an ISO week or a month of a company, in its own time zone.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Span {
    /// The first day.
    from: Date,
    /// The last day, included.
    to: Date,
    /// Whether it was over an hour ago, and computed from all that had arrived. Events that arrive later still are added.
    is_final: bool,
    #[serde(flatten)]
    counts: Counts,
    /// Contacts whose turns ended: exact up to 2048, within about 2 % beyond.
    active_contacts: i64,
    response_time: ResponseTime,
}

/// From the first message of a turn to its answer. The percentiles are within 1 %.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
struct ResponseTime {
    /// Turns that were answered.
    answers: i64,
    mean_ms: Option<i64>,
    p50_ms: Option<i64>,
    p95_ms: Option<i64>,
    p99_ms: Option<i64>,
}

impl Span {
    pub(super) fn of(
        from: Date,
        to: Date,
        sum: &Part,
        now: Timestamp,
        time_zone: &TimeZone,
        dirty: &BTreeSet<Date>,
    ) -> Self {
        let answers = sum.answers.count();
        Span {
            from,
            to,
            is_final: series::is_final(from, to, now, time_zone, dirty),
            counts: sum.into(),
            active_contacts: sum.contacts.estimate(),
            response_time: ResponseTime {
                answers,
                mean_ms: (answers > 0).then(|| sum.answer_ms_sum / answers.max(1)),
                p50_ms: sum.answers.quantile(0.5),
                p95_ms: sum.answers.quantile(0.95),
                p99_ms: sum.answers.quantile(0.99),
            },
        }
    }
}

/// The Monday of a day's ISO week.
pub(super) fn monday(day: Date) -> Date {
    day.saturating_sub(jiff::Span::new().days(day.weekday().to_monday_zero_offset()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_the_days_merged_and_not_averaged() {
        let day = |answers: &[i64], contact: u8| {
            let mut day = Part::default();
            for ms in answers {
                day.answers.add(*ms);
                day.answer_ms_sum += ms;
            }
            day.contacts.add(&[contact; 16]);
            day.turns = 1;
            day
        };
        let mut week = day(&[100; 99], 1);
        week.merge(&day(&[10_000], 1));
        let from: Date = "2026-03-02".parse().unwrap();
        let span = Span::of(from, from, &week, Timestamp::UNIX_EPOCH, &TimeZone::UTC, &BTreeSet::new());
        assert_eq!((span.counts.turns, span.active_contacts), (2, 1), "the same contact on both days");
        assert_eq!(span.response_time.answers, 100);
        assert_eq!(span.response_time.mean_ms, Some(199));
        let p95 = span.response_time.p95_ms.unwrap();
        assert!((99..=101).contains(&p95), "{p95}: the mean of the days' percentiles would be some 5000");
    }

    #[test]
    fn weeks_begin_on_monday() {
        let of = |day: &str| monday(day.parse().unwrap()).to_string();
        assert_eq!(of("2026-11-29"), "2026-11-23", "a Sunday");
        assert_eq!(of("2026-11-23"), "2026-11-23");
        assert_eq!(of("2027-01-01"), "2026-12-28");
    }
}
