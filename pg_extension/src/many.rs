//! `check_feature_access_many`: the same answers, one row per feature asked, in the order asked.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::calls::{self, Site, answered_by_row, argument, sql_function};
use crate::plpgsql;
use crate::result;

/// The feature, then the answer.
const COLUMNS: usize = 1 + result::COLUMNS;

sql_function!(secretaria_check_many, pg_finfo_secretaria_check_many, check_many);

/// Where the rows go.
struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    columns: pg_sys::TupleDesc,
}

unsafe fn check_many(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared as (bigint, text[]) returning rows of `COLUMNS`.
    unsafe {
        let site = calls::site(call);
        let company = argument(call, 0);
        let features = argument(call, 1).map(|features| elements(features));
        let rows = collect(call);
        match (company, features.unwrap_or_default()) {
            (Some(company), features) if !features.is_empty() => {
                for feature in features {
                    put(site, &rows, company, feature);
                }
            }
            // Nothing to answer, but still something to refuse: a null, or another's company.
            (company, _) => {
                let nothing = pg_sys::Datum::from(pg_sys::cstring_to_text(c"".as_ptr()));
                let feature = argument(call, 1).map(|_| nothing);
                refer(site, company, feature);
            }
        }
        pg_sys::Datum::from(0)
    }
}

unsafe fn put(site: *mut Site, rows: &Rows, company: pg_sys::Datum, feature: Option<pg_sys::Datum>) {
    // SAFETY: the values are those of the declared columns.
    unsafe {
        if let Some(feature) = feature
            && answered_by_row(company.value() as i64, feature, 1, None, |values, nulls| {
                rows.put(feature, values, nulls);
            })
            .is_some()
        {
            return;
        }
        let answer = refer(site, Some(company), feature);
        let header = answer.cast_mut_ptr::<pg_sys::HeapTupleHeaderData>();
        let datum = (*header).t_choice.t_datum;
        let columns = pg_sys::lookup_rowtype_tupdesc_copy(datum.datum_typeid, datum.datum_typmod);
        let mut tuple = pg_sys::HeapTupleData {
            // The length is where every stored value has it.
            t_len: pgrx::varlena::varsize_any(header.cast()) as u32,
            t_data: header,
            ..Default::default()
        };
        let mut values = [pg_sys::Datum::null(); result::COLUMNS];
        let mut nulls = [false; result::COLUMNS];
        if (*columns).natts as usize != result::COLUMNS {
            error!("secretaria_reference.check_feature_access has other columns");
        }
        pg_sys::heap_deform_tuple(&mut tuple, columns, values.as_mut_ptr(), nulls.as_mut_ptr());
        let Some(feature) = feature else { return };
        rows.put(feature, &values, &nulls);
    }
}

impl Rows {
    unsafe fn put(&self, feature: pg_sys::Datum, values: &[pg_sys::Datum], nulls: &[bool]) {
        let mut all = [feature; COLUMNS];
        let mut all_nulls = [false; COLUMNS];
        all[1..].copy_from_slice(values);
        all_nulls[1..].copy_from_slice(nulls);
        // SAFETY: as many values as columns; the store copies them.
        unsafe { pg_sys::tuplestore_putvalues(self.store, self.columns, all.as_mut_ptr(), all_nulls.as_mut_ptr()) }
    }
}

/// Lets PL/pgSQL answer for one feature, at the statement's time.
unsafe fn refer(site: *mut Site, company: Option<pg_sys::Datum>, feature: Option<pg_sys::Datum>) -> pg_sys::Datum {
    let given = |value: Option<pg_sys::Datum>| pg_sys::NullableDatum {
        value: value.unwrap_or(pg_sys::Datum::null()),
        isnull: value.is_none(),
    };
    let arguments = [given(company), given(feature), given(Some(pg_sys::Datum::from(1_i64))), given(None)];
    // SAFETY: the arguments are of the types it declares.
    unsafe { plpgsql::call(&plpgsql::CHECK, &raw mut (*site).check, (*site).memory, &arguments).value }
}

/// The elements of an array of texts.
unsafe fn elements(array: pg_sys::Datum) -> Vec<Option<pg_sys::Datum>> {
    // SAFETY: an array of texts, says the declaration.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (0..count as usize).map(|at| (!*nulls.add(at)).then(|| *values.add(at))).collect()
    }
}

/// Prepares the call to return all its rows at once.
unsafe fn collect(call: pg_sys::FunctionCallInfo) -> Rows {
    // SAFETY: as the server's own functions do it; what is kept lives in the query's memory.
    unsafe {
        let wanted = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        if wanted.is_null()
            || (*wanted).type_ != pg_sys::NodeTag::T_ReturnSetInfo
            || (*wanted).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32 == 0
        {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "check_feature_access_many returns rows, which are not wanted here"
            );
        }
        let before = pg_sys::MemoryContextSwitchTo((*(*wanted).econtext).ecxt_per_query_memory);
        let mut columns = std::ptr::null_mut();
        let class = pg_sys::get_call_result_type(call, std::ptr::null_mut(), &mut columns);
        if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE {
            error!("the function's result is not declared as columns");
        }
        let columns = pg_sys::BlessTupleDesc(pg_sys::CreateTupleDescCopy(columns));
        let store = pg_sys::tuplestore_begin_heap(true, false, pg_sys::work_mem);
        (*wanted).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
        (*wanted).setResult = store;
        (*wanted).setDesc = columns;
        pg_sys::MemoryContextSwitchTo(before);
        Rows { store, columns }
    }
}
