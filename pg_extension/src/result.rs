//! The columns of an answer, in the order in which the functions declare them.

use pgrx::pg_sys;

use crate::decision::{Answer, Decision, Reading};
use crate::row::Row;
use crate::shape::usage;

/// How many columns an answer has.
pub(crate) const COLUMNS: usize = 13;

/// Reads the columns that the decision needs. None for a kind that is not stored plainly.
///
/// # Safety
/// A row of `secretaria.feature_usage` whose pin is held.
pub(crate) unsafe fn read(row: &Row) -> Option<Reading> {
    // SAFETY: as the caller says; these columns are never null (`not null` in the table).
    let kind = unsafe { row.text(usage::KIND)? };
    Some(Reading {
        metered: kind == b"metered",
        allowed: row.boolean(usage::ALLOWED),
        soft: row.boolean(usage::SOFT),
        limit: row.optional(usage::LIMIT).map(|limit| limit.value() as i64),
        used: row.integer(usage::USED),
        reserved: row.integer(usage::RESERVED),
    })
}

/// Text constants as the server stores them: a length that counts itself, then the bytes.
#[repr(C, align(4))]
struct Text<const N: usize> {
    header: u32,
    bytes: [u8; N],
}

const fn text<const N: usize>(bytes: [u8; N]) -> Text<N> {
    let length = (N as u32) + 4;
    // The two lowest (or highest) bits of the header say that it is plain.
    let header = if cfg!(target_endian = "big") { length } else { length << 2 };
    Text { header, bytes }
}

static SOFT_LIMIT_EXCEEDED: Text<19> = text(*b"soft_limit_exceeded");
static USAGE_LIMIT_REACHED: Text<19> = text(*b"usage_limit_reached");
static OK: Text<2> = text(*b"ok");
static METERED: Text<7> = text(*b"metered");
static PLAN: Text<4> = text(*b"plan");

/// The columns of an answer to no question, as long as one of the usual kind: what returning it costs.
pub(crate) fn constant() -> [pg_sys::Datum; COLUMNS] {
    let (number, yes) = (pg_sys::Datum::from(1_000_000_000_i64), pg_sys::Datum::from(true));
    let mut values = [number; COLUMNS];
    (values[0], values[8]) = (yes, yes);
    values[1] = pg_sys::Datum::from(std::ptr::from_ref(&OK));
    values[2] = pg_sys::Datum::from(std::ptr::from_ref(&METERED));
    values[11] = pg_sys::Datum::from(std::ptr::from_ref(&PLAN));
    values
}

/// The columns of the answer. Texts still point into the row's page.
pub(crate) fn columns(
    row: &Row,
    reading: &Reading,
    answer: &Answer,
    checked_at: i64,
) -> ([pg_sys::Datum; COLUMNS], [bool; COLUMNS]) {
    let reason = match answer.decision {
        Decision::AsStored => row.value(usage::REASON),
        Decision::SoftLimitExceeded => pg_sys::Datum::from(std::ptr::from_ref(&SOFT_LIMIT_EXCEEDED)),
        Decision::UsageLimitReached => pg_sys::Datum::from(std::ptr::from_ref(&USAGE_LIMIT_REACHED)),
    };
    let &Reading { metered, limit, used, reserved, soft, .. } = reading;
    let number = |number: i64| pg_sys::Datum::from(number);
    let values = [
        pg_sys::Datum::from(answer.allowed),
        reason,
        row.value(usage::KIND),
        number(limit.unwrap_or(0)),
        number(used),
        number(reserved),
        number(answer.remaining.unwrap_or(0)),
        number(answer.overage.unwrap_or(0)),
        pg_sys::Datum::from(soft),
        row.value(usage::PERIOD_START),
        row.value(usage::PERIOD_END),
        row.value(usage::SOURCE),
        number(checked_at),
    ];
    let mut nulls = [false; COLUMNS];
    nulls[3] = !metered || limit.is_none();
    nulls[4] = !metered;
    nulls[5] = !metered;
    nulls[6] = answer.remaining.is_none();
    nulls[7] = answer.overage.is_none();
    (values, nulls)
}
