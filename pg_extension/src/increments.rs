//! `increment_feature_usage` far from limits and thresholds: the counter is read past the executor, PL/pgSQL writes.
//!
//! A third of what PL/pgSQL does for a plain call is finding out that it is plain. Here that is one row from memory, or
//! one and its shards; then `secretaria_reference._increment_fast_path` writes, with its own rights, and judges the row
//! again as it does. Where it counted nothing, `_increment_slow_path` decides, as it would have in PL/pgSQL. Any other
//! call is a binding like the rest: see [`delegate`](crate::delegate), also for why there is no guard.

use std::mem::MaybeUninit;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::backend;
use crate::bare;
use crate::caller;
use crate::calls::{argument, with_row};
use crate::delegate::{self, Frame, Site};
use crate::plpgsql::{self, Signature};
use crate::row::{Row, plain_text};
use crate::settings::{self, Slots};
use crate::shape::usage;

/// The most that one call may count. PL/pgSQL enforces it, as it does the lengths of keys: beyond it no call is plain.
const MAX: i64 = 100_000_000_000_000;
/// A key's length, in characters.
const KEY_LENGTHS: std::ops::RangeInclusive<i32> = 1..=255;

static FAST_PATH: Signature = Signature {
    name: c"_increment_fast_path",
    arguments: &[
        pg_sys::INT8OID,
        pg_sys::TEXTOID,
        pg_sys::INT8OID,
        pg_sys::TEXTOID,
        pg_sys::JSONBOID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::BOOLOID,
        pg_sys::INT2OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::BOOLOID,
    ],
};

static SLOW_PATH: Signature = Signature {
    name: c"_increment_slow_path",
    arguments: &[
        pg_sys::INT8OID,
        pg_sys::TEXTOID,
        pg_sys::INT8OID,
        pg_sys::TEXTOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TEXTOID,
        pg_sys::JSONBOID,
    ],
};

#[unsafe(no_mangle)]
#[doc(hidden)]
extern "C" fn pg_finfo_secretaria_increment() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// Not guarded, on purpose: nothing here may need to be dropped, and nothing may panic.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn secretaria_increment(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared as the PL/pgSQL function; `prepare` fills the frame in when it says so.
    unsafe {
        let site = delegate::site((*call).flinfo);
        let mut frame = MaybeUninit::<Frame>::uninit();
        let fast_path: pg_sys::FunctionCallInfo = frame.as_mut_ptr().cast();
        if prepare(call, site, fast_path)
            && let (Some(count_fast), Some(count_slow)) = ((*site).fast_path.fn_addr, (*site).slow_path.fn_addr)
        {
            let answer = count_fast(fast_path);
            if !(*fast_path).isnull && is_answer(answer) {
                return answer;
            }
            return delegate::pass_on(call, &raw mut (*site).slow_path, count_slow);
        }
        delegate::secretaria_delegate(call)
    }
}

/// Whether the first column, `accepted`, is there.
unsafe fn is_answer(answer: pg_sys::Datum) -> bool {
    // SAFETY: a row that PL/pgSQL made of its columns: plain, since it holds them one by one.
    unsafe {
        let row = &*answer.cast_mut_ptr::<pg_sys::HeapTupleHeaderData>();
        let has_nulls = u32::from(row.t_infomask) & pg_sys::HEAP_HASNULL != 0;
        !has_nulls || *row.t_bits.as_ptr() & 1 != 0
    }
}

/// Fills in the call of the fast path, if this one is plain.
///
/// # Safety
/// Called as `secretaria_increment` is; `fast_path` has space for a [`Frame`].
#[pg_guard]
unsafe extern "C-unwind" fn prepare(
    call: pg_sys::FunctionCallInfo,
    site: *mut Site,
    fast_path: pg_sys::FunctionCallInfo,
) -> bool {
    // SAFETY: declared as (bigint, text, bigint, text, timestamptz, text, jsonb).
    unsafe {
        let (Some(company), Some(feature), Some(amount)) = (argument(call, 0), argument(call, 1), argument(call, 2))
        else {
            return false;
        };
        let is_plain = (1..=MAX).contains(&(amount.value() as i64))
            && argument(call, 3).is_none_or(|key| is_key(key))
            && argument(call, 4).is_none()
            && argument(call, 5).and_then(|on_exceed| plain_text(on_exceed)) == Some(b"reject")
            && caller::may_ask_for_all(&mut backend::state());
        if !is_plain || !are_known(call, site) {
            return false;
        }
        let Some(counter) = read(company.value() as i64, feature) else { return false };
        let known = |value: pg_sys::Datum| pg_sys::NullableDatum { value, isnull: false };
        let given = |position| pg_sys::NullableDatum {
            value: argument(call, position).unwrap_or(pg_sys::Datum::null()),
            isnull: argument(call, position).is_none(),
        };
        let arguments = [
            known(company),
            known(feature),
            known(amount),
            given(3),
            given(6),
            known(counter.used.into()),
            known(counter.reserved.into()),
            pg_sys::NullableDatum { value: counter.limit.unwrap_or(0).into(), isnull: counter.limit.is_none() },
            known(counter.soft.into()),
            known(counter.slot.into()),
            known(counter.period_start),
            known(counter.period_end),
            known(counter.is_contended.into()),
        ];
        (*fast_path).flinfo = &raw mut (*site).fast_path;
        (*fast_path).context = (*call).context;
        (*fast_path).resultinfo = (*call).resultinfo;
        (*fast_path).fncollation = (*call).fncollation;
        (*fast_path).isnull = false;
        (*fast_path).nargs = arguments.len() as i16;
        std::ptr::copy_nonoverlapping(arguments.as_ptr(), (*fast_path).args.as_mut_ptr(), arguments.len());
        true
    }
}

/// Whether it is a key that every caller may use.
unsafe fn is_key(key: pg_sys::Datum) -> bool {
    // SAFETY: a text; its bytes are in the database's encoding.
    unsafe {
        plain_text(key).is_some_and(|key| {
            KEY_LENGTHS.contains(&pg_sys::pg_mbstrlen_with_len(key.as_ptr().cast(), key.len() as i32))
        })
    }
}

/// Looks both functions up, once for each call site. They are missing before `secretaria migrate` of this release.
unsafe fn are_known(call: pg_sys::FunctionCallInfo, site: *mut Site) -> bool {
    // SAFETY: the site lives as long as the function's memory.
    unsafe {
        let own = (*call).flinfo;
        for (signature, prepared) in
            [(&FAST_PATH, &raw mut (*site).fast_path), (&SLOW_PATH, &raw mut (*site).slow_path)]
        {
            if (*prepared).fn_oid != pg_sys::InvalidOid {
                continue;
            }
            let found = plpgsql::look_up(signature.name, signature.arguments);
            // A result read as another type would be a pointer to anywhere.
            if found == pg_sys::InvalidOid
                || pg_sys::get_func_rettype(found) != pg_sys::RECORDOID
                || pg_sys::get_func_retset(found)
                || pg_sys::func_strict(found)
            {
                return false;
            }
            pg_sys::fmgr_info_cxt(found, prepared, (*own).fn_mcxt);
            (*prepared).fn_expr = (*own).fn_expr;
        }
        true
    }
}

/// A counter as its rows say, and which of them to write.
struct Counter {
    used: i64,
    reserved: i64,
    limit: Option<i64>,
    soft: bool,
    slot: i16,
    period_start: pg_sys::Datum,
    period_end: pg_sys::Datum,
    /// Whether another session is writing it.
    is_contended: bool,
}

/// Reads a counter that may be counted on now, in a snapshot of its own: like a statement in PL/pgSQL it sees
/// what the calls before it in the same query did.
unsafe fn read(company: i64, feature: pg_sys::Datum) -> Option<Counter> {
    // SAFETY: inside a transaction; an error leaves the snapshot to the transaction's end.
    unsafe {
        if settings::clock_is_moved_by_name() {
            return None;
        }
        let at = bare::GetCurrentStatementStartTimestamp();
        let slots = settings::slots()?;
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let counter = read_now(company, feature, at, slots);
        pg_sys::PopActiveSnapshot();
        counter
    }
}

unsafe fn read_now(company: i64, feature: pg_sys::Datum, at: i64, mode: Slots) -> Option<Counter> {
    // SAFETY: `feature` is a text, and a snapshot is active.
    unsafe {
        let (mut counter, slots) = with_row(company, feature, 0, |row| {
            let slots = row.value(usage::SLOTS).value() as i16;
            let is_open = row.boolean(usage::ALLOWED)
                && row.text(usage::KIND) == Some(b"metered")
                && row.speaks_of(at)
                && !matches!((mode, slots), (Slots::on, 0) | (Slots::off, 1..));
            is_open.then(|| (counter_of(row, slots), slots))
        })?;
        for slot in 1..=slots {
            let used = with_row(company, feature, slot, |row| Some(row.integer(usage::USED)))?;
            counter.used = counter.used.checked_add(used)?;
        }
        Some(counter)
    }
}

unsafe fn counter_of(row: &Row, slots: i16) -> Counter {
    // SAFETY: reads variables of the server; `read` has made a snapshot active.
    unsafe {
        Counter {
            used: row.integer(usage::USED),
            reserved: row.integer(usage::RESERVED),
            limit: row.optional(usage::LIMIT).map(|limit| limit.value() as i64),
            soft: row.boolean(usage::SOFT),
            slot: if slots == 0 { 0 } else { 1 + (pg_sys::MyProcPid % i32::from(slots)) as i16 },
            period_start: row.value(usage::PERIOD_START),
            period_end: row.value(usage::PERIOD_END),
            is_contended: slots == 0 && is_under_way(row.deleter()),
        }
    }
}

/// Whether it is the number of a transaction that was under way when the snapshot was taken, as PL/pgSQL sees it.
unsafe fn is_under_way(transaction: u32) -> bool {
    // SAFETY: `read` has made a snapshot active.
    transaction != 0 && unsafe { transaction >= (*bare::GetActiveSnapshot()).xmin.into_inner() }
}
