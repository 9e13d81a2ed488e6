//! The checks that SQL sees, one per name in `sql/secretaria--0.3.0.sql`.
//!
//! None is strict: an argument that is null is an error, which PL/pgSQL raises. None writes; all are stable and
//! parallel safe.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::backend::{self, Backend};
use crate::bare;
use crate::caller;
use crate::columns;
use crate::decision::Reading;
use crate::locations;
use crate::plpgsql;
use crate::result;
use crate::row::{Row, plain_text};
use crate::settings;
use crate::shape::usage;
use crate::table::Key;

/// Of so many hits one counts as a use of its page.
const HITS_OF_A_USE: u64 = 64;

/// What a call site keeps while its query runs.
pub(crate) struct Site {
    pub(crate) check: pg_sys::FmgrInfo,
    has: pg_sys::FmgrInfo,
    pub(crate) memory: pg_sys::MemoryContext,
}

/// Declares a function to the server as one of the current calling convention.
macro_rules! sql_function {
    ($name:ident, $finfo:ident, $function:path) => {
        #[unsafe(no_mangle)]
        #[doc(hidden)]
        extern "C" fn $finfo() -> &'static pg_sys::Pg_finfo_record {
            const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }

        #[unsafe(no_mangle)]
        #[pg_guard]
        unsafe extern "C-unwind" fn $name(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: the server calls this with a call that is filled in as its SQL declaration says.
            unsafe { $function(call) }
        }
    };
}
pub(crate) use sql_function;

sql_function!(secretaria_has_feature, pg_finfo_secretaria_has_feature, has_feature);
sql_function!(secretaria_check, pg_finfo_secretaria_check, check_feature_access);
sql_function!(secretaria_stats, pg_finfo_secretaria_stats, location_cache_stats);
sql_function!(secretaria_noop_has, pg_finfo_secretaria_noop_has, noop_has);
sql_function!(secretaria_noop_check, pg_finfo_secretaria_noop_check, noop_check);

unsafe fn has_feature(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared as (bigint, text).
    unsafe {
        if let (Some(company), Some(feature)) = (argument(call, 0), argument(call, 1))
            && let Some(has) = has_feature_by_row(company.value() as i64, feature)
        {
            return pg_sys::Datum::from(has);
        }
        let site = site(call);
        hand_over(call, &plpgsql::HAS, &raw mut (*site).has, (*site).memory)
    }
}

unsafe fn has_feature_by_row(company: i64, feature: pg_sys::Datum) -> Option<bool> {
    // SAFETY: `feature` is a text.
    unsafe {
        let at = statement_time()?;
        if !caller::may_read(&mut backend::state(), company)? {
            return Some(false);
        }
        decide(company, feature, at, |_, reading| reading.answer(1).allowed)
    }
}

unsafe fn check_feature_access(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared as (bigint, text, bigint, timestamptz), with the columns of `result`.
    unsafe {
        if let (Some(company), Some(feature), Some(required)) =
            (argument(call, 0), argument(call, 1), argument(call, 2))
            && let Some(datum) = answered_by_row(
                company.value() as i64,
                feature,
                required.value() as i64,
                argument(call, 3).map(|at| at.value() as i64),
                |values, nulls| composite(columns::of(call), values, nulls),
            )
        {
            return datum;
        }
        let site = site(call);
        hand_over(call, &plpgsql::CHECK, &raw mut (*site).check, (*site).memory)
    }
}

/// Answers from the row, if it can: `build` makes what is returned, while the row's page is pinned.
///
/// # Safety
/// `feature` is a text; inside a transaction.
pub(crate) unsafe fn answered_by_row<T>(
    company: i64,
    feature: pg_sys::Datum,
    required: i64,
    at: Option<i64>,
    build: impl FnOnce(&mut [pg_sys::Datum], &mut [bool]) -> T,
) -> Option<T> {
    if required < 0 {
        return None;
    }
    // SAFETY: as the caller says.
    unsafe {
        let at = match at {
            Some(at) => at,
            None => statement_time()?,
        };
        if !caller::may_read(&mut backend::state(), company)? {
            return None;
        }
        decide(company, feature, at, |row, reading| {
            let answer = reading.answer(required);
            let (mut values, mut nulls) = result::columns(row, reading, &answer, at);
            build(&mut values, &mut nulls)
        })
    }
}

/// The statement's time, unless a test moved the clock.
fn statement_time() -> Option<i64> {
    // SAFETY: reads a variable of the server.
    (!settings::clock_is_moved()).then(|| unsafe { bare::GetCurrentStatementStartTimestamp() })
}

/// What the row says, if it speaks of this instant.
unsafe fn current(row: &Row, at: i64) -> Option<Reading> {
    // SAFETY: a row of `secretaria.feature_usage`, and its pin is held.
    if row.speaks_of(at) { unsafe { result::read(row) } } else { None }
}

/// Reads what a counter says, with what its further rows have used, and lets `answer` use it while its row is there.
/// None if the rows do not speak of this instant.
unsafe fn decide<T>(
    company: i64,
    feature: pg_sys::Datum,
    at: i64,
    answer: impl FnOnce(&Row, &Reading) -> T,
) -> Option<T> {
    let mut answer = Some(answer);
    // SAFETY: `feature` is a text.
    unsafe {
        let slots = match with_row(company, feature, 0, |row| {
            let reading = current(row, at)?;
            Some(match row.value(usage::SLOTS).value() as i16 {
                0 => Ok(answer.take()?(row, &reading)),
                slots => Err(slots),
            })
        })? {
            Ok(answered) => return Some(answered),
            Err(slots) => slots,
        };
        // Every read is of the statement's snapshot, so the sum is of one moment.
        let mut elsewhere: i64 = 0;
        for slot in 1..=slots {
            elsewhere =
                elsewhere.checked_add(with_row(company, feature, slot, |row| Some(row.integer(usage::USED)))?)?;
        }
        with_row(company, feature, 0, |row| {
            let mut reading = current(row, at)?;
            reading.used = reading.used.checked_add(elsewhere)?;
            Some(answer.take()?(row, &reading))
        })
    }
}

/// Finds a row of (company, feature) in the active snapshot and lets `take` read it. None if there is none.
pub(crate) unsafe fn with_row<T>(
    company: i64,
    feature: pg_sys::Datum,
    slot: i16,
    take: impl FnOnce(&Row) -> Option<T>,
) -> Option<T> {
    let remember = settings::location_cache();
    let mut state = backend::state();
    let Backend { usage: table, usage_places: places, hits, misses, mismatches, .. } = &mut *state;
    // SAFETY: `feature` is a text; the key's types are those of the table's key, which `open` checks.
    unsafe {
        let feature = match plain_text(feature) {
            Some(_) => feature,
            None => pg_sys::Datum::from(pg_sys::pg_detoast_datum_packed(feature.cast_mut_ptr())),
        };
        let spelled = plain_text(feature)?;
        let hash = locations::hash(company, spelled, slot);
        if remember {
            places.bound(settings::location_cache_entries());
        }
        let open = table.open(places, remember.then_some(hash))?;
        if let Some((now, row)) = open.guessed() {
            if is_of(&row, company, spelled, slot) {
                *hits += 1;
                if open.has_moved(now) {
                    places.put(hash, now);
                }
                let taken = take(&row);
                row.release();
                if hits.is_multiple_of(HITS_OF_A_USE) {
                    open.count_use(now);
                }
                open.close();
                return taken;
            }
            row.release();
        }
        *mismatches += u64::from(open.has_guess());
        *misses += 1;
        let found = open.search(&[
            Key { equal: pg_sys::F_INT8EQ, value: pg_sys::Datum::from(company) },
            Key { equal: pg_sys::F_TEXTEQ, value: feature },
            Key { equal: pg_sys::F_INT2EQ, value: pg_sys::Datum::from(slot) },
        ]);
        let taken = found.and_then(|(place, row)| {
            if remember {
                places.put(hash, place);
            }
            let taken = take(&row);
            row.release();
            taken
        });
        open.close();
        taken
    }
}

unsafe fn is_of(row: &Row, company: i64, feature: &[u8], slot: i16) -> bool {
    // SAFETY: the key's columns are not null, and the pin is held.
    row.integer(usage::COMPANY) == company
        && row.value(usage::SLOT).value() as i16 == slot
        && unsafe { row.text(usage::FEATURE) } == Some(feature)
}

unsafe fn location_cache_stats(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let mut values = {
        let state = backend::state();
        [state.hits, state.misses, state.mismatches, state.usage_places.entries() as u64].map(pg_sys::Datum::from)
    };
    // SAFETY: declared with four columns of bigint.
    unsafe { composite(columns::of(call), &mut values, &mut [false; 4]) }
}

unsafe fn noop_has(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared with two arguments.
    unsafe { pg_sys::Datum::from(argument(call, 0).is_some()) }
}

unsafe fn noop_check(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared as `secretaria_check` is.
    unsafe { composite(columns::of(call), &mut result::constant(), &mut [false; result::COLUMNS]) }
}

/// An argument, or none for null.
///
/// # Safety
/// The call has that many arguments.
pub(crate) unsafe fn argument(call: pg_sys::FunctionCallInfo, position: usize) -> Option<pg_sys::Datum> {
    // SAFETY: as the caller says.
    let argument = unsafe { &*(*call).args.as_ptr().add(position) };
    (!argument.isnull).then_some(argument.value)
}

/// What this call site keeps.
///
/// # Safety
/// Called by the server.
pub(crate) unsafe fn site(call: pg_sys::FunctionCallInfo) -> *mut Site {
    // SAFETY: only this library uses `fn_extra` of its functions; the memory lives as long as the call site.
    unsafe {
        let function = (*call).flinfo;
        if (*function).fn_extra.is_null() {
            let memory = (*function).fn_mcxt;
            let site = pg_sys::MemoryContextAllocZero(memory, std::mem::size_of::<Site>()).cast::<Site>();
            (*site).memory = memory;
            (*function).fn_extra = site.cast();
        }
        (*function).fn_extra.cast()
    }
}

unsafe fn composite(columns: pg_sys::TupleDesc, values: &mut [pg_sys::Datum], nulls: &mut [bool]) -> pg_sys::Datum {
    // SAFETY: there are as many values as columns, of their types.
    unsafe {
        let tuple = pg_sys::heap_form_tuple(columns, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// Lets PL/pgSQL answer, with the arguments as they are.
unsafe fn hand_over(
    call: pg_sys::FunctionCallInfo,
    signature: &plpgsql::Signature,
    prepared: *mut pg_sys::FmgrInfo,
    memory: pg_sys::MemoryContext,
) -> pg_sys::Datum {
    // SAFETY: both functions are declared alike.
    unsafe {
        let arguments = (*call).args.as_slice(signature.arguments.len());
        let answer = plpgsql::call(signature, prepared, memory, arguments);
        (*call).isnull = answer.isnull;
        answer.value
    }
}
